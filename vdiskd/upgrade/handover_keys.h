/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handover_keys.h - the keys' part of a hand-over: passwords by name, and the master keys of the images that were just
 * closed (formats/luks/kept_keys.h). Their bytes go in a secret_box, the description says whose they are. Control thread.
 */
#pragma once

#include "common/parcel.h"
#include "common/secret_box.h"

/* @box, which stays the caller's until the parcel is sent. NULL: something failed, a sentence is noted. */
json_t *handover_keys_pack(struct parcel *p, struct secret_box *box);

/* Into the lists of this process. 0 or -errno with a sentence. */
int handover_keys_unpack(struct parcel *p, const json_t *o);
