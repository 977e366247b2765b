/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_follow.c - what is kept about a disk when snapshots, mirrors and commits give it other images: whether its guest has switched
 * the write cache off, and which image the daemon's next start has to name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "tests/e2e/daemon_fixture.h"
#include "tests/lib/front_end.h"
#include "tools/vdiskctl/client.h"

#define HANG_MS 60000

static struct qmp_client *client;

static struct front_end *dial_disk(void)
{
        struct fe_opts o = { .path = at("d.sock"), .timeout_ms = HANG_MS };
        struct front_end *fe = NULL;

        if (fe_open(&o, &fe) < 0)
                fail_msg("d.sock: %s", err_text(-EIO));
        return fe;
}

static void must(const char *command, const char *fmt, ...)
{
        char args[1024];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(args, sizeof(args), fmt, ap);
        va_end(ap);
        for (char *p = args; *p; p++)
                *p = *p == '\'' ? '"' : *p;
        if (qmp_client_call(client, command, json_loads(args, 0, NULL), NULL) < 0)
                fail_msg("%s %s: %s", command, args, err_text(-EIO));
}

static void await(const char *name)
{
        for (bool found = false; !found;) {
                json_t *ev;

                if (qmp_client_event(client, &ev) < 0)
                        fail_msg("no %s: %s", name, err_text(-EIO));
                found = !strcmp(json_string_value(json_object_get(ev, "event")), name);
                json_decref(ev);
        }
}

static unsigned count_in(const char *text, const char *word)
{
        unsigned n = 0;

        for (; (text = strstr(text, word)) != NULL; text += strlen(word))
                n++;
        return n;
}

/* There is one mark, and it is that of @image. */
static void expect_mark_of(const char *image)
{
        char mine[64];
        struct stat st;
        unsigned n = 0, right = 0;
        DIR *d = opendir(at("state"));

        assert_non_null(d);
        assert_int_equal(stat(at(image), &st), 0);
        snprintf(mine, sizeof(mine), "-%llx-disk0.writethrough", (unsigned long long)st.st_ino);
        for (const struct dirent *e; (e = readdir(d)) != NULL;) {
                n += strstr(e->d_name, ".writethrough") != NULL;
                right += strstr(e->d_name, mine) != NULL;
        }
        closedir(d);
        if (n != 1 || right != 1)
                fail_msg("%u marks, %u of them of %s", n, right, image);
}

static void start_on(struct proc *p, const char *image, const char *format)
{
        char disk[256], control[160], state[160];

        snprintf(disk, sizeof(disk), "path=%s,format=%s,socket=%s", at(image), format, at("d.sock"));
        snprintf(control, sizeof(control), "--control=%s", at("c.sock"));
        snprintf(state, sizeof(state), "--state-dir=%s", at("state"));
        start(p, NULL, 1, ARGS("--disk", disk, control, state));
        assert_int_equal(qmp_client_open(at("c.sock"), &client), 0);
}

/* An overlay, a mirror, an overlay of that, and back by a commit. */
static void test_what_follows_the_image(void **state)
{
        struct front_end *fe;
        struct proc p;

        (void)state;
        assert_int_equal(mkdir(at("state"), 0700), 0);
        start_on(&p, "d.qcow2", "qcow2");
        fe = dial_disk();
        assert_int_equal(fe_set_wce(fe, false), 0);
        expect_mark_of("d.qcow2");
        must("blockdev-snapshot-sync", "{'device':'disk0','snapshot-file':'%s'}", at("over.qcow2"));
        expect_mark_of("over.qcow2");
        wait_for(&p, "name the new one when you start vdiskd again", 1);
        assert_int_equal(count_in(log_of(&p), "disk disk0 now ends in"), 1);
        must("block_resize", "{'device':'disk0','size':%llu}", 65 * MIB); /* by the name that the disk keeps */
        qemu_img(ARGS("create", "-q", "-f", "raw", "%/copy.img", "65M"));
        must("blockdev-add", "{'driver':'raw','node-name':'copy','file':{'driver':'file','filename':'%s'}}", at("copy.img"));
        must("blockdev-mirror", "{'device':'disk0','target':'copy','sync':'full','job-id':'m'}");
        await("BLOCK_JOB_READY");
        must("job-complete", "{'id':'m'}");
        await("BLOCK_JOB_COMPLETED");
        expect_mark_of("copy.img");
        must("blockdev-snapshot-sync", "{'device':'disk0','snapshot-file':'%s'}", at("over2.qcow2"));
        expect_mark_of("over2.qcow2");
        wait_for(&p, "name the new one when you start vdiskd again", 3);
        must("block-commit", "{'device':'disk0','job-id':'c'}");
        await("BLOCK_JOB_READY");
        must("job-complete", "{'id':'c'}");
        await("BLOCK_JOB_COMPLETED");
        expect_mark_of("copy.img");
        qmp_client_close(client);
        fe_close(fe);
        stop(&p);
        assert_int_equal(count_in(log_of(&p), "disk disk0 now ends in"), 5); /* each time, and at the end */

        start_on(&p, "copy.img", "raw"); /* as it was told */
        fe = dial_disk();
        assert_false(fe_disk(fe)->wce);
        must("blockdev-snapshot-sync", "{'device':'disk0','snapshot-file':'%s'}", at("over3.qcow2"));
        must("block-commit", "{'device':'disk0','job-id':'c'}");
        await("BLOCK_JOB_READY");
        must("job-complete", "{'id':'c'}");
        await("BLOCK_JOB_COMPLETED");
        assert_int_equal(fe_set_wce(fe, true), 0);
        qmp_client_close(client);
        fe_close(fe);
        stop(&p);
        assert_int_equal(count_in(log_of(&p), "disk disk0 now ends in"), 1); /* back where it began: nothing to say at the end */
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_what_follows_the_image) };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
