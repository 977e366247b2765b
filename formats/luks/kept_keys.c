/* SPDX-License-Identifier: BSD-3-Clause */
#include "kept_keys.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kept_key *first;
static bool keeping;

static struct kept_key *find(const struct luks_id *id)
{
        struct kept_key *k = first;

        while (k && memcmp(&k->id, id, sizeof(*id)))
                k = k->next;
        return k;
}

void kept_keys_begin(void)
{
        pthread_mutex_lock(&lock);
        keeping = true;
        pthread_mutex_unlock(&lock);
}

void kept_keys_end(void)
{
        struct kept_key *k;

        pthread_mutex_lock(&lock);
        keeping = false;
        while ((k = first)) {
                first = k->next;
                luks_key_finish(&k->key);
                free(k);
        }
        pthread_mutex_unlock(&lock);
}

static struct kept_key *copy_of(const struct luks_id *id, const void *key, size_t len)
{
        struct kept_key *k = calloc(1, sizeof(*k));

        if (!k)
                return NULL;
        k->key = (struct luks_key){ secret_mem_new(len), len };
        if (!k->key.bytes) {
                free(k);
                return NULL;
        }
        k->id = *id;
        memcpy(k->key.bytes, key, len);
        return k;
}

void kept_keys_put(const struct luks_id *id, const void *key, size_t len)
{
        struct kept_key *k;

        pthread_mutex_lock(&lock);
        if (keeping && key && !find(id) && (k = copy_of(id, key, len))) {
                k->next = first;
                first = k;
        }
        pthread_mutex_unlock(&lock);
}

bool kept_keys_get(const struct luks_id *id, struct luks_key *ret)
{
        struct kept_key *k;

        pthread_mutex_lock(&lock);
        k = keeping ? find(id) : NULL;
        if (k) {
                *ret = (struct luks_key){ secret_mem_new(k->key.len), k->key.len };
                if (ret->bytes)
                        memcpy(ret->bytes, k->key.bytes, k->key.len);
        }
        pthread_mutex_unlock(&lock);
        return k && ret->bytes;
}

const struct kept_key *kept_keys_first(void)
{
        return first;
}
