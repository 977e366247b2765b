/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exchange.h - two volumes exchange their images: ports stay where they are, and from now on show the other image. What belongs
 * to an image goes with it: how to open it again, its failure, its bitmaps. Limits and counters stay with the ports.
 */
#pragma once

struct vol;

/**
 * vol_exchange - a worker; both volumes are held and settled, and have the same size, no retiring images and no backups.
 * 0; or -errno with a sentence: nothing was exchanged. An image of @a's that cannot be opened again afterwards is lost for @b,
 * where it is then.
 */
int vol_exchange(struct vol *a, struct vol *b);

/* Can they? Control thread, any time; what may change until then is looked at again by vol_exchange(). */
int vol_exchange_check(struct vol *a, struct vol *b);

/* Not any more: what settled the volume wound its image down. A worker, the volume is held. 0 or -errno with a sentence: the
 * image is gone, and all requests fail. */
int vol_reload(struct vol *v);
