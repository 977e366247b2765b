/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scsi_fixture.h - tests of SCSI commands as lists of facts: a command in hexadecimal, and what comes of it in words.
 *
 *   good 0001ff            status, and the bytes for the guest
 *   check 05/24/00 cdb 2.7 sense key and codes; the byte and bit that is wrong, "list": of the parameter data
 *   read 4096+512 fua      also write, verify, flush
 *   discard 0+512 512+512  also zero, unmap (zeroes that give back), same
 *   overrun
 *   ... ; 12 left          bytes of the guest's buffers that a success does not use
 *
 * Spaces between hexadecimal bytes do not matter, "00x16" is 16 of them.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "vhost_user_scsi/scsi_impl.h"

struct scsi_fact {
        const char *what, *cdb;
        uint64_t in, out;    /* bytes of the guest's buffers */
        const char *list;    /* parameter data; NULL: none may be asked for */
        const char *want;
};

static const struct scsi_luns two_luns = { 2, { 0, 5 } };

/* 1 MiB of blocks, all there to be written, with nothing to tell. */
static inline struct scsi_lu scsi_disk(uint32_t block_size)
{
        struct scsi_lu lu = { .nblocks = (1u << 20) / block_size, .block_size = block_size, .cluster_size = 65536 };

        atomic_init(&lu.wce, true);
        scsi_lu_identify(&lu, "serial-1", "there");
        return lu;
}

/* Text without spaces, runs written out. */
static inline char *scsi_plain(const char *text)
{
        char *plain = calloc(1, 3 * SCSI_DATA_MAX), *p = plain;

        assert_non_null(plain);
        for (; *text; text++)
                if (text[0] == 'x' && isdigit(text[1])) {
                        for (unsigned long n = strtoul(text + 1, (char **)&text, 10); n > 1; n--, p += 2)
                                memcpy(p, p - 2, 2);
                        text--;
                } else if (!isspace(*text)) {
                        *p++ = *text;
                }
        return plain;
}

static inline size_t scsi_hex(const char *text, uint8_t *bytes)
{
        AUTO(freep) char *plain = scsi_plain(text);
        size_t n = strlen(plain) / 2;
        unsigned b;

        for (size_t i = 0; i < n; i++) {
                assert_int_equal(sscanf(plain + 2 * i, "%2x", &b), 1);
                bytes[i] = (uint8_t)b;
        }
        return n;
}

static inline void scsi_say_check(FILE *f, const struct scsi_cmd *cmd)
{
        const uint8_t *s = cmd->sense;

        assert_int_equal(cmd->status, SCSI_CHECK_CONDITION);
        assert_int_equal(cmd->sense_len, 18);
        assert_int_equal(s[0], 0x70);
        assert_int_equal(s[7], 10);
        assert_true(bytes_are_zero(s + 3, 4) && bytes_are_zero(s + 8, 4) && s[1] == 0 && s[14] == 0);
        assert_int_equal(cmd->data_len, 0);
        assert_true(cmd->residual == cmd->in_len + cmd->out_len);
        fprintf(f, "check %02x/%02x/%02x", s[2], s[12], s[13]);
        if (s[15] & 0x80)
                fprintf(f, s[15] & 0x40 ? " cdb " : " list ");
        if (s[15] & 0x80)
                fprintf(f, s[15] & 8 ? "%u.%u" : "%u", be16_get(s + 16), s[15] & 7);
        else
                assert_true(bytes_are_zero(s + 15, 3));
}

static inline void scsi_say_done(FILE *f, const struct scsi_cmd *cmd)
{
        if (cmd->status != SCSI_GOOD) {
                scsi_say_check(f, cmd);
                return;
        }
        assert_int_equal(cmd->sense_len, 0);
        fprintf(f, "good ");
        for (uint32_t i = 0; i < cmd->data_len; i++)
                fprintf(f, "%02x", cmd->data[i]);
}

static inline void scsi_say_ranges(FILE *f, const struct scsi_cmd *cmd)
{
        static const char *const names[] = { "discard", "zero", "unmap", "same" };

        fprintf(f, "%s", names[cmd->space]);
        for (unsigned i = 0; i < cmd->nranges; i++)
                fprintf(f, " %llu+%llu", (unsigned long long)cmd->range[i].off, (unsigned long long)cmd->range[i].len);
}

/* What came of it, in words. */
static inline char *scsi_say(struct scsi_cmd *cmd, enum scsi_verdict v)
{
        static const char *const names[] = { [SCSI_READ] = "read", [SCSI_WRITE] = "write", [SCSI_VERIFY] = "verify" };
        char *text = NULL;
        size_t len;
        FILE *f = open_memstream(&text, &len);

        assert_non_null(f);
        if (v == SCSI_DONE)
                scsi_say_done(f, cmd);
        else if (v == SCSI_RANGES)
                scsi_say_ranges(f, cmd);
        else if (v == SCSI_PARAM || v == SCSI_OVERRUN || v == SCSI_FLUSH)
                fprintf(f, v == SCSI_PARAM ? "param %u" : v == SCSI_FLUSH ? "flush" : "overrun", cmd->param_len);
        else
                fprintf(f, "%s %llu+%llu", names[v], (unsigned long long)cmd->off, (unsigned long long)cmd->len);
        if (cmd->fua && v != SCSI_DONE && v != SCSI_OVERRUN)
                fprintf(f, " fua");
        if (v != SCSI_DONE && v != SCSI_OVERRUN && v != SCSI_PARAM)
                scsi_succeeded(cmd);
        if (cmd->status == SCSI_GOOD && v != SCSI_OVERRUN && cmd->residual)
                fprintf(f, "; %llu left", (unsigned long long)cmd->residual);
        fclose(f);
        return text;
}

static inline enum scsi_verdict scsi_run(struct scsi_lu *lu, const struct scsi_fact *fact, struct scsi_cmd *cmd)
{
        uint8_t cdb[32], list[3 * SCSI_DATA_MAX];
        enum scsi_verdict v;
        size_t n = fact->list ? scsi_hex(fact->list, list) : 0;

        v = scsi_begin(lu, &two_luns, cdb, scsi_hex(fact->cdb, cdb), fact->out, fact->in, cmd);
        if (v != SCSI_PARAM || !fact->list)
                return v;
        assert_true(cmd->param_len >= 1 && cmd->param_len <= SCSI_DATA_MAX && cmd->param_len <= n);
        memcpy(cmd->data, list, cmd->param_len);
        return scsi_param(lu, cmd);
}

static inline void scsi_expect(struct scsi_lu *lu, const struct scsi_fact *fact)
{
        static struct scsi_cmd cmd; /* what an earlier command left in it must not matter */
        AUTO(freep) char *said = scsi_say(&cmd, scsi_run(lu, fact, &cmd));
        AUTO(freep) char *got = scsi_plain(said);
        AUTO(freep) char *want = scsi_plain(fact->want);

        if (strcmp(got, want))
                fail_msg("%s (%s):\n  %s, not\n  %s", fact->what, fact->cdb, said, fact->want);
}

static inline void scsi_expect_all(struct scsi_lu *lu, const struct scsi_fact *facts, size_t n)
{
        for (size_t i = 0; i < n; i++)
                scsi_expect(lu, &facts[i]);
}
#define EXPECT_ALL(lu, facts) scsi_expect_all(lu, facts, ARRAY_SIZE(facts))
