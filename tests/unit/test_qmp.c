/* SPDX-License-Identifier: BSD-3-Clause */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/cleanup.h"
#include "vdiskd/control/json_frame.h"
#include "vdiskd/control/qmp.h"
#include "vdiskd/control/qmp_args.h"
#include "common/err.h"

/* --- frames --------------------------------------------------------------------------------------------------- */

static const struct {
        const char *in;
        size_t first; /* length of the first value, 0: none whole */
} frames[] = {
        { "{}", 2 },
        { "  {\"a\":1}{", 9 },
        { "{\"a\":\"}\"}", 9 },
        { "{\"a\":\"\\\"}\"}", 11 },
        { "{\"a\":{}", 0 },
        { "{\"a\":[{},{}]}x", 13 },
        { "}", 1 },
        { "17\n{}", 3 },
        { "\"\n\"\n", 4 },
        { "", 0 },
};

static void test_frames(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(frames); i++) {
                struct json_frame whole = { 0 }, drip = { 0 };
                size_t len = strlen(frames[i].in), end = 0;

                assert_int_equal(json_frame_feed(&whole, frames[i].in, len), frames[i].first);
                for (size_t at = 0; at < len && !end; at++)
                        if (json_frame_feed(&drip, frames[i].in + at, 1))
                                end = at + 1;
                assert_int_equal(end, frames[i].first);
        }
}

/* --- arguments ------------------------------------------------------------------------------------------------ */

static const struct qmp_arg cache_spec[] = { { "direct", QMP_BOOL }, { NULL } };
static const struct qmp_arg file_spec[] = {
        { "name", QMP_STR }, { "cache", QMP_OBJECT, .optional = true, .members = cache_spec }, { NULL },
};
static const struct qmp_arg size_spec[] = { { "size", QMP_INT }, { NULL } };
static const struct qmp_variant kinds[] = { { "file", file_spec }, { "null", size_spec }, { NULL } };
static const struct qmp_arg union_spec[] = {
        { "kind", QMP_STR, .values = (const char *const[]){ "file", "null", "bare", NULL }, .variants = kinds },
        { "common", QMP_BOOL, .optional = true },
        { NULL },
};
static const struct qmp_arg spec[] = {
        { "id", QMP_STR }, { "size", QMP_INT }, { "force", QMP_BOOL, .optional = true },
        { "mode", QMP_STR, .optional = true, .values = (const char *const[]){ "safe", "hard", NULL } },
        { "n", QMP_INT, .optional = true, .min = 1, .max = 9 },
        { "file", QMP_OBJECT, .optional = true, .members = file_spec },
        { "ref", QMP_REF, .optional = true, .members = file_spec, .nullable = true },
        { "all", QMP_ARRAY, .optional = true, .members = union_spec },
        { NULL },
};
static const struct {
        const char *args, *error;
} arg_cases[] = {
        { "{\"id\":\"a\",\"size\":1}", NULL },
        { "{\"id\":\"a\",\"size\":1,\"force\":true}", NULL },
        { "{\"size\":1}", "Parameter 'id' is missing" },
        { "{\"id\":1,\"size\":1}", "Invalid parameter type for 'id', expected: string" },
        { "{\"id\":\"a\",\"size\":1.5}", "Invalid parameter type for 'size', expected: integer" },
        { "{\"id\":\"a\",\"size\":1,\"x\":null}", "Parameter 'x' is unexpected" },
        { "{\"id\":\"a\",\"size\":1,\"mode\":\"hard\",\"n\":9}", NULL },
        { "{\"id\":\"a\",\"size\":1,\"mode\":\"har\"}", "Parameter 'mode' does not accept value 'har'" },
        { "{\"id\":\"a\",\"size\":1,\"n\":0}", "Parameter 'n' expects a number from 1 to 9" },
        { "{\"id\":\"a\",\"size\":1,\"n\":10}", "Parameter 'n' expects a number from 1 to 9" },
        { "{\"id\":\"a\",\"size\":1,\"file\":{}}", "Parameter 'file.name' is missing" },
        { "{\"id\":\"a\",\"size\":1,\"file\":{\"name\":\"f\",\"cache\":{\"direct\":true}}}", NULL },
        { "{\"id\":\"a\",\"size\":1,\"file\":{\"name\":\"f\",\"cache\":{\"direct\":1}}}",
          "Invalid parameter type for 'file.cache.direct', expected: boolean" },
        { "{\"id\":\"a\",\"size\":1,\"file\":{\"name\":\"f\",\"y\":1}}", "Parameter 'file.y' is unexpected" },
        { "{\"id\":\"a\",\"size\":1,\"ref\":\"other\"}", NULL },
        { "{\"id\":\"a\",\"size\":1,\"ref\":null}", NULL },
        { "{\"id\":\"a\",\"size\":1,\"ref\":{\"y\":1}}", "Parameter 'ref.y' is unexpected" },
        { "{\"id\":\"a\",\"size\":1,\"ref\":[]}", "Invalid parameter type for 'ref', expected: BlockdevRef" },
        { "{\"id\":\"a\",\"size\":1,\"all\":[]}", NULL },
        { "{\"id\":\"a\",\"size\":1,\"all\":[7]}", "Invalid parameter type for 'all[0]', expected: object" },
        { "{\"id\":\"a\",\"size\":1,\"all\":[{\"kind\":\"bare\",\"common\":true}]}", NULL },
        { "{\"id\":\"a\",\"size\":1,\"all\":[{\"kind\":\"null\",\"size\":1},{\"kind\":\"file\",\"name\":\"f\"}]}", NULL },
        { "{\"id\":\"a\",\"size\":1,\"all\":[{\"common\":true}]}", "Parameter 'all[0].kind' is missing" },
        { "{\"id\":\"a\",\"size\":1,\"all\":[{\"kind\":7}]}", "Invalid parameter type for 'all[0].kind', expected: string" },
        { "{\"id\":\"a\",\"size\":1,\"all\":[{\"kind\":\"x\"}]}", "Parameter 'all[0].kind' does not accept value 'x'" },
        { "{\"id\":\"a\",\"size\":1,\"all\":[{\"kind\":\"null\"}]}", "Parameter 'all[0].size' is missing" },
        { "{\"id\":\"a\",\"size\":1,\"all\":[{\"kind\":\"bare\",\"size\":1}]}", "Parameter 'all[0].size' is unexpected" },
};

static void test_args(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(arg_cases); i++) {
                json_t *args = json_loads(arg_cases[i].args, 0, NULL);
                int r;

                err_clear();
                r = qmp_args_check(spec, args);
                assert_int_equal(r < 0, arg_cases[i].error != NULL);
                if (r < 0)
                        assert_string_equal(err_text(r), arg_cases[i].error);
                json_decref(args);
        }
        err_clear();
}

/* --- a server in a thread ------------------------------------------------------------------------------------- */

struct server {
        struct loop *loop;
        struct qmp_server *qmp;
        pthread_t thread;
        struct loop_task task;
        struct loop_timer timer;
        struct qmp_call *waiting;
        char path[64];
        unsigned counted;
        sem_t stands, go;
};

static void cmd_echo(struct qmp_call *call, json_t *args, void *opaque)
{
        qmp_return(call, json_incref(args));
}

static atomic_bool args_were_gone;

static void cmd_fail(struct qmp_call *call, json_t *args, void *opaque)
{
        qmp_fail(call, "DeviceNotFound", "no %s", json_string_value(json_object_get(args, "id")));
        args_were_gone |= !json_is_string(json_object_get(args, "id")); /* the call is answered, and freed */
}

static void answer_late(struct loop_timer *t)
{
        struct server *s = container_of(t, struct server, timer);

        qmp_event(s->qmp, "LATE", NULL);
        qmp_return(TAKE(s->waiting, NULL), json_string("late"));
}

static void cmd_late(struct qmp_call *call, json_t *args, void *opaque)
{
        struct server *s = opaque;

        s->waiting = call;
        loop_timer_set(s->loop, &s->timer, 20 * NS_PER_MS);
}

static void cmd_count(struct qmp_call *call, json_t *args, void *opaque)
{
        struct server *s = opaque;

        qmp_return(call, json_integer(++s->counted));
}

/* The loop stands still until the test says so: what comes meanwhile is all there then. */
static void cmd_stand_still(struct qmp_call *call, json_t *args, void *opaque)
{
        struct server *s = opaque;

        sem_post(&s->stands);
        sem_wait(&s->go);
        qmp_return(call, NULL);
}

static void cmd_shout(struct qmp_call *call, json_t *args, void *opaque)
{
        struct server *s = opaque;
        char *words = malloc(QMP_MAX_BACKLOG / 8);

        assert_non_null(words);
        memset(words, 'x', QMP_MAX_BACKLOG / 8);
        for (unsigned i = 0; i < 12; i++)
                qmp_event(s->qmp, "SHOUT", json_pack("{s:s#}", "words", words, QMP_MAX_BACKLOG / 8));
        free(words);
        sem_post(&s->stands);
        qmp_return(call, NULL);
}

static const struct qmp_arg id_only[] = { { "id", QMP_STR }, { NULL } };
static const struct qmp_command commands[] = {
        { "echo", NULL, cmd_echo }, { "fail", id_only, cmd_fail }, { "late", NULL, cmd_late },
        { "count", NULL, cmd_count }, { "stand-still", NULL, cmd_stand_still }, { "shout", NULL, cmd_shout }, { NULL },
};
static const struct qmp_command *const tables[] = { commands, NULL };

static void *serve(void *arg)
{
        struct server *s = arg;

        assert_int_equal(loop_run(s->loop), 0);
        return NULL;
}

static void stop_it(struct loop_task *task)
{
        struct server *s = container_of(task, struct server, task);

        qmp_free(s->qmp);
        loop_stop(s->loop);
}

static int start(void **state)
{
        struct server *s = calloc(1, sizeof(*s));
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        snprintf(s->path, sizeof(s->path), "/tmp/vdiskd-qmp-%d.sock", getpid());
        snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", s->path);
        unlink(s->path);
        s->timer.fire = answer_late;
        list_init(&s->timer.link);
        s->task.run = stop_it;
        sem_init(&s->stands, 0, 0);
        sem_init(&s->go, 0, 0);
        if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 16) < 0 || loop_new(&s->loop) < 0 ||
            qmp_new(s->loop, fd, tables, NULL, s, &s->qmp) < 0 || pthread_create(&s->thread, NULL, serve, s))
                return -1;
        *state = s;
        return 0;
}

static int stop(void **state)
{
        struct server *s = *state;

        loop_post(s->loop, &s->task);
        pthread_join(s->thread, NULL);
        loop_free(s->loop);
        unlink(s->path);
        free(s);
        return 0;
}

static FILE *dial(struct server *s)
{
        struct sockaddr_un addr = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", s->path);
        assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
        return fdopen(fd, "r+");
}

static void say(FILE *f, const char *text)
{
        fflush(f);
        assert_int_equal(write(fileno(f), text, strlen(text)), strlen(text));
}

static void expect(FILE *f, const char *part)
{
        char line[2048] = "";

        assert_non_null(fgets(line, sizeof(line), f));
        if (!strstr(line, part))
                fail_msg("got %s instead of %s", line, part);
}

static FILE *dial_ready(struct server *s)
{
        FILE *f = dial(s);

        expect(f, "{\"QMP\":{\"version\":{\"qemu\":{\"major\":");
        say(f, "{\"execute\":\"qmp_capabilities\"}");
        expect(f, "{\"return\":{}}");
        return f;
}

static void test_greeting_comes_first(void **state)
{
        FILE *f = dial(*state);

        expect(f, "\"QMP\"");
        say(f, "{\"execute\":\"echo\",\"id\":1}");
        expect(f, "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"Expecting capabilities negotiation");
        say(f, "{\"execute\":\"qmp_capabilities\",\"id\":\"x\"}");
        expect(f, "\"id\":\"x\"");
        say(f, "{\"execute\":\"qmp_capabilities\"}");
        expect(f, "already complete");
        fclose(f);
}

static const struct {
        const char *say, *hear;
} dialogue[] = {
        { "{\"execute\":\"echo\",\"arguments\":{\"a\":[1]},\"id\":{\"n\":7}}", "{\"return\":{\"a\":[1]},\"id\":{\"n\":7}}" },
        { "{\"execute\":\"echo\"}", "{\"return\":{}}" },
        { "{\"execute\":\"nope\"}", "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"The command nope has not been found\"}}" },
        { "{\"execute\":\"fail\",\"arguments\":{\"id\":\"d0\"}}", "{\"class\":\"DeviceNotFound\",\"desc\":\"no d0\"}" },
        { "{\"execute\":\"fail\"}", "Parameter 'id' is missing" },
        { "{\"execute\":\"fail\",\"arguments\":{\"id\":{}}}", "expected: string" },
        { "{\"execute\":\"fail\",\"arguments\":[]}", "'arguments' must be an object" },
        { "{\"execute\":5}", "'execute' must be a string" },
        { "{\"arguments\":{}}", "lacks member 'execute'" },
        { "{\"execute\":\"echo\",\"extra\":1}", "member 'extra' is unexpected" },
        { "{\"execute\":}", "JSON parse error" },
        { "[]", "must be a JSON object" },
        { "}", "JSON parse error" },
        { "hello\n", "JSON parse error" },
        { "{\"execute\":\"query-commands\"}", "{\"name\":\"late\"}" },
};

static void test_dialogue(void **state)
{
        FILE *f = dial_ready(*state);

        for (size_t i = 0; i < ARRAY_SIZE(dialogue); i++) {
                say(f, dialogue[i].say);
                expect(f, dialogue[i].hear);
        }
        fclose(f);
        assert_false(args_were_gone);
}

static void test_late_answers_keep_their_order(void **state)
{
        FILE *f = dial_ready(*state), *other = dial_ready(*state);

        say(f, "{\"execute\":\"late\",\"id\":1}{\"execute\":\"echo\",\"id\":2}");
        say(other, "{\"execute\":\"echo\",\"id\":3}"); /* is not held up by the first client's call */
        expect(other, "\"id\":3");
        expect(f, "{\"event\":\"LATE\",\"timestamp\":{\"seconds\":");
        expect(f, "{\"return\":\"late\",\"id\":1}");
        expect(f, "{\"return\":{},\"id\":2}");
        expect(other, "LATE");
        fclose(f);
        fclose(other);
}

static void test_client_leaves_during_its_call(void **state)
{
        FILE *f = dial_ready(*state);

        say(f, "{\"execute\":\"late\"}");
        fclose(f);
        f = dial_ready(*state);
        expect(f, "LATE"); /* the call ended, into the void, and the server lives */
        fclose(f);
}

static void test_endless_command_is_cut_off(void **state)
{
        FILE *f = dial_ready(*state), *other;
        char *junk = malloc(QMP_MAX_REQUEST + 8192), byte;

        memset(junk, 'x', QMP_MAX_REQUEST + 8192);
        memcpy(junk, "{\"", 2);
        send(fileno(f), junk, QMP_MAX_REQUEST + 8192, MSG_NOSIGNAL);
        assert_int_equal(recv(fileno(f), &byte, 1, 0) > 0, 0);
        other = dial_ready(*state);
        fclose(other);
        fclose(f);
        free(junk);
}

/* Who sends and does not read gets no more answers, and loses none: they come when it reads. */
static void test_unread_answers_wait(void **state)
{
        static const char head[] = "{\"execute\":\"echo\",\"arguments\":{\"a\":\"";
        FILE *f = dial_ready(*state), *other;
        size_t len = QMP_MAX_REQUEST / 2, at = 0, answered = 0;
        char *big = malloc(len + 64);
        size_t n, total;
        unsigned asked = QMP_MAX_BACKLOG / (unsigned)len + 2;

        assert_non_null(big);
        n = sizeof(head) - 1;
        memcpy(big, head, n);
        memset(big + n, 'x', len);
        memcpy(big + n + len, "\"}}", 3);
        n += len + 3;
        total = asked * n;
        for (unsigned stuck = 0; at < total && stuck < 100;) { /* until nothing has gone for a while, or all has */
                ssize_t sent = send(fileno(f), big + at % n, n - at % n, MSG_NOSIGNAL | MSG_DONTWAIT);

                at += sent > 0 ? (size_t)sent : 0;
                stuck = sent > 0 ? 0 : stuck + 1;
                if (sent <= 0)
                        usleep(1000);
        }
        other = dial_ready(*state);
        say(other, "{\"execute\":\"echo\",\"id\":3}");
        expect(other, "\"id\":3");
        while (answered < asked) {
                char piece[65536];
                ssize_t got = at < total ? send(fileno(f), big + at % n, n - at % n, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

                at += got > 0 ? (size_t)got : 0;
                got = recv(fileno(f), piece, sizeof(piece), at < total ? MSG_DONTWAIT : 0);
                if (got == 0)
                        fail_msg("closed after %zu of %u answers", answered, asked);
                for (ssize_t i = 0; i < got; i++)
                        answered += piece[i] == '\n';
        }
        fclose(other);
        fclose(f);
        free(big);
}

/* Events pile up for a client that does not read them, until the server gives it up, whole and only once. */
static void test_unread_events_are_given_up(void **state)
{
        FILE *f = dial_ready(*state), *other = dial_ready(*state);
        struct server *s = *state;
        char *piece = malloc(65536);

        say(other, "{\"execute\":\"shout\"}");
        sem_wait(&s->stands);
        while (recv(fileno(f), piece, 65536, 0) > 0)
                continue; /* what was sent before the end; then it is closed */
        fclose(other);
        other = dial_ready(*state);
        fclose(other);
        fclose(f);
        free(piece);
}

/* The place of a command among those that were carried out. */
static unsigned place_of(FILE *f)
{
        char line[256] = "";
        unsigned place = 0;

        assert_non_null(fgets(line, sizeof(line), f));
        assert_int_equal(sscanf(line, "{\"return\":%u", &place), 1);
        return place;
}

/* Who sends many commands at once waits for others between them. */
static void test_each_has_a_turn(void **state)
{
        FILE *many = dial_ready(*state), *one = dial_ready(*state), *gate = dial_ready(*state);
        struct server *s = *state;
        char text[64 * 100] = "";
        unsigned place;

        for (unsigned i = 0; i < 100; i++)
                strcat(text, "{\"execute\":\"count\"}");
        say(gate, "{\"execute\":\"stand-still\"}");
        sem_wait(&s->stands);
        say(many, text);
        say(one, "{\"execute\":\"count\"}");
        sem_post(&s->go);
        place = place_of(one);
        if (place > 2)
                fail_msg("the only command of a client came in place %u, behind many of another one", place);
        for (unsigned i = 0, last = 0; i < 100; i++) {
                place = place_of(many);
                assert_true(place > last && place <= i + 2);
                last = place;
        }
        fclose(many);
        fclose(one);
        fclose(gate);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_frames),
                cmocka_unit_test(test_args),
                cmocka_unit_test_setup_teardown(test_greeting_comes_first, start, stop),
                cmocka_unit_test_setup_teardown(test_dialogue, start, stop),
                cmocka_unit_test_setup_teardown(test_late_answers_keep_their_order, start, stop),
                cmocka_unit_test_setup_teardown(test_client_leaves_during_its_call, start, stop),
                cmocka_unit_test_setup_teardown(test_endless_command_is_cut_off, start, stop),
                cmocka_unit_test_setup_teardown(test_unread_answers_wait, start, stop),
                cmocka_unit_test_setup_teardown(test_unread_events_are_given_up, start, stop),
                cmocka_unit_test_setup_teardown(test_each_has_a_turn, start, stop),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
