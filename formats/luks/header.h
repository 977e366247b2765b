/* SPDX-License-Identifier: BSD-3-Clause */
/* header.h - between header.c and key_slots.c. Contracts as in luks.h. */
#pragma once

#include "luks.h"

int luks_write(const struct luks_area *area, const struct luks_header *h); /* all of it; does not sync */

/* Of one slot: all but its state (does not sync); its state alone (durable when it returns). */
int luks_write_slot(const struct luks_area *area, const struct luks_header *h, unsigned slot);
int luks_write_slot_state(const struct luks_area *area, const struct luks_header *h, unsigned slot);

uint64_t luks_slot_room(uint32_t key_bytes); /* bytes from one slot's material to the next one's, as we lay them out */
