# SPDX-License-Identifier: BSD-3-Clause
"""Bugs to plant, one at a time: name, file, what is there once, what stands there instead, the stages that should find it.

Stages, in the order they are tried: 'replay' is the crash replay, 'loads' its long loads, 'meson:NAME' a test by its name in meson, any other name
is tests/unit/test_NAME, with arguments behind it.
"""

BUGS = []


def room(name):
    def bug(what, file, was, now, *stages):
        BUGS.append((f"{name}: {what}", file, was, now, stages))
    return bug


# --- order of a flush ------------------------------------------------------------------------------------------------
b = room("flush order")
FLUSH = "formats/qcow2/flush.c"
b("no sync before entries that rely on something", FLUSH, "if (entries_rely(q, f))\n                add_sync(f);", "", "replay", "qcow2_crash")
b("data that must come first does not", FLUSH, "return q->data_first || q->newest_used > q->durable_gen;",
  "return q->newest_used > q->durable_gen;", "replay", "qcow2_crash")
b("an entry does not wait for its cluster's refcount", FLUSH, "return q->data_first || q->newest_used > q->durable_gen;",
  "return q->data_first;", "replay", "qcow2_crash")
b("an L1 entry does not wait for its copied table", FLUSH, "if (f->item[i].carried)\n                        return true;", "",
  "replay", "qcow2_crash")
b("a copied table goes with the entries", FLUSH, "p->carries ? PAGES_CARRIED : PAGES_L2", "PAGES_L2", "replay", "qcow2_crash")
b("a refcount block is linked before it is whole", FLUSH, "if (q->reftable_moved || q->link_blocks)",
  "if (q->reftable_moved)", "qcow2_crash", "replay")
b("a moved refcount table is linked before it is whole", FLUSH, "if (q->reftable_moved || q->link_blocks)",
  "if (q->link_blocks && !q->reftable_moved)", "qcow2_crash", "replay")
b("a linked copied table is not waited with after a failure", FLUSH, "if (q->carried_linked)\n                add_sync(f);", "",
  "qcow2_flush", "qcow2_crash")
b("the last sync is missing", FLUSH, "add_top(q, f, &q->l2);\n        add_sync(f);", "add_top(q, f, &q->l2);", "replay")
b("a failed flush forgets what its entries relied on", FLUSH, "q->newest_used = max_u64(q->newest_used, f->newest_used);", "",
  "loads", "qcow2_crash")
b("a failed flush forgets that data comes first", FLUSH, "q->data_first |= f->data_first;", "", "loads", "qcow2_crash")
b("a failed flush counts as durable", FLUSH, "if (err < 0)\n                mark_again(q, f);\n        else\n                q->durable_gen",
  "if (err < 0)\n                mark_again(q, f);\n        q->durable_gen", "loads", "qcow2_crash", "qcow2_faults")
b("a failed flush loses its pages", FLUSH, "                        page_dirty(q, it->page, it->from, it->to - it->from);", "                        ;",
  "qcow2_faults", "qcow2_crash", "vol_random")
b("a failed flush loses all but the first piece of its pages", FLUSH, "it->from, it->to - it->from);", "it->from, 1);", "qcow2_crash")
b("a page forgets that an earlier piece of it changed", "formats/qcow2/table_cache.c", "p->dirty ? min_u64(p->dirty_from, from) : from", "from",
  "qcow2_crash", "replay", "qcow2_random")
b("a page forgets that a later piece of it changed", "formats/qcow2/table_cache.c", "p->dirty ? max_u64(p->dirty_to, to) : to", "to",
  "qcow2_crash", "qcow2_random")
b("one generation too much is durable", FLUSH, "q->durable_gen = f->gen;", "q->durable_gen = f->gen + 1;", "replay", "qcow2_crash")
b("the data file is not synced", FLUSH, "if (img->data_file)\n                f->b.step", "if (false)\n                f->b.step", "replay")
b("a new cluster's data does not come first where old bytes were", "formats/qcow2/write.c",
  "if (!s->place_zero)\n                return true;", "if (!s->place_zero)\n                return false;", "replay", "qcow2_crash")
b("nor where the backing image had some", "formats/qcow2/write.c", "plan->head || plan->tail : !s->all_zero;",
  "plan->head || plan->tail : false;", "replay", "qcow2_crash")
b("compressed data does not come first", "formats/qcow2/packed.c", "        q->data_first = true;\n", "", "replay", "qcow2_crash")
b("a write does not say which reservation it used", "formats/qcow2/write.c",
  "        q->newest_used = max_u64(q->newest_used, c->stamp);\n        q->data_first", "        q->data_first", "replay", "qcow2_crash")
b("work at rest switches before its tables are durable", "formats/qcow2/at_rest/txn.c",
  "                r = write_structure(t, &s);\n        if (r == 0)\n                r = file_sync(t->file);",
  "                r = write_structure(t, &s);", "replay", "qcow2_rest_crash")
b("work at rest frees space before the switch is durable", "formats/qcow2/at_rest/txn.c",
  "        if (r == 0)\n                r = file_sync(t->file);\n        if (r == 0)\n                give_back(t);",
  "        if (r == 0)\n                give_back(t);", "replay", "qcow2_rest_crash")

# --- clusters that come and go ---------------------------------------------------------------------------------------
b = room("clusters")
SPACE, KEEP = "formats/qcow2/space.c", "formats/qcow2/housekeep.c"
b("a reservation is used before its refcounts are durable", SPACE, "last->stamp = q->gen;\n                list_add_tail(&s->reserved",
  "last->stamp = 0;\n                list_add_tail(&s->reserved", "replay", "qcow2_crash")
b("a cluster leaves quarantine before its unlink is durable", SPACE,
  "last->stamp = q->gen;\n        last->ticket", "last->stamp = 0;\n        last->ticket", "replay", "qcow2_crash")
b("the same for a table", SPACE, "run->stamp = q->gen;\n        space_run_move", "run->stamp = 0;\n        space_run_move", "replay",
  "qcow2_crash")
b("quarantine does not look at the durable generation", KEEP, "if (run->stamp > q->durable_gen)\n                        continue;", "",
  "replay", "qcow2_crash")
b("a grace period ends for those who came later, too", SPACE, "if (run->ticket > ticket)\n                        break;", "",
  "qcow2_letting_go", "vol_random", "qcow2_threads")
b("only the first cluster of a run is punched", KEEP, ".len = run->n << q->cluster_bits };", ".len = 1ull << q->cluster_bits };",
  "replay", "qcow2_random")
b("a punch that failed counts", KEEP, "                if (err == 0)\n                        free_or_forget(q, run);\n                else\n"
  "                        space_run_forget", "                if (err <= 0)\n                        free_or_forget(q, run);\n"
  "                else\n                        space_run_forget", "qcow2_letting_go", "qcow2_faults")
b("a replaced cluster is never let go", "formats/qcow2/write.c", "if (c->taken && old.host)", "if (false)", "qcow2_random", "replay")
b("an aborted cluster keeps its bytes and its zeros", "formats/qcow2/write.c",
  "page_set_pristine(q, c->page, c->slot + k, false); /* half", "(void)k; /* half", "qcow2_subclusters", "qcow2_faults", "qcow2_random")
b("the end of a copied-up cluster is left out", "formats/qcow2/write.c", "plan->tail = last & 1u << c->to_sub ? 0 : stop - end;",
  "plan->tail = 0;", "replay", "qcow2_random")
b("the file does not grow before it is written to", SPACE, "if (s->end + n <= s->file_end)\n                return 0;",
  "if (s->end + n <= s->file_end + 1)\n                return 0;", "replay", "qcow2_random")

# --- blkq --------------------------------------------------------------------------------------------------------------
b = room("blkq")
b("a flush joins one that runs already", "blkq/home/flush.c", "list_add_tail(&f->next, &waiter->link);",
  "list_add_tail(f->running ? &f->now : &f->next, &waiter->link);", "replay", "vol", "vol_corners")
b("a flush that fails answers success", "blkq/home/flush.c", "wake_all(&f->now, err);", "wake_all(&f->now, 0);", "vol", "vol_corners")
b("ports are not waited for in a grace period", "blkq/home/grace.c",
  "mover_drain(&container_of(task, struct vol_port, ask)->mover, on_port_drained);",
  "on_port_drained(&container_of(task, struct vol_port, ask)->mover);", "vol_corners", "vol_random")
b("home is not waited for in a grace period", "blkq/home/grace.c", "mover_drain(&v->mover, on_home_drained);",
  "on_home_drained(&v->mover);", "vol_corners", "vol_random")
b("two requests have the same cluster at once", "blkq/home/overlap.c", "l->blockers += range_overlaps(off, len, e->off, e->len);",
  "l->blockers += off == e->off && len == e->len;", "vol_random", "vol_corners", "vol")
b("a sync in a batch does not wait", "blkq/home/batch.c", "while (run->next < b->nsteps && b->step[run->next].op != FMT_SYNC)",
  "while (run->next < b->nsteps)", "replay", "vol")
b("FUA is not a flush", "blkq/home/home.c", "if (res == 0 && j->req->flags & BLK_FUA)", "if (false)", "replay", "vol")
b("tables that could not be written for good are forgiven", "blkq/home/batch.c", "if (op == FMT_SYNC)\n                return false;", "",
  "vol", "vol_corners")

# --- jobs, images that guests have left, the log of what is in memory ------------------------------------------------
b = room("copies")
MIRROR, TWIN, CBW = "blkq/jobs/mirror.c", "blkq/jobs/twin.c", "blkq/jobs/cbw.c"
b("what could not be copied counts as copied", MIRROR, "dirty_bitmap_set(mirror_of(c)->dirty, off, len);", ";", "mirror")
b("two pieces of a mirror in flight overlap", MIRROR, "if (ch->busy && range_overlaps(ch->off, ch->len, off, len))", "if (false)", "mirror")
b("a mirror is over before its target is durable", "blkq/jobs/mirror_end.c",
  "        if (whole)\n                flush_target(m, on_last_flush);\n        else\n                over(m);", "        over(m);\n        (void)whole;", "mirror")
b("what a guest's write could not copy counts as copied", TWIN,
  "        if (res < 0)\n                dirty_bitmap_set(t->dirty, op->off, len);\n", "", "mirror")
b("a guest's copy and the loop's overlap", TWIN, "return t->in_the_way(t, op->off, op->end - op->off);", "return false;", "mirror")
b("a change at home is not recorded", "blkq/home/home.c", "dirty_record(j->v, j->req, copy ? t->dirty : NULL);", "", "dirty_bitmap", "mirror")
b("a change on the common road is not recorded", "blkq/request.c",
  "        if (!req->p.home)\n                dirty_record(p->v, req, NULL);", "", "dirty_bitmap", "mirror")
b("a granule counts as copied while it is copied", CBW, "        mark_busy(c, first, last, true);\n        s->busy = true;",
  "        mark_busy(c, first, last, true);\n        mark_copied(c, first, last);\n        s->busy = true;", "backup")
b("a change looks at its first granule only", CBW, "        uint64_t end = div_round_up(off + len, c->granule);\n\n        for (uint64_t g = off / c->granule; g < end; g++)\n                if (!bit_copied(c, g))\n                        return false;",
  "        if (!bit_copied(c, off / c->granule))\n                return false;", "backup")
b("a change does not wait for what others copy", CBW, "return false; /* others are at it */", "return true;", "backup")
b("a granule that could not be copied counts", CBW, "if (copied)\n                mark_copied(c, from, to);", "mark_copied(c, from, to);", "backup")
b("what copies before changes goes while it is looked at", CBW, "grace_wait(c->v, w);", "w->wake(w, 0);", "backup")

b = room("retiring")
b("a guest's flush is that of one image", "blkq/home/flush.c", "if (n == 1)", "if (n)", "vol_snapshot")
b("an image is only read while it is dirty", "blkq/change/retire.c", "if (writer_is_clean(t->w))", "if (true)", "vol_snapshot")

b = room("map log")
b("a flush that failed takes changes off", FLUSH, "if (err == 0 && q->log)", "if (q->log)", "qcow2_replay")
b("a flush takes off what came after it", FLUSH, "maplog_trim(q->log, f->log_mark);", "maplog_trim(q->log, maplog_mark(q->log));", "qcow2_replay")
b("it is thrown away when it could not be put into the image", "formats/qcow2/at_rest/replay.c",
  "        if (r == 0)\n                maplog_trim(log", "        if (true)\n                maplog_trim(log", "qcow2_replay")
b("of an image that somebody changed since it is used, too", "formats/qcow2/at_rest/replay.c", "int r = was_left_alone(file, log);", "int r = 0;", "qcow2_replay")

# --- what a guest may say ------------------------------------------------------------------------------------------------
b = room("chain")
CHAIN = "vhost_user/ring/chain.c"
b("a head may be one too far", CHAIN, "if (i >= num)", "if (i > num)", "chain")
b("a next index may be one too far", CHAIN, "if (d.next >= num)", "if (d.next > num)", "chain")
b("the same in an indirect table", CHAIN, "if (d.next >= entries)", "if (d.next > entries)", "chain")
b("more pieces than there is room for", CHAIN, "c->iov + used, CHAIN_MAX_IOV - used);", "c->iov + used, CHAIN_MAX_IOV);", "chain", "virtqueue")
b("a descriptor may be empty", CHAIN, "if (!len)\n                return bad(why, \"a descriptor of no bytes\");", "", "chain")
b("readable may come behind writable", CHAIN, "if (!write && c->nwrite)", "if (false)", "chain")
b("indirect tables may be nested", CHAIN, "                if (d.flags & VRING_DESC_F_INDIRECT)\n                        return bad(why, \"an indirect table inside",
  "                if (false)\n                        return bad(why, \"an indirect table inside", "chain")
b("an indirect table may be as long as it likes", CHAIN, "len % DESC_LEN || entries > max", "len % DESC_LEN", "chain")

b = room("guest memory")
GM = "vhost_user/memory/guest_mem.c"
b("a byte behind the end of a region", GM, ">= mt->region[lo - 1].size)", "> mt->region[lo - 1].size)", "guest_mem", "chain")
b("a piece too many", GM, "                if (n == max)\n                        return -E2BIG;\n                skip", "                skip", "guest_mem", "chain")
b("a piece goes beyond its region", GM, "here = min_u64(len, r->size - skip);", "here = len;", "guest_mem", "chain")
b("a byte behind the end of the front end's addresses", GM, "user - r->user_addr >= r->size", "user - r->user_addr > r->size",
  "guest_mem", "mem_table", "session", "virtqueue")
b("a ring's part may end outside", GM, "iov.iov_base && here == len &&", "iov.iov_base &&", "guest_mem", "virtqueue", "session")
b("a header is read twice", "vhost_user/memory/guest_mem.c", "        FETCHED(host, len);\n        GUEST(Reads, memcpy(dst, host, len));",
  "        FETCHED(host, len);\n        FETCHED(host, len);\n        memcpy(dst, host, len);", "chain", "blk_request")
b("all pages that the IOMMU does not map are looked at", "vhost_user/memory/guest_mem.c", "if (r == -ENOBUFS)\n                        return -EAGAIN;",
  "if (r == -ENOBUFS)\n                        r = -EAGAIN;", "guest_mem")

b = room("virtqueue")
SPLIT = "vhost_user/ring/virtqueue_split.c"
b("the avail index may jump", SPLIT, "if (waiting > vq->num)", "if (waiting > 2 * vq->num)", "virtqueue")
b("an event is told one too late", "vhost_user/ring/virtqueue.c", "return (uint16_t)(to - event - 1) < (uint16_t)(to - from);",
  "return (uint16_t)(to - event) < (uint16_t)(to - from);", "virtqueue")
b("the used index is shown before its elements", SPLIT, "        gm_store32(&e->id, c->head);\n        gm_store32(&e->len, written);\n        s->used_idx++;",
  "        s->used_idx++;\n        gm_store16_release(&s->used->idx, s->used_idx);\n        gm_store32(&e->id, c->head);\n"
  "        gm_store32(&e->len, written);", "virtqueue", "meson:inflight")
b("no barrier between wish and look", SPLIT, "        gm_full_barrier();\n        if (!vq->event_idx)", "        if (!vq->event_idx)",
  "virtqueue_race 2000")
b("no barrier between our wish for kicks and the next look", SPLIT, "        if (on)\n                gm_full_barrier(); /* our wish", "        if (false)\n                gm_full_barrier(); /* our wish",
  "virtqueue_race 2000")
PACKED = "vhost_user/ring/virtqueue_packed.c"
b("no barrier between wish and look, packed", PACKED, "        gm_full_barrier();\n        return wants_call", "        return wants_call",
  "virtqueue_race 2000")
b("no barrier between our wish for kicks and the next look, packed", PACKED, "        if (on)\n                gm_full_barrier(); /* our wish",
  "        if (false)\n                gm_full_barrier(); /* our wish", "virtqueue_race 2000")
b("a packed ring takes more than it has", "vhost_user/ring/virtqueue_packed.c", "for (unsigned n = 0; n < max; n++,", "for (unsigned n = 0; n < max + 1; n++,",
  "virtqueue_packed")

# --- what a front end may say ---------------------------------------------------------------------------------------------
b = room("in-flight record")
INF = "vhost_user/ring/inflight_split.c"
b("the last batch is counted the wrong way", INF, "(uint16_t)(used_idx - c->head.used_idx)", "(uint16_t)(c->head.used_idx - used_idx)", "inflight")
b("a head of the batch may be one too far", INF, "if (head >= num)\n                        return inflight_damaged(\"a head beyond",
  "if (head > num)\n                        return inflight_damaged(\"a head beyond", "inflight")
b("a head may be twice in the batch", INF, "if (bitmap_test_and_set(seen, head))", "if (bitmap_test_and_set(seen, head) && false)", "inflight")
b("a counter may be there twice", "vhost_user/ring/inflight.c", "t[i].counter == UINT64_MAX || (i && t[i].counter < *next)",
  "t[i].counter == UINT64_MAX", "inflight")
b("what is answered stays in flight when killed before it is taken off", INF, "                c->desc[head].inflight = 0;\n", "", "inflight")
b("a batch has no links", INF,
  "        __atomic_store_n(&f->shared->desc[head].next, f->last_head, __ATOMIC_RELEASE);\n", "", "inflight", "inflight_steps")
b("the used index is recorded before the flags are cleared", INF,
  "        for (unsigned i = 0; i < f->nbatch; i++)\n                __atomic_store_n(&f->shared->desc[f->batch[i]].inflight, 0, __ATOMIC_RELEASE);\n"
  "        __atomic_store_n(&f->shared->used_idx, used_idx, __ATOMIC_RELEASE);\n        f->nbatch = 0;",
  "        __atomic_store_n(&f->shared->used_idx, used_idx, __ATOMIC_RELEASE);\n"
  "        for (unsigned i = 0; i < f->nbatch; i++)\n                __atomic_store_n(&f->shared->desc[f->batch[i]].inflight, 0, __ATOMIC_RELEASE);\n        f->nbatch = 0;",
  "inflight", "inflight_steps")

b = room("memory table")
MT = "vhost_user/memory/mem_table.c"
b("a region may wrap around", MT, "if (!range_fits(r->guest_addr, r->size, UINT64_MAX) || ", "if (", "mem_table")
b("a region may be longer than its file", MT, "range_fits(r->mmap_offset, r->size, (uint64_t)st.st_size)",
  "range_fits(r->mmap_offset, 1, (uint64_t)st.st_size)", "mem_table")
b("regions may overlap in the front end's addresses", MT, "range_overlaps(o->guest_addr, o->size, r->guest_addr, r->size) ||\n                    range_overlaps(o->user_addr, o->size, r->user_addr, r->size))",
  "range_overlaps(o->guest_addr, o->size, r->guest_addr, r->size))", "mem_table")
b("a shared map goes with its first table", MT, "mt->region[mt->n++].map->refs++;", "mt->n++;", "mem_table")

b = room("wire")
WIRE = "vhost_user/session/wire.c"
b("a descriptor too many is kept", WIRE, "                close(fd);\n                return err_note(-EPROTO, TOO_MANY", "                return err_note(-EPROTO, TOO_MANY", "wire", "session_hostile")
b("untaken descriptors stay open", WIRE, "        for (unsigned i = 0; i < w->msg.nfds; i++)\n                closep(&w->msg.fd[i]);\n", "", "wire", "session_hostile")
b("a message may be longer than any", WIRE, "if (h->size > sizeof(union vu_payload))", "if (h->size > 2 * sizeof(union vu_payload))", "wire", "session_hostile")
b("an answer passes for a request", WIRE, "(h->flags & VU_VERSION_MASK) != VU_VERSION || h->flags & VU_REPLY", "(h->flags & VU_VERSION_MASK) != VU_VERSION", "wire", "session_hostile")

b = room("dirty log")
LOG = "vhost_user/memory/dirty_log.c"
b("a page behind the log's end", LOG, "last / 8 >= l->len", "last / 8 > l->len", "dirty_log")
b("the last page is not marked", LOG, "page <= last; page++", "page < last; page++", "dirty_log")
b("a write to memory is not logged when it ends at its region's end", LOG, "range_fits((uint64_t)(at - r->host), len, r->size)",
  "range_fits((uint64_t)(at - r->host), len + 1, r->size)", "dirty_log")

b = room("ranges")
RANGE = "common/range.h"
b("a range's end may wrap", RANGE, "return len <= size && off <= size - len;", "return off + len <= size;", "range")
b("neighbours overlap", RANGE, "a < b + blen && b < a + alen", "a <= b + blen && b < a + alen", "range", "mem_table")

# --- SCSI ------------------------------------------------------------------------------------------------------------
b = room("SCSI commands")
BLOCK, SPACE_CMD, MODE, SENSE = (f"vhost_user_scsi/scsi_{n}.c" for n in ("block", "space", "mode", "sense"))
b("a READ may end behind the disk", BLOCK, "if (!scsi_blocks_fit(lu, lba, n, &blocks))\n                return scsi_check(cmd, SENSE_LBA_RANGE);\n        if (blocks.len",
  "if (!scsi_blocks_fit(lu, lba, 0, &blocks))\n                return scsi_check(cmd, SENSE_LBA_RANGE);\n        blocks.len = n * lu->block_size;\n        if (blocks.len",
  "scsi_block")
b("blocks are always of 512 bytes", BLOCK, "ret->off = lba * lu->block_size;", "ret->off = lba * 512;", "scsi_block")
b("READ(6) of 0 blocks reads none", BLOCK, "cdb[4] ? cdb[4] : READ_6_MOST", "cdb[4]", "scsi_block")
b("a WRITE takes what the guest did not send", BLOCK, "cmd->used > cmd->out_len ? SCSI_OVERRUN : v", "v", "scsi_block")
b("a WRITE without a cache is not durable", BLOCK, "cmd->fua |= scsi_write_through(lu);", "", "scsi_block")
b("nor is what UNMAP gives back", SPACE_CMD, "cmd->space = SCSI_DISCARD;\n        cmd->fua = scsi_write_through(lu);",
  "cmd->space = SCSI_DISCARD;", "scsi_block")
b("a read-only disk takes WRITE SAME(16)", "vhost_user_scsi/scsi_table.c",
  "{ 0x93, .len = 16, .flags = SCSI_OP_WRITES,", "{ 0x93, .len = 16, .flags = 0,", "scsi_cmd", "scsi_block")
b("UNMAP begins before all ranges were looked at", SPACE_CMD, "                        return SCSI_DONE;\n        if (!cmd->nranges)",
  "                        break;\n        if (!cmd->nranges)", "scsi_space")
b("UNMAP's limit is one for each range", SPACE_CMD, "*total += n;", "*total = n;", "scsi_space")
b("UNMAP reads one descriptor too many", SPACE_CMD, "uint64_t n = bytes / UNMAP_EACH,", "uint64_t n = bytes / UNMAP_EACH + (bytes % UNMAP_EACH != 0),", "scsi_space")
b("WRITE SAME's data is looked at in part", SPACE_CMD, "bytes_are_zero(cmd->data, lu->block_size)", "bytes_are_zero(cmd->data, 512)", "scsi_space")
b("MODE SELECT takes the cache bit before it has seen all", MODE, "caching_at = at;", "set_cache(lu, cmd, cmd->data[at + WCE_AT] & WCE), caching_at = at;", "scsi_mode")
b("a cache that is switched off is not emptied", MODE, "return cmd->wce_changed && !on ? SCSI_FLUSH : scsi_good(cmd);", "return scsi_good(cmd);", "scsi_mode")
b("a page cut off is read", MODE, "left < PAGE_HEADER + (uint32_t)p->len", "left + 1 < PAGE_HEADER + (uint32_t)p->len", "scsi_mode")
b("an attention is told for ever", SENSE, "all = atomic_fetch_and(&lu->attentions, ~(1u << first));", "", "scsi_cmd")
b("INQUIRY ends with an attention", "vhost_user_scsi/scsi_table.c", "{ 0x12, .len = 6, .flags = SCSI_OP_CALM |", "{ 0x12, .len = 6, .flags =", "scsi_cmd")
b("an answer is longer than the guest's buffer", SENSE, "min_u64(min_u64(len, alloc), cmd->in_len)", "min_u64(len, alloc)", "scsi_inquiry", "scsi_cmd")
b("a full disk is a broken one", SENSE, "case -ENOSPC:\n", "", "scsi_block")
b("a disk gets its name from where it is, also with a serial", "vhost_user_scsi/scsi_inquiry.c", "hash(given ? serial : stable)", "hash(stable ? stable : serial)", "scsi_inquiry")

b = room("in flight")
b("there is always room", "blkq/in_flight.h", "f->bytes + in_flight_cost(len) <= most", "true", "in_flight")
b("who comes later goes first", "blkq/in_flight.h", "list_empty(&f->waiting) && in_flight_has_room(f, len)", "in_flight_has_room(f, len)", "in_flight")
b("what is longer than all room waits for ever", "blkq/in_flight.h", "!most || !f->bytes || ", "!most || ", "in_flight")
b("nobody is let go when something ends", "blkq/move.c", "        if (__builtin_expect(!list_empty(&m->flight.waiting), 0))\n                let_waiting_go(m);\n", "", "in_flight")

b = room("compressed clusters")
b("an old format of zstd is unpacked, too", "formats/qcow2/unpack.c", "!zstd_is_frame(packed, packed_len) || ", "", "qcow2_unpack")
