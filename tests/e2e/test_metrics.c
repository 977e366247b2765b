/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the daemon says that it did, over HTTP and on the control socket, against what our front end did.
 *
 *   e2e_metrics CHECK_METRICS DASHBOARD     the program that parses the text, and the file whose queries it looks at
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/sanitized.h"
#include "tests/e2e/control_fixture.h"

static const char *check_metrics, *dashboard;
static struct front_end *fe;
static char *buffer; /* in its memory */

static int start_with_metrics(void **state)
{
        more_option = "--metrics=unix:metrics.sock";
        start_daemon(NULL);
        return 0;
}

/* --- HTTP --------------------------------------------------------------------------------------------------------- */

static int dial_metrics(void)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        struct timeval hang = { .tv_sec = HANG_S };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        strncpy(sa.sun_path, at("metrics.sock"), sizeof(sa.sun_path) - 1);
        assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &hang, sizeof(hang));
        return fd;
}

/* The whole answer, head and all, to free(). NULL: hung up on. */
static char *try_http(const char *request)
{
        AUTO(closep) int fd = dial_metrics();
        size_t len = 0, size = 1 << 20;
        char *text = malloc(size);
        ssize_t n;

        send(fd, request, strlen(request), MSG_NOSIGNAL);
        while ((n = recv(fd, text + len, size - len - 1, 0)) > 0)
                len += (size_t)n;
        assert_true(n == 0 || errno == ECONNRESET);
        assert_true(len + 1 < size);
        text[len] = '\0';
        if (n < 0 || !len)
                free(TAKE(text, NULL));
        return text;
}

static char *http(const char *request)
{
        char *text = try_http(request);

        assert_non_null(text);
        return text;
}

static char *scrape(void)
{
        char *text = http("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), *body = strstr(text, "\r\n\r\n");

        assert_non_null(body);
        assert_ptr_equal(strstr(text, "HTTP/1.1 200"), text);
        assert_non_null(strstr(text, "text/plain; version=0.0.4"));
        memmove(text, body + 4, strlen(body + 4) + 1);
        return text;
}

/* The sample behind "@series ", at the beginning of a line. */
static double value_in(const char *text, const char *series)
{
        AUTO(freep) char *line = NULL;
        const char *found;

        assert_true(asprintf(&line, "\n%s ", series) > 0);
        found = strstr(text, line);
        if (!found)
                fail_msg("there is no %s", series);
        return strtod(found + strlen(line), NULL);
}

static double metric(const char *series)
{
        AUTO(freep) char *text = scrape();

        return value_in(text, series);
}

static void check_with_parser(const char *text, bool with_dashboard)
{
        char command[400];
        FILE *f = fopen(at("metrics.txt"), "w");

        assert_non_null(f);
        fputs(text, f);
        fclose(f);
        snprintf(command, sizeof(command), "%s metrics.txt %s", check_metrics, with_dashboard ? dashboard : "");
        assert_int_equal(run(command), 0);
}

/* --- load --------------------------------------------------------------------------------------------------------- */

static void dial_disk(void)
{
        fe = connect_to("first.sock");
        buffer = fe_alloc(fe, 65536, 4096);
}

static void io(uint32_t type, uint64_t sector, uint32_t len, uint8_t want)
{
        assert_int_equal(do_io(fe, type, sector * 512, buffer, len), want);
}

/* The end of a round, in which times are counted, follows the answer; so does whoever else asks afterwards. */
static void wait_for(const char *series, double want)
{
        uint64_t deadline = clock_ns() + HANG_S * NS_PER_SEC;

        while (metric(series) != want) {
                if (clock_ns() > deadline)
                        fail_msg("%s is %g and not %g", series, metric(series), want);
                usleep(1000);
        }
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

#define SERIES(name, op) "vdiskd_disk_" name "{disk=\"first\",op=\"" op "\"}"
#define STAGE(op, stage) "vdiskd_disk_stage_duration_seconds_count{disk=\"first\",op=\"" op "\",stage=\"" stage "\"}"

static json_int_t number_at(const json_t *o, const char *a, const char *b, const char *c, const char *d)
{
        o = json_object_get(o, a);
        o = b ? json_object_get(o, b) : o;
        o = c ? json_object_get(o, c) : o;
        o = d ? json_object_get(o, d) : o;
        assert_true(json_is_integer(o));
        return json_integer_value(o);
}

static void test_counts_are_what_was_done(void **state)
{
        json_t *stats, *disk;
        char *text;

        dial_disk();
        for (unsigned i = 0; i < 7; i++)
                io(FE_WRITE, 128ull * i, 8192, FE_OK); /* seven new clusters */
        for (unsigned i = 0; i < 11; i++)
                io(FE_READ, 128ull * i, 4096, FE_OK);
        io(FE_FLUSH, 0, 0, FE_OK);
        io(FE_DISCARD, 0, 65536, FE_OK);
        io(FE_WRITE_ZEROES, 128, 65536, FE_OK);
        io(FE_READ, 1ull << 40, 4096, FE_IOERR); /* outside */
        wait_for(SERIES("request_duration_seconds_count", "write_zeroes"), 1);
        text = scrape();
        assert_true(value_in(text, SERIES("requests_total", "write")) == 7);
        assert_true(value_in(text, SERIES("bytes_total", "write")) == 7 * 8192);
        assert_true(value_in(text, SERIES("requests_total", "read")) == 11);
        assert_true(value_in(text, SERIES("bytes_total", "read")) == 11 * 4096);
        assert_true(value_in(text, SERIES("requests_total", "flush")) == 1);
        assert_true(value_in(text, SERIES("requests_total", "discard")) == 1);
        assert_true(value_in(text, SERIES("bytes_total", "discard")) == 65536);
        assert_true(value_in(text, SERIES("errors_total", "read")) == 0);
        assert_true(value_in(text, SERIES("invalid_requests_total", "read")) == 1);
        assert_true(value_in(text, SERIES("request_duration_seconds_count", "write")) == 7);
        assert_true(value_in(text, SERIES("request_duration_seconds_count", "read")) == 11);
        assert_true(value_in(text, STAGE("read", "disk")) == 11);
        assert_true(value_in(text, STAGE("flush", "notify")) == 1);
        assert_true(value_in(text, "vdiskd_disk_home_requests_total{disk=\"first\"}") >= 7 + 3);
        assert_true(value_in(text, "vdiskd_disk_size_bytes{disk=\"first\"}") == 64 << 20);
        assert_true(value_in(text, "vdiskd_disk_allocated_bytes{disk=\"first\"}") >= 6 * 4096);
        assert_true(value_in(text, "vdiskd_sessions_connected") == 1);
        assert_true(value_in(text, "vdiskd_disk_in_flight{disk=\"first\"}") == 0);
        assert_true(value_in(text, "vdiskd_disk_oldest_request_seconds{disk=\"first\"}") == 0);
        free(text);
        stats = ask("query-disk-stats");
        disk = json_array_get(json_object_get(stats, "disks"), 0);
        assert_int_equal(number_at(disk, "operations", "write", "requests", NULL), 7);
        assert_int_equal(number_at(disk, "operations", "read", "bytes", NULL), 11 * 4096);
        assert_int_equal(number_at(disk, "operations", "read", "invalid", NULL), 1);
        assert_int_equal(number_at(disk, "highest-write", NULL, NULL, NULL), 6 * 65536 + 8192);
        assert_int_equal(number_at(disk, "connected", NULL, NULL, NULL), 1);
        assert_true(number_at(disk, "table-misses", NULL, NULL, NULL) <= number_at(disk, "table-hits", NULL, NULL, NULL));
        json_decref(stats);
        stats = ask("query-blockstats");
        assert_int_equal(number_at(json_array_get(stats, 0), "stats", "wr_highest_offset", NULL, NULL), 6 * 65536 + 8192);
        json_decref(stats);
        fe_close(TAKE(fe, NULL));
}

/* Eight requests, ten a second are allowed: the one before the last still waits when the first are done. */
static void test_a_request_that_waits(void **state)
{
        struct fe_io io[8] = { 0 }, *done;
        unsigned left = ARRAY_SIZE(io);
        AUTO(freep) char *text = NULL;

        must("block_set_io_throttle", "{'id':'first','bps':0,'bps_rd':0,'bps_wr':0,'iops':10,'iops_rd':0,'iops_wr':0}");
        dial_disk();
        for (size_t i = 0; i < ARRAY_SIZE(io); i++) {
                io[i] = (struct fe_io){ .type = FE_READ, .sector = 8 * i, .len = 4096, .gpa = fe_gpa(fe, buffer) };
                assert_int_equal(fe_submit(fe_queue(fe, 0), &io[i]), 0);
        }
        fe_kick(fe_queue(fe, 0));
        do {
                free(text);
                text = scrape();
        } while (value_in(text, SERIES("requests_total", "read")) < 1);
        if (value_in(text, SERIES("requests_total", "read")) < 8) { /* a machine that slept meanwhile has missed it */
                assert_true(value_in(text, "vdiskd_disk_in_flight{disk=\"first\"}") >= 1);
                assert_true(value_in(text, "vdiskd_disk_oldest_request_seconds{disk=\"first\"}") > 0);
                assert_true(value_in(text, "vdiskd_disk_throttled{disk=\"first\"}") == 1);
        }
        while (left) {
                assert_int_equal(fe_wait(fe_queue(fe, 0), HANG_MS), 1);
                while (fe_reap(fe_queue(fe, 0), &done, 1) == 1)
                        left--;
        }
        wait_for(SERIES("request_duration_seconds_count", "read"), 8);
        free(text);
        text = scrape();
        assert_true(value_in(text, "vdiskd_disk_stage_duration_seconds_sum{disk=\"first\",op=\"read\",stage=\"queue\"}") > 0.5);
        assert_true(value_in(text, "vdiskd_disk_throttled{disk=\"first\"}") == 0);
        fe_close(TAKE(fe, NULL));
}

/* Of each operation the stages add up to the whole, and the histograms have as many requests as there were. */
static void test_stages_add_up(void **state)
{
        static const char *const stages[] = { "queue", "map", "turn", "disk", "notify" };
        json_t *stats = NULL, *read, *latency;
        json_int_t sum = 0, all = 0;
        json_t *pair;
        size_t i;

        dial_disk();
        for (unsigned n = 0; n < 200; n++)
                io(n % 2 ? FE_READ : FE_WRITE, 128ull * (n % 50), 4096, FE_OK);
        wait_for(SERIES("request_duration_seconds_count", "read"), 100);
        assert_null(try(client, "query-disk-stats", "{'node-name':'first','histograms':true}", &stats));
        read = json_object_get(json_object_get(json_array_get(json_object_get(stats, "disks"), 0), "operations"), "read");
        latency = json_object_get(read, "latency");
        for (size_t s = 0; s < ARRAY_SIZE(stages); s++)
                sum += number_at(latency, stages[s], "sum-ns", NULL, NULL);
        assert_int_equal(sum, number_at(latency, "total", "sum-ns", NULL, NULL));
        json_array_foreach (json_object_get(json_object_get(latency, "total"), "buckets"), i, pair)
                all += json_integer_value(json_array_get(pair, 1));
        assert_int_equal(all, 100);
        assert_true(number_at(latency, "total", "p50-ns", NULL, NULL) <= number_at(latency, "total", "p99-ns", NULL, NULL));
        assert_true(number_at(latency, "total", "p99-ns", NULL, NULL) <= number_at(latency, "total", "max-ns", NULL, NULL));
        json_decref(stats);
        fe_close(TAKE(fe, NULL));
}

/* Every sample of @before that only grows is there in @after, and not less. */
static void compare(const char *before, const char *after)
{
        AUTO(freep) char *copy = strdup(before);
        unsigned compared = 0;

        for (char *line = strtok(copy, "\n"); line; line = strtok(NULL, "\n")) {
                char *space = strrchr(line, ' ');

                if (*line == '#' || !(strstr(line, "_total") || strstr(line, "_bucket{") || strstr(line, "_sum{") ||
                                      strstr(line, "_count{")))
                        continue;
                *space = '\0';
                if (value_in(after, line) < strtod(space + 1, NULL))
                        fail_msg("%s was %s and is %g", line, space + 1, value_in(after, line));
                compared++;
        }
        assert_true(compared > 50);
}

static void test_nothing_goes_back(void **state)
{
        AUTO(freep) char *before = NULL;

        dial_disk();
        for (unsigned round = 0; round < 20; round++) {
                AUTO(freep) char *after = NULL;

                for (unsigned i = 0; i < 20; i++)
                        io(i % 3 ? FE_WRITE : i % 2 ? FE_FLUSH : FE_READ, 8ull * i * round, i % 3 || !(i % 2) ? 4096 : 0, FE_OK);
                if (round == 10) { /* what a thread counted stays when its front end leaves */
                        fe_close(TAKE(fe, NULL));
                        dial_disk();
                }
                after = scrape();
                if (before)
                        compare(before, after);
                free(before);
                before = TAKE(after, NULL);
        }
        check_with_parser(before, true);
        fe_close(TAKE(fe, NULL));
}

static void test_names_and_text(void **state)
{
        AUTO(freep) char *text = NULL;

        must("blockdev-add", "{'driver':'null-co','node-name':'nothing','size':1048576}");
        must("blockdev-add", "{'driver':'null-co','node-name':'other','size':2097152}");
        must("block-export-add", "{'type':'vhost-user-blk','id':'nothing','node-name':'other','addr':{'type':'unix','path':'o.sock'}}");
        text = scrape();
        assert_true(value_in(text, "vdiskd_disks") == 3);
        assert_true(value_in(text, "vdiskd_disk_size_bytes{disk=\"nothing\"}") == 2097152); /* the export has the name */
        assert_true(value_in(text, "vdiskd_disk_size_bytes{disk=\"#nothing\"}") == 1048576);
        assert_null(strstr(text, "vdiskd_disk_allocated_bytes{disk=\"nothing\"}"));
        check_with_parser(text, false);
        must("blockdev-del", "{'node-name':'nothing'}");
        assert_true(metric("vdiskd_disks") == 2);
}

static void expect_status(const char *request, const char *status, const char *part)
{
        AUTO(freep) char *text = http(request);

        if (strncmp(text, status, strlen(status)) || !strstr(text, part))
                fail_msg("%s: %s", request, text);
}

static void test_other_requests(void **state)
{
        expect_status("GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200", "/metrics");
        expect_status("HEAD /metrics HTTP/1.0\r\n\r\n", "HTTP/1.1 200", "version=0.0.4");
        expect_status("GET /secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 404", "only /metrics");
        expect_status("GET /metrics/../etc HTTP/1.0\r\n\r\n", "HTTP/1.1 404", "only /metrics");
        expect_status("POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 405",
                      "Allow: GET");
        expect_status("DELETE /metrics HTTP/1.0\r\n\r\n", "HTTP/1.1 405", "Only GET");
        free(try_http("nonsense\r\n\r\n"));
}

/* More connections than are let in, which say half a word each: disks and control go on, and so does everybody else when they
 * have left. */
static void test_slow_readers(void **state)
{
        int fds[20];
        char *text;

        for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
                fds[i] = dial_metrics();
                send(fds[i], "GET /met", 8, MSG_NOSIGNAL); /* those above the limit are hung up on */
        }
        dial_disk();
        for (unsigned i = 0; i < 100; i++)
                io(FE_WRITE, 128ull * i, 4096, FE_OK);
        json_decref(ask("query-disk-stats"));
        fe_close(TAKE(fe, NULL));
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
                close(fds[i]);
        while (!(text = try_http("GET / HTTP/1.0\r\n\r\n"))) /* until it has seen that they left */
                usleep(2000);
        free(text);
        assert_true(metric(SERIES("requests_total", "write")) == 100);
}

/* How often its threads were given a processor: /proc/PID/task/TID/schedstat, the third number. */
static unsigned long times_run(void)
{
        unsigned long sum = 0, runs;
        struct dirent *e;
        char path[300];
        DIR *dir;

        snprintf(path, sizeof(path), "/proc/%d/task", daemon_pid);
        dir = opendir(path);
        assert_non_null(dir);
        while ((e = readdir(dir)) != NULL) {
                FILE *f;

                if (e->d_name[0] == '.')
                        continue;
                snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", daemon_pid, e->d_name);
                f = fopen(path, "r");
                if (!f || fscanf(f, "%*u %*u %lu", &runs) != 1)
                        skip(); /* a kernel without it */
                fclose(f);
                sum += runs;
        }
        closedir(dir);
        return sum;
}

/* A front end is connected and somebody has read the metrics; then nobody wants anything: no thread runs even once. What follows the
 * load (tables are written after some seconds) is over at some time. */
static void test_idle_is_idle(void **state)
{
        uint64_t deadline = clock_ns() + HANG_S * NS_PER_SEC;
        unsigned long before, after;

        if (SANITIZED_THREAD)
                skip(); /* it has a thread of its own, which wakes up */
        dial_disk();
        io(FE_READ, 0, 4096, FE_OK);
        free(scrape());
        do {
                before = times_run();
                sleep(1);
                after = times_run();
        } while (after != before && clock_ns() < deadline);
        assert_int_equal(before, after);
        fe_close(TAKE(fe, NULL));
}

/* The socket goes along with the disks. */
static void test_upgrade(void **state)
{
        struct qmp_client *old = client;
        json_t *ret = NULL;
        pid_t pid = daemon_pid;

        dial_disk();
        io(FE_WRITE, 0, 4096, FE_OK);
        wait_for(SERIES("request_duration_seconds_count", "write"), 1);
        assert_null(try(client, "upgrade", NULL, &ret));
        qmp_client_close(old);
        assert_int_equal(exit_status(), 0);
        daemon_pid = (pid_t)number_at(ret, "pid", NULL, NULL, NULL);
        json_decref(ret);
        assert_int_not_equal(daemon_pid, pid);
        client = dial();
        io(FE_WRITE, 0, 4096, FE_OK);
        wait_for(SERIES("request_duration_seconds_count", "write"), 2);
        assert_true(metric(SERIES("requests_total", "write")) == 2);
        fe_close(TAKE(fe, NULL));
        must("quit", NULL);
        while (kill(daemon_pid, 0) == 0) /* not our child */
                usleep(2000);
        daemon_pid = 0;
        assert_false(exists("metrics.sock"));
}

#define WITH_METRICS(test) cmocka_unit_test_setup_teardown(test, start_with_metrics, stop)

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                WITH_METRICS(test_counts_are_what_was_done),
                WITH_METRICS(test_stages_add_up),
                WITH_METRICS(test_a_request_that_waits),
                WITH_METRICS(test_nothing_goes_back),
                WITH_METRICS(test_names_and_text),
                WITH_METRICS(test_other_requests),
                WITH_METRICS(test_slow_readers),
                WITH_METRICS(test_idle_is_idle),
                WITH_METRICS(test_upgrade),
        };

        if (argc < 3) {
                fprintf(stderr, "usage: e2e_metrics CHECK_METRICS DASHBOARD\n");
                return 2;
        }
        check_metrics = argv[1];
        dashboard = argv[2];
        return cmocka_run_group_tests(tests, make_images, remove_images);
}
