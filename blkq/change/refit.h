/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * refit.h - the image stays, but is opened in another manner: part of a group of changes (change.h). Guests' requests
 * wait meanwhile. Its locks are never given up on the way, so nobody else can come in between.
 */
#pragma once

#include <stdbool.h>

struct vol;

struct vol_manner {
        bool read_only, writeback, entry_with_data; /* as in vol_opts */
        bool wait_for_space;
        unsigned space_timeout_s;
};

/* A worker, the volume quiet and settled. 0, or -errno with a sentence: then all is as it was. -EBUSY: not in use here,
 * or somebody else has the image and it cannot be written to. */
int vol_refit(struct vol *v, const struct vol_manner *m);

/* It shall stay so: who is only a reader now lets others read, too. Home, before the release. */
void vol_refit_stays(struct vol *v);
