/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flood [ASKED [PEERS]] - how long does a client of the control socket wait for query-block-exports while others send valid messages and
 * commands without end? Median, p99 and worst of ASKED questions beside each kind of flood, from one peer and from PEERS, each a
 * front end of a disk of its own or a client. A measurement for people, not a test: it fails on no time. E2E_BACK_END: vdiskd.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "tests/e2e/control_fixture.h"
#include "tests/lib/fe_wire.h"

#define PEERS_MAX 16u
#define HELLO "{\"execute\":\"qmp_capabilities\"}"
#define AT_ONCE (256u << 10) /* bytes of a flood that a peer puts together */

static unsigned asked = 300, peers = 8;
static atomic_bool over;
static atomic_ulong sent, cut_off;

/* --- floods ----------------------------------------------------------------------------------------------------------- */

struct flood {
        const char *name;
        struct fe_msg m;      /* of a front end */
        bool memory;          /* a descriptor comes with it */
        const char *command;  /* of a client */
};

static const struct flood floods[] = {
        { "nothing" },
        { "GET_FEATURES", .m = { FE_GET_FEATURES, FE_VERSION } },
        { "SET_VRING_NUM", .m = { FE_SET_VRING_NUM, FE_VERSION, 8, .state = { 0, 128 } } },
        { "GET_CONFIG", .m = { FE_GET_CONFIG, FE_VERSION, 12 + 60, .config = { 0, 60 } } },
        { "SET_MEM_TABLE of 1 GiB", .m = { FE_SET_MEM_TABLE, FE_VERSION, 40, .table = { 1, 0, { { 0, 1ull << 30, 1ull << 40, 0 } } } },
          .memory = true },
        { "query-commands", .command = "{\"execute\":\"query-commands\"}" },
        { "query-qmp-schema", .command = "{\"execute\":\"query-qmp-schema\"}" },
        { "query-named-block-nodes", .command = "{\"execute\":\"query-named-block-nodes\"}" },
        { "half commands", .command = "{\"a\":[1,{\"b\":2}]}" },
};

static void say_hello(int sock)
{
        struct fe_msg m = { FE_SET_OWNER, FE_VERSION };

        fe_wire_send(sock, &m, NULL, 0);
        m = (struct fe_msg){ FE_SET_FEATURES, FE_VERSION, 8, .u64 = FE_F_VERSION_1 | FE_F_PROTOCOL_FEATURES };
        fe_wire_send(sock, &m, NULL, 0);
        m = (struct fe_msg){ FE_SET_PROTOCOL_FEATURES, FE_VERSION, 8, .u64 = FE_PF_MQ | FE_PF_CONFIG };
        fe_wire_send(sock, &m, NULL, 0);
}

/* Sends when there is room, and reads what comes, as fast as it goes. true: the daemon has had enough of it. */
static bool pump(int sock, const char *bytes, size_t len, size_t one)
{
        char sink[16 << 10];
        size_t at = 0;

        while (!atomic_load(&over)) {
                struct pollfd p = { .fd = sock, .events = POLLIN | POLLOUT };
                ssize_t n;

                poll(&p, 1, 100);
                if (p.revents & (POLLIN | POLLHUP) && recv(sock, sink, sizeof(sink), MSG_DONTWAIT) == 0)
                        return true;
                n = p.revents & POLLOUT ? send(sock, bytes + at, len - at, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
                if (n > 0) {
                        sent += (at + (size_t)n) / one - at / one;
                        at = (at + (size_t)n) % len;
                }
        }
        return false;
}

static void flood_memory(int sock, const struct flood *f)
{
        int fd = memfd_create("memory", MFD_CLOEXEC);

        assert_int_equal(ftruncate(fd, 1 << 30), 0);
        while (!atomic_load(&over))
                sent += fe_wire_send(sock, &f->m, &fd, 1) == 0;
        close(fd);
}

struct peer {
        const struct flood *flood;
        char path[128];
        pthread_t thread;
};

static void *flood(void *arg)
{
        const struct peer *p = arg;
        const struct flood *f = p->flood;
        size_t one = f->command ? strlen(f->command) : FE_HEADER_LEN + f->m.size;
        char *bytes = malloc(AT_ONCE);
        unsigned n = 0;

        for (; (n + 1) * one <= AT_ONCE && n < 1000; n++)
                memcpy(bytes + n * one, f->command ? f->command : (const char *)&f->m, one);
        while (!atomic_load(&over)) {
                AUTO(closep) int sock = fe_wire_connect(p->path);

                if (sock < 0)
                        continue;
                if (f->command)
                        (void)!write(sock, HELLO, strlen(HELLO));
                else
                        say_hello(sock);
                if (f->memory)
                        flood_memory(sock, f);
                else
                        cut_off += pump(sock, bytes, n * one, one);
        }
        free(bytes);
        return NULL;
}

/* --- the one who asks --------------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

static void run_flood(const struct flood *f, unsigned n)
{
        uint64_t *ns = calloc(asked, sizeof(*ns)), began, took;
        struct peer p[PEERS_MAX];

        atomic_store(&over, false);
        for (unsigned i = 0; i < n; i++) {
                char name[24];

                snprintf(name, sizeof(name), "f%u.sock", i);
                p[i].flood = f;
                snprintf(p[i].path, sizeof(p[i].path), "%s", at(f->command ? "control.sock" : name));
                assert_int_equal(pthread_create(&p[i].thread, NULL, flood, &p[i]), 0);
        }
        usleep(100000);
        atomic_store(&sent, 0);
        atomic_store(&cut_off, 0);
        began = clock_ns();
        for (unsigned i = 0; i < asked; i++) {
                uint64_t start = clock_ns();

                json_decref(ask("query-block-exports"));
                ns[i] = clock_ns() - start;
        }
        took = clock_ns() - began;
        atomic_store(&over, true);
        for (unsigned i = 0; i < n; i++)
                pthread_join(p[i].thread, NULL);
        qsort(ns, asked, sizeof(*ns), compare);
        printf("%-24s from %2u: median %8.3f ms, p99 %8.3f ms, worst %8.3f ms; %8.0f a second, %lu cut off\n", f->name, n, (double)ns[asked / 2] / 1e6,
               (double)ns[(asked - 1) * 99 / 100] / 1e6, (double)ns[asked - 1] / 1e6, (double)sent * 1e9 / (double)took, cut_off);
        fflush(stdout);
        free(ns);
}

static void measure(void **state)
{
        char text[256];

        (void)state;
        for (unsigned i = 0; i < peers; i++) {
                snprintf(text, sizeof(text), "{'driver':'qcow2','node-name':'n%u','read-only':true,"
                         "'file':{'driver':'file','filename':'second.qcow2'}}", i);
                must("blockdev-add", text);
                snprintf(text, sizeof(text), "{'type':'vhost-user-blk','id':'x%u','node-name':'n%u','addr':{'type':'unix','path':'f%u.sock'}}",
                         i, i, i);
                must("block-export-add", text);
        }
        for (size_t i = 0; i < ARRAY_SIZE(floods); i++) {
                run_flood(&floods[i], i ? 1 : 0);
                if (i)
                        run_flood(&floods[i], peers);
        }
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(measure, start_default, stop) };

        asked = argc > 1 ? (unsigned)atoi(argv[1]) : asked;
        peers = argc > 2 ? (unsigned)atoi(argv[2]) : peers;
        if (asked < 1 || peers < 1 || peers > PEERS_MAX)
                return 2;
        return cmocka_run_group_tests(tests, make_images, remove_images);
}
