/* SPDX-License-Identifier: BSD-3-Clause */
#include "af.h"

#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/range.h"
#include "crypto.h"

#define MAX_KEY 64u

/* Each piece of a digest's length becomes the hash of its number and itself; the last one may be shorter. */
static int diffuse(const char *hash, uint8_t *block, size_t len)
{
        size_t digest = crypto_hash_len(hash);
        uint8_t in[4 + CRYPTO_MAX_HASH], out[CRYPTO_MAX_HASH];
        int r = digest ? 0 : -ENOTSUP;

        for (size_t at = 0, i = 0; r == 0 && at < len; at += digest, i++) {
                size_t part = min_u64(len - at, digest);

                be32_put(in, (uint32_t)i);
                memcpy(in + 4, block + at, part);
                r = crypto_hash(hash, in, 4 + part, out);
                if (r == 0)
                        memcpy(block + at, out, part);
        }
        explicit_bzero(in, sizeof(in));
        explicit_bzero(out, sizeof(out));
        return r;
}

static void xor_into(uint8_t *to, const uint8_t *from, size_t len)
{
        for (size_t i = 0; i < len; i++)
                to[i] ^= from[i];
}

/* All blocks but the last, one after the other, into @sum. */
static int sum_up(const char *hash, const uint8_t *blocks, size_t len, unsigned stripes, uint8_t *sum)
{
        int r = 0;

        memset(sum, 0, len);
        for (unsigned i = 0; r == 0 && i + 1 < stripes; i++) {
                xor_into(sum, blocks + i * len, len);
                r = diffuse(hash, sum, len);
        }
        return r;
}

int af_split(const char *hash, const uint8_t *key, size_t len, unsigned stripes, uint8_t *out)
{
        uint8_t sum[MAX_KEY], *last = out + (stripes - 1) * len;
        int r = len <= sizeof(sum) ? crypto_random(out, (stripes - 1) * len) : -EINVAL;

        if (r == 0)
                r = sum_up(hash, out, len, stripes, sum);
        if (r == 0) {
                memcpy(last, key, len);
                xor_into(last, sum, len);
        }
        explicit_bzero(sum, sizeof(sum));
        return r;
}

int af_merge(const char *hash, const uint8_t *in, size_t len, unsigned stripes, uint8_t *key)
{
        uint8_t sum[MAX_KEY];
        int r = len <= sizeof(sum) ? sum_up(hash, in, len, stripes, sum) : -EINVAL;

        if (r == 0) {
                memcpy(key, in + (stripes - 1) * len, len);
                xor_into(key, sum, len);
        }
        explicit_bzero(sum, sizeof(sum));
        return r;
}
