/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmd_top.c - top: the terminal, its keys and its end. Whatever happens the terminal is as it was before: signals are
 * blocked but while we wait for a key, where they only end the wait.
 */
#include "vdiskctl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/err.h"
#include "tools/vdiskctl/top.h"

#define SCREEN_ON "\x1b[?1049h\x1b[?25l" /* another screen, no cursor */
#define SCREEN_OFF "\x1b[?25h\x1b[?1049l"
#define HOME "\x1b[H"

static volatile sig_atomic_t ended, resized;

static void on_signal(int sig)
{
        if (sig == SIGWINCH)
                resized = 1;
        else
                ended = sig;
}

static int look(struct ctl *c, json_t **ret)
{
        int r = qmp_client_call(c->client, "query-disk-stats", json_pack("{s:b}", "histograms", 1), ret);

        qmp_client_drop_events(c->client); /* nobody reads them, and we may run for days */
        return r;
}

/* --- plain tables ------------------------------------------------------------------------------------------------- */

static void sleep_for(double seconds)
{
        struct timespec ts = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };

        while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
                ;
}

static int batch(struct ctl *c, struct top *t, json_t **before)
{
        int r = 0;

        for (long i = 0; r == 0 && (!c->count || i < c->count); i++) {
                json_t *now = NULL;

                sleep_for(t->interval);
                r = look(c, &now);
                if (r < 0)
                        break;
                if (i)
                        putchar('\n');
                r = top_print(t, now, *before, stdout);
                if (fflush(stdout) || ferror(stdout))
                        r = err_note(-EPIPE, "cannot write the output");
                json_decref(*before);
                *before = now;
        }
        return r;
}

/* --- the terminal ------------------------------------------------------------------------------------------------- */

struct screen {
        struct termios before;
        sigset_t old_mask, waiting_mask;
};

static void put(const char *text, size_t len)
{
        while (len) {
                ssize_t n = write(STDOUT_FILENO, text, len);

                if (n < 0 && errno != EINTR)
                        return;
                text += n < 0 ? 0 : n;
                len -= n < 0 ? 0 : (size_t)n;
        }
}

static int screen_open(struct screen *s)
{
        static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH };
        struct sigaction sa = { .sa_handler = on_signal };
        struct termios raw;
        sigset_t mask;

        if (tcgetattr(STDIN_FILENO, &s->before) < 0)
                return err_note(-errno, "top wants a terminal; --batch prints plain tables");
        sigemptyset(&mask);
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
                sigaddset(&mask, signals[i]);
        sigprocmask(SIG_BLOCK, &mask, &s->old_mask);
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
                sigaction(signals[i], &sa, NULL);
        s->waiting_mask = s->old_mask;
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
                sigdelset(&s->waiting_mask, signals[i]);
        raw = s->before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
        put(SCREEN_ON, strlen(SCREEN_ON));
        return 0;
}

static void screen_close(struct screen *s)
{
        put(SCREEN_OFF, strlen(SCREEN_OFF));
        tcsetattr(STDIN_FILENO, TCSADRAIN, &s->before);
        sigprocmask(SIG_SETMASK, &s->old_mask, NULL);
}

static void measure(struct top *t)
{
        struct winsize ws;

        resized = 0;
        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) < 0 || !ws.ws_col || !ws.ws_row)
                ws = (struct winsize){ .ws_col = 80, .ws_row = 24 };
        t->width = ws.ws_col;
        t->height = ws.ws_row;
}

static int draw(const struct top *t, const json_t *now, const json_t *before)
{
        AUTO(freep) char *text = NULL;
        size_t len = 0;
        FILE *f = open_memstream(&text, &len);
        int r;

        if (!f)
                return -ENOMEM;
        fputs(HOME, f);
        r = top_print(t, now, before, f);
        if (fclose(f) != 0)
                return -ENOMEM;
        put(text, len); /* in one go, so that nothing flickers */
        return r;
}

/* One key, or 0 when @deadline has come or a signal; 'q' when there is nobody at the keyboard any more. */
static int wait_for_key(const struct screen *s, uint64_t deadline)
{
        struct pollfd pfd = { .fd = STDIN_FILENO, .events = POLLIN };
        uint64_t now = clock_ns(), left = deadline > now ? deadline - now : 0;
        struct timespec ts = { (time_t)(left / NS_PER_SEC), (long)(left % NS_PER_SEC) };
        char key;

        if (ppoll(&pfd, 1, &ts, &s->waiting_mask) <= 0)
                return 0;
        return read(STDIN_FILENO, &key, 1) == 1 ? (unsigned char)key : 'q';
}

/* Until it is time to look again (0), or to end (1). */
static int stay(const struct screen *s, struct top *t, const json_t *now, const json_t *before)
{
        uint64_t since = clock_ns();

        for (;;) {
                uint64_t deadline = since + (uint64_t)(t->interval * (double)NS_PER_SEC);
                int key = wait_for_key(s, deadline);

                if (ended || key == 'q' || key == 'Q' || key == 3)
                        return 1;
                if (key == ' ' || clock_ns() >= deadline)
                        return 0;
                if (resized)
                        measure(t);
                else if (!top_key(t, key))
                        continue;
                draw(t, now, before);
        }
}

static int live(struct ctl *c, struct top *t, json_t **before)
{
        json_t *now = TAKE(*before, NULL);
        struct screen s;
        int r = screen_open(&s);

        if (r < 0) {
                json_decref(now);
                return r;
        }
        t->terminal = true;
        measure(t);
        do {
                r = draw(t, now, *before);
                if (r < 0 || stay(&s, t, now, *before))
                        break;
                json_decref(*before);
                *before = TAKE(now, NULL);
                r = look(c, &now);
        } while (r == 0);
        screen_close(&s);
        json_decref(now);
        return r;
}

/* --- the command -------------------------------------------------------------------------------------------------- */

int cmd_top(struct ctl *c)
{
        json_t *before = NULL;
        struct top t;
        int r, column = c->sort ? top_column_named(c->sort) : TOP_IOPS;

        if (column < 0)
                return err_note(-EINVAL, "--sort=%s: expected name, iops, read, write, p50, p99, depth, oldest, allocated or flags",
                                c->sort);
        top_init(&t);
        t.sort = (enum top_column)column;
        if (c->interval > 0)
                t.interval = c->interval;
        r = look(c, &before);
        if (r == 0)
                r = c->batch ? batch(c, &t, &before) : live(c, &t, &before);
        json_decref(before);
        return r;
}
