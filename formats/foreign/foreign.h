/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * foreign.h - what the drivers for other programs' formats share. They are read only: for convert, as backing files, to
 * look at. All of them cut the disk into blocks of one size and have a table that says where each block is.
 *
 * A stranger wrote the file: every number is checked before it is used, tables must lie inside the file, and nothing is
 * allocated by what a header claims (tables are looked up through pages.h). Byte offsets are in on_disk.h.
 */
#pragma once

#include "formats/drivers.h"
#include "formats/foreign/pages.h"

struct block {
        enum extent_kind kind; /* DATA, ZERO, COMPRESSED, ABSENT */
        uint64_t host;         /* DATA, COMPRESSED: where it begins in the file, bytes */
};

/* The base of each driver's image. Units are bytes. */
struct foreign {
        struct fmt_image img;
        struct pages *pages; /* owned, but by the top image where images have parts */
        uint64_t block_size;
        uint64_t end; /* of the file; a log may know of more, which reads as zeros */
        /* Where block @no of the disk is. Returns 0, -EAGAIN or -EIO with a sentence. Any thread, as fmt_map(). */
        int (*block)(struct foreign *f, uint64_t no, struct block *ret);
        uint32_t packed_max; /* a compressed block has no more bytes than this */
};

static inline struct foreign *foreign_of(struct fmt_image *img)
{
        return (struct foreign *)img;
}

/**
 * foreign_new - a zeroed image struct of @size bytes (a struct foreign first) for a driver's open().
 * Refuses to open for writing. Takes @file: the image's, or closed on failure. NULL: *r says why.
 */
void *foreign_new(struct file *file, const struct fmt_open_opts *opts, const struct fmt_driver *drv, size_t size,
                  int *r);

/* The end of open(): @r < 0 closes image and file. Returns @r. */
int foreign_opened(struct foreign *f, int r, struct fmt_image **ret);

/* Reads all of @buf or says that the @what does not lie in the file. */
int foreign_read(const struct foreign *f, void *buf, size_t len, uint64_t off, const char *what);

/* Does the @what lie in the file? 0 or -EINVAL with a sentence. */
int foreign_check_inside(const struct foreign *f, uint64_t off, uint64_t len, const char *what);

/* The drivers' map, want and close. */
int foreign_map(struct fmt_image *img, uint64_t off, uint64_t len, struct extent *ext, unsigned max);
struct fmt_batch *foreign_want(struct fmt_image *img);
void foreign_close(struct fmt_image *img);
