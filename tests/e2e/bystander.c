/* SPDX-License-Identifier: BSD-3-Clause */
#include "bystander.h"

int bystander_start(struct bystander *b, const struct back_end *be, unsigned disk, uint64_t nunits, uint64_t seed)
{
        struct verify_opts vo = { .nunits = nunits, .unit_len = WORKER_UNIT, .seed = seed };
        int r;

        *b = (struct bystander){ .disk = disk };
        r = verify_new(&vo, &b->verify);
        if (r == 0)
                r = be_open(be, disk, (struct fe_opts){ .max_segs = 32 }, &b->fe);
        if (r < 0)
                return r;
        b->worker = (struct worker){ .fe = b->fe, .verify = b->verify, .nunits = nunits, .seed = seed };
        return worker_start(&b->worker);
}

int bystander_end(struct bystander *b, struct back_end *be)
{
        int r = worker_stop(&b->worker);

        fe_close(b->fe);
        if (r == 0)
                r = be_stop(be);
        if (r == 0)
                r = be_check(be, b->disk);
        be_free(be);
        verify_free(b->verify);
        return r;
}
