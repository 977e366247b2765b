/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An in-flight record that somebody wrote to. Input: ring size, the guest's indices, the length of the record, its bytes.
 *
 * It is refused, or what comes again are different heads of the ring, first and as many as it says. After they were answered
 * the record is one of ours: it is accepted, and nothing is left to be done again. A record of a packed ring brings its own
 * descriptors: they may break the queue, and the record is accepted all the same.
 */
#include <errno.h>

#include "common/bitmap.h"
#include "common/err.h"
#include "common/log.h"
#include "fuzz.h"
#include "tests/unit/guest_fixture.h"
#include "vhost_user/ring/virtqueue.h"

#define DESC 0x10000ull
#define AVAIL 0x11000ull
#define USED 0x12000ull
#define NUM_MAX 64u
#define HEAD_LEN 16u

static struct mem_table *mt;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        log_init("fuzz", 0);
        mt = guest_new(NULL);
        return 0;
}

static void guest_offers_all(unsigned num, uint16_t used, uint16_t avail)
{
        uint16_t *ring = (void *)guest_at(mt, AVAIL), *idx = (void *)guest_at(mt, USED);

        for (unsigned i = 0; i < num; i++) {
                ((struct vring_desc *)(void *)guest_at(mt, DESC))[i] = (struct vring_desc){ 0x1000, 16, 0, 0 };
                ring[2 + i] = (uint16_t)i;
        }
        ring[1] = avail;
        idx[1] = used;
}

static void serve(struct virtqueue *vq)
{
        unsigned long seen[BITMAP_WORDS(NUM_MAX)] = { 0 };
        unsigned n = vq->split.record->nresubmit;
        static struct chain c;

        if (n > vq->num || (n && (unsigned)vq_waiting(vq) < n))
                fuzz_fail("%u to be done again in a ring of %u", n, vq->num);
        for (unsigned i = 0; i < n; i++) {
                if (vq_pop(vq, mt, &c) != 1)
                        fuzz_fail("request %u of %u did not come: %s", i, n, vq->broken);
                if (c.head >= vq->num || bitmap_test_and_set(seen, c.head))
                        fuzz_fail("head %u came twice", c.head);
        }
        for (unsigned i = 0; i < vq->num; i++)
                if (bitmap_test(seen, i))
                        vq_push(vq, &(struct chain){ .head = (uint16_t)i }, 0);
        vq_publish(vq);
}

static unsigned serve_packed(struct virtqueue *vq)
{
        static struct chain c[NUM_MAX];
        unsigned n = 0, ndescs = 0;

        for (; inflight_packed_left(vq->packed.record) && vq_pop(vq, mt, &c[n]) == 1; n++)
                ndescs += c[n].ndescs;
        if (n > vq->num || ndescs > vq->num || vq->in_flight != n)
                fuzz_fail("%u chains of %u descriptors came in a ring of %u", n, ndescs, vq->num);
        for (unsigned i = 0; i < n; i++)
                vq_push(vq, &c[i], 0);
        vq_publish(vq);
        return inflight_packed_left(vq->packed.record) + (vq->broken != NULL);
}

static void test_packed(struct fuzz_input *in, unsigned num, uint32_t base)
{
        struct vq_layout at = { .num = num, .desc = GUEST_USER + DESC, .driver = GUEST_USER + AVAIL,
                                .device = GUEST_USER + USED, .packed = true };
        struct virtqueue vq = { .indirect = true };

        at.record.len = 32 * (1 + fuzz_u8(in) % (NUM_MAX + 4));
        at.record.at = malloc(at.record.len);
        if (!at.record.at)
                return;
        fuzz_bytes(in, at.record.at, at.record.len);
        fuzz_bytes(in, guest_at(mt, DESC), num * sizeof(struct vring_packed_desc));
        if (vq_start(&vq, mt, &at, base) == 0) {
                unsigned left = serve_packed(&vq);

                if (vq_start(&vq, mt, &at, base) < 0 || !inflight_packed_left(vq.packed.record) != !left)
                        fuzz_fail("our own record is not accepted, or not empty: %s", err_text(-EBADMSG));
        }
        vq_finish(&vq);
        free(at.record.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct fuzz_input in = { data, size };
        struct virtqueue vq = { 0 };
        uint8_t shift = fuzz_u8(&in);
        unsigned num = 1u << shift % 7;
        bool sane;
        uint16_t used = fuzz_u16(&in), avail = fuzz_u16(&in);
        struct vq_layout at = { num, GUEST_USER + DESC, GUEST_USER + AVAIL, GUEST_USER + USED };

        if (shift & 0x80) {
                test_packed(&in, 1 + shift % NUM_MAX, used | (uint32_t)avail << 16);
                err_clear();
                return 0;
        }
        at.record.len = HEAD_LEN * (2 + fuzz_u8(&in) % (NUM_MAX + 4));
        at.record.at = malloc(at.record.len);
        if (!at.record.at)
                return 0;
        fuzz_bytes(&in, at.record.at, at.record.len);
        guest_offers_all(num, used, avail);
        if (vq_start(&vq, mt, &at, 0) == 0) {
                serve(&vq);
                vq_finish(&vq);
                sane = (uint16_t)(avail - vq.split.used_idx) <= num; /* of fresh memory nothing was asked before */
                if (sane && (vq_start(&vq, mt, &at, 0) < 0 || vq.split.record->nresubmit))
                        fuzz_fail("our own record is not accepted: %s", err_text(-EBADMSG));
        }
        vq_finish(&vq);
        free(at.record.at);
        err_clear();
        return 0;
}
