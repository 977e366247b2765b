/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * messages.h - the vhost-user protocol as it lies on the socket (QEMU docs/interop/vhost-user). Native endian.
 * Only what this back end answers; anything else is an unknown message and ends the session.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum vu_request {
        VU_GET_FEATURES = 1,
        VU_SET_FEATURES = 2,
        VU_SET_OWNER = 3,
        VU_RESET_OWNER = 4,
        VU_SET_MEM_TABLE = 5,
        VU_SET_LOG_BASE = 6,
        VU_SET_LOG_FD = 7,
        VU_SET_VRING_NUM = 8,
        VU_SET_VRING_ADDR = 9,
        VU_SET_VRING_BASE = 10,
        VU_GET_VRING_BASE = 11,
        VU_SET_VRING_KICK = 12,
        VU_SET_VRING_CALL = 13,
        VU_SET_VRING_ERR = 14,
        VU_GET_PROTOCOL_FEATURES = 15,
        VU_SET_PROTOCOL_FEATURES = 16,
        VU_GET_QUEUE_NUM = 17,
        VU_SET_VRING_ENABLE = 18,
        VU_SET_BACKEND_REQ_FD = 21,
        VU_IOTLB_MSG = 22,
        VU_GET_CONFIG = 24,
        VU_SET_CONFIG = 25,
        VU_GET_INFLIGHT_FD = 31,
        VU_SET_INFLIGHT_FD = 32,
        VU_RESET_DEVICE = 34,
        VU_VRING_KICK = 35,
        VU_GET_MAX_MEM_SLOTS = 36,
        VU_ADD_MEM_REG = 37,
        VU_REM_MEM_REG = 38,
        VU_SET_STATUS = 39,
        VU_GET_STATUS = 40,
        VU_SET_DEVICE_STATE_FD = 42,
        VU_CHECK_DEVICE_STATE = 43,
        VU_REQUEST_MAX,
};

/* From us to the front end, on the back-end channel. */
enum vu_back_request {
        VU_BACK_IOTLB_MSG = 1,
        VU_BACK_CONFIG_CHANGE = 2,
        VU_BACK_VRING_CALL = 4,
        VU_BACK_VRING_ERR = 5,
};

enum vu_protocol_feature {
        VU_PF_MQ = 0,
        VU_PF_LOG_SHMFD = 1,
        VU_PF_REPLY_ACK = 3,
        VU_PF_BACKEND_REQ = 5,
        VU_PF_CONFIG = 9,
        VU_PF_INFLIGHT_SHMFD = 12,
        VU_PF_RESET_DEVICE = 13,
        VU_PF_INBAND_NOTIFICATIONS = 14,
        VU_PF_CONFIGURE_MEM_SLOTS = 15,
        VU_PF_STATUS = 16,
        VU_PF_DEVICE_STATE = 19,
};

#define VU_F_PROTOCOL_FEATURES 30 /* the virtio feature bit that stands for "protocol features exist" */
#define VU_F_LOG_ALL 26           /* likewise: "mark what you write in the dirty log" */

/* header.flags */
#define VU_VERSION 1u
#define VU_VERSION_MASK 3u
#define VU_REPLY (1u << 2)
#define VU_NEED_REPLY (1u << 3)

/* payload u64 of SET_VRING_KICK, _CALL, _ERR */
#define VU_VRING_INDEX_MASK 0xffu
#define VU_VRING_NO_FD (1u << 8)

#define VU_MAX_FDS 8      /* SET_MEM_TABLE brings one for each region */
#define VU_TABLE_REGIONS 8 /* in one SET_MEM_TABLE */
#define VU_CONFIG_MAX 256 /* bytes of config space one message can carry */

struct vu_header {
        uint32_t request, flags, size; /* size: bytes of payload that follow */
};
struct vu_region {
        uint64_t guest_addr, size, user_addr, mmap_offset;
};
struct vu_mem_table {
        uint32_t nregions, padding;
        struct vu_region region[VU_TABLE_REGIONS];
};
struct vu_mem_reg {
        uint64_t padding;
        struct vu_region region;
};
struct vu_vring_state {
        uint32_t index, num;
};
struct vu_vring_addr {
        uint32_t index, flags;
        uint64_t desc, used, avail, log; /* addresses of the front end's process */
};
enum vu_iotlb_type { VU_IOTLB_MISS = 1, VU_IOTLB_UPDATE = 2, VU_IOTLB_INVALIDATE = 3 };
struct vu_iotlb {
        uint64_t iova, size, user_addr;
        uint8_t perm; /* 1 read, 2 write */
        uint8_t type;
        uint8_t padding[6]; /* some send it, some do not */
};
#define VU_IOTLB_MIN offsetof(struct vu_iotlb, padding)

#define VU_VRING_F_LOG 1u /* vu_vring_addr.flags: mark writes to the used ring, too, which lies at guest address log */
struct vu_log {
        uint64_t mmap_size, mmap_offset;
};
struct vu_device_state {
        uint32_t direction, phase;
};
struct vu_config {
        uint32_t offset, size, flags;
        uint8_t region[VU_CONFIG_MAX];
};
struct vu_inflight {
        uint64_t mmap_size, mmap_offset;
        uint16_t num_queues, queue_size;
        uint32_t padding; /* some send it, some do not */
};
#define VU_INFLIGHT_MIN offsetof(struct vu_inflight, padding)
#define VU_CONFIG_HEADER offsetof(struct vu_config, region)

union vu_payload {
        uint64_t u64;
        struct vu_mem_table mem_table;
        struct vu_mem_reg mem_reg;
        struct vu_vring_state state;
        struct vu_vring_addr addr;
        struct vu_log log;
        struct vu_iotlb iotlb;
        struct vu_device_state state_transfer;
        struct vu_config config;
        struct vu_inflight inflight;
};
union vu_back_payload {
        uint64_t u64;
        struct vu_vring_state state;
        struct vu_iotlb iotlb;
};
