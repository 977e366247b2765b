/* SPDX-License-Identifier: BSD-3-Clause */
/* tool.c - opening images by qemu-img's rules made safer, and what all subcommands print alike. */
#include "tools/vdisk-img/tool.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "common/size.h"

#define SECTOR 512u

int tool_fail(int r, int code)
{
        fflush(stdout);
        fprintf(stderr, "%s: %s\n", program_invocation_short_name, err_text(r));
        return code;
}

void tool_warn(const char *fmt, ...)
{
        va_list ap;

        fflush(stdout);
        fprintf(stderr, "%s: warning: ", program_invocation_short_name);
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
        fputc('\n', stderr);
}

/* --- images ---------------------------------------------------------------------------------------------------- */

const struct fmt_driver *tool_driver(const char *name)
{
        const struct fmt_driver *drv = fmt_driver_find(name);

        if (drv && !(drv->caps & FMT_NO_FILE))
                return drv;
        err_note(-EINVAL, "unknown image format '%s'", name);
        return NULL;
}

bool tool_is_qemu_img(void)
{
        return !strcmp(program_invocation_short_name, "qemu-img");
}

/* What format is it, and may we believe that? Looks at the header only, follows nothing. */
static int guess_format(const struct tool_image *t, unsigned flags, const struct fmt_driver **ret)
{
        const char *path = t->path, *option = t->format_option ?: "-f";
        struct fmt_open_opts look = {
                .flags = FMT_RDONLY | FMT_NO_BACKING | FMT_INFO_ONLY | FMT_GUESS | (flags & (FMT_NO_LOCK | FMT_REPAIRING)),
        };
        AUTO(tool_closep) struct fmt_image *img = NULL;
        int r = chain_open(path, &look, &img);

        if (r < 0)
                return r;
        *ret = img->drv;
        r = tool_refuse_foreign(img);
        if (r < 0)
                return r;
        if (img->backing_name && !(flags & FMT_NO_BACKING) && !tool_is_qemu_img())
                return err_note(-EINVAL, "'%s' looks like %s and names the backing file '%s', which is only followed when "
                                "you say the format yourself: %s %s", path, img->drv->name, img->backing_name,
                                option, img->drv->name);
        if (img->names_files && !tool_is_qemu_img())
                return err_note(-EINVAL, "'%s' looks like %s and names other files that hold the disk, which are only opened when "
                                "you say the format yourself: %s %s", path, img->drv->name, option, img->drv->name);
        if (!(flags & FMT_RDONLY) && !img->drv->probe)
                tool_warn("no format was given for '%s' and it looks like none that is known, so it is taken for a %s disk; "
                          "say -f %s to be sure", path, img->drv->name, img->drv->name);
        return 0;
}

int tool_open_snapshot(const struct tool_image *t, unsigned flags, const struct tool_snapshot *s, struct fmt_image **ret)
{
        unsigned more = (flags & FMT_RDONLY || tool_is_qemu_img() ? FMT_GUESS : 0) | FMT_KEEP_BITMAPS;
        const struct fmt_driver *drv = NULL;
        int r = 0;

        if (t->format)
                r = (drv = tool_driver(t->format)) ? 0 : -EINVAL;
        else
                r = guess_format(t, flags, &drv);
        if (r < 0)
                return r;
        return chain_open(t->path, &(struct fmt_open_opts){
                .format = drv->name, .flags = flags | more, .layer = t->layer,
                .snapshot = s && s->given ? &s->which : NULL }, ret);
}

int tool_open(const struct tool_image *t, unsigned flags, struct fmt_image **ret)
{
        return tool_open_snapshot(t, flags, NULL, ret);
}

struct fmt_open_opts tool_again(const struct tool_image *t, const struct fmt_image *img, unsigned flags)
{
        return (struct fmt_open_opts){ .format = img->drv->name, .flags = flags | FMT_KEEP_BITMAPS, .layer = t->layer };
}

int tool_snapshot_parse(const char *text, struct tool_snapshot *s)
{
        int r;

        tool_snapshot_finish(s);
        s->given = true;
        if (strncmp(text, "snapshot.", strlen("snapshot."))) {
                r = option_list_set(&s->words, "", text);
                s->which.any = r == 0 ? s->words.opts[0].value : NULL;
                return r;
        }
        r = option_list_add(&s->words, text);
        for (size_t i = 0; r == 0 && i < s->words.n; i++) {
                if (!strcmp(s->words.opts[i].name, "snapshot.id"))
                        s->which.id = s->words.opts[i].value;
                else if (!strcmp(s->words.opts[i].name, "snapshot.name"))
                        s->which.name = s->words.opts[i].value;
                else
                        r = err_note(-EINVAL, "-l knows snapshot.id and snapshot.name, not '%s'", s->words.opts[i].name);
        }
        return r;
}

void tool_snapshot_finish(struct tool_snapshot *s)
{
        option_list_finish(&s->words);
        *s = (struct tool_snapshot){ 0 };
}

int tool_data_path(const struct option_list *opts, const char *image, char **path)
{
        *path = NULL;
        for (size_t i = 0; i < opts->n; i++)
                if (!strcmp(opts->opts[i].name, "data_file") && *opts->opts[i].value)
                        return chain_backing_path(image, opts->opts[i].value, path);
        return 0;
}

int tool_refuse_part_of(const char *target, const struct fmt_image *chain, const char *what)
{
        dev_t dev;
        ino_t ino;

        if (!target || access(target, F_OK) < 0 || file_identify(target, &dev, &ino) < 0) {
                err_clear(); /* it is not there, or will not be opened either */
                return 0;
        }
        for (; chain; chain = chain->backing)
                if (fmt_is_made_of(chain, dev, ino))
                        return err_note(-EINVAL, "'%s' is part of the %s: it would be overwritten", target, what);
        return 0;
}

void tool_closep(struct fmt_image **img)
{
        chain_close(*img);
}

int tool_looked(int r, unsigned flags)
{
        char text[512];

        if (r != -EBUSY || flags & FMT_NO_LOCK || !(flags & FMT_RDONLY))
                return r;
        snprintf(text, sizeof(text), "%s", err_text(r));
        err_clear();
        return err_note(r, "%s; -U looks at it all the same", text);
}

int tool_create(const char *path, const struct fmt_driver *drv, const struct fmt_create *req)
{
        int r = fmt_create_path(tool_plain_path(path), drv, req);

        return r < 0 ? err_note(r, "'%s': cannot create: %s", path, strerror(-r)) : 0;
}

void tool_remove(const char *path)
{
        struct stat st;

        if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
                unlink(path);
}

uint64_t tool_disk_size(const struct fmt_image *img)
{
        return round_up(img->size, SECTOR);
}

/* --- output ---------------------------------------------------------------------------------------------------- */

int print_json(json_t *value)
{
        int r = value && json_dumpf(value, stdout, JSON_INDENT(4)) == 0 && putchar('\n') != EOF ? 0 : -EIO;

        json_decref(value);
        return r;
}

static void print_one_snapshot(const struct fmt_snapshot *s)
{
        uint64_t sec = s->vm_clock_ns / 1000000000u;
        char size[32], date[32] = "", clock[40], icount[24] = "";
        time_t when = s->date_sec;
        struct tm tm;

        size_format(s->vm_state_size, size, sizeof(size));
        if (localtime_r(&when, &tm))
                strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
        snprintf(clock, sizeof(clock), "%02llu:%02u:%02u.%03u", (unsigned long long)(sec / 3600),
                 (unsigned)(sec / 60 % 60), (unsigned)(sec % 60), (unsigned)(s->vm_clock_ns / 1000000u % 1000));
        if (s->icount != UINT64_MAX)
                snprintf(icount, sizeof(icount), "%llu", (unsigned long long)s->icount);
        printf("%-9s %-16s %8s%20s%13s%11s\n", s->id, s->name, size, date, clock, icount);
}

void print_snapshots(const struct fmt_snapshot *s, size_t n)
{
        printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
        for (size_t i = 0; i < n; i++)
                print_one_snapshot(&s[i]);
}

static volatile int stop;

static void on_signal(int sig)
{
        (void)sig;
        stop = 1;
}

const volatile int *tool_stop_on_signals(void)
{
        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
        if (signal(SIGHUP, on_signal) == SIG_IGN)
                signal(SIGHUP, SIG_IGN); /* nohup(1) */
        return &stop;
}

int tool_cache_parse(const char *option, const char *text, struct tool_cache *ret)
{
        *ret = (struct tool_cache){
                .direct = !strcmp(text, "none") || !strcmp(text, "directsync"),
                .through = !strcmp(text, "writethrough") || !strcmp(text, "directsync"),
                .unsafe = !strcmp(text, "unsafe"),
        };
        if (ret->direct || ret->through || ret->unsafe || !strcmp(text, "writeback"))
                return 0;
        return err_note(-EINVAL, "%s '%s' is not one of none, writeback, writethrough, directsync, unsafe", option, text);
}

void progress_show(struct progress *p, double done)
{
        int now;

        done = p->part > 0 ? p->from + p->part * done : done;
        now = (int)(done * 10000) + 1;
        if (!p->on || now == p->shown)
                return;
        p->shown = now;
        printf("    (%3.2f/100%%)\r", done * 100);
        fflush(stdout);
}

void progress_end(struct progress *p)
{
        if (p->on)
                putchar('\n');
}
