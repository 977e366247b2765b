/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Invariants:
 * - sock is -1 exactly while disconnected; queues and memory outlive connections.
 * - the back end knows every live region of mem while connected.
 * - user addresses are our own pointers, guest addresses are those of fe_mem.c; they never agree by chance.
 */
#include "front_end.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/range.h"

#define CONFIG_LEN 60 /* virtio_blk_config up to write_zeroes_may_unmap and its padding */
#define QUEUES_MAX 256

/* virtio-blk feature bits we understand: SIZE_MAX SEG_MAX GEOMETRY RO BLK_SIZE FLUSH TOPOLOGY CONFIG_WCE MQ DISCARD WRITE_ZEROES */
#define BLK_FEATURES (1u << 1 | 1u << 2 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 9 | 1u << 10 | 1u << 11 | 1u << 12 | \
                      1u << 13 | 1u << 14)
#define WANTED (BLK_FEATURES | FE_F_INDIRECT_DESC | FE_F_EVENT_IDX | FE_F_PROTOCOL_FEATURES | FE_F_VERSION_1 | \
                FE_F_RING_PACKED)
#define WANTED_PROTOCOL (FE_PF_MQ | FE_PF_LOG_SHMFD | FE_PF_REPLY_ACK | FE_PF_BACKEND_REQ | FE_PF_CONFIG | \
                         FE_PF_INFLIGHT_SHMFD | FE_PF_CONFIGURE_MEM_SLOTS)

struct front_end {
        struct fe_opts opts;
        char *path;
        int sock, backend_sock;
        uint64_t features, protocol;
        unsigned max_queues;
        uint64_t mem_slots;
        struct fe_disk disk;
        struct fe_mem mem;
        struct fe_queue *queues[QUEUES_MAX];
        struct { int fd; uint64_t len, offset; } inflight; /* fd -1: none yet */
};

static struct fe_msg msg(uint32_t request, uint32_t size)
{
        return (struct fe_msg){ .request = request, .flags = FE_VERSION, .size = size };
}

static bool is_packed(const struct front_end *fe)
{
        return fe->features & FE_F_RING_PACKED;
}

static int ask_u64(struct front_end *fe, uint32_t request, uint64_t *ret)
{
        struct fe_msg m = msg(request, 0);
        int r = fe_wire_call(fe->sock, &m, NULL, 0, fe->opts.timeout_ms);

        if (r < 0)
                return err_note(r, "message %u got no answer: %s", request, strerror(-r));
        if (m.size != sizeof(m.u64))
                return err_note(-EPROTO, "the answer to message %u has %u bytes, not 8", request, m.size);
        *ret = m.u64;
        return 0;
}

int fe_tell(struct front_end *fe, struct fe_msg *m, const int *fds, unsigned nfds)
{
        uint32_t request = m->request;
        int r;

        if (!(fe->protocol & FE_PF_REPLY_ACK))
                return fe_wire_send(fe->sock, m, fds, nfds);
        m->flags |= FE_NEED_REPLY;
        r = fe_wire_call(fe->sock, m, fds, nfds, fe->opts.timeout_ms);
        if (r < 0)
                return err_note(r, "message %u got no acknowledgement: %s", request, strerror(-r));
        if (m->size != sizeof(m->u64) || m->u64 != 0)
                return err_note(-EPROTO, "the back end refused message %u: %u bytes, value %llu", request, m->size,
                                (unsigned long long)m->u64);
        return 0;
}

static int tell_u64(struct front_end *fe, uint32_t request, uint64_t value)
{
        struct fe_msg m = msg(request, sizeof(m.u64));

        m.u64 = value;
        return fe_tell(fe, &m, NULL, 0);
}

static int tell_fd(struct front_end *fe, uint32_t request, unsigned index, int fd)
{
        struct fe_msg m = msg(request, sizeof(m.u64));

        m.u64 = index;
        return fe_tell(fe, &m, &fd, 1);
}

static int tell_state(struct front_end *fe, uint32_t request, unsigned index, uint32_t num)
{
        struct fe_msg m = msg(request, sizeof(m.state));

        m.state.index = index;
        m.state.num = num;
        return fe_tell(fe, &m, NULL, 0);
}

static void config_parse(struct fe_disk *d, const uint8_t *c)
{
        *d = (struct fe_disk){
                .capacity = le64_get(c) * 512, .size_max = le32_get(c + 8), .seg_max = le32_get(c + 12),
                .block_size = le32_get(c + 20), .physical_block_exp = c[24], .wce = c[32],
                .num_queues = le16_get(c + 34), .max_discard_sectors = le32_get(c + 36),
                .max_discard_seg = le32_get(c + 40), .discard_sector_alignment = le32_get(c + 44),
                .max_write_zeroes_sectors = le32_get(c + 48), .max_write_zeroes_seg = le32_get(c + 52),
                .write_zeroes_may_unmap = c[56],
        };
}

int fe_get_config(struct front_end *fe)
{
        struct fe_msg m = msg(FE_GET_CONFIG, 12 + CONFIG_LEN);
        int r;

        m.config.size = CONFIG_LEN;
        r = fe_wire_call(fe->sock, &m, NULL, 0, fe->opts.timeout_ms);
        if (r < 0)
                return err_note(r, "GET_CONFIG got no answer: %s", strerror(-r));
        if (m.size != 12 + CONFIG_LEN || m.config.size != CONFIG_LEN)
                return err_note(-EPROTO, "GET_CONFIG of %u bytes was answered with %u", CONFIG_LEN, m.config.size);
        config_parse(&fe->disk, m.config.bytes);
        return 0;
}

int fe_set_wce(struct front_end *fe, bool on)
{
        struct fe_msg m = msg(FE_SET_CONFIG, 12 + 1);

        m.config.offset = 32;
        m.config.size = 1;
        m.config.bytes[0] = on;
        return fe_tell(fe, &m, NULL, 0);
}

static int open_backend_channel(struct front_end *fe)
{
        struct fe_msg m = msg(FE_SET_BACKEND_REQ_FD, 0);
        int pair[2], r;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        fe->backend_sock = pair[0];
        r = fe_tell(fe, &m, &pair[1], 1);
        close(pair[1]);
        return r;
}

static int negotiate_protocol(struct front_end *fe)
{
        uint64_t wanted = (WANTED_PROTOCOL | (fe->opts.inband ? FE_PF_INBAND_NOTIFICATIONS : 0)) & ~fe->opts.protocol_off;
        uint64_t offered, n = 1;
        int r;

        fe->protocol = 0;
        fe->max_queues = 1;
        if (!(fe->features & FE_F_PROTOCOL_FEATURES))
                return 0;
        r = ask_u64(fe, FE_GET_PROTOCOL_FEATURES, &offered);
        if (r == 0)
                r = tell_u64(fe, FE_SET_PROTOCOL_FEATURES, offered & wanted);
        if (r < 0)
                return r;
        fe->protocol = offered & wanted;
        if (fe->opts.inband && !(fe->protocol & FE_PF_INBAND_NOTIFICATIONS))
                return err_note(-ENOTSUP, "the back end has no in-band notifications");
        if (fe->protocol & FE_PF_MQ)
                r = ask_u64(fe, FE_GET_QUEUE_NUM, &n);
        fe->max_queues = n > QUEUES_MAX ? QUEUES_MAX : (unsigned)n;
        if (r == 0 && fe->protocol & FE_PF_BACKEND_REQ)
                r = open_backend_channel(fe);
        return r;
}

static int negotiate(struct front_end *fe)
{
        uint64_t offered, capacity = fe->disk.capacity;
        struct fe_msg owner = msg(FE_SET_OWNER, 0);
        int r;

        fe->protocol = 0; /* no REPLY_ACK yet */
        r = ask_u64(fe, FE_GET_FEATURES, &offered);
        if (r < 0)
                return r;
        fe->features = offered & WANTED & ~fe->opts.features_off & ~(fe->opts.packed ? 0 : FE_F_RING_PACKED);
        fe->features |= fe->opts.features_on;
        if (fe->opts.packed && !is_packed(fe))
                return err_note(-ENOTSUP, "the back end has no packed rings");
        r = fe_tell(fe, &owner, NULL, 0);
        if (r == 0)
                r = negotiate_protocol(fe);
        if (r == 0 && fe->protocol & FE_PF_CONFIG)
                r = fe_get_config(fe);
        if (r == 0)
                r = tell_u64(fe, FE_SET_FEATURES, fe->features);
        if (r < 0)
                return r;
        if (fe->opts.num_queues > fe->max_queues)
                return err_note(-EINVAL, "the back end has %u queues, not %u", fe->max_queues, fe->opts.num_queues);
        if (capacity && capacity != fe->disk.capacity)
                return err_note(-EPROTO, "the disk had %llu bytes and now has %llu", (unsigned long long)capacity,
                                (unsigned long long)fe->disk.capacity);
        return 0;
}

static struct fe_wire_region wire_region(const struct fe_region *g)
{
        return (struct fe_wire_region){ .gpa = g->gpa, .len = g->len, .user_addr = (uintptr_t)g->map, .offset = 0 };
}

int fe_set_mem_table(struct front_end *fe)
{
        struct fe_msg m = msg(FE_SET_MEM_TABLE, 0);
        int fds[FE_TABLE_MAX];
        unsigned n = 0;

        for (unsigned i = 0; i < fe->mem.nregions; i++) {
                if (fe->mem.regions[i].fd < 0)
                        continue;
                if (n == FE_TABLE_MAX)
                        return err_note(-ENOSPC, "SET_MEM_TABLE carries at most %d regions", FE_TABLE_MAX);
                m.table.regions[n] = wire_region(&fe->mem.regions[i]);
                fds[n++] = fe->mem.regions[i].fd;
        }
        m.table.nregions = n;
        m.size = (uint32_t)(8 + n * sizeof(struct fe_wire_region));
        return fe_tell(fe, &m, fds, n);
}

static int tell_region(struct front_end *fe, uint32_t request, const struct fe_region *g)
{
        struct fe_msg m = msg(request, sizeof(m.mem_reg));

        m.mem_reg.region = wire_region(g);
        return fe_tell(fe, &m, &g->fd, request == FE_ADD_MEM_REG);
}

static int tell_memory(struct front_end *fe)
{
        int r;

        if (!(fe->protocol & FE_PF_CONFIGURE_MEM_SLOTS))
                return fe_set_mem_table(fe);
        r = ask_u64(fe, FE_GET_MAX_MEM_SLOTS, &fe->mem_slots);
        for (unsigned i = 0; r == 0 && i < fe->mem.nregions; i++)
                if (fe->mem.regions[i].fd >= 0)
                        r = tell_region(fe, FE_ADD_MEM_REG, &fe->mem.regions[i]);
        return r;
}

int fe_region_add(struct front_end *fe, uint64_t gpa, uint64_t len, unsigned *region)
{
        int n = fe_mem_add(&fe->mem, gpa, len), r;

        if (n < 0)
                return n;
        if (fe->protocol & FE_PF_CONFIGURE_MEM_SLOTS)
                r = tell_region(fe, FE_ADD_MEM_REG, &fe->mem.regions[n]);
        else
                r = fe_set_mem_table(fe);
        if (r < 0)
                fe_mem_remove(&fe->mem, (unsigned)n);
        else
                *region = (unsigned)n;
        return r;
}

int fe_region_remove(struct front_end *fe, unsigned region)
{
        int r = 0;

        if (region == 0 || region >= fe->mem.nregions || fe->mem.regions[region].fd < 0)
                return -EINVAL;
        if (fe->protocol & FE_PF_CONFIGURE_MEM_SLOTS)
                r = tell_region(fe, FE_REM_MEM_REG, &fe->mem.regions[region]);
        fe_mem_remove(&fe->mem, region);
        if (!(fe->protocol & FE_PF_CONFIGURE_MEM_SLOTS))
                r = fe_set_mem_table(fe);
        return r;
}

static int tell_eventfds(struct front_end *fe, unsigned index)
{
        const struct fe_ring *ring = fe_queue_ring(fe->queues[index]);
        int r = tell_fd(fe, FE_SET_VRING_CALL, index, ring->call_fd);

        if (r == 0)
                r = tell_fd(fe, FE_SET_VRING_ERR, index, ring->err_fd);
        return r < 0 ? r : tell_fd(fe, FE_SET_VRING_KICK, index, ring->kick_fd);
}

int fe_kick_inband(struct front_end *fe, unsigned index)
{
        return tell_state(fe, FE_VRING_KICK, index, 0);
}

int fe_ring_start(struct front_end *fe, unsigned index, uint32_t base)
{
        struct fe_ring *ring = fe_queue_ring(fe->queues[index]);
        uint64_t one = 1;
        struct fe_msg addr = msg(FE_SET_VRING_ADDR, sizeof(addr.addr));
        int r;

        addr.addr.index = index;
        addr.addr.desc = (uintptr_t)ring->desc;
        addr.addr.used = (uintptr_t)ring->used;
        addr.addr.avail = (uintptr_t)ring->avail;
        r = tell_state(fe, FE_SET_VRING_NUM, index, ring->size);
        if (r == 0)
                r = tell_state(fe, FE_SET_VRING_BASE, index, base);
        if (r == 0)
                r = fe_tell(fe, &addr, NULL, 0);
        if (r == 0)
                r = fe->opts.inband ? fe_kick_inband(fe, index) : tell_eventfds(fe, index);
        if (r == 0 && fe->features & FE_F_PROTOCOL_FEATURES)
                r = fe_ring_enable(fe, index, true);
        /* a ring starts with its first kick; entries that were shown before it stopped must not wait for the next one */
        if (r == 0 && (uint16_t)fe_queue_base(fe->queues[index]) != (uint16_t)base && write(ring->kick_fd, &one, sizeof(one)) < 0)
                r = -errno;
        return r;
}

int fe_ring_stop(struct front_end *fe, unsigned index, uint32_t *base)
{
        struct fe_msg m = msg(FE_GET_VRING_BASE, sizeof(m.state));
        int r;

        m.state.index = index;
        r = fe_wire_call(fe->sock, &m, NULL, 0, fe->opts.timeout_ms);
        if (r < 0)
                return err_note(r, "GET_VRING_BASE of queue %u got no answer: %s", index, strerror(-r));
        if (m.size != sizeof(m.state) || m.state.index != index || (m.state.num > UINT16_MAX && !is_packed(fe)))
                return err_note(-EPROTO, "GET_VRING_BASE of queue %u was answered with %u bytes, queue %u, index %u",
                                index, m.size, m.state.index, m.state.num);
        *base = m.state.num;
        return 0;
}

int fe_ring_enable(struct front_end *fe, unsigned index, bool on)
{
        return tell_state(fe, FE_SET_VRING_ENABLE, index, on);
}

bool fe_ring_broken(struct front_end *fe, unsigned index)
{
        uint64_t count;

        return read(fe_queue_ring(fe->queues[index])->err_fd, &count, sizeof(count)) == sizeof(count);
}

static int make_queues(struct front_end *fe)
{
        struct fe_queue_opts o = { .size = fe->opts.queue_size, .packed = fe->opts.packed,
                                   .max_segs = fe->opts.max_segs, .seg_len = fe->opts.seg_len };
        int r = 0;

        for (o.index = 0; r == 0 && o.index < fe->opts.num_queues; o.index++)
                r = fe_queue_new(&fe->mem, &o, &fe->queues[o.index]);
        return r;
}

/* Region 0 holds the rings and what the caller asked for. */
static int make_memory(struct front_end *fe)
{
        uint64_t segs = fe->opts.max_segs ? fe->opts.max_segs : 4;
        uint64_t per_queue = fe->opts.queue_size * (16 + 2 + 8 + 64 + (segs + 2) * 16) + 5 * 4096;
        int r = fe_mem_add(&fe->mem, 0, round_up(fe->opts.num_queues * per_queue + fe->opts.mem_len, 4096));

        return r < 0 ? r : make_queues(fe);
}

/* A fresh record of requests in flight, or the one that we have. */
static int settle_inflight(struct front_end *fe)
{
        struct fe_msg m = msg(FE_GET_INFLIGHT_FD, sizeof(m.inflight));
        int r;

        if (!(fe->protocol & FE_PF_INFLIGHT_SHMFD))
                return 0;
        if (fe->inflight.fd < 0) {
                m.inflight.num_queues = (uint16_t)fe->opts.num_queues;
                m.inflight.queue_size = (uint16_t)fe->opts.queue_size;
                r = fe_wire_call_fd(fe->sock, &m, &fe->inflight.fd, fe->opts.timeout_ms);
                if (r < 0)
                        return err_prefix(r, "GET_INFLIGHT_FD: ");
                fe->inflight.len = m.inflight.len;
                fe->inflight.offset = m.inflight.offset;
        }
        m = msg(FE_SET_INFLIGHT_FD, sizeof(m.inflight));
        m.inflight.len = fe->inflight.len;
        m.inflight.offset = fe->inflight.offset;
        m.inflight.num_queues = (uint16_t)fe->opts.num_queues;
        m.inflight.queue_size = (uint16_t)fe->opts.queue_size;
        return fe_tell(fe, &m, &fe->inflight.fd, 1);
}

static int wait_for_back_end(struct front_end *fe)
{
        struct pollfd p = { .fd = fe->opts.listen_fd, .events = POLLIN };
        int fd;

        if (poll(&p, 1, fe->opts.timeout_ms) != 1)
                return err_note(-ETIMEDOUT, "no back end connected");
        fd = accept4(p.fd, NULL, NULL, SOCK_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int connect_and_negotiate(struct front_end *fe)
{
        int r = fe->opts.listen_fd ? wait_for_back_end(fe) : fe_wire_connect(fe->path);

        if (r < 0)
                return r;
        fe->sock = r;
        r = negotiate(fe);
        if (r == 0)
                r = settle_inflight(fe);
        return r < 0 ? r : tell_memory(fe);
}

/*
 * The record as the specification draws it: 16 bytes for each queue, 16 for each entry (32 and 32 of a packed ring), the flag
 * comes first.
 */
int fe_recorded(struct front_end *fe, unsigned index)
{
        uint64_t part = fe->inflight.len / fe->opts.num_queues, len = is_packed(fe) ? 32 : 16;
        int n = 0;

        if (fe->inflight.fd < 0)
                return -ENOTSUP;
        for (unsigned i = 0; i < fe->opts.queue_size; i++) {
                uint8_t flag;

                if (pread(fe->inflight.fd, &flag, 1, (off_t)(fe->inflight.offset + index * part + len + len * i)) != 1)
                        return -EIO;
                n += flag == 1;
        }
        return n;
}

int fe_resume(struct front_end *fe)
{
        int r;

        if (fe->inflight.fd < 0)
                return err_note(-ENOTSUP, "the back end kept no record of requests in flight");
        r = connect_and_negotiate(fe);
        for (unsigned i = 0; r == 0 && i < fe->opts.num_queues; i++)
                r = fe_ring_start(fe, i, fe_queue_resume_base(fe->queues[i]));
        if (r < 0)
                fe_disconnect(fe);
        return r;
}

int fe_connect(struct front_end *fe)
{
        int r;

        closep(&fe->inflight.fd); /* empty rings, empty record */
        fe->inflight.fd = -1;
        r = connect_and_negotiate(fe);
        for (unsigned i = 0; r == 0 && i < fe->opts.num_queues; i++) {
                r = fe_queue_reset(fe->queues[i], fe->features & FE_F_INDIRECT_DESC, fe->features & FE_F_EVENT_IDX);
                if (r == 0)
                        r = fe_ring_start(fe, i, fe_queue_base(fe->queues[i]));
        }
        if (r < 0)
                fe_disconnect(fe);
        return r;
}

void fe_disconnect(struct front_end *fe)
{
        closep(&fe->sock);
        closep(&fe->backend_sock);
        fe->sock = fe->backend_sock = -1;
}

static void fe_closep(struct front_end **fe)
{
        fe_close(*fe);
}

int fe_open(const struct fe_opts *opts, struct front_end **ret)
{
        AUTO(fe_closep) struct front_end *fe = calloc(1, sizeof(*fe));
        int r;

        if (!fe)
                return -ENOMEM;
        fe->sock = fe->backend_sock = fe->inflight.fd = -1;
        fe_mem_init(&fe->mem);
        fe->opts = *opts;
        fe->opts.num_queues = opts->num_queues ? opts->num_queues : 1;
        fe->opts.queue_size = opts->queue_size ? opts->queue_size : 128;
        fe->opts.mem_len = opts->mem_len ? opts->mem_len : 16 << 20;
        fe->opts.timeout_ms = opts->timeout_ms ? opts->timeout_ms : 10000;
        fe->path = strdup(opts->path ?: "");
        if (!fe->path)
                return -ENOMEM;
        if (fe->opts.num_queues > QUEUES_MAX)
                return err_note(-EINVAL, "%u queues: at most %d", opts->num_queues, QUEUES_MAX);
        r = make_memory(fe);
        if (r == 0)
                r = fe_connect(fe);
        if (r == 0)
                *ret = TAKE(fe, NULL);
        return r;
}

void fe_close(struct front_end *fe)
{
        if (!fe)
                return;
        fe_disconnect(fe);
        closep(&fe->inflight.fd);
        for (unsigned i = 0; i < fe->opts.num_queues && i < QUEUES_MAX; i++)
                fe_queue_free(fe->queues[i]);
        fe_mem_finish(&fe->mem);
        free(fe->path);
        free(fe);
}

int fe_alive(struct front_end *fe, int timeout_ms)
{
        struct pollfd p = { .fd = fe->sock, .events = POLLRDHUP };

        if (poll(&p, 1, timeout_ms) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR))
                return -ECONNRESET;
        return 0;
}

int fe_backend_message(struct front_end *fe, int timeout_ms)
{
        struct fe_msg m;
        int request, r;

        if (fe->backend_sock < 0)
                return -EINVAL;
        r = fe_wire_recv(fe->backend_sock, &m, NULL, NULL, timeout_ms);
        if (r < 0)
                return r;
        request = (int)m.request;
        if (m.flags & FE_NEED_REPLY) {
                m.flags = FE_VERSION | FE_REPLY;
                m.size = sizeof(m.u64);
                m.u64 = 0;
                r = fe_wire_send(fe->backend_sock, &m, NULL, 0);
        }
        return r < 0 ? r : request;
}

const struct fe_disk *fe_disk(const struct front_end *fe)
{
        return &fe->disk;
}

uint64_t fe_features(const struct front_end *fe)
{
        return fe->features;
}

uint64_t fe_protocol_features(const struct front_end *fe)
{
        return fe->protocol;
}

unsigned fe_max_queues(const struct front_end *fe)
{
        return fe->max_queues;
}

int fe_socket(const struct front_end *fe)
{
        return fe->sock;
}

struct fe_queue *fe_queue(struct front_end *fe, unsigned index)
{
        return index < fe->opts.num_queues ? fe->queues[index] : NULL;
}

struct fe_mem *fe_mem(struct front_end *fe)
{
        return &fe->mem;
}

void *fe_alloc(struct front_end *fe, size_t len, size_t align)
{
        return fe_mem_alloc(&fe->mem, 0, len, align);
}

uint64_t fe_gpa(const struct front_end *fe, const void *p)
{
        return fe_mem_gpa(&fe->mem, p);
}
