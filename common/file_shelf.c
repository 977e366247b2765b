/* SPDX-License-Identifier: BSD-3-Clause */
#include "file_shelf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "image_lock.h"

static _Thread_local struct file_shelf *in_use;

struct file_shelf *file_shelf_use(struct file_shelf *s)
{
        struct file_shelf *before = in_use;

        in_use = s;
        return before;
}

int file_shelf_put(struct file_shelf *s, const char *path, int fd, bool read_only)
{
        AUTO(closep) int mine = fd;
        AUTO(freep) char *copy = strdup(path);
        struct shelved *more = copy ? reallocarray(s->file, s->n + 1, sizeof(*more)) : NULL;

        if (!more)
                return -ENOMEM;
        s->file = more;
        s->file[s->n++] = (struct shelved){ .path = TAKE(copy, NULL), .fd = TAKE(mine, -1), .read_only = read_only };
        return 0;
}

bool file_shelf_keep(struct file *f)
{
        int r;

        if (!in_use)
                return false;
        r = file_shelf_put(in_use, f->path, TAKE(f->fd, -1), f->read_only);
        if (r < 0)
                in_use->err = r;
        return true;
}

static struct shelved *find(const char *path)
{
        for (unsigned i = 0; in_use && i < in_use->n; i++)
                if (in_use->file[i].fd >= 0 && !strcmp(in_use->file[i].path, path))
                        return &in_use->file[i];
        return NULL;
}

int file_shelf_take(const char *path, bool read_only)
{
        struct shelved *s = find(path);

        return s && s->read_only == read_only ? TAKE(s->fd, -1) : -1;
}

int file_shelf_look(const char *path)
{
        struct shelved *s = find(path);

        return s ? s->fd : -1;
}

static void empty(struct file_shelf *s, bool unlock)
{
        for (unsigned i = 0; i < s->n; i++) {
                if (unlock && s->file[i].fd >= 0)
                        image_unlock(s->file[i].fd);
                closep(&s->file[i].fd);
                free(s->file[i].path);
        }
        free(s->file);
        *s = (struct file_shelf){ 0 };
}

void file_shelf_finish(struct file_shelf *s)
{
        empty(s, true);
}

void file_shelf_forget(struct file_shelf *s)
{
        empty(s, false);
}
