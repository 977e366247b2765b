/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sector_cipher.c - see crypto.h. AES over sectors; a sector's number becomes its tweak (xts) or IV (cbc).
 *
 * A library context is for one thread at a time, so whoever ciphers takes one from a stack (one lock for a whole piece
 * of many sectors) and gives it back. There are as many as threads were ever at it at once, for each direction.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/secret.h"
#include "crypto.h"
#include "crypto_impl.h"

#define IV_LEN 16u
#define MAX_KEY 64u

enum iv_kind { IV_PLAIN, IV_PLAIN64, IV_ESSIV };

/* What a mode's words mean. */
struct mode {
        const char *cipher; /* the library's name */
        enum iv_kind iv;
        char essiv_hash[32];
        const char *essiv_cipher;
        size_t essiv_len;
};

struct worker {
        struct worker *next;
        EVP_CIPHER_CTX *data, *essiv;
};

struct sector_cipher {
        struct mode mode;
        EVP_CIPHER *data, *essiv;
        uint8_t *key; /* secret memory: the key, then essiv's */
        size_t key_len;
        pthread_mutex_t lock;
        struct worker *idle[2]; /* by enum cipher_way */
};

/* --- words -------------------------------------------------------------------------------------------------------------- */

static const char *aes_name(const char *chain, size_t key_len)
{
        static const struct { const char *chain; size_t key_len; const char *name; } known[] = {
                { "xts", 32, "AES-128-XTS" }, { "xts", 64, "AES-256-XTS" },
                { "cbc", 16, "AES-128-CBC" }, { "cbc", 24, "AES-192-CBC" }, { "cbc", 32, "AES-256-CBC" },
                { "ecb", 16, "AES-128-ECB" }, { "ecb", 24, "AES-192-ECB" }, { "ecb", 32, "AES-256-ECB" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(known); i++)
                if (!strcmp(known[i].chain, chain) && known[i].key_len == key_len)
                        return known[i].name;
        return NULL;
}

static bool read_iv(const char *word, struct mode *m)
{
        if (!strcmp(word, "plain") || !strcmp(word, "plain64")) {
                m->iv = word[5] ? IV_PLAIN64 : IV_PLAIN;
                return true;
        }
        if (strncmp(word, "essiv:", 6) || strlen(word + 6) >= sizeof(m->essiv_hash))
                return false;
        m->iv = IV_ESSIV;
        strcpy(m->essiv_hash, word + 6);
        m->essiv_len = crypto_hash_len(m->essiv_hash);
        m->essiv_cipher = aes_name("ecb", m->essiv_len); /* a hash as long as a key of AES */
        return m->essiv_cipher != NULL;
}

static int read_mode(const char *name, const char *words, size_t key_len, struct mode *m)
{
        const char *dash = strchr(words, '-');
        char chain[8];

        *m = (struct mode){ 0 };
        if (dash && (size_t)(dash - words) < sizeof(chain)) {
                memcpy(chain, words, (size_t)(dash - words));
                chain[dash - words] = '\0';
                if (!strcmp(name, "aes") && strcmp(chain, "ecb") && read_iv(dash + 1, m))
                        m->cipher = aes_name(chain, key_len);
        }
        if (m->cipher)
                return 0;
        return err_note(-ENOTSUP, "encryption with %.31s-%.31s and a key of %zu bytes is not supported: aes-xts-plain64 "
                        "(32 or 64 bytes) and aes-cbc-plain, -plain64 and -essiv:sha256 (16, 24 or 32 bytes) are", name,
                        words, key_len);
}

int sector_cipher_check(const char *name, const char *mode, size_t key_len)
{
        struct mode m;

        return read_mode(name, mode, key_len, &m);
}

/* --- contexts ----------------------------------------------------------------------------------------------------------- */

static void worker_free(struct worker *w)
{
        if (!w)
                return;
        EVP_CIPHER_CTX_free(w->data);
        EVP_CIPHER_CTX_free(w->essiv);
        free(w);
}

static EVP_CIPHER_CTX *context_new(EVP_CIPHER *cipher, const uint8_t *key, enum cipher_way way)
{
        EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

        if (ctx && EVP_CipherInit_ex2(ctx, cipher, key, NULL, way == CIPHER_ENCRYPT, NULL) &&
            EVP_CIPHER_CTX_set_padding(ctx, 0))
                return ctx;
        EVP_CIPHER_CTX_free(ctx);
        return NULL;
}

static struct worker *worker_new(struct sector_cipher *c, enum cipher_way way)
{
        struct worker *w = calloc(1, sizeof(*w));
        bool fine = w;

        crypto_hide(true);
        if (fine)
                fine = (w->data = context_new(c->data, c->key, way));
        if (fine && c->essiv)
                fine = (w->essiv = context_new(c->essiv, c->key + c->key_len, CIPHER_ENCRYPT));
        crypto_hide(false);
        if (fine)
                return w;
        worker_free(w);
        return NULL;
}

static struct worker *worker_get(struct sector_cipher *c, enum cipher_way way)
{
        struct worker *w;

        pthread_mutex_lock(&c->lock);
        w = c->idle[way];
        if (w)
                c->idle[way] = w->next;
        pthread_mutex_unlock(&c->lock);
        return w ? w : worker_new(c, way);
}

static void worker_put(struct sector_cipher *c, enum cipher_way way, struct worker *w)
{
        pthread_mutex_lock(&c->lock);
        w->next = c->idle[way];
        c->idle[way] = w;
        pthread_mutex_unlock(&c->lock);
}

void sector_cipher_free(struct sector_cipher *c)
{
        if (!c)
                return;
        for (unsigned way = 0; way < ARRAY_SIZE(c->idle); way++)
                while (c->idle[way]) {
                        struct worker *w = c->idle[way];

                        c->idle[way] = w->next;
                        worker_free(w);
                }
        EVP_CIPHER_free(c->data);
        EVP_CIPHER_free(c->essiv);
        secret_mem_free(c->key, c->key_len + c->mode.essiv_len);
        pthread_mutex_destroy(&c->lock);
        free(c);
}
static void cipher_freep(struct sector_cipher **c)
{
        sector_cipher_free(*c);
}

static int take_key(struct sector_cipher *c, const void *key, size_t len)
{
        c->key = secret_mem_new(len + c->mode.essiv_len);
        c->key_len = len;
        if (!c->key)
                return -ENOMEM;
        memcpy(c->key, key, len);
        return c->mode.iv == IV_ESSIV ? crypto_hash(c->mode.essiv_hash, key, len, c->key + len) : 0;
}

int sector_cipher_new(const char *name, const char *mode, const void *key, size_t key_len, struct sector_cipher **ret)
{
        AUTO(cipher_freep) struct sector_cipher *c = calloc(1, sizeof(*c));
        struct worker *w;
        int r = c ? read_mode(name, mode, key_len, &c->mode) : -ENOMEM;

        if (!c)
                return r;
        pthread_mutex_init(&c->lock, NULL);
        crypto_init();
        if (r == 0)
                r = take_key(c, key, key_len);
        if (r < 0)
                return r;
        c->data = EVP_CIPHER_fetch(NULL, c->mode.cipher, NULL);
        if (c->mode.iv == IV_ESSIV)
                c->essiv = EVP_CIPHER_fetch(NULL, c->mode.essiv_cipher, NULL);
        if (!c->data || (c->mode.iv == IV_ESSIV && !c->essiv))
                return crypto_failed("make a cipher");
        w = worker_new(c, CIPHER_ENCRYPT); /* now, so that a key it does not take is told now */
        if (!w)
                return crypto_failed("take the key");
        worker_put(c, CIPHER_ENCRYPT, w);
        *ret = TAKE(c, NULL);
        return 0;
}

const void *sector_cipher_key(const struct sector_cipher *c, size_t *len)
{
        *len = c ? c->key_len : 0;
        return c ? c->key : NULL;
}

/* --- sectors ------------------------------------------------------------------------------------------------------------ */

static bool make_iv(const struct sector_cipher *c, const struct worker *w, uint64_t sector, uint8_t iv[IV_LEN])
{
        int n;

        memset(iv, 0, IV_LEN);
        le64_put(iv, c->mode.iv == IV_PLAIN ? (uint32_t)sector : sector);
        return !w->essiv || EVP_CipherUpdate(w->essiv, iv, &n, iv, IV_LEN);
}

int sector_cipher_run(struct sector_cipher *c, enum cipher_way way, uint64_t sector, void *buf, size_t len)
{
        struct worker *w = worker_get(c, way);
        uint8_t *at = buf, iv[IV_LEN];
        bool fine = true;
        int n;

        if (!w)
                return -ENOMEM;
        for (; fine && len; sector++, at += CIPHER_SECTOR, len -= CIPHER_SECTOR)
                fine = make_iv(c, w, sector, iv) && EVP_CipherInit_ex2(w->data, NULL, NULL, iv, -1, NULL) &&
                       EVP_CipherUpdate(w->data, at, &n, at, CIPHER_SECTOR);
        if (fine)
                worker_put(c, way, w);
        else
                worker_free(w);
        return fine ? 0 : crypto_failed("cipher a sector");
}
