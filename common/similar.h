/* SPDX-License-Identifier: BSD-3-Clause */
/* similar.h - "did you mean ...?": which of the words we know is nearest to the one that somebody typed. */
#pragma once

struct similar {
        const char *word; /* what was typed */
        const char *best; /* the nearest so far, NULL: none is near enough */
        unsigned distance;
};

static inline struct similar similar_to(const char *word)
{
        return (struct similar){ .word = word };
}

/* One of the words we know. Kept by reference. */
void similar_look(struct similar *s, const char *known);

/* For a sentence: "; did you mean 'best'?", or "". @text is filled and returned. */
const char *similar_hint(const struct similar *s, char *text, unsigned len);
