/* SPDX-License-Identifier: BSD-3-Clause */
/* block-dirty-bitmap-*: the named bitmaps of a node's image, as QEMU has them. */
#include "vdiskd/control/control_commands.h"

#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "formats/luks/crypto.h"
#include "vdiskd/control/bitmap_actions.h"
#include "vdiskd/disks/node.h"
#include "vdiskd/disks/node_bitmaps.h"

/* --- commands ----------------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *args, const char *key)
{
        return json_string_value(json_object_get(args, key)) ?: "";
}

static void cmd_add(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        struct node *n = node_of_bitmaps(c->disks, text_of(args, "node"));
        uint64_t granularity;
        int r = n ? bitmap_granularity(args, &granularity) : -ENODEV;

        if (r == 0)
                r = vol_bitmap_add(n->vol, text_of(args, "name"), granularity, json_is_true(json_object_get(args, "persistent")),
                                   !json_is_true(json_object_get(args, "disabled")));
        qmp_answer(call, r);
}

static void cmd_remove(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        struct node *n = node_of_bitmaps(c->disks, text_of(args, "node"));

        qmp_answer(call, n ? vol_bitmap_remove(n->vol, text_of(args, "name")) : -ENODEV);
}

/* NULL: it was answered. */
static struct dirty_bitmap *bits_to_change(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        struct dirty_bitmap *bits = NULL;
        int r = node_bitmap_bits(c->disks, text_of(args, "node"), text_of(args, "name"), BITMAP_USE_CHANGE, &bits);

        if (r < 0)
                qmp_answer(call, r);
        return bits;
}

static void cmd_clear(struct qmp_call *call, json_t *args, void *opaque)
{
        AUTO(dirty_bitmap_unrefp) struct dirty_bitmap *bits = bits_to_change(call, args, opaque);

        if (!bits)
                return;
        dirty_bitmap_clear(bits, 0, UINT64_MAX);
        qmp_answer(call, 0);
}

static void switch_recording(struct qmp_call *call, json_t *args, void *opaque, bool on)
{
        AUTO(dirty_bitmap_unrefp) struct dirty_bitmap *bits = bits_to_change(call, args, opaque);

        if (!bits)
                return;
        dirty_bitmap_record(bits, on);
        qmp_answer(call, 0);
}

static void cmd_enable(struct qmp_call *call, json_t *args, void *opaque)
{
        switch_recording(call, args, opaque, true);
}

static void cmd_disable(struct qmp_call *call, json_t *args, void *opaque)
{
        switch_recording(call, args, opaque, false);
}

static void cmd_merge(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        struct bitmap_merge m;
        int r = bitmap_merge_prepare(&m, c->disks, text_of(args, "node"), text_of(args, "target"),
                                     json_object_get(args, "bitmaps"));

        if (r == 0)
                bitmap_merge_apply(&m);
        bitmap_merge_finish(&m);
        qmp_answer(call, r);
}

/* --- the bits ----------------------------------------------------------------------------------------------------- */

/* As QEMU counts them: whole words of 64 bits. */
static int sha256_of(struct dirty_bitmap *bits, char text[2 * CRYPTO_MAX_HASH + 1])
{
        uint64_t len = (dirty_bitmap_granules(bits) + 63) / 64 * 8;
        AUTO(freep) void *bytes = malloc(len + 1);
        uint8_t digest[CRYPTO_MAX_HASH];
        int r;

        if (!bytes)
                return -ENOMEM;
        dirty_bitmap_get_bytes(bits, 0, bytes, len);
        r = crypto_hash("sha256", bytes, len, digest);
        for (size_t i = 0; r == 0 && i < crypto_hash_len("sha256"); i++)
                snprintf(text + 2 * i, 3, "%02x", digest[i]);
        return r;
}

static void cmd_sha256(struct qmp_call *call, json_t *args, void *opaque)
{
        struct control *c = opaque;
        AUTO(dirty_bitmap_unrefp) struct dirty_bitmap *bits = NULL;
        char text[2 * CRYPTO_MAX_HASH + 1];
        int r = node_bitmap_bits(c->disks, text_of(args, "node"), text_of(args, "name"), BITMAP_USE_READ, &bits);

        if (r == 0)
                r = sha256_of(bits, text);
        if (r < 0)
                qmp_answer(call, r);
        else
                qmp_return(call, json_pack("{s:s}", "sha256", text));
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

const struct qmp_command bitmap_commands[] = {
        { "block-dirty-bitmap-add", bitmap_add_args, cmd_add },
        { "block-dirty-bitmap-clear", bitmap_args, cmd_clear },
        { "block-dirty-bitmap-disable", bitmap_args, cmd_disable },
        { "block-dirty-bitmap-enable", bitmap_args, cmd_enable },
        { "block-dirty-bitmap-merge", bitmap_merge_args, cmd_merge },
        { "block-dirty-bitmap-remove", bitmap_args, cmd_remove },
        { "x-debug-block-dirty-bitmap-sha256", bitmap_args, cmd_sha256, &answer_sha256 },
        { NULL },
};
