/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file.h - the file seam: the one road from our code to the bytes of an image.
 *
 * Synchronous work (open, create, check, repair, snapshot of an image at rest) calls file_pread() and friends. The data
 * path does not wait, so the engines of blkq submit to file->fd themselves; they honour the same tap and fault points.
 * A memory file has no fd: fuzzers, unit tests and the crash replayer run whole drivers on it.
 *
 * Threads: the calls may be made from any thread, but two writers of one range are the caller's problem. file->size is
 * read and written by one thread at a time (open/close, or the image's home thread).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct file;

/* What happened to a file, for whoever records it (crash replay) or counts it (tests). */
enum file_event_kind { FILE_EV_WRITE, FILE_EV_TRUNCATE, FILE_EV_PUNCH, FILE_EV_ZERO, FILE_EV_SYNC };
enum file_event_phase {
        FILE_EV_ISSUED, /* handed to the kernel: from here on a crash may show it, whole or in part */
        FILE_EV_DONE,   /* completed without error; a DONE sync covers all that was DONE when it was ISSUED */
};
struct file_event {
        enum file_event_kind kind;
        enum file_event_phase phase;
        uint64_t off, len;       /* bytes; TRUNCATE: off is the new size */
        const struct iovec *iov; /* WRITE, ISSUED: the bytes, valid during the call only */
        int niov;
};
struct file_tap {
        void (*event)(struct file_tap *tap, struct file *f, const struct file_event *ev); /* thread of the I/O */
};

struct file_ops {
        ssize_t (*pread)(struct file *f, void *buf, size_t len, uint64_t off);
        ssize_t (*pwrite)(struct file *f, const void *buf, size_t len, uint64_t off);
        int (*truncate)(struct file *f, uint64_t size);
        int (*punch)(struct file *f, uint64_t off, uint64_t len, bool keep_allocated);
        int (*sync)(struct file *f);
        /* @hole: in, @off is known to lie in one. Out: as file_run_at(). */
        int (*run_at)(struct file *f, uint64_t off, bool *hole, uint64_t *end);
        void (*close)(struct file *f);
};

struct file {
        const struct file_ops *ops;
        struct file_tap *tap; /* NULL: nobody listens. Borrowed. */
        char *path;           /* as it was opened, for messages; owned */
        int fd;               /* -1: memory file */
        uint64_t size;        /* bytes now; block device: its capacity, fixed */
        uint32_t mem_align;   /* O_DIRECT: buffers must be aligned so (bytes); 1 when through the page cache */
        uint32_t off_align;   /* O_DIRECT: offsets and lengths likewise */
        bool read_only;
        bool direct;       /* O_DIRECT is on */
        bool is_blkdev;
        dev_t dev;         /* identity, for loop checks */
        ino_t ino;
        struct {
                uint64_t from, end;
                bool hole;
        } run; /* file_run_at() found it last; nobody writes to a file that is open for reading */
};

enum file_flags {
        FILE_RDONLY = 1 << 0,
        FILE_DIRECT = 1 << 1,    /* O_DIRECT where the file system has it, else the page cache (file->direct tells) */
        FILE_CREATE = 1 << 2,    /* must not exist yet (O_EXCL) */
        FILE_OVERWRITE = 1 << 3, /* create or empty it */
        FILE_NO_LOCK = 1 << 4,   /* take no image lock (-U, --force-share) */
        FILE_NO_SYMLINK = 1 << 5, /* -ELOOP when the name itself is a symbolic link */
};

/**
 * file_open - a regular file or block device, by path, close-on-exec.
 * Takes QEMU's image locks (image_lock.h) unless FILE_NO_LOCK.
 * Returns 0 and *ret (file_close() it), or -errno with a sentence that names the path: -EACCES, -ENOENT, -EISDIR,
 * -EBUSY (locked by another program), -EEXIST, -ENOTSUP (not a regular file or block device).
 */
int file_open(const char *path, unsigned flags, struct file **ret);

/* The same for a name that the image at @image says, where such names may lead: path_open_allowed() in path.h. */
int file_open_named(const char *path, const char *image, unsigned flags, struct file **ret);

/**
 * file_open_beneath - the same for a name that a stranger wrote into an image: a regular file in the directory @dir or
 * below it, reached without symbolic links. -EPERM with a sentence for anything else; file->path is @dir/@name.
 */
int file_open_beneath(const char *dir, const char *name, unsigned flags, struct file **ret);

/*
 * A shelf: open files between two owners of an image, with their locks. While a thread uses one, file_close() puts the
 * file on it, as it is, and file_open() takes it from there (the same path, for the same use) instead of opening the
 * path, which may mean another file by now. So an image can be closed and opened again, here or in another process that
 * was given the descriptors, without a moment in which somebody else could lock it. Files on a shelf have no tap.
 * Zero-initialise.
 */
struct shelved {
        char *path;
        int fd;
        bool read_only;
};
struct file_shelf {
        struct shelved *file;
        unsigned n;
        int err; /* a file could not be put on it for want of memory, and was closed */
};
/* of this thread; NULL: none. Returns what was in use before */
struct file_shelf *file_shelf_use(struct file_shelf *s);
/* @fd is the shelf's, also on failure (-ENOMEM). */
int file_shelf_put(struct file_shelf *s, const char *path, int fd, bool read_only);
void file_shelf_finish(struct file_shelf *s);  /* closes what is left, locks and all */
void file_shelf_forget(struct file_shelf *s);  /* the same, but the locks stay: another process has the files, too */

/* Which file is at @path, without opening it (a lock of ours is never in the way): 0 or -errno with a sentence. */
int file_identify(const char *path, dev_t *dev, ino_t *ino);

/* A file in memory with a copy of @bytes (NULL: zeros). Sparse pieces are not kept: use it for small images. */
int file_open_mem(const void *bytes, size_t len, struct file **ret);

/* The memory behind a memory file; @len gets its size. Valid until the next write or truncate. */
const void *file_mem_bytes(const struct file *f, size_t *len);

/* NULL is fine. Does not sync. */
void file_close(struct file *f);

/* Nobody writes to it any more: its lock becomes a reader's. It stays open as it is. */
void file_demote(struct file *f);

/*
 * An open file that nobody uses just now, in another manner. direct: with O_DIRECT where the file system has it (file->direct
 * tells), or through the page cache, where all that was written is durable already; NULL is fine.
 * writable: it was open for reading, with those locks (or none, without @lock). If it has to be opened again its path must lead to the
 * same file. 0, or -errno with a sentence: -EBUSY (others have it), -ESTALE, -EACCES, ...; then it is as it was.
 */
void file_set_direct(struct file *f, bool on);
int file_set_writable(struct file *f, bool lock);

/*
 * All of these do the whole range or fail: 0 or -errno (a sentence is noted). No alignment is asked of the caller, also
 * with O_DIRECT: they bounce. Bytes read past the end of the file are zeros. Fault points: file.read, file.write,
 * file.truncate, file.punch, file.sync.
 */
int file_pread(struct file *f, void *buf, size_t len, uint64_t off);
int file_pwrite(struct file *f, const void *buf, size_t len, uint64_t off);
int file_truncate(struct file *f, uint64_t size);
/* The range reads as zeros afterwards. Gives the space back, or keeps it allocated; writes zeros where that cannot
 * be. */
int file_zero(struct file *f, uint64_t off, uint64_t len, bool keep_allocated);
/* written as data, whatever the file system could do */
int file_write_zeros(struct file *f, uint64_t off, uint64_t len);
int file_sync(struct file *f); /* fdatasync */

/**
 * file_share, file_offload - bytes of @src become those of @dst without passing through us: @dst shares @src's blocks
 * (reflink), or the file system copies them as well as it can (copy_file_range).
 * -EOPNOTSUPP or -EXDEV: these files cannot; -EINVAL: not this range (sharing wants whole blocks, or the end of @src).
 * No sentence is noted for these three: copy the bytes then. @dst is long enough already.
 */
bool file_can_share(struct file *dst, struct file *src); /* is it worth trying? Changes nothing */
int file_share(struct file *dst, uint64_t dst_off, struct file *src, uint64_t src_off, uint64_t len);
int file_offload(struct file *dst, uint64_t dst_off, struct file *src, uint64_t src_off, uint64_t len);

/*
 * Wishes about a new, empty file, for file systems that know them; others leave it at that.
 * file_hint_extents: allocate in pieces of @bytes (XFS); 0: no hint. file_hint_nocow: overwrite in place (Btrfs).
 */
void file_hint_extents(struct file *f, uint32_t bytes);
void file_hint_nocow(struct file *f);

/**
 * file_run_at - does @off lie in a hole of the file, and up to where (*end > @off) is it the same?
 * Past the end of the file all is hole, without an end (UINT64_MAX). A file system that knows no holes says that all is
 * data. One thread at a time. What it found last is remembered while the file is open for reading.
 */
int file_run_at(struct file *f, uint64_t off, bool *hole, uint64_t *end);

/* A block device may have grown: look again, file->size follows. */
int file_refresh_size(struct file *f);

/* Host bytes really allocated (st_blocks), for info and the daemon's statistics. */
int file_allocated(struct file *f, uint64_t *bytes);

/* When the file was last written to: CLOCK_REALTIME, seconds. Not for memory files (-ENOTSUP). */
int file_modified(struct file *f, int64_t *seconds);

/* The directory that names @path is durable: a new file's name is. 0 or -errno with a sentence. */
int file_sync_directory(const char *path);

/* For the engines: report an event of the asynchronous path to the tap. */
static inline void file_tell(struct file *f, const struct file_event *ev)
{
        if (__builtin_expect(f->tap != NULL, 0))
                f->tap->event(f->tap, f, ev);
}
