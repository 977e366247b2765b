/* SPDX-License-Identifier: BSD-3-Clause */
#include "vdiskd/metrics/metrics_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "vdiskd/config/option_values.h"

#define EXPECTED "expected unix:PATH, 127.0.0.1:PORT or [::1]:PORT"

static int unix_path(const char *text, const char *path)
{
        if (!*path)
                return err_note(-EINVAL, "--metrics=%s: the path is empty; " EXPECTED, text);
        if (strlen(path) > SOCKET_PATH_BYTES)
                return err_note(-EINVAL, "--metrics=%s: the path of a socket has at most %zu bytes", text, SOCKET_PATH_BYTES);
        return 0;
}

static int port(const char *text, const char *number, in_port_t *ret)
{
        char *end;
        unsigned long n = strtoul(number, &end, 10);

        if (*number < '0' || *number > '9' || *end || n < 1 || n > 65535)
                return err_note(-EINVAL, "--metrics=%s: '%s' is no port; expected 1 to 65535", text, number);
        *ret = htons((in_port_t)n);
        return 0;
}

static int beyond_loopback(const char *text)
{
        return err_note(-EINVAL, "--metrics=%s: other hosts could reach that address, and nobody is asked who he is there; use "
                        "127.0.0.1 or [::1], with a reverse proxy in front if need be", text);
}

static int ip4(const char *text, const char *host, const char *number, struct metrics_address *ret)
{
        ret->at.in.sin_family = AF_INET;
        ret->len = sizeof(ret->at.in);
        if (inet_pton(AF_INET, host, &ret->at.in.sin_addr) != 1)
                return err_note(-EINVAL, "--metrics=%s: '%s' is no address; " EXPECTED, text, host);
        if (ntohl(ret->at.in.sin_addr.s_addr) >> 24 != 127)
                return beyond_loopback(text);
        return port(text, number, &ret->at.in.sin_port);
}

static int ip6(const char *text, const char *host, const char *number, struct metrics_address *ret)
{
        ret->at.in6.sin6_family = AF_INET6;
        ret->len = sizeof(ret->at.in6);
        if (inet_pton(AF_INET6, host, &ret->at.in6.sin6_addr) != 1)
                return err_note(-EINVAL, "--metrics=%s: '%s' is no IPv6 address; " EXPECTED, text, host);
        if (memcmp(&ret->at.in6.sin6_addr, &in6addr_loopback, sizeof(in6addr_loopback)))
                return beyond_loopback(text);
        return port(text, number, &ret->at.in6.sin6_port);
}

int metrics_address_parse(const char *text, struct metrics_address *ret)
{
        const char *colon = strrchr(text, ':'), *from = text + (*text == '['), *to;
        char host[INET6_ADDRSTRLEN];

        *ret = (struct metrics_address){ 0 };
        if (!strncmp(text, "unix:", 5)) {
                ret->path = text + 5;
                return unix_path(text, ret->path);
        }
        to = colon ? colon - (*text == '[') : NULL;
        if (!colon || to < from || (size_t)(to - from) >= sizeof(host) || (*text == '[' && *to != ']'))
                return err_note(-EINVAL, "--metrics=%s: " EXPECTED, text);
        memcpy(host, from, (size_t)(to - from));
        host[to - from] = '\0';
        return *text == '[' ? ip6(text, host, colon + 1, ret) : ip4(text, host, colon + 1, ret);
}
