/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * scsi_inquiry.c - who is there, and what can it do: INQUIRY, vital product data (SPC-4, 7.8; SBC-3, 6.6), REPORT LUNS.
 */
#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/range.h"
#include "vhost_user_scsi/scsi_impl.h"

#define DISK 0x00        /* a direct access block device is connected */
#define NOTHING 0x7f     /* nothing can be connected here */
#define VENDOR "VDISKD  "
#define PRODUCT "VIRTUAL DISK    "
#define REVISION "0001"
#define VPD_HEADER 4u

/* --- names ------------------------------------------------------------------------------------------------------- */

/* FNV-1a, and a last stir: its upper bits change little with the last bytes. */
static uint64_t hash(const char *text)
{
        uint64_t h = 0xcbf29ce484222325;

        for (const char *c = text; *c; c++)
                h = (h ^ (uint8_t)*c) * 0x100000001b3;
        h = (h ^ h >> 33) * 0xff51afd7ed558ccd;
        return h ^ h >> 33;
}

void scsi_lu_identify(struct scsi_lu *lu, const char *serial, const char *stable)
{
        bool given = serial && *serial;

        lu->naa = 3ull << 60 | hash(given ? serial : stable) >> 4;
        snprintf(lu->serial, sizeof(lu->serial), given ? "%s" : "%s%016llx", given ? serial : "",
                 (unsigned long long)lu->naa);
        for (char *c = lu->serial; *c; c++)
                if (*c < 0x20 || *c > 0x7e)
                        *c = '_';
}

/* --- standard data ----------------------------------------------------------------------------------------------- */

static enum scsi_verdict standard(const struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        enum { VERSION = 2, FORMAT = 3, MORE = 4, FLAGS = 7, CMDQUE = 0x02, VERSIONS = 58, LEN = 96, SPC_4 = 6, HISUP_2 = 0x12 };
        static const uint16_t versions[] = { 0x00a0, 0x0460, 0x04c0 }; /* SAM-5, SPC-4, SBC-3 */
        uint8_t *d = cmd->data;

        if (cmd->cdb[2])
                return scsi_bad_cdb(cmd, 2, 7); /* a page, but not EVPD */
        memset(d, 0, LEN);
        d[0] = lu ? DISK : NOTHING;
        d[VERSION] = SPC_4;
        d[FORMAT] = HISUP_2;
        d[MORE] = LEN - (MORE + 1);
        d[FLAGS] = CMDQUE;
        memcpy(d + 8, VENDOR PRODUCT REVISION, 28);
        for (size_t i = 0; lu && i < ARRAY_SIZE(versions); i++)
                be16_put(d + VERSIONS + 2 * i, versions[i]);
        return scsi_answer(cmd, LEN, be16_get(cmd->cdb + 3));
}

/* --- vital product data: each page writes what follows its header, and returns the length of that ------------------ */

static uint32_t vpd_pages(const struct scsi_lu *lu, uint8_t *d);

static uint32_t vpd_serial(const struct scsi_lu *lu, uint8_t *d)
{
        size_t n = strlen(lu->serial);

        memcpy(d, lu->serial, n);
        return (uint32_t)n;
}

enum { BINARY = 1, ASCII = 2, UTF8 = 3 };               /* code sets */
enum { ID_T10 = 1, ID_NAA = 3, ID_SCSI_NAME = 8 };      /* of the logical unit */

static uint8_t *designator(uint8_t *d, uint8_t code_set, uint8_t type, const void *id, size_t len)
{
        d[0] = code_set;
        d[1] = type;
        d[2] = 0;
        d[3] = (uint8_t)len;
        memcpy(d + 4, id, len);
        return d + 4 + len;
}

static uint32_t vpd_identification(const struct scsi_lu *lu, uint8_t *d)
{
        uint8_t naa[8], *p = d;
        char text[24] = ""; /* NULs to a multiple of four, at least one */
        char t10[8 + sizeof(lu->serial)];

        be64_put(naa, lu->naa);
        snprintf(t10, sizeof(t10), VENDOR "%s", lu->serial);
        snprintf(text, sizeof(text), "naa.%016llX", (unsigned long long)lu->naa);
        p = designator(p, BINARY, ID_NAA, naa, sizeof(naa));
        p = designator(p, ASCII, ID_T10, t10, strlen(t10));
        p = designator(p, UTF8, ID_SCSI_NAME, text, sizeof(text));
        return (uint32_t)(p - d);
}

static uint32_t vpd_limits(const struct scsi_lu *lu, uint8_t *page)
{
        enum { FLAGS = 4, WSNZ = 1, GRANULARITY = 6, TRANSFER = 8, UNMAP_BLOCKS = 20, UNMAP_RANGES = 24, UNMAP_UNIT = 28,
               UNMAP_ALIGN = 32, SAME_BLOCKS = 36, LEN = 64, UGAVALID = 0x80 };
        uint32_t block = lu->block_size;
        uint8_t *d = page - VPD_HEADER; /* offsets are the standard's, from the page's begin */

        memset(page, 0, LEN - VPD_HEADER);
        d[FLAGS] = WSNZ;
        be16_put(d + GRANULARITY, (uint16_t)(SCSI_PHYSICAL_BLOCK / block));
        be32_put(d + TRANSFER, SCSI_MAX_TRANSFER / block);
        if (!lu->read_only) {
                be32_put(d + UNMAP_BLOCKS, (uint32_t)(SCSI_MAX_SPACE / block));
                be32_put(d + UNMAP_RANGES, SCSI_MAX_RANGES);
                be32_put(d + UNMAP_UNIT, (uint32_t)(max_u64(lu->cluster_size, SCSI_PHYSICAL_BLOCK) / block));
                d[UNMAP_ALIGN] = UGAVALID; /* to a multiple of it */
                be64_put(d + SAME_BLOCKS, SCSI_MAX_SPACE / block);
        }
        return LEN - VPD_HEADER;
}

static uint32_t vpd_characteristics(const struct scsi_lu *lu, uint8_t *d)
{
        enum { LEN = 60, NON_ROTATING = 1 };

        (void)lu;
        memset(d, 0, LEN);
        be16_put(d, NON_ROTATING);
        return LEN;
}

/* What was given back reads as zeros: formats let nothing that lay there before be seen again (formats/format.h). */
static uint32_t vpd_provisioning(const struct scsi_lu *lu, uint8_t *d)
{
        enum { LBPU = 0x80, LBPWS = 0x40, LBPWS10 = 0x20, LBPRZ = 0x04, THIN = 2 };

        memset(d, 0, 4);
        if (!lu->read_only) {
                d[1] = LBPU | LBPWS | LBPWS10 | LBPRZ;
                d[2] = THIN;
        }
        return 4;
}

static const struct {
        uint8_t page;
        uint32_t (*fill)(const struct scsi_lu *lu, uint8_t *d);
} vpd[] = {
        { 0x00, vpd_pages }, { 0x80, vpd_serial }, { 0x83, vpd_identification },
        { 0xb0, vpd_limits }, { 0xb1, vpd_characteristics }, { 0xb2, vpd_provisioning },
};

/* Where no unit is there is this page only. */
static uint32_t vpd_pages(const struct scsi_lu *lu, uint8_t *d)
{
        unsigned n = lu ? ARRAY_SIZE(vpd) : 1;

        for (unsigned i = 0; i < n; i++)
                d[i] = vpd[i].page;
        return n;
}

static enum scsi_verdict product_data(const struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        uint8_t *d = cmd->data;
        uint32_t len;

        for (size_t i = 0; i < (lu ? ARRAY_SIZE(vpd) : 1); i++) {
                if (vpd[i].page != cmd->cdb[2])
                        continue;
                len = vpd[i].fill(lu, d + VPD_HEADER);
                d[0] = lu ? DISK : NOTHING;
                d[1] = vpd[i].page;
                be16_put(d + 2, (uint16_t)len);
                return scsi_answer(cmd, VPD_HEADER + len, be16_get(cmd->cdb + 3));
        }
        return scsi_bad_cdb(cmd, 2, 7);
}

enum scsi_verdict scsi_inquiry(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        enum { EVPD = 1 };

        return cmd->cdb[1] & EVPD ? product_data(lu, cmd) : standard(lu, cmd);
}

/* --- REPORT LUNS -------------------------------------------------------------------------------------------------- */

/* Single level (SAM-5, 4.7): peripheral device addressing as far as it goes, then flat space addressing. */
static void put_lun(uint8_t *d, uint16_t lun)
{
        enum { FLAT = 0x4000, PERIPHERAL_MOST = 255 };

        memset(d, 0, 8);
        be16_put(d, lun > PERIPHERAL_MOST ? FLAT | lun : lun);
}

enum scsi_verdict scsi_report_luns(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
        enum { UNITS = 0, WELL_KNOWN = 1, ALL = 2, HEADER = 8, EACH = 8 };
        const struct scsi_luns *luns = cmd->luns;
        unsigned n = cmd->cdb[2] == WELL_KNOWN ? 0 : luns->n;

        if (cmd->cdb[2] > ALL)
                return scsi_bad_cdb(cmd, 2, 7);
        if (lu) /* now the guest knows */
                atomic_fetch_and(&lu->attentions, ~(1u << SCSI_UA_LUNS));
        memset(cmd->data, 0, HEADER);
        be32_put(cmd->data, n * EACH);
        for (unsigned i = 0; i < n; i++)
                put_lun(cmd->data + HEADER + EACH * (size_t)i, luns->lun[i]);
        return scsi_answer(cmd, HEADER + n * EACH, be32_get(cmd->cdb + 6));
}

_Static_assert(8 + 8 * SCSI_MAX_LUNS <= SCSI_DATA_MAX, "a list of all units fits");
