/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * { "box": fd, "passwords": [{ "id": "k", "bytes": 6 }, ...], "images": [{ "digest": ..., "salt": ..., "bytes": 64 }, ...] }
 *
 * In the box: the bytes of all passwords, then those of all images' keys, in this order.
 */
#include "handover_keys.h"

#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "formats/luks/kept_keys.h"

/* --- packing ------------------------------------------------------------------------------------------------------ */

/* One walk counts, the next one packs. */
struct packing {
        struct parcel *parcel;
        struct secret_box *box; /* NULL: counts */
        json_t *list;
        size_t bytes;
};

static void pack_bytes(struct packing *k, const void *bytes, size_t len)
{
        if (k->box)
                secret_box_put(k->box, bytes, len);
        k->bytes += len;
}

static void pack_password(void *opaque, const char *id, const struct secret *s)
{
        struct packing *k = opaque;

        pack_bytes(k, s->bytes, s->len);
        if (k->box)
                parcel_append(k->parcel, k->list, json_pack("{s:s,s:o}", "id", id, "bytes", parcel_u64(s->len)));
}

static void pack_images(struct packing *k)
{
        for (const struct kept_key *i = kept_keys_first(); i; i = i->next) {
                pack_bytes(k, i->key.bytes, i->key.len);
                if (k->box)
                        parcel_append(k->parcel, k->list,
                                      json_pack("{s:o,s:o,s:o}", "digest", parcel_bytes(i->id.digest, sizeof(i->id.digest)),
                                                "salt", parcel_bytes(i->id.salt, sizeof(i->id.salt)), "bytes",
                                                parcel_u64(i->key.len)));
        }
}

json_t *handover_keys_pack(struct parcel *p, struct secret_box *box)
{
        struct packing count = { 0 }, k = { .parcel = p, .box = box };
        json_t *passwords, *images;

        secret_each(pack_password, &count);
        pack_images(&count);
        if (secret_box_new(box, count.bytes) < 0)
                return NULL;
        k.list = passwords = json_array();
        secret_each(pack_password, &k);
        k.list = images = json_array();
        pack_images(&k);
        return json_pack("{s:i,s:o,s:o}", "box", parcel_put_fd(p, box->fd), "passwords", passwords, "images", images);
}

/* --- unpacking ---------------------------------------------------------------------------------------------------- */

static int take_bytes(struct secret_box *box, const json_t *o, struct secret *ret)
{
        uint64_t len;
        int r = parcel_get_u64(o, "bytes", SECRET_MAX, &len);

        return r < 0 ? r : secret_box_get(box, len, ret);
}

static int unpack_password(struct secret_box *box, const json_t *o)
{
        struct secret s = { 0 };
        const char *id;
        int r = parcel_get_text(o, "id", false, &id);

        if (r == 0)
                r = take_bytes(box, o, &s);
        return r < 0 ? r : secret_add_bytes(id, &s);
}

static int get_exactly(const json_t *o, const char *key, void *to, size_t len)
{
        size_t got = 0;
        int r = parcel_get_bytes(o, key, to, len, &got);

        return r < 0 ? r : got == len ? 0 : err_note(-EBADMSG, "'%s' has %zu bytes, not %zu", key, got, len);
}

static int unpack_image(struct secret_box *box, const json_t *o)
{
        AUTO(secret_free) struct secret s = { 0 };
        struct luks_id id;
        int r = get_exactly(o, "digest", id.digest, sizeof(id.digest));

        if (r == 0)
                r = get_exactly(o, "salt", id.salt, sizeof(id.salt));
        if (r == 0)
                r = take_bytes(box, o, &s);
        if (r == 0)
                kept_keys_put(&id, s.bytes, s.len);
        return r;
}

static int unpack_list(struct secret_box *box, const json_t *o, const char *key,
                       int (*unpack)(struct secret_box *box, const json_t *o))
{
        const json_t *list;
        int r = parcel_get_array(o, key, &list);

        for (size_t i = 0; r == 0 && i < json_array_size(list); i++)
                r = unpack(box, json_array_get(list, i));
        return r;
}

int handover_keys_unpack(struct parcel *p, const json_t *o)
{
        AUTO(secret_box_finish) struct secret_box box = { .fd = -1 };
        int fd = -1, r = parcel_take_fd(p, o, "box", false, &fd);

        if (r == 0)
                r = secret_box_open(&box, fd);
        if (r == 0)
                r = unpack_list(&box, o, "passwords", unpack_password);
        return r < 0 ? r : unpack_list(&box, o, "images", unpack_image);
}
