/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * option_values.h - texts of the command line become values. @name is the option's or key's, for the sentence: each
 * returns 0, or -EINVAL with one that has the value and what would be right, or -ENOMEM. *@ret is replaced (texts: the
 * old one freed).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/un.h>

#define SOCKET_PATH_BYTES (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

struct choice {
        const char *word;
        int value;
};

int set_text(const char *name, const char *value, char **ret);
int set_number(const char *name, const char *value, unsigned min, unsigned max, unsigned *ret);
int set_bool(const char *name, const char *value, bool *ret); /* on, off */
int set_choice(const char *name, const char *value, const struct choice *choices, size_t n, int *ret);
int set_format(const char *name, const char *value, char **ret); /* of an image */
int set_socket(const char *name, const char *value, char **ret); /* a path that fits into an address */
int set_fd(const char *name, const char *value, int *ret);
int set_bytes(const char *name, const char *value, uint64_t min, uint64_t max, uint64_t *ret);
/*
 * The next "key=value" of @text, QEMU's way: commas separate, a doubled comma is a comma of the value; a key alone has
 * the value NULL. Writes the unescaped piece over the text itself. Returns what is left, NULL at the end.
 */
char *option_next_pair(char *text, char **key, char **value);

int set_mode(const char *name, const char *value, int *ret);     /* octal permissions, 0 to 0777 */
