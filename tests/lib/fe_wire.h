/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fe_wire.h - vhost-user messages as a front end sends them, and the raw level below: any bytes with any fds.
 *
 * Numbers are from the vhost-user specification ("Front-end message types", "Protocol features"); they are written down
 * here a second time, apart from the back end's own, so that one typo cannot agree with itself.
 * Everything is native endian, as the specification says. Any thread, one at a time a socket. Errors are negative
 * errno.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum fe_request {
        FE_GET_FEATURES = 1, FE_SET_FEATURES = 2, FE_SET_OWNER = 3, FE_RESET_OWNER = 4, FE_SET_MEM_TABLE = 5,
        FE_SET_LOG_BASE = 6, FE_SET_LOG_FD = 7, FE_SET_VRING_NUM = 8, FE_SET_VRING_ADDR = 9, FE_SET_VRING_BASE = 10,
        FE_GET_VRING_BASE = 11, FE_SET_VRING_KICK = 12, FE_SET_VRING_CALL = 13, FE_SET_VRING_ERR = 14,
        FE_GET_PROTOCOL_FEATURES = 15, FE_SET_PROTOCOL_FEATURES = 16, FE_GET_QUEUE_NUM = 17, FE_SET_VRING_ENABLE = 18,
        FE_SET_BACKEND_REQ_FD = 21, FE_GET_CONFIG = 24, FE_SET_CONFIG = 25, FE_GET_INFLIGHT_FD = 31,
        FE_SET_INFLIGHT_FD = 32, FE_RESET_DEVICE = 34, FE_VRING_KICK = 35, FE_GET_MAX_MEM_SLOTS = 36, FE_ADD_MEM_REG = 37,
        FE_REM_MEM_REG = 38, FE_SET_STATUS = 39, FE_GET_STATUS = 40,
        FE_REQUEST_LAST = 44 /* the highest number any specification has used */
};

enum fe_backend_request { FE_BACKEND_CONFIG_CHANGE = 2, FE_BACKEND_VRING_CALL = 4, FE_BACKEND_VRING_ERR = 5 };

/* Bits of GET/SET_FEATURES beyond those of the device. */
#define FE_F_LOG_ALL (1ull << 26)
#define FE_F_INDIRECT_DESC (1ull << 28)
#define FE_F_EVENT_IDX (1ull << 29)
#define FE_F_PROTOCOL_FEATURES (1ull << 30)
#define FE_F_VERSION_1 (1ull << 32)
#define FE_F_RING_PACKED (1ull << 34)

/* Bits of GET/SET_PROTOCOL_FEATURES. */
#define FE_PF_MQ (1ull << 0)
#define FE_PF_LOG_SHMFD (1ull << 1)
#define FE_PF_REPLY_ACK (1ull << 3)
#define FE_PF_BACKEND_REQ (1ull << 5)
#define FE_PF_CONFIG (1ull << 9)
#define FE_PF_INFLIGHT_SHMFD (1ull << 12)
#define FE_PF_INBAND_NOTIFICATIONS (1ull << 14)
#define FE_PF_CONFIGURE_MEM_SLOTS (1ull << 15)

#define FE_VERSION 0x1u     /* flags bits 0-1 */
#define FE_REPLY 0x4u       /* flags bit 2 */
#define FE_NEED_REPLY 0x8u  /* flags bit 3 */
#define FE_VRING_NO_FD 0x100u /* SET_VRING_KICK/CALL/ERR: bits 0-7 are the index, bit 8: no fd comes with it */

#define FE_HEADER_LEN 12
#define FE_PAYLOAD_MAX 512
#define FE_TABLE_MAX 8  /* regions in SET_MEM_TABLE */
#define FE_FDS_MAX 64   /* more than any message may carry, so that a test can send too many */
#define FE_CONFIG_MAX 256

struct fe_wire_region {
        uint64_t gpa, len, user_addr, offset;
};

struct fe_msg {
        uint32_t request, flags, size; /* size: bytes of payload */
        union {
                uint64_t u64;
                struct { uint32_t index, num; } state;
                struct { uint32_t index, flags; uint64_t desc, used, avail, log; } addr;
                struct { uint32_t nregions, padding; struct fe_wire_region regions[FE_TABLE_MAX]; } table;
                struct { uint64_t padding; struct fe_wire_region region; } mem_reg;
                struct { uint32_t offset, size, flags; uint8_t bytes[FE_CONFIG_MAX]; } config;
                struct { uint64_t len, offset; uint16_t num_queues, queue_size; uint32_t padding; } inflight;
                uint8_t bytes[FE_PAYLOAD_MAX];
        } __attribute__((packed));
} __attribute__((packed));

/* A connected stream socket, the caller's to close, or -errno with a sentence. */
int fe_wire_connect(const char *path);

/* All of @len bytes, the fds with the first of them (@nfds <= FE_FDS_MAX). Never raises SIGPIPE. 0 or -errno. */
int fe_wire_send_bytes(int sock, const void *bytes, size_t len, const int *fds, unsigned nfds);

/* One whole message: header and m->size bytes of payload. */
int fe_wire_send(int sock, const struct fe_msg *m, const int *fds, unsigned nfds);

/**
 * fe_wire_recv - read one whole message into @m.
 * @fds: the fds that came with it, at most FE_FDS_MAX, the caller's to close; NULL: they are closed. @nfds: how many.
 * Returns 0; -ECONNRESET when the other side is gone; -ETIMEDOUT when it stays silent for @timeout_ms; -EPROTO with a
 * sentence when the header makes no sense.
 */
int fe_wire_recv(int sock, struct fe_msg *m, int *fds, unsigned *nfds, int timeout_ms);

/* Send @m and read its answer into @m. -EPROTO when something else comes back. */
int fe_wire_call(int sock, struct fe_msg *m, const int *fds, unsigned nfds, int timeout_ms);

/* Likewise for an answer that brings a file descriptor: *fd, the caller's. -EPROTO: it brings none, or several. */
int fe_wire_call_fd(int sock, struct fe_msg *m, int *fd, int timeout_ms);
