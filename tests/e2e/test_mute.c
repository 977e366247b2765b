/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A front end whose memory is a file of a file system that it runs itself, and that does not answer. Whoever asks about such a file,
 * touches memory of it or closes it waits for ever, and cannot be interrupted. The daemon does none of that with a thread that others
 * need: a neighbour with verified load goes on, commands and other front ends are served, and who tries again is kept out.
 * What is unkind about it: when it is asked to, the file system waits for the daemon's threads, and so the daemon ends only after it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "back_end.h"
#include "bystander.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/fd_kind.h"
#include "tests/lib/mute_fs.h"

#define DISK_LEN (64ull << 20)
#define NUNITS (DISK_LEN / WORKER_UNIT)
#define CULPRIT 0
#define NEIGHBOUR 1
#define OTHER 2
#define RAM (1ull << 20)

static struct back_end be;
static struct bystander neighbour;
static char dir[] = "/tmp/vdiskd-mute-XXXXXX";
static int mute_fd = -1;

#define must(r) do { int must_r_ = (r); if (must_r_ < 0) fail_msg("%s: %s", #r, err_text(must_r_)); } while (0)

static void check_all_others(void)
{
        struct front_end *fe;
        struct fe_io io = { .type = FE_READ, .len = 4096 };

        must(worker_wait(&neighbour.worker, 20));
        must(be_open(&be, OTHER, (struct fe_opts){ 0 }, &fe)); /* the control thread's work */
        io.gpa = fe_gpa(fe, fe_alloc(fe, 4096, 4096));
        must(fe_do(fe_queue(fe, 0), &io, 60000));
        assert_int_equal(io.status, FE_OK);
        fe_close(fe);
}

/* Hung up on, with whatever message it comes. -ETIMEDOUT: nobody let us in. */
static int send_it(struct fe_msg *m)
{
        struct fe_msg hello = { .request = FE_GET_FEATURES, .flags = FE_VERSION };
        int sock = fe_wire_connect(be.disks[CULPRIT].socket), r;

        must(sock);
        r = fe_wire_call(sock, &hello, NULL, 0, 300);
        if (r == 0) {
                struct fe_msg owner = { .request = FE_SET_OWNER, .flags = FE_VERSION };

                must(fe_wire_send(sock, &owner, NULL, 0));
                must(fe_wire_send(sock, m, &mute_fd, 1));
                r = fe_wire_recv(sock, &hello, NULL, NULL, 60000);
        }
        err_clear();
        close(sock);
        return r;
}

static struct fe_msg memory_table(void)
{
        struct fe_msg m = { .request = FE_SET_MEM_TABLE, .flags = FE_VERSION, .size = 40 };
        const uint32_t n[2] = { 1 };
        const uint64_t region[4] = { 0, RAM, 0x10000000, 0 };

        memcpy(m.bytes, n, sizeof(n));
        memcpy(m.bytes + sizeof(n), region, sizeof(region));
        return m;
}

static void test_kinds(void **state)
{

        assert_int_equal(fd_kind(mute_fd), FD_OTHER);
        assert_int_equal(mute_fs_unanswered(), 0); /* nothing was asked */
}

static void test_memory_that_never_comes(void **state)
{
        struct fe_msg m = memory_table();

        assert_int_equal(send_it(&m), -ECONNRESET);
        check_all_others();
        while (!mute_fs_unanswered()) /* somebody of the daemon's closes it, and waits */
                usleep(1000);
        check_all_others();
}

/* Also with a message that has no use for a file. */
static void test_again_and_again(void **state)
{
        struct fe_msg m = { .request = FE_GET_QUEUE_NUM, .flags = FE_VERSION };
        unsigned times = 0;
        int r;

        while ((r = send_it(&m)) == -ECONNRESET) {
                times++;
                usleep(100000);
        }
        assert_int_equal(r, -ETIMEDOUT); /* the door is shut */
        print_message("let in %u times more\n", times);
        check_all_others();
}

static int start(void **state)
{
        struct be_disk disks[] = { { .format = "raw", .size = DISK_LEN }, { .format = "qcow2", .size = DISK_LEN },
                                   { .format = "raw", .size = DISK_LEN } };
        int r = be_new(&be, disks, ARRAY_SIZE(disks));

        if (r == 0)
                r = bystander_start(&neighbour, &be, NEIGHBOUR, NUNITS, (uint64_t)getpid());
        if (r < 0)
                print_error("%s\n", err_text(r));
        mute_fs_hush();
        return r;
}

static int stop(void **state)
{
        int r;

        mute_fs_end();
        closep(&mute_fd);
        rmdir(dir);
        r = bystander_end(&neighbour, &be);
        if (r < 0)
                print_error("%s\n", err_text(r));
        return r;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_kinds),
                cmocka_unit_test(test_memory_that_never_comes),
                cmocka_unit_test(test_again_and_again),
        };
        int r;

        if (!mkdtemp(dir))
                return 1;
        r = mute_fs_begin(dir, RAM, &mute_fd);
        if (r < 0) {
                printf("not here: %s\n", err_text(r));
                rmdir(dir);
                return 77;
        }
        return cmocka_run_group_tests(tests, start, stop);
}
