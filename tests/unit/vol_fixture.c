/* SPDX-License-Identifier: BSD-3-Clause */
#include "vol_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "formats/format.h"

static char dir[64];
static int old_cwd;

uint64_t vf_rnd(uint64_t *s)
{
        *s ^= *s << 13;
        *s ^= *s >> 7;
        *s ^= *s << 17;
        return *s;
}

int vf_setup(void **state)
{
        (void)state;
        snprintf(dir, sizeof(dir), "%s/vol-test-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
        old_cwd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

int vf_teardown(void **state)
{
        char cmd[128];

        (void)state;
        fault_arm(NULL);
        if (fchdir(old_cwd) < 0)
                return -1;
        close(old_cwd);
        snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
        return system(cmd);
}

static void must(int r, const char *what)
{
        if (r < 0)
                fail_msg("%s: %s", what, err_text(r));
}

const struct fmt_layer *vf_layer;

void vf_create(const char *name, const char *format, const char *opts, uint64_t size, const char *backing)
{
        struct fmt_option opt[8];
        struct fmt_create req = { .size = size, .backing_name = backing, .backing_format = backing ? "raw" : NULL,
                                  .opts = opt };
        char text[256], *save = NULL;

        unlink(name);
        snprintf(text, sizeof(text), "%s", opts);
        for (char *o = strtok_r(text, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
                char *eq = strchr(o, '=');

                *eq = '\0';
                opt[req.nopts++] = (struct fmt_option){ o, eq + 1 };
        }
        must(fmt_create_path(name, fmt_driver_find(format), &req), "create");
}

void vf_create_random(const char *name, uint64_t size, uint64_t seed)
{
        FILE *f = fopen(name, "w");

        assert_non_null(f);
        for (uint64_t i = 0; i < size; i += 8) {
                uint64_t word = vf_rnd(&seed) | 0x0101010101010101ull;

                assert_int_equal(fwrite(&word, sizeof(word), 1, f), 1);
        }
        assert_int_equal(fclose(f), 0);
}

static void on_finding(struct fmt_check *chk, const struct fmt_finding *f)
{
        (void)chk;
        if (f->kind != FINDING_LEAK)
                print_message("corruption: %s\n", f->text);
}

uint64_t vf_check(const char *name)
{
        struct fmt_open_opts oo = { .format = "qcow2", .flags = FMT_RDONLY | FMT_NO_KEY };
        struct fmt_check chk = { .finding = on_finding };
        struct fmt_image *img;

        must(chain_open(name, &oo, &img), "open for check");
        must(img->drv->check(img, &chk), "check");
        chain_close(img);
        assert_int_equal(chk.corruptions, 0);
        assert_int_equal(chk.check_errors, 0);
        return chk.leaks;
}

void vf_compare(const char *name, const char *format, const void *model, uint64_t size)
{
        struct fmt_open_opts oo = { .format = format, .flags = FMT_RDONLY, .layer = vf_layer };
        AUTO(freep) void *buf = malloc(size);
        struct fmt_image *img;

        must(chain_open(name, &oo, &img), "open to compare");
        if (size)
                must(chain_read_sync(img, buf, size, 0), "read");
        chain_close(img);
        assert_memory_equal(buf, model, size);
}

void vf_open(struct rig *g, const char *name, const struct vol_opts *opts, const struct engine_opts *engine)
{
        struct qthread_opts qo = { .name = "test", .engine = *engine, .inline_loop = true };

        *g = (struct rig){ 0 };
        must(qthread_new(&qo, &g->home), "queue thread");
        must(vol_open(name, opts, g->home, &g->v), "vol_open");
        must(port_attach(g->v, g->home, &g->port), "port_attach");
}

static void on_event(struct file_tap *tap, struct file *f, const struct file_event *ev)
{
        struct rig *g = container_of(tap, struct rig, tap);

        (void)f;
        if (ev->phase != FILE_EV_ISSUED)
                return;
        if (ev->kind == FILE_EV_SYNC)
                g->syncs++;
        if (ev->kind == FILE_EV_WRITE) {
                g->writes++;
                g->bytes_written += ev->len;
                if (ev->len > g->longest_write)
                        g->longest_write = ev->len;
        }
}

void vf_tap(struct rig *g)
{
        g->tap.event = on_event;
        g->writes = g->syncs = 0;
        g->longest_write = g->bytes_written = 0;
        vol_image(g->v)->file->tap = &g->tap;
}

static void on_closed(void *opaque, int res)
{
        struct rig *g = opaque;

        g->closed = true;
        g->close_res = res;
}

int vf_close(struct rig *g)
{
        port_detach(g->port);
        vol_close(g->v, on_closed, g);
        qthread_run(g->home, &g->closed);
        qthread_free(g->home);
        return g->close_res;
}

struct one {
        struct blk_req req;
        bool done;
        int res;
};

static void on_one(struct blk_req *req, int res)
{
        struct one *o = container_of(req, struct one, req);

        assert_false(o->done);
        o->done = true;
        o->res = res;
}

int vf_do(struct rig *g, enum blk_op op, unsigned flags, uint64_t off, uint64_t len, void *buf)
{
        struct iovec iov = { buf, len };
        struct one o = {
                .req = { .op = op, .flags = flags, .off = off, .len = len, .iov = &iov, .niov = 1, .done = on_one },
        };

        port_submit(g->port, &o.req);
        qthread_run(g->home, &o.done);
        return o.res;
}
