/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio 1.2, 2.7.5 (descriptor table) and 2.7.5.3 (indirect descriptors); for packed rings 2.8.5 and 2.8.8.
 *
 * A walk is bounded twice: by the steps a table allows (a chain has no more descriptors than its table, so a longer
 * one is a loop), and by CHAIN_MAX_IOV. A packed ring has no links, so no loops: there its caller counts.
 */
#include "chain.h"

#include <endian.h>
#include <errno.h>

#include "common/cleanup.h"
#include "common/range.h"

#define DESC_LEN 16u /* of both layouts */
_Static_assert(sizeof(struct vring_desc) == DESC_LEN && sizeof(struct vring_packed_desc) == DESC_LEN, "virtio 1.2");

/* Our copy of a descriptor of a split ring, in our byte order. */
struct desc {
        uint64_t addr;
        uint32_t len;
        uint16_t flags, next;
};

static int bad(const char **why, const char *what)
{
        *why = what;
        return -EINVAL;
}

static struct desc desc_parse(const struct vring_desc *raw)
{
        return (struct desc){ le64toh(raw->addr), le32toh(raw->len), le16toh(raw->flags), le16toh(raw->next) };
}

static int add_buffer(struct chain *c, const struct mem_table *mt, uint64_t addr, uint32_t len, bool write,
                      const char **why)
{
        unsigned used = c->nread + c->nwrite;
        int n;

        if (!len)
                return bad(why, "a descriptor of no bytes");
        if (!write && c->nwrite)
                return bad(why, "a readable descriptor behind a writable one");
        n = gm_translate(mt, addr, len, write, c->iov + used, CHAIN_MAX_IOV - used);
        if (n == -EAGAIN) {
                c->missing = true; /* go on, to find out what else is */
                return 0;
        }
        for (int i = 0; mt->iotlb && i < n; addr += c->iov[used + (unsigned)i++].iov_len)
                c->iova[used + (unsigned)i] = addr;
        if (n < 0)
                return bad(why, n == -E2BIG ? "more pieces than any request needs"
                                            : "a descriptor outside of guest memory");
        *(write ? &c->nwrite : &c->nread) += (unsigned)n;
        *(write ? &c->write_len : &c->read_len) += len;
        return 0;
}

/* A descriptor of an indirect table: it may lie across a border of two regions, so it is fetched by guest address. */
static int fetch_indirect(void *raw, const struct mem_table *mt, uint64_t table, unsigned i, const char **why)
{
        struct iovec iov[2], *at = iov; /* 16 bytes over three regions: not in any memory that makes sense */
        int r = gm_translate(mt, table + (uint64_t)i * DESC_LEN, DESC_LEN, false, iov, 2);
        unsigned n = (unsigned)r;

        if (r == -EAGAIN)
                return r;
        if (r < 0)
                return bad(why, "an indirect table outside of guest memory");
        gm_copy_in(raw, DESC_LEN, &at, &n);
        return 0;
}

/* How many entries has the indirect table at @addr? */
static int table_entries(uint64_t addr, uint32_t len, unsigned num, const char **why)
{
        unsigned entries = len / DESC_LEN, max = num > CHAIN_MIN_TABLE ? num : CHAIN_MIN_TABLE;

        if (!entries || len % DESC_LEN || entries > max)
                return bad(why, "an indirect table whose length is not one of a table");
        if (!range_fits(addr, len, UINT64_MAX))
                return bad(why, "an indirect table outside of guest memory");
        return (int)entries;
}

/* Of an indirect table, too, all that is missing is found out at once. */
static int table_missing(struct chain *c, const struct mem_table *mt, uint64_t addr, uint32_t len)
{
        struct iovec iov[2];

        gm_translate(mt, addr, len, false, iov, ARRAY_SIZE(iov));
        c->missing = true;
        return 0;
}

static int read_indirect(struct chain *c, const struct mem_table *mt, const struct desc *table, unsigned num,
                         const char **why)
{
        int entries = table_entries(table->addr, table->len, num, why), i = 0;

        for (int steps = 0; steps < entries; steps++) {
                struct vring_desc raw;
                struct desc d;
                int r;

                r = fetch_indirect(&raw, mt, table->addr, (unsigned)i, why);
                if (r == -EAGAIN)
                        return table_missing(c, mt, table->addr, table->len);
                if (r < 0)
                        return r;
                d = desc_parse(&raw);
                if (d.flags & VRING_DESC_F_INDIRECT)
                        return bad(why, "an indirect table inside an indirect table");
                r = add_buffer(c, mt, d.addr, d.len, d.flags & VRING_DESC_F_WRITE, why);
                if (r < 0 || !(d.flags & VRING_DESC_F_NEXT))
                        return r;
                if (d.next >= entries)
                        return bad(why, "a next index beyond its indirect table");
                i = d.next;
        }
        return entries < 0 ? entries : bad(why, "a loop in an indirect table");
}

static int check_indirect(const struct chain *c, uint16_t flags, const char **why)
{
        if (!c->indirect_ok)
                return bad(why, "an indirect table, which was not negotiated");
        if (flags & VRING_DESC_F_NEXT)
                return bad(why, "a descriptor that is indirect and has a next one");
        return 0;
}

void chain_begin(struct chain *c)
{
        c->head = c->ndescs = 0;
        c->missing = false;
        c->nread = c->nwrite = 0;
        c->read_len = c->write_len = 0;
}

int chain_read(struct chain *c, const struct mem_table *mt, const struct vring_desc *table, unsigned num, uint16_t head,
               const char **why)
{
        unsigned i = head;

        chain_begin(c);
        c->head = head;
        if (i >= num)
                return bad(why, "a head beyond the descriptor table");
        for (unsigned steps = 0; steps < num; steps++) {
                struct vring_desc raw;
                struct desc d;
                int r;

                gm_fetch(&raw, &table[i], sizeof(raw));
                d = desc_parse(&raw);
                if (d.flags & VRING_DESC_F_INDIRECT) {
                        r = check_indirect(c, d.flags, why);
                        return r < 0 ? r : read_indirect(c, mt, &d, num, why);
                }
                r = add_buffer(c, mt, d.addr, d.len, d.flags & VRING_DESC_F_WRITE, why);
                if (r < 0 || !(d.flags & VRING_DESC_F_NEXT))
                        return r;
                if (d.next >= num)
                        return bad(why, "a next index beyond the descriptor table");
                i = d.next;
        }
        return bad(why, "a loop in the descriptor table");
}

/* --- packed ------------------------------------------------------------------------------------------------------ */

/* The whole table is the chain, in its order; of the flags only WRITE means something. */
static int add_indirect(struct chain *c, const struct mem_table *mt, const struct chain_desc *table, unsigned num,
                        const char **why)
{
        int entries = table_entries(table->addr, table->len, num, why), r = entries;

        for (int i = 0; i < entries; i++) {
                struct vring_packed_desc raw;
                uint16_t flags;

                r = fetch_indirect(&raw, mt, table->addr, (unsigned)i, why);
                if (r == -EAGAIN)
                        return table_missing(c, mt, table->addr, table->len);
                if (r < 0)
                        return r;
                flags = le16toh(raw.flags);
                if (flags & VRING_DESC_F_INDIRECT)
                        return bad(why, "an indirect table inside an indirect table");
                r = add_buffer(c, mt, le64toh(raw.addr), le32toh(raw.len), flags & VRING_DESC_F_WRITE, why);
                if (r < 0)
                        return r;
        }
        return r;
}

int chain_add(struct chain *c, const struct mem_table *mt, const struct chain_desc *d, unsigned num, const char **why)
{
        int r;

        c->ndescs++;
        c->head = d->id; /* it is the last one's that counts */
        if (d->flags & VRING_DESC_F_INDIRECT) {
                r = check_indirect(c, d->flags, why);
                return r < 0 ? r : add_indirect(c, mt, d, num, why);
        }
        r = add_buffer(c, mt, d->addr, d->len, d->flags & VRING_DESC_F_WRITE, why);
        return r < 0 ? r : !!(d->flags & VRING_DESC_F_NEXT);
}
