/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libinih cuts lines into section, name and value. It knows neither the number of a line (as Debian builds it) nor
 * lines of more than 199 bytes, so it reads through read_piece(), which counts lines and gives it a long one in pieces,
 * each as one of its continuation lines. An indented line is no continuation for us: people indent.
 *
 * Invariant: what the handler was given waits in name and value until the next line is read, which may be the rest of
 * it.
 */
#include "configuration.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/path.h"
#include "vdiskd/config/disk_options.h"
#include "vdiskd/id.h"

#define MAX_LINE 8192u
#define MAX_FILE (16u << 20) /* bytes: more is no configuration */
#define MAX_PROBLEMS 100u

enum section { NO_SECTION, DAEMON, DISK, OBJECT, BAD_SECTION };

struct reader {
        struct options *o;
        const char *path; /* of the file that is read */
        bool is_disks;    /* it lies in disks.d */
        FILE *file;
        unsigned line, problems;
        int fatal;        /* the error that ends it all; 0: none */

        char *text;       /* the line, and what of it libinih has not had yet */
        size_t text_size;
        const char *rest;
        bool continued;   /* the piece that the handler gets next belongs to the value before it */

        enum section section;
        unsigned section_line;
        size_t disk;      /* DISK: index in o->disks */
        char *object;     /* OBJECT: its text so far, as --object has it */
        char *said;       /* names of the section so far, each between newlines */

        char *name, *value; /* waiting */
        unsigned value_line;
};

/* --- problems ------------------------------------------------------------------------------------------------------ */

/* A line more for the person. The first is also the one that is noted. */
static void add_problem(struct reader *rd, unsigned line, const char *sentence)
{
        const char *before = rd->o->problems ?: "";
        char *all;

        if (rd->problems++ >= MAX_PROBLEMS)
                return;
        if (!strncmp(sentence, "--", 2)) /* an option's own words */
                sentence += 2;
        if (asprintf(&all, "%s%s%s:%u: %s", before, *before ? "\n" : "", rd->path, line, sentence) < 0) {
                rd->fatal = -ENOMEM;
                return;
        }
        free(rd->o->problems);
        rd->o->problems = all;
}

static void problem(struct reader *rd, unsigned line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void problem(struct reader *rd, unsigned line, const char *fmt, ...)
{
        char text[400];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        for (char *c = text; *c; c++) /* as err_note() */
                if ((unsigned char)*c < ' ' || *c == 0x7f)
                        *c = '?';
        add_problem(rd, line, text);
}

/* @r of a checker, whose sentence is noted. */
static void check(struct reader *rd, unsigned line, int r)
{
        if (r == -ENOMEM)
                rd->fatal = r;
        else if (r < 0)
                add_problem(rd, line, err_text(r));
        err_clear();
}

/* --- what a line says ---------------------------------------------------------------------------------------------- */

/* Once is enough: two lines with one name are a mistake of whoever edited one of them. */
static bool said_before(struct reader *rd, const char *name)
{
        AUTO(freep) char *word = NULL;
        char *all = NULL;

        if (asprintf(&word, "\n%s\n", name) < 0) {
                word = NULL;
                rd->fatal = -ENOMEM;
                return false;
        }
        if (rd->said && strstr(rd->said, word))
                return true;
        if (asprintf(&all, "%s%s", rd->said ?: "", word) < 0) {
                rd->fatal = -ENOMEM;
                return false;
        }
        free(rd->said);
        rd->said = all;
        return false;
}

/* ",key=value" behind the object's text, commas doubled. */
static int add_to_object(struct reader *rd, const char *name, const char *value)
{
        AUTO(freep) char *escaped = calloc(2, strlen(value) + 1);
        char *all, *out = escaped;

        if (!escaped)
                return -ENOMEM;
        for (; *value; *out++ = *value++)
                if (*value == ',')
                        *out++ = ',';
        if (asprintf(&all, "%s,%s=%s", rd->object, name, escaped) < 0)
                return -ENOMEM;
        free(rd->object);
        rd->object = all;
        return 0;
}

static void set_one(struct reader *rd, const char *name, const char *value)
{
        if (rd->section == NO_SECTION)
                return problem(rd, rd->value_line, "'%s' stands before any section: expected [vdiskd], [disk NAME] or [secret NAME] "
                               "first", name);
        if (rd->section == BAD_SECTION)
                return;
        if (said_before(rd, name) && !(rd->section == DAEMON && options_may_repeat(name)))
                return problem(rd, rd->value_line, "%s is said twice in this section", name);
        if (rd->section == DAEMON)
                return check(rd, rd->value_line, options_set(rd->o, name, value));
        if (!strcmp(name, "id"))
                return problem(rd, rd->value_line, "id=%s: the section's name is the id", value);
        if (rd->section == DISK)
                return check(rd, rd->value_line, disk_opts_set(&rd->o->disks[rd->disk], name, value));
        check(rd, rd->value_line, add_to_object(rd, name, value));
}

static void end_value(struct reader *rd)
{
        AUTO(freep) char *name = TAKE(rd->name, NULL), *value = TAKE(rd->value, NULL);

        if (name && value)
                set_one(rd, name, value);
}

/* For libinih: 1 means go on. */
static int on_value(void *opaque, const char *section, const char *name, const char *value)
{
        struct reader *rd = opaque;
        char *whole = NULL;

        (void)section; /* begin_section() has seen it, also when it is empty */
        if (asprintf(&whole, "%s%s", rd->continued && rd->value ? rd->value : "", value) < 0) {
                rd->fatal = -ENOMEM;
                return 1;
        }
        if (!rd->continued) {
                free(rd->name);
                rd->name = strdup(name);
                rd->value_line = rd->line;
                if (!rd->name)
                        rd->fatal = -ENOMEM;
        }
        free(rd->value);
        rd->value = whole;
        return 1;
}

/* --- sections ------------------------------------------------------------------------------------------------------ */

/* All of it was read. */
static void end_section(struct reader *rd)
{
        AUTO(freep) char *object = TAKE(rd->object, NULL);

        end_value(rd);
        free(TAKE(rd->said, NULL));
        if (rd->section == DISK)
                check(rd, rd->section_line, disk_opts_check(&rd->o->disks[rd->disk]));
        else if (rd->section == OBJECT && object)
                check(rd, rd->section_line, options_add_object(rd->o, object));
        rd->section = NO_SECTION;
}

static void begin_disk(struct reader *rd, const char *name)
{
        struct disk_opts *d = options_add_disk(rd->o);

        if (!d) {
                rd->fatal = -ENOMEM;
                return;
        }
        rd->section = DISK;
        rd->disk = rd->o->ndisks - 1;
        d->line = rd->line;
        d->file = strdup(rd->path);
        check(rd, rd->line, d->file ? disk_opts_set(d, "id", name) : -ENOMEM);
}

static void begin_object(struct reader *rd, const char *kind, const char *name)
{
        rd->section = OBJECT;
        if (asprintf(&rd->object, "%s,id=%s", kind, name) < 0) {
                rd->object = NULL;
                rd->fatal = -ENOMEM;
        }
}

static bool is_object(const char *kind)
{
        return !strcmp(kind, "secret") || !strcmp(kind, "throttle-group");
}

/* @text: what stands between the brackets; changed. */
static void begin_section(struct reader *rd, char *text)
{
        char *name = text + strcspn(text, " \t");

        if (*name)
                *name++ = '\0';
        name += strspn(name, " \t");
        rd->section_line = rd->line;
        rd->section = BAD_SECTION;
        if (!strcmp(text, "vdiskd") && !*name) {
                if (rd->is_disks)
                        return problem(rd, rd->line, "[vdiskd]: options of the daemon belong into vdiskd.conf, here are disks only");
                if (rd->o->config_begun)
                        return problem(rd, rd->line, "[vdiskd]: there is one already; it may stand once");
                rd->o->config_begun = true;
                rd->section = DAEMON;
        } else if (!strcmp(text, "disk") || is_object(text)) {
                if (!id_is_valid(name) || strlen(name) > ID_BYTES)
                        return problem(rd, rd->line, "[%s %s]: expected a name: a letter, then letters, digits, '-', '.' and '_', %u "
                                       "in all at most", text, name, ID_BYTES);
                if (!strcmp(text, "disk"))
                        begin_disk(rd, name);
                else
                        begin_object(rd, text, name);
        } else {
                problem(rd, rd->line, "[%s%s%s]: no such section; expected [vdiskd], [disk NAME], [secret NAME] or [throttle-group NAME]", text,
                        *name ? " " : "", name);
        }
}

/* --- lines ---------------------------------------------------------------------------------------------------------- */

/* Without the comment and the spaces around. */
static char *trim(char *s)
{
        char *end;

        s += strspn(s, " \t\r\n\v\f");
        if (*s == '#' || *s == ';')
                *s = '\0';
        for (char *c = s; *c; c++)
                if (isspace((unsigned char)*c) && c[1] == ';')
                        c[1] = '\0';
        end = s + strlen(s);
        while (end > s && isspace((unsigned char)end[-1]))
                *--end = '\0';
        return s;
}

/* A whole line, NULL at the end. What makes no sense is told and skipped. */
static const char *next_line(struct reader *rd)
{
        for (;;) {
                ssize_t n = getline(&rd->text, &rd->text_size, rd->file);
                char *line;

                end_value(rd);
                if (n < 0 || rd->fatal)
                        return NULL;
                rd->line++;
                if (rd->line == 1 && !strncmp(rd->text, "\xef\xbb\xbf", 3))
                        memmove(rd->text, rd->text + 3, (size_t)n - 2), n -= 3;
                if (strlen(rd->text) != (size_t)n || n > (ssize_t)MAX_LINE) {
                        problem(rd, rd->line, n > (ssize_t)MAX_LINE ? "a line of more than 8192 bytes" : "a NUL byte in the line");
                        continue;
                }
                line = trim(rd->text);
                if (*line == '[') {
                        char *end = strchr(line, ']');

                        end_section(rd);
                        if (!end || end[1]) {
                                problem(rd, rd->line, "'%s': expected a section such as [disk NAME]", line);
                                rd->section = BAD_SECTION;
                                continue;
                        }
                        *end = '\0';
                        begin_section(rd, trim(line + 1));
                        continue;
                }
                if (*line && (*line == '=' || !strpbrk(line, "=:")))
                        problem(rd, rd->line, "'%s': expected KEY = VALUE", line);
                else if (*line)
                        return line;
        }
}

/* How much of @s fits into @room bytes and can be cut there: not where libinih would take something away. */
static size_t piece_len(const char *s, size_t room)
{
        size_t n = strlen(s);

        if (n <= room)
                return n;
        for (n = room; n > 1; n--)
                if (!isspace((unsigned char)s[n - 1]) && !isspace((unsigned char)s[n]) && !strchr(";#", s[n]))
                        return n;
        return room;
}

/* fgets() for libinih. */
static char *read_piece(char *buf, int size, void *stream)
{
        struct reader *rd = stream;
        size_t room = (size_t)size - 3, n; /* a space before it, a newline behind it */

        rd->continued = rd->rest != NULL;
        if (!rd->rest)
                rd->rest = next_line(rd);
        if (!rd->rest)
                return NULL;
        n = piece_len(rd->rest, room);
        snprintf(buf, (size_t)size, "%s%.*s\n", rd->continued ? " " : "", (int)n, rd->rest);
        rd->rest = rd->rest[n] ? rd->rest + n : NULL;
        return buf;
}

/* --- files ---------------------------------------------------------------------------------------------------------- */

static FILE *open_file(const char *path, int *r)
{
        AUTO(closep) int fd = path_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
        struct stat st;
        FILE *f;

        if (fd < 0 || fstat(fd, &st) < 0)
                *r = err_note(fd < 0 ? fd : -errno, "%s: cannot be read: %s", path, strerror(fd < 0 ? -fd : errno));
        else if (!S_ISREG(st.st_mode) || st.st_size > MAX_FILE)
                *r = err_note(-EINVAL, "%s: not a configuration: expected a regular file of at most 16 MiB", path);
        else if (!(f = fdopen(fd, "re")))
                *r = -ENOMEM;
        else
                return fd = -1, f;
        return NULL;
}

static int read_file(struct options *o, const char *path, bool is_disks)
{
        struct reader rd = { .o = o, .path = path, .is_disks = is_disks };
        int r = 0;

        rd.file = open_file(path, &r);
        if (!rd.file)
                return r;
        r = ini_parse_stream(read_piece, &rd, on_value, &rd);
        end_section(&rd);
        if (!rd.fatal && ferror(rd.file))
                rd.fatal = err_note(-EIO, "%s: cannot be read", path);
        if (r != 0 && !rd.fatal && !rd.problems) /* we say what it would; a newer one may be stricter */
                problem(&rd, rd.line, "expected KEY = VALUE");
        if (rd.problems > MAX_PROBLEMS)
                problem(&rd, rd.line, "and more");
        fclose(rd.file);
        free(rd.text);
        free(rd.name);
        free(rd.value);
        free(rd.object);
        free(rd.said);
        return rd.fatal;
}

char *config_disks_dir(const char *path)
{
        const char *slash = strrchr(path, '/');
        char *dir;

        if (asprintf(&dir, "%.*sdisks.d", slash ? (int)(slash + 1 - path) : 0, path) < 0)
                return NULL;
        return dir;
}

static bool is_conf(const char *name)
{
        size_t len = strlen(name);

        return name[0] != '.' && len > 5 && !strcmp(name + len - 5, ".conf");
}

struct names {
        char **name;
        size_t n;
};

static void names_finish(struct names *l)
{
        while (l->n)
                free(l->name[--l->n]);
        free(l->name);
}

static int by_name(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(DIR *dir, struct names *l)
{
        for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
                char **more = is_conf(e->d_name) ? reallocarray(l->name, l->n + 1, sizeof(*more)) : NULL;

                if (!is_conf(e->d_name))
                        continue;
                l->name = more ?: l->name;
                if (!more || !(more[l->n] = strdup(e->d_name)))
                        return -ENOMEM;
                l->n++;
        }
        if (l->n)
                qsort(l->name, l->n, sizeof(*l->name), by_name);
        return 0;
}

/* Through a descriptor, as all that is opened by name (path.h). *ret NULL: there is no such directory. */
static int open_dir(const char *path, DIR **ret)
{
        AUTO(closep) int fd = path_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

        *ret = NULL;
        if (fd == -ENOENT)
                return 0;
        if (fd < 0)
                return err_note(fd, "%s: cannot be read: %s", path, strerror(-fd));
        *ret = fdopendir(fd);
        if (!*ret)
                return -ENOMEM;
        fd = -1;
        return 0;
}

/* In the order of their names. That there is no such directory is fine. */
static int read_disks_dir(struct options *o, const char *path)
{
        struct names l = { 0 };
        DIR *dir;
        int r = open_dir(path, &dir);

        if (!dir)
                return r;
        r = read_names(dir, &l);
        closedir(dir);
        for (size_t i = 0; r == 0 && i < l.n; i++) {
                AUTO(freep) char *file = NULL;

                if (asprintf(&file, "%s/%s", path, l.name[i]) < 0)
                        file = NULL;
                r = file ? read_file(o, file, true) : -ENOMEM;
        }
        names_finish(&l);
        return r;
}

int config_read(struct options *o, const char *path)
{
        AUTO(freep) char *dir = config_disks_dir(path), *copy = strdup(path);
        int r = dir && copy ? read_file(o, path, false) : -ENOMEM;

        if (r == 0)
                r = read_disks_dir(o, dir);
        if (r < 0)
                return r;
        free(o->config);
        o->config = TAKE(copy, NULL);
        if (!o->problems)
                return 0;
        return err_note(-EINVAL, "%.*s", (int)strcspn(o->problems, "\n"), o->problems);
}
