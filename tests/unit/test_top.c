/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables of vdiskctl, from canned answers of query-disk-stats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "tools/vdiskctl/disk_view.h"
#include "tools/vdiskctl/stats_print.h"
#include "tools/vdiskctl/top.h"

#define OP(requests, bytes, buckets) \
        "{'requests':" #requests ",'bytes':" #bytes ",'errors':0,'invalid':0,'latency':{" \
        "'queue':{'sum-ns':0,'p99-ns':256},'map':{'sum-ns':2000,'p99-ns':512},'disk':{'sum-ns':90000,'p99-ns':114688}," \
        "'notify':{'sum-ns':8000,'p99-ns':1280}," \
        "'total':{'sum-ns':100000,'p50-ns':98304,'p90-ns':98304,'p99-ns':131072,'p999-ns':131072,'max-ns':131072," \
        "'buckets':" buckets "}}}"
#define NOTHING OP(0, 0, "[]")
#define DISK(name, flags, read, write) \
        "{'disk':'" name "','format':'qcow2','read-only':false,'backing-depth':1,'exports':1,'connected':2,'flags':" flags \
        ",'virtual-size':1073741824,'allocated':5368709120,'in-flight':3,'oldest-age-ns':1500000,'idle-ns':2000000000," \
        "'home-requests':7,'flushes-coalesced':1,'copied-up-bytes':4096,'highest-write':65536,'table-hits':75,'table-misses':25," \
        "'operations':{'read':" read ",'write':" write ",'flush':" NOTHING ",'discard':" NOTHING ",'write_zeroes':" NOTHING "}}"
#define ANSWER(time, busy, idle, disks) \
        "{'time-ns':" #time ",'threads':[{'name':'q0','busy-ns':0,'idle-ns':" #time ",'cpu-ns':0}," \
        "{'name':'q1','busy-ns':" #busy ",'idle-ns':" #idle ",'cpu-ns':0}],'disks':[" disks "]}"

static json_t *parse(const char *text)
{
        AUTO(freep) char *copy = strdup(text);
        json_error_t error;
        json_t *v;

        for (char *p = copy; *p; p++)
                *p = *p == '\'' ? '"' : *p;
        v = json_loads(copy, 0, &error);
        if (!v)
                fail_msg("%s at %d", error.text, error.position);
        return v;
}

/* Two seconds apart: "busy" did 2000 reads of 4 KiB (1980 in the bucket up to 98304 ns, 20 up to 1 ms) and 500 writes. */
static const char before_text[] = ANSWER(10000000000, 1000000000, 9000000000,
        DISK("busy", "[]", OP(1000, 4096000, "[[98304,1000]]"), OP(10, 40960, "[[98304,10]]")) ","
        DISK("idle", "[]", NOTHING, NOTHING));
static const char now_text[] = ANSWER(12000000000, 2500000000, 9500000000,
        DISK("busy", "['held','job']", OP(3000, 12288000, "[[98304,2980],[1048576,20]]"), OP(510, 2088960, "[[98304,510]]")) ","
        DISK("idle", "['failed']", NOTHING, NOTHING) ","
        DISK("new\\u001b[31m-disk-with-a-very-long-name-indeed", "[]", NOTHING, NOTHING));

static void test_views(void **state)
{
        json_t *before = parse(before_text), *now = parse(now_text);
        struct disk_view *v;

        assert_int_equal(disk_views(now, before, &v), 3);
        assert_string_equal(v[0].name, "busy");
        assert_true(v[0].iops == 1250);
        assert_true(v[0].read_bytes == 4096000);
        assert_true(v[0].write_bytes == 1024000);
        assert_true(v[0].p50_ns == 98304);
        assert_true(v[0].p99_ns == 98304);
        assert_true(v[0].depth == 3 && v[0].oldest_ns == 1500000 && v[0].allocated == 5368709120.0);
        assert_string_equal(v[0].flags, "HJ");
        assert_true(v[1].iops == 0 && v[1].p50_ns < 0);
        assert_string_equal(v[1].flags, "F");
        assert_true(view_seconds(now, before) == 2);
        assert_true(view_busy(now, before) == 0.75);
        free(v);
        json_decref(before);
        json_decref(now);
}

/* A disk that was taken away and added anew counts from 0; and so do quantiles when there is no look before. */
static void test_views_without_a_past(void **state)
{
        json_t *before = parse(now_text), *now = parse(before_text);
        struct disk_view *v;

        json_object_set_new(now, "time-ns", json_integer(13000000000));
        disk_views(now, before, &v);
        assert_true(v[0].iops == 1010);
        free(v);
        disk_views(now, NULL, &v);
        assert_true(v[0].iops == 0 && v[0].p99_ns == 98304);
        free(v);
        disk_views(NULL, NULL, &v);
        free(v);
        json_decref(before);
        json_decref(now);
}

static void test_short_numbers(void **state)
{
        static const struct { double n; const char *count, *bytes, *time; } cases[] = {
                { 0, "0", "0", "0" },              { 1, "1", "1", "1ns" },             { 999, "999", "999", "999ns" },
                { 1000, "1.0k", "1000", "1.0us" }, { 1024, "1.0k", "1.0K", "1.0us" },  { 12345, "12k", "12K", "12us" },
                { 999400, "999k", "976K", "999us" }, { 999600, "1.0M", "976K", "1.0ms" }, { 1e9, "1.0G", "954M", "1.0s" },
                { 123e9, "123G", "115G", "123s" },
        };
        char buf[16];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_string_equal(view_count(cases[i].n, buf, sizeof(buf)), cases[i].count);
                assert_string_equal(view_bytes(cases[i].n, buf, sizeof(buf)), cases[i].bytes);
                assert_string_equal(view_time(cases[i].n, buf, sizeof(buf)), cases[i].time);
        }
        assert_string_equal(view_time(-1, buf, sizeof(buf)), "-");
        assert_string_equal(view_bytes(-1, buf, sizeof(buf)), "-");
}

static char *print(const struct top *t, const json_t *now, const json_t *before)
{
        char *text = NULL;
        size_t len;
        FILE *f = open_memstream(&text, &len);

        assert_int_equal(top_print(t, now, before, f), 0);
        fclose(f);
        return text;
}

static void test_top_in_80_columns(void **state)
{
        static const char want[] =
                "vdiskd: 3 disks, 1.2k requests/s, read 3.9MB/s, written 1000KB/s, busiest thread 75%\n"
                "DISK                   IOPS READ/s WRITE/s   P50   P99 DEPTH OLDEST  ALLOC FLAGS\n"
                "busy                   1.2k   3.9M   1000K  98us  98us     3  1.5ms   5.0G    HJ\n"
                "idle                      0      0       0     -     -     3  1.5ms   5.0G     F\n"
                "new?[31m-disk-with-+      0      0       0     -     -     3  1.5ms   5.0G     -\n";
        json_t *before = parse(before_text), *now = parse(now_text);
        struct top t;
        char *text;

        top_init(&t);
        text = print(&t, now, before);
        assert_string_equal(text, want);
        free(text);
        json_decref(before);
        json_decref(now);
}

/* What is below the screen is counted; the sorted column is marked; no line is longer than the terminal is wide. */
static void test_top_on_a_terminal(void **state)
{
        json_t *before = parse(before_text), *now = parse(now_text);
        struct top t;
        char *text;

        top_init(&t);
        t.terminal = true;
        t.height = 6;
        text = print(&t, now, NULL);
        assert_non_null(strstr(text, "\x1b[7m  IOPS\x1b[0m"));
        assert_non_null(strstr(text, "... and 1 more"));
        assert_non_null(strstr(text, "      -      -       -"));
        assert_null(strstr(text, "\x1b[31m")); /* a name is no command */
        free(text);
        t.height = 7;
        t.width = 100;
        text = print(&t, now, before);
        assert_non_null(strstr(text, "H held"));
        assert_non_null(strstr(text, "new?[31m-disk-with-a-very-long-name-in+"));
        free(text);
        json_decref(before);
        json_decref(now);
}

static void expect_order(const struct top *t, const json_t *now, const json_t *before, const char *first, const char *last)
{
        AUTO(freep) char *text = print(t, now, before);

        assert_true(strstr(text, first) < strstr(text, last));
}

static void test_order(void **state)
{
        json_t *before = parse(before_text), *now = parse(now_text);
        struct top t;

        top_init(&t);
        expect_order(&t, now, before, "\nbusy", "\nidle");
        assert_true(top_key(&t, 'i')); /* it is sorted by that: the other way round */
        expect_order(&t, now, before, "\nidle", "\nbusy");
        assert_true(top_key(&t, 'n'));
        expect_order(&t, now, before, "\nbusy", "\nidle");
        assert_true(top_key(&t, 'n'));
        expect_order(&t, now, before, "\nnew", "\nbusy");
        assert_true(top_key(&t, '<'));
        assert_int_equal(t.sort, TOP_FLAGS);
        assert_true(top_key(&t, '>'));
        assert_int_equal(t.sort, TOP_NAME);
        assert_false(top_key(&t, 'x'));
        assert_false(top_key(&t, 0));
        for (int i = 0; i < 200; i++)
                top_key(&t, '-');
        assert_true(t.interval > 0.1 && t.interval <= 0.25);
        for (int i = 0; i < 200; i++)
                top_key(&t, '+');
        assert_true(t.interval >= 60 && t.interval < 62);
        assert_int_equal(top_column_named("p99"), TOP_P99);
        assert_int_equal(top_column_named("x"), -1);
        json_decref(before);
        json_decref(now);
}

static void test_stats_tables(void **state)
{
        json_t *now = parse(now_text);
        char *text = NULL;
        size_t len;
        FILE *f = open_memstream(&text, &len);

        stats_print_all(json_object_get(now, "disks"), f);
        fclose(f);
        assert_non_null(strstr(text, "  read           3000  11.7 MiB       0   33ns  98us  131us"));
        assert_non_null(strstr(text, "  -                 0       0 B       0      -     -"));
        assert_non_null(strstr(text, "\nnew?[31m-disk-with-a-very-long-name-indeed  -  "));
        free(text);
        f = open_memstream(&text, &len);
        stats_print_disk(json_array_get(json_object_get(now, "disks"), 0), f);
        fclose(f);
        assert_ptr_equal(strstr(text, "busy: qcow2, 1 GiB, 5 GiB allocated, read-write, 2 front ends connected, 1 backing image, held, "
                                      "job\n3 requests in flight, the oldest for 1.5ms; the last answer was 2.0s ago\n\n"), text);
        assert_non_null(strstr(text, "lookups that found their tables: 75.0 % of 100"));
        assert_non_null(strstr(text, "through the home thread: 7 requests; flushes that another one did: 1\n"));
        assert_non_null(strstr(text, "MEAN AND P99 OF"));
        free(text);
        json_decref(now);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_views),
                cmocka_unit_test(test_views_without_a_past),
                cmocka_unit_test(test_short_numbers),
                cmocka_unit_test(test_top_in_80_columns),
                cmocka_unit_test(test_top_on_a_terminal),
                cmocka_unit_test(test_order),
                cmocka_unit_test(test_stats_tables),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
