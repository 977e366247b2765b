/* SPDX-License-Identifier: BSD-3-Clause */
#include "luks_image.h"

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/secret.h"
#include "tests/lib/tmp_image.h"

#define ID "luks-image"

const char *luks_image_key_file(void)
{
        static char path[TMP_PATH_MAX];

        if (!path[0] && save_file(tmp_path("luks-key", path), "secret", 6) < 0)
                abort();
        return path;
}

const struct fmt_layer *luks_image_layer(void)
{
        static struct fmt_layer layer;

        if (!layer.key_secret && secret_add(&(struct secret_source){ .id = ID, .fd = -1, .file = luks_image_key_file() }) < 0)
                abort();
        layer.key_secret = ID;
        return &layer;
}

int luks_image_create(const char *path, uint64_t size, const char *options, const char *backing)
{
        struct fmt_option opts[8] = { { "encrypt.format", "luks" }, { "encrypt.key-secret", luks_image_layer()->key_secret },
                                      { "encrypt.iter-time", "1" } };
        struct fmt_create req = { .size = size, .opts = opts, .nopts = 3, .backing_name = backing,
                                  .backing_format = backing ? "raw" : NULL };
        AUTO(freep) char *text = strdup(options);
        char *save = NULL;

        for (char *o = strtok_r(text, ",", &save); o && req.nopts < ARRAY_SIZE(opts); o = strtok_r(NULL, ",", &save)) {
                char *value = strchr(o, '=');

                *value++ = 0;
                opts[req.nopts++] = (struct fmt_option){ o, value };
        }
        return fmt_create_path(path, fmt_driver_find("qcow2"), &req);
}

int luks_image_snapshot(const char *path)
{
        struct fmt_image *img;
        int r = chain_open(path, &(struct fmt_open_opts){ .format = "qcow2", .flags = FMT_NO_KEY }, &img);

        if (r < 0)
                return r;
        r = img->drv->snapshot_create(img, "first");
        chain_close(img);
        return r;
}

int luks_image_check(const char *path)
{
        return run_cmd("qemu-img check --object secret,id=s,file='%s' --image-opts "
                       "driver=qcow2,encrypt.key-secret=s,file.filename='%s' || [ $? = 3 ]", luks_image_key_file(), path);
}
