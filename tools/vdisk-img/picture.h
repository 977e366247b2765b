/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * picture.h - map --image: what each image of a chain holds, counted into cells, and drawn (terminal, SVG).
 *
 * The disk is cut into equal cells, in order of guest offsets. A layer is an image of the chain, 0 the top one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "formats/format.h"

/* What of a cell an image holds itself. Bytes of the disk. */
struct picture_cell {
        uint64_t data, packed, zero; /* packed: compressed */
        uint64_t hidden;             /* of all these: images above have something else there */
};

struct picture_layer {
        const struct fmt_image *img;
        struct picture_cell *cells; /* owned */
        struct picture_cell sum;
        uint64_t runs;    /* of data: pieces that follow each other on the disk and in the file */
        uint64_t host_end; /* bytes of the file */
        /* owned: bit rows of PICTURE_ROWS x ncells: is there data of this cell in that part of the file? */
        uint8_t *places;
};
#define PICTURE_ROWS 64u

struct picture {
        uint64_t size; /* of the disk, bytes */
        size_t ncells, nlayers;
        struct picture_layer *layers; /* owned */
};

/* Looks at all tables of the chain under @top. 0, or -errno with a sentence. picture_finish() it in any case. */
int picture_take(struct picture *p, struct fmt_image *top, size_t ncells);
void picture_finish(struct picture *p);

/* Bytes of the disk that cell @i stands for. */
uint64_t picture_cell_bytes(const struct picture *p, size_t i);

/* Is there data of cell @i in row @row of the layer's file? */
bool picture_has_place(const struct picture *p, const struct picture_layer *l, size_t i, unsigned row);

/* Which layer the guest sees most of in cell @i; -1: nothing was ever written there. *share: how much of it, 0..1. */
int picture_seen(const struct picture *p, size_t i, double *share);

/* "1.2 GiB in 34 pieces" and the like, for a person. Returns @buf. */
const char *picture_describe(const struct picture_layer *l, char *buf, size_t len);

/* A column for each cell. @colour, @utf8: what the terminal can. 0, or -EIO. */
int picture_print(const struct picture *p, FILE *out, bool colour, bool utf8);

int picture_write_svg(const struct picture *p, FILE *out); /* 0, or -EIO */
#define PICTURE_SVG_CELLS 920u
