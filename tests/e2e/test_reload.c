/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A daemon of a configuration: what a reload does, what it leaves, what it undoes; disks that are saved and taken out. Files
 * are named relative to the daemon's directory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "tests/e2e/control_fixture.h"

#define MAIN "[vdiskd]\niothreads = 2\ncontrol = control.sock\nlog-level = error\n"
#define FIRST "[disk first]\npath = first.qcow2\nformat = qcow2\nsocket = first.sock\n"
#define SECOND "[disk second]\npath = second.qcow2\nformat = qcow2\nsocket = second.sock\n"
#define ZEROS "[disk zeros]\npath = zeros.img\nformat = raw\nsocket = zeros.sock\n"

static void put(const char *name, const char *text)
{
        FILE *f = fopen(at(name), "we");

        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
}

static int start_configured(void **state)
{
        (void)state;
        assert_int_equal(run("rm -rf disks.d && mkdir disks.d"), 0);
        put("vdiskd.conf", MAIN);
        put("disks.d/first.conf", FIRST);
        start_with((const char *const[]){ "--config=vdiskd.conf", NULL });
        client = dial();
        return 0;
}

static int compare(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The disks that are served, as "first,second". */
static const char *served(void)
{
        static char names[256];
        json_t *all = ask("query-block-exports"), *o;
        const char *ids[16];
        size_t i, n = 0;

        json_array_foreach (all, i, o)
                if (!json_is_true(json_object_get(o, "shutting-down")) && n < ARRAY_SIZE(ids))
                        ids[n++] = json_string_value(json_object_get(o, "id"));
        qsort(ids, n, sizeof(*ids), compare);
        names[0] = '\0';
        for (i = 0; i < n; i++) {
                strcat(names, i ? "," : "");
                strcat(names, ids[i]);
        }
        json_decref(all);
        return names;
}

/* The answer as text, or the error. */
static const char *reload(void)
{
        static char text[2048];
        json_t *what = NULL;
        const char *error = try(client, "reload-config", NULL, &what);
        char *dump = error ? NULL : json_dumps(what, JSON_COMPACT);

        snprintf(text, sizeof(text), "%s", error ?: dump);
        free(dump);
        json_decref(what);
        return text;
}

static void expect(const char *got, const char *part)
{
        if (!strstr(got, part))
                fail_msg("got '%s' instead of '%s'", got, part);
}

/* --- differences only ---------------------------------------------------------------------------------------------- */

static void test_disks_come_and_go(void **state)
{
        struct front_end *fe = connect_to("first.sock");

        (void)state;
        assert_string_equal(served(), "first");
        expect(reload(), "{\"added\":[],\"removed\":[],\"changed\":[],\"left\":[]}");
        put("disks.d/second.conf", SECOND ZEROS);
        expect(reload(), "\"removed\":[],\"changed\":[],\"left\":[]}");
        assert_string_equal(served(), "first,second,zeros");
        assert_true(exists("second.sock"));
        put("disks.d/second.conf", ZEROS);
        expect(reload(), "{\"added\":[],\"removed\":[\"second\"],\"changed\":[],\"left\":[]}");
        assert_string_equal(served(), "first,zeros");
        assert_false(exists("second.sock"));
        assert_int_equal(run("qemu-img check -q second.qcow2"), 0);
        fe_close(fe); /* it was connected all the time */
}

/* Disks of a controller are told apart by their LUNs; the socket goes with the last one. */
static void test_units_come_and_go(void **state)
{
#define UNIT(name, file, lun) "[disk " name "]\npath = " file "\nformat = qcow2\nsocket = scsi.sock\ndevice = scsi\nlun = " lun "\n"
        (void)state;
        put("disks.d/second.conf", UNIT("unit0", "second.qcow2", "0"));
        expect(reload(), "{\"added\":[\"unit0\"]");
        assert_int_equal(run("qemu-img create -q -f qcow2 third.qcow2 4M"), 0);
        put("disks.d/third.conf", UNIT("unit7", "third.qcow2", "0"));
        expect(reload(), "lun");
        assert_string_equal(served(), "first,unit0");
        put("disks.d/third.conf", UNIT("unit7", "third.qcow2", "7"));
        expect(reload(), "{\"added\":[\"unit7\"],\"removed\":[],\"changed\":[],\"left\":[]}");
        expect(entry("query-block-exports", "id", "unit7"), "\"lun\":7");
        expect(reload(), "{\"added\":[],\"removed\":[],\"changed\":[],\"left\":[]}");
        put("disks.d/second.conf", "");
        expect(reload(), "\"removed\":[\"unit0\"]");
        assert_true(exists("scsi.sock"));
        put("disks.d/third.conf", "");
        expect(reload(), "\"removed\":[\"unit7\"]");
        while (exists("scsi.sock"))
                usleep(1000);
        assert_string_equal(served(), "first");
}

static void test_a_disk_in_use_stays(void **state)
{
        struct front_end *fe;

        (void)state;
        put("disks.d/second.conf", SECOND);
        expect(reload(), "{\"added\":[\"second\"]");
        fe = connect_to("second.sock");
        assert_int_equal(unlink(at("disks.d/second.conf")), 0);
        expect(reload(), "disk second: disk 'second' is in use: a front end is connected; it stays");
        assert_string_equal(served(), "first,second");
        expect(reload(), "second"); /* and is told again */
        fe_close(fe);
        for (uint64_t end = clock_ns() + HANG_S * NS_PER_SEC; !strstr(reload(), "\"removed\":[\"second\"]"); usleep(2000))
                assert_true(clock_ns() < end); /* until it has seen that the front end is gone */
        assert_string_equal(served(), "first");
}

/* What one wants that the other gives up. */
static void test_another_name(void **state)
{
        (void)state;
        put("disks.d/first.conf", "[disk other]\npath = first.qcow2\nformat = qcow2\nsocket = first.sock\n");
        expect(reload(), "{\"added\":[\"other\"],\"removed\":[\"first\"]");
        assert_string_equal(served(), "other");
        fe_close(connect_to("first.sock"));
}

static void test_a_signal_does_it(void **state)
{
        (void)state;
        put("disks.d/second.conf", SECOND);
        assert_int_equal(kill(daemon_pid, SIGHUP), 0);
        for (uint64_t end = clock_ns() + HANG_S * NS_PER_SEC; strcmp(served(), "first,second"); usleep(2000))
                assert_true(clock_ns() < end);
}

static unsigned mode_of(const char *name)
{
        struct stat st;

        assert_int_equal(stat(at(name), &st), 0);
        return st.st_mode & 0777;
}

static void test_keys_change_or_are_left(void **state)
{
        (void)state;
        put("disks.d/first.conf", FIRST "socket-mode = 0600\n");
        expect(reload(), "\"changed\":[\"first\"],\"left\":[]}");
        assert_int_equal(mode_of("first.sock"), 0600);
        put("disks.d/first.conf", FIRST "socket-mode = 0666\nserial = abc\n");
        expect(reload(), "serial=abc in place of (default) cannot change while it is served");
        assert_int_equal(mode_of("first.sock"), 0666);
        put("disks.d/first.conf", FIRST "socket-mode = 0666\n");
        put("vdiskd.conf", MAIN "poll-us = 7\n");
        expect(reload(), "poll-us: '7' in place of '(default)' comes with the next start or upgrade");
        put("vdiskd.conf", "[vdiskd]\niothreads = 2\ncontrol = control.sock\nlog-level = debug\npoll-us = 7\n");
        expect(reload(), "\"changed\":[\"log-level\"]");
}

/* The limits of the first disk, as text. */
static const char *limits(void)
{
        static char text[64];
        json_t *all = ask("query-named-block-nodes"), *o = json_array_get(all, 0);

        snprintf(text, sizeof(text), "iops %lld bps %lld", (long long)json_integer_value(json_object_get(o, "iops")),
                 (long long)json_integer_value(json_object_get(o, "bps")));
        json_decref(all);
        return text;
}

static void test_limits_change(void **state)
{
        (void)state;
        put("disks.d/first.conf", FIRST "iops-total = 100\n");
        expect(reload(), "\"changed\":[\"first\"],\"left\":[]}");
        expect(limits(), "iops 100 bps 0");
        put("disks.d/group.conf", "[throttle-group g]\nlimits.iops-total = 50\nlimits.bps-total = 1M\n");
        put("disks.d/first.conf", FIRST "throttle-group = g\n");
        expect(reload(), "\"changed\":[\"first\"],\"left\":[]}");
        expect(limits(), "iops 50 bps 1048576");
        put("disks.d/group.conf", "[throttle-group g]\nlimits.iops-total = 70\n");
        expect(reload(), "\"changed\":[\"throttle-group,id=g,limits.iops-total=70\"],\"left\":[]}");
        expect(limits(), "iops 70 bps 0");
        put("disks.d/group.conf", "");
        expect(reload(), "object 'g' is in use"); /* and stays */
        put("disks.d/first.conf", FIRST);
        expect(reload(), "\"changed\":[\"first\"]");
        expect(limits(), "iops 0 bps 0");
}

static const char *in_flight(void)
{
        static char text[64];
        json_t *all = ask("query-disk-stats"), *o = json_array_get(json_object_get(all, "disks"), 0);

        snprintf(text, sizeof(text), "max %lld", (long long)json_integer_value(json_object_get(o, "max-in-flight")));
        json_decref(all);
        return text;
}

static void test_in_flight_changes(void **state)
{
        (void)state;
        expect(in_flight(), "max 4194304");
        put("disks.d/first.conf", FIRST "max-in-flight = 2M\n");
        expect(reload(), "\"changed\":[\"first\"],\"left\":[]}");
        expect(in_flight(), "max 2097152");
        put("disks.d/first.conf", FIRST);
        expect(reload(), "\"changed\":[\"first\"],\"left\":[]}");
        expect(in_flight(), "max 4194304");
}

/* --- nothing, when something is wrong ------------------------------------------------------------------------------- */

static void test_one_mistake_changes_nothing(void **state)
{
        (void)state;
        put("disks.d/zeros.conf", ZEROS);
        put("disks.d/first.conf", ""); /* would go */
        put("disks.d/second.conf", SECOND "num-queue = 3\ncache = fast\n");
        expect(reload(), "disks.d/second.conf:5: 'num-queue' is not a key of a disk; did you mean 'num-queues'? (and 1 more");
        assert_string_equal(served(), "first");
        put("disks.d/second.conf", SECOND "fdname = x\n");
        expect(reload(), "nothing was changed");
        assert_string_equal(served(), "first");
}

/* The text is right, but a disk cannot be had. */
static void test_what_cannot_be_opened_is_undone(void **state)
{
        (void)state;
        put("disks.d/first.conf", "");
        put("disks.d/second.conf", SECOND);
        put("disks.d/third.conf", "[disk third]\npath = no.img\nformat = raw\nsocket = third.sock\n");
        expect(reload(), "disk third (disks.d/third.conf:1): ");
        expect(reload(), "No such file or directory; nothing was changed");
        assert_string_equal(served(), "first");
        put("disks.d/third.conf", "[disk third]\npath = zeros.img\nformat = raw\nsocket = no/third.sock\n");
        expect(reload(), "no/third.sock");
        assert_string_equal(served(), "first");
        assert_false(exists("second.sock"));
        assert_int_equal(run("qemu-img check -q second.qcow2"), 0); /* and it is not locked */
        put("disks.d/third.conf", "");
        expect(reload(), "{\"added\":[\"second\"],\"removed\":[\"first\"]");
}

static void test_what_others_made_is_not_ours(void **state)
{
        (void)state;
        must("blockdev-add", "{'driver':'raw','node-name':'zeros','file':{'driver':'file','filename':'zeros.img'}}");
        put("disks.d/zeros.conf", ZEROS);
        expect(reload(), "disks.d/zeros.conf:1: there is a disk 'zeros' that the configuration did not make");
        must("blockdev-del", "{'node-name':'zeros'}");
        expect(reload(), "{\"added\":[\"zeros\"]");
        must("block-export-del", "{'id':'zeros'}"); /* by hand: comes back */
        expect_event(client, "BLOCK_EXPORT_DELETED", "zeros");
        must("blockdev-del", "{'node-name':'zeros'}");
        expect(reload(), "{\"added\":[\"zeros\"]");
}

/* --- disks that are saved ------------------------------------------------------------------------------------------- */

#define KEYS "'keys':{'path':'second.qcow2','format':'qcow2','socket':'second.sock','num-queues':3,'read-only':false}"

static void test_add_save_remove(void **state)
{
        struct front_end *fe;

        (void)state;
        must("disk-add", "{'id':'second'," KEYS ",'save':true}");
        assert_string_equal(served(), "first,second");
        assert_int_equal(run("grep -qx 'num-queues = 3' disks.d/second.conf && test $(ls -A disks.d | wc -l) = 2"), 0);
        expect(reload(), "{\"added\":[],\"removed\":[],\"changed\":[],\"left\":[]}");
        fe = connect_to("second.sock");
        expect(try(client, "disk-remove", "{'id':'second','save':true}", NULL), "is in use: a front end is connected");
        assert_true(exists("disks.d/second.conf"));
        must("disk-remove", "{'id':'second','save':true,'force':true}");
        fe_close(fe);
        assert_string_equal(served(), "first");
        assert_false(exists("disks.d/second.conf"));
        must("disk-add", "{'id':'second'," KEYS "}"); /* not saved: not of the configuration */
        assert_false(exists("disks.d/second.conf"));
        expect(reload(), "{\"added\":[],\"removed\":[]");
        must("block-export-add", "{'type':'vhost-user-blk','id':'more','node-name':'second','addr':{'type':'unix','path':'more.sock'}}");
        expect(try(client, "disk-remove", "{'id':'more'}", NULL), "its image has 2 exports");
        expect(try(client, "disk-remove", "{'id':'second','force':true}", NULL), "its image has 2 exports");
        must("block-export-del", "{'id':'more'}");
        for (uint64_t end = clock_ns() + HANG_S * NS_PER_SEC; *entry("query-block-exports", "id", "more"); usleep(2000))
                assert_true(clock_ns() < end);
        must("disk-remove", "{'id':'second'}");
        expect(try(client, "disk-remove", "{'id':'second'}", NULL), "there is no disk 'second'");
}

/* A snapshot gives a disk another image: a start after that must not find the old one. */
static void test_saved_disks_follow_their_images(void **state)
{
        (void)state;
        must("disk-add", "{'id':'second'," KEYS ",'save':true}");
        must("blockdev-snapshot-sync", "{'node-name':'second','snapshot-file':'top.qcow2','snapshot-node-name':'top','format':'qcow2'}");
        must("blockdev-snapshot-sync", "{'node-name':'first','snapshot-file':'top1.qcow2','snapshot-node-name':'top1','format':'qcow2'}");
        for (uint64_t end = clock_ns() + HANG_S * NS_PER_SEC; run("grep -qx 'path = top.qcow2' disks.d/second.conf"); usleep(2000))
                assert_true(clock_ns() < end);
        assert_int_equal(run("grep -qx 'path = first.qcow2' disks.d/first.conf"), 0); /* that is people's */
        expect(reload(), "disk first: path=first.qcow2 in place of top1.qcow2 cannot change while it is served");
        assert_string_equal(served(), "first,second");
        put("disks.d/first.conf", "[disk first]\npath = top1.qcow2\nformat = qcow2\nsocket = first.sock\n");
        expect(reload(), "{\"added\":[],\"removed\":[],\"changed\":[],\"left\":[]}");
        must("disk-remove", "{'id':'second','save':true}");
        assert_false(exists("disks.d/second.conf"));
        assert_string_equal(served(), "first");
        unlink(at("disks.d/first.conf"));
        expect(reload(), "\"removed\":[\"first\"]");
}

static void test_what_cannot_be_saved(void **state)
{
        (void)state;
        put("disks.d/second.conf", "# mine\n");
        expect(try(client, "disk-add", "{'id':'second'," KEYS ",'save':true}", NULL), "disks.d/second.conf: cannot be written: File exists");
        assert_string_equal(served(), "first");
        assert_false(exists("second.sock"));
        expect(try(client, "disk-add", "{'id':'x','keys':{'path':'zeros.img','format':'raw','socket':'x.sock','serial':' x'},'save':true}",
                   NULL), "serial=' x': a value with a space");
        assert_string_equal(served(), "first");
        expect(try(client, "disk-remove", "{'id':'first','save':true}", NULL), "was not written by vdiskd");
        assert_true(exists("disks.d/first.conf"));
        expect(reload(), "{\"added\":[\"first\"]"); /* it was removed, and its file was not */
}

/* --- starting -------------------------------------------------------------------------------------------------------- */

static void test_one_typo_in_a_hundred_files_starts_nothing(void **state)
{
        char name[64], text[256];

        (void)state;
        assert_int_equal(run("rm -rf disks.d && mkdir disks.d"), 0);
        put("vdiskd.conf", MAIN);
        for (unsigned i = 0; i < 100; i++) {
                snprintf(name, sizeof(name), "disks.d/d%u.conf", i);
                snprintf(text, sizeof(text), "[disk d%u]\nformat = null\nsize = 1M\n%s = d%u.sock\n", i, i == 77 ? "sokcet" : "socket", i);
                put(name, text);
        }
        assert_int_equal(run("$E2E_BACK_END --config=vdiskd.conf 2>err"), 256);
        assert_int_equal(run("grep -q \"disks.d/d77.conf:4: 'sokcet' is not a key of a disk; did you mean 'socket'?\" err"), 0);
        assert_false(exists("d0.sock"));
        assert_int_equal(run("$E2E_BACK_END --config=vdiskd.conf --check-config 2>/dev/null"), 256);
        put("disks.d/d77.conf", "");
        assert_int_equal(run("$E2E_BACK_END --config=vdiskd.conf --check-config | grep -q 'fine, 99 disks'"), 0);
        start_with((const char *const[]){ "--config=vdiskd.conf", NULL });
        client = dial();
        assert_true(exists("d99.sock"));
        assert_int_equal(run("rm -r disks.d"), 0);
        expect(reload(), "\"left\":[]}");
        assert_string_equal(served(), "");
}

/* As qemu-storage-daemon. */
static void test_hangup_without_configuration(void **state)
{
        (void)state;
        start_daemon(NULL);
        expect(try(client, "reload-config", NULL, NULL), "there is no configuration to read again");
        expect(try(client, "disk-add", "{'id':'second'," KEYS ",'save':true}", NULL), "there is no configuration to save in");
        must("disk-add", "{'id':'second'," KEYS "}");
        assert_int_equal(kill(daemon_pid, SIGHUP), 0);
        assert_int_equal(exit_status(), 0);
}

/* The new process knows what holds, not what the files say by then. */
static void test_upgrade_keeps_what_holds(void **state)
{
        (void)state;
        put("disks.d/second.conf", SECOND);
        expect(reload(), "{\"added\":[\"second\"]");
        put("disks.d/second.conf", "");
        put("disks.d/zeros.conf", ZEROS);
        must("upgrade", NULL);
        qmp_client_close(client);
        client = dial();
        assert_string_equal(served(), "first,second");
        expect(reload(), "{\"added\":[\"zeros\"],\"removed\":[\"second\"]");
        must("quit", NULL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_disks_come_and_go, start_configured, stop),
                cmocka_unit_test_setup_teardown(test_units_come_and_go, start_configured, stop),
                cmocka_unit_test_setup_teardown(test_a_disk_in_use_stays, start_configured, stop),
                cmocka_unit_test_setup_teardown(test_another_name, start_configured, stop),
                cmocka_unit_test_setup_teardown(test_a_signal_does_it, start_configured, stop),
                cmocka_unit_test_setup_teardown(test_keys_change_or_are_left, start_configured, stop),
                cmocka_unit_test_setup_teardown(test_limits_change, start_configured, stop),
                cmocka_unit_test_setup_teardown(test_in_flight_changes, start_configured, stop),
                cmocka_unit_test_setup_teardown(test_one_mistake_changes_nothing, start_configured, stop),
                cmocka_unit_test_setup_teardown(test_what_cannot_be_opened_is_undone, start_configured, stop),
                cmocka_unit_test_setup_teardown(test_what_others_made_is_not_ours, start_configured, stop),
                cmocka_unit_test_setup_teardown(test_add_save_remove, start_configured, stop),
                cmocka_unit_test_setup_teardown(test_saved_disks_follow_their_images, start_configured, stop),
                cmocka_unit_test_setup_teardown(test_what_cannot_be_saved, start_configured, stop),
                cmocka_unit_test_teardown(test_one_typo_in_a_hundred_files_starts_nothing, stop),
                cmocka_unit_test_teardown(test_hangup_without_configuration, stop),
                cmocka_unit_test_setup_teardown(test_upgrade_keeps_what_holds, start_configured, stop),
        };

        return cmocka_run_group_tests(tests, make_images, remove_images);
}
