/* SPDX-License-Identifier: BSD-3-Clause */
/* amend.c - other options for an image that is there: all that the header alone says. One header write does it. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/range.h"
#include "formats/qcow2/at_rest/at_rest.h"
#include "formats/qcow2/at_rest/snapshot_table.h"
#include "formats/qcow2/crypt.h"
#include "formats/qcow2/qcow2.h"

#define HEADER_ALIGN 4096u /* no page of tables is larger */

const struct fmt_option_doc qcow2_amend_options[] = {
        { "backing_fmt", "str", "format of the backing file" },
        { "encrypt.state", "str", "active: a key slot gets a password; inactive: key slots lose theirs" },
        { "encrypt.keyslot", "num", "which key slot, 0 to 7 (active: a free one)" },
        { "encrypt.new-secret", "str", "the secret with the new password" },
        { "encrypt.old-secret", "str", "the secret with the password that goes, in all its slots" },
        { "encrypt.iter-time", "num", "milliseconds that one try of the new password shall take (2000)" },
        { "compat", "str", "version of the format: v3 or 1.1, v2 or 0.10" },
        { "data_file", "str", "name of the external data file, which must hold the data already" },
        { "data_file_raw", "bool", "off: the data file need not stay a valid raw image" },
        { "lazy_refcounts", "bool", "let a writer delay refcounts: on or off" },
        { NULL, NULL, NULL },
};

struct wish {
        uint32_t version;
        int lazy; /* -1: as it is */
        int raw;  /* likewise */
        const char *backing_name, *backing_format, *data_name; /* NULL: as it is */
};

/* 0, 1 or -EINVAL with a sentence. */
static int on_off(const struct fmt_option *o)
{
        bool on = !strcmp(o->value, "on");

        if (!on && strcmp(o->value, "off"))
                return err_note(-EINVAL, "option %s cannot be '%s': it is on or off", o->name, o->value);
        return on;
}

static int parse(struct wish *w, const struct fmt_option *o)
{
        int on = 0;

        if (!strcmp(o->name, "backing_file")) {
                w->backing_name = o->value;
        } else if (!strcmp(o->name, "backing_fmt")) {
                w->backing_format = o->value;
        } else if (!strcmp(o->name, "lazy_refcounts")) {
                w->lazy = on = on_off(o);
        } else if (!strcmp(o->name, "data_file")) {
                w->data_name = o->value;
        } else if (!strcmp(o->name, "data_file_raw")) {
                w->raw = on = on_off(o);
        } else if (!strcmp(o->name, "compat")) {
                bool v2 = !strcmp(o->value, "v2") || !strcmp(o->value, "0.10");

                if (!v2 && strcmp(o->value, "v3") && strcmp(o->value, "1.1"))
                        return err_note(-EINVAL, "option compat cannot be '%s': it is v3 (or 1.1) or v2 (or 0.10)", o->value);
                w->version = v2 ? 2 : 3;
        } else {
                return err_note(-ENOTSUP, "option '%s' cannot be changed in an image that is there; convert makes a new one",
                                o->name);
        }
        return on < 0 ? on : 0;
}

/* --- versions --------------------------------------------------------------------------------------------------- */

/* Version 3 wants sizes in the snapshots' extra data; our table has them always. */
static int renew_snapshots(struct file *file)
{
        AUTO(qcow2_txn_finish) struct qcow2_txn t = { 0 };
        AUTO(qcow2_snapshots_finish) struct qcow2_snapshots s = { 0 };
        int r = qcow2_txn_begin(&t, file);

        if (r == 0)
                r = qcow2_snapshots_read(file, &t.h, &s);
        if (r == 0)
                r = qcow2_snapshots_replace(&t, &s);
        return r < 0 ? r : qcow2_txn_commit(&t, QCOW2_COMMIT_NUMBERS);
}

static int refuse_zero_entries(struct file *file, const struct qcow2_header *h, uint64_t l1_offset, uint64_t l1_entries)
{
        AUTO(freep) uint64_t *l1 = NULL;
        int r = qcow2_table_read(file, l1_offset, l1_entries, &l1);

        for (uint64_t i = 0; r == 0 && i < l1_entries; i++) {
                AUTO(freep) uint64_t *l2 = NULL;

                if (l1e_offset(l1[i]) == 0)
                        continue;
                r = qcow2_table_read(file, l1e_offset(l1[i]), h->cluster_size / QCOW2_ENTRY_SIZE, &l2);
                for (uint64_t k = 0; r == 0 && k < h->cluster_size / QCOW2_ENTRY_SIZE; k++) /* no sub-clusters: asked above */
                        if (!l2e_is_compressed(l2[k]) && l2e_is_zero(l2[k], 3))
                                return err_note(-ENOTSUP, "the image has clusters of zeros without data, which version 2 "
                                                "cannot say; convert with -o compat=v2 makes an image that has none");
        }
        return r;
}

static int may_be_v2(struct file *file, const struct qcow2_header *h)
{
        AUTO(qcow2_snapshots_finish) struct qcow2_snapshots s = { 0 };
        int r;

        if (h->refcount_order != 4)
                return err_note(-ENOTSUP, "the image has refcounts of %u bits, version 2 has 16 always",
                                1u << h->refcount_order);
        if (h->incompatible || h->autoclear)
                return err_note(-ENOTSUP, "the image has features that version 2 does not have (bitmaps, sub-clusters, another "
                                "compression than zlib)");
        r = qcow2_snapshots_read(file, h, &s);
        if (r == 0)
                r = refuse_zero_entries(file, h, h->l1_offset, h->l1_entries);
        for (uint32_t i = 0; r == 0 && i < s.n; i++)
                r = refuse_zero_entries(file, h, s.v[i].l1_offset, s.v[i].l1_entries);
        return r;
}

static void set_version(struct qcow2_header *h, uint32_t version)
{
        h->version = version;
        h->length = version == 2 ? QH_V2_LENGTH : QH_V3_LENGTH;
        h->compatible = 0;
        free(TAKE(h->raw, NULL)); /* only numbers that we know: the other version had no more, or has none */
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

static int set_text(char **where, const char *text)
{
        free(TAKE(*where, NULL));
        *where = *text ? strdup(text) : NULL;
        return *text && !*where ? -ENOMEM : 0;
}

static int apply_data_file(const struct wish *w, struct qcow2_header *h)
{
        if (!qcow2_has_data_file(h) && (w->data_name || w->raw > 0))
                return err_note(-EINVAL, "the image has no external data file; convert with -o data_file makes one that has");
        if (w->raw > 0 && !qcow2_data_is_raw(h))
                return err_note(-EINVAL, "data_file_raw cannot be set on an image that is there: its data file may hold anything");
        if (w->raw == 0)
                h->autoclear &= ~QCOW2_AUTOCLEAR_RAW_DATA_FILE;
        if (w->data_name && strlen(w->data_name) > QCOW2_MAX_DATA_NAME)
                return err_note(-ENAMETOOLONG, "the data file's name has %zu bytes, the limit is %u", strlen(w->data_name),
                                QCOW2_MAX_DATA_NAME);
        return w->data_name ? set_text(&h->data_name, w->data_name) : 0;
}

static int apply(const struct wish *w, struct qcow2_header *h)
{
        int r = apply_data_file(w, h);

        if (r == 0 && qcow2_data_is_raw(h) && w->backing_name && *w->backing_name)
                r = err_note(-EINVAL, "an image with a raw data file cannot have a backing file");
        if (r < 0)
                return r;
        if (w->version != h->version)
                set_version(h, w->version);
        if (w->lazy >= 0)
                h->compatible = (h->compatible & ~QCOW2_COMPAT_LAZY_REFCOUNTS) | (w->lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0);
        if (w->backing_name)
                r = set_text(&h->backing_name, w->backing_name);
        if (r == 0 && w->backing_format)
                r = set_text(&h->backing_format, w->backing_format);
        if (r == 0 && w->backing_format && *w->backing_format && !h->backing_name)
                r = err_note(-EINVAL, "a backing format was named, and there is no backing file");
        if (r == 0 && !h->backing_name)
                r = set_text(&h->backing_format, "");
        if (r == 0 && w->backing_name && h->backing_name && !h->backing_format)
                r = err_note(-EINVAL, "the format of the backing file '%s' must be named (-F)", h->backing_name);
        if (r == 0 && h->backing_format && strlen(h->backing_format) > 15)
                r = err_note(-EINVAL, "'%s' is not the name of a format", h->backing_format);
        return r;
}

static int amend(struct fmt_image *img, struct file *file, const struct fmt_option *opts, size_t n, bool force)
{
        AUTO(qcow2_header_finish) struct qcow2_header h = { 0 };
        struct wish w = { .lazy = -1, .raw = -1 };
        int r = qcow2_header_read(file, 0, &h);

        if (r == 0)
                r = qcow2_header_usable(&h, true);
        for (size_t i = 0; r == 0 && i < n; i++)
                if (qcow2_crypt_is_amend(&opts[i]))
                        return qcow2_crypt_amend(qcow2_of(img), opts, n, force);
        w.version = h.version;
        for (size_t i = 0; r == 0 && i < n; i++)
                r = parse(&w, &opts[i]);
        if (r == 0 && w.lazy == 1 && w.version < 3)
                r = err_note(-EINVAL, "lazy_refcounts=on needs compat=v3");
        if (r == 0 && w.version < h.version)
                r = may_be_v2(file, &h);
        if (r == 0 && w.version > h.version && h.nb_snapshots) {
                r = renew_snapshots(file);
                qcow2_header_finish(&h);
                if (r == 0)
                        r = qcow2_header_read(file, 0, &h);
        }
        if (r == 0)
                r = apply(&w, &h);
        return r < 0 ? r : qcow2_header_replace(file, &h);
}

int qcow2_amend(struct fmt_image *img, const struct fmt_option *opts, size_t n, bool force)
{
        return amend(img, img->file, opts, n, force);
}

/* The next flush may write the header's first page again: from these bytes, and with the numbers that are in memory. */
int qcow2_rename(struct fmt_image *img, struct file *file, const struct fmt_option *opts, size_t n)
{
        AUTO(qcow2_header_finish) struct qcow2_header h = { 0 };
        AUTO(freep) void *page = aligned_alloc(HEADER_ALIGN, HEADER_ALIGN);
        struct qcow2_image *q = qcow2_of(img);
        int r = page ? amend(img, file, opts, n, false) : -ENOMEM;

        if (r == 0)
                r = qcow2_header_read(file, 0, &h);
        if (r == 0)
                r = file_pread(file, page, q->page_size, 0);
        if (r < 0)
                return r;
        assert(h.length == q->h.length);
        memcpy(q->h.raw, h.raw, h.length);
        if (q->header_page)
                memcpy(q->header_page, page, q->page_size);
        return 0;
}
