/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vmdk.c - VMware VMDK: monolithicSparse, streamOptimized (one file with its descriptor in it), monolithicFlat, vmfs,
 * twoGbMaxExtentFlat, twoGbMaxExtentSparse (a descriptor that names the files of the extents). What has a parent is an
 * overlay: the parent is its backing image, which must be the one that was meant (its CID).
 */
#include <errno.h>
#include <stdlib.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"
#include "formats/foreign/on_disk.h"
#include "formats/foreign/vmdk.h"

#define DESC_MAX (1u << 20) /* bytes */
#define MAGIC_LEN 4u
#define TOO_LARGE "the extents have more bytes than a disk can have"

static struct vmdk *vmdk_of(struct fmt_image *img)
{
        return (struct vmdk *)img;
}

static bool is_sparse_file(const void *head, size_t len)
{
        return len >= MAGIC_LEN && (!memcmp(head, "KDMV", MAGIC_LEN) || !memcmp(head, "COWD", MAGIC_LEN));
}

static bool vmdk_probe(const void *head, size_t len)
{
        static const char text[] = "# Disk DescriptorFile";

        return is_sparse_file(head, len) || (len >= strlen(text) && !memcmp(head, text, strlen(text)));
}

/* --- lookups: any thread ----------------------------------------------------------------------------------------- */

static int flat_block(struct foreign *f, uint64_t no, struct block *ret)
{
        (void)no; /* it is one */
        *ret = (struct block){ .kind = EXT_DATA, .host = ((struct vmdk_extent *)f)->flat };
        return 0;
}

static struct vmdk_extent *extent_of(const struct vmdk *v, uint64_t off)
{
        unsigned from = 0, to = v->n;

        while (to - from > 1) {
                unsigned mid = from + (to - from) / 2;

                if (v->extent[mid]->start <= off)
                        from = mid;
                else
                        to = mid;
        }
        return v->extent[from];
}

static int vmdk_map(struct fmt_image *img, uint64_t off, uint64_t len, struct extent *ext, unsigned max)
{
        struct vmdk_extent *x = extent_of(vmdk_of(img), off);
        uint64_t at = off - x->start;
        int n = foreign_map(&x->f.img, at, min_u64(len, x->f.img.size - at), ext, max);

        for (int i = 0; i < n; i++)
                ext[i].off += x->start;
        return n;
}

/* --- extents ----------------------------------------------------------------------------------------------------- */

/* The next extent of the disk, in @file: it takes a file of its own, also on failure. */
static struct vmdk_extent *add_extent(struct vmdk *v, struct file *file, const char *type)
{
        struct vmdk_extent *x = calloc(1, sizeof(*x));
        struct vmdk_extent **more = x ? realloc(v->extent, (v->n + 1) * sizeof(*more)) : NULL;

        if (!more) {
                free(x);
                if (file != v->f.img.file)
                        file_close(file);
                return NULL;
        }
        v->extent = more;
        x->f.img = (struct fmt_image){ .drv = &vmdk_driver, .file = file, .read_only = true, .host_align = SECTOR };
        x->f.pages = v->f.pages;
        x->f.end = file->size;
        x->own_file = file != v->f.img.file;
        x->type = type;
        v->extent[v->n++] = x;
        return x;
}

static int open_extent_file(const struct vmdk *v, const struct vmdk_line *l, const struct fmt_open_opts *opts,
                            struct file **ret)
{
        AUTO(freep) char *path = NULL;
        int r;

        if (v->f.img.file->fd < 0)
                return err_note(-ENOTSUP, "an image in memory cannot have an extent in '%s'", l->name);
        r = chain_backing_path(v->f.img.file->path, l->name, &path);
        if (r == 0)
                r = file_open(path, FILE_RDONLY | FILE_NO_SYMLINK | (opts->flags & FMT_DIRECT ? FILE_DIRECT : 0) |
                                    (opts->flags & FMT_NO_LOCK ? FILE_NO_LOCK : 0), ret);
        if (r < 0)
                return r;
        if (!(*ret)->is_blkdev)
                return 0;
        file_close(*ret);
        return err_note(-EINVAL, "the extent '%s' is a block device", l->name);
}

static int open_sparse(struct vmdk_extent *x, const struct vmdk_line *l)
{
        uint8_t h[VMDK_HEADER_LENGTH];
        int r = foreign_read(&x->f, h, sizeof(h), 0, "header");

        if (r == 0)
                r = vmdk_sparse_open(x, h);
        if (r == 0 && x->f.img.size != l->sectors * SECTOR)
                r = err_note(-EINVAL, "the descriptor says %llu sectors, the file has %llu",
                             (unsigned long long)l->sectors, (unsigned long long)x->f.img.size / SECTOR);
        return r < 0 ? err_prefix(r, "extent '%s': ", l->name) : 0;
}

static int open_flat(struct vmdk_extent *x, const struct vmdk_line *l)
{
        x->flat = l->offset * SECTOR;
        x->f.img.size = x->f.block_size = l->sectors * SECTOR;
        x->f.img.cluster_size = 1;
        x->f.block = flat_block;
        return foreign_check_inside(&x->f, x->flat, x->f.img.size, l->name);
}

static int open_line(struct vmdk *v, const struct vmdk_line *l, const struct fmt_open_opts *opts)
{
        struct vmdk_extent *x;
        struct file *file;
        int r = open_extent_file(v, l, opts, &file);

        if (r < 0)
                return r;
        x = add_extent(v, file, vmdk_kind_name(l->kind));
        if (!x)
                return -ENOMEM;
        return l->kind == VMDK_SPARSE ? open_sparse(x, l) : open_flat(x, l);
}

/* Of extents that were not opened, for who only wants to know. */
static int describe(struct vmdk *v)
{
        for (unsigned i = 0; i < v->desc.n; i++) {
                uint64_t size = v->desc.line[i].sectors * SECTOR;

                if (size > INT64_MAX - v->f.img.size)
                        return err_note(-EFBIG, TOO_LARGE);
                v->f.img.size += size;
        }
        v->f.img.cluster_size = 1;
        return 0;
}

/* The disk is all extents, one after the other. */
static int line_up(struct vmdk *v)
{
        struct fmt_image *img = &v->f.img;
        uint32_t cluster = v->extent[0]->f.img.cluster_size;

        img->parts = calloc(v->n, sizeof(*img->parts));
        if (!img->parts)
                return -ENOMEM;
        for (unsigned i = 0; i < v->n; i++) {
                struct vmdk_extent *x = v->extent[i];

                x->start = img->size;
                x->f.img.subcluster_size = x->f.img.cluster_size;
                if (x->f.img.size > INT64_MAX - img->size)
                        return err_note(-EFBIG, TOO_LARGE);
                img->size += x->f.img.size;
                if (x->f.img.cluster_size != cluster)
                        cluster = 1;
                if (x->own_file)
                        img->parts[img->nparts++] = &x->f.img;
        }
        img->cluster_size = cluster;
        return 0;
}

/* --- the descriptor ---------------------------------------------------------------------------------------------- */

static int read_desc(struct vmdk *v, uint64_t off, uint64_t len)
{
        AUTO(freep) char *text = NULL;
        int r;

        if (len > DESC_MAX)
                return err_note(-EINVAL, "a descriptor of %llu bytes is larger than 1 MiB", (unsigned long long)len);
        text = calloc(1, len + 1);
        r = text ? foreign_read(&v->f, text, len, off, "descriptor") : -ENOMEM;
        return r < 0 ? r : vmdk_desc_parse(text, &v->desc);
}

static int take_parent(struct vmdk *v)
{
        struct fmt_image *img = &v->f.img;

        if (v->desc.parent_cid == VMDK_NO_PARENT)
                return 0;
        if (!v->desc.parent)
                return err_note(-EINVAL, "the image has a parent (CID %08x), but does not name its file",
                                v->desc.parent_cid);
        img->backing_name = strdup(v->desc.parent);
        img->backing_format = strdup(vmdk_driver.name);
        return img->backing_name && img->backing_format ? 0 : -ENOMEM;
}

/* Another image than the one that was there when this one was made would give a mixture of both. */
static int vmdk_adopt(struct fmt_image *img)
{
        const struct vmdk *v = vmdk_of(img), *parent = vmdk_of(img->backing);

        if (img->backing->drv == &vmdk_driver && parent->desc.cid == v->desc.parent_cid)
                return 0;
        return err_note(-EINVAL, "'%s' is not the parent that was meant: its CID is not %08x", img->backing->file->path,
                        v->desc.parent_cid);
}

static int set_type(struct vmdk *v, const char *type)
{
        free(v->desc.create_type);
        v->desc.create_type = strdup(type);
        return v->desc.create_type ? 0 : -ENOMEM;
}

/* --- open -------------------------------------------------------------------------------------------------------- */

static int parse_one_file(struct vmdk *v)
{
        uint8_t h[VMDK_HEADER_LENGTH];
        struct vmdk_extent *x = add_extent(v, v->f.img.file, "");
        int r = x ? foreign_read(&v->f, h, sizeof(h), 0, "header") : -ENOMEM;

        if (r == 0)
                r = vmdk_sparse_open(x, h);
        if (r == 0 && !x->desc_len)
                r = err_note(-EINVAL, "there is no descriptor in the file; if it is one of the extents of an image, "
                             "open the image's descriptor (*.vmdk)");
        if (r == 0)
                r = read_desc(v, x->desc, x->desc_len);
        if (r == 0)
                r = set_type(v, x->compressed ? "streamOptimized" : "monolithicSparse");
        return r < 0 ? r : line_up(v);
}

static int parse_descriptor_file(struct vmdk *v, const struct fmt_open_opts *opts)
{
        int r = read_desc(v, 0, v->f.img.file->size);

        if (r == 0 && (!v->desc.create_type || !v->desc.n))
                r = err_note(-EINVAL, "this is no VMDK image: the file is no sparse extent, and no descriptor with %s",
                             v->desc.create_type ? "extents" : "createType");
        v->f.img.names_files = true;
        if (opts->flags & FMT_INFO_ONLY && !opts->format)
                return r < 0 ? r : describe(v); /* a guess is not followed */
        for (unsigned i = 0; r == 0 && i < v->desc.n; i++)
                r = open_line(v, &v->desc.line[i], opts);
        return r < 0 ? r : line_up(v);
}

static int vmdk_parse(struct vmdk *v, const struct fmt_open_opts *opts)
{
        char head[MAGIC_LEN] = { 0 };
        int r = file_pread(v->f.img.file, head, sizeof(head), 0);

        if (r == 0)
                r = is_sparse_file(head, sizeof(head)) ? parse_one_file(v) : parse_descriptor_file(v, opts);
        return r < 0 ? r : take_parent(v);
}

static int vmdk_open(struct file *file, const struct fmt_open_opts *opts, struct fmt_image **ret)
{
        int r;
        struct vmdk *v = foreign_new(file, opts, &vmdk_driver, sizeof(*v), &r);

        return v ? foreign_opened(&v->f, vmdk_parse(v, opts), ret) : r;
}

static void vmdk_close(struct fmt_image *img)
{
        struct vmdk *v = vmdk_of(img);

        for (unsigned i = 0; i < v->n; i++) {
                if (v->extent[i]->own_file)
                        file_close(v->extent[i]->f.img.file);
                free(v->extent[i]);
        }
        free(v->extent);
        free(img->parts);
        vmdk_desc_finish(&v->desc);
        foreign_close(img);
}

/* --- info -------------------------------------------------------------------------------------------------------- */

/* A stranger's bytes need not be UTF-8. */
static void set_text(json_t *o, const char *key, const char *text)
{
        json_t *value = json_string(text);

        json_object_set_new(o, key, value ? value : json_string("(not UTF-8)"));
}

static json_t *extent_info(const struct vmdk_extent *x)
{
        json_t *o = json_object();

        if (x->compressed)
                json_object_set_new(o, "compressed", json_true());
        json_object_set_new(o, "virtual-size", json_integer((json_int_t)x->f.img.size));
        set_text(o, "filename", x->f.img.file->path);
        if (x->sparse)
                json_object_set_new(o, "cluster-size", json_integer((json_int_t)x->f.block_size));
        json_object_set_new(o, "format", json_string(x->type));
        return o;
}

/* Of an extent that was not opened. */
static json_t *line_info(const struct vmdk_line *l)
{
        json_t *o = json_pack("{s:I}", "virtual-size", (json_int_t)(l->sectors * SECTOR));

        set_text(o, "filename", l->name);
        json_object_set_new(o, "format", json_string(vmdk_kind_name(l->kind)));
        return o;
}

static int vmdk_info(struct fmt_image *img, json_t *into)
{
        const struct vmdk *v = vmdk_of(img);
        json_t *extents = json_array(), *data = json_pack("{s:I, s:I}", "cid", (json_int_t)v->desc.cid, "parent-cid",
                                                          (json_int_t)v->desc.parent_cid);

        for (unsigned i = 0; i < v->n; i++)
                json_array_append_new(extents, extent_info(v->extent[i]));
        for (unsigned i = 0; !v->n && i < v->desc.n; i++)
                json_array_append_new(extents, line_info(&v->desc.line[i]));
        json_object_set_new(into, "type", json_string(img->drv->name));
        set_text(data, "create-type", v->desc.create_type);
        json_object_set_new(data, "extents", extents);
        return json_object_set_new(into, "data", data) < 0 ? -ENOMEM : 0;
}

const struct fmt_driver vmdk_driver = {
        .name = "vmdk",
        .caps = FMT_HAS_BACKING,
        .probe = vmdk_probe,
        .open = vmdk_open,
        .close = vmdk_close,
        .adopt = vmdk_adopt,
        .map = vmdk_map,
        .want = foreign_want,
        .unpack = vmdk_unpack,
        .info = vmdk_info,
};
