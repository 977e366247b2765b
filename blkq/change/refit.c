/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The open files stay what they are: O_DIRECT is switched on them, and only one that was opened for reading is opened
 * again to be written to. Then the top image's tables are read afresh over the same files, with the flags of the new
 * manner. When that fails, the files go onto a shelf and the chain is opened from there as it was.
 */
#include "blkq/bitmaps/vol_bitmaps.h"
#include "blkq/change/refit.h"

#include <errno.h>
#include <stdlib.h>

#include "blkq/change/exchange.h"
#include "blkq/vol_impl.h"
#include "common/cleanup.h"
#include "common/err.h"

#define MANNER_FLAGS ((unsigned)(FMT_RDONLY | FMT_DIRECT | FMT_ENTRY_WITH_DATA))

struct refit {
        struct vol *v;
        struct fmt_open_opts from, to;
        bool was_read_only, read_only; /* as it was asked for; an image may know nothing else */
        struct img_writer *writer;     /* of the top image, when guests may write again */
};

static unsigned flags_of(const struct vol_manner *m)
{
        return (m->read_only ? FMT_RDONLY : 0u) | (m->writeback ? 0u : FMT_DIRECT) |
               (m->entry_with_data ? FMT_ENTRY_WITH_DATA : 0u);
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static void set_direct(struct fmt_image *top, bool on)
{
        for (struct fmt_image *img = top; img; img = img->backing) {
                file_set_direct(img->file, on);
                file_set_direct(img->data_file, on);
                for (unsigned i = 0; i < img->nparts; i++)
                        file_set_direct(img->parts[i]->file, on);
        }
}

/* As when it is opened: the page cache where direct I/O needs larger blocks. */
static void try_direct(struct refit *f, struct fmt_image *top)
{
        set_direct(top, f->to.flags & FMT_DIRECT);
        if (!(f->to.flags & FMT_DIRECT) || vol_direct_fits(top, f->v->block_size))
                return;
        f->to.flags &= ~(unsigned)FMT_DIRECT;
        set_direct(top, false);
}

/* The locks stay a writer's until vol_refit_stays(). */
static void only_read(struct fmt_image *top)
{
        top->file->read_only = true;
        if (top->data_file)
                top->data_file->read_only = true;
}

static void demote(struct fmt_image *top)
{
        if (top->file)
                file_demote(top->file);
        if (top->data_file)
                file_demote(top->data_file);
}

static int let_write(struct refit *f, struct fmt_image *top)
{
        bool lock = !(f->to.flags & FMT_NO_LOCK);
        int r = file_set_writable(top->file, lock);

        if (r == 0 && top->data_file)
                r = file_set_writable(top->data_file, lock);
        if (r < 0)
                demote(top);
        return r;
}

/* --- tables ------------------------------------------------------------------------------------------------------- */

/* The image is open: what belongs to it follows. */
static int take_bitmaps(struct vol *v, struct fmt_image *top)
{
        struct bitmap_set bitmaps;
        int r = bitmaps_load(top, &bitmaps);

        if (r == 0)
                r = bitmaps_join(v, &bitmaps);
        bitmap_set_finish(&bitmaps);
        return r;
}

/* The writer lives as long as guests may write. */
static void put(struct refit *f, struct fmt_image *top, bool read_only)
{
        struct vol *v = f->v;

        v->read_only = read_only || top->read_only;
        if (v->read_only) {
                writer_free(TAKE(v->writer, NULL));
        } else if (!v->writer) {
                v->writer = TAKE(f->writer, NULL);
                v->writer->img = top;
                writer_join(v->writer);
        }
        vol_put_image(v, top, false);
}

/* Its files are on the shelf in use, and are what the new manner made of them. */
static int go_back(struct refit *f, struct file_shelf *shelf, const int *fd)
{
        struct fmt_image *top = NULL;
        int r;

        for (unsigned i = 0; i < shelf->n; i++)
                if (shelf->file[i].fd == fd[0] || shelf->file[i].fd == fd[1])
                        shelf->file[i].read_only = f->was_read_only;
        r = shelf->err < 0 ? shelf->err : chain_open(f->v->path, &f->from, &top);
        if (r == 0) {
                set_direct(top, f->from.flags & FMT_DIRECT);
                if (f->was_read_only)
                        demote(top);
                if (f->was_read_only != f->read_only) {
                        bitmaps_forget(f->v);
                        r = take_bitmaps(f->v, top);
                }
        }
        if (top)
                put(f, top, f->was_read_only);
        return r;
}

static int read_afresh(struct refit *f, struct fmt_image *top)
{
        const int fd[2] = { top->file->fd, top->data_file ? top->data_file->fd : top->file->fd };
        struct file_shelf shelf = { 0 }, *before = file_shelf_use(&shelf);
        int r, again = 0;

        vol_put_image(f->v, NULL, false);
        r = chain_reload(&top, &f->to);
        if (r == 0 && f->was_read_only != f->read_only) {
                if (f->was_read_only)
                        bitmaps_forget(f->v);
                r = take_bitmaps(f->v, top);
        }
        if (r < 0) {
                chain_close(top);
                again = go_back(f, &shelf, fd);
        } else {
                put(f, top, f->read_only);
        }
        file_shelf_use(before);
        file_shelf_finish(&shelf);
        if (again == 0)
                return r;
        vol_fail(f->v, again, "the image could not be opened again");
        return err_prefix(again, "the image could not be opened again: ");
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

static bool others_write(const struct vol *v)
{
        list_for_each(n, &v->writers)
                if (list_entry(n, struct img_writer, link) != v->writer)
                        return true;
        return false;
}

static int check(const struct refit *f)
{
        const struct vol *v = f->v;

        if (v->asleep || !v->top)
                return err_note(-EBUSY, "the image is not in use here");
        if (v->failed)
                return err_note(-EIO, "the disk failed: it is not changed until it is opened again");
        if (f->to.flags != f->from.flags && others_write(v)) /* its writer would lose it if the chain is opened again */
                return err_note(-EBUSY, "an image of the chain is still being written");
        return 0;
}

/* Up to here settling has wound the image down, and nothing else has changed. */
static int stay(struct vol *v, int r)
{
        int again = v->top && !v->asleep ? vol_reload(v) : 0;

        return r < 0 ? r : again;
}

static int change(struct refit *f)
{
        struct fmt_image *top = f->v->top;
        int r = 0;

        if (!top->file) { /* nothing is kept anywhere */
                top->read_only = f->read_only;
                put(f, top, f->read_only);
                return 0;
        }
        if (f->read_only && !f->was_read_only)
                r = bitmaps_leave(f->v);
        else if (f->was_read_only && !f->read_only)
                r = let_write(f, top);
        if (r < 0)
                return stay(f->v, r);
        if (f->read_only)
                only_read(top);
        try_direct(f, top);
        return read_afresh(f, top);
}

int vol_refit(struct vol *v, const struct vol_manner *m)
{
        struct refit f = { .v = v, .from = vol_how(v), .to = vol_how(v), .read_only = m->read_only };
        int r;

        f.to.flags = (f.from.flags & ~MANNER_FLAGS) | flags_of(m);
        f.was_read_only = f.from.flags & FMT_RDONLY;
        r = check(&f);
        if (r < 0 || f.to.flags == f.from.flags) {
                r = stay(v, r);
        } else {
                f.writer = v->writer ? NULL : writer_new(v, v->top, true);
                r = v->writer || f.writer ? change(&f) : -ENOMEM;
                writer_free(f.writer);
        }
        if (r < 0)
                return r;
        v->open_flags = f.to.flags;
        v->full.hold = m->wait_for_space && !v->read_only;
        v->full.timeout_ns = m->space_timeout_s * NS_PER_SEC;
        return 0;
}

void vol_refit_stays(struct vol *v)
{
        if (v->top && v->open_flags & FMT_RDONLY)
                demote(v->top);
}
