/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhdx_log.c - the log is a ring of entries with rising sequence numbers. The newest entry that is whole names the
 * oldest one that must be replayed with it (its tail); all between them must be whole, too.
 *
 * The ring is read once and looked at in memory. A stranger could make every sector look like the begin of an entry as
 * long as the log, so what checksums may cost is limited.
 */
#include "formats/foreign/vhdx_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/crc32c.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/foreign/on_disk.h"

#define LOG_MAX (16u << 20) /* Hyper-V and QEMU make logs of 1 MiB */
#define CHECKSUM_BUDGET 4u  /* times the length of the log */
#define FILE_MAX (1ull << 48) /* bytes; disks have at most 64 TiB */
#define GUID_LEN 16u

struct entry {
        uint32_t at, len; /* in the ring */
        uint64_t sequence;
};
struct scan {
        struct vhdx_log *log;
        const uint8_t *guid;
        uint64_t budget; /* bytes that may still be summed up */
};

static uint8_t *sector_at(const struct vhdx_log *log, uint64_t at)
{
        return log->ring + at % log->len;
}

/* --- one entry -------------------------------------------------------------------------------------------------- */

static uint32_t entry_descriptors(const struct vhdx_log *log, uint32_t at)
{
        return le32_get(sector_at(log, at) + VHDX_L_DESCRIPTORS);
}

static uint64_t descriptor_sectors(uint32_t n)
{
        return div_round_up(VHDX_L_HEADER + (uint64_t)VHDX_LD_SIZE * n, VHDX_LOG_SECTOR);
}

/* Descriptors follow the header without gaps and never cross a sector, so each is whole in the ring. */
static uint8_t *descriptor(const struct vhdx_log *log, uint32_t at, uint32_t i)
{
        return sector_at(log, at + VHDX_L_HEADER + (uint64_t)VHDX_LD_SIZE * i);
}

static uint32_t entry_checksum(const struct vhdx_log *log, const struct entry *e)
{
        static const uint8_t zeros[4];
        uint8_t *first = sector_at(log, e->at);
        uint32_t crc = crc32c(0, first, VHDX_CHECKSUM);

        crc = crc32c(crc, zeros, sizeof(zeros));
        crc = crc32c(crc, first + VHDX_CHECKSUM + 4, VHDX_LOG_SECTOR - VHDX_CHECKSUM - 4);
        for (uint64_t k = VHDX_LOG_SECTOR; k < e->len; k += VHDX_LOG_SECTOR)
                crc = crc32c(crc, sector_at(log, e->at + k), VHDX_LOG_SECTOR);
        return crc;
}

/* Is it of this entry? Then the data sectors follow the descriptors, one for each "desc". */
static bool descriptors_ok(const struct vhdx_log *log, const struct entry *e)
{
        uint32_t n = entry_descriptors(log, e->at);
        uint64_t data = descriptor_sectors(n) * VHDX_LOG_SECTOR;

        if (data > e->len)
                return false;
        for (uint32_t i = 0; i < n; i++) {
                const uint8_t *d = descriptor(log, e->at, i), *s = sector_at(log, e->at + data);

                if (le64_get(d + VHDX_LD_SEQUENCE) != e->sequence || le64_get(d + VHDX_LD_OFFSET) % VHDX_LOG_SECTOR)
                        return false;
                if (!memcmp(d, "zero", 4)) {
                        if (le64_get(d + VHDX_LD_LEADING) % VHDX_LOG_SECTOR)
                                return false;
                        continue;
                }
                if (memcmp(d, "desc", 4) || data >= e->len || memcmp(s, "data", 4) ||
                    le32_get(s + VHDX_LS_SEQUENCE_HIGH) != e->sequence >> 32 ||
                    le32_get(s + VHDX_LS_SEQUENCE_LOW) != (uint32_t)e->sequence)
                        return false;
                data += VHDX_LOG_SECTOR;
        }
        return true;
}

/* The entry at @at: 1, 0 when there is none that is whole, -EINVAL when looking at this log costs too much. */
static int entry_at(struct scan *s, uint32_t at, struct entry *e)
{
        const uint8_t *h = sector_at(s->log, at);

        *e = (struct entry){ at, le32_get(h + VHDX_L_LENGTH), le64_get(h + VHDX_L_SEQUENCE) };
        if (memcmp(h, "loge", 4) || memcmp(h + VHDX_L_GUID, s->guid, GUID_LEN) || !e->sequence)
                return 0;
        if (e->len < VHDX_LOG_SECTOR || e->len % VHDX_LOG_SECTOR || e->len > s->log->len)
                return 0;
        if (e->len > s->budget)
                return err_note(-EINVAL, "the log is damaged: its entries overlap each other");
        s->budget -= e->len;
        return le32_get(h + VHDX_CHECKSUM) == entry_checksum(s->log, e) && descriptors_ok(s->log, e);
}

/* --- the sequence ------------------------------------------------------------------------------------------------ */

/* The newest entry that is whole; head->len is 0 when there is none. */
static int find_head(struct scan *s, struct entry *head)
{
        struct entry e;
        int r = 0;

        *head = (struct entry){ 0 };
        for (uint64_t at = 0; at < s->log->len; at += r ? e.len : VHDX_LOG_SECTOR) {
                r = entry_at(s, (uint32_t)at, &e);
                if (r < 0)
                        return r;
                if (r && e.sequence > head->sequence)
                        *head = e;
        }
        return 0;
}

static int add_patch(struct vhdx_log *log, struct vhdx_patch p)
{
        if (!log->n || is_pow2(log->n)) { /* no room beyond a power of two */
                struct vhdx_patch *more = realloc(log->patch, (log->n ? 2 * log->n : 1) * sizeof(*more));

                if (!more)
                        return -ENOMEM;
                log->patch = more;
        }
        log->patch[log->n++] = p;
        return 0;
}

/* A data sector keeps 12 of its bytes in the descriptor: put them where they belong, its marks are checked. */
static int replay_entry(struct vhdx_log *log, const struct entry *e)
{
        uint32_t n = entry_descriptors(log, e->at);
        uint64_t data = e->at + descriptor_sectors(n) * VHDX_LOG_SECTOR;
        int r = 0;

        for (uint32_t i = 0; r == 0 && i < n; i++) {
                const uint8_t *d = descriptor(log, e->at, i);
                uint64_t off = le64_get(d + VHDX_LD_OFFSET);
                uint8_t *s = sector_at(log, data);

                if (!memcmp(d, "zero", 4)) {
                        r = add_patch(log, (struct vhdx_patch){ off, le64_get(d + VHDX_LD_LEADING), NULL });
                        continue;
                }
                memcpy(s, d + VHDX_LD_LEADING, 8);
                memcpy(s + VHDX_LS_SEQUENCE_LOW, d + VHDX_LD_TRAILING, 4);
                r = add_patch(log, (struct vhdx_patch){ off, VHDX_LOG_SECTOR, s });
                data += VHDX_LOG_SECTOR;
        }
        return r;
}

static int replay(struct scan *s, const struct entry *head, uint64_t file_size)
{
        const uint8_t *h = sector_at(s->log, head->at);
        uint32_t at = le32_get(h + VHDX_L_TAIL);
        uint64_t covered = 0, sequence = 0, flushed = le64_get(h + VHDX_L_FLUSHED_SIZE);
        struct entry e;
        int r;

        s->log->last_size = le64_get(h + VHDX_L_LAST_SIZE);
        if (flushed > file_size)
                return err_note(-EINVAL, "the file has %llu bytes, but had at least %llu when its log was written: it "
                                "was cut off", (unsigned long long)file_size, (unsigned long long)flushed);
        if (s->log->last_size > FILE_MAX)
                return err_note(-EINVAL, "the log is damaged: the file would have %llu bytes",
                                (unsigned long long)s->log->last_size);
        if (at % VHDX_LOG_SECTOR || at >= s->log->len)
                return err_note(-EINVAL, "the log is damaged: its newest entry refers to offset %u", at);
        do {
                r = entry_at(s, at, &e);
                covered += e.len;
                if (r == 0 || (r > 0 && ((sequence && e.sequence != sequence + 1) || covered > s->log->len)))
                        r = err_note(-EINVAL, "the log is damaged: there is no whole entry at offset %u, which must be "
                                     "replayed", at);
                if (r > 0)
                        r = replay_entry(s->log, &e);
                sequence = e.sequence;
                at = (uint32_t)(((uint64_t)at + e.len) % s->log->len);
        } while (r == 0 && e.at != head->at);
        return r;
}

int vhdx_log_read(const struct foreign *f, const uint8_t *header, struct vhdx_log *log)
{
        static const uint8_t no_guid[GUID_LEN];
        uint64_t off = le64_get(header + VHDX_H_LOG_OFFSET);
        struct scan s = { .log = log, .guid = header + VHDX_H_LOG_GUID };
        struct entry head;
        int r;

        if (!memcmp(s.guid, no_guid, GUID_LEN))
                return 0;
        log->len = le32_get(header + VHDX_H_LOG_LENGTH);
        if (le16_get(header + VHDX_H_LOG_VERSION) != 0)
                return err_note(-ENOTSUP, "log version %u is not supported, only 0",
                                le16_get(header + VHDX_H_LOG_VERSION));
        if (!log->len || log->len % VHDX_HEADERS_END || log->len > LOG_MAX)
                return err_note(-ENOTSUP, "a log of %u bytes cannot be replayed, only 1 MiB, 2 MiB, ... 16 MiB",
                                log->len);
        if (off < VHDX_HEADERS_END || !is_aligned(off, VHDX_HEADERS_END))
                return err_note(-EINVAL, "the log at %llu does not begin at a multiple of 1 MiB",
                                (unsigned long long)off);
        log->ring = malloc(log->len);
        r = log->ring ? foreign_read(f, log->ring, log->len, off, "log") : -ENOMEM;
        s.budget = (uint64_t)CHECKSUM_BUDGET * log->len;
        if (r == 0)
                r = find_head(&s, &head);
        return r == 0 && head.len ? replay(&s, &head, f->img.file->size) : r;
}

void vhdx_log_finish(struct vhdx_log *log)
{
        free(log->ring);
        free(log->patch);
        *log = (struct vhdx_log){ 0 };
}

void vhdx_log_apply(const struct vhdx_log *log, uint64_t off, void *bytes, size_t len)
{
        for (unsigned i = 0; i < log->n; i++) {
                const struct vhdx_patch *p = &log->patch[i];
                uint64_t from = max_u64(off, p->off), to = min_u64(off + len, p->off + p->len);

                if (from >= to)
                        continue;
                if (p->bytes)
                        memcpy((uint8_t *)bytes + (from - off), p->bytes + (from - p->off), to - from);
                else
                        memset((uint8_t *)bytes + (from - off), 0, to - from);
        }
}
