/* SPDX-License-Identifier: BSD-3-Clause */
/* crypt_options.c - create's "encrypt." options, in QEMU's words, and what they mean for a LUKS header. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "formats/qcow2/crypt.h"

#define PREFIX "encrypt."
#define ITER_TIME_MS 2000u

static int bad_value(const struct fmt_option *o, const char *right)
{
        return err_note(-EINVAL, "option %s cannot be '%s': it is %s", o->name, o->value, right);
}

static int take_word(const struct fmt_option *o, const char *const *words, const char *right, const char **ret)
{
        for (; *words; words++)
                if (!strcmp(o->value, *words)) {
                        *ret = o->value;
                        return 1;
                }
        return bad_value(o, right);
}

static int take_iter_time(const struct fmt_option *o, uint32_t *ret)
{
        char *end;
        unsigned long n = strtoul(o->value, &end, 10);

        if (end == o->value || *end || n < 1 || n > 60 * 1000)
                return bad_value(o, "a number of milliseconds from 1 to 60000");
        *ret = (uint32_t)n;
        return 1;
}

int qcow2_crypt_option(struct qcow2_wish *w, const struct fmt_option *o)
{
        static const char *const algs[] = { "aes-128", "aes-256", NULL }; /* QEMU cannot open aes-192 */
        static const char *const modes[] = { "xts", "cbc", NULL };
        static const char *const ivs[] = { "plain", "plain64", "essiv", NULL };
        static const char *const hashes[] = { "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160", NULL };
        static const char hash_words[] = "sha1, sha224, sha256, sha384, sha512 or ripemd160";
        const char *name = o->name + strlen(PREFIX);

        if (strncmp(o->name, PREFIX, strlen(PREFIX)))
                return 0;
        if (!strcmp(name, "format")) {
                w->encrypted = !strcmp(o->value, "luks");
                return w->encrypted ? 1 : bad_value(o, "luks");
        }
        w->crypt_words = true;
        if (!strcmp(name, "key-secret")) {
                w->key_secret = o->value;
                return 1;
        }
        if (!strcmp(name, "cipher-alg"))
                return take_word(o, algs, "aes-128 or aes-256", &w->cipher_alg);
        if (!strcmp(name, "cipher-mode"))
                return take_word(o, modes, "xts or cbc", &w->cipher_mode);
        if (!strcmp(name, "ivgen-alg"))
                return take_word(o, ivs, "plain, plain64 or essiv", &w->ivgen_alg);
        if (!strcmp(name, "ivgen-hash-alg"))
                return take_word(o, hashes, hash_words, &w->ivgen_hash);
        if (!strcmp(name, "hash-alg"))
                return take_word(o, hashes, hash_words, &w->hash_alg);
        return strcmp(name, "iter-time") ? 0 : take_iter_time(o, &w->luks.iter_time_ms);
}

int qcow2_crypt_wish(struct qcow2_wish *w, bool file)
{
        struct luks_wish *l = &w->luks;
        const char *mode = w->cipher_mode ?: "xts", *iv = w->ivgen_alg ?: "plain64";
        bool essiv = !strcmp(iv, "essiv");
        uint32_t bits = (uint32_t)strtoul((w->cipher_alg ?: "aes-256") + strlen("aes-"), NULL, 10);

        if (!w->encrypted)
                return w->crypt_words ? err_note(-EINVAL, "encrypt options need encrypt.format=luks") : 0;
        if (file && !w->key_secret)
                return err_note(-EINVAL, "encrypt.format=luks needs a key: encrypt.key-secret=ID, and --object "
                                "secret,id=ID,file=PATH");
        if (w->ivgen_hash && !essiv)
                return err_note(-EINVAL, "encrypt.ivgen-hash-alg only goes with encrypt.ivgen-alg=essiv");
        strcpy(l->cipher, "aes");
        snprintf(l->mode, sizeof(l->mode), "%s-%s%s%s", mode, iv, essiv ? ":" : "", essiv ? w->ivgen_hash ?: "sha256" : "");
        strcpy(l->hash, w->hash_alg ?: "sha256");
        l->key_bytes = bits / 8 * (strcmp(mode, "xts") ? 1 : 2);
        l->iter_time_ms = l->iter_time_ms ?: ITER_TIME_MS;
        return sector_cipher_check(l->cipher, l->mode, l->key_bytes);
}
