/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A front end that holds up a thread of the daemon with an eventfd of its own: it fills it, and makes it blocking when the daemon, or the
 * kernel for the daemon, has just seen that it is not. A neighbour on the same queue thread, with verified load, goes on; the culprit is
 * hung up on and not let in again, not even by a daemon that takes over.
 *
 *     e2e_bell            the moment is made sure of by a fault point: the daemon writes as if it had seen O_NONBLOCK
 *     e2e_bell SECONDS    the race in earnest, again and again: how often is it won, and what does the neighbour notice?
 *
 * E2E_ENGINE: io_uring or threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "back_end.h"
#include "bystander.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/range.h"

#define DISK_LEN (64ull << 20)
#define NUNITS (DISK_LEN / WORKER_UNIT)
#define NQUEUES 4
#define CULPRIT 0
#define NEIGHBOUR 1

static struct back_end be;
static struct bystander neighbour;

#define must(r) do { int must_r_ = (r); if (must_r_ < 0) fail_msg("%s: %s", #r, err_text(must_r_)); } while (0)

/* The daemon may write to it at any moment. */
static void fill(int fd)
{
        const uint64_t full = UINT64_MAX - 1;
        uint64_t n;

        while (write(fd, &full, sizeof(full)) != sizeof(full))
                if (read(fd, &n, sizeof(n)) < 0)
                        assert_int_equal(errno, EAGAIN);
}

static struct front_end *open_culprit(void)
{
        struct front_end *fe = NULL;

        must(be_open(&be, CULPRIT, (struct fe_opts){ .num_queues = NQUEUES, .features_off = FE_F_EVENT_IDX }, &fe));
        for (unsigned i = 0; i < NQUEUES; i++) {
                fe_queue_ring(fe_queue(fe, i))->avail->flags = 0; /* ring with each answer, it says */
                fill(fe_queue_ring(fe_queue(fe, i))->call_fd);
        }
        return fe;
}

static void start(const char *fault)
{
        struct be_disk disks[] = { { .format = "raw", .size = DISK_LEN }, { .format = "qcow2", .size = DISK_LEN } };

        if (fault)
                setenv("VDISKD_FAULT", fault, 1);
        must(be_adopt_orphans());
        must(be_new(&be, disks, ARRAY_SIZE(disks)));
        must(bystander_start(&neighbour, &be, NEIGHBOUR, NUNITS, (uint64_t)getpid()));
}

static void end(void)
{
        must(bystander_end(&neighbour, &be));
}

/* Who knocks waits in the backlog. A slow daemon cannot fail this; one that answers does. */
static void check_not_let_in(void)
{
        struct fe_msg m = { .request = FE_GET_FEATURES, .flags = FE_VERSION };
        int sock = fe_wire_connect(be.disks[CULPRIT].socket);

        must(sock);
        assert_int_equal(fe_wire_call(sock, &m, NULL, 0, 300), -ETIMEDOUT);
        err_clear();
        close(sock);
}

static void test_sleep_is_ended(void **state)
{
        struct front_end *fe;
        struct fe_io io[NQUEUES];

        start("engine.notify=1:EIO:forever");
        fe = open_culprit();
        for (unsigned i = 0; i < NQUEUES; i++) {
                int fd = fe_queue_ring(fe_queue(fe, i))->call_fd;

                assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
                io[i] = (struct fe_io){ .type = FE_READ, .len = 4096, .gpa = fe_gpa(fe, fe_alloc(fe, 4096, 4096)) };
                must(fe_submit(fe_queue(fe, i), &io[i]));
                fe_kick(fe_queue(fe, i));
        }
        assert_int_equal(fe_alive(fe, 60000), -ECONNRESET);
        err_clear();
        must(worker_wait(&neighbour.worker, 50));
        fe_close(fe);
        check_not_let_in();
        must(be_upgrade(&be, NULL));
        must(worker_wait(&neighbour.worker, 50));
        check_not_let_in();
        end();
}

/* --- in earnest --------------------------------------------------------------------------------------------------- */

struct attacker {
        int fd;
        atomic_bool stop;
        pthread_t thread;
};

static void *change_flag(void *arg)
{
        struct attacker *a = arg;

        while (!a->stop) {
                fcntl(a->fd, F_SETFL, 0);
                fcntl(a->fd, F_SETFL, O_NONBLOCK);
        }
        return NULL;
}

/* Asks for calls until it is hung up on, or @deadline. */
static bool attack(struct front_end *fe, uint64_t deadline)
{
        struct fe_io io = { .type = FE_READ, .len = 4096, .gpa = fe_gpa(fe, fe_alloc(fe, 4096, 4096)) }, *done;
        struct attacker a = { .fd = fe_queue_ring(fe_queue(fe, 0))->call_fd };
        bool met = false;

        assert_int_equal(pthread_create(&a.thread, NULL, change_flag, &a), 0);
        while (!met && clock_ns() < deadline) {
                must(fe_submit(fe_queue(fe, 0), &io));
                fe_kick(fe_queue(fe, 0));
                while (!met && !fe_reap(fe_queue(fe, 0), &done, 1)) {
                        met = fe_alive(fe, 0) < 0;
                        err_clear();
                }
        }
        a.stop = true;
        pthread_join(a.thread, NULL);
        return met;
}

static void race(uint64_t ns)
{
        uint64_t deadline = clock_ns() + ns, worst = 0;
        unsigned met = 0;

        while (clock_ns() < deadline) {
                struct front_end *fe;

                start(NULL);
                must(worker_wait(&neighbour.worker, 100));
                fe = open_culprit();
                neighbour.worker.longest_ns = 0;
                met += attack(fe, deadline);
                must(worker_wait(&neighbour.worker, 100));
                worst = max_u64(worst, neighbour.worker.longest_ns);
                fe_close(fe);
                end();
        }
        printf("met %u times; the neighbour's longest time without an answer: %.0f ms\n", met, (double)worst / 1e6);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_sleep_is_ended) };

        if (argc == 2) {
                race(strtoull(argv[1], NULL, 10) * NS_PER_SEC);
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
