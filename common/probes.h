/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * probes.h - places where bpftrace, perf or SystemTap can look at a running daemon (USDT, provider "vdiskd"). One no-op
 * instruction each while nobody does; nothing at all when built without sys/sdt.h. docs/vdiskd.8.scd, PROBES, lists
 * them.
 */
#pragma once

#include "config.h"

#if HAVE_USDT
#include <sys/sdt.h>
#define PROBE1(name, a) DTRACE_PROBE1(vdiskd, name, a)
#define PROBE2(name, a, b) DTRACE_PROBE2(vdiskd, name, a, b)
#define PROBE3(name, a, b, c) DTRACE_PROBE3(vdiskd, name, a, b, c)
#define PROBE5(name, a, b, c, d, e) DTRACE_PROBE5(vdiskd, name, a, b, c, d, e)
#else
#define PROBE1(name, a) do { } while (0)
#define PROBE2(name, a, b) do { } while (0)
#define PROBE3(name, a, b, c) do { } while (0)
#define PROBE5(name, a, b, c, d, e) do { } while (0)
#endif
