/* SPDX-License-Identifier: BSD-3-Clause */
/* foreign.c - formats of which we know the first bytes only: such a file must not be guessed to be a raw disk. */
#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "tools/vdisk-img/tool.h"

static const struct {
        const char *format;
        unsigned at;
        const char *bytes;
        unsigned len;
} marks[] = {
        { "qed", 0, "QED", 4 }, /* and a zero byte */
        { "qcow", 0, "QFI\xfb\0\0\0\1", 8 },
        { "parallels", 0, "WithoutFreeSpace", 16 },
        { "parallels", 0, "WithouFreSpacExt", 16 },
        { "luks", 0, "LUKS\xba\xbe", 6 },
};

static const char *foreign_format(struct file *file)
{
        char head[128];
        size_t len = min_u64(file->size, sizeof(head));

        if (file_pread(file, head, len, 0) < 0)
                return NULL;
        for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
                if (marks[i].at + marks[i].len <= len && !memcmp(head + marks[i].at, marks[i].bytes, marks[i].len))
                        return marks[i].format;
        return NULL;
}

int tool_refuse_foreign(const struct fmt_image *img)
{
        const char *format = img->drv->probe ? NULL : foreign_format(img->file);

        if (!format)
                return 0;
        return err_note(-ENOTSUP, "'%s' looks like %s, a format that vdisk-img does not have ('qemu-img convert' does); "
                        "-f raw takes it for a raw disk", img->file->path, format);
}
