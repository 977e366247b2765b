/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * differential.c - random sequences on a qcow2 image, done in turn by us and by QEMU; after every turn both must read
 * what a flat model says, and both must find the image clean.
 *
 *     differential [--seed N] [--count N] [--only K]
 *
 * A failure prints the seed and the number of the sequence; --seed S --only K runs just that one.
 */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "actor.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "fail.h"
#include "formats/format.h"

#define OPS_MAX 24
#define SNAPSHOTS_MAX 2

struct layout {
        uint32_t cluster;
        uint64_t size; /* about; a random number of sectors is taken off */
};
static const struct layout layouts[] = {
        { 512, 1 << 20 }, { 4096, 8 << 20 }, { 65536, 48 << 20 }, { 2 << 20, 96 << 20 }, { 16384, 8 << 20 },
};
static const unsigned refcount_bits[] = { 1, 16, 64 };

/* The options of an image besides its layout. */
struct mix {
        unsigned bits; /* of a refcount */
        const char *compat, *extended_l2, *lazy, *compression;
};

static struct {
        char dir[64], image[96], base[96], raw[96], log[96], data[96];
        enum { DATA_INSIDE, DATA_FILE, DATA_RAW } where; /* the guest's data of this sequence */
        unsigned long seed, seq;
        uint64_t rng;
} t;

void test_failed(const char *fmt, ...)
{
        va_list ap;

        fprintf(stderr, "sequence %lu: ", t.seq);
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
        fprintf(stderr, "; files are in %s; repeat with --seed %lu --only %lu\n", t.dir, t.seed, t.seq);
        exit(1);
}

/* splitmix64: the same numbers everywhere, for ever. */
static uint64_t next_random(void)
{
        uint64_t z = t.rng += 0x9e3779b97f4a7c15;

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
}

static uint64_t below(uint64_t n)
{
        return next_random() % n;
}

static bool one_in(unsigned n)
{
        return below(n) == 0;
}

static void random_op(struct op *op, const struct model *m, uint32_t cluster)
{
        static const enum op_kind kinds[] = {
                OP_WRITE, OP_WRITE, OP_WRITE, OP_WRITE, OP_ZERO, OP_ZERO_UNMAP, OP_DISCARD, OP_FLUSH,
        };
        uint64_t span = below(3) == 0 ? 16ull * cluster : 2ull * cluster; /* mostly around one cluster's borders */

        *op = (struct op){ .kind = kinds[below(ARRAY_SIZE(kinds))], .value = (uint8_t)(1 + below(255)) };
        if (op->kind == OP_FLUSH)
                return;
        op->off = below(m->size / SECTOR) * SECTOR;
        if (one_in(3))
                op->off = round_down(op->off, cluster);
        op->len = (1 + below(min_u64(span, 4 << 20) / SECTOR)) * SECTOR;
        if (one_in(3))
                op->len = round_up(op->len, cluster);
        op->len = min_u64(op->len, m->size - op->off);
}

static void model_apply(struct model *m, const struct op *ops, unsigned n)
{
        for (unsigned i = 0; i < n; i++) {
                if (ops[i].kind == OP_WRITE)
                        model_write(m, ops[i].off, ops[i].len, ops[i].value);
                else if (ops[i].kind == OP_ZERO || ops[i].kind == OP_ZERO_UNMAP)
                        model_write(m, ops[i].off, ops[i].len, 0);
                else if (ops[i].kind == OP_DISCARD)
                        model_discard(m, ops[i].off, ops[i].len);
        }
}

static void we_create(const char *path, const struct layout *l, const struct mix *mix, uint64_t size, const char *backing,
                      const char *backing_format)
{
        char cluster[16], width[16];
        struct fmt_option opts[] = { { "cluster_size", cluster }, { "refcount_bits", width }, { "compat", mix->compat },
                                     { "extended_l2", mix->extended_l2 }, { "lazy_refcounts", mix->lazy },
                                     { "compression_type", mix->compression }, { "data_file", t.data },
                                     { "data_file_raw", t.where == DATA_RAW ? "on" : "off" } };
        struct fmt_create req = { .size = size, .backing_name = backing, .backing_format = backing_format,
                                  .opts = opts, .nopts = ARRAY_SIZE(opts) - (t.where == DATA_INSIDE ? 2 : 0) };
        int r;

        snprintf(cluster, sizeof(cluster), "%u", l->cluster);
        snprintf(width, sizeof(width), "%u", mix->bits);
        unlink(path);
        r = fmt_create_path(path, fmt_driver_find("qcow2"), &req);
        if (r < 0)
                test_failed("we cannot create an image: %s", err_text(r));
}

static void qemu_create(const char *path, const struct layout *l, const struct mix *mix, uint64_t size, const char *backing,
                        const char *backing_format)
{
        char chain[160] = "", data[160] = "";

        if (backing)
                snprintf(chain, sizeof(chain), "-b %s -F %s", backing, backing_format);
        if (t.where != DATA_INSIDE)
                snprintf(data, sizeof(data), ",data_file=%s,data_file_raw=%s", t.data, t.where == DATA_RAW ? "on" : "off");
        if (run_shell(t.log, "qemu-img create -q -f qcow2 -o cluster_size=%u,refcount_bits=%u,compat=%s,extended_l2=%s,"
                      "lazy_refcounts=%s,compression_type=%s%s %s %s %llu", l->cluster, mix->bits, mix->compat,
                      mix->extended_l2, mix->lazy, mix->compression, data, chain, path, (unsigned long long)size) != 0)
                test_failed("qemu-img create failed, see %s", t.log);
}

/* How backing files are made: by qemu-img convert, with these words. */
static const struct {
        const char *format, *words;
} bases[] = {
        { "raw", "" },        { "raw", "" },
        { "qcow2", "" },      { "qcow2", "-c" },
        { "qcow2", "-c -o compression_type=zstd" },
        { "vdi", "" },        { "vhdx", "-o block_size=1M" },
        { "vpc", "-o subformat=dynamic,force_size=on" }, { "vmdk", "-o subformat=monolithicSparse" },
        { "vmdk", "-o subformat=streamOptimized" },
};

/* A backing file with a value in every 64th sector or so. */
static const char *make_base(struct model *m)
{
        struct op op = { .kind = OP_WRITE };
        unsigned how = below(ARRAY_SIZE(bases));
        uint64_t size = one_in(3) ? round_down(m->size / 2, SECTOR) : m->size;

        if (run_shell(t.log, "qemu-img create -q -f raw %s %llu", t.raw, (unsigned long long)size) != 0)
                test_failed("qemu-img create failed, see %s", t.log);
        for (unsigned i = 0; i < 12; i++) {
                op.value = (uint8_t)(1 + below(255));
                op.off = below(size / SECTOR) * SECTOR;
                op.len = min_u64((1 + below(2048)) * SECTOR, size - op.off);
                if (run_shell(t.log, "qemu-io -f raw -c 'write -P %u %llu %llu' %s", op.value,
                              (unsigned long long)op.off, (unsigned long long)op.len, t.raw) != 0)
                        test_failed("qemu-io failed, see %s", t.log);
                model_write(m, op.off, op.len, op.value);
        }
        unlink(t.base); /* of another format, it would not be emptied */
        if (run_shell(t.log, "qemu-img convert -q -f raw -O %s %s %s %s", bases[how].format, bases[how].words, t.raw,
                      t.base) != 0)
                test_failed("qemu-img convert failed, see %s", t.log);
        return bases[how].format;
}

static void take_snapshot(bool us, unsigned number)
{
        struct fmt_open_opts opts = { .format = "qcow2" };
        struct fmt_image *img;
        char name[16];
        int r;

        snprintf(name, sizeof(name), "s%u", number);
        if (!us) {
                if (run_shell(t.log, "qemu-img snapshot -c %s %s", name, t.image) != 0)
                        test_failed("qemu-img snapshot failed, see %s", t.log);
                return;
        }
        r = chain_open(t.image, &opts, &img);
        if (r == 0) {
                r = img->drv->snapshot_create(img, name);
                chain_close(img);
        }
        if (r < 0)
                test_failed("our snapshot failed: %s", err_text(r));
}

/*
 * Larger, or (without a backing file, whose bytes could come back) smaller. QEMU leaves what lies behind the new end in the last
 * cluster when it shrinks a disk, and shows it when it makes the disk larger again: what QEMU shrank is only grown by us.
 */
static void resize(struct model *m, bool us, bool may_shrink, bool *stale_tail)
{
        uint64_t size = m->size + (1 + below(m->size / SECTOR / 2)) * SECTOR;
        struct fmt_open_opts opts = { .format = "qcow2" };
        struct fmt_image *img;
        int r;

        if (may_shrink && one_in(3))
                size = m->size - below(m->size / SECTOR / 2) * SECTOR;
        us |= *stale_tail && size > m->size;
        *stale_tail = (*stale_tail || size < m->size) && !us;
        model_resize(m, size);
        if (!us) {
                if (run_shell(t.log, "qemu-img resize -q -f qcow2 --shrink %s %llu", t.image, (unsigned long long)size) != 0)
                        test_failed("qemu-img resize failed, see %s", t.log);
                return;
        }
        r = chain_open(t.image, &opts, &img);
        if (r == 0) {
                r = img->drv->resize(img, size, true);
                chain_close(img);
        }
        if (r < 0)
                test_failed("our resize failed: %s", err_text(r));
}

static void both_agree(const struct model *m)
{
        qemu_check(t.image, t.log);
        we_check(t.image);
        qemu_compare(t.image, t.raw, t.log, m);
        we_compare(t.image, m);
        if (t.where == DATA_RAW && run_shell(t.log, "cmp -n %llu %s %s", (unsigned long long)m->size, t.raw, t.data) != 0)
                test_failed("the raw data file is not the disk, see %s", t.log);
}

static void one_turn(struct model *m, const struct layout *l, bool us)
{
        struct op ops[OPS_MAX];
        unsigned n = 4 + (unsigned)below(OPS_MAX - 4);

        for (unsigned i = 0; i < n; i++)
                random_op(&ops[i], m, l->cluster);
        if (us)
                we_do(t.image, next_random(), ops, n);
        else
                qemu_do(t.image, t.log, ops, n);
        model_apply(m, ops, n);
        both_agree(m);
}

/* Go back to each snapshot, by QEMU: what it held when it was taken must still be there. */
static void snapshots_hold(struct model *snaps, unsigned n)
{
        for (unsigned i = 0; i < n; i++) {
                if (run_shell(t.log, "qemu-img snapshot -a s%u %s", i, t.image) != 0)
                        test_failed("qemu-img snapshot -a failed, see %s", t.log);
                both_agree(&snaps[i]);
                model_finish(&snaps[i]);
        }
}

static void sequence(void)
{
        const struct layout *l = &layouts[t.seq % ARRAY_SIZE(layouts)];
        struct mix mix = { .bits = refcount_bits[t.seq / ARRAY_SIZE(layouts) % ARRAY_SIZE(refcount_bits)] };
        const char *base_format = NULL;
        struct model m, snaps[SNAPSHOTS_MAX];
        unsigned nsnaps = 0, turns = 2 + (unsigned)below(3);
        bool stale_tail = false;

        mix.compat = mix.bits == 16 && one_in(3) ? "0.10" : "1.1";
        mix.extended_l2 = strcmp(mix.compat, "1.1") == 0 && l->cluster >= 16384 && one_in(2) ? "on" : "off";
        mix.lazy = strcmp(mix.compat, "1.1") == 0 && one_in(4) ? "on" : "off";
        mix.compression = strcmp(mix.compat, "1.1") == 0 && one_in(4) ? "zstd" : "zlib";
        model_init(&m, l->size - below(64) * SECTOR);
        if (one_in(3))
                base_format = make_base(&m);
        t.where = mix.compat[0] == '0' || !one_in(4) ? DATA_INSIDE : base_format || one_in(2) ? DATA_FILE : DATA_RAW;
        (one_in(2) ? we_create : qemu_create)(t.image, l, &mix, m.size, base_format ? t.base : NULL, base_format);
        for (unsigned i = 0; i < turns; i++) {
                one_turn(&m, l, one_in(3) ? false : true);
                if (t.where == DATA_INSIDE && !nsnaps && one_in(4)) {
                        resize(&m, one_in(2), !base_format, &stale_tail);
                        both_agree(&m);
                }
                if (t.where == DATA_INSIDE && mix.bits > 1 && nsnaps < SNAPSHOTS_MAX && one_in(3)) {
                        take_snapshot(one_in(2), nsnaps);
                        model_copy(&snaps[nsnaps++], &m);
                        both_agree(&m);
                }
        }
        snapshots_hold(snaps, nsnaps);
        model_finish(&m);
}

static void name_files(void)
{
        const char *tmp = getenv("TMPDIR");

        snprintf(t.dir, sizeof(t.dir), "%s/vdiskd-diff-XXXXXX", tmp && strlen(tmp) < 32 ? tmp : "/var/tmp");
        if (!mkdtemp(t.dir)) {
                perror(t.dir);
                exit(1);
        }
        snprintf(t.image, sizeof(t.image), "%s/image", t.dir);
        snprintf(t.base, sizeof(t.base), "%s/base", t.dir);
        snprintf(t.raw, sizeof(t.raw), "%s/raw", t.dir);
        snprintf(t.log, sizeof(t.log), "%s/log", t.dir);
        snprintf(t.data, sizeof(t.data), "%s/data", t.dir);
}

int main(int argc, char **argv)
{
        static const struct option options[] = {
                { "seed", required_argument, NULL, 's' }, { "count", required_argument, NULL, 'c' },
                { "only", required_argument, NULL, 'o' }, { 0 },
        };
        unsigned long count = 300, only = 0;
        bool just_one = false;
        int c;

        t.seed = (unsigned long)time(NULL);
        while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
                if (c == 's')
                        t.seed = strtoul(optarg, NULL, 0);
                else if (c == 'c')
                        count = strtoul(optarg, NULL, 0);
                else if (c == 'o')
                        only = strtoul(optarg, NULL, 0), just_one = true;
                else
                        return 1;
        }
        name_files();
        printf("differential: seed %lu, %lu sequences\n", t.seed, just_one ? 1 : count);
        fflush(stdout);
        for (t.seq = just_one ? only : 0; t.seq < (just_one ? only + 1 : count); t.seq++) {
                t.rng = t.seed * 1000003 + t.seq;
                sequence();
        }
        run_shell("/dev/null", "rm -r %s", t.dir);
        printf("%lu sequences, no difference\n", just_one ? 1 : count);
        return 0;
}
