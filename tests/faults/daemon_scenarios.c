/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * daemon_scenarios.c - vdiskd with a fault: it says why it does not start, or it serves; a request fails or does what it
 * says; it ends when it is asked to, and what a flush made durable is there.
 */
#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "scene.h"
#include "tests/lib/fe_scsi.h"
#include "tests/lib/front_end.h"
#include "tools/vdiskctl/client.h"

/*
 * How long until something that does not come will never come. A slow machine is no bug, so this is long, and not waited for
 * where the daemon shows that it is gone. With a fault for ever something may be dead and its connection stay: nobody judges
 * that, so it is short.
 */
#define PATIENCE_S (fault.forever ? 3 : 60)
#define PATIENCE_MS (1000 * PATIENCE_S)
#define PATIENCE_NS ((uint64_t)PATIENCE_S * NS_PER_SEC)
#define LOOK_MS 20 /* is it still there? */
#define PIECE (64u << 10)

static pid_t pid;
static struct front_end *fe;
static unsigned char *buf; /* guest memory, PIECE bytes */
static bool scsi;          /* the disk is unit 0 of a controller */
static struct fe_scsi cmd; /* then; its data is buf */
static struct {
        bool known;
        unsigned char value;
} durable[SIZE / PIECE], now[SIZE / PIECE]; /* what each piece must hold */

/* --- the daemon ------------------------------------------------------------------------------------------------------------------ */

static bool listens(const char *path)
{
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        AUTO(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
        return connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
}

/* False: it did not start, and said why. */
static bool daemon_up(void)
{
        uint64_t deadline = clock_ns() + (fault.at ? 30 : 60) * NS_PER_SEC;

        pid = start_daemon(ARGV(daemon_path, "--disk", scsi ? "id=d,path=d.qcow2,format=qcow2,socket=d.sock,device=scsi,lun=0"
                                                            : "id=d,path=d.qcow2,format=qcow2,socket=d.sock",
                                "--control=c.sock", "--state-dir=none", "--log-level=warning"));
        while (!listens("c.sock") || !is_there("d.sock")) {
                if (!daemon_runs(pid)) {
                        if (end_daemon(&pid) == 0)
                                bug("did not start, but says that all is well");
                        return false;
                }
                if (clock_ns() > deadline) /* it may wait for connections that it can never take */
                        return true;
                usleep(1000);
        }
        return true;
}

static bool guest_up(void)
{
        struct fe_opts fo = { .path = "d.sock", .mem_len = 1u << 20, .timeout_ms = PATIENCE_MS, .num_queues = scsi ? 3 : 1 };

        err_clear();
        if (fe_open(&fo, &fe) < 0)
                return false;
        if (scsi && fe_scsi_init(fe, &cmd, PIECE) < 0)
                bug("no guest memory for a command");
        buf = scsi ? cmd.data : fe_alloc(fe, PIECE, 4096);
        return true;
}

static void guest_down(void)
{
        fe_close(TAKE(fe, NULL));
        err_clear();
}

/*
 * After an upgrade that gave no answer: which process is it now? False: none. That may be when both have had a fault: the new
 * one did not come up, and the old one could not open the image again, said so and ended for its supervisor to start it anew.
 */
#define GOES_ON_NS (10 * NS_PER_SEC)
static bool find_successor(void)
{
        uint64_t began = clock_ns(), deadline = began + 60 * NS_PER_SEC;
        int st = 0;

        while (waitpid(pid, &st, WNOHANG) == 0) {
                if (clock_ns() > (daemon_under(pid) ? deadline : began + GOES_ON_NS))
                        return true; /* it goes on itself */
                usleep(10000);
        }
        if (WIFSIGNALED(st))
                bug("the old one ended with signal %d", WTERMSIG(st));
        pid = adopt();
        if (!pid && WEXITSTATUS(st) == 0)
                bug("neither the old one nor a new one is there, but the old one ended with success");
        return pid != 0;
}

/* --- requests --------------------------------------------------------------------------------------------------------------------- */

/* To what was submitted. -ETIMEDOUT: the daemon is there, but does not answer. */
static int wait_for_answer(struct fe_queue *q)
{
        uint64_t deadline = clock_ns() + PATIENCE_NS;
        struct fe_io *done;
        int r;

        fe_kick(q);
        while ((r = fe_reap(q, &done, 1)) == 0) {
                if (!daemon_runs(pid) || fe_alive(fe, 0) < 0)
                        return -ECONNRESET;
                if (clock_ns() > deadline)
                        return -ETIMEDOUT;
                fe_wait(q, LOOK_MS);
        }
        return r < 0 ? r : 0;
}

/* True: it was answered. A request without an answer while the daemon is there is a bug, unless all goes wrong for ever. */
static bool answered(struct fe_queue *q, int submitted)
{
        int r = submitted < 0 ? submitted : wait_for_answer(q);

        if (r == -ETIMEDOUT && !fault.forever)
                bug("a request was never answered");
        if (r < 0)
                guest_down();
        return r == 0;
}

static bool ask_blk(enum fe_type type, unsigned piece)
{
        struct fe_io io = { .type = type, .len = type == FE_FLUSH ? 0 : PIECE, .sector = (uint64_t)piece * PIECE / 512,
                            .gpa = fe_gpa(fe, buf), .unmap = true };

        return answered(fe_queue(fe, 0), fe_submit(fe_queue(fe, 0), &io)) && io.status == FE_OK;
}

#define ONE_RANGE "\0\x16\0\x10\0\0\0" /* of UNMAP: the list's header */

static void scsi_command(enum fe_type type, unsigned piece)
{
        uint32_t n = PIECE / FE_SCSI_BLOCK;
        uint64_t block = htobe64((uint64_t)piece * n);

        switch (type) {
        case FE_READ:
                fe_scsi_read(&cmd, 0, (uint64_t)piece * n, n);
                return;
        case FE_WRITE:
                fe_scsi_write(&cmd, 0, (uint64_t)piece * n, n);
                return;
        case FE_FLUSH:
                fe_scsi_plain(&cmd, 0, "\x35\0\0\0\0\0\0\0\0", 10);
                return;
        case FE_WRITE_ZEROES: /* WRITE SAME(16) without a block, UNMAP */
                fe_scsi_plain(&cmd, 0, "\x93\x09", 2);
                memcpy(cmd.cdb + 2, &block, 8);
                memcpy(cmd.cdb + 10, &(uint32_t){ htobe32(n) }, 4);
                return;
        default:
                fe_scsi_plain(&cmd, 0, "\x42\0\0\0\0\0\0\0\x18", 10);
                memcpy(buf, ONE_RANGE, 8);
                memcpy(buf + 8, &block, 8);
                memcpy(buf + 16, &(uint32_t){ htobe32(n) }, 4);
                memset(buf + 20, 0, 4);
                cmd.out_len = 24;
        }
}

static bool ask_scsi(enum fe_type type, unsigned piece)
{
        for (unsigned attentions = 0; attentions < 8; attentions++) {
                scsi_command(type, piece);
                if (!answered(fe_queue(fe, 2), fe_scsi_submit(fe_queue(fe, 2), &cmd)))
                        return false;
                fe_scsi_answered(&cmd);
                if (cmd.response != FE_SCSI_OK)
                        return false;
                if (fe_scsi_sense(&cmd) >> 16 != 6) /* a unit attention: it was not done, and is told once */
                        return cmd.status == 0;
        }
        bug("unit attentions without end");
}

static bool ask(enum fe_type type, unsigned piece)
{
        if (!fe)
                return false;
        err_clear();
        return scsi ? ask_scsi(type, piece) : ask_blk(type, piece);
}

static void write_piece(unsigned piece, unsigned char value)
{
        if (!fe)
                return;
        memset(buf, value, PIECE);
        durable[piece].known = false; /* it may be the old or the new one from now on */
        now[piece].known = ask(FE_WRITE, piece);
        now[piece].value = value;
}

static void zero_piece(unsigned piece)
{
        durable[piece].known = false;
        now[piece].known = ask(FE_WRITE_ZEROES, piece);
        now[piece].value = 0;
}

static void discard_piece(unsigned piece)
{
        durable[piece].known = now[piece].known = false;
        ask(FE_DISCARD, piece);
}

static void flush(void)
{
        if (ask(FE_FLUSH, 0))
                memcpy(durable, now, sizeof(now));
}

static bool all_are(const unsigned char *b, unsigned char value)
{
        return b[0] == value && !memcmp(b, b + 1, PIECE - 1);
}

static void read_piece(unsigned piece)
{
        if (fe)
                memset(buf, 0xee, PIECE);
        if (ask(FE_READ, piece) && now[piece].known && !all_are(buf, now[piece].value))
                bug("read other bytes than were written");
}

static void use_disk(unsigned char value)
{
        write_piece(0, value);
        write_piece(5, (unsigned char)(value + 1));
        flush();
        read_piece(0);
        zero_piece(1);
        read_piece(1);
        discard_piece(2);
        write_piece(7, (unsigned char)(value + 2));
        read_piece(7);
        flush();
        write_piece(3, (unsigned char)(value + 3)); /* no flush: the stop makes it durable, if it says so */
}

/* --- after it -------------------------------------------------------------------------------------------------------------------- */

static void look(bool clean_stop)
{
        AUTO(freep) unsigned char *disk = malloc(SIZE);

        must_be_clean("d.qcow2", "qcow2", true);
        disk_read("d.qcow2", "qcow2", disk, SIZE);
        for (unsigned i = 0; i < SIZE / PIECE; i++) {
                if (durable[i].known && !all_are(disk + i * PIECE, durable[i].value))
                        bug("piece %u: a flush that succeeded did not make it durable", i);
                if (clean_stop && now[i].known && !all_are(disk + i * PIECE, now[i].value))
                        bug("piece %u: it ended with success, but a write is lost", i);
        }
}

static void down(void)
{
        guest_down();
        doing = "stop";
        look(end_daemon(&pid) == 0);
}

static void begin(void)
{
        make_qcow2("d.qcow2", "-o cluster_size=4k", NULL);
        make_qcow2("e.qcow2", "-o cluster_size=4k", pattern);
}

/* --- scenarios --------------------------------------------------------------------------------------------------------------------- */

static void on_serve(void)
{
        begin();
        if (!daemon_up())
                return;
        if (guest_up())
                use_disk(10);
        down();
}

static void on_reconnect(void)
{
        begin();
        if (!daemon_up())
                return;
        for (unsigned i = 0; i < 3; i++) {
                if (guest_up())
                        use_disk((unsigned char)(10 + 10 * i));
                guest_down();
        }
        down();
}

/* --- commands ---------------------------------------------------------------------------------------------------------------------- */

static struct qmp_client *client; /* NULL: not connected */
static sigjmp_buf too_late;
static bool unsure; /* whether the last command was done: its answer did not come */

static void give_up(int sig)
{
        (void)sig;
        siglongjmp(too_late, 1);
}

static int call(const char *command, const char *args, json_t **ret)
{
        int r = 0;

        err_clear();
        if (!client)
                r = qmp_client_open("c.sock", &client);
        if (r < 0)
                return r;
        r = qmp_client_call(client, command, args ? json_loads(args, 0, NULL) : NULL, ret);
        if (r < 0 && r != -EREMOTEIO) {
                qmp_client_close(TAKE(client, NULL));
                unsure = true;
        }
        return r;
}

/*
 * 0: the daemon says that it was done. A command without an answer on a connection that stays is a bug, unless all goes wrong
 * for ever: then a connection may stay without an owner.
 */
static int tell(const char *command, const char *args, json_t **ret)
{
        void (*hangs)(int) = signal(SIGALRM, give_up);
        unsigned left = alarm((unsigned)PATIENCE_S);
        int r = -ETIMEDOUT;

        unsure = false;
        if (!sigsetjmp(too_late, 1)) {
                r = call(command, args, ret);
        } else if (fault.forever) {
                client = NULL; /* whatever state it is in */
                unsure = true;
        } else {
                bug("'%s' was never answered", command);
        }
        signal(SIGALRM, hangs);
        alarm(left);
        return r;
}

static void hang_up(void)
{
        qmp_client_close(TAKE(client, NULL));
        err_clear();
}

#define ADD_NODE "{\"driver\":\"qcow2\",\"node-name\":\"e\",\"file\":{\"driver\":\"file\",\"filename\":\"e.qcow2\"}}"
#define ADD_EXPORT "{\"type\":\"vhost-user-blk\",\"id\":\"e\",\"node-name\":\"e\",\"writable\":true," \
                   "\"addr\":{\"type\":\"unix\",\"path\":\"e.sock\"}}"

/* True: whatever was added is gone again for sure. */
static bool add_and_remove(void)
{
        bool node = tell("blockdev-add", ADD_NODE, NULL) == 0, known = !unsure, served;

        served = node && tell("block-export-add", ADD_EXPORT, NULL) == 0;
        known &= !unsure;
        if (served && !is_there("e.sock"))
                bug("an export was added, but has no socket");
        if (served && tell("block-export-del", "{\"id\":\"e\",\"mode\":\"hard\"}", NULL) < 0)
                return false;
        if (node && tell("blockdev-del", "{\"node-name\":\"e\"}", NULL) < 0)
                return false;
        return known;
}

static void on_hotplug(void)
{
        bool gone = true;
        int fds;

        begin();
        if (!daemon_up())
                return;
        tell("query-block-exports", NULL, NULL); /* from now on it serves, and has what it has to have */
        hang_up();
        fds = count_fds(pid);
        for (unsigned i = 0; i < 2 && gone; i++)
                gone = add_and_remove();
        tell("query-named-block-nodes", NULL, NULL);
        tell("query-block-exports", NULL, NULL);
        hang_up();
        for (int i = 0; i < PATIENCE_MS && gone && daemon_runs(pid) && count_fds(pid) > fds; i++)
                usleep(1000);
        if (gone && !fault.forever && daemon_runs(pid) && count_fds(pid) > fds)
                bug("%d descriptors more than before all was taken away", count_fds(pid) - fds);
        down();
        must_be_clean("e.qcow2", "qcow2", true);
}

static void on_resize(void)
{
        bool done;

        begin();
        if (!daemon_up())
                return;
        if (guest_up())
                use_disk(10);
        done = tell("block_resize", "{\"node-name\":\"d\",\"size\":1048576}", NULL) == 0;
        hang_up();
        if (fe)
                use_disk(50);
        down();
        if (done && disk_size("d.qcow2", "qcow2") != 1u << 20)
                bug("the disk was resized, but has the old size");
}

/* The other process has the fault, too. Without an answer nobody knows which one it is now. */
static void on_upgrade(void)
{
        json_t *ret = NULL;
        int st = 0;

        begin();
        if (!daemon_up())
                return;
        if (guest_up())
                use_disk(10);
        if (tell("upgrade", NULL, &ret) == 0) {
                while (waitpid(pid, &st, 0) < 0 && errno == EINTR)
                        ;
                if (WIFSIGNALED(st))
                        bug("the old one ended with signal %d", WTERMSIG(st));
                pid = (pid_t)json_integer_value(json_object_get(ret, "pid"));
                adopt();
        }
        json_decref(ret);
        hang_up();
        if (unsure && !find_successor()) {
                guest_down();
                look(false);
                return;
        }
        if (fe)
                use_disk(50);
        down();
}

#define ADD_UNIT "{\"type\":\"vhost-user-scsi\",\"id\":\"e\",\"node-name\":\"e\",\"writable\":true,\"lun\":1," \
                 "\"addr\":{\"type\":\"unix\",\"path\":\"d.sock\"}}"

/* What a guest does when it looks for units; LUN 1 comes and goes. */
static void look_for_units(void)
{
        if (!fe)
                return;
        fe_scsi_plain(&cmd, 0, "\xa0\0\0\0\0\0\0\0\x08\x08\0", 12); /* REPORT LUNS */
        cmd.in_len = 2056;
        if (!answered(fe_queue(fe, 2), fe_scsi_submit(fe_queue(fe, 2), &cmd)))
                return;
        fe_scsi_plain(&cmd, 1, "", 1);
        if (!answered(fe_queue(fe, 2), fe_scsi_submit(fe_queue(fe, 2), &cmd)))
                return;
        fe_scsi_tmf(&cmd, FE_UNIT_RESET, 0, 0);
        answered(fe_queue(fe, 0), fe_scsi_tmf_submit(fe_queue(fe, 0), &cmd));
}

static void on_scsi(void)
{
        bool node, unit;

        scsi = true;
        begin();
        if (!daemon_up())
                return;
        if (guest_up())
                use_disk(10);
        node = tell("blockdev-add", ADD_NODE, NULL) == 0;
        unit = node && tell("block-export-add", ADD_UNIT, NULL) == 0;
        look_for_units();
        if (unit)
                tell("block-export-del", "{\"id\":\"e\",\"mode\":\"hard\"}", NULL);
        hang_up();
        look_for_units();
        if (fe)
                use_disk(50);
        if (!fault.at && (!unit || !durable[0].known || !durable[1].known || !durable[7].known || !now[3].known))
                bug("without a fault not all was done");
        down();
        must_be_clean("e.qcow2", "qcow2", true);
}

const struct scenario daemon_scenarios[] = {
        { "serve", on_serve }, { "reconnect", on_reconnect }, { "hotplug", on_hotplug }, { "block-resize", on_resize },
        { "upgrade", on_upgrade }, { "scsi", on_scsi }, { NULL, NULL },
};
