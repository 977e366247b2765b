/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The in-flight record of a split ring when its writer is killed at any instruction: a child serves requests and is stepped
 * through, one machine instruction at a time; whenever the record has changed, a copy of it is taken up as the next daemon
 * would. What is in flight must be exactly what was taken and not yet shown as used.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/err.h"
#include "vhost_user/ring/inflight_split.h"

#define NUM 8u
#define RECORD_LEN 4096u
#define ROUNDS 6u

/* What both processes see. */
static struct shared {
        uint16_t used_idx;  /* as the guest is shown it */
        uint32_t taken;     /* heads, one bit each, once they are on the record for sure */
        uint32_t maybe;     /* being taken: on the record or not */
        uint32_t batch;     /* given back, not yet shown */
        uint16_t shown_idx; /* the used index that shows them all */
        char record[RECORD_LEN] __attribute__((aligned(64)));
} *sh;

#define SET(field, value) __atomic_store_n(&sh->field, value, __ATOMIC_SEQ_CST)

/* --- the child ------------------------------------------------------------------------------------------------------------ */

static void take(struct inflight_split *f, uint16_t head)
{
        SET(maybe, 1u << head);
        inflight_split_take(f, head);
        SET(taken, sh->taken | 1u << head);
        SET(maybe, 0);
}

static void answer(struct inflight_split *f, const uint16_t *head, unsigned n)
{
        uint32_t batch = 0;

        for (unsigned i = 0; i < n; i++) {
                inflight_split_give_back(f, head[i]);
                batch |= 1u << head[i];
        }
        SET(shown_idx, (uint16_t)(sh->used_idx + n));
        SET(batch, batch);
        SET(used_idx, sh->shown_idx);
        inflight_split_published(f, sh->used_idx);
        SET(taken, sh->taken & ~batch);
        SET(batch, 0);
}

static void serve(void)
{
        struct inflight_part part = { sh->record, RECORD_LEN };
        struct inflight_split *f;
        bool fresh;

        if (inflight_split_load(part, NUM, 0, &fresh, &f) < 0)
                _exit(1);
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        for (uint16_t round = 0; round < ROUNDS; round++) {
                uint16_t heads[3] = { round % NUM, (uint16_t)(round + 3) % NUM, (uint16_t)(round + 5) % NUM };

                for (unsigned i = 0; i < 3; i++)
                        take(f, heads[i]);
                answer(f, heads, 1 + round % 2);
                answer(f, heads + 1 + round % 2, 2 - round % 2);
        }
        _exit(0);
}

/* --- the next daemon -------------------------------------------------------------------------------------------------------- */

static void take_up(unsigned long step)
{
        char copy[RECORD_LEN] __attribute__((aligned(64)));
        struct inflight_split *f;
        uint32_t is = 0, must = sh->taken, may;
        uint16_t head;
        bool fresh;

        if (sh->batch && sh->used_idx == sh->shown_idx)
                must &= ~sh->batch; /* the guest has seen them answered */
        may = must | sh->maybe;
        memcpy(copy, sh->record, RECORD_LEN);
        if (inflight_split_load((struct inflight_part){ copy, RECORD_LEN }, NUM, sh->used_idx, &fresh, &f) < 0)
                fail_msg("killed after %lu instructions: %s", step, err_text(-EBADMSG));
        while (inflight_split_next(f, &head))
                is |= 1u << head;
        inflight_split_free(f);
        if ((is & must) != must || is & ~may)
                fail_msg("killed after %lu instructions: heads 0x%x in flight, should be 0x%x", step, is, must);
}

static void test_killed_at_any_instruction(void **state)
{
        struct shared before;
        unsigned long step = 0, looked = 0;
        pid_t pid;
        int st;

        (void)state;
        sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(sh, MAP_FAILED);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                serve();
        memset(&before, 0xff, sizeof(before));
        for (;; step++) {
                assert_int_equal(waitpid(pid, &st, 0), pid);
                if (WIFEXITED(st))
                        break;
                if (!WIFSTOPPED(st))
                        fail_msg("the child ended with wait status 0x%x", (unsigned)st);
                if (memcmp(&before, sh, sizeof(before))) {
                        memcpy(&before, sh, sizeof(before));
                        take_up(step);
                        looked++;
                }
                if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0)
                        skip(); /* not allowed here */
        }
        assert_int_equal(WEXITSTATUS(st), 0);
        print_message("%lu instructions, %lu states\n", step, looked);
        assert_true(looked > 100);
        munmap(sh, sizeof(*sh));
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_killed_at_any_instruction) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
