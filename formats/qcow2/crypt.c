/* SPDX-License-Identifier: BSD-3-Clause */
/* crypt.c - see crypt.h: opening encrypted images, making them, and what info says about them. */
#include "crypt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"

/* --- opening ------------------------------------------------------------------------------------------------------------ */

/* From a password, which takes seconds. */
static int derive(const struct luks_area *area, const struct luks_header *h, const char *key_secret,
                  struct luks_key *ret)
{
        AUTO(secret_free) struct secret password = { 0 };
        int r = secret_get(key_secret, &password);

        if (r == 0)
                r = luks_unlock(area, h, &password, ret, NULL);
        return r == -EACCES ? err_prefix(r, "secret '%s' is not its key: ", key_secret) : r;
}

static int unlock(struct qcow2_image *q, const struct luks_header *h)
{
        AUTO(luks_key_finish) struct luks_key key = { 0 };
        struct luks_area area = qcow2_luks_area(q->img.file, &q->h);
        int r = kept_keys_get(&q->luks, &key) ? 0 : derive(&area, h, q->key_secret, &key);

        return r < 0 ? r : sector_cipher_new(h->cipher, h->mode, key.bytes, key.len, &q->img.cipher);
}

static int read_luks(struct qcow2_image *q, struct luks_header *h)
{
        struct luks_area area = qcow2_luks_area(q->img.file, &q->h);
        int r = luks_read(&area, h);

        if (r < 0)
                return r;
        memcpy(q->luks.digest, h->digest, sizeof(q->luks.digest));
        memcpy(q->luks.salt, h->digest_salt, sizeof(q->luks.salt));
        return 0;
}

int qcow2_crypt_open(struct qcow2_image *q, const struct fmt_open_opts *opts)
{
        const char *key_secret = opts->layer ? opts->layer->key_secret : NULL;
        bool open_before = q->img.cipher;
        struct luks_header h;
        int r;

        if (!q->img.encrypted)
                return key_secret ? err_note(-EINVAL, "the image is not encrypted: secret '%s' opens nothing",
                                             key_secret) : 0;
        q->img.locked = !key_secret && !open_before && opts->flags & FMT_NO_KEY;
        if (q->img.locked)
                return 0;
        if (!key_secret && !open_before)
                return err_note(-EACCES, "the image is encrypted and no key was named: expected key-secret=ID, or in "
                                "blockdev-add and --image-opts encrypt.key-secret, with a secret of that name");
        if (key_secret && !(q->key_secret = strdup(key_secret)))
                return -ENOMEM;
        r = read_luks(q, &h);
        return r < 0 || open_before ? r : unlock(q, &h);
}

void qcow2_crypt_close(struct qcow2_image *q)
{
        size_t len;
        const void *key = sector_cipher_key(q->img.cipher, &len);

        kept_keys_put(&q->luks, key, len);
        sector_cipher_free(q->img.cipher);
        free(q->key_secret);
}

/* --- a new image -------------------------------------------------------------------------------------------------------- */

int qcow2_crypt_create(struct file *file, const struct qcow2_header *h, const struct qcow2_wish *w)
{
        AUTO(secret_free) struct secret password = { 0 };
        AUTO(luks_key_finish) struct luks_key key = { 0 };
        struct luks_area area = qcow2_luks_area(file, h);
        int r = secret_get(w->key_secret, &password);

        if (r == 0 && file->size < area.off + area.len)
                r = file_truncate(file, area.off + area.len);
        return r < 0 ? r : luks_format(&area, &w->luks, &password, &key);
}

/* --- info ----------------------------------------------------------------------------------------------------------------- */

/* json_object_set_new() takes the value in any case and fails for NULL. */
static int set(json_t *into, const char *key, json_t *value)
{
        return json_object_set_new(into, key, value) < 0 ? -ENOMEM : 0;
}

static int add_slot(json_t *list, const struct luks_slot *s)
{
        json_t *o = json_object();
        int r = set(o, "active", json_boolean(s->active));

        if (r == 0 && s->active)
                r = set(o, "iters", json_integer(s->iterations));
        if (r == 0)
                r = set(o, "key-offset", json_integer((json_int_t)s->material * LUKS_SECTOR));
        if (r == 0 && s->active)
                r = set(o, "stripes", json_integer(s->stripes));
        return json_array_append_new(list, o) < 0 ? -ENOMEM : r;
}

static int set_slots(json_t *into, const struct luks_header *h)
{
        json_t *list = json_array();
        int r = set(into, "slots", list); /* borrowed from here on */

        for (unsigned i = 0; r == 0 && i < LUKS_SLOTS; i++)
                r = add_slot(list, &h->slot[i]);
        return r;
}

/* In the order in which QEMU prints them. "xts-plain64" and "cbc-essiv:sha256" are three words. */
static int set_words(json_t *o, const struct luks_header *h)
{
        char mode[LUKS_WORD], alg[LUKS_WORD + 16], *rest = mode;
        const char *chain, *iv, *iv_hash;
        int r;

        memcpy(mode, h->mode, sizeof(mode));
        chain = strsep(&rest, "-:") ?: "";
        iv = strsep(&rest, "-:") ?: "";
        iv_hash = strsep(&rest, "-:");
        snprintf(alg, sizeof(alg), "%s-%u", h->cipher, h->key_bytes * (strcmp(chain, "xts") ? 8 : 4));
        r = set(o, "ivgen-alg", json_string(iv));
        if (r == 0)
                r = set(o, "hash-alg", json_string(h->hash));
        if (r == 0)
                r = set(o, "cipher-alg", json_string(alg));
        if (r == 0)
                r = set(o, "uuid", json_string(h->uuid));
        if (r == 0 && iv_hash)
                r = set(o, "ivgen-hash-alg", json_string(iv_hash));
        if (r == 0)
                r = set(o, "format", json_string("luks"));
        return r < 0 ? r : set(o, "cipher-mode", json_string(chain));
}

int qcow2_crypt_info(struct file *file, const struct qcow2_header *q, json_t *data)
{
        struct luks_area area = qcow2_luks_area(file, q);
        json_t *o = json_object();
        struct luks_header h;
        int r = set(data, "encrypt", o); /* borrowed from here on */

        if (r < 0 || q->crypt_method != QCOW2_CRYPT_LUKS)
                return r < 0 ? r : set(o, "format", json_string("aes"));
        r = luks_read(&area, &h);
        if (r == 0)
                r = set_words(o, &h);
        if (r == 0)
                r = set_slots(o, &h);
        if (r == 0)
                r = set(o, "payload-offset", json_integer((json_int_t)h.payload * LUKS_SECTOR));
        return r < 0 ? r : set(o, "master-key-iters", json_integer(h.digest_iterations));
}
