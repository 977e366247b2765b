/* SPDX-License-Identifier: BSD-3-Clause */
/* secret.c - see secret.h. One list under one lock; there are few of them and they are asked for when images open. */
#include "common/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/list.h"
#include "common/path.h"

struct named {
        struct list link;
        char *id;
        struct secret secret;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list all = { &all, &all };

/* --- memory --------------------------------------------------------------------------------------------------------- */

void *secret_mem_new(size_t len)
{
        void *mem = mmap(NULL, len ? len : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (mem == MAP_FAILED)
                return NULL;
        madvise(mem, len ? len : 1, MADV_DONTDUMP);
        (void)!mlock(mem, len ? len : 1); /* RLIMIT_MEMLOCK may be small; swap is the host's own business then */
        return mem;
}

void secret_mem_free(void *mem, size_t len)
{
        if (!mem)
                return;
        explicit_bzero(mem, len);
        munmap(mem, len ? len : 1);
}

void secret_free(struct secret *s)
{
        secret_mem_free(s->bytes, s->len);
        *s = (struct secret){ 0 };
}

/* --- where they come from --------------------------------------------------------------------------------------------- */

/* All that @fd has, in a secret of its exact length. */
static int read_all(int fd, struct secret *ret)
{
        char *buf = secret_mem_new(SECRET_MAX + 1);
        size_t len = 0;
        ssize_t n = 1;
        int r = buf ? 0 : -ENOMEM;

        while (r == 0 && n && len <= SECRET_MAX) {
                n = read(fd, buf + len, SECRET_MAX + 1 - len);
                if (n < 0 && errno != EINTR)
                        r = -errno;
                len += n > 0 ? (size_t)n : 0;
        }
        if (r == 0 && len > SECRET_MAX)
                r = err_note(-EFBIG, "it has more than %u bytes", SECRET_MAX);
        if (r == 0 && !(ret->bytes = secret_mem_new(len)))
                r = -ENOMEM;
        if (r == 0)
                memcpy(ret->bytes, buf, ret->len = len);
        secret_mem_free(buf, SECRET_MAX + 1);
        return r;
}

static int base64_value(char c)
{
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const char *at = c ? strchr(digits, c) : NULL;

        return at ? (int)(at - digits) : -1;
}

/* In place: what it says is shorter. White space between the digits means nothing. */
static int base64_decode(struct secret *s)
{
        size_t to = 0, digits = 0, pads = 0;
        uint32_t bits = 0;

        for (size_t i = 0; i < s->len; i++) {
                int v = base64_value(s->bytes[i]);

                if (strchr(" \t\r\n", s->bytes[i]) && s->bytes[i])
                        continue;
                if (s->bytes[i] == '=' && ++pads <= 2)
                        continue;
                if (v < 0 || pads)
                        return -EINVAL;
                bits = bits << 6 | (uint32_t)v;
                if (++digits % 4 != 1)
                        s->bytes[to++] = (char)(bits >> (6 - 2 * ((digits - 1) % 4)));
        }
        if ((digits + pads) % 4 || digits % 4 == 1)
                return -EINVAL;
        explicit_bzero(s->bytes + to, s->len - to);
        return (int)to;
}

static int decode(const struct secret_source *src, struct secret *s)
{
        struct secret plain = { 0 };
        int n;

        if (!src->format || !strcmp(src->format, "raw"))
                return 0;
        n = base64_decode(s);
        if (n < 0)
                return err_note(n, "it is not base64");
        plain = (struct secret){ secret_mem_new((size_t)n), (size_t)n };
        if (!plain.bytes)
                return -ENOMEM;
        memcpy(plain.bytes, s->bytes, plain.len);
        secret_free(s);
        *s = plain;
        return 0;
}

static int may_read(const struct secret_source *src, int fd)
{
        struct stat st;

        if (!src->no_waiting)
                return 0;
        if (fstat(fd, &st) < 0)
                return -errno;
        return S_ISREG(st.st_mode) ? 0 : err_note(-EINVAL, "it is not a regular file");
}

static int read_source(const struct secret_source *src, struct secret *ret)
{
        int flags = O_RDONLY | O_CLOEXEC | (src->no_waiting ? O_NONBLOCK : 0);
        AUTO(closep) int fd = src->file ? path_open(src->file, flags, 0) : src->fd;
        int r = fd < 0 ? fd : may_read(src, fd);

        if (r == 0)
                r = read_all(fd, ret);
        if (r == 0)
                r = decode(src, ret);
        if (r == 0)
                return 0;
        err_note(r, "%s", strerror(-r));
        return src->file ? err_prefix(r, "secret '%s': cannot read '%s': ", src->id, src->file) :
                           err_prefix(r, "secret '%s': cannot read file descriptor %d: ", src->id, src->fd);
}

/* --- names ------------------------------------------------------------------------------------------------------------ */

static struct named *find(const char *id)
{
        for (struct list *l = all.next; l != &all; l = l->next) {
                struct named *n = list_entry(l, struct named, link);

                if (!strcmp(n->id, id))
                        return n;
        }
        return NULL;
}

static void named_free(struct named *n)
{
        secret_free(&n->secret);
        free(n->id);
        free(n);
}

int secret_check(const struct secret_source *src)
{
        if (!src->id || !*src->id)
                return err_note(-EINVAL, "a secret needs a name: id=");
        if (!src->file && src->fd < 0)
                return err_note(-EINVAL, "secret '%s' needs file= or fd=: where its bytes are read from", src->id);
        if (src->file && src->fd >= 0)
                return err_note(-EINVAL, "secret '%s' has file= and fd=, only one can be meant", src->id);
        if (src->format && strcmp(src->format, "raw") && strcmp(src->format, "base64"))
                return err_note(-EINVAL, "secret '%s': format '%s' is not one of raw, base64", src->id, src->format);
        return 0;
}

int secret_add_bytes(const char *id, struct secret *s)
{
        struct named *n = calloc(1, sizeof(*n));
        int r = 0;

        if (!n) {
                secret_free(s);
                return -ENOMEM;
        }
        n->secret = TAKE(*s, ((struct secret){ 0 }));
        n->id = strdup(id);
        if (!n->id) {
                named_free(n);
                return -ENOMEM;
        }
        pthread_mutex_lock(&lock);
        if (find(id))
                r = err_note(-EEXIST, "there is a secret '%s' already", id);
        else
                list_add_tail(&all, &n->link);
        pthread_mutex_unlock(&lock);
        if (r < 0)
                named_free(n);
        return r;
}

int secret_add(const struct secret_source *src)
{
        struct secret s = { 0 };
        int r = secret_check(src);

        if (r == 0)
                r = read_source(src, &s);
        if (r < 0)
                secret_free(&s);
        return r < 0 ? r : secret_add_bytes(src->id, &s);
}

void secret_each(void (*see)(void *opaque, const char *id, const struct secret *s), void *opaque)
{
        pthread_mutex_lock(&lock);
        for (struct list *l = all.next; l != &all; l = l->next) {
                const struct named *n = list_entry(l, struct named, link);

                see(opaque, n->id, &n->secret);
        }
        pthread_mutex_unlock(&lock);
}

int secret_remove(const char *id)
{
        struct named *n;

        pthread_mutex_lock(&lock);
        n = find(id);
        if (n)
                list_del(&n->link);
        pthread_mutex_unlock(&lock);
        if (!n)
                return err_note(-ENOENT, "there is no secret '%s'", id);
        named_free(n);
        return 0;
}

int secret_get(const char *id, struct secret *ret)
{
        struct named *n;
        int r = 0;

        *ret = (struct secret){ 0 };
        pthread_mutex_lock(&lock);
        n = find(id);
        if (!n)
                r = err_note(-ENOENT, "there is no secret '%s': --object secret,id=%s,file=PATH makes it", id, id);
        else if (!(ret->bytes = secret_mem_new(n->secret.len)))
                r = -ENOMEM;
        else
                memcpy(ret->bytes, n->secret.bytes, ret->len = n->secret.len);
        pthread_mutex_unlock(&lock);
        return r;
}
