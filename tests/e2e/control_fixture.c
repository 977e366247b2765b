/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "control_fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"

static char dir[] = "/tmp/vdiskd-control-XXXXXX";
pid_t daemon_pid;
struct qmp_client *client;
const char *more_option;

const char *at(const char *name)
{
        static char bufs[8][128];
        static unsigned i;
        char *buf = bufs[i++ % ARRAY_SIZE(bufs)];

        snprintf(buf, sizeof(bufs[0]), "%s/%s", dir, name);
        return buf;
}

bool exists(const char *name)
{
        struct stat st;

        return lstat(at(name), &st) == 0;
}

/* --- the daemon -------------------------------------------------------------------------------------------------- */

int run(const char *command)
{
        char text[512];

        snprintf(text, sizeof(text), "cd %s && %s", dir, command);
        return system(text);
}

struct qmp_client *dial(void)
{
        uint64_t deadline = clock_ns() + HANG_S * NS_PER_SEC;
        struct qmp_client *c;

        while (qmp_client_open(at("control.sock"), &c) < 0) {
                assert_true(clock_ns() < deadline);
                err_clear();
                usleep(2000);
        }
        return c;
}

void start_with(const char *const *args)
{
        const char *argv[16] = { "vdiskd" };

        for (unsigned i = 0; args[i]; i++)
                argv[i + 1] = args[i];
        daemon_pid = fork();
        assert_true(daemon_pid >= 0);
        if (daemon_pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (chdir(dir) == 0)
                        execv(getenv("E2E_BACK_END"), (char *const *)argv);
                _exit(127);
        }
}

void start_daemon(const char *fault)
{
        char control[160];

        snprintf(control, sizeof(control), "--control=%s", at("control.sock"));
        daemon_pid = fork();
        assert_true(daemon_pid >= 0);
        if (daemon_pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (chdir(dir) == 0 && (!fault || setenv("VDISKD_FAULT", fault, 1) == 0))
                        execl(getenv("E2E_BACK_END"), "vdiskd", control, "--iothreads=2", "--log-level=warning", "--disk",
                              "id=first,path=first.qcow2,format=qcow2,socket=first.sock", more_option, NULL);
                _exit(127);
        }
        client = dial();
}

int exit_status(void)
{
        int st;

        while (waitpid(daemon_pid, &st, 0) < 0)
                assert_int_equal(errno, EINTR);
        daemon_pid = 0;
        return WIFEXITED(st) ? WEXITSTATUS(st) : -WTERMSIG(st);
}

int start_default(void **state)
{
        start_daemon(NULL);
        return 0;
}

int stop(void **state)
{
        qmp_client_close(TAKE(client, NULL));
        err_clear();
        if (!daemon_pid)
                return 0;
        kill(daemon_pid, SIGTERM);
        return exit_status();
}

/* --- saying things ----------------------------------------------------------------------------------------------- */

const char *try(struct qmp_client *c, const char *command, const char *args, json_t **ret)
{
        AUTO(freep) char *text = strdup(args ? args : "{}");
        int r;

        for (char *p = text; *p; p++)
                *p = *p == '\'' ? '"' : *p;
        err_clear();
        r = qmp_client_call(c, command, json_loads(text, JSON_DECODE_ANY, NULL), ret);
        assert_true(r == 0 || r == -EREMOTEIO);
        return r < 0 ? err_text(r) : NULL;
}

void must(const char *command, const char *args)
{
        const char *error = try(client, command, args, NULL);

        if (error)
                fail_msg("%s %s: %s", command, args ?: "", error);
}

json_t *ask(const char *command)
{
        json_t *value = NULL;
        const char *error = try(client, command, NULL, &value);

        if (error)
                fail_msg("%s: %s", command, error);
        return value;
}

const char *entry(const char *command, const char *name, const char *id)
{
        static char text[4096];
        json_t *all = ask(command), *o;
        size_t i;

        text[0] = '\0';
        json_array_foreach (all, i, o)
                if (!strcmp(json_string_value(json_object_get(o, name)), id)) {
                        char *dump = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);

                        snprintf(text, sizeof(text), "%s", dump);
                        free(dump);
                }
        json_decref(all);
        return text;
}

void expect_event(struct qmp_client *c, const char *name, const char *part)
{
        json_t *event;
        char *text;

        assert_int_equal(qmp_client_event(c, &event), 0);
        text = json_dumps(event, JSON_COMPACT);
        if (strcmp(json_string_value(json_object_get(event, "event")), name) || !strstr(text, part))
                fail_msg("the event is %s instead of %s with %s", text, name, part);
        assert_true(json_integer_value(json_object_get(json_object_get(event, "timestamp"), "seconds")) > 0);
        free(text);
        json_decref(event);
}

/* --- images ------------------------------------------------------------------------------------------------------ */

int make_images(void **state)
{
        if (!getenv("E2E_BACK_END")) {
                fprintf(stderr, "E2E_BACK_END must name vdiskd\n");
                return -1;
        }
        signal(SIGPIPE, SIG_IGN);
        alarm(600);
        if (!mkdtemp(dir))
                return -1;
        return run("qemu-img create -q -f qcow2 first.qcow2 64M && qemu-img create -q -f qcow2 second.qcow2 32M && "
                   "truncate -s 1M zeros.img");
}

int remove_images(void **state)
{
        char text[64];

        snprintf(text, sizeof(text), "rm -rf %s", dir);
        return system(text);
}

void upgrade(void)
{
        json_t *v = NULL;
        pid_t next;

        prctl(PR_SET_CHILD_SUBREAPER, 1);
        assert_null(try(client, "upgrade", NULL, &v));
        next = (pid_t)json_integer_value(json_object_get(v, "pid"));
        json_decref(v);
        qmp_client_close(TAKE(client, NULL));
        assert_int_equal(exit_status(), 0);
        daemon_pid = next;
        client = dial();
}

/* --- a guest ------------------------------------------------------------------------------------------------------ */

struct front_end *connect_with(const char *socket, const struct fe_opts *opts)
{
        struct fe_opts all = *opts;
        struct front_end *fe;

        all.path = at(socket);
        all.timeout_ms = HANG_MS;
        err_clear();
        if (fe_open(&all, &fe) < 0)
                fail_msg("%s: %s", socket, err_text(-EIO));
        return fe;
}

struct front_end *connect_to(const char *socket)
{
        return connect_with(socket, &(struct fe_opts){ 0 });
}

uint8_t do_io(struct front_end *fe, uint32_t type, uint64_t off, void *buf, uint32_t len)
{
        struct fe_io io = { .type = type, .sector = off / 512, .gpa = buf ? fe_gpa(fe, buf) : 0, .len = len };

        assert_int_equal(fe_do(fe_queue(fe, 0), &io, HANG_MS), 0);
        return io.status;
}
