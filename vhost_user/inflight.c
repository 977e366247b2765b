/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The layout and the steps are those of the vhost-user specification, "Inflight I/O tracking", split virtqueue.
 *
 * Invariants, at any instruction where this process may die:
 *   - A head whose flag is set was taken; it was given back only if it is in the last batch, and the used index that the
 *     guest sees is then ahead of the record's by the length of that batch.
 *   - Every taken head is marked before the next one is taken, so used index + heads in flight = entries taken.
 * A process that is killed has done every store that came before in the program, as long as the compiler keeps their
 * order: so each store here is a release store. No other thread looks while we run.
 */
#include "inflight.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bitmap.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "vhost_user/mem_guard.h"
#include "vhost_user/virtqueue.h"

#define VERSION 1 /* 0: fresh memory */

/* Native endian: the two processes run on one machine. */
#define INFLIGHT_HEAD \
        uint64_t features; \
        uint16_t version, desc_num, last_batch_head, used_idx;

struct entry {
        uint8_t inflight, padding[5];
        uint16_t next;
        uint64_t counter;
};
struct inflight_head {
        INFLIGHT_HEAD
};
struct inflight_split {
        INFLIGHT_HEAD
        struct entry desc[];
};
_Static_assert(sizeof(struct inflight_split) == 16 && sizeof(struct inflight_head) == 16 && sizeof(struct entry) == 16,
               "as the specification draws it");

#define PART_ALIGN 64 /* a queue's part begins on a cache line of its own */
#define PART_LEN ((sizeof(struct inflight_split) + VQ_MAX_SIZE * sizeof(struct entry) + PART_ALIGN - 1) & ~(PART_ALIGN - 1ul))

/* --- the memory ------------------------------------------------------------------------------------------------- */

struct inflight_map {
        char *host;
        size_t len, stride;
        unsigned nqueues;
        int guard;
};

int inflight_memfd(unsigned nqueues, uint64_t *len)
{
        AUTO(closep) int fd = memfd_create("vdiskd-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        *len = nqueues * PART_LEN;
        if (fd < 0 || ftruncate(fd, (off_t)*len) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return err_note(-errno, "no memory for the in-flight record of %u queues: %m", nqueues);
        return TAKE(fd, -1);
}

static int check_map(int fd, uint64_t offset, uint64_t len, unsigned nqueues)
{
        uint64_t stride = nqueues ? len / nqueues : 0, page = (uint64_t)sysconf(_SC_PAGESIZE);
        struct stat st;

        if (stride < sizeof(struct inflight_split) + sizeof(struct entry) || stride > PART_LEN || len % nqueues ||
            stride % sizeof(uint64_t))
                return err_note(-EINVAL, "an in-flight record of %llu bytes for %u queues; ours has %zu for each",
                                (unsigned long long)len, nqueues, PART_LEN);
        if (offset % page)
                return err_note(-EINVAL, "an in-flight record at offset %llu; it must begin on a page",
                                (unsigned long long)offset);
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!range_fits(offset, len, (uint64_t)st.st_size))
                return err_note(-EFBIG, "an in-flight record of %llu bytes at %llu in a file of %lld",
                                (unsigned long long)len, (unsigned long long)offset, (long long)st.st_size);
        return 0;
}

int inflight_map_new(int fd, uint64_t offset, uint64_t len, unsigned nqueues, struct inflight_map **ret)
{
        struct inflight_map *m;
        int r = check_map(fd, offset, len, nqueues);

        if (r < 0)
                return r;
        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        *m = (struct inflight_map){ .len = len, .stride = len / nqueues, .nqueues = nqueues, .guard = -1 };
        m->host = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
        if (m->host == MAP_FAILED) {
                r = err_note(-errno, "cannot map the in-flight record: %m");
                m->host = NULL;
        } else {
                r = m->guard = guard_add(m->host, len, (size_t)sysconf(_SC_PAGESIZE));
        }
        if (r < 0) {
                inflight_map_free(m);
                return r;
        }
        *ret = m;
        return 0;
}

void inflight_map_free(struct inflight_map *m)
{
        if (!m)
                return;
        guard_del(m->guard);
        if (m->host)
                munmap(m->host, m->len);
        free(m);
}

struct inflight_part inflight_part(const struct inflight_map *m, unsigned index)
{
        if (!m || index >= m->nqueues)
                return (struct inflight_part){ 0 };
        return (struct inflight_part){ m->host + index * m->stride, m->stride };
}

bool inflight_broken(const struct inflight_map *m)
{
        return m && guard_was_hit(m->guard);
}

/* --- reading a record back ---------------------------------------------------------------------------------------- */

/* Our copy of one, to be judged. */
struct copy {
        struct inflight_head head;
        struct entry desc[VQ_MAX_SIZE];
};

static int damaged(const char *what, unsigned value)
{
        return err_note(-EBADMSG, "the in-flight record is damaged: %s (%u); only a reset of the device helps", what,
                        value);
}

/* The last batch was shown to the guest, but perhaps not yet taken off the record. */
static int finish_last_batch(struct copy *c, unsigned num, uint16_t used_idx)
{
        unsigned long seen[BITMAP_WORDS(VQ_MAX_SIZE)] = { 0 };
        unsigned left = (uint16_t)(used_idx - c->head.used_idx), head = c->head.last_batch_head;

        if (left > num)
                return damaged("the used index has moved by more than the ring holds", left);
        for (; left; left--) {
                if (head >= num)
                        return damaged("a head beyond the ring in its last batch", head);
                if (bitmap_test_and_set(seen, head))
                        return damaged("a head twice in its last batch", head);
                c->desc[head].inflight = 0;
                head = c->desc[head].next;
        }
        return 0;
}

static int by_counter(const void *a, const void *b, void *copy)
{
        const struct entry *desc = copy;
        uint64_t x = desc[*(const uint16_t *)a].counter, y = desc[*(const uint16_t *)b].counter;

        return (x > y) - (x < y);
}

static int collect(struct inflight *f, struct copy *c, unsigned nentries)
{
        for (unsigned i = 0; i < nentries; i++) {
                if (c->desc[i].inflight > 1)
                        return damaged("a flag that is neither 0 nor 1", c->desc[i].inflight);
                if (c->desc[i].inflight && i >= f->num)
                        return damaged("a head beyond the ring in flight", i);
                if (c->desc[i].inflight)
                        f->resubmit[f->nresubmit++] = (uint16_t)i;
        }
        if (f->nresubmit && c->head.desc_num != f->num)
                return damaged("requests in flight in a ring of another size", c->head.desc_num);
        qsort_r(f->resubmit, f->nresubmit, sizeof(f->resubmit[0]), by_counter, c->desc);
        for (unsigned i = 0; i < f->nresubmit; i++) {
                uint64_t counter = c->desc[f->resubmit[i]].counter;

                if (counter == UINT64_MAX || (i && counter < f->counter))
                        return damaged("a counter twice, or at its end", f->resubmit[i]);
                f->counter = counter + 1;
        }
        return 0;
}

/* Bring the shared record to what the copy says after repair; the flags first, as after any batch. */
static void write_back(struct inflight *f, const struct copy *c, unsigned nentries, uint16_t used_idx)
{
        for (unsigned i = 0; i < nentries; i++)
                __atomic_store_n(&f->shared->desc[i].inflight, c->desc[i].inflight, __ATOMIC_RELEASE);
        __atomic_store_n(&f->shared->used_idx, used_idx, __ATOMIC_RELEASE);
        __atomic_store_n(&f->shared->desc_num, (uint16_t)f->num, __ATOMIC_RELEASE);
        __atomic_store_n(&f->shared->features, 0, __ATOMIC_RELEASE);
        __atomic_store_n(&f->shared->version, VERSION, __ATOMIC_RELEASE);
}

static int judge(struct inflight *f, struct copy *c, unsigned nentries, uint16_t used_idx)
{
        int r;

        if (c->head.version != VERSION || c->head.features)
                return damaged("a version that we do not know", c->head.version);
        r = finish_last_batch(c, f->num, used_idx);
        return r < 0 ? r : collect(f, c, nentries);
}

int inflight_load(struct inflight_part part, unsigned num, uint16_t used_idx, bool *fresh, struct inflight **ret)
{
        unsigned nentries = (unsigned)((part.len - sizeof(struct inflight_split)) / sizeof(struct entry));
        AUTO(freep) struct copy *c = calloc(1, sizeof(*c));
        AUTO(freep) struct inflight *f = calloc(1, sizeof(*f) + 2 * num * sizeof(uint16_t));
        int r;

        if (!c || !f)
                return -ENOMEM;
        if (nentries > VQ_MAX_SIZE)
                nentries = VQ_MAX_SIZE;
        if (num > nentries)
                return err_note(-EBADMSG, "the in-flight record has room for %u entries; the ring has %u", nentries, num);
        f->shared = part.at;
        f->num = num;
        f->batch = f->resubmit + num;
        memcpy(&c->head, part.at, sizeof(c->head));
        memcpy(c->desc, f->shared->desc, nentries * sizeof(c->desc[0]));
        *fresh = !c->head.version;
        if (*fresh)
                memset(c, 0, sizeof(*c));
        r = *fresh ? 0 : judge(f, c, nentries, used_idx);
        if (r < 0)
                return r;
        write_back(f, c, nentries, used_idx);
        *ret = TAKE(f, NULL);
        return 0;
}

void inflight_free(struct inflight *f)
{
        free(f);
}

bool inflight_next(struct inflight *f, uint16_t *head)
{
        if (f->resubmitted == f->nresubmit)
                return false;
        *head = f->resubmit[f->resubmitted++];
        return true;
}

/* --- the common road ---------------------------------------------------------------------------------------------- */

void inflight_take(struct inflight *f, uint16_t head)
{
        struct entry *e = &f->shared->desc[head];

        __atomic_store_n(&e->counter, f->counter++, __ATOMIC_RELEASE);
        __atomic_store_n(&e->inflight, 1, __ATOMIC_RELEASE);
}

void inflight_give_back(struct inflight *f, uint16_t head)
{
        /* A guest that offers a head again before it was shown as used may fill the batch; it hurts its own record only. */
        if (f->nbatch == f->num)
                return;
        __atomic_store_n(&f->shared->desc[head].next, f->last_head, __ATOMIC_RELEASE);
        __atomic_store_n(&f->shared->last_batch_head, head, __ATOMIC_RELEASE);
        f->last_head = f->batch[f->nbatch++] = head;
}

void inflight_published(struct inflight *f, uint16_t used_idx)
{
        for (unsigned i = 0; i < f->nbatch; i++)
                __atomic_store_n(&f->shared->desc[f->batch[i]].inflight, 0, __ATOMIC_RELEASE);
        __atomic_store_n(&f->shared->used_idx, used_idx, __ATOMIC_RELEASE);
        f->nbatch = 0;
}
