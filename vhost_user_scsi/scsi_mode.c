/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scsi_mode.c - MODE SENSE and MODE SELECT (SPC-4, 6.11 and 7.5; SBC-3, 6.5). One thing can be changed: WCE, whether there is
 * a write cache. It is what it was last set to, whatever happens in between, so its saved value is the current one.
 */
#include <string.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/range.h"
#include "vhost_user_scsi/scsi_impl.h"

enum { CURRENT = 0, CHANGEABLE = 1, DEFAULT = 2, SAVED = 3 }; /* PC: which values are asked for */
enum { PAGE_HEADER = 2, PAGE_MOST = 20, SAVABLE = 0x80, SUBPAGE_FORMAT = 0x40, PAGE_CODE = 0x3f };
enum { ALL_PAGES = 0x3f, ALL_SUBPAGES = 0xff };
enum { SHORT_DESCRIPTOR = 8, LONG_DESCRIPTOR = 16 };

/* --- pages: each writes what follows its header ------------------------------------------------------------------- */

#define WCE 0x04
#define WCE_AT 2 /* byte of the caching page */

static void caching(const struct scsi_lu *lu, unsigned which, uint8_t *page)
{
        bool on = which == CURRENT || which == SAVED ? !scsi_write_through(lu) : true;

        page[WCE_AT] = on ? WCE : 0;
}

static void control(const struct scsi_lu *lu, unsigned which, uint8_t *page)
{
        enum { GLTSD = 0x02, ANY_ORDER = 0x10 };

        (void)lu;
        if (which == CHANGEABLE)
                return;
        page[2] = GLTSD;
        page[3] = ANY_ORDER;
}

static const struct mode_page {
        uint8_t code, len; /* of what follows the header */
        void (*fill)(const struct scsi_lu *lu, unsigned which, uint8_t *page);
} pages[] = {
        { 0x08, 0x12, caching },
        { 0x0a, 0x0a, control },
};

/* Returns the bytes of the page, with its header. */
static uint32_t put_page(const struct scsi_lu *lu, const struct mode_page *p, unsigned which, uint8_t *page)
{
        memset(page, 0, PAGE_HEADER + p->len);
        page[0] = SAVABLE | p->code;
        page[1] = p->len;
        p->fill(lu, which, page);
        return PAGE_HEADER + p->len;
}

static const struct mode_page *page_of(uint8_t code)
{
        for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
                if (pages[i].code == code)
                        return &pages[i];
        return NULL;
}

/* --- block descriptors ------------------------------------------------------------------------------------------- */

static uint32_t put_descriptor(const struct scsi_lu *lu, bool wide, uint8_t *d)
{
        uint64_t n = atomic_load_explicit(&lu->nblocks, memory_order_relaxed);

        memset(d, 0, LONG_DESCRIPTOR);
        if (wide) {
                be64_put(d, n);
                be32_put(d + 12, lu->block_size);
                return LONG_DESCRIPTOR;
        }
        be32_put(d, (uint32_t)min_u64(n, UINT32_MAX));
        be32_put(d + 4, lu->block_size); /* 24 bits, behind a reserved byte */
        return SHORT_DESCRIPTOR;
}

/* A guest may send the descriptor back that it got, or leave the number of blocks to us: it cannot be changed. */
static bool descriptor_agrees(const struct scsi_lu *lu, bool wide, const uint8_t *d, unsigned *wrong)
{
        uint8_t ours[LONG_DESCRIPTOR];
        uint64_t n = wide ? be64_get(d) : be32_get(d), all = wide ? UINT64_MAX : UINT32_MAX;
        unsigned length_at = wide ? 12 : 5;

        put_descriptor(lu, wide, ours);
        *wrong = n && n != all && n != (wide ? be64_get(ours) : be32_get(ours)) ? 0 : length_at;
        return *wrong && !memcmp(d + length_at, ours + length_at, wide ? 4 : 3);
}

/* --- MODE SENSE -------------------------------------------------------------------------------------------------- */

static uint32_t put_pages(const struct scsi_lu *lu, const struct scsi_cmd *cmd, uint8_t *d)
{
        uint8_t code = cmd->cdb[2] & PAGE_CODE, subpage = cmd->cdb[3];
        unsigned which = cmd->cdb[2] >> 6;
        uint32_t len = 0;

        if (subpage && subpage != ALL_SUBPAGES)
                return 0;
        for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
                if (code == ALL_PAGES || code == pages[i].code)
                        len += put_page(lu, &pages[i], which, d + len);
        return len;
}

/* Returns the byte for MODE SENSE's "device-specific parameter". */
static uint8_t device_parameter(const struct scsi_lu *lu)
{
        enum { WP = 0x80, DPOFUA = 0x10 };

        return DPOFUA | (lu->read_only ? WP : 0);
}

/* What follows a header of @header bytes: descriptor, pages. Returns its length; 0: there is no such page. */
static uint32_t put_body(const struct scsi_lu *lu, struct scsi_cmd *cmd, bool wide, unsigned header, uint32_t *descriptor)
{
        enum { DBD = 0x08 };
        uint8_t *d = cmd->data + header;
        uint32_t pages_len;

        *descriptor = cmd->cdb[1] & DBD ? 0 : put_descriptor(lu, wide, d);
        pages_len = put_pages(lu, cmd, d + *descriptor);
        return pages_len ? *descriptor + pages_len : 0;
}

static enum scsi_verdict no_page(struct scsi_cmd *cmd)
{
        uint8_t code = cmd->cdb[2] & PAGE_CODE;

        return code == ALL_PAGES || page_of(code) ? scsi_bad_cdb(cmd, 3, 7) : scsi_bad_cdb(cmd, 2, 5);
}

enum scsi_verdict scsi_mode_sense6(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        enum { HEADER = 4 };
        uint32_t descriptor, len = put_body(lu, cmd, false, HEADER, &descriptor);
        uint8_t *d = cmd->data;

        if (!len)
                return no_page(cmd);
        d[0] = (uint8_t)(HEADER + len - 1);
        d[1] = 0;
        d[2] = device_parameter(lu);
        d[3] = (uint8_t)descriptor;
        return scsi_answer(cmd, HEADER + len, cmd->cdb[4]);
}

enum scsi_verdict scsi_mode_sense10(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        enum { HEADER = 8, LLBAA = 0x10, LONGLBA = 0x01 };
        bool wide = cmd->cdb[1] & LLBAA;
        uint32_t descriptor, len = put_body(lu, cmd, wide, HEADER, &descriptor);
        uint8_t *d = cmd->data;

        if (!len)
                return no_page(cmd);
        memset(d, 0, HEADER);
        be16_put(d, (uint16_t)(HEADER + len - 2));
        d[3] = device_parameter(lu);
        d[4] = wide && descriptor ? LONGLBA : 0;
        be16_put(d + 6, (uint16_t)descriptor);
        return scsi_answer(cmd, HEADER + len, be16_get(cmd->cdb + 7));
}

/* --- MODE SELECT ------------------------------------------------------------------------------------------------- */

static enum scsi_verdict want_list(struct scsi_cmd *cmd, uint32_t list_len, unsigned length_at)
{
        enum { PF = 0x10 };

        if (!(cmd->cdb[1] & PF))
                return scsi_bad_cdb(cmd, 1, 4);
        if (list_len > SCSI_DATA_MAX)
                return scsi_bad_cdb(cmd, length_at, SCSI_NO_BIT);
        return list_len ? scsi_want(cmd, list_len, list_len) : scsi_good(cmd);
}

enum scsi_verdict scsi_mode_select6(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        (void)lu;
        return want_list(cmd, cmd->cdb[4], 4);
}

enum scsi_verdict scsi_mode_select10(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        (void)lu;
        return want_list(cmd, be16_get(cmd->cdb + 7), 7);
}

/*
 * The page at @at: what cannot be changed must be as it is. Returns its length, 0 when @cmd has ended. All pages are
 * looked at before anything changes.
 */
static uint32_t check_page(const struct scsi_lu *lu, struct scsi_cmd *cmd, uint32_t at)
{
        const struct mode_page *p = page_of(cmd->data[at] & PAGE_CODE);
        const uint8_t *theirs = cmd->data + at;
        uint8_t ours[PAGE_MOST], may[PAGE_MOST];
        uint32_t left = cmd->param_len - at;
        unsigned differ;

        if (!p || theirs[0] & SUBPAGE_FORMAT) {
                scsi_bad_list(cmd, at, p ? 6 : 5);
                return 0;
        }
        if (left < PAGE_HEADER || (theirs[1] == p->len && left < PAGE_HEADER + (uint32_t)p->len)) {
                scsi_check(cmd, SENSE_LIST_LENGTH);
                return 0;
        }
        if (theirs[1] != p->len) {
                scsi_bad_list(cmd, at + 1, 7);
                return 0;
        }
        put_page(lu, p, CURRENT, ours);
        put_page(lu, p, CHANGEABLE, may);
        for (unsigned i = PAGE_HEADER; i < PAGE_HEADER + (unsigned)p->len; i++) {
                differ = (theirs[i] ^ ours[i]) & ~(unsigned)may[i];
                if (differ) {
                        scsi_bad_list(cmd, at + i, 31 - __builtin_clz(differ));
                        return 0;
                }
        }
        return PAGE_HEADER + p->len;
}

/* A cache that is switched off is emptied, before the guest hears that it is off. */
static enum scsi_verdict set_cache(struct scsi_lu *lu, struct scsi_cmd *cmd, bool on)
{
        cmd->wce_changed = atomic_exchange(&lu->wce, on) != on;
        return cmd->wce_changed && !on ? SCSI_FLUSH : scsi_good(cmd);
}

static enum scsi_verdict take_pages(struct scsi_lu *lu, struct scsi_cmd *cmd, uint32_t at)
{
        uint32_t len, caching_at = 0;

        for (; at < cmd->param_len; at += len) {
                len = check_page(lu, cmd, at);
                if (!len)
                        return SCSI_DONE;
                if ((cmd->data[at] & PAGE_CODE) == pages[0].code)
                        caching_at = at;
        }
        return caching_at ? set_cache(lu, cmd, cmd->data[caching_at + WCE_AT] & WCE) : scsi_good(cmd);
}

/* What lies between header and pages is @descriptor bytes long, as the header's byte @length_at says. */
static enum scsi_verdict take_body(struct scsi_lu *lu, struct scsi_cmd *cmd, uint32_t header, bool wide,
                                   uint32_t descriptor, unsigned length_at)
{
        unsigned wrong;

        if (descriptor && descriptor != (wide ? LONG_DESCRIPTOR : SHORT_DESCRIPTOR))
                return scsi_bad_list(cmd, length_at, 7);
        if (!range_fits(header, descriptor, cmd->param_len))
                return scsi_check(cmd, SENSE_LIST_LENGTH);
        if (descriptor && !descriptor_agrees(lu, wide, cmd->data + header, &wrong))
                return scsi_bad_list(cmd, header + wrong, 7);
        return take_pages(lu, cmd, header + descriptor);
}

enum scsi_verdict scsi_mode_param6(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        enum { HEADER = 4, MEDIUM = 1, DESCRIPTOR = 3 };
        const uint8_t *d = cmd->data;

        if (cmd->param_len < HEADER)
                return scsi_check(cmd, SENSE_LIST_LENGTH);
        if (d[MEDIUM])
                return scsi_bad_list(cmd, MEDIUM, 7);
        return take_body(lu, cmd, HEADER, false, d[DESCRIPTOR], DESCRIPTOR);
}

enum scsi_verdict scsi_mode_param10(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        enum { HEADER = 8, MEDIUM = 2, FLAGS = 4, LONGLBA = 0x01, DESCRIPTOR = 6 };
        const uint8_t *d = cmd->data;

        if (cmd->param_len < HEADER)
                return scsi_check(cmd, SENSE_LIST_LENGTH);
        if (d[MEDIUM])
                return scsi_bad_list(cmd, MEDIUM, 7);
        return take_body(lu, cmd, HEADER, d[FLAGS] & LONGLBA, be16_get(d + DESCRIPTOR), DESCRIPTOR);
}
