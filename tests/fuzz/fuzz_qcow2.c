/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A stranger's qcow2 image: 16 bytes of script, then the file. It is served read-only and writable, checked, repaired,
 * and asked for its properties. Besides "no crash, no hang, little memory":
 *   - what is written to a clean image reads back, and its check finds no corruption afterwards;
 *   - an image whose repair succeeded and left nothing is clean.
 */
#include <errno.h>
#include <urcu.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "common/range.h"
#include "formats/qcow2/on_disk.h"
#include "fuzz.h"
#include "tests/lib/img_io.h"
#include "tests/lib/img_walk.h"

#define SCRIPT 16u
#define IO_MAX (64u << 10)
#define MAP_MAX 2000u /* extents looked at: an image may claim to be 2^63 bytes long */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        log_init("fuzz", 0);
        rcu_register_thread();
        return 0;
}

static struct fmt_image *open_image(const void *bytes, size_t len, unsigned flags)
{
        struct fmt_open_opts opts = { .format = "qcow2", .flags = flags };
        struct fmt_image *img = NULL;
        struct file *f;

        if (file_open_mem(bytes, len, &f) < 0)
                abort();
        if (fmt_open_file(f, &opts, &img) < 0)
                img = NULL;
        err_clear();
        return img;
}

static void walk(struct fmt_image *img)
{
        static uint8_t buf[IO_MAX];
        const char *wrong = img_walk(img, MAP_MAX);

        if (wrong)
                fuzz_fail("%s", wrong);
        img_read_around(img, buf, sizeof(buf));
}

/* Says that its data is in another file: there is none here, so only a repair opens it. */
static bool wants_data_file(const uint8_t *bytes, size_t len)
{
        return len >= QH_V3_MIN_LENGTH && be32_get(bytes + QH_VERSION) >= 3 &&
               be64_get(bytes + QH_INCOMPATIBLE) & QCOW2_INCOMPAT_DATA_FILE;
}

static int check(const void *bytes, size_t len, struct fmt_check *chk)
{
        struct fmt_image *img = open_image(bytes, len, wants_data_file(bytes, len) ? FMT_REPAIRING : FMT_RDONLY);
        int r = img ? img->drv->check(img, chk) : -EINVAL;

        chain_close(img);
        err_clear();
        return r;
}

static bool is_clean(const void *bytes, size_t len)
{
        struct fmt_check chk = { 0 };

        return check(bytes, len, &chk) == 0 && !chk.corruptions && !chk.check_errors;
}

/* --- served, writable ------------------------------------------------------------------------------------------------ */

/* One byte of script each: 2 bits what, 3 bits where, 3 bits how long. */
static int one_op(struct img_io *io, uint8_t op, uint8_t fill, bool clean)
{
        static uint8_t buf[IO_MAX], back[IO_MAX];
        static const uint32_t lens[] = { 512, 1, 4096, 700, 8192, 65536, 1024, 20000 };
        uint64_t size = io->img->size, off = size / 8 * (op >> 2 & 7), len = min_u64(lens[op >> 5], size - off);
        int r;

        if (op >> 2 & 1) /* not at a border of anything */
                off += min_u64(300, size - off - len);
        memset(buf, fill, len);
        switch (op & 3) {
        case 0:
                return img_flush(io);
        case 1:
                return img_zero(io, off, len, op >> 5 & 3);
        default:
                r = img_write(io, buf, len, off);
                if (r == 0)
                        r = img_read(io, back, len, off);
                if (r == 0 && clean && memcmp(buf, back, len)) /* else two entries may lead to one place */
                        fuzz_fail("%llu+%llu does not read back", (unsigned long long)off, (unsigned long long)len);
                return r;
        }
}

static void serve(const uint8_t *script, const void *bytes, size_t len, bool clean)
{
        struct fmt_image *img = open_image(bytes, len, 0);
        struct img_io io = { .img = img };
        size_t after_len;
        const void *after;
        int r = 0;

        if (!img)
                return;
        for (unsigned i = 0; i < SCRIPT && img->size; i++) {
                r = one_op(&io, script[i], (uint8_t)(i + 1), clean);
                if (r == -EPROTO || r == -ELOOP)
                        fuzz_fail("operation %u (0x%02x): %d", i, script[i], r);
                err_clear();
        }
        r = img_settle(&io);
        if (r == -EPROTO || r == -ELOOP)
                fuzz_fail("settling: %d", r);
        after = file_mem_bytes(img->file, &after_len);
        if (clean && r == 0 && !img->corrupt && !is_clean(after, after_len))
                fuzz_fail("a clean image is not clean any more");
        chain_close(img);
        err_clear();
}

/* --- at rest --------------------------------------------------------------------------------------------------------- */

struct bitmaps {
        struct fmt_bitmap all[17];
        char name[16][8];
        unsigned n;
        uint64_t bytes;
};

static int on_bitmap(void *opaque, const struct fmt_bitmap *b)
{
        struct bitmaps *s = opaque;

        if (s->n == ARRAY_SIZE(s->name) || strlen(b->name) >= sizeof(s->name[0]))
                return 0;
        strcpy(s->name[s->n], b->name);
        s->all[s->n] = *b;
        s->all[s->n].name = s->name[s->n];
        s->n++;
        return 0;
}

static void on_bits(void *opaque, uint64_t at, const void *bytes, uint64_t len)
{
        struct bitmaps *s = opaque;
        const uint8_t *b = bytes;

        (void)at;
        for (uint64_t i = 0; b && i < len; i++)
                s->bytes += b[i];
}

static void get_bits(void *opaque, uint64_t at, void *bytes, size_t len)
{
        (void)opaque;
        memset(bytes, at ? 0xff : 0x5a, len);
}

static int read_bitmaps(struct fmt_image *img, struct bitmaps *s)
{
        const struct fmt_bitmap_reader reader = { .bitmap = on_bitmap, .put = on_bits, .opaque = s };

        *s = (struct bitmaps){ 0 };
        return img->drv->bitmaps_read(img, &reader);
}

/* Other bits for all, in their place if that can be; and one more, in another. */
static int change_bitmaps(struct fmt_image *img, bool more)
{
        struct bitmaps s;
        int r = read_bitmaps(img, &s);

        if (r == 0)
                r = img->drv->bitmaps_take(img);
        for (unsigned i = 0; i < s.n; i++)
                if (!s.all[i].in_use && i % 3 != 2)
                        s.all[i].get = get_bits;
        if (more)
                s.all[s.n++] = (struct fmt_bitmap){ .name = "one more", .granularity = 512u << s.n, .get = get_bits };
        return r < 0 ? r : img->drv->bitmaps_store(img, s.all, s.n);
}

static void ask(struct fmt_image *img)
{
        struct bitmaps bitmaps;
        json_t *info = json_object();
        struct fmt_snapshot *list = NULL;
        size_t n = 0;

        (void)img->drv->info(img, info);
        json_decref(info);
        if (img->drv->snapshot_list(img, &list, &n) == 0)
                fmt_snapshots_free(list, n);
        (void)read_bitmaps(img, &bitmaps);
        err_clear();
}

static void repair(const void *bytes, size_t len)
{
        struct fmt_image *img = open_image(bytes, len, FMT_REPAIRING);
        struct fmt_check chk = { .fix_leaks = true, .fix_all = true };
        size_t after_len;
        const void *after;

        if (!img)
                return;
        if (img->drv->check(img, &chk) == 0 && !chk.corruptions && !chk.check_errors) {
                struct fmt_check again = { 0 };

                after = file_mem_bytes(img->file, &after_len);
                if (check(after, after_len, &again) < 0 || again.corruptions || again.leaks || again.check_errors)
                        fuzz_fail("repaired, but not clean");
        }
        chain_close(img);
        err_clear();
}

#define CHANGES 7u
static int change(struct fmt_image *img, uint8_t what)
{
        switch (what % CHANGES) {
        case 0:
                return img->drv->snapshot_create(img, "new");
        case 1:
                return img->drv->snapshot_apply(img, "1");
        case 2:
                return img->drv->snapshot_delete(img, "1");
        case 3:
                return img->drv->resize(img, img->size < 1u << 30 ? img->size * 2 + 512 : 512, true);
        case 4:
                return img->drv->resize(img, round_down(img->size / 2, 512), true);
        default:
                return change_bitmaps(img, what & 1);
        }
}

static void administer(uint8_t what, const void *bytes, size_t len, bool clean)
{
        struct fmt_image *img = open_image(bytes, len, FMT_KEEP_BITMAPS);
        size_t after_len;
        const void *after;

        if (!img)
                return;
        (void)change(img, what);
        err_clear();
        after = file_mem_bytes(img->file, &after_len);
        if (clean && !is_clean(after, after_len))
                fuzz_fail("change %u spoils a clean image", what % CHANGES);
        chain_close(img);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct fmt_image *img;
        const void *bytes = data + SCRIPT;
        size_t len = size - SCRIPT;
        bool clean;

        if (size <= SCRIPT)
                return 0;
        img = open_image(bytes, len, FMT_RDONLY);
        if (img) {
                ask(img);
                walk(img);
        }
        chain_close(img);
        clean = is_clean(bytes, len);
        serve(data, bytes, len, clean);
        administer(data[SCRIPT - 1], bytes, len, clean);
        repair(bytes, len);
        return 0;
}

/* --- a mutator that knows where tables are ----------------------------------------------------------------------------- */

#ifdef FUZZING
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
        uint64_t words = size > SCRIPT + 8 ? (size - SCRIPT) / 8 : 0, at, v;

        if (rand_r(&seed) % 4 == 0 || !words)
                return LLVMFuzzerMutate(data, size, max);
        if (rand_r(&seed) % 6 == 0) {
                LLVMFuzzerMutate(data, SCRIPT, SCRIPT);
                return size;
        }
        at = (unsigned)rand_r(&seed) % words;
        if (rand_r(&seed) % 4 == 0)
                at = (unsigned)rand_r(&seed) % min_u64(14, words);
        for (unsigned i = 0; i < 200 && !be64_get(data + SCRIPT + 8 * at); i++) /* zeros are rarely a table */
                at = (unsigned)rand_r(&seed) % words;
        v = be64_get(data + SCRIPT + 8 * at);
        switch (rand_r(&seed) % 5) {
        case 0:
                v ^= 1ull << (rand_r(&seed) % 64);
                break;
        case 1:
                v = (v & ~QCOW2_OFFSET_MASK) | (uint64_t)rand_r(&seed) % (words / 64 + 2) * 512;
                break;
        case 2:
                v = be64_get(data + SCRIPT + 8 * ((unsigned)rand_r(&seed) % words));
                break;
        case 3:
                v += (uint64_t)(rand_r(&seed) % 3) - 1 + ((uint64_t)(rand_r(&seed) % 3) - 1) * 512;
                break;
        default:
                v = rand_r(&seed) % 2 ? UINT64_MAX >> (rand_r(&seed) % 64) : 0;
        }
        be64_put(data + SCRIPT + 8 * at, v);
        return size;
}
#endif
