/* SPDX-License-Identifier: BSD-3-Clause */
/* picture_print.c - map --image in a terminal: a line for what the guest sees and one for each image, all on one
 * scale. */
#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/range.h"
#include "common/size.h"
#include "tools/vdisk-img/picture.h"

#define STEPS 8u

/* Foreground colours of the 256-colour palette that differ also for those who see few of them; layer n has n % 6. */
static const unsigned char palette[] = { 32, 172, 36, 166, 175, 74 };

struct pen {
        FILE *out;
        bool colour, utf8;
};

static const char *share_mark(const struct pen *pen, double share)
{
        static const char *const blocks[STEPS] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
        static const char *const letters[STEPS] = { ".", ".", ":", ":", "+", "+", "#", "#" };
        unsigned i = (unsigned)(share * STEPS);

        i = i < STEPS ? i : STEPS - 1;
        return pen->utf8 ? blocks[i] : letters[i];
}

/* The mark for what an image holds in a cell; without colours what is hidden needs one of its own. */
static const char *layer_mark(const struct pen *pen, const struct picture_cell *c, double bytes)
{
        uint64_t all = c->data + c->packed + c->zero;

        if (all == 0)
                return " ";
        if (!pen->colour && c->hidden * 2 > all)
                return pen->utf8 ? "×" : "x";
        if (c->packed > c->data && c->packed >= c->zero)
                return pen->utf8 ? "▒" : "c";
        if (c->zero > c->data)
                return pen->utf8 ? "░" : "0";
        return share_mark(pen, (double)(c->data + c->packed) / bytes);
}

static const char *digit_mark(int layer)
{
        static const char *const digits[] = { "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "+" };

        return digits[layer < 10 ? layer : 10];
}

static void put_colour(const struct pen *pen, int layer, bool faint)
{
        if (pen->colour)
                fprintf(pen->out, "\033[%s38;5;%um", faint ? "2;" : "", palette[(unsigned)layer % ARRAY_SIZE(palette)]);
}

static void end_colour(const struct pen *pen)
{
        if (pen->colour)
                fprintf(pen->out, "\033[0m");
}

static void print_seen(const struct pen *pen, const struct picture *p)
{
        for (size_t i = 0; i < p->ncells; i++) {
                double share;
                int layer = picture_seen(p, i, &share);

                if (layer < 0) {
                        fputc(' ', pen->out);
                        continue;
                }
                put_colour(pen, layer, false);
                fputs(digit_mark(layer), pen->out);
                end_colour(pen);
        }
        fputc('\n', pen->out);
}

static void print_layer(const struct pen *pen, const struct picture *p, int n)
{
        const struct picture_layer *l = &p->layers[n];

        for (size_t i = 0; i < p->ncells; i++) {
                const struct picture_cell *c = &l->cells[i];
                const char *mark = layer_mark(pen, c, (double)picture_cell_bytes(p, i));

                if (*mark == ' ') {
                        fputc(' ', pen->out);
                        continue;
                }
                put_colour(pen, n, c->hidden * 2 > c->data + c->packed + c->zero);
                fputs(mark, pen->out);
                end_colour(pen);
        }
        fputc('\n', pen->out);
}

/* 0 at the left, the size at the right, quarters between where there is room. */
static void print_axis(const struct pen *pen, const struct picture *p)
{
        unsigned parts = p->ncells >= 60 ? 4 : p->ncells >= 30 ? 2 : 1;
        size_t at = 0;

        for (unsigned i = 0; i <= parts; i++) {
                char text[32];
                size_t len = strlen(size_format(p->size / parts * i, text, sizeof(text))), want = p->ncells * i / parts;

                want = i == 0 ? 0 : i == parts ? p->ncells - min_u64(len, p->ncells) : want - min_u64(len / 2, want);
                for (; at < want; at++)
                        fputc(' ', pen->out);
                fputs(text, pen->out);
                at += len;
        }
        fputc('\n', pen->out);
}

static void print_legend(const struct pen *pen)
{
        if (pen->utf8)
                fprintf(pen->out, "\ndisk: the number of the image that it comes from. Images: ▁ to █ a little to all of it is data,\n"
                        "▒ compressed, ░ zeros, %s hidden by images above, blank nothing\n", pen->colour ? "faint" : "×");
        else
                fprintf(pen->out, "\ndisk: the number of the image that it comes from. Images: . : + # a little to all of it is data,\n"
                        "c compressed, 0 zeros, %s hidden by images above, blank nothing\n", pen->colour ? "faint" : "x");
}

int picture_print(const struct picture *p, FILE *out, bool colour, bool utf8)
{
        struct pen pen = { out, colour, utf8 };
        char size[32], each[32], text[256];

        fprintf(out, "disk: %s, %s a column\n", size_format(p->size, size, sizeof(size)),
                size_format(div_round_up(p->size, p->ncells), each, sizeof(each)));
        print_seen(&pen, p);
        print_axis(&pen, p);
        for (size_t n = 0; n < p->nlayers; n++) {
                const struct picture_layer *l = &p->layers[n];

                fputc('\n', out);
                put_colour(&pen, (int)n, false);
                fprintf(out, "%zu", n);
                end_colour(&pen);
                fprintf(out, " %s (%s)\n  %s\n", l->img->file->path, l->img->drv->name,
                        picture_describe(l, text, sizeof(text)));
                print_layer(&pen, p, (int)n);
        }
        print_legend(&pen);
        return ferror(out) ? -EIO : 0;
}
