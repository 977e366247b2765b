/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "vdiskd/config/options.h"

#define ARGS_MAX 8
#define LONG_PATH "/run/a-directory-with-a-name-that-is-far-too-long-for-any-socket/and-another-one-below-it/and-then-the-name.sock"

static int parse(struct options *o, char *const *args)
{
        char *argv[ARGS_MAX + 1] = { (char *)"vdiskd" };
        int argc = 1;

        while (args[argc - 1]) {
                argv[argc] = args[argc - 1];
                argc++;
        }
        err_clear();
        return options_parse(o, argc, argv);
}

/* --- what must be refused, and the words that must be in the sentence --------------------------------------------- */

static const struct bad {
        const char *args[ARGS_MAX], *says[3];
} bad[] = {
        { { NULL }, { "nothing to serve", "--blk-file=FILE" } },
        { { "--control=" }, { "--control", "empty" } },
        { { "--control=" LONG_PATH }, { "and-then-the-name.sock", "107" } },
        { { "--metrics=9100" }, { "--metrics=9100", "127.0.0.1:PORT" } },
        { { "--metrics=" }, { "--metrics=", "expected unix:PATH" } },
        { { "--metrics=localhost:9100" }, { "'localhost'", "127.0.0.1:PORT" } },
        { { "--metrics=0.0.0.0:9100" }, { "0.0.0.0:9100", "other hosts could reach" } },
        { { "--metrics=10.1.2.3:9100" }, { "10.1.2.3:9100", "other hosts could reach" } },
        { { "--metrics=[::]:9100" }, { "[::]:9100", "other hosts could reach" } },
        { { "--metrics=[::1:9100" }, { "[::1:9100", "expected unix:PATH" } },
        { { "--metrics=[::1]9100" }, { "[::1]9100", "" } },
        { { "--metrics=[" }, { "--metrics=[", "expected unix:PATH" } },
        { { "--metrics=:1" }, { "''", "no address" } },
        { { "--metrics=127.0.0.1:0" }, { "'0'", "1 to 65535" } },
        { { "--metrics=127.0.0.1:65536" }, { "'65536'", "1 to 65535" } },
        { { "--metrics=127.0.0.1:9x" }, { "'9x'", "1 to 65535" } },
        { { "--metrics=127.0.0.1:" }, { "''", "1 to 65535" } },
        { { "--metrics=unix:" }, { "unix:", "empty" } },
        { { "--metrics=unix:" LONG_PATH }, { "unix:", "107" } },
        { { "--control=/c", "--control-fdname=c" }, { "--control=/c and --control-fdname=c", "one of them" } },
        { { "--control=/s", "--disk", "path=a,socket=/s" }, { "socket /s", "disk disk0 and to --control" } },
        { { "--control-fdname=c", "--disk", "path=a,fdname=c" }, { "fdname c", "disk disk0 and to --control-fdname" } },
        { { "--disk", "path=a,socket=/s,id=1" }, { "id=1", "expected a letter" } },
        { { "--disk", "path=a,socket=/s,id=a/b" }, { "id=a/b", "expected a letter" } },
        { { "--disk", "path=a,socket=/s,id=x", "--disk", "path=b,socket=/t,id=x" }, { "id=x", "two disks" } },
        { { "--disk", "path=a,socket=/s,id=disk1", "--disk", "path=b,socket=/t" }, { "id=disk1", "two disks" } },
        { { "--disk", "path=a,format=raw,data-file=b,socket=/s" }, { "data-file=b", "raw images have no external data file" } },
        { { "--frobnicate" }, { "--frobnicate", "no such option", "--help" } },
        { { "--iothread=2" }, { "--iothread=2", "did you mean '--iothreads'?" } },
        { { "-x" }, { "-x", "expected an option" } },
        { { "-hV" }, { "-hV", "expected an option" } },
        { { "disk.img" }, { "disk.img", "expected an option" } },
        { { "--" }, { "--", "expected an option" } },
        { { "--socket-path=/s" }, { "--blk-file=FILE is missing" } },
        { { "--socket-path" }, { "--socket-path", "a value is missing", "--socket-path=PATH" } },
        { { "--socket-path=", "--blk-file=a" }, { "--socket-path", "empty" } },
        { { "--socket-path=" LONG_PATH, "--blk-file=a" }, { "and-then-the-name.sock", "107" } },
        { { "--blk-file=a", "--fd=3", "--socket-path=/s" }, { "--socket-path=/s and --fd=3", "one of them" } },
        { { "--blk-file=a", "--fd=-1" }, { "--fd=-1", "number" } },
        { { "--blk-file=a", "--fd=three" }, { "--fd=three", "number" } },
        { { "--blk-file=a", "--fd=99999999999999999999" }, { "99999999999999999999", "number" } },
        { { "--blk-file=" }, { "--blk-file", "empty" } },
        { { "--blk-file=a", "--read-only=yes" }, { "--read-only=yes", "takes no value" } },
        { { "--blk-file=a", "--format=qed" }, { "--format=qed", "no such format", "raw" } },
        { { "--blk-file=a", "--format=null" }, { "--format=null", "--disk format=null" } },
        { { "--iothreads=0" }, { "--iothreads=0", "1 to 64" } },
        { { "--iothreads=65" }, { "--iothreads=65", "1 to 64" } },
        { { "--iothreads=2x" }, { "--iothreads=2x", "1 to 64" } },
        { { "--iothreads= 2" }, { "--iothreads= 2", "1 to 64" } },
        { { "--poll-us=-5" }, { "--poll-us=-5", "0 to 1000000" } },
        { { "--engine=aio" }, { "--engine=aio", "auto, io_uring or threads" } },
        { { "--engine=sync" }, { "--engine=sync" } },
        { { "--state-dir=" }, { "--state-dir", "empty" } },
        { { "--allow-dir=" }, { "--allow-dir", "empty" } },
        { { "--sandbox=yes" }, { "--sandbox=yes", "on, strict or off" } },
        { { "--user=" }, { "--user", "empty" } },
        { { "--user=nobody", "--sandbox=off", "--control=c" }, { "--user=nobody", "--sandbox=off" } },
        { { "--group=nogroup", "--sandbox=off", "--control=c" }, { "--group=nogroup", "--sandbox=off" } },
        { { "--cache-size=much" }, { "--cache-size=much" } },
        { { "--cache-size=4k" }, { "--cache-size=4k", "1 MiB" } },
        { { "--log-level=loud" }, { "--log-level=loud", "error, warning, info or debug" } },
        { { "--disk", "" }, { "not a key" } },
        { { "--disk", "path=a,colour=red" }, { "--disk path=a,colour=red", "'colour' is not a key" } },
        { { "--disk", "path=a,sockt=/s" }, { "'sockt' is not a key", "did you mean 'socket'?" } },
        { { "--disk", "path=a,socket=/s,socket-mode=0888" }, { "socket-mode=0888", "octal" } },
        { { "--disk", "path=a,socket=/s,socket-mode=1777" }, { "socket-mode=1777", "octal" } },
        { { "--disk", "path=a,fd=3,socket-owner=me" }, { "socket-owner", "path to listen on" } },
        { { "--blk-file=a", "--fd=3", "--socket-mode=0600" }, { "socket-mode", "path to listen on" } },
        { { "--disk", "path=a,socket=/s,connect=/t" }, { "more than one of socket, connect" } },
        { { "--disk", "path=a,connect=" LONG_PATH }, { "and-then-the-name.sock", "107" } },
        { { "--disk", "path=a,connect=/t", "--disk", "path=b,connect=/t" }, { "connect=/t", "two disks" } },
        { { "--disk", "path" }, { "a value is missing", "path=FILE" } },
        { { "--disk", "path=a," }, { "--disk path=a,", "'' is not a key" } },
        { { "--disk", "socket=/s" }, { "path=FILE" } },
        { { "--disk", "path=a,format=floppy,socket=/s" }, { "format=floppy", "no such format" } },
        { { "--disk", "path=a,socket=/s,read-only=maybe" }, { "read-only=maybe", "on or off" } },
        { { "--disk", "path=a,socket=/s,cache=unsafe" }, { "cache=unsafe", "none or writeback" } },
        { { "--disk", "path=a,socket=/s,num-queues=0" }, { "num-queues=0", "1 to 256" } },
        { { "--disk", "path=a,socket=/s,num-queues=257" }, { "num-queues=257", "1 to 256" } },
        { { "--disk", "path=a,socket=/s,block-size=1024" }, { "block-size=1024", "512 or 4096" } },
        { { "--disk", "path=a,socket=/s", "--object", "secret,id=s,data=hush" }, { "--object secret", "file=PATH" } },
        { { "--disk", "path=a,socket=/s", "--object", "secret,file=k" }, { "--object secret", "id=" } },
        { { "--disk", "path=a,socket=/s", "--object", "secret,id=s" }, { "'s'", "file= or fd=" } },
        { { "--disk", "path=a,socket=/s", "--object", "secret,id=s,fd=x" }, { "'x'", "number of a file descriptor" } },
        { { "--disk", "path=a,socket=/s", "--object", "iothread,id=s" }, { "iothread,id=s", "--iothreads=N" } },
        { { "--disk", "path=a,socket=/s", "--object", "floppy,id=s" }, { "'floppy'", "secret" } },
        { { "--blockdev", "a=b,c" }, { "--blockdev a=b,c: Expected '=' after parameter 'c'" } },
        { { "--blockdev", "{\"a\":" }, { "JSON parse error" } },
        { { "--export", "nbd,id=x" }, { "vhost-user-blk and vhost-user-scsi" } },
        { { "--disk", "path=a,socket=/s,device=ide" }, { "device=ide", "blk or scsi" } },
        { { "--disk", "path=a,socket=/s,lun=1" }, { "lun=1", "device=scsi" } },
        { { "--disk", "path=a,socket=/s,device=scsi,lun=256" }, { "lun=256", "0 to 255" } },
        { { "--disk", "path=a,socket=/s,device=scsi,num-queues=255" }, { "num-queues=255", "254" } },
        { { "--disk", "path=a,device=scsi" }, { "device=scsi", "socket" } },
        { { "--disk", "path=a,socket=/s,device=scsi,migratable" }, { "migratable and device=scsi" } },
        { { "--disk", "path=a,socket=/s,serial=123456789012345678901" }, { "21 bytes", "20" } },
        { { "--disk", "path=a,socket=/s,device=scsi,serial=1234567890123456789012345678901234567" }, { "37 bytes", "36" } },
        { { "--disk", "path=a,socket=/s,device=scsi,lun=1", "--disk", "path=b,socket=/s,device=scsi,lun=1" },
          { "lun=1", "two disks of one SCSI controller" } },
        { { "--disk", "path=a,socket=/s,device=scsi,num-queues=2", "--disk", "path=b,socket=/s,device=scsi,num-queues=3" },
          { "num-queues=2", "num-queues=3" } },
        { { "--disk", "path=a,socket=/s,device=scsi", "--disk", "path=b,socket=/s" }, { "socket /s", "both device=scsi" } },
        { { "--chardev", "socket,path=/s,server=on" }, { "Parameter 'id' is missing" } },
        { { "--chardev", "socket,id=c,path=/s,fd=3,server=on" }, { "path=PATH or fd=N" } },
        { { "--chardev", "socket,id=c,path=/s,server=maybe" }, { "server=maybe", "on or off" } },
        { { "--chardev", "stdio,id=c", "--chardev", "stdio,id=c" }, { "two character devices" } },
        { { "--chardev", "stdio,id=c", "--monitor", "c", "--monitor", "c" }, { "there is a monitor already" } },
        { { "--chardev", "stdio,id=c", "--monitor", "c", "--control=/c" }, { "--monitor and --control" } },
        { { "--monitor", "c" }, { "no --chardev with id=c" } },
        { { "--monitor", "id=c" }, { "'chardev' is missing" } },
        { { "--pidfile=" }, { "--pidfile", "empty" } },
        { { "--nbd-server", "x" }, { "no NBD" } },
        { { "--disk", "path=a,socket=/s,key-secret" }, { "key-secret", "key-secret=ID" } },
        { { "--disk", "path=a,socket=/s,serial=123456789012345678901" }, { "21 bytes", "20" } },
        { { "--disk", "path=a,socket=/s,fd=4" }, { "more than one of socket, connect, fd and fdname" } },
        { { "--disk", "path=a,fd=4,fdname=x" }, { "more than one of socket, connect, fd and fdname" } },
        { { "--disk", "path=a,socket=/s,size=1G" }, { "size=1073741824", "format=null" } },
        { { "--disk", "format=null,socket=/s" }, { "size=SIZE" } },
        { { "--disk", "format=null,path=a,size=1G,socket=/s" }, { "size=SIZE and no file" } },
        { { "--disk", "format=null,size=1000,socket=/s" }, { "size=1000", "multiple of 512" } },
        { { "--disk", "format=null,size=0,socket=/s" }, { "size=0" } },
        { { "--disk", "format=null,size=99E,socket=/s" }, { "size=99E" } },
        { { "--disk", "path=a,socket=/s", "--disk", "path=b,socket=/s" }, { "/s", "two disks" } },
        { { "--disk", "path=a,fd=3", "--disk", "path=b,fd=3" }, { "fd 3", "two disks" } },
        { { "--disk", "path=a,fdname=x", "--disk", "path=b,fdname=x" }, { "fdname x", "two disks" } },
        { { "--blk-file=a", "--socket-path=/s", "--disk", "path=b,socket=/s" }, { "/s", "two disks" } },
        { { "--disk", "path=a,socket=/s", "--disk", "path=a,socket=/t" }, { "path a", "two disks", "read-only" } },
        { { "--disk", "path=a,socket=/s", "--disk", "path=a,socket=/t,read-only" }, { "path a", "two disks" } },
};

static void test_bad_options_get_a_sentence(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct options o;
                int r = parse(&o, (char *const *)bad[i].args);

                if (r != -EINVAL && r != -ERANGE)
                        fail_msg("row %zu (%s): returned %d", i, bad[i].args[0], r);
                for (size_t k = 0; k < ARRAY_SIZE(bad[i].says) && bad[i].says[k]; k++)
                        if (!strstr(err_text(r), bad[i].says[k]))
                                fail_msg("row %zu: '%s' does not say '%s'", i, err_text(r), bad[i].says[k]);
                if (strchr(err_text(r), '\n'))
                        fail_msg("row %zu: more than one line", i);
                options_finish(&o);
        }
}

/* --- what must be understood ---------------------------------------------------------------------------------------- */

static void test_qemus_conventions(void **state)
{
        static const char *const args[] = { "--socket-path=/run/a.sock", "--blk-file", "a.img", "--format=raw",
                                            "--read-only", NULL };
        struct options o;

        (void)state;
        assert_int_equal(parse(&o, (char *const *)args), 0);
        assert_int_equal(o.action, OPTIONS_SERVE);
        assert_int_equal(o.ndisks, 1);
        assert_string_equal(o.disks[0].path, "a.img");
        assert_string_equal(o.disks[0].socket, "/run/a.sock");
        assert_string_equal(o.disks[0].format, "raw");
        assert_true(o.disks[0].read_only);
        assert_int_equal(o.disks[0].fd, -1);
        assert_int_equal(o.iothreads, 1);
        assert_int_equal(o.poll_us, 0);
        assert_int_equal(o.engine, ENGINE_AUTO);
        options_finish(&o);
}

static void test_readers_share_a_file(void **state)
{
        static const char *const args[] = { "--disk", "path=a,socket=/s,read-only", "--disk", "path=a,socket=/t,read-only", NULL };
        struct options o;

        (void)state;
        assert_int_equal(parse(&o, (char *const *)args), 0);
        assert_int_equal(o.ndisks, 2);
        options_finish(&o);
}

static void test_every_key_of_disk(void **state)
{
        static const char *const args[] = { "--disk", "path=/a,,b,format=raw,socket=/s=1,serial=X 1,read-only,cache=writeback,"
                                            "num-queues=7,block-size=4096", "--disk",
                                            "format=null,size=1.5G,fd=9,read-only=off,cache=none", "--disk",
                                            "path=c,fdname=web,id=web-1", "--control=/c", "--metrics=[::1]:9100", NULL };
        struct options o;

        (void)state;
        assert_int_equal(parse(&o, (char *const *)args), 0);
        assert_int_equal(o.ndisks, 3);
        assert_string_equal(o.disks[0].path, "/a,b");
        assert_string_equal(o.disks[0].id, "disk0");
        assert_string_equal(o.disks[1].id, "disk1");
        assert_string_equal(o.disks[2].id, "web-1");
        assert_string_equal(o.control, "/c");
        assert_string_equal(o.metrics, "[::1]:9100");
        assert_string_equal(o.disks[0].socket, "/s=1");
        assert_string_equal(o.disks[0].serial, "X 1");
        assert_true(o.disks[0].read_only);
        assert_true(o.disks[0].writeback);
        assert_int_equal(o.disks[0].num_queues, 7);
        assert_int_equal(o.disks[0].block_size, 4096);
        assert_string_equal(o.disks[1].format, "null");
        assert_int_equal(o.disks[1].size, 3ull << 29);
        assert_int_equal(o.disks[1].fd, 9);
        assert_false(o.disks[1].read_only);
        assert_false(o.disks[1].writeback);
        assert_null(o.disks[1].path);
        assert_string_equal(o.disks[2].fdname, "web");
        assert_null(o.disks[2].format);
        options_finish(&o);
}

static void test_daemon_options_and_order(void **state)
{
        static const char *const args[] = { "--disk", "path=second,socket=/2", "--iothreads=4", "--poll-us=50",
                                            "--engine=threads", "--blk-file=first", "--socket-path=/1",
                                            "--cache-size=8M", NULL };
        struct options o;

        (void)state;
        assert_int_equal(parse(&o, (char *const *)args), 0);
        assert_int_equal(o.ndisks, 2);
        assert_string_equal(o.disks[0].path, "first");
        assert_string_equal(o.disks[1].path, "second");
        assert_int_equal(o.iothreads, 4);
        assert_int_equal(o.poll_us, 50);
        assert_int_equal(o.engine, ENGINE_THREADS);
        assert_int_equal(o.cache_bytes, 8 << 20);
        options_finish(&o);
}

static void test_the_last_one_wins(void **state)
{
        static const char *const args[] = { "--blk-file=a", "--blk-file=b", "--fd=3", "--fd=4", NULL };
        struct options o;

        (void)state;
        assert_int_equal(parse(&o, (char *const *)args), 0);
        assert_string_equal(o.disks[0].path, "b");
        assert_int_equal(o.disks[0].fd, 4);
        options_finish(&o);
}

static const struct action_row {
        const char *args[ARGS_MAX];
        enum options_action action;
} actions[] = {
        { { "--help" }, OPTIONS_HELP },
        { { "--version" }, OPTIONS_VERSION },
        { { "--blk-file=a", "--version" }, OPTIONS_VERSION },
        { { "--print-capabilities" }, OPTIONS_CAPABILITIES },
        { { "--blk-file=", "--unknown", "word", "--print-capabilities" }, OPTIONS_CAPABILITIES },
        { { "--print-capabilities", "--fd=x" }, OPTIONS_CAPABILITIES },
};

static void test_actions(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
                struct options o;

                assert_int_equal(parse(&o, (char *const *)actions[i].args), 0);
                assert_int_equal(o.action, actions[i].action);
                options_finish(&o);
        }
}

static void test_help_names_every_option(void **state)
{
        static const char *const words[] = { "--socket-path", "--fd", "--blk-file", "--format", "--read-only", "--disk",
                                             "--iothreads", "--poll-us", "--engine", "--cache-size", "--state-dir", "--allow-dir", "--sandbox", "--user", "--group", "--log-level",
                                             "--print-capabilities", "num-queues", "block-size", "serial", "fdname" };
        AUTO(freep) char *text = NULL;
        size_t len;
        FILE *f = open_memstream(&text, &len);

        (void)state;
        assert_non_null(f);
        options_print_help(f);
        fclose(f);
        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                if (!strstr(text, words[i]))
                        fail_msg("--help does not name %s", words[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bad_options_get_a_sentence),
                cmocka_unit_test(test_qemus_conventions),
                cmocka_unit_test(test_readers_share_a_file),
                cmocka_unit_test(test_every_key_of_disk),
                cmocka_unit_test(test_daemon_options_and_order),
                cmocka_unit_test(test_the_last_one_wins),
                cmocka_unit_test(test_actions),
                cmocka_unit_test(test_help_names_every_option),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
