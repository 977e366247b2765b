/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio 1.2, 2.7.5 (descriptor table) and 2.7.5.3 (indirect descriptors).
 *
 * A walk is bounded twice: by the steps a table allows (a chain has no more descriptors than its table, so a longer
 * one is a loop), and by CHAIN_MAX_IOV.
 */
#include "chain.h"

#include <endian.h>
#include <errno.h>

#include "common/range.h"

/* Our copy of a descriptor, in our byte order. */
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

static int add_buffer(struct chain *c, const struct mem_table *mt, const struct desc *d, const char **why)
{
        unsigned used = c->nread + c->nwrite;
        bool write = d->flags & VRING_DESC_F_WRITE;
        int n;

        if (!d->len)
                return bad(why, "a descriptor of no bytes");
        if (!write && c->nwrite)
                return bad(why, "a readable descriptor behind a writable one");
        n = gm_translate(mt, d->addr, d->len, c->iov + used, CHAIN_MAX_IOV - used);
        if (n < 0)
                return bad(why, n == -E2BIG ? "more pieces than any request needs"
                                            : "a descriptor outside of guest memory");
        *(write ? &c->nwrite : &c->nread) += (unsigned)n;
        *(write ? &c->write_len : &c->read_len) += d->len;
        return 0;
}

/* A descriptor of an indirect table: it may lie across a border of two regions, so it is fetched by guest address. */
static int fetch_indirect(struct vring_desc *raw, const struct mem_table *mt, uint64_t table, unsigned i)
{
        struct iovec iov[2], *at = iov; /* 16 bytes over three regions: not in any memory that makes sense */
        int r = gm_translate(mt, table + (uint64_t)i * sizeof(*raw), sizeof(*raw), iov, 2);
        unsigned n = (unsigned)r;

        return r < 0 || gm_copy_in(raw, sizeof(*raw), &at, &n) != sizeof(*raw) ? -EFAULT : 0;
}

static int read_indirect(struct chain *c, const struct mem_table *mt, const struct desc *table, unsigned num,
                         const char **why)
{
        unsigned entries = table->len / sizeof(struct vring_desc), i = 0;
        unsigned max = num > CHAIN_MIN_TABLE ? num : CHAIN_MIN_TABLE;

        if (!entries || table->len % sizeof(struct vring_desc) || entries > max)
                return bad(why, "an indirect table whose length is not one of a table");
        if (!range_fits(table->addr, table->len, UINT64_MAX))
                return bad(why, "an indirect table outside of guest memory");
        for (unsigned steps = 0; steps < entries; steps++) {
                struct vring_desc raw;
                struct desc d;
                int r;

                if (fetch_indirect(&raw, mt, table->addr, i) < 0)
                        return bad(why, "an indirect table outside of guest memory");
                d = desc_parse(&raw);
                if (d.flags & VRING_DESC_F_INDIRECT)
                        return bad(why, "an indirect table inside an indirect table");
                r = add_buffer(c, mt, &d, why);
                if (r < 0 || !(d.flags & VRING_DESC_F_NEXT))
                        return r;
                if (d.next >= entries)
                        return bad(why, "a next index beyond its indirect table");
                i = d.next;
        }
        return bad(why, "a loop in an indirect table");
}

int chain_read(struct chain *c, const struct mem_table *mt, const struct vring_desc *table, unsigned num, uint16_t head,
               const char **why)
{
        unsigned i = head;

        c->head = head;
        c->nread = c->nwrite = 0;
        c->read_len = c->write_len = 0;
        if (i >= num)
                return bad(why, "a head beyond the descriptor table");
        for (unsigned steps = 0; steps < num; steps++) {
                struct vring_desc raw;
                struct desc d;
                int r;

                gm_fetch(&raw, &table[i], sizeof(raw));
                d = desc_parse(&raw);
                if (d.flags & VRING_DESC_F_INDIRECT) {
                        if (!c->indirect_ok)
                                return bad(why, "an indirect table, which was not negotiated");
                        if (d.flags & VRING_DESC_F_NEXT)
                                return bad(why, "a descriptor that is indirect and has a next one");
                        return read_indirect(c, mt, &d, num, why);
                }
                r = add_buffer(c, mt, &d, why);
                if (r < 0 || !(d.flags & VRING_DESC_F_NEXT))
                        return r;
                if (d.next >= num)
                        return bad(why, "a next index beyond the descriptor table");
                i = d.next;
        }
        return bad(why, "a loop in the descriptor table");
}
