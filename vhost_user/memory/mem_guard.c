/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants:
 *   - A slot is published by its len (release) and taken back by len = 0, both under the lock; the handler takes none.
 *   - A mapping outlives every access to it, so the slot that the handler looks for cannot change under its eyes;
 *     others may, therefore it reads a slot twice.
 *   - The handler calls nothing but mmap(), which on Linux is a bare system call.
 */
#include "mem_guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>

#include "common/err.h"

#define SLOTS 8192

static struct guard_slot {
        atomic_uintptr_t addr;
        atomic_size_t len; /* 0: free */
        size_t page;
        atomic_bool hit;
} slots[SLOTS];
static unsigned left = SLOTS; /* under lock */
static atomic_uint slots_used; /* no slot at or above was ever used */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
atomic_uint guard_hits;

static struct guard_slot *find(uintptr_t at)
{
        unsigned used = atomic_load_explicit(&slots_used, memory_order_acquire);

        for (unsigned i = 0; i < used; i++) {
                struct guard_slot *s = &slots[i];
                size_t len = atomic_load_explicit(&s->len, memory_order_acquire); /* pairs with guard_add */
                uintptr_t addr = atomic_load(&s->addr);

                if (len && at >= addr && at - addr < len && len == atomic_load(&s->len))
                        return s;
        }
        return NULL;
}

static void on_sigbus(int sig, siginfo_t *si, void *context)
{
        uintptr_t at = (uintptr_t)si->si_addr;
        struct guard_slot *s = find(at);
        int saved = errno;

        if (!s || mmap((void *)(at & ~(s->page - 1)), s->page, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
                signal(SIGBUS, SIG_DFL); /* not a guest's doing: die of it when the instruction runs again */
                return;
        }
        atomic_store(&s->hit, true);
        atomic_fetch_add(&guard_hits, 1);
        errno = saved;
        (void)sig;
        (void)context;
}

int guard_install(void)
{
        struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_RESTART };

        sigemptyset(&sa.sa_mask);
        return sigaction(SIGBUS, &sa, NULL) < 0 ? -errno : 0;
}

int guard_add(void *addr, size_t len, size_t page)
{
        int r = -ENOSPC;

        pthread_mutex_lock(&lock);
        for (int i = 0; i < SLOTS; i++) {
                struct guard_slot *s = &slots[i];

                if (atomic_load(&s->len))
                        continue;
                atomic_store(&s->addr, (uintptr_t)addr);
                atomic_store(&s->hit, false);
                s->page = page;
                atomic_store_explicit(&s->len, len, memory_order_release); /* pairs with find */
                if ((unsigned)i >= atomic_load(&slots_used))
                        atomic_store_explicit(&slots_used, (unsigned)i + 1, memory_order_release);
                r = i;
                left--;
                break;
        }
        pthread_mutex_unlock(&lock);
        return r < 0 ? err_note(r, "all %d places for memory regions of guests are taken", SLOTS) : r;
}

void guard_del(int slot)
{
        if (slot < 0)
                return;
        pthread_mutex_lock(&lock);
        atomic_store(&slots[slot].len, 0);
        left++;
        pthread_mutex_unlock(&lock);
}

unsigned guard_left(void)
{
        unsigned n;

        pthread_mutex_lock(&lock);
        n = left;
        pthread_mutex_unlock(&lock);
        return n;
}

bool guard_was_hit(int slot)
{
        return slot >= 0 && atomic_load_explicit(&slots[slot].hit, memory_order_relaxed);
}
