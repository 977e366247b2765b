/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * session_fixture.h - for tests of sessions: a front end on a socketpair, a device that keeps requests until told,
 * and a queue thread that is none (fake_qthread.c). One of each; setup and teardown go around every test.
 */
#pragma once

#include <linux/virtio_config.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "tests/unit/fake_qthread.h"
#include "tests/unit/guest_fixture.h"
#include "tests/unit/open_fds.h"
#include "vhost_user/session/messages.h"
#include "vhost_user/ring/ring.h"
#include "vhost_user/session/session.h"

#define QUEUES 4
#define NUM 8u
#define DESC 0x10000ull
#define AVAIL 0x11000ull
#define USED 0x12000ull
#define FEATURES (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VU_F_PROTOCOL_FEATURES)
#define INBAND_PF (1ull << 14)
/* All that is offered but in-band notifications. */
#define ALL_PF (1ull << 0 | 1ull << 1 | 1ull << 3 | 1ull << 5 | 1ull << 9 | 1ull << 12 | 1ull << 13 | 1ull << 15 | \
                1ull << 16 | 1ull << 19)

#define PACKED_FEATURES (FEATURES | 1ull << VIRTIO_F_RING_PACKED)

extern struct loop *loop;
extern struct qthread *thread;
extern struct session *session;
extern struct vu_device device;
extern int peer, memfd, kick, call;
extern unsigned ended;
extern uint8_t config[256];
extern struct ring_req *held[16];
extern unsigned nheld, starts, stops;
extern bool hold, refuse_start, no_memory;
extern struct packed_driver packed_driver; /* of packed_session() */
extern unsigned fds_before;

struct packet {
        struct vu_header h;
        union vu_payload p;
};

/* Around all tests: loop and thread. Around each: the guest's memory and eventfds; teardown finds fds that leaked. */
int fixture_begin(void **state);
int fixture_end(void **state);
int setup(void **state);
int teardown(void **state);

/* Everything that is ready now, and what comes of it. */
void turn(void);

/* The connection. disconnect() hangs up and sees the session end. */
void connect_session(void);
void on_ended(void *opaque); /* what every session is given to call */
void disconnect(void);

/* Messages. say: with need_reply; 0 done, 1 refused, -1 the session hung up, -2 silence. */
void send_raw(uint32_t request, uint32_t flags, const void *payload, uint32_t len, const int *fds, unsigned nfds);
bool answered(uint32_t request, struct packet *k);
uint64_t ask_u64(uint32_t request);
int say(uint32_t request, const void *payload, uint32_t len, int fd);
int say_u64(uint32_t request, uint64_t v, int fd);
int say_state(uint32_t request, uint32_t index, uint32_t num);

/* GET_INFLIGHT_FD of @n queues in a message of @len bytes: the fd, the caller's; -1: none came. */
int ask_inflight(uint16_t n, uint32_t len, struct packet *k);

/* Other features than FEATURES, until the end of the test; before handshake(). */
void device_offers(uint64_t features);

/* On the way to a running ring 0. */
void handshake(uint64_t features); /* takes ALL_PF */
void handshake_with(uint64_t features, uint64_t protocol_features);
int set_memory(void);
void *at(uint64_t addr);
int set_addr(uint32_t q);
void clear_ring(void);
void start_ring(uint32_t q);
void running_session(void);

/* The same with packed ring 0 of @num descriptors, not yet started: no kick, not enabled; and running. */
void packed_session(unsigned num);
void running_packed_session(unsigned num);

/* The guest's side of ring 0. */
void offer(uint16_t head);
uint16_t used_idx(void);
void kick_it(void);
uint64_t drain(int fd);

/* A device that sleeps: wakes and rests are counted and done when the test says so, one at a time. */
extern unsigned wakes, rests;
void sleepy(bool on); /* for sessions that come */
void turn_over(int res);

/* Complete what the device holds. */
void release_all(void);
