/* SPDX-License-Identifier: BSD-3-Clause */
/* crypto_none.c - in place of crypto.c and sector_cipher.c in a build without a crypto library. */
#include <errno.h>

#include "common/err.h"
#include "crypto.h"

static int not_here(void)
{
        return err_note(-ENOTSUP, "this vdiskd was built without a crypto library (libcrypto), so it knows no encryption");
}

size_t crypto_hash_len(const char *hash)
{
        (void)hash;
        return 0;
}

int crypto_hash(const char *hash, const void *in, size_t len, void *out)
{
        (void)hash, (void)in, (void)len, (void)out;
        return not_here();
}

int crypto_pbkdf2(const char *hash, const void *password, size_t password_len, const void *salt, size_t salt_len,
                  uint32_t iterations, void *out, size_t out_len)
{
        (void)hash, (void)password, (void)password_len, (void)salt, (void)salt_len, (void)iterations, (void)out;
        (void)out_len;
        return not_here();
}

int crypto_random(void *out, size_t len)
{
        (void)out, (void)len;
        return not_here();
}

int sector_cipher_new(const char *name, const char *mode, const void *key, size_t key_len, struct sector_cipher **ret)
{
        (void)name, (void)mode, (void)key, (void)key_len, (void)ret;
        return not_here();
}

int sector_cipher_check(const char *name, const char *mode, size_t key_len)
{
        (void)name, (void)mode, (void)key_len;
        return not_here();
}

const void *sector_cipher_key(const struct sector_cipher *c, size_t *len)
{
        (void)c;
        *len = 0;
        return NULL;
}

void sector_cipher_free(struct sector_cipher *c)
{
        (void)c;
}

int sector_cipher_run(struct sector_cipher *c, enum cipher_way way, uint64_t sector, void *buf, size_t len)
{
        (void)c, (void)way, (void)sector, (void)buf, (void)len;
        return not_here();
}
