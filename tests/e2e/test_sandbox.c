/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_sandbox.c - the sandbox from inside: a process with the daemon's own rooms (opener, sandbox, threads, engines) and, on
 * each kind of thread, somebody who tries what an intruder would. And from outside: the daemon as /proc shows it.
 *
 * The inner process writes a line for each attempt; the tests read them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blkq/engine/engine_impl.h"
#include "blkq/qthread.h"
#include "blkq/workers.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/file.h"
#include "common/path.h"
#include "common/thread.h"
#include "tests/e2e/daemon_fixture.h"
#include "vdiskd/sandbox/opener_impl.h"
#include "vdiskd/sandbox/sandbox.h"
#include "vdiskd/sandbox/sandbox_calls.h"

static int tcp = -1, victim = -1; /* made before the sandbox: a socket; the process that started us */

/* --- what an intruder would try: each returns 0 when it worked, or errno -------------------------------------------- */

#define TRY(call) ((call) == -1 ? errno : 0)

static int try_open(void) { return TRY(open("/etc/hostname", O_RDONLY)); }
static int try_openat2(void)
{
        uint64_t how[3] = { O_RDONLY, 0, 0 };

        return TRY((int)syscall(SYS_openat2, AT_FDCWD, "/etc/hostname", how, sizeof(how)));
}
static int try_create(void) { return TRY(open("stolen", O_WRONLY | O_CREAT, 0600)); }
static int try_unlink(void) { return TRY(unlink("image")); }
static int try_rename(void) { return TRY(rename("image", "other")); }
static int try_chmod(void) { return TRY(chmod("image", 0777)); }
static int try_mkdir(void) { return TRY(mkdir("dir", 0700)); }
static int try_symlink(void) { return TRY(symlink("/etc", "link")); }
static int try_mount(void) { return TRY(mount("none", "/tmp", "tmpfs", 0, NULL)); }
static int try_unix_socket(void) { return TRY(socket(AF_UNIX, SOCK_STREAM, 0)); }
static int try_inet_socket(void) { return TRY(socket(AF_INET, SOCK_STREAM, 0)); }
static int try_connect(void)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/private" };

        return TRY(connect(tcp, (struct sockaddr *)&sa, sizeof(sa)));
}
static int try_bind(void)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = "stolen.sock" };

        return TRY(bind(tcp, (struct sockaddr *)&sa, sizeof(sa)));
}
static int try_execve(void)
{
        char *argv[] = { (char *)"/bin/true", NULL };

        return TRY(execve(argv[0], argv, NULL));
}
static int try_execveat(void)
{
        char *argv[] = { (char *)"true", NULL };

        return TRY((int)syscall(SYS_execveat, AT_FDCWD, "/bin/true", argv, NULL, 0));
}
static int try_fork(void)
{
        pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

        if (pid == 0)
                _exit(0);
        return TRY(pid);
}
static int try_clone3(void)
{
        uint64_t args[11] = { 0, 0, 0, 0, SIGCHLD };
        pid_t pid = (pid_t)syscall(SYS_clone3, args, sizeof(args));

        if (pid == 0)
                _exit(0);
        return TRY(pid);
}
static int try_ptrace(void) { return TRY((int)ptrace(PTRACE_ATTACH, victim, NULL, NULL)); }
static int try_traceme(void) { return TRY((int)ptrace(PTRACE_TRACEME, 0, NULL, NULL)); }
static int try_read_other(void)
{
        char byte;
        struct iovec l = { &byte, 1 }, r = { &byte, 1 };

        return TRY((int)process_vm_readv(victim, &l, 1, &r, 1, 0));
}
static int try_kill(void) { return TRY(kill(victim, 0)); }
static int try_tgkill(void) { return TRY((int)syscall(SYS_tgkill, victim, victim, 0)); }
static int try_map_code(void)
{
        return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno : 0;
}
static int try_protect_code(void)
{
        void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        return p == MAP_FAILED ? 0 : TRY(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}
static int try_setuid(void) { return TRY((int)syscall(SYS_setuid, 0)); }
static int try_ring(void)
{
        struct io_uring_params p = { 0 };

        return TRY((int)syscall(SYS_io_uring_setup, 4, &p));
}
static int try_bpf(void) { return TRY((int)syscall(SYS_bpf, 0, NULL, 0)); }
static int try_userfaultfd(void) { return TRY((int)syscall(SYS_userfaultfd, 0)); }
static int try_unshare(void) { return TRY(unshare(CLONE_NEWUSER)); }
static int try_raise_limit(void)
{
        uint64_t lim[2] = { 1 << 20, 1 << 20 };

        return TRY((int)syscall(SYS_prlimit64, 0, 7, lim, NULL));
}
static char elsewhere[] = "/tmp/vdiskd-elsewhere.XXXXXX"; /* a directory that no command line names, with a file */
static const char *in_elsewhere(const char *name)
{
        static char path[128];

        snprintf(path, sizeof(path), "%s/%s", elsewhere, name);
        return path;
}
static int try_create_elsewhere(void) { return TRY(open(in_elsewhere("stolen"), O_WRONLY | O_CREAT, 0600)); }
static int try_unlink_elsewhere(void) { return TRY(unlink(in_elsewhere("file"))); }
static int try_bind_elsewhere(void)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };

        strcpy(sa.sun_path, in_elsewhere("socket"));
        return TRY(bind(tcp, (struct sockaddr *)&sa, sizeof(sa)));
}
static int try_keyctl(void) { return TRY((int)syscall(SYS_keyctl, 0, 0, 0, 0, 0)); }

static const struct attempt {
        const char *name;
        int (*run)(void);
} attempts[] = {
        { "open", try_open }, { "openat2", try_openat2 }, { "create", try_create }, { "unlink", try_unlink },
        { "rename", try_rename }, { "chmod", try_chmod }, { "mkdir", try_mkdir }, { "symlink", try_symlink },
        { "mount", try_mount }, { "unix-socket", try_unix_socket }, { "inet-socket", try_inet_socket },
        { "connect", try_connect }, { "bind", try_bind }, { "execve", try_execve }, { "execveat", try_execveat },
        { "fork", try_fork }, { "clone3", try_clone3 }, { "ptrace", try_ptrace }, { "traceme", try_traceme },
        { "process_vm_readv", try_read_other }, { "kill", try_kill }, { "tgkill", try_tgkill }, { "map-code", try_map_code },
        { "protect-code", try_protect_code }, { "setuid", try_setuid }, { "io_uring_setup", try_ring }, { "bpf", try_bpf },
        { "userfaultfd", try_userfaultfd }, { "unshare", try_unshare }, { "prlimit", try_raise_limit }, { "keyctl", try_keyctl },
};

/* What an intruder in the opener would try. It may work with names in the image's directory: those attempts are left out. */
static const struct attempt in_opener[] = {
        { "open", try_open }, { "openat2", try_openat2 }, { "create-elsewhere", try_create_elsewhere }, { "unlink-elsewhere", try_unlink_elsewhere },
        { "bind-elsewhere", try_bind_elsewhere }, { "mkdir", try_mkdir }, { "symlink", try_symlink }, { "mount", try_mount },
        { "inet-socket", try_inet_socket }, { "execve", try_execve }, { "execveat", try_execveat }, { "fork", try_fork },
        { "clone3", try_clone3 }, { "ptrace", try_ptrace }, { "traceme", try_traceme }, { "process_vm_readv", try_read_other },
        { "kill", try_kill }, { "tgkill", try_tgkill }, { "map-code", try_map_code }, { "protect-code", try_protect_code },
        { "setuid", try_setuid }, { "io_uring_setup", try_ring }, { "bpf", try_bpf }, { "userfaultfd", try_userfaultfd },
        { "unshare", try_unshare }, { "prlimit", try_raise_limit }, { "keyctl", try_keyctl },
};

/* --- the inner process ------------------------------------------------------------------------------------------------ */

static void say(const char *who, const char *what, int result)
{
        printf("%s %s %d\n", who, what, result);
        fflush(stdout);
}

/* By name, through the opener: what was named at the start, and what was not. */
static void ask_opener(const char *who)
{
        struct file *f = NULL;
        int fd = path_open("/etc/hostname", O_RDONLY | O_CLOEXEC, 0);

        say(who, "opener-elsewhere", fd);
        closep(&fd);
        err_clear();
        say(who, "opener-image", file_open("image", 0, &f));
        file_close(f);
        f = NULL;
        say(who, "opener-beside", file_open("beside", FILE_CREATE, &f));
        if (f)
                path_unlink("beside");
        file_close(f);
        err_clear();
}

static void try_all(const char *who)
{
        ask_opener(who);
        for (size_t i = 0; i < ARRAY_SIZE(attempts) && !SANDBOX_RELAXED && HAVE_SECCOMP; i++) /* they would work */
                say(who, attempts[i].name, attempts[i].run());
}

/* --- what an intruder would try through the ring ---------------------------------------------------------------------- */

static int through(struct io_uring *ring, void (*prep)(struct io_uring_sqe *sqe))
{
        struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
        struct io_uring_cqe *cqe;
        int r;

        prep(sqe);
        sqe->user_data = 3; /* the engine's TAG_NONE: it may be reaped by either */
        r = io_uring_submit_and_wait(ring, 1);
        if (r < 0)
                return r;
        r = io_uring_wait_cqe(ring, &cqe);
        if (r < 0)
                return r;
        r = cqe->res;
        io_uring_cqe_seen(ring, cqe);
        return r;
}

static void prep_openat(struct io_uring_sqe *s) { io_uring_prep_openat(s, AT_FDCWD, "/etc/hostname", O_RDONLY, 0); }
static void prep_socket(struct io_uring_sqe *s) { io_uring_prep_rw(45, s, AF_UNIX, NULL, 0, SOCK_STREAM); } /* OP_SOCKET */
static void prep_unlink(struct io_uring_sqe *s) { io_uring_prep_unlinkat(s, AT_FDCWD, "image", 0); }
static void prep_connect(struct io_uring_sqe *s)
{
        static struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/private" };

        io_uring_prep_connect(s, tcp, (struct sockaddr *)&sa, sizeof(sa));
}
static void prep_nop(struct io_uring_sqe *s) { io_uring_prep_nop(s); }
static void prep_linked(struct io_uring_sqe *s) /* a flag that we do not use */
{
        io_uring_prep_fsync(s, tcp, 0);
        s->flags |= IOSQE_IO_LINK;
}

static void try_ring_ops(struct qthread *t)
{
        static const struct { const char *name; void (*prep)(struct io_uring_sqe *sqe); } ops[] = {
                { "ring-openat", prep_openat }, { "ring-socket", prep_socket }, { "ring-unlink", prep_unlink },
                { "ring-connect", prep_connect }, { "ring-nop", prep_nop }, { "ring-flag", prep_linked },
        };
        struct io_uring *ring = engine_uring_ring(qthread_engine(t));

        if (!ring) {
                say("queue", "no-ring", 0);
                return;
        }
        for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
                say("queue", ops[i].name, through(ring, ops[i].prep));
        say("queue", "ring-register", (int)syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_PERSONALITY, NULL, 0) == -1 ?
            errno : 0);
}

/* --- on each kind of thread ------------------------------------------------------------------------------------------- */

struct visit {
        struct qtask task;
        struct work work;
        struct io io;
        struct file file;
        struct qthread *t;
        pthread_mutex_t lock;
        pthread_cond_t cond;
        bool done;
};

static void visited(struct visit *v)
{
        pthread_mutex_lock(&v->lock);
        v->done = true;
        pthread_cond_signal(&v->cond);
        pthread_mutex_unlock(&v->lock);
}

static void wait_for_visit(struct visit *v)
{
        pthread_mutex_lock(&v->lock);
        while (!v->done)
                pthread_cond_wait(&v->cond, &v->lock);
        v->done = false;
        pthread_mutex_unlock(&v->lock);
}

static void on_queue(struct qtask *task)
{
        struct visit *v = container_of(task, struct visit, task);

        try_all("queue");
        try_ring_ops(v->t);
        visited(v);
}

static void on_work(struct work *w)
{
        try_all("worker");
        visited(container_of(w, struct visit, work));
}

static int on_io_thread(struct file *f)
{
        (void)f;
        try_all("io");
        return 0;
}

static void on_synced(struct io *io, int res)
{
        (void)res;
        visited(container_of(io, struct visit, io));
}

static void submit_sync(struct qtask *task)
{
        static const struct file_ops ops = { .sync = on_io_thread };
        struct visit *v = container_of(task, struct visit, task);

        v->file = (struct file){ .ops = &ops, .fd = -1 };
        v->io = (struct io){ .op = IO_SYNC, .file = &v->file, .done = on_synced };
        engine_submit(qthread_engine(v->t), &v->io);
}

static struct qthread *thread_with(enum engine_kind kind)
{
        struct qthread_opts o = { .name = "probe", .engine = { .kind = kind, .restricted = true } };
        struct qthread *t = NULL;

        if (qthread_new(&o, &t) < 0)
                say("error", err_text(-1), 1);
        err_clear();
        return t;
}

static void visit_threads(void)
{
        struct qthread *ring = thread_with(ENGINE_AUTO), *pool = thread_with(ENGINE_THREADS);
        struct visit v = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

        workers_hold();
        if (!ring || !pool || workers_start_all() < 0)
                _exit(1);
        thread_begins(THREAD_CONTROL);
        try_all("control");
        v.task.run = on_queue;
        v.t = ring;
        qthread_post(ring, &v.task);
        wait_for_visit(&v);
        v.task.run = submit_sync;
        v.t = pool;
        qthread_post(pool, &v.task);
        wait_for_visit(&v);
        v.work.run = on_work;
        workers_run(&v.work);
        wait_for_visit(&v);
        qthread_free(ring);
        qthread_free(pool);
        workers_release();
}

/* A process that has given up what an opener gives up. @who: for the lines. */
static void visit_opener(const char *who, const struct opener_rules *rules)
{
        pid_t pid;

        fflush(stdout);
        pid = fork();
        if (pid == 0) {
                if (opener_confine(rules) < 0)
                        _exit(1);
                for (size_t i = 0; i < ARRAY_SIZE(in_opener) && !SANDBOX_RELAXED && HAVE_SECCOMP; i++)
                        say(who, in_opener[i].name, in_opener[i].run());
                say(who, "image", TRY(open("image", O_RDWR | O_CLOEXEC)));
                _exit(0);
        }
        waitpid(pid, NULL, 0);
}

static void visit_openers(struct opener_rules *rules)
{
        int fd = mkdtemp(elsewhere) ? open(in_elsewhere("file"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;

        closep(&fd);
        visit_opener("strict", rules);
        rules->strict = false;
        visit_opener("loose", rules);
        rules->strict = true;
        unlink(in_elsewhere("file")); /* still there where nobody tried */
        unlink(in_elsewhere("stolen"));
        unlink(in_elsewhere("socket"));
        rmdir(elsewhere);
}

static int be_probe(void)
{
        struct disk_opts disk = { .path = (char *)"image", .fd = -1, .socket_mode = -1 };
        struct options o = { .disks = &disk, .ndisks = 1, .sandbox = SANDBOX_STRICT };
        char *argv[] = { (char *)"vdiskd", NULL };
        struct opener_rules rules = { .strict = true, .options = &o, .argv = argv, .std_fd = -1 };
        int fd = open("image", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        closep(&fd);
        victim = (int)getppid();
        tcp = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        visit_openers(&rules);
        if (opener_start(&rules) < 0 || sandbox_enter(&o) < 0) {
                say("error", err_text(-1), 1);
                return 1;
        }
        visit_threads();
        opener_stop();
        say("all", "done", 0);
        return 0;
}

/* --- the tests -------------------------------------------------------------------------------------------------------- */

static char *said; /* by the probe */

static int run_probe(void **state)
{
        char self[4096] = "", *argv[] = { self, (char *)"--probe", NULL };
        struct proc p;

        if (make_images(state) < 0 || readlink("/proc/self/exe", self, sizeof(self) - 1) < 0 || chdir(at(".")) < 0)
                return -1;
        spawn(&p, argv[0], (const char *const *)argv + 1, NULL);
        if (finish(&p) != 0)
                fail_msg("the probe failed:\n%s", log_of(&p));
        said = strdup(log_of(&p));
        return chdir("/") < 0 || !said ? -1 : 0;
}

static int end_probe(void **state)
{
        free(said);
        return remove_images(state);
}

/* INT_MAX: the probe did not get there. */
static int result_of(const char *who, const char *what)
{
        char line[128];
        const char *found;

        snprintf(line, sizeof(line), "%s %s ", who, what);
        found = strstr(said, line);
        return found ? atoi(found + strlen(line)) : __INT_MAX__;
}

static const char *const kinds[] = { "control", "queue", "io", "worker" };

static void test_calls_are_refused(void **state)
{
        (void)state;
        if (SANDBOX_RELAXED || !HAVE_SECCOMP)
                skip();
        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
                for (size_t i = 0; i < ARRAY_SIZE(attempts); i++) {
                        int e = result_of(kinds[k], attempts[i].name);
                        bool fine = e == EPERM || (!strcmp(attempts[i].name, "clone3") && e == ENOSYS);

                        if (!fine)
                                fail_msg("%s on a %s thread: %s", attempts[i].name, kinds[k], e ? strerror(e) : "it worked");
                }
        assert_false(exists(at("stolen")));
        assert_false(exists(at("stolen.sock")));
        assert_true(exists(at("image")));
        print_message("%zu attempts on each of %zu kinds of thread, %zu in an opener: all refused\n", ARRAY_SIZE(attempts), ARRAY_SIZE(kinds),
                      ARRAY_SIZE(in_opener));
}

/* Landlock says EACCES. The loose one has all places, and no more than that. */
static void test_opener_is_confined(void **state)
{
        static const char *const places[] = { "open", "openat2", "create-elsewhere", "unlink-elsewhere", "bind-elsewhere", "mkdir" };

        (void)state;
        assert_int_equal(result_of("strict", "image"), 0);
        assert_int_equal(result_of("loose", "image"), 0);
        if (SANDBOX_RELAXED || !HAVE_SECCOMP)
                skip();
        for (size_t i = 0; i < ARRAY_SIZE(in_opener); i++) {
                int strict = result_of("strict", in_opener[i].name), loose = result_of("loose", in_opener[i].name);
                bool place = i < ARRAY_SIZE(places);

                assert_true(!place || !strcmp(places[i], in_opener[i].name));
                if (strict != EPERM && !(place && strict == EACCES))
                        fail_msg("%s in a strict opener: %s", in_opener[i].name, strict ? strerror(strict) : "it worked");
                if (!place && loose != EPERM)
                        fail_msg("%s in an opener: %s", in_opener[i].name, loose ? strerror(loose) : "it worked");
        }
        for (size_t i = 0; i < ARRAY_SIZE(places); i++)
                assert_int_equal(result_of("loose", places[i]), 0);
        rmdir(at("dir"));
}

/* With any build: a ring refuses by itself. */
static void test_rings_are_restricted(void **state)
{
        static const char *const ops[] = { "ring-openat", "ring-socket", "ring-unlink", "ring-connect", "ring-nop", "ring-flag" };

        (void)state;
        if (result_of("queue", "no-ring") == 0)
                skip();
        for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
                if (result_of("queue", ops[i]) != -EACCES)
                        fail_msg("%s: %d", ops[i], result_of("queue", ops[i]));
        assert_in_range(result_of("queue", "ring-register"), EPERM, EACCES); /* by the filter, or by the ring */
}

static void test_opener_serves_what_was_named(void **state)
{
        (void)state;
        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
                assert_int_equal(result_of(kinds[k], "opener-image"), 0);
                assert_int_equal(result_of(kinds[k], "opener-beside"), 0);
                assert_int_equal(result_of(kinds[k], "opener-elsewhere"), -EPERM);
        }
}

/* --- the daemon as /proc shows it ------------------------------------------------------------------------------------- */

static void status_of(pid_t pid, const char *task, const char *key, char *value, size_t len)
{
        char path[320], line[256];
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)pid, task);
        f = fopen(path, "re");
        assert_non_null(f);
        value[0] = '\0';
        while (fgets(line, sizeof(line), f))
                if (!strncmp(line, key, strlen(key)))
                        snprintf(value, len, "%.*s", (int)strcspn(line + strlen(key) + 1, "\n"), line + strlen(key) + 1);
        fclose(f);
}

/* All threads of @pid have @value at @key. */
static void all_have(pid_t pid, const char *key, const char *value)
{
        char path[64], got[256];
        DIR *d;

        snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
        d = opendir(path);
        assert_non_null(d);
        for (const struct dirent *e; (e = readdir(d)) != NULL;) {
                if (e->d_name[0] == '.')
                        continue;
                status_of(pid, e->d_name, key, got, sizeof(got));
                if (strcmp(got, value))
                        fail_msg("thread %s: %s is '%s', not '%s'", e->d_name, key, got, value);
        }
        closedir(d);
}

/* Where there is one thread, but for those of a sanitizer. */
static void first_has(pid_t pid, const char *key, const char *value)
{
        char got[256], task[16];

        snprintf(task, sizeof(task), "%d", (int)pid);
        status_of(pid, task, key, got, sizeof(got));
        if (strcmp(got, value))
                fail_msg("process %d: %s is '%s', not '%s'", (int)pid, key, got, value);
}

static void children_of(pid_t parent, pid_t *opener, pid_t *starter)
{
        char path[64], text[32] = "";
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)parent, (int)parent);
        f = fopen(path, "re");
        assert_non_null(f);
        (void)!fgets(text, sizeof(text), f);
        fclose(f);
        assert_int_equal(sscanf(text, "%d %d", opener, starter), 2);
}

static void test_every_thread_of_the_daemon(void **state)
{
        pid_t opener, starter;
        struct rlimit core;
        struct proc p;

        (void)state;
        start(&p, NULL, 1, ONE_DISK);
        all_have(p.pid, "CapEff:", "0000000000000000");
        all_have(p.pid, "CapPrm:", "0000000000000000");
        all_have(p.pid, "NoNewPrivs:", "1");
        if (!SANDBOX_RELAXED && HAVE_SECCOMP)
                all_have(p.pid, "Seccomp:", "2");
        assert_non_null(strstr(log_of(&p), "sandbox: no capabilities"));
        children_of(p.pid, &opener, &starter);
        first_has(opener, "CapEff:", geteuid() ? "0000000000000000" : "000000000000000b"); /* CHOWN, DAC_OVERRIDE, FOWNER */
        first_has(opener, "CapPrm:", geteuid() ? "0000000000000000" : "000000000000000b");
        first_has(opener, "NoNewPrivs:", "1");
        if (!SANDBOX_RELAXED && HAVE_SECCOMP)
                first_has(opener, "Seccomp:", "2");
        assert_int_equal(prlimit(opener, RLIMIT_CORE, NULL, &core), 0);
        assert_int_equal(core.rlim_max, 0);
        first_has(starter, "NoNewPrivs:", "0"); /* its child shall be a daemon as this one was */
        stop(&p);
        start(&p, NULL, 1, ARGS("--blk-file=%/d.qcow2", "--format=qcow2", "--socket-path=%/d.sock", "--sandbox=off"));
        all_have(p.pid, "NoNewPrivs:", "0");
        assert_non_null(strstr(log_of(&p), "sandbox: off"));
        stop(&p);
}

static void test_another_user(void **state)
{
        struct proc p;

        (void)state;
        if (geteuid() != 0)
                skip();
        start(&p, NULL, 1, ARGS("--blk-file=%/d.qcow2", "--format=qcow2", "--socket-path=%/d.sock", "--user=65534",
                                "--group=65533"));
        all_have(p.pid, "Uid:", "65534\t65534\t65534\t65534");
        all_have(p.pid, "Gid:", "65533\t65533\t65533\t65533");
        all_have(p.pid, "Groups:", " ");
        assert_int_equal(capacity(at("d.sock")), 64 * MIB);
        stop(&p);
        assert_false(exists(at("d.sock"))); /* which only the opener could remove */
        spawn(&p, vdiskd(), ARGS("--blk-file=%/d.qcow2", "--format=qcow2", "--socket-path=%/d.sock", "--user=nobody-at-all"), NULL);
        assert_int_equal(finish(&p), 1);
        assert_non_null(strstr(log_of(&p), "--user=nobody-at-all: there is no such user"));
}

/* However the daemon ends, its opener does, too; and signals that stop the daemon do not stop it first. */
static void test_opener_ends_with_the_daemon(void **state)
{
        static const int signals[] = { SIGTERM, SIGKILL };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
                uint64_t deadline;
                struct proc p;
                pid_t opener, starter;

                start(&p, NULL, 1, ONE_DISK);
                children_of(p.pid, &opener, &starter);
                kill(opener, SIGTERM);
                kill(opener, SIGINT);
                assert_int_equal(capacity(at("d.sock")), 64 * MIB);
                kill(p.pid, signals[i]);
                finish(&p);
                deadline = clock_ns() + HANG_NS;
                while ((kill(opener, 0) == 0 || kill(starter, 0) == 0) && clock_ns() < deadline)
                        usleep(1000);
                assert_true(kill(opener, 0) < 0 && kill(starter, 0) < 0);
                unlink(at("d.sock"));
        }
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_calls_are_refused),
                cmocka_unit_test(test_opener_is_confined),
                cmocka_unit_test(test_rings_are_restricted),
                cmocka_unit_test(test_opener_serves_what_was_named),
                cmocka_unit_test(test_every_thread_of_the_daemon),
                cmocka_unit_test(test_another_user),
                cmocka_unit_test(test_opener_ends_with_the_daemon),
        };

        if (argc > 1 && !strcmp(argv[1], "--probe"))
                return be_probe();
        return cmocka_run_group_tests(tests, run_probe, end_probe);
}
