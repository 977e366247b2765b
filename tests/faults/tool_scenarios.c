/* SPDX-License-Identifier: BSD-3-Clause */
/* tool_scenarios.c - vdisk-img with a fault: it says that it failed and leaves what was there, or has done what it says. */
#include <string.h>

#include "scene.h"

static unsigned char merged[SIZE]; /* what an overlay over a base shows */

static void on_create(void)
{
        int st = run_tool(ARGV(tool_path, "create", "-f", "qcow2", "-o", "cluster_size=4k", "new.qcow2", "1M"));

        if (st == 0 && disk_size("new.qcow2", "qcow2") != 1u << 20)
                bug("success, but the new image has another size");
        if (st == 0)
                must_be_clean("new.qcow2", "qcow2", false);
        else if (is_there("new.qcow2"))
                bug("failed, but left a file");
}

static void convert(const char *compress)
{
        int st;

        make_raw("src.raw", pattern);
        st = run_tool(ARGV(tool_path, "convert", compress, "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", "src.raw", "dst.qcow2"));
        if (st == 0 && !disk_is("dst.qcow2", "qcow2", pattern, SIZE))
                bug("success, but the copy is another disk");
        if (st == 0)
                must_be_clean("dst.qcow2", "qcow2", false);
        if (!disk_is("src.raw", "raw", pattern, SIZE))
                bug("the source has changed");
}

static void on_convert(void) { convert("-q"); }
static void on_compress(void) { convert("-c"); }

static void on_convert_back(void)
{
        int st;

        make_qcow2("src.qcow2", "-o cluster_size=4k", pattern);
        st = run_tool(ARGV(tool_path, "convert", "-f", "qcow2", "-O", "raw", "src.qcow2", "dst.raw"));
        if (st == 0 && !disk_is("dst.raw", "raw", merged, SIZE))
                bug("success, but the copy is another disk");
        must_be_clean("src.qcow2", "qcow2", false);
}

static void on_check(void)
{
        int st;

        make_qcow2("a.qcow2", "-o cluster_size=4k", pattern);
        make_leaks("a.qcow2");
        st = run_tool(ARGV(tool_path, "check", "-f", "qcow2", "-r", "all", "a.qcow2"));
        must_be_clean("a.qcow2", "qcow2", st != 0);
        if (!disk_is("a.qcow2", "qcow2", merged, SIZE))
                bug("the repair has changed the disk");
}

static void on_snapshot(void)
{
        int st;

        make_qcow2("a.qcow2", "-o cluster_size=4k", pattern);
        quietly("%s snapshot -f qcow2 -c old a.qcow2", tool_path);
        st = run_tool(ARGV(tool_path, "snapshot", "-f", "qcow2", "-c", "new", "a.qcow2"));
        if (st == 0 && !has_snapshot("a.qcow2", "new"))
                bug("success, but there is no snapshot");
        st = run_tool(ARGV(tool_path, "snapshot", "-f", "qcow2", "-a", "old", "a.qcow2"));
        st = run_tool(ARGV(tool_path, "snapshot", "-f", "qcow2", "-d", "old", "a.qcow2"));
        if (st == 0 && has_snapshot("a.qcow2", "old"))
                bug("success, but the snapshot is still there");
        must_be_clean("a.qcow2", "qcow2", true);
        if (!disk_is("a.qcow2", "qcow2", merged, SIZE))
                bug("the disk has changed");
}

static void on_resize(void)
{
        uint64_t size;
        int st;

        make_qcow2("a.qcow2", "-o cluster_size=4k", pattern);
        st = run_tool(ARGV(tool_path, "resize", "-f", "qcow2", "a.qcow2", "1M"));
        size = disk_size("a.qcow2", "qcow2");
        if (size != SIZE && size != 1u << 20)
                bug("the disk has a size that nobody asked for");
        if (st == 0 && size != 1u << 20)
                bug("success, but the size is the old one");
        must_be_clean("a.qcow2", "qcow2", true);
        if (!disk_is("a.qcow2", "qcow2", merged, SIZE))
                bug("the disk has changed");
}

/* base: all of other; top: the first half of pattern. */
static void make_chain(void)
{
        memcpy(merged + SIZE / 2, other + SIZE / 2, SIZE / 2);
        make_raw("base.raw", other);
        make_qcow2("top.qcow2", "-o cluster_size=4k -b base.raw -F raw", pattern);
}

static void on_commit(void)
{
        int st;

        make_chain();
        st = run_tool(ARGV(tool_path, "commit", "-f", "qcow2", "top.qcow2"));
        if (st == 0 && !disk_is("base.raw", "raw", merged, SIZE))
                bug("success, but the base is not the disk");
        if (!disk_is("top.qcow2", "qcow2", merged, SIZE))
                bug("the disk has changed");
        must_be_clean("top.qcow2", "qcow2", true);
}

static void on_rebase(void)
{
        int st;

        make_chain();
        st = run_tool(ARGV(tool_path, "rebase", "-f", "qcow2", "-b", "", "top.qcow2"));
        if (st == 0)
                make_raw("base.raw", pattern); /* it must not matter any more */
        if (!disk_is("top.qcow2", "qcow2", merged, SIZE))
                bug(st ? "failed, and the disk has changed" : "success, but the disk still needs its base");
        must_be_clean("top.qcow2", "qcow2", true);
}

static void with_half(void (*run)(void))
{
        memcpy(merged, pattern, SIZE / 2);
        run();
}

#define HALF(name) static void half_##name(void) { with_half(on_##name); }
HALF(convert_back)
HALF(check)
HALF(snapshot)
HALF(resize)
HALF(commit)
HALF(rebase)

const struct scenario tool_scenarios[] = {
        { "create", on_create },          { "convert", on_convert },     { "compress", on_compress },
        { "convert-back", half_convert_back }, { "repair", half_check }, { "snapshot", half_snapshot },
        { "resize", half_resize },        { "commit", half_commit },     { "rebase", half_rebase },
        { NULL, NULL },
};
