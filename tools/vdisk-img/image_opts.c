/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image_opts.c - --image-opts: an image as a list of options, in QEMU's words. One place reads them for all commands.
 *
 *     driver=qcow2,file.filename=top.qcow2,encrypt.key-secret=sec0,backing.encrypt.key-secret=sec1
 *
 * "backing." in front means the image behind, as often as it takes; each image of the chain is a layer (format.h).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "tools/vdisk-img/tool.h"

#define BACKING "backing."

void tool_image_finish(struct tool_image *t)
{
        for (struct fmt_layer *l = t->layer; l;) {
                struct fmt_layer *next = (struct fmt_layer *)l->backing;

                free(l);
                l = next;
        }
        option_list_finish(&t->words);
        *t = (struct tool_image){ 0 };
}

/* The layer that @name is about; *name moves behind its "backing."s. NULL: no memory, or too deep. */
static struct fmt_layer *layer_for(struct tool_image *t, const char **name)
{
        struct fmt_layer *l = t->layer;

        for (unsigned depth = 0; !strncmp(*name, BACKING, strlen(BACKING)) && depth < FMT_MAX_CHAIN; depth++) {
                if (!l->backing)
                        l->backing = calloc(1, sizeof(*l));
                if (!l->backing)
                        return NULL;
                l = (struct fmt_layer *)l->backing;
                *name += strlen(BACKING);
        }
        return l;
}

static int take_file_driver(const struct fmt_option *o)
{
        if (!strcmp(o->value, "file") || !strcmp(o->value, "host_device"))
                return 0;
        return err_note(-EINVAL, "%s=%s: images are read from files and block devices only (file, host_device)", o->name,
                        o->value);
}

/* driver=file,filename=PATH is a raw disk, in QEMU's words. */
static const char *format_of(const char *driver)
{
        return !strcmp(driver, "file") || !strcmp(driver, "host_device") ? "raw" : driver;
}

/* Words that say how QEMU shall go about it, not what is there: they make no difference here. */
static bool is_hint(const char *name)
{
        static const char *const hints[] = {
                "aio", "cache-clean-interval", "cache-size", "cache.direct", "cache.no-flush", "detect-zeroes", "discard",
                "file.aio", "file.cache.direct", "file.cache.no-flush", "file.discard", "l2-cache-entry-size",
                "l2-cache-size", "lazy-refcounts", "overlap-check", "refcount-cache-size",
        };

        for (size_t i = 0; i < ARRAY_SIZE(hints); i++)
                if (!strcmp(name, hints[i]))
                        return true;
        return false;
}

static int take_word(struct fmt_layer *l, const char *name, const struct fmt_option *o)
{
        if (is_hint(name))
                return 0;
        if (!strcmp(name, "driver")) {
                l->format = format_of(o->value);
        } else if (!strcmp(name, "file.filename") || !strcmp(name, "filename")) {
                l->path = o->value;
        } else if (!strcmp(name, "data-file.filename")) {
                l->data_path = o->value;
        } else if (!strcmp(name, "file.driver") || !strcmp(name, "data-file.driver")) {
                return take_file_driver(o);
        } else if (!strcmp(name, "encrypt.key-secret")) {
                l->key_secret = o->value;
        } else if (!strcmp(name, "encrypt.format")) {
                if (strcmp(o->value, "luks"))
                        return err_note(-EINVAL, "%s=%s: only luks is supported", o->name, o->value);
        } else if (!strcmp(name, "backing") && (!*o->value || !strcmp(o->value, "null"))) {
                l->no_backing = true;
        } else {
                return err_note(-EINVAL, "image option '%s=%s' is not known: there are driver, file.driver, file.filename, "
                                "data-file.filename, "
                                "encrypt.format, encrypt.key-secret, backing= (none), and all of them behind 'backing.'",
                                o->name, o->value);
        }
        return 0;
}

static int take_words(struct tool_image *t, const char *text)
{
        int r = option_list_add(&t->words, text);

        if (r == 0 && !(t->layer = calloc(1, sizeof(*t->layer))))
                r = -ENOMEM;
        for (size_t i = 0; r == 0 && i < t->words.n; i++) {
                const char *name = t->words.opts[i].name;
                struct fmt_layer *l = layer_for(t, &name);

                r = l ? take_word(l, name, &t->words.opts[i]) : -ENOMEM;
        }
        if (r < 0)
                return err_prefix(r, "'%s': ", text);
        if (!t->layer->path)
                return err_note(-EINVAL, "'%s' does not say which file: file.filename=PATH", text);
        t->path = t->layer->path;
        t->format = t->layer->format;
        return 0;
}

const char *tool_plain_path(const char *word)
{
        return strncmp(word, "file:", 5) ? word : word + 5;
}

int tool_image_parse(struct tool_image *t, const char *word, const char *format, bool opts)
{
        tool_image_finish(t);
        t->path = opts ? word : tool_plain_path(word);
        t->format = format;
        if (!opts)
                return 0;
        if (format)
                return err_note(-EINVAL, "'%s': with image options the format is said there: driver=%s", word, format);
        return take_words(t, word);
}
