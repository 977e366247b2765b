/* SPDX-License-Identifier: BSD-3-Clause */
/* vdisk-bench's small rooms: histogram, offsets, options. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/err.h"
#include "tools/vdisk-bench/hist.h"
#include "tools/vdisk-bench/offsets.h"
#include "tools/vdisk-bench/options.h"

static void test_quantiles_are_within_a_bucket(void **state)
{
        static struct hist h;

        assert_int_equal(hist_quantile(&h, 0.5), 0);
        for (uint64_t i = 1; i <= 100000; i++)
                hist_add(&h, i);
        assert_int_equal(h.min, 1);
        assert_int_equal(h.max, 100000);
        assert_int_equal(h.sum, 100000ull * 100001 / 2);
        assert_int_equal(hist_quantile(&h, 0), 1);
        assert_int_equal(hist_quantile(&h, 1), 100000);
        for (double f = 0.001; f < 1; f += 0.001) {
                double got = (double)hist_quantile(&h, f), want = f * 100000;

                if (got < want - 1 || got > want * 1.04 + 1)
                        fail_msg("quantile %g: %g, not about %g", f, got, want);
        }
}

static void test_every_latency_has_a_bucket(void **state)
{
        for (unsigned shift = 0; shift < 64; shift++) {
                struct hist h = { 0 };
                uint64_t ns = 1ull << shift, limit = (1ull << 40) - 1, want = ns < limit ? ns : limit;

                hist_add(&h, ns);
                assert_int_equal(hist_quantile(&h, 0.5), want);
        }
}

static void test_merged_histograms_are_one(void **state)
{
        static struct hist a, b, both;

        for (uint64_t i = 1; i < 3000; i++) {
                hist_add(i % 3 ? &a : &b, i * 977);
                hist_add(&both, i * 977);
        }
        hist_merge(&a, &b);
        assert_memory_equal(&a, &both, sizeof(a));
}

static void test_offsets_stay_inside_and_reach_all(void **state)
{
        static const double thetas[] = { 0, 0.5, 0.99, 1.2, 2 };

        for (unsigned t = 0; t < ARRAY_SIZE(thetas); t++) {
                for (uint64_t nblocks = 1; nblocks < 40; nblocks += 13) {
                        struct offsets o;
                        uint64_t seen = 0;

                        offsets_init(&o, 5 + t, true, nblocks, thetas[t]);
                        for (unsigned i = 0; i < 20000; i++) {
                                uint64_t at = offsets_next(&o, 1);

                                assert_in_range(at, 0, nblocks - 1);
                                seen |= 1ull << at;
                        }
                        if (thetas[t] == 0)
                                assert_int_equal(seen, nblocks == 64 ? UINT64_MAX : (1ull << nblocks) - 1);
                }
        }
}

static void test_zipf_has_favourites(void **state)
{
        static unsigned count[1000];
        struct offsets o;
        unsigned most = 0;

        offsets_init(&o, 1, true, 1000, 1.2);
        for (unsigned i = 0; i < 100000; i++)
                count[offsets_next(&o, 1)]++;
        for (unsigned i = 0; i < 1000; i++)
                most = count[i] > most ? count[i] : most;
        assert_in_range(most, 20000, 30000); /* 1 / zeta(1000, 1.2) is 23 % */
}

static void test_sequential_runs_wrap_before_the_end(void **state)
{
        struct offsets o;

        offsets_init(&o, 1, false, 10, 0);
        assert_int_equal(offsets_next(&o, 4), 0);
        assert_int_equal(offsets_next(&o, 4), 4);
        assert_int_equal(offsets_next(&o, 4), 0); /* 8..11 does not fit */
        assert_int_equal(offsets_next(&o, 6), 4);
        assert_int_equal(offsets_next(&o, 1), 0);
}

static int parse(const char *const *args, struct options *o)
{
        char *argv[16] = { (char *)"vdisk-bench" };
        int argc = 1;

        while (args[argc - 1] && argc < 15) {
                argv[argc] = (char *)args[argc - 1];
                argc++;
        }
        optind = 0; /* glibc: begin anew */
        err_clear();
        return options_parse(argc, argv, o);
}

static const struct { const char *says; const char *args[5]; } wrong[] = {
        { "--socket=PATH is missing", { "--rw=read" } },
        { "--rw=foo", { "--socket=x", "--rw=foo" } },
        { "--bs=1000", { "--socket=x", "--bs=1000" } },
        { "--bs=0", { "--socket=x", "--bs=0" } },
        { "--bs=128M", { "--socket=x", "--bs=128M" } },
        { "--bsrange=4k:", { "--socket=x", "--bsrange=4k:8k" } },
        { "multiple of the first", { "--socket=x", "--bsrange=4k-6k" } },
        { "--iodepth=0", { "--socket=x", "--iodepth=0" } },
        { "--iodepth=4096", { "--socket=x", "--iodepth=4096" } },
        { "--numjobs=-1", { "--socket=x", "--numjobs=-1" } },
        { "--runtime=soon", { "--socket=x", "--runtime=soon" } },
        { "--rwmixread=101", { "--socket=x", "--rwmixread=101" } },
        { "--random_distribution=zipf:1", { "--socket=x", "--rw=randread", "--random_distribution=zipf:1" } },
        { "for random workloads", { "--socket=x", "--random_distribution=zipf:0.9" } },
        { "--verify=md5", { "--socket=x", "--verify=md5" } },
        { "only with --verify", { "--socket=x", "--fresh" } },
        { "needs --verify-state", { "--socket=x", "--verify_only" } },
        { "--reconnect=maybe", { "--socket=x", "--reconnect=maybe" } },
        { "--output-format=xml", { "--socket=x", "--output-format=xml" } },
        { "--offset=512", { "--socket=x", "--offset=512" } },
        { "bs must be a multiple of ba", { "--socket=x", "--verify=pattern", "--ba=8k" } },
        { "--ba=65536 is more than", { "--socket=x", "--ba=64k" } },
        { "--frobnicate", { "--socket=x", "--frobnicate" } },
        { "disk.img: not an option", { "--socket=x", "disk.img" } },
};

static void test_wrong_options_get_a_sentence(void **state)
{
        for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
                struct options o;
                int r = parse(wrong[i].args, &o);

                if (r >= 0 || !strstr(err_text(r), wrong[i].says))
                        fail_msg("\"%s\" wanted, got %d: %s", wrong[i].says, r, err_text(r));
        }
}

static void test_good_options(void **state)
{
        static const char *const args[] = { "--socket=/s", "--rw=randrw", "--bsrange=4k-64k", "--ba=512", "--iodepth=8",
                                            "--runtime=1.5", "--rwmixread=70", "--fsync=3", "--verify=pattern", NULL };
        struct options o;

        assert_int_equal(parse(args, &o), 0);
        assert_string_equal(o.socket, "/s");
        assert_true(o.random && o.verify && o.indirect && o.event_idx && !o.poll && !o.packed && !o.trim);
        assert_int_equal(o.bs_min, 4096);
        assert_int_equal(o.bs_max, 65536);
        assert_int_equal(o.align, 512);
        assert_int_equal(o.read_percent, 70);
        assert_int_equal(o.runtime_ns, 1500000000);
        assert_int_equal(o.numjobs, 1);
        assert_int_equal(o.reconnect, RECONNECT_NO);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_quantiles_are_within_a_bucket),
                cmocka_unit_test(test_every_latency_has_a_bucket),
                cmocka_unit_test(test_merged_histograms_are_one),
                cmocka_unit_test(test_offsets_stay_inside_and_reach_all),
                cmocka_unit_test(test_zipf_has_favourites),
                cmocka_unit_test(test_sequential_runs_wrap_before_the_end),
                cmocka_unit_test(test_wrong_options_get_a_sentence),
                cmocka_unit_test(test_good_options),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
