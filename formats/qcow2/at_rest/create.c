/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * create.c - a new image in an empty file.
 *
 * The header is the last thing written, so a file whose creation was cut short is not an image.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/range.h"
#include "common/size.h"
#include "formats/qcow2/at_rest/at_rest.h"
#include "formats/qcow2/at_rest/txn.h"
#include "formats/qcow2/crypt.h"
#include "formats/qcow2/l2e.h"

#define REFCOUNT_CLUSTERS 2u /* of an empty image: a table and a block */
#define DEFAULT_CLUSTER_BITS 16u

const struct fmt_option_doc qcow2_create_options[] = {
        { "backing_file", "str", "the image that this one begins as a copy of" },
        { "backing_fmt", "str", "format of the backing file" },
        { "cluster_size", "size", "unit of allocation: a power of two from 512 to 2M (64k)" },
        { "compat", "str", "version of the format: v3 or 1.1, v2 or 0.10 (v3)" },
        { "compression_type", "str", "how clusters are compressed: zlib or zstd (zlib)" },
        { "encrypt.format", "str", "luks: encrypt the disk with the key of encrypt.key-secret" },
        { "encrypt.key-secret", "str", "the secret (--object) that will open the image" },
        { "encrypt.cipher-alg", "str", "aes-128 or aes-256 (aes-256)" },
        { "encrypt.cipher-mode", "str", "xts or cbc (xts)" },
        { "encrypt.ivgen-alg", "str", "plain, plain64 or essiv (plain64)" },
        { "encrypt.ivgen-hash-alg", "str", "hash for essiv (sha256)" },
        { "encrypt.hash-alg", "str", "hash that turns passwords into keys (sha256)" },
        { "encrypt.iter-time", "num", "milliseconds that one try of a password shall take (2000)" },
        { "extended_l2", "bool", "32 sub-clusters a cluster, allocated one by one: on or off (off)" },
        { "data_file", "str", "keep the data in this file, beside the image" },
        { "data_file_raw", "bool", "the data file is a valid raw image at any time: on or off (off)" },
        { "lazy_refcounts", "bool", "let a writer delay refcounts: on or off (off)" },
        { "preallocation", "str", "off, metadata, falloc or full (off)" },
        { "refcount_bits", "num", "width of a refcount: 1, 2, 4, 8, 16, 32 or 64 (16)" },
        { NULL, NULL, NULL },
};

/* --- options -------------------------------------------------------------------------------------------------- */

static int bad_value(const struct fmt_option *o, const char *right)
{
        return err_note(-EINVAL, "option %s cannot be '%s': it is %s", o->name, o->value, right);
}

static int parse_cluster_size(struct qcow2_wish *w, const struct fmt_option *o)
{
        uint64_t size;
        int r = size_parse(o->value, &size);

        if (r < 0)
                return r;
        if (!is_pow2(size) || size < 1u << QCOW2_MIN_CLUSTER_BITS || size > 1u << QCOW2_MAX_CLUSTER_BITS)
                return bad_value(o, "a power of two from 512 to 2M");
        w->cluster_bits = (uint32_t)__builtin_ctzll(size);
        return 0;
}

static int parse_refcount_bits(struct qcow2_wish *w, const struct fmt_option *o)
{
        char *end;
        unsigned long n = strtoul(o->value, &end, 10);

        if (end == o->value || *end || !is_pow2(n) || n > 64)
                return bad_value(o, "1, 2, 4, 8, 16, 32 or 64");
        w->refcount_bits = (uint32_t)n;
        return 0;
}

/* One of the words, by index; -EINVAL. */
static int parse_word(const struct fmt_option *o, const char *const *words, const char *right)
{
        for (int i = 0; words[i]; i++)
                if (strcmp(o->value, words[i]) == 0)
                        return i;
        return bad_value(o, right);
}

static int parse_option(struct qcow2_wish *w, const struct fmt_option *o)
{
        static const char *const compat[] = { "v2", "0.10", "v3", "1.1", NULL };
        static const char *const on_off[] = { "off", "on", NULL };
        static const char *const compression[] = { "zlib", "zstd", NULL };
        static const char *const prealloc[] = { "off", "metadata", "falloc", "full", NULL };
        int r = qcow2_crypt_option(w, o);

        if (r != 0)
                return r < 0 ? r : 0;
        if (strcmp(o->name, "backing_file") == 0) {
                w->backing_name = o->value;
        } else if (strcmp(o->name, "backing_fmt") == 0) {
                w->backing_format = o->value;
        } else if (strcmp(o->name, "cluster_size") == 0) {
                r = parse_cluster_size(w, o);
        } else if (strcmp(o->name, "refcount_bits") == 0) {
                r = parse_refcount_bits(w, o);
        } else if (strcmp(o->name, "compat") == 0) {
                r = parse_word(o, compat, "v3 (or 1.1) or v2 (or 0.10)");
                w->version = r < 2 ? 2 : 3;
        } else if (strcmp(o->name, "lazy_refcounts") == 0) {
                r = parse_word(o, on_off, "on or off");
                w->lazy_refcounts = r > 0;
        } else if (strcmp(o->name, "extended_l2") == 0) {
                r = parse_word(o, on_off, "on or off");
                w->extended_l2 = r > 0;
        } else if (strcmp(o->name, "data_file") == 0) {
                w->data_name = *o->value ? o->value : NULL;
        } else if (strcmp(o->name, "data_file_raw") == 0) {
                r = parse_word(o, on_off, "on or off");
                w->data_raw = r > 0;
        } else if (strcmp(o->name, "compression_type") == 0) {
                r = parse_word(o, compression, "zlib or zstd");
                w->zstd = r > 0;
        } else if (strcmp(o->name, "preallocation") == 0) {
                r = parse_word(o, prealloc, "off, metadata, falloc or full");
                w->prealloc = r > 0 ? (enum qcow2_prealloc)r : QCOW2_PREALLOC_OFF;
        } else {
                r = err_note(-ENOTSUP, "qcow2 option '%s' is not supported; supported are backing_file, backing_fmt, "
                             "cluster_size, compat, compression_type, data_file, data_file_raw, encrypt.format, encrypt.key-secret, "
                             "encrypt.cipher-alg, encrypt.cipher-mode, encrypt.ivgen-alg, encrypt.ivgen-hash-alg, "
                             "encrypt.hash-alg, encrypt.iter-time, extended_l2, lazy_refcounts, preallocation and "
                             "refcount_bits",
                             o->name);
        }
        return r < 0 ? r : 0;
}

static int check_wish(const struct qcow2_wish *w)
{
        if (w->version < 3 && (w->lazy_refcounts || w->zstd || w->extended_l2 || w->refcount_bits != 16))
                return err_note(-EINVAL, "%s needs compat=v3", w->lazy_refcounts ? "lazy_refcounts=on" :
                                w->zstd ? "compression_type=zstd" : w->extended_l2 ? "extended_l2=on" :
                                "a refcount_bits other than 16");
        if (w->extended_l2 && w->cluster_bits < QCOW2_MIN_EXTENDED_L2_BITS)
                return err_note(-EINVAL, "extended_l2=on needs a cluster_size of 16k or more (a cluster has 32 sub-clusters of "
                                "at least 512 bytes), not %u", 1u << w->cluster_bits);
        if (w->backing_name && !w->backing_format)
                return err_note(-EINVAL, "the format of the backing file '%s' must be named (-F)", w->backing_name);
        if (w->backing_format && !w->backing_name)
                return err_note(-EINVAL, "a backing format was named without a backing file");
        if (w->backing_format && strlen(w->backing_format) > 15)
                return err_note(-EINVAL, "'%s' is not the name of a format", w->backing_format);
        if (w->encrypted && w->prealloc != QCOW2_PREALLOC_OFF && w->version < 3)
                return err_note(-EINVAL, "preallocation of an encrypted image needs compat=v3: version 2 cannot say that clusters "
                                "with nothing in them read as zeros");
        if (w->data_name && w->encrypted)
                return err_note(-ENOTSUP, "an encrypted image with an external data file is not supported");
        if (w->data_name && w->version < 3)
                return err_note(-EINVAL, "data_file needs compat=v3");
        if (w->data_raw && !w->data_name)
                return err_note(-EINVAL, "data_file_raw=on needs a data_file");
        if (w->data_raw && w->backing_name)
                return err_note(-EINVAL, "a raw data file and a backing file exclude each other: the data file alone would not be "
                                "the disk");
        if (w->data_name && strlen(w->data_name) > QCOW2_MAX_DATA_NAME)
                return err_note(-EINVAL, "the data file's name has %zu bytes, the limit is %u", strlen(w->data_name),
                                QCOW2_MAX_DATA_NAME);
        if (w->backing_name && w->prealloc != QCOW2_PREALLOC_OFF && !w->extended_l2)
                return err_note(-EINVAL, "preallocation and a backing file exclude each other: preallocated clusters would "
                                "hide the backing file's (they do not with extended_l2=on)");
        return 0;
}

int qcow2_wish_read(const struct fmt_create *req, bool file, struct qcow2_wish *w)
{
        int r = 0;

        *w = (struct qcow2_wish){ .version = 3, .cluster_bits = DEFAULT_CLUSTER_BITS, .refcount_bits = 16 };
        for (size_t i = 0; r == 0 && i < req->nopts; i++)
                r = parse_option(w, &req->opts[i]);
        if (req->backing_name)
                w->backing_name = req->backing_name;
        if (req->backing_format)
                w->backing_format = req->backing_format;
        if (r == 0 && w->data_raw && w->prealloc == QCOW2_PREALLOC_OFF)
                w->prealloc = QCOW2_PREALLOC_METADATA; /* so that the tables say what the data file says, whoever writes to it */
        if (r == 0)
                r = qcow2_crypt_wish(w, file);
        return r < 0 ? r : check_wish(w);
}

/* --- the image ------------------------------------------------------------------------------------------------ */

int qcow2_wish_header(const struct qcow2_wish *w, uint64_t size, struct qcow2_header *h)
{
        uint64_t needs;

        qcow2_header_init(h, w->version, w->cluster_bits);
        h->size = round_up(size, 512);
        h->refcount_order = (uint32_t)__builtin_ctz(w->refcount_bits);
        if (w->lazy_refcounts)
                h->compatible |= QCOW2_COMPAT_LAZY_REFCOUNTS;
        if (w->extended_l2)
                h->incompatible |= QCOW2_INCOMPAT_EXTENDED_L2;
        if (w->encrypted) {
                h->crypt_method = QCOW2_CRYPT_LUKS;
                h->luks_length = luks_area_size(w->luks.key_bytes);
        }
        if (w->zstd) {
                h->compression = QCOW2_COMPRESSION_ZSTD;
                h->incompatible |= QCOW2_INCOMPAT_COMPRESSION;
        }
        if (w->data_name)
                h->incompatible |= QCOW2_INCOMPAT_DATA_FILE;
        if (w->data_raw)
                h->autoclear |= QCOW2_AUTOCLEAR_RAW_DATA_FILE;
        needs = size > INT64_MAX - 512 ? UINT64_MAX : qcow2_l1_needs(h, h->size);
        if (needs > QCOW2_MAX_L1_ENTRIES)
                return err_note(-EFBIG, "%" PRIu64 " bytes are too big for clusters of %" PRIu32 " bytes: the limit is %" PRIu64
                                " bytes", size, h->cluster_size, QCOW2_MAX_L1_ENTRIES * qcow2_l2_covers(h));
        h->l1_entries = (uint32_t)needs;
        h->backing_name = w->backing_name ? strdup(w->backing_name) : NULL;
        h->backing_format = w->backing_format ? strdup(w->backing_format) : NULL;
        h->data_name = w->data_name ? strdup(w->data_name) : NULL;
        if ((w->backing_name && !h->backing_name) || (w->backing_format && !h->backing_format) ||
            (w->data_name && !h->data_name))
                return -ENOMEM;
        return 0;
}

/*
 * An L2 table and the clusters of data behind it (or in the data file), which are left as the empty file has them:
 * zeros. With a backing file none of their sub-clusters is in use yet.
 */
static int preallocate_l2(struct qcow2_txn *t, uint64_t index, uint8_t *buf, uint64_t *l1e)
{
        uint64_t covers = qcow2_l2_covers(&t->h);
        uint64_t clusters = div_round_up(min_u64(t->h.size - index * covers, covers), t->h.cluster_size);
        uint32_t in_use = t->h.backing_name ? 0 : sub_mask_all(&t->h);
        bool zero = t->h.crypt_method; /* nothing there is no ciphertext of zeros */
        uint64_t l2, data = index * covers;
        int r = qcow2_txn_alloc(t, 1, &l2);

        if (r == 0 && !qcow2_has_data_file(&t->h))
                r = qcow2_txn_alloc(t, clusters, &data);
        if (r < 0)
                return r;
        memset(buf, 0, t->h.cluster_size);
        for (uint64_t i = 0; i < clusters; i++)
                l2e_put(&t->h, buf, i, l2e_make(&t->h, data + (i << t->h.cluster_bits), true, zero ? 0 : in_use, zero ? in_use : 0));
        *l1e = l2 | QCOW2_COPIED;
        return qcow2_txn_write(t, l2, buf, t->h.cluster_size);
}

static int preallocate(struct qcow2_txn *t, uint8_t *l1)
{
        AUTO(freep) uint8_t *buf = malloc(t->h.cluster_size);
        int r = buf ? 0 : -ENOMEM;

        for (uint32_t i = 0; r == 0 && i < t->h.l1_entries; i++) {
                uint64_t l1e = 0;

                r = preallocate_l2(t, i, buf, &l1e);
                be64_put(l1 + i * QCOW2_ENTRY_SIZE, l1e);
        }
        return r;
}

/* Space for [0, end), everything in it zeros. Before anything is written there. */
static int reserve_space(struct file *file, enum qcow2_prealloc prealloc, uint64_t end)
{
        int r = file->size < end ? file_truncate(file, end) : 0;

        if (r == 0 && prealloc == QCOW2_PREALLOC_FALLOC)
                r = file_zero(file, 0, end, true);
        if (r == 0 && prealloc == QCOW2_PREALLOC_FULL)
                r = file_write_zeros(file, 0, end);
        return r;
}

/*
 * The L1 table, L2 tables and data come at known places, without a gap: preallocated, from cluster 1 on. An empty image
 * has its refcount structure first, where most readers of hex dumps look for it: room for it is left there until the
 * commit.
 */
static int write_tables(struct qcow2_txn *t, enum qcow2_prealloc prealloc, struct file *data_file)
{
        uint64_t len = (uint64_t)t->h.l1_entries * QCOW2_ENTRY_SIZE, cs = t->h.cluster_size;
        AUTO(freep) uint8_t *l1 = calloc(1, max_u64(len, 1));
        uint64_t data_clusters = data_file ? 0 : div_round_up(t->h.size, cs);
        uint64_t end = cs * (1 + div_round_up(len, cs) + t->h.l1_entries + data_clusters);
        uint64_t room = 0;
        int r = l1 ? 0 : -ENOMEM;

        if (r == 0 && prealloc == QCOW2_PREALLOC_OFF)
                r = qcow2_txn_alloc(t, REFCOUNT_CLUSTERS, &room);
        if (r == 0 && len)
                r = qcow2_txn_alloc(t, div_round_up(len, cs), &t->h.l1_offset);
        if (r == 0 && room)
                r = qcow2_txn_ref(t, room, REFCOUNT_CLUSTERS * cs, -1);
        if (r == 0 && prealloc != QCOW2_PREALLOC_OFF)
                r = reserve_space(t->file, prealloc, end);
        if (r == 0 && data_file)
                r = reserve_space(data_file, prealloc, t->h.size);
        if (r == 0 && prealloc != QCOW2_PREALLOC_OFF)
                r = preallocate(t, l1);
        return r < 0 || !len ? r : qcow2_txn_write(t, t->h.l1_offset, l1, len);
}

static int write_luks(struct qcow2_txn *t, const struct qcow2_wish *wish)
{
        int r;

        if (!wish->encrypted)
                return 0;
        r = qcow2_txn_alloc(t, div_round_up(t->h.luks_length, t->h.cluster_size), &t->h.luks_offset);
        return r < 0 ? r : qcow2_crypt_create(t->file, &t->h, wish);
}

int qcow2_create(struct file *file, const struct fmt_create *req)
{
        AUTO(qcow2_txn_finish) struct qcow2_txn t = { .file = file };
        uint64_t header_off;
        struct qcow2_wish wish;
        int r = qcow2_wish_read(req, true, &wish);

        if (r == 0)
                r = qcow2_wish_header(&wish, req->size, &t.h);
        if (r == 0)
                r = qcow2_txn_alloc(&t, 1, &header_off);
        if (r == 0 && !wish.data_name != !req->data_file)
                r = err_note(-EINVAL, "option data_file and a data file go together");
        if (r == 0)
                r = write_tables(&t, wish.prealloc, req->data_file);
        if (r == 0)
                r = write_luks(&t, &wish);
        if (r == 0 && req->data_file)
                r = file_sync(req->data_file);
        return r < 0 ? r : qcow2_txn_commit(&t, QCOW2_COMMIT_NEW_IMAGE);
}
