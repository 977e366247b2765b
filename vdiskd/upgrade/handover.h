/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handover.h - what two processes say to each other when one takes over from the other, over a socket that the old one
 * made.
 *
 *   old: starts the new one with HANDOVER_ENV=fd
 *   new: { "vdiskd": version, "reads": HANDOVER_VERSION }      it has its threads; guests still run with the old one
 *   old: a parcel (handover_pack)                               guests stand still, images are closed, locks stay with
 *   the files new: { "ready": true }                                      all is open and mapped; nothing has moved
 *   old: "go", and ends                                         from here on there is no way back
 *
 * Until "go" the old one can go on by itself, whatever the new one does; so the new one changes nothing before it, and
 * leaves without tidying up. { "error": sentence } may come in place of each message of the new one.
 */
#pragma once

#include "common/parcel.h"
#include "common/secret_box.h"
#include "vdiskd/disks/disks.h"
#include "vdiskd/socket.h"

#define HANDOVER_ENV "VDISKD_HANDOVER"
#define HANDOVER_VERSION 1u /* of the parcel; another one when an old reader would misunderstand it, not for one more key */
#define HANDOVER_GO "go"

/*
 * All exports are parked, all nodes shelved. @control_fd, @control: the control socket, -1: none; @metrics: that of
 * metrics, its fd -1: none. Returns 0 and fills
 * @p (zeros), whose descriptors are borrowed, one of them from @box ({ .fd = -1 }): finish it after the parcel; or
 * -errno with a sentence.
 */
int handover_pack(struct parcel *p, struct secret_box *box, const struct disks *d, int control_fd,
                  const struct listener *control, const struct listener *metrics);

/* In the new process, with @d as disks_add_all() wants it: nodes open, exports parked. 0 or -errno with a sentence. */
int handover_unpack(struct parcel *p, struct disks *d, struct listener *control, struct listener *metrics);
