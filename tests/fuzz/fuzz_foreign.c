/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A stranger's VDI, VHD, VHDX or VMDK. The first byte says how the rest is read:
 *   0 .. FOREIGN_KINDS - 1       the image of that kind that foreign_images.c makes, and changes to it: offset (24
 * bits), length (8 bits), bytes; with bit 7 the checksums are made right afterwards FOREIGN_KINDS ..             the
 * file itself, opened with the format of kind % FOREIGN_KINDS Also as the backing image of nothing: open, map, read,
 * info. No crash, no hang, little memory.
 */
#include <urcu.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "common/range.h"
#include "fuzz.h"
#include "tests/lib/foreign_images.h"
#include "tests/lib/img_walk.h"

#define IO_MAX (64u << 10)
#define MAP_MAX 2000u
#define CHANGES_MAX 64u

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        log_init("fuzz", 0);
        rcu_register_thread();
        return 0;
}

static struct foreign_image made[FOREIGN_KINDS]; /* once: a VHDX has 6 MiB */

/* Changes the image in place and remembers what was there. */
struct change {
        uint32_t at;
        uint8_t len, old[256];
};

static unsigned apply(struct fuzz_input *in, struct foreign_image *m, struct change *c)
{
        unsigned n = 0;

        for (; in->left && n < CHANGES_MAX; n++) {
                c[n].at = fuzz_u16(in) | (uint32_t)fuzz_u8(in) << 16;
                c[n].len = fuzz_u8(in);
                if (!range_fits(c[n].at, c[n].len, m->len))
                        c[n].len = 0;
                memcpy(c[n].old, m->bytes + (c[n].len ? c[n].at : 0), c[n].len);
                fuzz_bytes(in, m->bytes + (c[n].len ? c[n].at : 0), c[n].len);
        }
        return n;
}

static void look(struct file *f, const char *format)
{
        struct fmt_open_opts opts = { .format = format, .flags = FMT_RDONLY, .cache_bytes = 64 << 10 };
        static uint8_t buf[IO_MAX];
        struct fmt_image *img;
        const char *wrong;
        json_t *info;

        if (fmt_open_file(f, &opts, &img) < 0) {
                err_clear();
                return;
        }
        info = json_object();
        if (img->drv->info)
                (void)img->drv->info(img, info);
        json_decref(info);
        wrong = img_walk(img, MAP_MAX);
        if (wrong)
                fuzz_fail("%s", wrong);
        img_read_around(img, buf, sizeof(buf));
        chain_close(img);
}

static void changed_image(enum foreign_kind kind, bool fix, struct fuzz_input *in)
{
        static struct change changes[CHANGES_MAX];
        struct foreign_image *m = &made[kind];
        struct file *f;
        unsigned n;

        if (!m->bytes)
                foreign_make(kind, m);
        n = apply(in, m, changes);
        if (fix)
                foreign_fix_checksums(kind, m->bytes, m->len);
        if (file_open_mem(m->bytes, m->len, &f) < 0)
                abort();
        look(f, foreign_format[kind]);
        while (n--)
                memcpy(m->bytes + (changes[n].len ? changes[n].at : 0), changes[n].old, changes[n].len);
        if (fix)
                foreign_fix_checksums(kind, m->bytes, m->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct fuzz_input in = { data, size };
        uint8_t how = fuzz_u8(&in);
        struct file *f;

        if ((how & 127) < FOREIGN_KINDS) {
                changed_image(how & 127, how & 128, &in);
                return 0;
        }
        if (file_open_mem(in.p, in.left, &f) < 0)
                abort();
        look(f, foreign_format[how % FOREIGN_KINDS]);
        return 0;
}
