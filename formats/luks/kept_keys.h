/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kept_keys.h - master keys of images that are closed only to be opened again at once, by this process or by the one
 * that takes over from it: a password takes seconds to become the key again, and guests stand still meanwhile.
 *
 * Between begin and end every image that closes leaves its key here, under the two fields of its LUKS header that tell
 * keys apart, and one that opens with them takes it without asking for a password. So nothing else than what was open
 * before is opened in that time. Any thread.
 */
#pragma once

#include <stdbool.h>

#include "formats/luks/luks.h"

struct luks_id {
        uint8_t digest[LUKS_DIGEST], salt[LUKS_SALT];
};

struct kept_key {
        struct kept_key *next;
        struct luks_id id;
        struct luks_key key;
};

void kept_keys_begin(void);
void kept_keys_end(void); /* wipes them. Not begun: fine */

/* A copy of @key, which may be NULL. Without memory, or when nothing is kept: nothing. */
void kept_keys_put(const struct luks_id *id, const void *key, size_t len);

/* A copy: luks_key_finish() it. False: not here. */
bool kept_keys_get(const struct luks_id *id, struct luks_key *ret);

/* All of them, for who packs them: none comes or goes meanwhile, since all images are closed. */
const struct kept_key *kept_keys_first(void);
