/* SPDX-License-Identifier: BSD-3-Clause */
/* crypto_impl.h - between crypto.c and sector_cipher.c. */
#pragma once

#include <openssl/evp.h>
#include <stdbool.h>

/* Before any other call of the library. */
void crypto_init(void);

/* What the library allocates on this thread meanwhile lies in its secure heap, as far as that has room. */
void crypto_hide(bool on);

/* -EIO with what the library says about it. */
int crypto_failed(const char *what);

EVP_MD *crypto_fetch_hash(const char *hash); /* NULL: not known. EVP_MD_free() it */
