/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A LUKS header: one byte says how long its area is (64 KiB each), then the header's bytes as they lie in the file. What
 * luks_read() lets pass can be opened, given a password and relieved of it without touching a byte outside of the area, as
 * long as that is cheap: derivation costs what the header asks for, so headers that ask for more are only read.
 */
#include "common/err.h"
#include "common/log.h"
#include "common/range.h"
#include "formats/luks/luks.h"
#include "fuzz.h"

#define AT 4096u
#define BEHIND 4096u
#define CHEAP 16u /* iterations */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        log_init("fuzz", 0);
        return 0;
}

static struct secret password(void)
{
        struct secret s = { secret_mem_new(1), 1 };

        s.bytes[0] = 'x';
        return s;
}

static bool is_cheap(const struct luks_header *h)
{
        for (unsigned i = 0; i < LUKS_SLOTS; i++)
                if (h->slot[i].active && h->slot[i].iterations > CHEAP)
                        return false;
        return h->digest_iterations <= CHEAP && luks_active_slots(h) < 3;
}

/* With a key that is not the disk's: the slot opens to it, and so is not taken for a right one. */
static void change_slots(const struct luks_area *area, struct luks_header *h, const struct secret *p)
{
        struct luks_key key = { secret_mem_new(h->key_bytes), h->key_bytes };
        unsigned before = luks_active_slots(h);
        int slot = luks_free_slot(h), r = 0;
        struct luks_header now;

        if (slot >= 0 && crypto_random(key.bytes, key.len) == 0)
                r = luks_slot_set(area, h, (unsigned)slot, &key, p, 1);
        if (slot >= 0 && (r < 0 || luks_read(area, &now) < 0 || luks_active_slots(&now) != before + 1))
                fuzz_fail("a free slot does not take a password");
        if (slot >= 0 && (luks_slot_clear(area, h, (unsigned)slot) < 0 || luks_read(area, &now) < 0 ||
                          luks_active_slots(&now) != before))
                fuzz_fail("a slot does not let a password go");
        luks_key_finish(&key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        uint64_t len = size ? (data[0] % 64 + 1) * (64ull << 10) : 0;
        struct secret p = password();
        struct luks_area area = { NULL, AT, len };
        struct luks_header h;
        const uint8_t *bytes;
        size_t end;

        if (size && file_open_mem(NULL, AT + len + BEHIND, &area.file) == 0) {
                if (file_pwrite(area.file, data + 1, min_u64(size - 1, len), AT) < 0)
                        abort();
                if (luks_read(&area, &h) == 0 && is_cheap(&h)) {
                        struct luks_key key = { 0 };
                        unsigned slot;

                        if (luks_unlock(&area, &h, &p, &key, &slot) == 0 && !h.slot[slot].active)
                                fuzz_fail("a slot that is not active opens the disk");
                        luks_key_finish(&key);
                        change_slots(&area, &h, &p);
                }
                bytes = file_mem_bytes(area.file, &end);
                for (size_t i = 0; i < end; i++)
                        if ((i < AT || i >= AT + len) && bytes[i])
                                fuzz_fail("a byte outside of the header's area was written");
                file_close(area.file);
        }
        err_clear();
        secret_free(&p);
        return 0;
}
