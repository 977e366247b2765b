/* SPDX-License-Identifier: BSD-3-Clause */
/* Whose work is done next: whatever somebody gives to the workers, others' work does not wait behind it. Times play no part. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "blkq/workers.h"
#include "common/cleanup.h"
#include "common/clock.h"

/* Says that it runs, and ends when it may. */
struct step {
        struct work work;
        sem_t may_end;
        char name;
        uint64_t spins_ns;
};

static sem_t began, ended;
static char order[256]; /* names of the steps, as they began */
static atomic_uint norder;

static void run_step(struct work *w)
{
        struct step *s = container_of(w, struct step, work);
        uint64_t until = clock_ns() + s->spins_ns;

        order[norder++] = s->name;
        sem_post(&began);
        while (clock_ns() < until)
                continue;
        sem_wait(&s->may_end);
        sem_post(&ended); /* the test may be over, and @s gone */
}

static void give(struct work_owner *o, struct step *s, char name)
{
        *s = (struct step){ .work.run = run_step, .name = name };
        sem_init(&s->may_end, 0, 0);
        list_init(&s->work.link);
        assert_int_equal(workers_run_for(o, &s->work), 0);
}

static void wait_for(sem_t *what, unsigned n)
{
        while (n--) {
                struct timespec at;

                clock_gettime(CLOCK_REALTIME, &at);
                at.tv_sec += 60; /* a hang */
                if (sem_timedwait(what, &at) < 0)
                        fail_msg("no worker came: %s began", order);
        }
}

static void let_end(struct step *s, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                sem_post(&s[i].may_end);
        wait_for(&ended, n);
}

static int begin(void **state)
{
        (void)state;
        workers_hold();
        memset(order, 0, sizeof(order));
        norder = 0;
        return sem_init(&began, 0, 0) < 0 || sem_init(&ended, 0, 0) < 0 ? -1 : 0;
}

static int end(void **state)
{
        (void)state;
        workers_release();
        return 0;
}

/* One owner gives more than there are workers, and none of it ends. */
static void test_nobody_has_all(void **state)
{
        struct work_owner *greedy = work_owner_new(), *other = work_owner_new();
        unsigned most = workers_most();
        struct step steps[40], one, more;

        (void)state;
        assert_in_range(most, 3, 39);
        for (unsigned i = 0; i < ARRAY_SIZE(steps); i++)
                give(greedy, &steps[i], 'g');
        wait_for(&began, most - 1);
        give(other, &one, 'o');
        wait_for(&began, 1);
        let_end(&one, 1);
        give(NULL, &more, 'n'); /* nobody's, too */
        wait_for(&began, 1);
        let_end(&more, 1);
        assert_int_equal(norder, most + 1); /* and nothing more of the greedy one's meanwhile */
        let_end(steps, ARRAY_SIZE(steps));
        work_owner_free(greedy);
        work_owner_free(other);
}

/* All workers are busy for two. @first's are the first most - 1 of @steps. */
static void keep_all(struct work_owner *first, struct work_owner *second, struct step *steps)
{
        unsigned most = workers_most();

        for (unsigned i = 0; i < most; i++) {
                give(i < most - 1 ? first : second, &steps[i], '-');
                wait_for(&began, 1);
        }
        norder = 0;
}

static void test_who_has_fewer_is_next(void **state)
{
        struct work_owner *a = work_owner_new(), *b = work_owner_new(), *x = work_owner_new(), *y = work_owner_new();
        unsigned most = workers_most();
        struct step gates[40], of_a[3], of_b;

        (void)state;
        keep_all(x, y, gates);
        for (unsigned i = 0; i < ARRAY_SIZE(of_a); i++)
                give(a, &of_a[i], 'a');
        give(b, &of_b, 'b');
        let_end(gates, 1);
        wait_for(&began, 1); /* nobody had anything, so who came first */
        let_end(gates + 1, 1);
        wait_for(&began, 1); /* who has none, though the other one came before */
        assert_string_equal((order[norder] = 0, order), "ab");
        let_end(gates + 2, most - 2);
        let_end(of_a, ARRAY_SIZE(of_a));
        let_end(&of_b, 1);
        work_owner_free(a);
        work_owner_free(b);
        work_owner_free(x);
        work_owner_free(y);
}

static void test_who_had_less_time_is_next(void **state)
{
        struct work_owner *a = work_owner_new(), *b = work_owner_new(), *x = work_owner_new(), *y = work_owner_new();
        struct work_owner *z = work_owner_new();
        unsigned most = workers_most();
        struct step gates[40], long_one, of_z, of_a, of_b;

        (void)state;
        keep_all(x, y, gates);
        let_end(gates, 1);
        long_one = (struct step){ .work.run = run_step, .name = 'l', .spins_ns = NS_PER_MS };
        sem_init(&long_one.may_end, 0, 1);
        assert_int_equal(workers_run_for(a, &long_one.work), 0);
        wait_for(&began, 1);
        wait_for(&ended, 1);
        give(z, &of_z, 'z');
        wait_for(&began, 1); /* by the same worker, so what it did for a counts by now */
        norder = 0;
        give(a, &of_a, 'a');
        give(b, &of_b, 'b');
        let_end(gates + 1, 1);
        wait_for(&began, 1);
        assert_int_equal(order[0], 'b');
        let_end(&of_z, 1);
        let_end(gates + 2, most - 2);
        let_end(&of_a, 1);
        let_end(&of_b, 1);
        work_owner_free(a);
        work_owner_free(b);
        work_owner_free(x);
        work_owner_free(y);
        work_owner_free(z);
}

/* The last work of an owner ends, and the one who waits for it frees the owner at once. */
static void test_owner_goes_at_once(void **state)
{
        (void)state;
        for (unsigned i = 0; i < 200; i++) {
                struct work_owner *o = work_owner_new();
                struct step s;

                give(o, &s, '.');
                norder = 0;
                let_end(&s, 1);
                work_owner_free(o);
        }
        work_owner_free(NULL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_nobody_has_all, begin, end),
                cmocka_unit_test_setup_teardown(test_who_has_fewer_is_next, begin, end),
                cmocka_unit_test_setup_teardown(test_who_had_less_time_is_next, begin, end),
                cmocka_unit_test_setup_teardown(test_owner_goes_at_once, begin, end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
