/* SPDX-License-Identifier: BSD-3-Clause */
#include "inner_node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blkq/vol.h"
#include "common/cleanup.h"
#include "vdiskd/disks/disks.h"
#include "vdiskd/disks/node.h"

char *node_name_made_up(struct disks *d)
{
        char *name = NULL;

        do {
                free(name);
                if (asprintf(&name, "#block%03u", ++d->names_made_up) < 0)
                        return NULL;
        } while (disks_name_taken(d, name));
        return name;
}

struct inner_node *inner_node_new(struct node *root, const char *name)
{
        struct inner_node *i = calloc(1, sizeof(*i));

        if (!i)
                return NULL;
        list_init(&i->link);
        i->root = root;
        i->name = name ? strdup(name) : node_name_made_up(root->disks);
        if (i->name)
                return i;
        free(i);
        return NULL;
}

void inner_node_free(struct inner_node *i)
{
        if (!i)
                return;
        list_del(&i->link);
        free(i->name);
        free(i);
}

void inner_nodes_free(struct node *n)
{
        while (!list_empty(&n->below))
                inner_node_free(list_entry(n->below.next, struct inner_node, link));
}

int inner_nodes_name(struct node *n, const char *const *names, unsigned n_names)
{
        for (unsigned i = 0; i < n_names; i++) {
                struct inner_node *in = inner_node_new(n, names[i]);

                if (!in)
                        return -ENOMEM;
                list_add_tail(&n->below, &in->link);
        }
        return 0;
}

static unsigned count(const struct list *l)
{
        unsigned n = 0;

        for (const struct list *at = l->next; at != l; at = at->next)
                n++;
        return n;
}

void inner_nodes_fit(struct node *n)
{
        unsigned have = count(&n->below), want = 0;
        const struct fmt_image *top = vol_image_get(n->vol);

        for (const struct fmt_image *img = top ? top->backing : NULL; img; img = img->backing)
                want++;
        vol_image_put(n->vol);
        for (; have > want; have--)
                inner_node_free(list_entry(n->below.prev, struct inner_node, link));
        for (; have < want; have++) {
                struct inner_node *i = inner_node_new(n, NULL);

                if (!i)
                        return;
                list_add_tail(&n->below, &i->link);
        }
}

struct inner_node *inner_node_find(const struct node *root, const char *name)
{
        list_for_each(l, &root->below)
                if (!strcmp(list_entry(l, struct inner_node, link)->name, name))
                        return list_entry(l, struct inner_node, link);
        return NULL;
}

unsigned inner_node_depth(const struct inner_node *i)
{
        unsigned depth = 1;

        for (const struct list *l = i->root->below.next; l != &i->link; l = l->next)
                depth++;
        return depth;
}

const char *inner_node_over(const struct inner_node *i)
{
        struct list *l = i->link.prev;

        return l == &i->root->below ? node_known_as(i->root) : list_entry(l, struct inner_node, link)->name;
}

struct fmt_image *chain_image_at(struct fmt_image *top, unsigned depth)
{
        while (top && depth--)
                top = top->backing;
        return top;
}
