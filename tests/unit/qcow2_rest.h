/* SPDX-License-Identifier: BSD-3-Clause */
/* qcow2_rest.h - images at rest for tests: a directory of their own, our functions and QEMU's tools on the same
 * files. */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>
#include <jansson.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "formats/qcow2/at_rest/at_rest.h"
#include "formats/qcow2/header.h"

#define UNUSED_FN __attribute__((unused))

static char rest_dir[64];

UNUSED_FN static int rest_setup(void **state)
{
        strcpy(rest_dir, "/tmp/vdiskd-rest-XXXXXX");
        return mkdtemp(rest_dir) ? 0 : -1;
}

/* A shell command in the directory; its exit status. */
__attribute__((format(printf, 1, 2))) UNUSED_FN static int sh(const char *fmt, ...)
{
        char cmd[1024];
        va_list ap;
        int n, status;

        n = snprintf(cmd, sizeof(cmd), "cd %s && exec 2>log && ", rest_dir);
        va_start(ap, fmt);
        vsnprintf(cmd + n, sizeof(cmd) - (size_t)n, fmt, ap);
        va_end(ap);
        status = system(cmd);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define must(...)                                               \
        do {                                                    \
                int status_ = sh(__VA_ARGS__);                  \
                if (status_ != 0) {                             \
                        print_error(__VA_ARGS__);               \
                        (void)sh("cat log >&1");                \
                        fail_msg(" exits with %d", status_);    \
                }                                               \
        } while (0)

UNUSED_FN static int rest_teardown(void **state)
{
        fault_arm(NULL);
        return sh("rm -rf %s", rest_dir);
}

#define ok(call)                                                                   \
        do {                                                                       \
                int r_ = (call);                                                   \
                if (r_ < 0)                                                        \
                        fail_msg("%s: %d: %s", #call, r_, err_text(r_));           \
        } while (0)

/* All that work at rest needs of an image. */
UNUSED_FN static struct fmt_image rest_open(const char *name, unsigned flags)
{
        struct fmt_image img = { 0 };
        char path[128];

        snprintf(path, sizeof(path), "%s/%s", rest_dir, name);
        err_clear();
        ok(file_open(path, flags | FILE_NO_LOCK, &img.file));
        return img;
}

/* @opts: "a=b,c=d", or NULL. */
UNUSED_FN static int rest_create(const char *name, uint64_t size, const char *opts)
{
        struct fmt_image img = rest_open(name, FILE_OVERWRITE);
        struct fmt_create req = { .size = size };
        struct fmt_option list[8];
        char text[256], *save = NULL;
        int r;

        snprintf(text, sizeof(text), "%s", opts ? opts : "");
        for (char *o = strtok_r(text, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
                char *eq = strchr(o, '=');

                *eq = 0;
                list[req.nopts++] = (struct fmt_option){ o, eq + 1 };
        }
        req.opts = list;
        r = qcow2_create(img.file, &req);
        file_close(img.file);
        return r;
}

#define REST_CALL(verb, ...)                                                \
        ({                                                                  \
                struct fmt_image img_ = rest_open(name, 0);                 \
                int ret_ = qcow2_##verb(&img_, ##__VA_ARGS__);              \
                file_close(img_.file);                                      \
                ret_;                                                       \
        })

UNUSED_FN static int rest_check(const char *name, struct fmt_check *chk)
{
        return REST_CALL(check, chk);
}

UNUSED_FN static int rest_resize(const char *name, uint64_t size, bool shrink)
{
        return REST_CALL(resize, size, shrink);
}

UNUSED_FN static int rest_snap(const char *name, char what, const char *snap)
{
        return what == 'c' ? REST_CALL(snapshot_create, snap) :
               what == 'a' ? REST_CALL(snapshot_apply, snap) : REST_CALL(snapshot_delete, snap);
}

/* What a command prints as JSON; json_decref() it. */
UNUSED_FN static json_t *rest_json(const char *cmd, const char *name)
{
        char line[256], path[128];
        json_t *j;

        snprintf(path, sizeof(path), "%s/json", rest_dir);
        snprintf(line, sizeof(line), "%s %s >json", cmd, name);
        (void)sh("%s", line);
        j = json_load_file(path, 0, NULL);
        if (!j)
                fail_msg("%s %s prints no JSON", cmd, name);
        return j;
}

static void print_finding(struct fmt_check *chk, const struct fmt_finding *f)
{
        print_error("    %s\n", f->text);
}

/* No error and no leak, for us and for QEMU. */
UNUSED_FN static void rest_clean(const char *name, const char *when)
{
        struct fmt_check chk = { .finding = print_finding };

        ok(rest_check(name, &chk));
        if (chk.corruptions || chk.leaks || chk.check_errors)
                fail_msg("%s: our check finds %llu corruptions, %llu leaks", when, (unsigned long long)chk.corruptions,
                         (unsigned long long)chk.leaks);
        if (sh("qemu-img check %s >out", name) != 0) {
                (void)sh("head -5 out log >&1");
                fail_msg("%s: qemu-img check is not happy", when);
        }
}
