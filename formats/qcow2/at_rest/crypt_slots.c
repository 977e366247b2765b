/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crypt_slots.c - amend's "encrypt." options: passwords come and go. The rules are QEMU's: a slot in use is not written
 * over, and the last one is not taken away, unless forced. Each step is durable before the next (luks.h), so a crash
 * between them leaves one password too many, never none.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "formats/qcow2/crypt.h"

#define PREFIX "encrypt."
#define ITER_TIME_MS 2000u

struct order {
        const char *state, *new_secret, *old_secret;
        int slot; /* -1: not said */
        uint32_t iter_time_ms;
        bool force;
};

bool qcow2_crypt_is_amend(const struct fmt_option *o)
{
        return !strncmp(o->name, PREFIX, strlen(PREFIX));
}

static int number(const struct fmt_option *o, unsigned long min, unsigned long max, unsigned long *ret)
{
        char *end;

        *ret = strtoul(o->value, &end, 10);
        if (end == o->value || *end || *ret < min || *ret > max)
                return err_note(-EINVAL, "option %s cannot be '%s': it is a number from %lu to %lu", o->name, o->value, min, max);
        return 0;
}

static int take(struct order *w, const struct fmt_option *o)
{
        const char *name = o->name + strlen(PREFIX);
        unsigned long n = 0;
        int r = 0;

        if (!strcmp(name, "state")) {
                if (strcmp(o->value, "active") && strcmp(o->value, "inactive"))
                        return err_note(-EINVAL, "option %s cannot be '%s': it is active or inactive", o->name, o->value);
                w->state = o->value;
        } else if (!strcmp(name, "new-secret")) {
                w->new_secret = o->value;
        } else if (!strcmp(name, "old-secret")) {
                w->old_secret = o->value;
        } else if (!strcmp(name, "keyslot")) {
                r = number(o, 0, LUKS_SLOTS - 1, &n);
                w->slot = (int)n;
        } else if (!strcmp(name, "iter-time")) {
                r = number(o, 1, 60 * 1000, &n);
                w->iter_time_ms = (uint32_t)n;
        } else {
                r = err_note(-ENOTSUP, "option '%s' cannot be changed; encrypt.state, keyslot, new-secret, old-secret and "
                             "iter-time say how key slots change", o->name);
        }
        return r;
}

static int check(const struct order *w)
{
        bool active = w->state && !strcmp(w->state, "active");

        if (!w->state)
                return err_note(-EINVAL, "encrypt.state says what shall become of a key slot: active or inactive");
        if (active && !w->new_secret)
                return err_note(-EINVAL, "encrypt.state=active needs a password: encrypt.new-secret=ID");
        if (active && w->old_secret)
                return err_note(-EINVAL, "encrypt.old-secret only goes with encrypt.state=inactive");
        if (!active && w->new_secret)
                return err_note(-EINVAL, "encrypt.new-secret only goes with encrypt.state=active");
        if (!active && w->iter_time_ms)
                return err_note(-EINVAL, "encrypt.iter-time only goes with encrypt.state=active");
        if (!active && !w->old_secret && w->slot < 0)
                return err_note(-EINVAL, "encrypt.state=inactive needs encrypt.keyslot=N or encrypt.old-secret=ID: which key "
                                "slots");
        return 0;
}

/* --- a password comes ---------------------------------------------------------------------------------------------------- */

/*
 * Another password for a slot in use. While it is rewritten the new password is in another slot too, if there is a free
 * one; if not there are seven others that open the disk.
 */
static int overwrite(const struct luks_area *area, struct luks_header *h, unsigned slot, const struct luks_key *key,
                     const struct secret *password, uint32_t iter_time_ms)
{
        int meanwhile = luks_free_slot(h);
        int r = meanwhile >= 0 ? luks_slot_set(area, h, (unsigned)meanwhile, key, password, iter_time_ms) : 0;

        if (r == 0)
                r = luks_slot_clear(area, h, slot);
        if (r == 0)
                r = luks_slot_set(area, h, slot, key, password, iter_time_ms);
        if (r == 0 && meanwhile >= 0)
                r = luks_slot_clear(area, h, (unsigned)meanwhile);
        return r;
}

static int activate(struct qcow2_image *q, const struct order *w, const struct luks_area *area, struct luks_header *h)
{
        AUTO(secret_free) struct secret mine = { 0 }, new = { 0 };
        AUTO(luks_key_finish) struct luks_key key = { 0 };
        int slot = w->slot >= 0 ? w->slot : luks_free_slot(h);
        uint32_t ms = w->iter_time_ms ?: ITER_TIME_MS;
        int r;

        if (slot < 0)
                return err_note(-ENOSPC, "all %u key slots are in use", LUKS_SLOTS);
        if (h->slot[slot].active && !w->force)
                return err_note(-EBUSY, "key slot %d is in use: make it inactive first, or say --force to write over it", slot);
        if (!q->key_secret)
                return err_note(-EACCES, "a new password needs one that opens the image: --image-opts with encrypt.key-secret=ID");
        r = secret_get(w->new_secret, &new);
        if (r == 0)
                r = secret_get(q->key_secret, &mine);
        if (r == 0)
                r = luks_unlock(area, h, &mine, &key, NULL);
        if (r < 0)
                return r;
        return h->slot[slot].active ? overwrite(area, h, (unsigned)slot, &key, &new, ms) :
                                      luks_slot_set(area, h, (unsigned)slot, &key, &new, ms);
}

/* --- passwords go ---------------------------------------------------------------------------------------------------------- */

/* Which slots, as bits. */
static int find_slots(const struct order *w, const struct luks_area *area, const struct luks_header *h, unsigned *ret)
{
        AUTO(secret_free) struct secret old = { 0 };
        int r = w->old_secret ? secret_get(w->old_secret, &old) : 0;

        *ret = 0;
        if (r == 0 && w->slot >= 0 && !h->slot[w->slot].active)
                return err_note(-EINVAL, "key slot %d is inactive already", w->slot);
        for (unsigned i = 0; r >= 0 && i < LUKS_SLOTS; i++) {
                if (!h->slot[i].active || (w->slot >= 0 && (unsigned)w->slot != i))
                        continue;
                r = w->old_secret ? luks_opens(area, h, i, &old) : 1;
                *ret |= (unsigned)(r == 1) << i;
        }
        if (r >= 0 && !*ret)
                return err_note(-EACCES, "secret '%s' does not open %s", w->old_secret, w->slot < 0 ? "any key slot" :
                                "that key slot");
        return r < 0 ? r : 0;
}

static int deactivate(const struct order *w, const struct luks_area *area, struct luks_header *h)
{
        unsigned which;
        int r = find_slots(w, area, h, &which);

        if (r == 0 && (unsigned)__builtin_popcount(which) == luks_active_slots(h) && !w->force)
                return err_note(-EPERM, "no password would be left, and everything on the disk would be lost for good; --force "
                                "says that you want that");
        for (unsigned i = 0; r == 0 && i < LUKS_SLOTS; i++)
                if (which & 1u << i)
                        r = luks_slot_clear(area, h, i);
        return r;
}

int qcow2_crypt_amend(struct qcow2_image *q, const struct fmt_option *opts, size_t n, bool force)
{
        struct luks_area area = qcow2_luks_area(q->img.file, &q->h);
        struct order w = { .slot = -1, .force = force };
        struct luks_header h;
        int r = 0;

        if (q->h.crypt_method != QCOW2_CRYPT_LUKS)
                return err_note(-EINVAL, "the image is not encrypted: it has no key slots");
        for (size_t i = 0; r == 0 && i < n; i++)
                r = qcow2_crypt_is_amend(&opts[i]) ? take(&w, &opts[i]) :
                    err_note(-EINVAL, "key slots and '%s' cannot change in one step: amend twice", opts[i].name);
        if (r == 0)
                r = check(&w);
        if (r == 0)
                r = luks_read(&area, &h);
        if (r < 0)
                return r;
        return strcmp(w.state, "active") ? deactivate(&w, &area, &h) : activate(q, &w, &area, &h);
}
