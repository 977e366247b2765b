/* SPDX-License-Identifier: BSD-3-Clause */
/* What a strict opener lets through, for a command line that names a disk, a secret, sockets, a directory. */
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
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/sandbox/opener_impl.h"

static char root[] = "/tmp/test_opener.XXXXXX";

static int make_tree(void **state)
{
        static const char *const dirs[] = { "images", "images/deep", "bases", "sockets", "conf", "conf/disks.d", "other", "state",
                                            "images2", "keys", "cmd", "cmdsock" };
        static const char *const files[] = { "images/a.img", "images/b.img", "bases/base.img", "conf/vdiskd.conf", "conf/disks.d/x.conf",
                                             "other/file", "keys/key", "keys/other", "images2/c.img", "cmd/a.img" };

        (void)state;
        if (!mkdtemp(root) || chdir(root) < 0)
                return -1;
        for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
                if (mkdir(dirs[i], 0700) < 0)
                        return -1;
        for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                close(open(files[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        return symlink("../other/file", "images/to-other") < 0 || symlink("../images/a.img", "other/to-image") < 0 ||
               symlink("../other", "images/to-dir") < 0 || symlink("../other/none", "images/to-none") < 0 ? -1 : 0;
}

static int remove_tree(void **state)
{
        char command[64];

        (void)state;
        snprintf(command, sizeof(command), "rm -rf %s", root);
        return chdir("/") < 0 || system(command) != 0 ? -1 : 0;
}

static const struct row {
        enum opener_op op;
        int how;
        const char *path;
        bool passes;
} rows[] = {
        { OPENER_OPEN, O_RDWR, "images/a.img", true },
        { OPENER_OPEN, O_RDWR, "images/b.img", true },
        { OPENER_OPEN, O_RDWR, "images/deep/../b.img", true },
        { OPENER_OPEN, O_RDWR | O_CREAT, "images/new.img", true },
        { OPENER_OPEN, O_RDWR | O_CREAT, "images/deep/new.img", true },
        { OPENER_OPEN, O_RDWR, "bases/base.img", true },
        { OPENER_OPEN, O_RDWR | O_CREAT, "state/1-2-3.maplog", true },
        { OPENER_OPEN, O_RDWR, "other/to-image", true }, /* it is the image */
        { OPENER_OPEN, O_RDONLY, "images2/c.img", false }, /* begins like "images" */
        { OPENER_OPEN, O_RDONLY, "other/file", false },
        { OPENER_OPEN, O_RDONLY, "images/to-other", false },
        { OPENER_OPEN, O_RDONLY, "images/to-dir/file", false },
        { OPENER_OPEN, O_RDWR | O_CREAT, "images/to-dir/new", false },
        { OPENER_OPEN, O_RDWR | O_CREAT, "images/to-none", false }, /* it would come to be elsewhere */
        { OPENER_OPEN, O_RDWR | O_CREAT, "images/a.img/b", false },
        { OPENER_OPEN, O_RDONLY, "images/../other/file", false },
        { OPENER_OPEN, O_RDWR, "cmd/a.img", true }, /* a command of the command line names it */
        { OPENER_OPEN, O_RDWR | O_CREAT, "cmd/a.img.new", true },
        { OPENER_OPEN, O_RDWR, "cmdsock/file", false },
        { OPENER_OPEN, O_RDONLY, "keys/key-in-list", false },
        { OPENER_OPEN, O_RDWR | O_CREAT, "here.img", false },
        { OPENER_OPEN, O_RDONLY, "/etc/hostname", false },
        { OPENER_OPEN, O_RDONLY, "/", false },
        { OPENER_OPEN, O_RDWR | O_CREAT, "nowhere/new.img", false },
        { OPENER_OPEN, O_RDONLY, "images/none", true }, /* "No such file" is the better answer */
        { OPENER_OPEN, O_RDONLY, "/proc/sys/kernel/random/boot_id", true },
        { OPENER_OPEN, O_RDONLY, "/proc/self/mem", false },
        { OPENER_OPEN, O_RDONLY, "keys/key", true },
        { OPENER_OPEN, O_RDWR, "keys/key", false },
        { OPENER_OPEN, O_RDONLY, "keys/other", false },
        { OPENER_OPEN, O_RDONLY, "conf/vdiskd.conf", true },
        { OPENER_OPEN, O_RDONLY | O_DIRECTORY, "conf/disks.d", true },
        { OPENER_OPEN, O_RDONLY, "conf/disks.d/x.conf", true },
        { OPENER_OPEN, O_WRONLY, "conf/vdiskd.conf", false },
        { OPENER_OPEN, O_RDONLY | O_CREAT, "conf/disks.d/y.conf", false },
        { OPENER_OPEN, O_RDONLY | O_TRUNC, "conf/vdiskd.conf", false },
        { OPENER_OPEN_BENEATH, O_RDWR, "images", true },
        { OPENER_OPEN_BENEATH, O_RDWR, "other", false },
        { OPENER_OPEN_BENEATH, O_RDWR | O_CREAT, "images", false },
        { OPENER_OPEN_ALLOWED, O_RDONLY, "images/a.img", true },
        { OPENER_OPEN_ALLOWED, O_RDONLY, "other/file", false },
        { OPENER_UNLINK, 0, "images/new.img", true },
        { OPENER_UNLINK, 0, "sockets/a.sock", true },
        { OPENER_UNLINK, 0, "other/file", false },
        { OPENER_UNLINK, 0, "conf/vdiskd.conf", false },
        { OPENER_LISTEN, -1, "sockets/b.sock", true },
        { OPENER_LISTEN, -1, "bases/b.sock", true },
        { OPENER_LISTEN, -1, "other/b.sock", false },
        { OPENER_LISTEN, -1, "images/b.sock", false },
        { OPENER_LISTEN, -1, "cmdsock/b.sock", true },
        { OPENER_LISTEN, -1, "cmd/b.sock", false },
        { OPENER_UNLINK, 0, "nowhere/none", false },
        { OPENER_LOOK, 0, "other/file", true }, /* that it is there is no secret */
        { OPENER_CONNECT, 0, "sockets/vm.sock", true },
        { OPENER_CONNECT, 0, "other/a.sock", false },
        { OPENER_CHANGE, 0660, "sockets/a.sock", true },
        { OPENER_CHANGE, 0777, "other/file", false },
        { OPENER_SAVE, 0, "conf/disks.d", false },
        { OPENER_REMOVE, 0, "conf/disks.d/x.conf", false },
        { OPENER_SPAWN, 0, "/usr/sbin/vdiskd", true },
        { OPENER_SPAWN, 0, "vdiskd", true },
        { OPENER_SPAWN, 0, "other/file", true }, /* whose it is, the starter looks */
        { OPENER_SPAWN, 0, "images/b.img", false },
        { OPENER_SPAWN, 0, "other/to-image", false },
        { OPENER_SPAWN, 0, "bases/base.img", false },
        { OPENER_SPAWN, 0, "state/1-2-3.maplog", false },
        { OPENER_SPAWN, 0, "sockets/x", false },
};

/* The command line. */
static void with_options(void (*use)(const struct opener_rules *rules), bool strict)
{
        struct disk_opts disk = { .path = (char *)"images/a.img", .socket = (char *)"sockets/a.sock", .fd = -1 };
        char *objects[] = { (char *)"secret,id=j,data=x", (char *)"secret,id=k,file=keys/key", (char *)"throttle-group,id=g" };
        char *dirs[] = { (char *)"bases" };
        struct startup commands[] = {
                { .args = json_pack("{s:s,s:{s:s,s:s,s:b}}", "driver", "qcow2", "file", "driver", "file", "filename", "cmd/a.img",
                                    "read-only", false) },
                { .args = json_pack("{s:s,s:[{s:s},s]}", "id", "e", "addrs", "path", "cmdsock/a.sock", "keys/key-in-list") },
        };
        struct options o = {
                .disks = &disk, .ndisks = 1, .objects = objects, .nobjects = 3, .allow_dirs = dirs, .nallow_dirs = 1,
                .config = (char *)"conf/vdiskd.conf", .startup = commands, .nstartup = 2,
        };
        const struct opener_rules rules = { .strict = strict, .options = &o, .state_dir = "state" };

        use(&rules);
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
                json_decref(commands[i].args);
}

static void check(const struct opener_rules *rules)
{
        struct opener_question *q = calloc(1, sizeof(*q));

        assert_non_null(q);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                int r;

                q->op = rows[i].op;
                q->how = rows[i].how;
                strcpy(q->a, rows[i].path);
                err_clear();
                r = opener_check(rules, q);
                if ((r == 0) != (rows[i].passes || !rules->strict) || (r < 0 && r != -EPERM))
                        fail_msg("row %zu, %s: %d", i, rows[i].path, r);
                if (r < 0)
                        assert_non_null(strstr(err_text(r), rows[i].path));
        }
        free(q);
}

static void test_strict(void **state)
{
        (void)state;
        with_options(check, true);
}

static void test_not_strict(void **state)
{
        (void)state;
        with_options(check, false);
}

/* What no vdiskd asks, strict or not: from a daemon that somebody else has by now. */
static const struct {
        const char *what;
        enum opener_op op;
        int how;
        mode_t mode;
        int res;
} asked[] = {
        { "an image", OPENER_OPEN, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NONBLOCK | O_DIRECT, 0644, 0 },
        { "a lock", OPENER_OPEN, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600, 0 },
        { "a directory", OPENER_OPEN, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0 },
        { "a program is made", OPENER_OPEN, O_RDWR | O_CREAT, 0755, -EPERM },
        { "with the rights of its owner", OPENER_OPEN, O_RDWR | O_CREAT, 04644, -EPERM },
        { "of its group", OPENER_OPEN, O_RDWR | O_CREAT, 02644, -EPERM },
        { "a file without a name", OPENER_OPEN, O_RDWR | O_TMPFILE, 0600, -EPERM },
        { "only its place", OPENER_OPEN, O_PATH, 0, -EPERM },
        { "signals to us", OPENER_OPEN, O_RDWR | O_ASYNC, 0, -EPERM },
        { "signals to us, beneath", OPENER_OPEN_BENEATH, O_RDWR | O_ASYNC, 0, -EPERM },
        { "signals to us, allowed", OPENER_OPEN_ALLOWED, O_RDWR | O_ASYNC, 0, -EPERM },
        { "a socket", OPENER_LISTEN, 0777, 0, 0 },
        { "as the mask has it", OPENER_LISTEN, -1, 0, 0 },
        { "with more bits", OPENER_LISTEN, 01777, 0, -EPERM },
        { "of no number", OPENER_CHANGE, -2, 0, -EPERM },
        { "changed to a user's", OPENER_CHANGE, 04755, 0, -EPERM },
};

static void check_asked(const struct opener_rules *rules)
{
        struct opener_question *q = calloc(1, sizeof(*q));

        assert_non_null(q);
        for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
                bool socket = asked[i].op == OPENER_LISTEN || asked[i].op == OPENER_CHANGE;
                int r;

                q->op = asked[i].op;
                q->how = asked[i].how;
                q->mode = asked[i].mode;
                strcpy(q->a, socket ? "sockets/a.sock" : asked[i].how & O_DIRECTORY ? "images" : "images/a.img");
                r = opener_check(rules, q);
                if (r != asked[i].res)
                        fail_msg("%s: %d", asked[i].what, r);
        }
        free(q);
}

static void test_what_is_asked(void **state)
{
        (void)state;
        with_options(check_asked, true);
        with_options(check_asked, false);
}

/* --- the same as places, for Landlock ------------------------------------------------------------------------------------ */

static char places[1024];

static void note_place(void *opaque, const char *path, enum opener_place kind)
{
        size_t at = strlen(places);

        assert_ptr_equal(opaque, places);
        if (path[0] != '/') /* the system's */
                snprintf(places + at, sizeof(places) - at, "%c:%s ", "wfl"[kind], path);
}

static void collect(const struct opener_rules *rules)
{
        opener_places(rules, note_place, places);
}

static void test_places(void **state)
{
        (void)state;
        with_options(collect, true);
        assert_string_equal(places, "w:images f:images/a.img w:sockets w:bases l:keys/key w:cmd f:cmd/a.img w:cmdsock w:state l:conf ");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_strict), cmocka_unit_test(test_not_strict), cmocka_unit_test(test_what_is_asked),
                cmocka_unit_test(test_places),
        };

        return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
