/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log.h - what happened, in one line each, to stderr (or the journal, which reads stderr with "<N>" priorities).
 * Any thread. Never blocks the data path: a line that cannot be written at once is dropped and counted.
 */
#pragma once

enum log_level { LOG_LVL_ERR = 3, LOG_LVL_WARN = 4, LOG_LVL_INFO = 6, LOG_LVL_DEBUG = 7 };

/* @prog: the word before each line ("vdiskd"). Lines above @max are not printed. Call once, before threads. */
void log_init(const char *prog, enum log_level max);
void log_set_max(enum log_level max); /* at any time */

void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_err(...) log_line(LOG_LVL_ERR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LVL_DEBUG, __VA_ARGS__)

/*
 * For lines a stranger can provoke: at most @burst lines, then one a second; what was left out is counted in the next
 * line that goes out. One state per place or per session; zero-initialised is ready. Not thread safe per state.
 */
struct log_limit {
        unsigned said, dropped;
        long last_sec;
};
void log_limited(struct log_limit *lim, enum log_level level, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
