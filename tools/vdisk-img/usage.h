/* SPDX-License-Identifier: BSD-3-Clause */
/* usage.h - info --usage: what an image's tables say about its space. Reads all of them. */
#pragma once

#include <jansson.h>

#include "formats/format.h"

struct usage {
        uint64_t data, packed, zeros; /* bytes of the disk that this image holds itself; packed: compressed */
        uint64_t pieces;              /* runs of data that lie in the file as they do on the disk */
        uint64_t units;               /* into how many they could fall: clusters, or for raw sectors */
        uint64_t *alone;              /* owned: bytes that deleting each snapshot would free; NULL: there are none */
        size_t nsnapshots;
};

/* @looked: the image, open for its header; @how: how it was opened. 0, or -errno with a sentence. */
int usage_take(struct usage *u, struct fmt_image *looked, const struct fmt_open_opts *how, size_t nsnapshots);
void usage_finish(struct usage *u);

/* 0: all of it is one piece, 1: no two clusters that belong together lie together. */
double usage_fragmentation(const struct usage *u);

json_t *usage_json(const struct usage *u, const struct fmt_snapshot *snapshots);
void usage_print(const struct usage *u, const struct fmt_snapshot *snapshots);
