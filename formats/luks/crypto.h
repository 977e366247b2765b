/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crypto.h - the crypto library's services: hashes, key derivation, random numbers, and sectors encrypted with AES.
 *
 * The library is OpenSSL's libcrypto 3: its AES-XTS is written for AES-NI and the vector units, several times as fast
 * as the C loops around a block cipher that nettle has; contexts are independent, so threads need no lock around
 * ciphering; and Debian keeps it current. Only crypto.c and sector_cipher.c know it. Without it (meson
 * -Dcrypto=disabled) crypto_none.c takes their place and every call is -ENOTSUP.
 *
 * Keys: what the library keeps of a key lies in its secure heap (locked, not in core dumps, wiped when freed).
 * Any thread. Errors are negative errno with a sentence.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRYPTO_MAX_HASH 64u

/* Bytes of its digest; 0: not a hash that is known (sha1, sha224, sha256, sha384, sha512 and ripemd160 are). */
size_t crypto_hash_len(const char *hash);

int crypto_hash(const char *hash, const void *in, size_t len, void *out);

/* PBKDF2 with HMAC. Takes as long as @iterations say: the caller bounds them. */
int crypto_pbkdf2(const char *hash, const void *password, size_t password_len, const void *salt, size_t salt_len,
                  uint32_t iterations, void *out, size_t out_len);

int crypto_random(void *out, size_t len);

/* --- sectors of 512 bytes, each with its number as the tweak or IV ------------------------------------------------- */

#define CIPHER_SECTOR 512u

struct sector_cipher;

/**
 * sector_cipher_new - from the words of a LUKS header.
 * @name: "aes". @mode: "xts-plain64", "cbc-essiv:sha256", ...: xts or cbc, then plain, plain64 or essiv:HASH.
 * @key: copied. 0 and *ret (sector_cipher_free() it), -ENOTSUP with a sentence, -ENOMEM.
 */
int sector_cipher_new(const char *name, const char *mode, const void *key, size_t key_len, struct sector_cipher **ret);
void sector_cipher_free(struct sector_cipher *c); /* nobody uses it any more; wipes the key. NULL is fine */

/* Its key, as sector_cipher_new() got it; lives as long as @c. NULL: there is none. */
const void *sector_cipher_key(const struct sector_cipher *c, size_t *len);

/* Can there be such a cipher? As sector_cipher_new(), without a key. */
int sector_cipher_check(const char *name, const char *mode, size_t key_len);

/**
 * sector_cipher_run - encrypt or decrypt @len bytes (whole sectors) at @buf in place; the first has number @sector.
 * Any thread, several at once. About 1 GB a second and core or more where the processor has AES. 0, or -EIO or -ENOMEM.
 */
enum cipher_way { CIPHER_DECRYPT, CIPHER_ENCRYPT };
int sector_cipher_run(struct sector_cipher *c, enum cipher_way way, uint64_t sector, void *buf, size_t len);
