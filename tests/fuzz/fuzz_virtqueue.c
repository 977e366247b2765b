/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest's memory and its rings. Input: queue size, flags, how much the guest changes while we look, then its memory:
 * descriptor table (or packed ring), avail ring (or driver area), and whatever indirect tables there are.
 *
 * What comes out of a pop is inside guest memory and adds up. A guest that stands still has each of its bytes fetched
 * once (unless it made tables that overlap); one that does not may say anything, at any fetch.
 */
#include "common/err.h"
#include "common/log.h"
#include "common/range.h"
#include "fuzz.h"
#include "tests/unit/guest_fixture.h"
#include "vhost_user/ring/virtqueue.h"

#define DESC 0x10000ull
#define AVAIL 0x10200ull /* behind 32 descriptors */
#define USED 0x10300ull
#define TABLES 0x10480ull
#define POPS 200u

extern void (*gm_fetch_hook)(const void *host, size_t len);

static struct mem_table *mt;
static struct { const char *p; size_t len; } fetched[4096];
static unsigned nfetched;
static bool twice;
static struct fuzz_input changes; /* what the guest does to its memory, a step at each fetch */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        log_init("fuzz", 0);
        mt = guest_new(NULL);
        return 0;
}

static void on_fetch(const void *host, size_t len)
{
        const char *p = host;

        for (unsigned i = 0; i < nfetched; i++)
                twice |= p < fetched[i].p + fetched[i].len && fetched[i].p < p + len;
        if (nfetched < sizeof(fetched) / sizeof(fetched[0])) {
                fetched[nfetched].p = p;
                fetched[nfetched++].len = len;
        }
}

/* The guest writes: where it likes, or to what was just read. */
static void on_fetch_change(const void *host, size_t len)
{
        uint8_t how = fuzz_u8(&changes);
        char *to = how & 1 ? guest_at(mt, DESC + fuzz_u16(&changes) % 0x4000) : (char *)(uintptr_t)host + how / 2 % len;

        if (how)
                *to = (char)fuzz_u8(&changes);
}

static bool in_guest(const struct iovec *v)
{
        for (unsigned i = 0; i < mt->n; i++)
                if ((char *)v->iov_base >= mt->region[i].host &&
                    range_fits((uint64_t)((char *)v->iov_base - mt->region[i].host), v->iov_len, mt->region[i].size))
                        return true;
        return false;
}

static void check_chain(const struct chain *c, unsigned num)
{
        uint64_t sum[2] = { 0 };

        if (c->head >= num || c->nread + c->nwrite > CHAIN_MAX_IOV || c->nread + c->nwrite == 0)
                fuzz_fail("head %u, %u + %u pieces", c->head, c->nread, c->nwrite);
        for (unsigned i = 0; i < c->nread + c->nwrite; i++) {
                if (!c->iov[i].iov_len || !in_guest(&c->iov[i]))
                        fuzz_fail("piece %u is not guest memory", i);
                sum[i >= c->nread] += c->iov[i].iov_len;
        }
        if (sum[0] != c->read_len || sum[1] != c->write_len)
                fuzz_fail("lengths do not add up");
}

/* Has some descriptor an indirect table that lies over the descriptor table? Then bytes may rightly be fetched twice. */
static bool tables_overlap(unsigned num, bool packed)
{
        const struct vring_desc *d = (const void *)guest_at(mt, DESC);
        const struct vring_packed_desc *p = (const void *)d;

        for (unsigned i = 0; i < num; i++)
                if ((packed ? p[i].flags : d[i].flags) & VRING_DESC_F_INDIRECT && d[i].addr < DESC + num * sizeof(*d) &&
                    (d[i].addr >= DESC || d[i].len > DESC - d[i].addr))
                        return true;
        return false;
}

struct held {
        uint16_t head, ndescs;
};

static void give_back(struct virtqueue *vq, struct held h, uint32_t written)
{
        static struct chain c;

        c.head = h.head;
        c.ndescs = h.ndescs;
        vq_push(vq, &c, written);
}

static void serve(struct virtqueue *vq, uint8_t order, bool still, bool packed)
{
        static struct chain c;
        struct held held[VQ_MAX_SIZE];
        unsigned nheld = 0, ndescs = 0;

        for (unsigned pops = 0; pops < POPS; pops++) {
                int n = vq_waiting(vq), r;

                if (n <= 0)
                        break;
                if ((unsigned)n > vq->num)
                        fuzz_fail("%d entries wait in a ring of %u", n, vq->num);
                nfetched = 0;
                twice = false;
                r = vq_pop(vq, mt, &c);
                if (r <= 0)
                        break;
                check_chain(&c, vq->num);
                if (still && twice && !tables_overlap(vq->num, packed))
                        fuzz_fail("bytes fetched twice");
                held[nheld++] = (struct held){ c.head, c.ndescs };
                ndescs += c.ndescs;
                if (nheld > vq->num || ndescs > vq->num || vq->in_flight != nheld)
                        fuzz_fail("%u in flight, should be %u", vq->in_flight, nheld);
                if (order >> pops % 8 & 1) {
                        ndescs -= held[nheld - 1].ndescs;
                        give_back(vq, held[--nheld], (uint32_t)c.write_len);
                }
                vq_want_kicks(vq, pops & 1);
                vq_publish(vq);
        }
        while (nheld)
                give_back(vq, held[--nheld], 0);
        vq_publish(vq);
        if (vq->in_flight)
                fuzz_fail("%u still in flight", vq->in_flight);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct fuzz_input in = { data, size };
        struct virtqueue vq = { 0 };
        uint8_t shift = fuzz_u8(&in), flags = fuzz_u8(&in), order = fuzz_u8(&in), changing = fuzz_u8(&in);
        struct vq_layout at = { 1u << shift % 6, GUEST_USER + DESC, GUEST_USER + AVAIL, GUEST_USER + USED };
        uint32_t start = fuzz_u16(&in);

        if (flags & 8) {
                at.packed = true;
                at.num = 1 + shift % 32;
                start |= (uint32_t)fuzz_u16(&in) << 16;
        }
        for (unsigned i = 0; i < mt->n; i++)
                memset(mt->region[i].host, 0, mt->region[i].size);
        if (flags & 4) { /* anywhere: mostly refused */
                at.desc += fuzz_u32(&in) % 0x5000;
                at.driver += fuzz_u32(&in) % 0x5000;
                at.device += fuzz_u32(&in) % 0x5000;
                at.num = at.packed ? 1 + 4u * shift : 1u << shift % 11;
        }
        changes = (struct fuzz_input){ in.p, changing < in.left ? changing : in.left };
        in.p += changes.left;
        in.left -= changes.left;
        fuzz_bytes(&in, guest_at(mt, DESC), at.num < 32 ? at.num * sizeof(struct vring_desc) : 0x200);
        fuzz_bytes(&in, guest_at(mt, AVAIL), at.packed ? sizeof(struct vring_packed_desc_event) : 0x100);
        fuzz_bytes(&in, guest_at(mt, TABLES), 0x1000);
        if (vq_start(&vq, mt, &at, start) == 0) {
                vq.indirect = flags & 1;
                vq.event_idx = flags & 2;
                gm_fetch_hook = changes.left ? on_fetch_change : on_fetch;
                serve(&vq, order, !changes.left && !(flags & 4), at.packed);
                gm_fetch_hook = NULL;
        }
        err_clear();
        return 0;
}
