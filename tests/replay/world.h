/* SPDX-License-Identifier: BSD-3-Clause */
/* world.h - one kind of image: how it is made, its recording, what its guest was promised; and what is done to it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "formats/format.h"
#include "promise.h"
#include "tape.h"
#include "tests/lib/img_io.h"
#include "tests/lib/stamp.h"
#include "tests/lib/tmp_image.h"

#define SECTOR STAMP_SECTOR

struct kind {
        const char *name, *format, *options;
        uint32_t clusters;       /* of the disk */
        uint32_t cluster;        /* bytes; raw: what the load works with */
        unsigned filled;         /* the first of them hold data */
        bool packed_fill;        /* compressed */
        bool packs;              /* the guest's writes may be, too */
        bool snapshot;           /* one was taken of it */
        bool backing, data_file, raw_data, encrypted, entry_with_data;
        unsigned share;          /* of all states, in parts of the sum of all shares; 0: 1 */
};
extern const struct kind kinds[];
extern const unsigned nkinds;

struct world {
        const struct kind *kind;
        struct tape tape;
        struct promise promise;
        struct fmt_image *img;      /* open, or NULL */
        struct fmt_image *backing;  /* not of the tape: it does not change */
        struct tape_bytes backing_bytes;
        struct sector_cipher *spare[4]; /* ciphers that no open image has: to derive one takes long */
        char backing_path[TMP_PATH_MAX], data_path[TMP_PATH_MAX];
        uint32_t *backing_version;  /* of each sector */
        uint64_t rnd;
        unsigned char *buf;         /* as large as the disk may get */
        char what[256];             /* what is done, for messages */
};

/* Makes the image; the recording begins behind that. */
void world_init(struct world *w, const struct kind *k, uint64_t seed);
void world_finish(struct world *w);
void world_rewind(struct world *w); /* as it was made */

uint64_t world_tick(struct world *w);
uint32_t world_max_sectors(const struct kind *k);

/*
 * An image on two files (taken), with the backing image. -errno with a sentence. The backing image and the cipher are
 * the world's: give it back with world_close_image().
 */
int world_open_image(struct world *w, struct file *file, struct file *data, unsigned flags,
                     const struct fmt_snapshot_which *snap, struct fmt_image **ret);
void world_close_image(struct world *w, struct fmt_image *img);
void world_open(struct world *w); /* w->img, on the tape */
void world_close(struct world *w);

void fail(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));
void must(struct world *w, int r, const char *what);
extern const char *repeat_with; /* the command line that does it again */

/* --- what is done to it ---------------------------------------------------------------------------------------------------- */

/* One letter an operation:
 *   s small write   l large write   o overwrite   z write zeroes   d discard   f flush
 *   n snapshot   r resize   c close and open again   p compressed write */
extern const char load_letters[];
bool load_can(const struct world *w, char letter);
void load_sequence(struct world *w, const char *letters, uint64_t *last_began); /* @last_began: when the last one did */
void load_random(struct world *w, unsigned ops); /* one after the other, some between the steps of a flush */
void load_volume(struct world *w, unsigned ops); /* through blkq, many at once */

/* --- what may be left ------------------------------------------------------------------------------------------------------ */

struct states {
        struct cut cut;
        uint64_t n, qemu, repaired, gone_on; /* states looked at, ... */
        unsigned qemu_every; /* 0: never */
        unsigned cuts;       /* of one recording at most; 0: all */
        unsigned per_cut;
        uint64_t rnd;
        uint64_t max_open;   /* the most that was uncertain */
};
void states_init(struct states *s, const struct world *w, uint64_t seed);
void states_finish(struct states *s);
void states_explore(struct states *s, struct world *w, uint64_t from);
