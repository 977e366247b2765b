/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * parcel.h - a description (JSON) and the open file descriptors that it names, from one process to another over a Unix
 * socket.
 *
 * In the description a descriptor is its number in the parcel. Who reads one treats it as strange: each getter checks
 * the type and the range, and says which key of what is wrong. One thread.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct parcel {
        json_t *root;
        int *fd; /* -1: somebody took it */
        unsigned nfds;
        bool received; /* the descriptors are the parcel's, and closed with it; else borrowed from whoever packed it */
        bool incomplete; /* something could not be packed: it will not be sent */
};

void parcel_finish(struct parcel *p); /* zero-initialised is fine */

/* --- packing ------------------------------------------------------------------------------------------------------ */

/* What stands for @fd in the description; -1 for -1. */
int parcel_put_fd(struct parcel *p, int fd);
void parcel_append(struct parcel *p, json_t *list, json_t *value); /* takes @value, which may be NULL by failure */
json_t *parcel_u64(uint64_t v); /* all 64 bits */
json_t *parcel_bytes(const void *bytes, size_t len);

/* --- sending: each returns 0 or -errno with a sentence ------------------------------------------------------------ */

/* @sock: SOCK_SEQPACKET, blocking; SO_SNDTIMEO bounds each piece. Takes nothing. */
int parcel_send(const struct parcel *p, int sock);
/* @sock: SOCK_SEQPACKET, blocking; SO_RCVTIMEO bounds each piece. -ECONNRESET: the other side is gone. */
int parcel_receive(int sock, struct parcel *p);

/* --- unpacking: 0, or -EBADMSG with a sentence -------------------------------------------------------------------- */

int parcel_get_u64(const json_t *o, const char *key, uint64_t max, uint64_t *ret);
int parcel_get_unsigned(const json_t *o, const char *key, unsigned max, unsigned *ret);
int parcel_get_bool(const json_t *o, const char *key, bool *ret);
/* Kept by @o. *ret: NULL when the key is null or missing and @optional. */
int parcel_get_text(const json_t *o, const char *key, bool optional, const char **ret);
int parcel_get_array(const json_t *o, const char *key, const json_t **ret);
int parcel_get_object(const json_t *o, const char *key, bool optional, const json_t **ret);
int parcel_get_bytes(const json_t *o, const char *key, void *to, size_t max, size_t *len);
/*
 * The descriptor becomes the caller's. -1: there is none, which is an error unless @optional. Each can be taken once.
 */
int parcel_take_fd(struct parcel *p, const json_t *o, const char *key, bool optional, int *ret);
