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
#include "common/secret.h"
#include "fail.h"
#include "formats/format.h"
#include "formats/luks/crypto.h"

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
        bool encrypted;
};

#define SECRET "--object secret,id=key,file=%s/key "

static struct {
        char dir[64], image[96], base[96], raw[96], log[96], data[96];
        enum { DATA_INSIDE, DATA_FILE, DATA_RAW } where; /* the guest's data of this sequence */
        struct subject subject;
        uint32_t granularity; /* of the bitmap; 0: there is none */
        const char *vdisk_img;
        bool encrypts; /* encrypted images are to be had */
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
        struct fmt_option opts[9] = { { "cluster_size", cluster }, { "refcount_bits", width }, { "compat", mix->compat },
                                     { "extended_l2", mix->extended_l2 }, { "lazy_refcounts", mix->lazy },
                                     { "compression_type", mix->compression }, { "data_file", t.data },
                                     { "data_file_raw", t.where == DATA_RAW ? "on" : "off" } };
        struct fmt_create req = { .size = size, .backing_name = backing, .backing_format = backing_format,
                                  .opts = opts, .nopts = t.where == DATA_INSIDE ? 6 : 8 };
        int r;

        if (mix->encrypted) { /* never with a data file */
                opts[6] = (struct fmt_option){ "encrypt.format", "luks" };
                opts[7] = (struct fmt_option){ "encrypt.key-secret", "key" };
                opts[8] = (struct fmt_option){ "encrypt.iter-time", "10" };
                req.nopts = 9;
        }

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
        char chain[160] = "", data[160] = "", secret[160] = "";
        unsigned tries = mix->encrypted ? 20 : 1; /* QEMU times its key derivation, and gives up where others take the CPU from it */
        int r = 1;

        if (backing)
                snprintf(chain, sizeof(chain), "-b %s -F %s", backing, backing_format);
        if (t.where != DATA_INSIDE)
                snprintf(data, sizeof(data), ",data_file=%s,data_file_raw=%s", t.data, t.where == DATA_RAW ? "on" : "off");
        if (mix->encrypted) {
                snprintf(secret, sizeof(secret), SECRET, t.dir);
                snprintf(data, sizeof(data), ",encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10");
        }
        while (r != 0 && tries--)
                r = run_shell(t.log, "qemu-img create -q -f qcow2 %s -o cluster_size=%u,refcount_bits=%u,compat=%s,extended_l2=%s,"
                              "lazy_refcounts=%s,compression_type=%s%s %s %s %llu", secret, l->cluster, mix->bits, mix->compat,
                              mix->extended_l2, mix->lazy, mix->compression, data, chain, path, (unsigned long long)size);
        if (r != 0)
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

static void both_agree(const struct model *m)
{
        qemu_check(&t.subject, t.log);
        we_check(&t.subject);
        qemu_compare(&t.subject, t.raw, t.log, m);
        we_compare(&t.subject, m);
        if (t.where == DATA_RAW && run_shell(t.log, "cmp -n %llu %s %s", (unsigned long long)m->size, t.raw, t.data) != 0)
                test_failed("the raw data file is not the disk, see %s", t.log);
}

/* A command of vdisk-img or of qemu-img. */
__attribute__((format(printf, 2, 3))) static void run(bool us, const char *fmt, ...)
{
        char words[700];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(words, sizeof(words), fmt, ap);
        va_end(ap);
        if (run_shell(t.log, "%s %s", us ? t.vdisk_img : "qemu-img", words) != 0)
                test_failed("%s %s failed, see %s", us ? "vdisk-img" : "qemu-img", words, t.log);
}

static void take_snapshot(bool us, unsigned number)
{
        struct fmt_open_opts opts = { .format = "qcow2", .flags = FMT_NO_KEY | FMT_KEEP_BITMAPS };
        struct fmt_image *img;
        char name[16];
        int r;

        snprintf(name, sizeof(name), "s%u", number);
        if (!us) {
                if (run_shell(t.log, "qemu-img snapshot -c %s %s", name, t.subject.bare) != 0)
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
        if (may_shrink && one_in(3))
                size = m->size - below(m->size / SECTOR / 2) * SECTOR;
        us |= *stale_tail && size > m->size;
        *stale_tail = (*stale_tail || size < m->size) && !us;
        model_resize(m, size);
        run(us, "resize -q --shrink %s %llu", t.subject.words, (unsigned long long)size);
}

/* --- the bitmap --------------------------------------------------------------------------------------------------- */

static void make_bitmap(struct model *m, bool us)
{
        t.granularity = 512u << below(10);
        run(us, "bitmap --add -g %u %s map", t.granularity, t.subject.words);
        model_unchanged(m);
}

/* No change is lost, and (@exactly) nothing else is said to have changed. The model knows afterwards what else was. */
static void bitmap_agrees(struct model *m, bool exactly)
{
        uint64_t n, per = t.granularity / SECTOR, sectors = m->size / SECTOR;
        AUTO(freep) uint8_t *bits = t.granularity ? we_read_bitmap(&t.subject, "map", &n) : NULL;

        for (uint64_t i = 0; bits && i < n; i++) {
                uint64_t end = min_u64((i + 1) * per, sectors);
                bool changed = false;

                for (uint64_t s = i * per; s < end; s++)
                        changed |= m->changed[s];
                if (changed > bits[i] || (exactly && changed != bits[i]))
                        test_failed("the bitmap says that granule %llu of %u bytes is %s", (unsigned long long)i, t.granularity,
                                    bits[i] ? "dirty" : "clean");
                memset(m->changed + i * per, bits[i], (end - i * per) * sizeof(bool));
        }
}

/* --- backing files ------------------------------------------------------------------------------------------------ */

/* What the overlay has goes into its backing file, or all of that into the overlay. The disk stays the same. */
static void commit_or_rebase(struct model *m, bool us, const char **base_format)
{
        bool into = (!strcmp(*base_format, "raw") || !strcmp(*base_format, "qcow2")) && one_in(2);

        if (into)
                run(us, "commit -q %s", t.subject.words);
        else
                run(us, "rebase -q %s -b ''", t.subject.words);
        both_agree(m);
        bitmap_agrees(m, false);
        if (!into)
                *base_format = NULL;
}

static void one_turn(struct model *m, const struct layout *l, bool us)
{
        struct op ops[OPS_MAX];
        unsigned n = 4 + (unsigned)below(OPS_MAX - 4);

        for (unsigned i = 0; i < n; i++)
                random_op(&ops[i], m, l->cluster);
        if (us)
                we_do(&t.subject, next_random(), ops, n);
        else
                qemu_do(&t.subject, t.log, ops, n);
        model_apply(m, ops, n);
        both_agree(m);
        bitmap_agrees(m, true);
}

/* Go back to each snapshot, by QEMU: what it held when it was taken must still be there. */
static void snapshots_hold(struct model *snaps, unsigned n)
{
        if (n && t.granularity) /* they do not go back */
                run(one_in(2), "bitmap --remove %s map", t.subject.words);
        for (unsigned i = 0; i < n; i++) {
                if (run_shell(t.log, "qemu-img snapshot -a s%u %s", i, t.subject.bare) != 0)
                        test_failed("qemu-img snapshot -a failed, see %s", t.log);
                both_agree(&snaps[i]);
                model_finish(&snaps[i]);
        }
}

static const struct fmt_layer key_layer = { .key_secret = "key" };

static void name_subject(bool encrypted)
{
        struct subject *s = &t.subject;

        *s = (struct subject){ .path = t.image, .layer = encrypted ? &key_layer : NULL };
        snprintf(s->bare, sizeof(s->bare), "%s", t.image);
        snprintf(s->words, sizeof(s->words), "-f qcow2 %s", t.image);
        if (!encrypted)
                return;
        snprintf(s->bare, sizeof(s->bare), SECRET "--image-opts driver=qcow2,encrypt.key-secret=key,file.filename=%s", t.dir,
                 t.image);
        snprintf(s->words, sizeof(s->words), "%s", s->bare);
}

static void draw(struct mix *mix, const struct layout *l)
{
        bool v3;

        mix->bits = refcount_bits[t.seq / ARRAY_SIZE(layouts) % ARRAY_SIZE(refcount_bits)];
        mix->compat = mix->bits == 16 && one_in(3) ? "0.10" : "1.1";
        v3 = !strcmp(mix->compat, "1.1");
        mix->extended_l2 = v3 && l->cluster >= 16384 && one_in(2) ? "on" : "off";
        mix->lazy = v3 && one_in(4) ? "on" : "off";
        mix->compression = v3 && one_in(4) ? "zstd" : "zlib";
        mix->encrypted = t.encrypts && one_in(5);
}

static void sequence(void)
{
        const struct layout *l = &layouts[t.seq % ARRAY_SIZE(layouts)];
        const char *base_format = NULL;
        struct mix mix;
        struct model m, snaps[SNAPSHOTS_MAX];
        unsigned nsnaps = 0, turns = 2 + (unsigned)below(3);
        bool stale_tail = false, v3;

        draw(&mix, l);
        v3 = strcmp(mix.compat, "1.1") == 0;
        name_subject(mix.encrypted);
        model_init(&m, l->size - below(64) * SECTOR);
        if (one_in(3))
                base_format = make_base(&m);
        t.where = !v3 || mix.encrypted || !one_in(4) ? DATA_INSIDE : base_format || one_in(2) ? DATA_FILE : DATA_RAW;
        t.granularity = 0;
        (one_in(2) ? we_create : qemu_create)(t.image, l, &mix, m.size, base_format ? t.base : NULL, base_format);
        for (unsigned i = 0; i < turns; i++) {
                if (v3 && !t.granularity && one_in(3))
                        make_bitmap(&m, one_in(2));
                one_turn(&m, l, one_in(3) ? false : true);
                if (t.where == DATA_INSIDE && !nsnaps && one_in(4)) {
                        /* vdisk-img takes any backing file for a longer one, which version 2 cannot hide */
                        resize(&m, one_in(2) && (v3 || !base_format), !base_format, &stale_tail);
                        both_agree(&m);
                        bitmap_agrees(&m, false);
                }
                if (base_format && !nsnaps && one_in(3))
                        commit_or_rebase(&m, one_in(2), &base_format);
                if (t.where == DATA_INSIDE && mix.bits > 1 && nsnaps < SNAPSHOTS_MAX && one_in(3)) {
                        take_snapshot(one_in(2), nsnaps);
                        model_copy(&snaps[nsnaps++], &m);
                        both_agree(&m);
                }
        }
        snapshots_hold(snaps, nsnaps);
        model_finish(&m);
}

/* Without a crypto library there are no encrypted images. */
static void make_key(void)
{
        char path[96];
        struct secret_source key = { .id = "key", .file = path, .fd = -1 };
        uint8_t digest[CRYPTO_MAX_HASH];

        snprintf(path, sizeof(path), "%s/key", t.dir);
        if (run_shell("/dev/null", "echo -n sesame >%s", path) != 0)
                test_failed("cannot write %s", path);
        t.encrypts = crypto_hash("sha256", "", 0, digest) == 0;
        err_clear();
        if (t.encrypts && secret_add(&key) < 0)
                test_failed("no key: %s", err_text(-1));
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

        t.seed = (unsigned long)time(NULL) * 1000 + (unsigned long)getpid() % 1000;
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
        make_key();
        t.vdisk_img = getenv("VDISK_IMG");
        if (!t.vdisk_img) {
                fprintf(stderr, "differential: the environment does not say where VDISK_IMG is\n");
                return 1;
        }
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
