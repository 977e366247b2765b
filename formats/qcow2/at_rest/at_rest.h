/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * at_rest.h - what can be done with a qcow2 image that nobody serves: the driver table's entries, contracts in
 * format.h.
 *
 * Plain synchronous work on img->file; the header is read anew each time, so an image needs nothing but its file here.
 * After check with repair, resize, empty, amend, bitmaps_store, snapshot create, apply and delete the open image's
 * tables are
 * stale: close and reopen.
 */
#pragma once

#include "formats/format.h"

extern const struct fmt_option_doc qcow2_create_options[], qcow2_amend_options[];

int qcow2_create(struct file *file, const struct fmt_create *req);
int qcow2_measure(const struct fmt_create *req, struct fmt_image *source, struct fmt_measure *ret);
int qcow2_check(struct fmt_image *img, struct fmt_check *chk);
int qcow2_resize(struct fmt_image *img, uint64_t size, bool shrink_ok);
int qcow2_empty(struct fmt_image *img);
int qcow2_amend(struct fmt_image *img, const struct fmt_option *opts, size_t n, bool force);
int qcow2_rename(struct fmt_image *img, struct file *file, const struct fmt_option *opts, size_t n);
int qcow2_info(struct fmt_image *img, json_t *into);
int qcow2_bitmaps_read_all(struct fmt_image *img, const struct fmt_bitmap_reader *reader);
int qcow2_bitmaps_take(struct fmt_image *img);
int qcow2_bitmaps_store(struct fmt_image *img, const struct fmt_bitmap *all, size_t n);
int qcow2_snapshot_list(struct fmt_image *img, struct fmt_snapshot **ret, size_t *n);
int qcow2_snapshot_usage(struct fmt_image *img, uint64_t *bytes, size_t n);
int qcow2_snapshot_create(struct fmt_image *img, const char *name);
int qcow2_snapshot_apply(struct fmt_image *img, const char *name_or_id);
int qcow2_snapshot_delete(struct fmt_image *img, const char *name_or_id);

/**
 * qcow2_repair_refcounts - make a dirty image's refcounts right again (all of them, counted from the tables), then
 * clear the dirty bit. For opening a dirty image for writing; call before any table is loaded.
 * Returns 0, or -EIO when the image contradicts itself in more than its refcounts (a sentence is noted).
 */
int qcow2_repair_refcounts(struct file *file);
