/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/secret_box.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

static int map(struct secret_box *b)
{
        void *mem = mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);

        if (mem == MAP_FAILED)
                return -errno;
        madvise(mem, b->size, MADV_DONTDUMP);
        (void)!mlock(mem, b->size); /* as in secret.c */
        b->mem = mem;
        return 0;
}

int secret_box_new(struct secret_box *b, size_t size)
{
        int r = 0;

        *b = (struct secret_box){ .fd = memfd_create("secrets", MFD_CLOEXEC | MFD_ALLOW_SEALING), .size = size ? size : 1 };
        if (b->fd < 0 || ftruncate(b->fd, (off_t)b->size) < 0 || fcntl(b->fd, F_ADD_SEALS, SEALS) < 0)
                r = -errno;
        if (r == 0)
                r = map(b);
        if (r == 0)
                return 0;
        secret_box_finish(b);
        return err_note(r, "no memory for keys that another process can be given: %s", strerror(-r));
}

void secret_box_put(struct secret_box *b, const void *bytes, size_t len)
{
        memcpy(b->mem + b->at, bytes, len);
        b->at += len;
}

static int check(const struct secret_box *b, struct stat *st)
{
        int seals = fcntl(b->fd, F_GET_SEALS);

        if (fstat(b->fd, st) < 0 || seals < 0 || (seals & SEALS) != SEALS || st->st_size < 1 || st->st_size > SECRET_BOX_MAX)
                return err_note(-EBADMSG, "the keys are not in sealed memory of at most %u MiB", SECRET_BOX_MAX >> 20);
        return 0;
}

int secret_box_open(struct secret_box *b, int fd)
{
        struct stat st;
        int r;

        *b = (struct secret_box){ .fd = fd, .received = true };
        r = check(b, &st);
        if (r == 0) {
                b->size = (size_t)st.st_size;
                r = map(b);
        }
        if (r < 0)
                secret_box_finish(b);
        return r;
}

int secret_box_get(struct secret_box *b, size_t len, struct secret *ret)
{
        if (len > b->size - b->at)
                return err_note(-EBADMSG, "a key of %zu bytes where %zu are left", len, b->size - b->at);
        *ret = (struct secret){ secret_mem_new(len), len };
        if (!ret->bytes)
                return -ENOMEM;
        memcpy(ret->bytes, b->mem + b->at, len);
        b->at += len;
        return 0;
}

/* Who packed must leave them for the other; the kernel clears the memory when both are done with it. */
void secret_box_finish(struct secret_box *b)
{
        if (b->mem) {
                if (b->received)
                        explicit_bzero(b->mem, b->size);
                munmap(b->mem, b->size);
        }
        closep(&b->fd);
        *b = (struct secret_box){ .fd = -1 };
}
