/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * picture_svg.c - map --image=FILE.svg. Down the page: what the guest sees, then each image with a bar (how much of
 * each piece of the disk it holds) and a plot of places (disk to the right, file downwards): one straight line is a
 * file without fragmentation. Plain SVG 1.1 without scripts, fonts or links, so that bug trackers show it.
 */
#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/range.h"
#include "common/size.h"
#include "tools/vdisk-img/picture.h"

#define MARGIN 40
#define BAR 34      /* height of an image's bar */
#define SEEN_BAR 44 /* of the guest's */
#define PLOT_ROW 1.25 /* height of a row of places */
#define PLOT (PICTURE_ROWS * PLOT_ROW)
#define HEAD 132 /* from the top to the first image */
#define LAYER (58 + BAR + 10 + PLOT + 22) /* an image with its texts */
#define TICKS 4

/* Told apart also by those who see few colours (Okabe and Ito). */
static const char *const palette[] = { "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9" };

static const char *colour_of(size_t layer)
{
        return palette[layer % ARRAY_SIZE(palette)];
}

/* --- text ------------------------------------------------------------------------------------------------------ */

/* Names of files hold any byte. What is not ASCII is left to the viewer when it is UTF-8 and made a '?' else. */
static void put_escaped(FILE *out, const char *text)
{
        for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
                unsigned more = *c >= 0xf0 && *c < 0xf5 ? 3 : *c >= 0xe0 && *c < 0xf0 ? 2 : *c >= 0xc2 && *c < 0xe0 ? 1 : 0;
                unsigned n = 0;

                while (n < more && (c[n + 1] & 0xc0) == 0x80)
                        n++;
                if (*c == '&' || *c == '<' || *c == '>' || *c == '"')
                        fprintf(out, "&#%u;", *c);
                else if (*c < 0x20 || *c == 0x7f || (*c >= 0x80 && (more == 0 || n < more)))
                        fputc('?', out);
                else
                        for (fputc(*c, out); n; n--)
                                fputc(*++c, out);
        }
}

static void put_text(FILE *out, double x, double y, const char *class, const char *text)
{
        fprintf(out, "<text x=\"%g\" y=\"%g\" class=\"%s\">", x, y, class);
        put_escaped(out, text);
        fprintf(out, "</text>\n");
}

static void put_axis(FILE *out, uint64_t size, double y)
{
        for (unsigned i = 0; i <= TICKS; i++) {
                double x = MARGIN + (double)PICTURE_SVG_CELLS * i / TICKS;
                char text[32];

                fprintf(out, "<path d=\"M%g %gv5\" stroke=\"#888\"/>", x, y);
                put_text(out, x, y + 17, i == 0 ? "tick" : i == TICKS ? "tick end" : "tick mid",
                         size_format(i == TICKS ? size : size / TICKS * i, text, sizeof(text)));
        }
}

/* --- bars: equal neighbours are one rectangle ------------------------------------------------------------------ */

struct bar {
        double from, to; /* height above the foot, 0..1 */
};

static double x_of(const struct picture *p, size_t cell)
{
        return MARGIN + (double)PICTURE_SVG_CELLS * (double)cell / (double)p->ncells;
}

static void put_box(FILE *out, double x, double y, double w, double h)
{
        fprintf(out, "M%.4g %.4gh%.4gv%.4gh-%.4gz", x, y, w, h, w);
}

/* What a picture shows of a cell: which part of the bar's height. */
typedef struct bar (*part_fn)(const struct picture *p, size_t layer, size_t cell);

static struct bar stack(const struct picture *p, size_t layer, size_t cell, unsigned part)
{
        const struct picture_cell *c = &p->layers[layer].cells[cell];
        double bytes = (double)picture_cell_bytes(p, cell), all = (double)(c->data + c->packed + c->zero);
        double seen = all > 0 ? 1 - (double)c->hidden / all : 0;
        double h[4] = { (double)c->data * seen / bytes, (double)c->packed * seen / bytes, (double)c->zero * seen / bytes,
                        (double)c->hidden / bytes };
        struct bar b = { 0 };

        for (unsigned i = 0; i < part; i++)
                b.from += h[i];
        b.to = b.from + h[part];
        if (h[part] > 0 && b.to - b.from < 0.06)
                b.to = b.from + 0.06; /* a little must not be invisible */
        if (b.to > 1) {
                b.from -= b.to - 1;
                b.to = 1;
        }
        return b;
}

static struct bar data_part(const struct picture *p, size_t layer, size_t cell) { return stack(p, layer, cell, 0); }
static struct bar packed_part(const struct picture *p, size_t layer, size_t cell) { return stack(p, layer, cell, 1); }
static struct bar zero_part(const struct picture *p, size_t layer, size_t cell) { return stack(p, layer, cell, 2); }
static struct bar hidden_part(const struct picture *p, size_t layer, size_t cell) { return stack(p, layer, cell, 3); }

static struct bar seen_part(const struct picture *p, size_t layer, size_t cell)
{
        double share;

        if (picture_seen(p, cell, &share) != (int)layer)
                return (struct bar){ 0 };
        return (struct bar){ 0, share < 0.06 ? 0.06 : share };
}

static void put_bars(FILE *out, const struct picture *p, size_t layer, part_fn part, double y, double height,
                     const char *style)
{
        size_t start = 0;

        fprintf(out, "<path %s d=\"", style);
        for (size_t i = 1; i <= p->ncells; i++) {
                struct bar a = part(p, layer, start), b = i < p->ncells ? part(p, layer, i) : (struct bar){ -1, -1 };

                if (a.from == b.from && a.to == b.to)
                        continue;
                if (a.to > a.from)
                        put_box(out, x_of(p, start), y + height * (1 - a.to), x_of(p, i) - x_of(p, start),
                                height * (a.to - a.from));
                start = i;
        }
        fprintf(out, "\"/>\n");
}

/* --- places ---------------------------------------------------------------------------------------------------- */

static void put_places(FILE *out, const struct picture *p, const struct picture_layer *l, double y, const char *colour)
{
        fprintf(out, "<path fill=\"%s\" d=\"", colour);
        for (unsigned row = 0; row < PICTURE_ROWS; row++) {
                for (size_t i = 0; i < p->ncells; i++) {
                        size_t end = i;

                        while (end < p->ncells && picture_has_place(p, l, end, row))
                                end++;
                        if (end == i)
                                continue;
                        put_box(out, x_of(p, i), y + row * PLOT_ROW, x_of(p, end) - x_of(p, i), 2 * PLOT_ROW);
                        i = end;
                }
        }
        fprintf(out, "\"/>\n");
}

/* --- the page -------------------------------------------------------------------------------------------------- */

static void put_frame(FILE *out, double y, double height)
{
        fprintf(out, "<rect x=\"%d\" y=\"%g\" width=\"%u\" height=\"%g\" fill=\"#f4f4f2\" stroke=\"#ccc\"/>\n", MARGIN, y,
                PICTURE_SVG_CELLS, height);
}

static void put_seen(FILE *out, const struct picture *p)
{
        const char *path = strrchr(p->layers[0].img->file->path, '/');
        char size[32], text[320], style[64];

        put_text(out, MARGIN, 32, "title", path ? path + 1 : p->layers[0].img->file->path);
        snprintf(text, sizeof(text), "disk of %s, %zu image%s; the colour says which image each part comes from",
                 size_format(p->size, size, sizeof(size)), p->nlayers, p->nlayers == 1 ? "" : "s");
        put_text(out, MARGIN, 52, "small", text);
        put_frame(out, 62, SEEN_BAR);
        for (size_t n = 0; n < p->nlayers; n++) {
                snprintf(style, sizeof(style), "fill=\"%s\"", colour_of(n));
                put_bars(out, p, n, seen_part, 62, SEEN_BAR, style);
        }
        put_axis(out, p->size, 62 + SEEN_BAR);
}

static void put_layer(FILE *out, const struct picture *p, size_t n, double y)
{
        const struct picture_layer *l = &p->layers[n];
        const char *colour = colour_of(n);
        char text[512], style[96];
        char size[32], more[256];

        fprintf(out, "<rect x=\"%d\" y=\"%g\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", MARGIN, y + 20, colour);
        snprintf(text, sizeof(text), "%zu  %.300s", n, l->img->file->path);
        put_text(out, MARGIN + 20, y + 31, "name", text);
        snprintf(text, sizeof(text), "%s, file of %s: %s", l->img->drv->name, size_format(l->host_end, size, sizeof(size)),
                 picture_describe(l, more, sizeof(more)));
        put_text(out, MARGIN, y + 50, "small", text);
        y += 58;
        put_frame(out, y, BAR);
        snprintf(style, sizeof(style), "fill=\"%s\"", colour);
        put_bars(out, p, n, data_part, y, BAR, style);
        snprintf(style, sizeof(style), "fill=\"%s\" fill-opacity=\"0.6\"", colour);
        put_bars(out, p, n, packed_part, y, BAR, style);
        put_bars(out, p, n, zero_part, y, BAR, "fill=\"url(#zeros)\"");
        snprintf(style, sizeof(style), "fill=\"%s\" fill-opacity=\"0.2\"", colour);
        put_bars(out, p, n, hidden_part, y, BAR, style);
        y += BAR + 10;
        put_frame(out, y, PLOT + PLOT_ROW);
        put_places(out, p, l, y, colour);
        put_text(out, MARGIN, y + PLOT + 14, "tick", "places in the file, its start at the top; a straight line is not fragmented");
}

static void put_legend(FILE *out, double y)
{
        static const struct { const char *style, *text; } keys[] = {
                { "fill=\"#555\"", "data" },
                { "fill=\"#555\" fill-opacity=\"0.6\"", "compressed" },
                { "fill=\"url(#zeros)\"", "zeros" },
                { "fill=\"#555\" fill-opacity=\"0.2\"", "hidden by images above" },
                { "fill=\"#f4f4f2\"", "nothing" },
        };
        double x = MARGIN;

        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                fprintf(out, "<rect x=\"%g\" y=\"%g\" width=\"14\" height=\"14\" stroke=\"#ccc\" %s/>\n", x, y, keys[i].style);
                put_text(out, x + 20, y + 12, "small", keys[i].text);
                x += 20 + 8 * (double)strlen(keys[i].text) + 24;
        }
}

int picture_write_svg(const struct picture *p, FILE *out)
{
        double height = HEAD + LAYER * (double)p->nlayers + 50, width = PICTURE_SVG_CELLS + 2 * MARGIN;

        fprintf(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%g\" height=\"%g\" viewBox=\"0 0 %g %g\">\n"
                "<style>text{font-family:sans-serif;fill:#222}.title{font-size:20px;font-weight:bold}"
                ".name{font-size:14px;font-weight:bold}.small{font-size:12px;fill:#444}.tick{font-size:10px;fill:#666}"
                ".mid{text-anchor:middle}.end{text-anchor:end}</style>\n"
                "<defs><pattern id=\"zeros\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">"
                "<rect width=\"6\" height=\"6\" fill=\"#fff\"/><path d=\"M0 6L6 0\" stroke=\"#999\"/></pattern></defs>\n"
                "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", width, height, width, height);
        put_seen(out, p);
        for (size_t n = 0; n < p->nlayers; n++)
                put_layer(out, p, n, HEAD + LAYER * (double)n);
        put_legend(out, HEAD + LAYER * (double)p->nlayers + 12);
        fprintf(out, "</svg>\n");
        return ferror(out) ? -EIO : 0;
}
