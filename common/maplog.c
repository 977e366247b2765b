/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants: tail <= head <= tail + CAPACITY, and the entries in [tail, head) are whole. head moves after the
 * entries of a put are stored (release), so a process that is killed in between leaves a log without them, never with
 * half.
 *
 * An empty ring starts at 0 again, and memory is taken a piece at a time as the ring first gets there: a disk that is
 * idle or flushes often costs a few KiB.
 */
#include "maplog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "err.h"
#include "path.h"
#include "range.h"

#define MAGIC 0x31676f6c70616d76ull /* "vmaplog1" */
#define CAPACITY (1ull << 16)
#define HEAD_BYTES 4096u
#define PIECE_BYTES 16384u

struct on_shm {
        uint64_t magic, capacity;
        _Atomic uint64_t head, tail;
        _Atomic uint64_t lost;     /* head when the first change was left out, + 1; 0: none was */
        _Atomic int64_t last_put;  /* seconds */
        /* of the kernel that ran when it was made: nothing here is worth anything to another */
        char boot_id[40];
};

#define FILE_BYTES (HEAD_BYTES + CAPACITY * sizeof(struct maplog_entry))

struct maplog {
        char *path;
        int fd;
        struct on_shm *shm;
        struct maplog_entry *ring;
        uint64_t taken; /* bytes of the file that have memory */
};

/* What the kernel drew at this boot; all zeros where it does not tell. */
static void get_boot_id(char id[40])
{
        AUTO(closep) int fd = path_open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC, 0);

        memset(id, 0, 40);
        if (fd < 0 || read(fd, id, 36) != 36)
                memset(id, 0, 40);
}

static void start_empty(struct on_shm *s)
{
        get_boot_id(s->boot_id);
        atomic_store(&s->head, 0);
        atomic_store(&s->tail, 0);
        atomic_store(&s->lost, 0);
        s->capacity = CAPACITY;
        s->magic = MAGIC;
}

static bool is_sane(struct on_shm *s)
{
        uint64_t head = atomic_load(&s->head), tail = atomic_load(&s->tail);
        char id[40];

        get_boot_id(id);
        if (memcmp(id, s->boot_id, sizeof(id)) != 0)
                return false;
        return s->magic == MAGIC && s->capacity == CAPACITY && tail <= head && head - tail <= CAPACITY;
}

/* Memory for the file's first @bytes: without it a store into a full file system would be a SIGBUS. */
static int take_memory(struct maplog *log, uint64_t bytes)
{
        int err;

        if (bytes <= log->taken)
                return 0;
        bytes += PIECE_BYTES - bytes % PIECE_BYTES;
        if (bytes > FILE_BYTES)
                bytes = FILE_BYTES;
        err = posix_fallocate(log->fd, (off_t)log->taken, (off_t)(bytes - log->taken));
        if (err)
                return -err;
        log->taken = bytes;
        return 0;
}

static int open_file(struct maplog *log)
{
        struct stat st;
        int r;

        log->fd = path_open(log->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (log->fd < 0)
                return err_note(log->fd, "'%s': cannot open: %s", log->path, strerror(-log->fd));
        if (fstat(log->fd, &st) < 0 || !S_ISREG(st.st_mode))
                return err_note(-ENOTSUP, "'%s' is not a regular file", log->path);
        if ((uint64_t)st.st_size != FILE_BYTES &&
            (ftruncate(log->fd, 0) < 0 || ftruncate(log->fd, (off_t)FILE_BYTES) < 0))
                return err_note(-errno, "'%s': cannot set its size: %s", log->path, strerror(errno));
        r = take_memory(log, HEAD_BYTES);
        if (r < 0)
                return err_note(r, "'%s': no memory for it: %s", log->path, strerror(-r));
        log->shm = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, log->fd, 0);
        if (log->shm == MAP_FAILED) {
                log->shm = NULL;
                return err_note(-errno, "'%s': cannot map: %s", log->path, strerror(errno));
        }
        log->ring = (struct maplog_entry *)((char *)log->shm + HEAD_BYTES);
        if (!is_sane(log->shm))
                start_empty(log->shm);
        return 0;
}

static char *path_of(const char *dir, dev_t dev, ino_t ino)
{
        char *path;

        return asprintf(&path, "%s/%x-%x-%" PRIx64 ".maplog", dir, major(dev), minor(dev), (uint64_t)ino) < 0 ? NULL : path;
}

int maplog_open(const char *dir, dev_t dev, ino_t ino, struct maplog **ret)
{
        struct maplog *log = calloc(1, sizeof(*log));
        int r;

        if (!log)
                return -ENOMEM;
        log->path = path_of(dir, dev, ino);
        log->fd = -1;
        r = log->path ? open_file(log) : -ENOMEM;
        if (r < 0) {
                closep(&log->fd);
                free(log->path);
                free(log);
                return r;
        }
        *ret = log;
        return 0;
}

bool maplog_is_left(const char *dir, dev_t dev, ino_t ino, int64_t modified)
{
        AUTO(freep) char *path = path_of(dir, dev, ino);
        AUTO(closep) int fd = path ? path_open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0) : -1;
        struct on_shm s;

        return fd >= 0 && read(fd, &s, sizeof(s)) == (ssize_t)sizeof(s) && is_sane(&s) &&
               (atomic_load(&s.head) != atomic_load(&s.tail) || atomic_load(&s.lost)) &&
               modified <= atomic_load(&s.last_put) + MAPLOG_LATE_SECONDS;
}

void maplog_close(struct maplog *log)
{
        if (!log)
                return;
        if (maplog_pending(log) == 0)
                path_unlink(log->path);
        munmap(log->shm, FILE_BYTES);
        close(log->fd);
        free(log->path);
        free(log);
}

static uint64_t head_of(const struct maplog *log)
{
        return atomic_load_explicit(&log->shm->head, memory_order_relaxed);
}

static uint64_t tail_of(const struct maplog *log)
{
        return atomic_load_explicit(&log->shm->tail, memory_order_relaxed);
}

uint64_t maplog_pending(const struct maplog *log)
{
        return head_of(log) - tail_of(log);
}

struct maplog_entry maplog_get(const struct maplog *log, uint64_t i)
{
        return log->ring[(tail_of(log) + i) % CAPACITY];
}

bool maplog_lost(const struct maplog *log)
{
        return atomic_load_explicit(&log->shm->lost, memory_order_relaxed);
}

bool maplog_is_crowded(const struct maplog *log)
{
        return maplog_pending(log) > CAPACITY / 4 * 3;
}

static bool has_room(struct maplog *log, uint64_t head, unsigned n)
{
        uint64_t end = head % CAPACITY + n;

        return head + n - tail_of(log) <= CAPACITY &&
               take_memory(log, HEAD_BYTES + min_u64(end, CAPACITY) * sizeof(struct maplog_entry)) == 0;
}

void maplog_put(struct maplog *log, const struct maplog_entry *e, unsigned n)
{
        uint64_t head = head_of(log);
        struct timespec now;

        clock_gettime(CLOCK_REALTIME_COARSE, &now);
        atomic_store_explicit(&log->shm->last_put, now.tv_sec, memory_order_relaxed);
        if (!has_room(log, head, n)) {
                if (!maplog_lost(log))
                        atomic_store_explicit(&log->shm->lost, head + 1, memory_order_relaxed);
                return;
        }
        for (unsigned i = 0; i < n; i++)
                log->ring[(head + i) % CAPACITY] = e[i];
        /* pairs with the next process's reading */
        atomic_store_explicit(&log->shm->head, head + n, memory_order_release);
}

int64_t maplog_last_put(const struct maplog *log)
{
        return atomic_load_explicit(&log->shm->last_put, memory_order_relaxed);
}

uint64_t maplog_mark(const struct maplog *log)
{
        return head_of(log);
}

void maplog_trim(struct maplog *log, uint64_t mark)
{
        atomic_store_explicit(&log->shm->tail, mark, memory_order_release);
        if (mark != head_of(log))
                return;
        /* Killed between the two, it leaves head < tail: no sane log, so an empty one. */
        atomic_store_explicit(&log->shm->head, 0, memory_order_release);
        atomic_store_explicit(&log->shm->tail, 0, memory_order_release);
        atomic_store_explicit(&log->shm->lost, 0, memory_order_relaxed);
}
