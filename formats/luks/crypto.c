/* SPDX-License-Identifier: BSD-3-Clause */
/* crypto.c - see crypto.h: libcrypto, its memory, hashes and key derivation. */
#include "crypto.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/log.h"
#include "crypto_impl.h"

#define SECURE_HEAP (1u << 20) /* bytes: a context with its key schedule takes about 1 KiB */

/* --- memory ----------------------------------------------------------------------------------------------------------- */

/*
 * The library puts key schedules into plain heap memory. With these functions, what it allocates while crypto_hide() is
 * on comes from its own secure heap. Whoever frees memory need not know where it came from.
 */
static __thread bool hiding;

static void *hook_malloc(size_t len, const char *file, int line)
{
        void *p = hiding ? CRYPTO_secure_malloc(len, file, line) : NULL;

        return p ? p : malloc(len);
}

static void hook_free(void *p, const char *file, int line)
{
        if (CRYPTO_secure_allocated(p))
                CRYPTO_secure_free(p, file, line);
        else
                free(p);
}

static void *hook_realloc(void *p, size_t len, const char *file, int line)
{
        size_t had;
        void *q;

        if (!p || !CRYPTO_secure_allocated(p))
                return realloc(p, len);
        had = CRYPTO_secure_actual_size(p);
        if (len <= had)
                return p;
        q = hook_malloc(len, file, line);
        if (q) {
                memcpy(q, p, had);
                hook_free(p, file, line);
        }
        return q;
}

static void init_once(void)
{
        if (!CRYPTO_set_mem_functions(hook_malloc, hook_realloc, hook_free) || !CRYPTO_secure_malloc_init(SECURE_HEAP, 64))
                log_warn("libcrypto has no secure heap: keys may be in core dumps and in swap");
        OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL); /* the system's policy is about TLS, not about disks */
}

void crypto_init(void)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;

        pthread_once(&once, init_once);
}

void crypto_hide(bool on)
{
        hiding = on && CRYPTO_secure_malloc_initialized();
}

int crypto_failed(const char *what)
{
        char text[160];

        ERR_error_string_n(ERR_get_error(), text, sizeof(text));
        ERR_clear_error();
        return err_note(-EIO, "libcrypto cannot %s: %s", what, text);
}

/* --- services ----------------------------------------------------------------------------------------------------------- */

/* Those of LUKS; not all that the library has. */
EVP_MD *crypto_fetch_hash(const char *hash)
{
        static const char *const known[] = { "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160" };

        crypto_init();
        for (size_t i = 0; i < ARRAY_SIZE(known); i++)
                if (!strcmp(hash, known[i]))
                        return EVP_MD_fetch(NULL, hash, NULL);
        return NULL;
}

static void md_freep(EVP_MD **md)
{
        EVP_MD_free(*md);
}

static int fetch(const char *hash, EVP_MD **ret)
{
        *ret = crypto_fetch_hash(hash);
        return *ret ? 0 : err_note(-ENOTSUP, "hash '%.31s' is not supported: sha1, sha224, sha256, sha384, sha512 and "
                                   "ripemd160 are", hash);
}

size_t crypto_hash_len(const char *hash)
{
        AUTO(md_freep) EVP_MD *md = crypto_fetch_hash(hash);

        return md ? (size_t)EVP_MD_get_size(md) : 0;
}

int crypto_hash(const char *hash, const void *in, size_t len, void *out)
{
        AUTO(md_freep) EVP_MD *md = NULL;
        int r = fetch(hash, &md);

        if (r < 0)
                return r;
        crypto_hide(true);
        r = EVP_Digest(in, len, out, NULL, md, NULL) ? 0 : crypto_failed("hash");
        crypto_hide(false);
        return r;
}

int crypto_pbkdf2(const char *hash, const void *password, size_t password_len, const void *salt, size_t salt_len,
                  uint32_t iterations, void *out, size_t out_len)
{
        AUTO(md_freep) EVP_MD *md = NULL;
        int r = fetch(hash, &md);

        if (r < 0)
                return r;
        if (iterations == 0 || iterations > INT32_MAX)
                return err_note(-EINVAL, "%u iterations of a key derivation cannot be done", iterations);
        crypto_hide(true);
        if (!PKCS5_PBKDF2_HMAC(password, (int)password_len, salt, (int)salt_len, (int)iterations, md, (int)out_len, out))
                r = crypto_failed("derive a key");
        crypto_hide(false);
        return r;
}

int crypto_random(void *out, size_t len)
{
        crypto_init();
        return RAND_priv_bytes(out, (int)len) == 1 ? 0 : crypto_failed("make random numbers");
}
