/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_sweep.c - each field of each structure of an image, set to values at and beyond its limits and to offsets of other
 * structures: the image gets an answer or an error, an open costs at most 64 MiB and 2 s of CPU time, what was repaired
 * is clean (fuzz_qcow2.c and fuzz_foreign.c look at that), and clean for qemu-img, too, where its own repair gets so far.
 *
 *   SWEEP=N       every Nth case, from a random one on (default: so many that it takes seconds; 1: all)
 *   SWEEP_QEMU=N  every Nth of these qcow2 cases also through qemu-img (default 60; 0: none)
 *   SWEEP_SAY=1   each case before it is tried
 *   SWEEP_KEEP=D  images that only qemu-img repairs are left in directory D, and the sweep goes on
 */
#include "qcow2_rest.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>
#include <urcu.h>

#include "common/log.h"
#include "common/range.h"
#include "common/sanitized.h"
#include "formats/foreign/on_disk.h"
#include "formats/qcow2/on_disk.h"
#include "tests/lib/foreign_images.h"
#include "tests/lib/tmp_image.h"

#define MEM_MAX (64u << 10) /* KiB */
#define CPU_MAX 2.0         /* seconds */
#define SCRIPT 16u          /* bytes in front of a qcow2 image, see fuzz_qcow2.c */
#define RANGES_MAX 64u

int fuzz_qcow2_one(const uint8_t *data, size_t size);
int fuzz_foreign_one(const uint8_t *data, size_t size);

struct target {
        const char *name;
        int kind; /* enum foreign_kind; -1: qcow2 */
        uint8_t *bytes;
        size_t len;
        struct {
                uint64_t off, len;
        } range[RANGES_MAX]; /* where its structures are */
        unsigned n;
        uint64_t offset[16]; /* of its structures and of data */
        unsigned noffsets;
};

static unsigned long step, phase, nth_qemu, cases, with_qemu, unrepaired;

/* What was on when it crashed. */
static char now[128];
static bool say;

static void on_abort(int sig)
{
        (void)sig;
        if (write(STDERR_FILENO, now, strlen(now)) < 0)
                _exit(1);
}

static void add_range(struct target *t, uint64_t off, uint64_t len)
{
        if (t->n < RANGES_MAX && range_fits(off, 8, t->len)) {
                t->range[t->n].off = off;
                t->range[t->n++].len = min_u64(len, t->len - off);
        }
        if (t->noffsets < ARRAY_SIZE(t->offset))
                t->offset[t->noffsets++] = off;
}

/* --- limits of an open -------------------------------------------------------------------------------------------- */

static long status_kib(const char *key)
{
        char line[128];
        long v = 0;
        FILE *f = fopen("/proc/self/status", "r");

        assert_non_null(f);
        while (fgets(line, sizeof(line), f))
                if (!strncmp(line, key, strlen(key)))
                        v = atol(line + strlen(key));
        fclose(f);
        return v;
}

static bool forget_peak(void)
{
        FILE *f = fopen("/proc/self/clear_refs", "w");
        bool ok = f && fputs("5", f) >= 0;

        return (!f || fclose(f) == 0) && ok;
}

static double cpu_now(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
        return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void expect_cheap_open(const struct target *t, unsigned flags, const char *what)
{
        struct fmt_open_opts opts = { .format = t->kind < 0 ? "qcow2" : foreign_format[t->kind], .flags = flags };
        struct fmt_image *img = NULL;
        struct file *f;
        bool peak = !SANITIZED && forget_peak();
        long before;
        double cpu;

        ok(file_open_mem(t->bytes, t->len, &f));
        before = status_kib("VmRSS:");
        cpu = cpu_now();
        if (fmt_open_file(f, &opts, &img) < 0)
                img = NULL;
        cpu = cpu_now() - cpu;
        if (peak && status_kib("VmHWM:") - before > (long)MEM_MAX)
                fail_msg("%s: an open took %ld KiB", what, status_kib("VmHWM:") - before);
        if (!SANITIZED && cpu > CPU_MAX)
                fail_msg("%s: an open took %.1f s", what, cpu);
        chain_close(img);
        err_clear();
}

/* --- qemu-img's opinion ------------------------------------------------------------------------------------------- */

static bool clean_for_qemu(const char *name)
{
        return sh("timeout 20 qemu-img check -q -f qcow2 %s >out", name) == 0;
}

static void expect_clean_for_qemu(const struct target *t, const char *what)
{
        struct fmt_open_opts opts = { .format = "qcow2", .flags = FMT_REPAIRING | FMT_NO_BACKING | FMT_NO_LOCK };
        struct fmt_check chk = { .fix_leaks = true, .fix_all = true };
        struct fmt_image *img = NULL;
        char path[128];

        snprintf(path, sizeof(path), "%s/ours", rest_dir);
        assert_int_equal(save_file(path, t->bytes, t->len), 0);
        must("cp ours theirs");
        with_qemu++;
        if (chain_open(path, &opts, &img) == 0)
                (void)img->drv->check(img, &chk);
        chain_close(img);
        err_clear();
        if (clean_for_qemu("ours"))
                return;
        (void)sh("timeout 20 qemu-img check -q -f qcow2 -r all theirs >out");
        if (!clean_for_qemu("theirs")) {
                unrepaired++;
                return;
        }
        if (getenv("SWEEP_KEEP")) {
                char kept[256];

                snprintf(kept, sizeof(kept), "%s/%lu", getenv("SWEEP_KEEP"), cases);
                assert_int_equal(save_file(kept, t->bytes, t->len), 0);
                print_error("%s: only qemu-img repairs %s\n", kept, what);
                return;
        }
        fail_msg("%s: qemu-img can repair it, we do not", what);
}

/* --- one case ------------------------------------------------------------------------------------------------------ */

static void one_case(struct target *t, const char *what)
{
        static uint8_t *input;
        static size_t room;
        const size_t lead = t->kind < 0 ? SCRIPT : 1;

        if (room < lead + t->len)
                input = realloc(input, room = lead + t->len);
        assert_non_null(input);
        if (t->kind < 0)
                for (unsigned i = 0; i < SCRIPT; i++)
                        input[i] = (uint8_t)(cases * 31 + i * 97);
        else
                input[0] = (uint8_t)(FOREIGN_KINDS + t->kind);
        memcpy(input + lead, t->bytes, t->len);
        expect_cheap_open(t, FMT_RDONLY, what);
        if (t->kind < 0)
                expect_cheap_open(t, 0, what);
        snprintf(now, sizeof(now), "%s\n", what);
        if (say)
                fputs(now, stderr);
        if (t->kind < 0)
                fuzz_qcow2_one(input, lead + t->len);
        else
                fuzz_foreign_one(input, lead + t->len);
        if (t->kind < 0 && nth_qemu && cases % nth_qemu == 0)
                expect_clean_for_qemu(t, what);
        cases++;
}

static void put(const struct target *t, uint8_t *at, unsigned width, uint64_t v)
{
        bool big = t->kind < 0 || t->kind == FOREIGN_VPC;

        for (unsigned i = 0; i < width; i++)
                at[big ? width - 1 - i : i] = (uint8_t)(v >> 8 * i);
}

static void try(struct target *t, uint64_t at, unsigned width, uint64_t v)
{
        uint8_t keep[8];
        char what[120];

        if (phase++ % step)
                return;
        snprintf(what, sizeof(what), "%s: %u bits at %llu = 0x%llx", t->name, width * 8, (unsigned long long)at,
                 (unsigned long long)v);
        memcpy(keep, t->bytes + at, width);
        put(t, t->bytes + at, width, v);
        if (t->kind >= 0)
                foreign_fix_checksums(t->kind, t->bytes, t->len);
        one_case(t, what);
        memcpy(t->bytes + at, keep, width);
        if (t->kind >= 0)
                foreign_fix_checksums(t->kind, t->bytes, t->len);
}

/* Limits of some field each, and one beyond. */
static const uint32_t limits32[] = {
        0, 1, 2, 3, 4, 6, 7, 8, 9, 13, 14, 21, 22, 31, 72, 104, 112, 512, 513, 1023, 1024, 1025, 2047, 2048, 65535, 65536,
        1u << 20, 4u << 20, (4u << 20) + 1, 32u << 20, 256u << 20, (256u << 20) + 1, 0x7fffffff, 0x80000000, 0xfffffe00,
        0xfffffffe, 0xffffffff,
};
static const uint64_t limits64[] = {
        0, 1, 2, 511, 512, 1023, 65536, 65537, 1ull << 32, 1ull << 40, 1ull << 45, (1ull << 46) + 1, 1ull << 55,
        QCOW2_OFFSET_MASK, 1ull << 56, 1ull << 61, QCOW2_L2_COMPRESSED, QCOW2_L2_COMPRESSED | 1ull << 45, INT64_MAX - 511,
        INT64_MAX, 1ull << 63, 1ull << 63 | 512, UINT64_MAX - 511, UINT64_MAX,
};

static void sweep_word(struct target *t, uint64_t at)
{
        for (unsigned i = 0; i < ARRAY_SIZE(limits32); i++)
                try(t, at, 4, limits32[i]);
        try(t, at, 2, 0xffff);
        try(t, at, 1, 0xff);
        if (at % 8)
                return;
        for (unsigned i = 0; i < ARRAY_SIZE(limits64); i++)
                try(t, at, 8, limits64[i]);
        for (unsigned i = 0; i < t->noffsets; i++) {
                try(t, at, 8, t->offset[i]);
                if (t->kind < 0) {
                        try(t, at, 8, t->offset[i] | QCOW2_COPIED);
                        try(t, at, 8, t->offset[i] | QCOW2_L2_COMPRESSED);
                } else {
                        try(t, at, 4, t->offset[i] / 512);
                        try(t, at, 8, t->offset[i] | VHDX_PRESENT);
                }
        }
}

static void sweep(struct target *t)
{
        for (unsigned i = 0; i < t->n; i++)
                for (uint64_t k = 0; k + 4 <= t->range[i].len; k += 4)
                        sweep_word(t, t->range[i].off + k);
        free(t->bytes);
}

/* --- qcow2 --------------------------------------------------------------------------------------------------------- */

/* Words of [off, off + len) that are not zero, at most @max, and the first that is zero. */
static void add_entries(struct target *t, uint64_t off, uint64_t len, unsigned max)
{
        bool zero = false;

        if (t->noffsets < ARRAY_SIZE(t->offset))
                t->offset[t->noffsets++] = off;
        for (uint64_t k = 0; max && k + 8 <= len && range_fits(off + k, 8, t->len); k += 8) {
                bool empty = be64_get(t->bytes + off + k) == 0;

                if (empty && zero)
                        continue;
                zero = zero || empty;
                max -= !empty;
                if (t->n && t->range[t->n - 1].off + t->range[t->n - 1].len == off + k)
                        t->range[t->n - 1].len += 8;
                else
                        add_range(t, off + k, 8);
        }
}

static void find_structures(struct target *t)
{
        const uint8_t *b = t->bytes;
        uint32_t cluster = 1u << be32_get(b + QH_CLUSTER_BITS), l1_size = be32_get(b + QH_L1_ENTRIES);
        uint64_t l1 = be64_get(b + QH_L1_OFFSET), reftable = be64_get(b + QH_REFTABLE_OFFSET);

        add_range(t, 0, min_u64(cluster, 512)); /* header and extensions */
        add_entries(t, l1, 8ull * l1_size, 4);
        for (uint32_t i = 0, tables = 0; i < l1_size && tables < 2; i++) {
                uint64_t l2 = be64_get(b + l1 + 8 * i) & QCOW2_OFFSET_MASK;

                if (l2)
                        add_entries(t, l2, cluster, 6), tables++;
        }
        add_entries(t, reftable, cluster, 2);
        add_entries(t, be64_get(b + reftable) & QCOW2_REFTABLE_OFFSET_MASK, cluster, 4);
        if (be32_get(b + QH_SNAPSHOTS))
                add_range(t, be64_get(b + QH_SNAPSHOTS_OFFSET), 96);
        for (uint32_t at = 72; at + 24 < 512; at += 8) /* the extension, wherever it is */
                if (be32_get(b + at) == QCOW2_EXT_BITMAPS && be32_get(b + at + 4) == QBX_LENGTH) {
                        uint64_t dir = be64_get(b + at + QCOW2_EXT_HEADER + QBX_DIR_OFFSET);

                        if (!range_fits(dir, 32, t->len))
                                continue;
                        add_range(t, dir, 64);
                        add_entries(t, be64_get(b + dir + QBM_TABLE_OFFSET), 64, 2);
                }
}

static void qcow2_target(const char *name, struct target *t)
{
        char path[128];

        *t = (struct target){ .name = name, .kind = -1 };
        snprintf(path, sizeof(path), "%s/base", rest_dir);
        t->bytes = load_file(path, &t->len);
        assert_non_null(t->bytes);
        find_structures(t);
        sweep(t);
}

static const struct {
        const char *name, *opts;
        bool snapshots, bitmaps;
} bases[] = {
        { "version 3", "cluster_size=512", true, true },
        { "version 2", "cluster_size=512,compat=0.10", true, false },
        { "lazy", "cluster_size=1k,lazy_refcounts=on,refcount_bits=64", false, false },
        { "zstd", "cluster_size=512,compression_type=zstd,refcount_bits=1", false, false },
        { "extended L2", "cluster_size=16k,extended_l2=on", true, false },
};

static void test_qcow2(void **state)
{
        for (unsigned i = 0; i < ARRAY_SIZE(bases); i++) {
                struct target t;

                must("rm -f base raw && truncate -s 24k raw && qemu-io -f raw -c 'write -q -P 7 0 9k' raw");
                must("qemu-img convert -q -c -f raw -O qcow2 -o %s raw base", bases[i].opts);
                must("qemu-io -f qcow2 -c 'write -q -P 1 0 2k' -c 'write -q -P 2 13k 3k' -c 'write -q -z 20k 2k' base");
                if (bases[i].snapshots)
                        must("qemu-img snapshot -c one base && qemu-io -f qcow2 -c 'write -q -P 3 1k 1k' base");
                if (bases[i].bitmaps)
                        must("qemu-img bitmap -f qcow2 --add -g 512 base map && qemu-io -f qcow2 -c 'write -q 5k 2k' base");
                qcow2_target(bases[i].name, &t);
        }
}

/* --- the others ----------------------------------------------------------------------------------------------------- */

static void foreign_structures(struct target *t)
{
        switch (t->kind) {
        case FOREIGN_VDI:
                add_range(t, VDI_MAGIC, VDI_HEADER_LENGTH - VDI_MAGIC);
                add_range(t, 512, 16);
                break;
        case FOREIGN_VPC:
                add_range(t, 0, 96);
                add_range(t, 512, 64);
                add_range(t, 1536, 16);
                add_range(t, t->len - VHD_FOOTER_LENGTH, 96);
                break;
        case FOREIGN_VHDX_LOG:
                add_range(t, VHDX_HEADERS_END, 64 + 32);
                /* fall through */
        case FOREIGN_VHDX:
                add_range(t, VHDX_HEADER_1, 80);
                add_range(t, VHDX_REGIONS_1, 16 + 2 * 32);
                add_range(t, 2 << 20, 32 + 3 * 32);
                add_range(t, (2 << 20) + VHDX_M_LENGTH, 48);
                add_range(t, 3 << 20, 24);
                break;
        default:
                add_range(t, 0, 80);
                add_range(t, 2 * SECTOR, 8);
                add_range(t, t->len - VMDK_FOOTER - 3 * SECTOR, 8);
                add_range(t, t->len - VMDK_FOOTER, 80);
        }
        t->offset[t->noffsets++] = t->len;
        t->offset[t->noffsets++] = t->len - 512;
}

static void test_foreign(void **state)
{
        for (int k = 0; k < FOREIGN_KINDS; k++) {
                struct target t = { .name = foreign_name[k], .kind = k };
                struct foreign_image m;

                foreign_make(k, &m);
                t.bytes = m.bytes;
                t.len = m.len;
                foreign_structures(&t);
                sweep(&t);
        }
}

static unsigned long number(const char *name, unsigned long otherwise)
{
        const char *s = getenv(name);

        return s ? strtoul(s, NULL, 10) : otherwise;
}

static int setup(void **state)
{
        uint64_t seed = test_seed();

        step = number("SWEEP", 23);
        nth_qemu = number("SWEEP_QEMU", 60);
        say = getenv("SWEEP_SAY");
        signal(SIGABRT, on_abort);
        phase = step ? rnd_below(&seed, step) : 0;
        step = step ? step : 1;
        return rest_setup(state);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_qcow2), cmocka_unit_test(test_foreign) };
        int r;

        if (system("command -v qemu-img qemu-io >/dev/null") != 0) {
                puts("qemu-img or qemu-io is not installed");
                return 77;
        }
        log_init("test_sweep", 0);
        rcu_register_thread();
        r = cmocka_run_group_tests(tests, setup, rest_teardown);
        printf("%lu cases, %lu also by qemu-img, which cannot repair %lu of them\n", cases, with_qemu, unrepaired);
        return r;
}
