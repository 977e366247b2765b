/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A front end's whole session: how far the handshake has come, then steps: messages with any payload and any fds, bytes
 * that are no message, requests of the guest, completions, time. Nothing crashes, hangs or leaks an fd; a session whose
 * peer hung up ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <sys/socket.h>

#include "common/err.h"
#include "fuzz.h"
#include "tests/unit/packed_driver.h"
#include "tests/unit/session_fixture.h"

#define STEPS 40u
#define PAYLOAD_MAX 300u
#define FDS_MAX 10u

static bool packed; /* the device offers it, and the front end that we begin with takes it */
static uint64_t protocol; /* features that it takes */
static int channel[2]; /* for SET_BACKEND_REQ_FD: ours, and theirs */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        return fixture_begin(NULL);
}

static void drain_answers(void)
{
        char buf[512];

        while (recv(peer, buf, sizeof(buf), MSG_DONTWAIT) > 0 || recv(channel[0], buf, sizeof(buf), MSG_DONTWAIT) > 0)
                ;
}

/* A payload as a front end would send it, for a start; the input is laid over it. */
static uint32_t usual(uint32_t request, uint8_t *to)
{
        struct vu_vring_addr addr = { .desc = GUEST_USER + DESC, .avail = GUEST_USER + AVAIL, .used = GUEST_USER + USED };
        struct vu_mem_reg reg = { .region = guest_layout[2] };
        struct vu_mem_table table = { .nregions = GUEST_REGIONS };
        struct vu_vring_state state = { 0, request == VU_SET_VRING_NUM ? NUM : 0 };
        uint64_t features = (packed ? PACKED_FEATURES : FEATURES) | 1ull << VU_F_LOG_ALL;
        uint64_t u64 = request == VU_SET_FEATURES ? features : request == VU_SET_PROTOCOL_FEATURES ? protocol : 0;

        switch (request) {
        case VU_IOTLB_MSG: /* where the ring is, and where its first descriptors lead: see start_behind_iommu() */
                memcpy(to, &(struct vu_iotlb){ GUEST_USER + 0x10000, 0x4000, GUEST_USER + 0x10000, 3, VU_IOTLB_UPDATE, { 0 } },
                       sizeof(struct vu_iotlb));
                return sizeof(struct vu_iotlb);
        case VU_SET_DEVICE_STATE_FD:
                return sizeof(struct vu_device_state);
        case VU_SET_LOG_BASE: /* the guest's own memory for a log: why not */
                memcpy(to, &(struct vu_log){ GUEST_FILE, 0 }, sizeof(struct vu_log));
                return sizeof(struct vu_log);
        case VU_SET_VRING_ADDR:
                addr.flags = VU_VRING_F_LOG;
                memcpy(to, &addr, sizeof(addr));
                return sizeof(addr);
        case VU_ADD_MEM_REG:
        case VU_REM_MEM_REG:
                memcpy(to, &reg, sizeof(reg));
                return sizeof(reg);
        case VU_SET_MEM_TABLE:
                memcpy(table.region, guest_layout, sizeof(guest_layout));
                memcpy(to, &table, 8 + sizeof(guest_layout));
                return 8 + sizeof(guest_layout);
        case VU_GET_CONFIG:
        case VU_SET_CONFIG:
                memcpy(to, &(uint32_t[]){ 0, 8, 0 }, 12);
                return request == VU_SET_CONFIG ? 20 : 12;
        case VU_SET_VRING_NUM:
        case VU_SET_VRING_BASE:
        case VU_GET_VRING_BASE:
        case VU_SET_VRING_ENABLE:
        case VU_VRING_KICK:
                state.num += request == VU_SET_VRING_ENABLE;
                memcpy(to, &state, sizeof(state));
                return sizeof(state);
        case VU_SET_FEATURES:
        case VU_SET_PROTOCOL_FEATURES:
        case VU_SET_VRING_KICK:
        case VU_SET_VRING_CALL:
        case VU_SET_VRING_ERR:
                memcpy(to, &u64, sizeof(u64));
                return sizeof(u64);
        default:
                return 0;
        }
}

/* How many fds and which: 2 bits each. */
static unsigned pick_fds(uint8_t how, int *fds)
{
        const int choice[] = { memfd, kick, call, channel[1] };
        unsigned n = how % 8 == 7 ? FDS_MAX : how % 8;

        for (unsigned i = 0; i < n; i++)
                fds[i] = choice[((how >> 3) + i * (how >> 5)) & 3];
        return n;
}

static void send_message(struct fuzz_input *in)
{
        uint8_t request = fuzz_u8(in), how = fuzz_u8(in), payload[PAYLOAD_MAX] = { 0 };
        uint32_t len = usual(request, payload), flags = VU_VERSION | (how & 1 ? VU_NEED_REPLY : 0);
        unsigned changes = how >> 1 & 3;
        int fds[FDS_MAX];
        unsigned nfds = 0;

        if (how & 8)
                flags = fuzz_u8(in);
        if (how & 16)
                len = fuzz_u16(in) % PAYLOAD_MAX;
        if (how & 32)
                nfds = pick_fds(fuzz_u8(in), fds);
        else if (request == VU_SET_DEVICE_STATE_FD)
                nfds = pick_fds(1, fds);
        else if (request == VU_SET_LOG_BASE || request == VU_SET_LOG_FD)
                nfds = pick_fds(request == VU_SET_LOG_BASE ? 1 : 1 | 1 << 3, fds);
        else if (request == VU_SET_BACKEND_REQ_FD)
                nfds = pick_fds(1 | 3 << 3, fds);
        else if (request == VU_SET_MEM_TABLE || request == VU_ADD_MEM_REG)
                nfds = pick_fds(request == VU_ADD_MEM_REG ? 1 : GUEST_REGIONS, fds);
        else if (request >= VU_SET_VRING_KICK && request <= VU_SET_VRING_ERR)
                nfds = pick_fds(1 | 1 << 3, fds);
        while (changes--) {
                uint8_t where = fuzz_u8(in), n = 1 + fuzz_u8(in) % 8;

                fuzz_bytes(in, payload + (where < PAYLOAD_MAX - n ? where : 0), n);
        }
        send_raw(request, flags, payload, len, fds, nfds);
}

/* Half of the time it is the answer that is waited for. */
static void send_on_channel(struct fuzz_input *in)
{
        struct {
                struct vu_header h;
                uint64_t v;
        } __attribute__((packed)) a = { { VU_BACK_CONFIG_CHANGE, VU_VERSION | VU_REPLY, 8 }, 0 };
        uint8_t len = fuzz_u8(in), where = fuzz_u8(in);
        ssize_t ignored;

        if (where & 0x80) {
                a.h.request = VU_BACK_IOTLB_MSG;
                a.v = where & 1;
        }

        if (len & 0x80)
                fuzz_bytes(in, (uint8_t *)&a + where % sizeof(a), 1);
        len &= 0x7f;
        ignored = send(channel[0], &a, len < sizeof(a) ? len : sizeof(a), MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)ignored;
}

static void send_bytes(struct fuzz_input *in)
{
        uint8_t bytes[64];
        size_t len = fuzz_u8(in) % sizeof(bytes);
        ssize_t ignored;

        fuzz_bytes(in, bytes, len);
        ignored = send(peer, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)ignored;
}

static void one_step(struct fuzz_input *in)
{
        switch (fuzz_u8(in) % 8) {
        case 0:
                if (packed)
                        pd_offer(&packed_driver, fuzz_u8(in) % (NUM + 1), 1);
                else
                        offer(fuzz_u8(in) % (NUM + 1));
                kick_it();
                break;
        case 1:
                fuzz_bytes(in, at(DESC + 16 * (fuzz_u8(in) % NUM)), 16);
                break;
        case 2:
                hold = true;
                break;
        case 3:
                release_all();
                break;
        case 4:
                send_bytes(in);
                break;
        case 6:
                send_on_channel(in);
                break;
        case 5:
                turn();
                drain_answers();
                break;
        default:
                send_message(in);
        }
}

/* Its ring runs, and its memory must be looked up first. */
static void start_behind_iommu(void)
{
        connect_session();
        handshake(FEATURES | 1ull << VIRTIO_F_ACCESS_PLATFORM);
        set_memory();
        say_u64(VU_SET_BACKEND_REQ_FD, 0, channel[1]);
        start_ring(0);
        say_state(VU_SET_VRING_ENABLE, 0, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct fuzz_input in = { data, size };
        uint8_t far = fuzz_u8(&in);

        setup(NULL);
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) < 0)
                abort();
        packed = far & 16;
        protocol = ALL_PF | (far & 32 ? INBAND_PF : 0);
        if (packed) {
                device_offers(PACKED_FEATURES);
                pd_init(&packed_driver, at(PD_RING), NUM); /* it may offer before its ring runs, or with none */
        }
        if (far % 32 == 31) {
                start_behind_iommu();
        } else if (far % 4 == 0) {
                connect_session();
        } else if (far % 4 == 1) {
                connect_session();
                handshake_with(packed ? PACKED_FEATURES : FEATURES, protocol);
        } else if (packed) {
                running_packed_session(NUM);
        } else {
                running_session();
        }
        refuse_start = far & 8;
        for (unsigned i = 0; i < STEPS && in.left; i++)
                one_step(&in);
        hold = false;
        turn();
        drain_answers();
        release_all();
        disconnect();
        close(channel[0]);
        close(channel[1]);
        if (nheld || stops > starts)
                fuzz_fail("%u requests held, %u starts, %u stops", nheld, starts, stops);
        if (teardown(NULL) < 0)
                fuzz_fail("an fd leaked");
        err_clear();
        return 0;
}
