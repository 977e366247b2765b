/* SPDX-License-Identifier: BSD-3-Clause */
/* The reader of vdiskd.conf and disks.d: what is understood, and what is said of every mistake, with its line. */
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

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/config/options.h"

static char dir[] = "/tmp/vdiskd-conf-XXXXXX";

static char *at(const char *name)
{
        static char bufs[4][128];
        static unsigned i;
        char *buf = bufs[i++ % ARRAY_SIZE(bufs)];

        snprintf(buf, sizeof(bufs[0]), "%s/%s", dir, name);
        return buf;
}

static void put(const char *name, const char *text, size_t len)
{
        FILE *f = fopen(at(name), "we");

        assert_non_null(f);
        assert_int_equal(fwrite(text, 1, len, f), len);
        assert_int_equal(fclose(f), 0);
}

static int parse(struct options *o, const char *more)
{
        char config[160], *argv[] = { (char *)"vdiskd", config, (char *)more, NULL };

        snprintf(config, sizeof(config), "--config=%s", at("vdiskd.conf"));
        err_clear();
        return options_parse(o, more ? 3 : 2, argv);
}

/* --- mistakes ------------------------------------------------------------------------------------------------------ */

#define OK "[disk ok]\npath=/o\nsocket=/o.sock\n"

static const struct {
        const char *main, *disks; /* vdiskd.conf, disks.d/b.conf */
        const char *says[4];
} bad[] = {
        { "", NULL, { "nothing to serve", "disks in the configuration" } },
        { "path = /x\n", NULL, { "vdiskd.conf:1: 'path' stands before any section" } },
        { "[vdiskd]\niothreads = 0\n" OK, NULL, { "vdiskd.conf:2: iothreads=0: expected a number from 1 to 64" } },
        { "[vdiskd]\n\n# c\niothread = 1\n" OK, NULL, { "vdiskd.conf:4: 'iothread' is not a key of [vdiskd]; did you mean 'iothreads'?" } },
        { "[vdiskd]\nblk-file = /x\n", NULL, { ":2: 'blk-file' is not a key of [vdiskd]" } },
        { "[vdiskd]\nhelp = on\n", NULL, { ":2: 'help' is not a key of [vdiskd]" } },
        { "[vdiskd]\nconfig = /x\n", NULL, { ":2: 'config' is not a key of [vdiskd]" } },
        { "[vdiskd]\nengine = fast\nlog-level = loud\n" OK, NULL,
          { ":2: engine=fast: expected auto, io_uring or threads\n", ":3: log-level=loud: expected error" } },
        { "[vdiskd]\nengine = auto\nengine = auto\n" OK, NULL, { ":3: engine is said twice in this section" } },
        { "[vdiskd]\ncache-size = \n" OK, NULL, { ":2: cache-size=" } },
        { "[vdiskd x]\n", NULL, { ":1: [vdiskd x]: no such section" } },
        { "[floppy a]\npath = /x\n", NULL, { ":1: [floppy a]: no such section; expected [vdiskd], [disk NAME]" } },
        { "[disk]\npath = /x\n", NULL, { ":1: [disk ]: expected a name" } },
        { "[disk a b]\npath = /x\n", NULL, { ":1: [disk a b]: expected a name" } },
        { "[disk 1a]\npath = /x\n", NULL, { ":1: [disk 1a]: expected a name: a letter" } },
        { "[disk a123456789012345678901234567890123456789012345678901234567890]\n", NULL, { ":1: [disk a1234", "31 in all" } },
        { "[disk a\npath = /x\n", NULL, { ":1: '[disk a': expected a section such as [disk NAME]" } },
        { "[disk a] path = /x\n", NULL, { ":1: '[disk a] path = /x': expected a section" } },
        { "[disk a]\n", NULL, { ":1: no file: expected path=FILE" } },
        { "[disk a]\npth = /x\n", NULL, { ":2: 'pth' is not a key of a disk; did you mean 'path'?\n", ":1: no file" } },
        { "[disk a]\npath\nsocket = /s\n", NULL, { ":2: 'path': expected KEY = VALUE\n" } },
        { "[disk a]\n= /x\n", NULL, { ":2: '= /x': expected KEY = VALUE" } },
        { "[disk a]\npath =\n", NULL, { ":2: path: the value is empty" } },
        { "[disk a]\npath = /x\npath = /y\n", NULL, { ":3: path is said twice" } },
        { "[disk a]\nid = b\npath = /x\n", NULL, { ":2: id=b: the section's name is the id" } },
        { "[disk a]\npath = /x\nread-only = yes\n", NULL, { ":3: read-only=yes: expected on or off" } },
        { "[disk a]\npath = /x\nsocket-mode = 999\n", NULL, { ":3: socket-mode=999: expected permissions in octal" } },
        { "[disk a]\npath = /x\n[disk a]\npath = /y\n", NULL, { "vdiskd.conf:3: id=a is the name of two disks", "vdiskd.conf:1)", "vdiskd.conf:3)" } },
        { "[disk a]\npath = /x\nsocket = /s\n", "[disk b]\npath = /y\nsocket = /s\n",
          { "socket /s is given to two disks, a (", "vdiskd.conf:1) and b (", "disks.d/b.conf:1)" } },
        { "[disk a]\npath = /x\nsocket = /s\n", "\n[disk b]\npath = /x\nsocket = /t\n", { "disks.d/b.conf:2: path /x is given to two disks", "b.conf:2)" } },
        { "[vdiskd]\ncontrol = /c\n[disk a]\npath = /x\nsocket = /c\n", NULL, { "vdiskd.conf:3: socket /c is given to disk a and to --control" } },
        { "[vdiskd]\niothreads = 2\n" OK "[vdiskd]\niothreads = 3\n", NULL, { "vdiskd.conf:6: [vdiskd]: there is one already" } },
        { "[secret s]\nfile = /k\n[secret s]\nfile = /l\n" OK, NULL, { "vdiskd.conf:3: secret,id=s,file=/l: there are two with this id" } },
        { "[throttle-group g]\niops-total = 3\n" OK, NULL, { ":1: ", "did you mean 'limits.iops-total'?" } },
        { OK, "[vdiskd]\niothreads = 2\n", { "b.conf:1: [vdiskd]: options of the daemon belong into vdiskd.conf" } },
        { OK, "[disk b]\npath = /x\nformat = floppy\n", { "disks.d/b.conf:3: format=floppy: no such format" } },
        { "[secret s]\n" OK, NULL, { ":1: ", "'s'", "file=" } },
        { "[secret s]\nfile = /k\ncolour = red\n" OK, NULL, { ":1: ", "colour" } },
        { "[secret s]\ndata = hush\n" OK, NULL, { ":1: " } },
};

static void test_mistakes(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct options o;
                const char *said;
                int r;

                put("vdiskd.conf", bad[i].main, strlen(bad[i].main));
                put("disks.d/b.conf", bad[i].disks ?: "", strlen(bad[i].disks ?: ""));
                r = parse(&o, NULL);
                said = o.problems ?: err_text(r);
                if (r != -EINVAL)
                        fail_msg("row %zu: returned %d", i, r);
                for (size_t k = 0; k < ARRAY_SIZE(bad[i].says) && bad[i].says[k]; k++)
                        if (!strstr(said, bad[i].says[k]))
                                fail_msg("row %zu: '%s' does not say '%s'", i, said, bad[i].says[k]);
                if (o.problems && strncmp(o.problems, err_text(r), 20))
                        fail_msg("row %zu: noted '%s', but the first is '%s'", i, err_text(r), o.problems);
                options_finish(&o);
        }
        put("disks.d/b.conf", "", 0);
}

/* What a disk names must be there, where nobody can add it later. */
static void test_check_config(void **state)
{
        static const struct { const char *text, *says; } rows[] = {
                { "[disk a]\npath = /x\nsocket = /s\nthrottle-group = g\n", "vdiskd.conf:1: throttle-group=g: there is no such group" },
                { "[disk a]\npath = /x\nsocket = /s\nkey-secret = k\n", "vdiskd.conf:1: key-secret=k: there is no such secret" },
                { "[disk a]\npath = /x\nsocket = /s\nkey-secret = k\n[secret k]\nfile = /k\n", NULL },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct options o;
                int r;

                put("vdiskd.conf", rows[i].text, strlen(rows[i].text));
                r = parse(&o, "--check-config");
                assert_int_equal(r, rows[i].says ? -EINVAL : 0);
                if (r < 0 && !strstr(err_text(r), rows[i].says))
                        fail_msg("row %zu: '%s' does not say '%s'", i, err_text(r), rows[i].says);
                options_finish(&o);
                assert_int_equal(parse(&o, NULL), 0);
                options_finish(&o);
        }
}

static void test_no_text(void **state)
{
        static const char nul[] = "[disk a]\npa\0th = /x\n";
        char *many = calloc(200, 8), *line = calloc(1, 20000);
        struct options o;
        int r;

        (void)state;
        put("vdiskd.conf", nul, sizeof(nul) - 1);
        assert_int_equal(parse(&o, NULL), -EINVAL);
        assert_non_null(strstr(o.problems, ":2: a NUL byte in the line"));
        options_finish(&o);

        memset(line, 'x', 19000);
        put("vdiskd.conf", line, strlen(line));
        assert_int_equal(parse(&o, NULL), -EINVAL);
        assert_non_null(strstr(o.problems, ":1: a line of more than 8192 bytes"));
        options_finish(&o);
        free(line);

        for (unsigned i = 0; i < 200; i++)
                strcat(many, "x = 1\n");
        put("vdiskd.conf", many, strlen(many)); /* they are not told without end */
        assert_int_equal(parse(&o, NULL), -EINVAL);
        assert_true(strlen(o.problems) < 40000);
        options_finish(&o);
        free(many);

        unlink(at("vdiskd.conf"));
        r = parse(&o, NULL);
        assert_int_equal(r, -ENOENT);
        assert_non_null(strstr(err_text(r), "vdiskd.conf: cannot be read: No such file"));
        options_finish(&o);
        assert_int_equal(mkdir(at("vdiskd.conf"), 0700), 0);
        assert_int_equal(parse(&o, NULL), -EINVAL);
        options_finish(&o);
        rmdir(at("vdiskd.conf"));
}

/* --- what is understood -------------------------------------------------------------------------------------------- */

static void test_all_of_it(void **state)
{
        static const char text[] = "\xef\xbb\xbf; first\r\n[vdiskd]\r\n  iothreads = 3   ; three\r\n\tcontrol: /c\r\n"
                                   "poll-us=7\r\n\r\n[secret k]\r\nfile = /etc/key,1\r\n"
                                   "[disk web]\npath = /a;b#c = d\nformat = qcow2\nsocket = /s\n  serial = a b  c \n"
                                   "socket-mode = 0660\nread-only = on\nkey-secret = k\n";
        static const char more[] = "[disk one]\npath = /one\nformat = raw\nsocket = /one.sock\n"
                                   "[disk two]\npath = /two\nformat = raw\nconnect = /two.sock";
        struct options o;

        (void)state;
        put("vdiskd.conf", text, sizeof(text) - 1);
        put("disks.d/b.conf", more, sizeof(more) - 1);
        put("disks.d/.hidden.conf", "nonsense", 8);
        put("disks.d/b.conf~", "nonsense", 8);
        if (parse(&o, "--poll-us=9") < 0)
                fail_msg("%s", err_text(-EINVAL));
        assert_int_equal(o.iothreads, 3);
        assert_int_equal(o.poll_us, 9); /* the command line wins */
        assert_string_equal(o.control, "/c");
        assert_int_equal(o.nobjects, 1);
        assert_string_equal(o.objects[0], "secret,id=k,file=/etc/key,,1");
        assert_int_equal(o.ndisks, 3);
        assert_string_equal(o.disks[0].id, "web");
        assert_string_equal(o.disks[0].path, "/a;b#c = d");
        assert_string_equal(o.disks[0].serial, "a b  c");
        assert_true(o.disks[0].read_only);
        assert_int_equal(o.disks[0].socket_mode, 0660);
        assert_int_equal(o.disks[0].line, 9);
        assert_string_equal(o.disks[2].connect, "/two.sock");
        assert_non_null(strstr(o.disks[2].file, "disks.d/b.conf"));
        options_finish(&o);
        put("disks.d/b.conf", "", 0);
}

/* libinih takes lines of 199 bytes; wherever a longer one is cut, it comes out whole. */
static void test_long_lines(void **state)
{
        (void)state;
        for (unsigned len = 150; len < 1300; len += 7) {
                char path[1400], text[1600];
                struct options o;

                path[0] = '/';
                for (unsigned i = 1; i < len; i++)
                        path[i] = "abc de;f#g=[]"[(i * 7 + len) % 13];
                path[len - 1] = 'z';
                path[len] = '\0';
                for (char *c = path; (c = strstr(c, " ;"));) /* that would be a comment */
                        *c = '_';
                snprintf(text, sizeof(text), "[disk a]\npath = %s\nformat = raw\nsocket = /s\n", path);
                put("vdiskd.conf", text, strlen(text));
                if (parse(&o, NULL) < 0)
                        fail_msg("%u: %s", len, err_text(-EINVAL));
                assert_string_equal(o.disks[0].path, path);
                options_finish(&o);
        }
}

static int make_dir(void **state)
{
        (void)state;
        return mkdtemp(dir) ? mkdir(at("disks.d"), 0700) : -1;
}

static int remove_dir(void **state)
{
        char command[64];

        (void)state;
        snprintf(command, sizeof(command), "rm -rf %s", dir);
        return system(command);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_mistakes),
                cmocka_unit_test(test_check_config),
                cmocka_unit_test(test_no_text),
                cmocka_unit_test(test_all_of_it),
                cmocka_unit_test(test_long_lines),
        };

        return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
