/* SPDX-License-Identifier: BSD-3-Clause */
/* metrics_address.h - where --metrics listens: unix:PATH, 127.0.0.1:PORT or [::1]:PORT. Never where other hosts can
 * reach it. */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

struct metrics_address {
        const char *path; /* of a Unix socket, within the text that was parsed; NULL: TCP, at */
        union {
                struct sockaddr sa;
                struct sockaddr_in in;
                struct sockaddr_in6 in6;
        } at;
        socklen_t len;
};

/* 0, or -EINVAL with a sentence. */
int metrics_address_parse(const char *text, struct metrics_address *ret);
