/* SPDX-License-Identifier: BSD-3-Clause */
/* file_mem.c - a file that is a piece of memory: whole drivers run on it in fuzzers, unit tests and crash replay. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "file.h"
#include "range.h"

#define MAX_BYTES (1ull << 32) /* a stray offset must not eat the machine */

struct file_mem {
        struct file file;
        char *bytes;
        size_t cap;
};

static struct file_mem *mem_of(const struct file *f)
{
        return container_of(f, struct file_mem, file);
}

static int grow(struct file_mem *m, uint64_t size)
{
        size_t cap;
        char *bigger;

        if (size > MAX_BYTES)
                return -EFBIG;
        if (size <= m->cap)
                return 0;
        cap = max_u64(size, 2 * m->cap);
        bigger = realloc(m->bytes, cap);
        if (!bigger)
                return -ENOMEM;
        memset(bigger + m->cap, 0, cap - m->cap);
        m->bytes = bigger;
        m->cap = cap;
        return 0;
}

static ssize_t mem_pread(struct file *f, void *buf, size_t len, uint64_t off)
{
        if (off >= f->size)
                return 0;
        len = min_u64(len, f->size - off);
        memcpy(buf, mem_of(f)->bytes + off, len);
        return (ssize_t)len;
}

static ssize_t mem_pwrite(struct file *f, const void *buf, size_t len, uint64_t off)
{
        int r = off > MAX_BYTES ? -EFBIG : grow(mem_of(f), off + len);

        if (r < 0)
                return r;
        memcpy(mem_of(f)->bytes + off, buf, len);
        f->size = max_u64(f->size, off + len);
        return (ssize_t)len;
}

static int mem_truncate(struct file *f, uint64_t size)
{
        int r = grow(mem_of(f), size);

        if (r == 0 && size < f->size)
                memset(mem_of(f)->bytes + size, 0, f->size - size);
        return r;
}

static int mem_punch(struct file *f, uint64_t off, uint64_t len, bool keep_allocated)
{
        (void)keep_allocated;
        if (off < f->size)
                memset(mem_of(f)->bytes + off, 0, min_u64(len, f->size - off));
        return 0;
}

static int mem_sync(struct file *f)
{
        (void)f;
        return 0;
}

static int mem_run_at(struct file *f, uint64_t off, bool *hole, uint64_t *end)
{
        (void)off;
        *hole = false;
        *end = f->size;
        return 0;
}

static void mem_close(struct file *f)
{
        free(mem_of(f)->bytes);
}

static const struct file_ops mem_ops = {
        .pread = mem_pread,
        .pwrite = mem_pwrite,
        .truncate = mem_truncate,
        .punch = mem_punch,
        .sync = mem_sync,
        .run_at = mem_run_at,
        .close = mem_close,
};

int file_open_mem(const void *bytes, size_t len, struct file **ret)
{
        struct file_mem *m = calloc(1, sizeof(*m));
        int r = m ? grow(m, max_u64(len, 1)) : -ENOMEM;

        if (r == 0) {
                m->file = (struct file){ .ops = &mem_ops, .fd = -1, .size = len, .mem_align = 1, .off_align = 1 };
                m->file.path = strdup("(memory)");
                r = m->file.path ? 0 : -ENOMEM;
        }
        if (r < 0) {
                if (m)
                        free(m->bytes);
                free(m);
                return r;
        }
        if (bytes)
                memcpy(m->bytes, bytes, len);
        *ret = &m->file;
        return 0;
}

const void *file_mem_bytes(const struct file *f, size_t *len)
{
        *len = f->size;
        return mem_of(f)->bytes;
}
