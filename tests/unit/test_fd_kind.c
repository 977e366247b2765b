/* SPDX-License-Identifier: BSD-3-Clause */
/* What a stranger's descriptor is. (Of a file system that does not answer: tests/e2e/test_mute.) */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "common/fd_kind.h"

static void check(const char *what, int fd, enum fd_kind kind)
{
        enum fd_kind is;

        if (fd < 0)
                return; /* not on this machine */
        is = fd_kind(fd);
        if (is != kind)
                fail_msg("%s: kind %d, not %d", what, is, kind);
        close(fd);
}

static void test_kinds(void **state)
{
        int pipes[2], pair[2];

        check("memfd", memfd_create("m", MFD_CLOEXEC), FD_MEMORY);
        check("memfd without seals", memfd_create("m", MFD_CLOEXEC | MFD_ALLOW_SEALING), FD_MEMORY);
        check("huge pages", memfd_create("m", MFD_CLOEXEC | MFD_HUGETLB), FD_MEMORY);
        check("eventfd", eventfd(0, EFD_CLOEXEC), FD_EVENTFD);
        check("epoll", epoll_create1(EPOLL_CLOEXEC), FD_OTHER);
        check("timer", timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), FD_OTHER);
        check("TCP", socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), FD_OTHER); /* its close may linger */
        check("Unix socket", socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), FD_SOCKET);
        check("directory", open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), FD_OTHER);
        check("character device", open("/dev/null", O_RDWR | O_CLOEXEC), FD_OTHER);
        check("proc", open("/proc/self/maps", O_RDONLY | O_CLOEXEC), FD_OTHER);
        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        check("pipe", pipes[0], FD_PIPE);
        check("pipe", pipes[1], FD_PIPE);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        check("socketpair", pair[0], FD_SOCKET);
        check("socketpair", pair[1], FD_SOCKET);
}

/* What the kernel says of its file system, by a road that fd_kind() must not take, and ours. */
static void test_shared_memory_and_disk(void **state)
{
        static const char *const dirs[] = { "/dev/shm", "/tmp", "/var/tmp", "." };

        for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
                char path[64], shown[96];
                int fd;
                enum fd_kind is;

                snprintf(path, sizeof(path), "%s/test_fd_kind.XXXXXX", dirs[i]);
                fd = mkstemp(path);
                if (fd < 0)
                        continue;
                is = fd_kind(fd);
                assert_non_null(strstr(fd_shown(fd, shown, sizeof(shown)), "test_fd_kind."));
                unlink(path);
                if (fcntl(fd, F_GET_SEALS) >= 0)
                        assert_int_equal(is, FD_MEMORY);
                else
                        assert_true(is == FD_DISK || is == FD_OTHER); /* overlay, perhaps */
                assert_int_equal(fd_kind(fd), is); /* its name does not matter */
                print_message("%s: %s\n", dirs[i], is == FD_MEMORY ? "memory" : is == FD_DISK ? "disk" : "other");
                close(fd);
        }
}

static void test_names_prove_nothing(void **state)
{
        char dir[] = "/tmp/test_fd_kind.XXXXXX", path[96];
        int fd;

        assert_non_null(mkdtemp(dir));
        snprintf(path, sizeof(path), "%s/anon_inode:[eventfd]", dir);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_not_equal(fd_kind(fd), FD_EVENTFD);
        close(fd);
        unlink(path);
        snprintf(path, sizeof(path), "%s/pipe:[1]", dir);
        assert_int_equal(mkfifo(path, 0600), 0);
        fd = open(path, O_RDWR | O_CLOEXEC);
        assert_int_equal(fd_kind(fd), FD_OTHER); /* its file system has a say */
        close(fd);
        unlink(path);
        rmdir(dir);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_kinds),
                cmocka_unit_test(test_shared_memory_and_disk),
                cmocka_unit_test(test_names_prove_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
