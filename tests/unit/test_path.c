/* SPDX-License-Identifier: BSD-3-Clause */
/* Where names in images may lead: a small tree of directories, and names from inside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/path.h"

static char root[] = "/tmp/test_path.XXXXXX";

static void make_file(const char *name)
{
        int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, name, strlen(name)), (ssize_t)strlen(name));
        close(fd);
}

/*
 * images/top, images/base, images/sub/base; bases/base, bases/deep/base; other/base; "bases2" begins like "bases" and is not
 * below it.
 */
static int make_tree(void **state)
{
        static const char *const dirs[] = { "images", "images/sub", "bases", "bases/deep", "bases2", "other" };
        static const char *const files[] = { "images/top", "images/base", "images/sub/base", "bases/base", "bases/deep/base",
                                             "bases2/base", "other/base" };

        (void)state;
        if (!mkdtemp(root) || chdir(root) < 0)
                return -1;
        for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
                if (mkdir(dirs[i], 0700) < 0)
                        return -1;
        for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                make_file(files[i]);
        if (symlink("../bases/base", "images/to-bases") < 0 || symlink("../other/base", "images/to-other") < 0 ||
            symlink("sub/base", "images/to-sub") < 0 || symlink("/dev/null", "images/to-null") < 0 ||
            symlink("images", "linked") < 0 || mkfifo("images/fifo", 0600) < 0)
                return -1;
        return 0;
}

static int remove_tree(void **state)
{
        char command[64];

        (void)state;
        snprintf(command, sizeof(command), "rm -rf %s", root);
        return chdir("/") < 0 || system(command) != 0 ? -1 : 0;
}

struct row {
        const char *image, *name; /* both below the root */
        int res;                  /* 0: opens */
};

static void look(const struct row *rows, size_t n)
{
        for (size_t i = 0; i < n; i++)
                for (int absolute = 0; absolute < 2; absolute++) {
                        char image[128], name[128];
                        int fd;

                        err_clear();
                        snprintf(image, sizeof(image), "%s%s%s", absolute ? root : "", absolute ? "/" : "", rows[i].image);
                        snprintf(name, sizeof(name), "%s%s%s", absolute ? root : "", absolute ? "/" : "", rows[i].name);
                        fd = path_open_allowed(image, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
                        if ((fd < 0 ? fd : 0) != rows[i].res)
                                fail_msg("%s in %s: %d (%s), not %d", name, image, fd, fd < 0 ? err_text(fd) : "open", rows[i].res);
                        if (fd >= 0)
                                close(fd);
                        else
                                assert_non_null(strstr(err_text(fd), name));
                }
}

static const struct row own_only[] = {
        { "images/top", "images/base", 0 },
        { "images/top", "images/sub/base", 0 },
        { "images/top", "images/sub/../base", 0 },
        { "images/top", "images/to-sub", 0 },
        { "linked/top", "linked/base", 0 },
        { "linked/top", "images/base", 0 },
        { "images/sub/base", "images/base", -EPERM }, /* above it */
        { "images/top", "bases/base", -EPERM },
        { "images/top", "images/../bases/base", -EPERM },
        { "images/top", "images/to-bases", -EPERM },
        { "images/top", "images/to-other", -EPERM },
        { "images/top", "images/to-null", -EPERM },
        { "images/top", "images/fifo", -EPERM },
        { "images/top", "images/sub", -EPERM },
        { "images/top", "images", -EPERM },
        { "images/top", "images/none", -ENOENT },
        { "none/top", "images/base", -ENOENT },
};

static void test_own_directory(void **state)
{
        int fd;

        (void)state;
        path_confine();
        look(own_only, ARRAY_SIZE(own_only));
        err_clear();
        fd = path_open_allowed("images/top", "/dev/null", O_RDONLY);
        assert_int_equal(fd, -EPERM);
        assert_non_null(strstr(err_text(fd), "--allow-dir=DIR"));
        err_clear();
        path_allow_finish();
}

static const struct row with_bases[] = {
        { "images/top", "images/base", 0 },
        { "images/top", "bases/base", 0 },
        { "images/top", "bases/deep/base", 0 },
        { "images/top", "images/to-bases", 0 },
        { "images/top", "bases2/base", -EPERM },
        { "images/top", "other/base", -EPERM },
        { "images/top", "bases/../other/base", -EPERM },
        { "images/top", "images/to-other", -EPERM },
};

static void test_allowed_directories(void **state)
{
        (void)state;
        path_confine();
        assert_int_equal(path_allow("bases"), 0);
        look(with_bases, ARRAY_SIZE(with_bases));
        assert_int_equal(path_allow("other/"), 0);
        look(&(struct row){ "images/top", "images/to-other", 0 }, 1);
        path_allow_finish();
}

static void test_what_is_no_directory(void **state)
{
        (void)state;
        assert_int_equal(path_allow("nowhere"), -ENOENT);
        assert_non_null(strstr(err_text(-ENOENT), "nowhere"));
        err_clear();
        assert_int_equal(path_allow("images/top"), -ENOTDIR);
        assert_non_null(strstr(err_text(-ENOTDIR), "images/top"));
        err_clear();
}

/* The root allows all regular files; tools are not confined at all. */
static void test_everywhere(void **state)
{
        int fd;

        (void)state;
        path_confine();
        assert_int_equal(path_allow("/"), 0);
        look(&(struct row){ "images/top", "other/base", 0 }, 1);
        path_allow_finish();
        fd = path_open_allowed("images/top", "/dev/null", O_RDONLY);
        assert_true(fd >= 0);
        close(fd);
}

/* Somebody exchanges a directory for a link while we look: what opens is never outside. */
static void test_races(void **state)
{
        pid_t pid = fork();

        (void)state;
        assert_true(pid >= 0);
        if (pid == 0) {
                for (;;)
                        if (rename("images/sub", "images/away") < 0 || symlink("../other", "images/sub") < 0 ||
                            unlink("images/sub") < 0 || rename("images/away", "images/sub") < 0)
                                _exit(1);
        }
        path_confine();
        for (unsigned i = 0; i < 3000; i++) {
                int fd = path_open_allowed("images/top", "images/sub/base", O_RDONLY | O_CLOEXEC);
                char text[32] = "";

                err_clear();
                if (fd < 0)
                        continue;
                assert_true(read(fd, text, sizeof(text) - 1) > 0);
                assert_string_equal(text, "images/sub/base");
                close(fd);
        }
        path_allow_finish();
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        unlink("images/sub");
        rename("images/away", "images/sub");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_own_directory),
                cmocka_unit_test(test_allowed_directories),
                cmocka_unit_test(test_what_is_no_directory),
                cmocka_unit_test(test_everywhere),
                cmocka_unit_test(test_races),
        };

        return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
