/* SPDX-License-Identifier: BSD-3-Clause */
#include "takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/err.h"
#include "common/fault.h"
#include "common/log.h"
#include "config.h"
#include "vdiskd/disks/block_export.h"
#include "vdiskd/upgrade/handover.h"
#include "vdiskd/disks/node.h"

#define PATIENCE_SECONDS 300 /* the old one flushes first; when it is gone we are told at once */

bool takeover_asked(void)
{
        return getenv(HANDOVER_ENV) != NULL;
}

int takeover_socket(void)
{
        const char *text = getenv(HANDOVER_ENV);
        int fd = text ? atoi(text) : -1;

        unsetenv(HANDOVER_ENV);
        if (fd >= 0)
                fcntl(fd, F_SETFD, FD_CLOEXEC);
        return text ? fd : -1;
}

static int say(int sock, json_t *what)
{
        char *text = json_dumps(what, JSON_COMPACT);
        ssize_t n = text ? send(sock, text, strlen(text), MSG_NOSIGNAL) : -1;

        json_decref(what);
        free(text);
        return n < 0 ? err_note(-EPIPE, "the old process is gone") : 0;
}

static int hear_go(int sock)
{
        char word[16];
        ssize_t n = recv(sock, word, sizeof(word), 0);

        if (n != (ssize_t)strlen(HANDOVER_GO) || memcmp(word, HANDOVER_GO, (size_t)n))
                return err_note(-ECONNRESET, "the old process thought better of it");
        return 0;
}

static int try(int sock, struct disks *d, struct listener *control, struct listener *metrics)
{
        struct timeval patience = { .tv_sec = PATIENCE_SECONDS };
        struct parcel p = { 0 };
        int r = FAULT("takeover.hello");

        setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        if (r == 0)
                r = say(sock, json_pack("{s:s,s:i}", "vdiskd", VDISKD_VERSION, "reads", HANDOVER_VERSION));
        if (r == 0)
                r = parcel_receive(sock, &p);
        if (r == 0)
                r = FAULT("takeover.received");
        if (r == 0)
                r = handover_unpack(&p, d, control, metrics);
        if (r == 0)
                r = FAULT("takeover.ready");
        if (r == 0)
                r = say(sock, json_pack("{s:b}", "ready", 1));
        if (r == 0)
                r = hear_go(sock);
        parcel_finish(&p);
        return r;
}

void takeover(int sock, struct disks *d, struct listener *control, struct listener *metrics)
{
        int r = try(sock, d, control, metrics);

        if (r < 0) {
                log_err("cannot take over: %s", err_text(r));
                say(sock, json_pack("{s:o}", "error", json_string(err_text(r)) ?: json_string("?")));
                _exit(1);
        }
        close(sock);
}

void takeover_go(struct disks *d)
{
        block_exports_resume(d);
        log_info("took over %zu disk%s", disks_open(d), disks_open(d) == 1 ? "" : "s");
}
