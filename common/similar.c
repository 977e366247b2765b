/* SPDX-License-Identifier: BSD-3-Clause */
#include "similar.h"

#include <stdio.h>
#include <string.h>

#include "range.h"

#define WORD_BYTES 32u /* longer ones are not compared: no option has so long a name */

/* How many letters must be changed, left out or put in to make @b of @a (Levenshtein): row by row of the usual
 * table. */
static unsigned distance(const char *a, const char *b)
{
        unsigned row[WORD_BYTES + 1];
        size_t na = strlen(a), nb = strlen(b);

        for (size_t j = 0; j <= nb; j++)
                row[j] = (unsigned)j;
        for (size_t i = 1; i <= na; i++) {
                unsigned corner = row[0];

                row[0] = (unsigned)i;
                for (size_t j = 1; j <= nb; j++) {
                        unsigned change = corner + (a[i - 1] != b[j - 1]), leave = row[j] + 1, put = row[j - 1] + 1;

                        corner = row[j];
                        row[j] = (unsigned)min_u64(change, min_u64(leave, put));
                }
        }
        return row[nb];
}

void similar_look(struct similar *s, const char *known)
{
        size_t len = strlen(s->word);
        unsigned d;

        if (len > WORD_BYTES || strlen(known) > WORD_BYTES)
                return;
        d = distance(s->word, known);
        if (d > (len + 1) / 3 || (s->best && d >= s->distance))
                return;
        s->best = known;
        s->distance = d;
}

const char *similar_hint(const struct similar *s, char *text, unsigned len)
{
        if (s->best)
                snprintf(text, len, "; did you mean '%s'?", s->best);
        else
                text[0] = '\0';
        return text;
}
