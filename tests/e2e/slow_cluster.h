/* SPDX-License-Identifier: BSD-3-Clause */
/* slow_cluster.h - compressed clusters that cost as much processor time as they can, for few bytes of a hostile
 * image. */
#pragma once

/*
 * @path: a qcow2 image of 2 MiB clusters, all of which are compressed with deflate. Each gets another stream: blocks of
 * 64 bytes with tables of their own, which unpack; each fourth one blocks of nothing, which never end. Reading it is
 * all that may be done. Fails the test.
 */
void make_slow(const char *path);
