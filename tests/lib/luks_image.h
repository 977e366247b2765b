/* SPDX-License-Identifier: BSD-3-Clause */
/* luks_image.h - encrypted images for tests, made by us: QEMU takes seconds for a key. */
#pragma once

#include "formats/format.h"

/* For fmt_open_opts.layer: the key of all images made here. Makes its secret at the first call. */
const struct fmt_layer *luks_image_layer(void);

/* The same key in a file, for QEMU's tools: "--object secret,id=s,file=..." */
const char *luks_image_key_file(void);

/* A new qcow2 image; @options: "a=b,c=d"; @backing: a raw file, or NULL. 0 or -errno. */
int luks_image_create(const char *path, uint64_t size, const char *options, const char *backing);
int luks_image_snapshot(const char *path); /* "first"; 0 or -errno */
int luks_image_check(const char *path);    /* qemu-img's exit status; leaks are allowed */
