/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * front_end.h - our own vhost-user-blk front end: a driver and its guest memory, without a VM, root or KVM.
 *
 *     fe_open(&(struct fe_opts){ .path = "/run/disk.sock", .num_queues = 2 }, &fe);
 *     buf = fe_alloc(fe, 4096, 4096);
 *     io = (struct fe_io){ .type = FE_READ, .gpa = fe_gpa(fe, buf), .len = 4096 };
 *     fe_do(fe_queue(fe, 0), &io, 5000);
 *     fe_close(fe);
 *
 * After fe_open() every ring is started and enabled. The calls here are for one thread; the queues (fe_queue.h) may be
 * used by other threads meanwhile, except where a call says that they must rest. Requests travel with fe_queue.h; any
 * bytes and fds that a test wants to say can go over fe_socket() with fe_wire.h.
 * Errors: negative errno with a sentence in err_note. -ECONNRESET: the back end closed the connection; -ETIMEDOUT: it
 * did not answer a message within timeout_ms; -EPROTO: an answer that the specification does not allow, or a refusal
 * (REPLY_ACK other than 0).
 */
#pragma once

#include "fe_mem.h"
#include "fe_queue.h"
#include "fe_wire.h"

struct front_end;

struct fe_opts {
        const char *path;        /* the back end's socket; kept for reconnects, the caller's string may go */
        /* or a listening socket, the caller's: we wait until a back end connects to it; 0: none */
        int listen_fd;
        unsigned num_queues;     /* 0: 1 */
        unsigned queue_size;     /* 0: 128 */
        unsigned max_segs;       /* see struct fe_queue_opts */
        uint32_t seg_len;
        uint64_t mem_len;        /* bytes of region 0, besides what the rings need; 0: 16 MiB */
        bool packed;             /* packed rings; -ENOTSUP when the back end has none */
        bool inband;             /* kicks and calls are messages: fe_kick_inband(), fe_backend_message() */
        uint64_t features_off;   /* feature bits not to take although offered */
        uint64_t features_on;    /* the same the other way: to take although they were not offered */
        uint64_t protocol_off;   /* the same for protocol features */
        int timeout_ms;          /* for an answer to a message; 0: 10 000 */
};

/* What GET_CONFIG said, in host byte order (virtio 5.2.4). Fields behind the end of a short answer are 0. */
struct fe_disk {
        uint64_t capacity;      /* bytes */
        uint32_t size_max, seg_max, block_size;
        uint8_t physical_block_exp, wce;
        uint16_t num_queues;
        uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment; /* sectors: 512 bytes */
        uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
        uint8_t write_zeroes_may_unmap;
};

int fe_open(const struct fe_opts *opts, struct front_end **ret);
void fe_close(struct front_end *fe); /* just closes, as a killed front end does; NULL is fine */

const struct fe_disk *fe_disk(const struct front_end *fe);
uint64_t fe_features(const struct front_end *fe);          /* as negotiated */
uint64_t fe_protocol_features(const struct front_end *fe);
unsigned fe_max_queues(const struct front_end *fe);        /* GET_QUEUE_NUM; 1 without MQ */
int fe_socket(const struct front_end *fe);                 /* -1 while disconnected */
struct fe_queue *fe_queue(struct front_end *fe, unsigned index);

/* Guest memory. fe_alloc() is from region 0; see fe_mem.h for the others. NULL: full. */
struct fe_mem *fe_mem(struct front_end *fe);
void *fe_alloc(struct front_end *fe, size_t len, size_t align);
uint64_t fe_gpa(const struct front_end *fe, const void *p);

/*
 * Leave and come back. All queues rest. What was in flight stays in flight until fe_queue_unanswered() hands it out,
 * which must be done before fe_connect(): it begins with empty rings. fe_connect() negotiates anew; -EPROTO when the
 * disk has another size than before.
 */
void fe_disconnect(struct front_end *fe);

/*
 * Come back to the rings as they are: what is in flight stays so, and the back end's record of it (INFLIGHT_SHMFD) goes
 * with us, so that each request is answered once. All queues rest. -ENOTSUP: the back end keeps no record.
 */
int fe_resume(struct front_end *fe);

/* How many requests of the queue the record has in flight; -ENOTSUP: there is none. */
int fe_recorded(struct front_end *fe, unsigned index);

int fe_connect(struct front_end *fe);

/* Is the back end still there? 0; -ECONNRESET when it hung up. Waits up to @timeout_ms for that. */
int fe_alive(struct front_end *fe, int timeout_ms);

/* Has the back end written to the queue's error eventfd since the last look? */
bool fe_ring_broken(struct front_end *fe, unsigned index);

/*
 * Rings by hand. fe_ring_stop(): GET_VRING_BASE; the queue rests; what the back end took from the ring is answered when
 * it returns, the rest stays on the ring; @base gets the answer. fe_ring_start(): NUM, BASE, ADDR, CALL, ERR, KICK and
 * ENABLE; the ring goes on from @base, with a kick if something waits there. fe_ring_enable(): SET_VRING_ENABLE; the
 * queue may run.
 */
int fe_ring_stop(struct front_end *fe, unsigned index, uint32_t *base);
int fe_ring_start(struct front_end *fe, unsigned index, uint32_t base);
int fe_ring_enable(struct front_end *fe, unsigned index, bool on);

/*
 * The memory table while rings run. A region is added behind the others or taken away (not region 0, where the rings
 * are; no request may use it). With CONFIGURE_MEM_SLOTS these are ADD_MEM_REG and REM_MEM_REG, otherwise SET_MEM_TABLE.
 * fe_set_mem_table() tells the whole table again (at most FE_TABLE_MAX regions).
 */
int fe_region_add(struct front_end *fe, uint64_t gpa, uint64_t len, unsigned *region);
int fe_region_remove(struct front_end *fe, unsigned region);
int fe_set_mem_table(struct front_end *fe);

/* Reads the config space again. */
int fe_get_config(struct front_end *fe);

/* SET_CONFIG of the write cache byte: the only field a driver may write. */
int fe_set_wce(struct front_end *fe, bool on);

/* VRING_KICK: the queue has something new, which fe_kick() has shown. */
int fe_kick_inband(struct front_end *fe, unsigned index);

/* The next message of the back end's own channel, acknowledged when it asks for that: its number, or -ETIMEDOUT. */
int fe_backend_message(struct front_end *fe, int timeout_ms);

/**
 * fe_tell - one message with an answer that only says yes or no.
 * Sends @m; with REPLY_ACK asks for the answer and waits: 0, or -EPROTO if it is not 0. Without REPLY_ACK: sent is 0.
 */
int fe_tell(struct front_end *fe, struct fe_msg *m, const int *fds, unsigned nfds);
