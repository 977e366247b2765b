/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The LUKS header on a memory file: published vectors, passwords that come and go, what a crash leaves of a change, and
 * headers that strangers made.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/err.h"
#include "common/fault.h"
#include "common/sanitized.h"
#include "config.h"
#include "formats/luks/af.h"
#include "formats/luks/header.h"
#include "formats/luks/kept_keys.h"
#include "formats/luks/luks.h"

#define AT (64u << 10) /* where the header lies in the file */

static void ok(int r)
{
        if (r < 0)
                fail_msg("%d: %s", r, err_text(r));
}

static void from_hex(const char *hex, uint8_t *to)
{
        for (unsigned x; sscanf(hex, "%2x", &x) == 1; hex += 2)
                *to++ = (uint8_t)x;
}

static struct secret password(const char *text)
{
        struct secret s = { secret_mem_new(strlen(text)), strlen(text) };

        memcpy(s.bytes, text, s.len);
        return s;
}

/* --- vectors ---------------------------------------------------------------------------------------------------------- */

/* IEEE 1619-2007, annex B, vector 4: a sector of 512 bytes. */
static void test_xts_vector(void **state)
{
        uint8_t key[32], sector[1024], plain[1024], first[32];
        struct sector_cipher *c;

        from_hex("2718281828459045235360287471352631415926535897932384626433832795", key);
        from_hex("27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c", first);
        for (unsigned i = 0; i < sizeof(plain); i++)
                sector[i] = plain[i] = (uint8_t)i;
        ok(sector_cipher_new("aes", "xts-plain64", key, sizeof(key), &c));
        ok(sector_cipher_run(c, CIPHER_ENCRYPT, 0, sector, sizeof(sector)));
        assert_memory_equal(sector, first, sizeof(first));
        assert_memory_not_equal(sector, sector + 512, 512); /* the second one has another number */
        ok(sector_cipher_run(c, CIPHER_DECRYPT, 1, sector + 512, 512));
        ok(sector_cipher_run(c, CIPHER_DECRYPT, 0, sector, 512));
        assert_memory_equal(sector, plain, sizeof(plain));
        sector_cipher_free(c);
}

/* plain keeps 32 bits of a sector's number, plain64 all of them. */
static void test_ivs(void **state)
{
        static const char *const modes[] = { "xts-plain", "xts-plain64", "cbc-plain", "cbc-plain64", "cbc-essiv:sha256" };
        uint8_t key[32] = { 1, 2, 3 }, a[512], b[512];

        key[20] = 9;
        for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
                bool low_bits = !strcmp(strchr(modes[i], '-'), "-plain");
                struct sector_cipher *c;

                memset(a, 0, sizeof(a));
                memset(b, 0, sizeof(b));
                ok(sector_cipher_new("aes", modes[i], key, sizeof(key), &c));
                ok(sector_cipher_run(c, CIPHER_ENCRYPT, 5, a, sizeof(a)));
                ok(sector_cipher_run(c, CIPHER_ENCRYPT, 5 + (1ull << 32), b, sizeof(b)));
                if (low_bits != !memcmp(a, b, sizeof(a)))
                        fail_msg("%s", modes[i]);
                ok(sector_cipher_run(c, CIPHER_DECRYPT, 5 + (1ull << 32), b, sizeof(b)));
                assert_true(b[0] == 0 && !memcmp(b, b + 1, sizeof(b) - 1));
                sector_cipher_free(c);
        }
}

static void test_words(void **state)
{
        static const struct { const char *name, *mode; size_t len; int r; } cases[] = {
                { "aes", "xts-plain64", 64, 0 },     { "aes", "xts-plain64", 48, -ENOTSUP }, { "aes", "cbc-essiv:sha256", 24, 0 },
                { "aes", "cbc-essiv:sha1", 32, -ENOTSUP }, { "aes", "ecb-plain", 32, -ENOTSUP }, { "aes", "ecb", 32, -ENOTSUP },
                { "serpent", "xts-plain64", 64, -ENOTSUP }, { "aes", "", 32, -ENOTSUP }, { "aes", "xts-", 32, -ENOTSUP },
                { "aes", "xts-benbi", 32, -ENOTSUP }, { "aes", "aaaaaaaaaaaa-plain", 32, -ENOTSUP },
                { "aes", "xts-essiv:", 32, -ENOTSUP }, { "aes", "xts-plain64", 0, -ENOTSUP },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                if (sector_cipher_check(cases[i].name, cases[i].mode, cases[i].len) != cases[i].r)
                        fail_msg("%s-%s, %zu bytes", cases[i].name, cases[i].mode, cases[i].len);
                err_clear();
        }
}

/* RFC 6070 (sha1), RFC 7914 section 11 (sha256). */
static void test_pbkdf2(void **state)
{
        uint8_t out[64], should[64];

        ok(crypto_pbkdf2("sha1", "password", 8, "salt", 4, 4096, out, 20));
        from_hex("4b007901b765489abead49d926f721d065a429c1", should);
        assert_memory_equal(out, should, 20);
        ok(crypto_pbkdf2("sha256", "passwd", 6, "salt", 4, 1, out, 64));
        from_hex("55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
                 "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783", should);
        assert_memory_equal(out, should, 64);
        assert_int_equal(crypto_pbkdf2("md4", "p", 1, "s", 1, 1, out, 20), -ENOTSUP);
        err_clear();
}

static void test_af(void **state)
{
        static const char *const hashes[] = { "sha1", "sha256", "sha512", "ripemd160" };
        uint8_t key[48], back[48], *split = malloc(sizeof(key) * 50);

        for (size_t i = 0; i < ARRAY_SIZE(hashes); i++) {
                ok(crypto_random(key, sizeof(key)));
                ok(af_split(hashes[i], key, sizeof(key), 50, split));
                ok(af_merge(hashes[i], split, sizeof(key), 50, back));
                assert_memory_equal(key, back, sizeof(key));
                split[7 * sizeof(key)] ^= 1; /* every stripe counts */
                ok(af_merge(hashes[i], split, sizeof(key), 50, back));
                assert_memory_not_equal(key, back, sizeof(key));
        }
        free(split);
}

/* --- a header ----------------------------------------------------------------------------------------------------------- */

static struct luks_area make(struct luks_key *key)
{
        struct luks_wish wish = { "aes", "xts-plain64", "sha256", 32, 1 };
        AUTO(secret_free) struct secret p = password("one");
        struct luks_area area = { NULL, AT, luks_area_size(32) };

        ok(file_open_mem(NULL, AT + area.len, &area.file));
        ok(luks_format(&area, &wish, &p, key));
        return area;
}

/* The slot that @text opens; -1: none. */
static int slot_of(const struct luks_area *area, const char *text, const struct luks_key *should)
{
        AUTO(luks_key_finish) struct luks_key key = { 0 };
        AUTO(secret_free) struct secret p = password(text);
        struct luks_header h;
        unsigned slot;
        int r = luks_read(area, &h);

        ok(r);
        r = luks_unlock(area, &h, &p, &key, &slot);
        err_clear();
        if (r < 0)
                return r == -EACCES ? -1 : r;
        assert_memory_equal(key.bytes, should->bytes, key.len);
        return (int)slot;
}

static void test_passwords(void **state)
{
        AUTO(luks_key_finish) struct luks_key key = { 0 };
        AUTO(secret_free) struct secret two = password("two");
        struct luks_area area = make(&key);
        struct luks_header h;

        ok(luks_read(&area, &h));
        assert_int_equal(luks_active_slots(&h), 1);
        assert_int_equal(slot_of(&area, "one", &key), 0);
        assert_int_equal(slot_of(&area, "two", &key), -1);
        assert_int_equal(luks_free_slot(&h), 1);
        ok(luks_slot_set(&area, &h, 6, &key, &two, 1)); /* its entry lies on a border of sectors */
        assert_int_equal(slot_of(&area, "two", &key), 6);
        assert_int_equal(luks_slot_set(&area, &h, 6, &key, &two, 1), -EBUSY);
        err_clear();
        assert_int_equal(luks_opens(&area, &h, 6, &two), 1);
        assert_int_equal(luks_opens(&area, &h, 0, &two), 0);
        assert_int_equal(luks_opens(&area, &h, 3, &two), 0);
        ok(luks_slot_clear(&area, &h, 0));
        assert_int_equal(slot_of(&area, "one", &key), -1);
        assert_int_equal(slot_of(&area, "two", &key), 6);
        file_close(area.file);
}

/* --- crashes ------------------------------------------------------------------------------------------------------------ */

struct event {
        uint64_t off, len;
        uint8_t *bytes; /* NULL: a sync */
};
static struct recorder {
        struct file_tap tap;
        struct event ev[64];
        unsigned n;
} rec;

static void record(struct file_tap *tap, struct file *f, const struct file_event *ev)
{
        struct event *e = &rec.ev[rec.n];

        if (ev->phase != FILE_EV_ISSUED)
                return;
        assert_true(rec.n++ < ARRAY_SIZE(rec.ev));
        *e = (struct event){ .off = ev->off, .len = ev->len };
        if (ev->kind == FILE_EV_WRITE) {
                e->bytes = malloc(ev->len);
                memcpy(e->bytes, ev->iov[0].iov_base, ev->len);
        }
}

/* The file after @upto events, with only each second sector of the last one when @torn. */
static struct luks_area after_crash(const void *start, size_t len, unsigned upto, bool torn)
{
        struct luks_area area = { NULL, AT, len - AT };

        ok(file_open_mem(start, len, &area.file));
        for (unsigned i = 0; i < upto; i++) {
                struct event *e = &rec.ev[i];

                for (uint64_t at = 0, n; e->bytes && at < e->len; at += n) {
                        n = 512 - (e->off + at) % 512;
                        n = n < e->len - at ? n : e->len - at;
                        if (!torn || i + 1 < upto || (e->off + at) / 512 % 2)
                                ok(file_pwrite(area.file, e->bytes + at, n, e->off + at));
                }
        }
        return area;
}

/* "one" is in slot 0; "two" takes the slot 6 or 0, or "one" goes and "two" stays: somebody always gets in. */
static void test_crash(void **state)
{
        AUTO(luks_key_finish) struct luks_key key = { 0 };
        AUTO(secret_free) struct secret two = password("two");
        struct luks_area area = make(&key);
        struct luks_header h;
        const void *bytes;
        uint8_t *start;
        size_t len;

        rec = (struct recorder){ .tap.event = record };
        bytes = file_mem_bytes(area.file, &len);
        start = malloc(len);
        memcpy(start, bytes, len);
        area.file->tap = &rec.tap;
        ok(luks_read(&area, &h));
        ok(luks_slot_set(&area, &h, 6, &key, &two, 1));
        ok(luks_slot_clear(&area, &h, 0));
        area.file->tap = NULL;
        assert_true(rec.n >= 7);
        for (unsigned upto = 0; upto <= rec.n; upto++)
                for (int torn = 0; torn < 2; torn++) {
                        struct luks_area then = after_crash(start, len, upto, torn);

                        if (slot_of(&then, "one", &key) != 0 && slot_of(&then, "two", &key) != 6)
                                fail_msg("nobody gets in after %u of %u events", upto, rec.n);
                        file_close(then.file);
                }
        for (unsigned i = 0; i < rec.n; i++)
                free(rec.ev[i].bytes);
        free(start);
        file_close(area.file);
}

/* --- strangers' headers -------------------------------------------------------------------------------------------------- */

static void test_hostile_fields(void **state)
{
        static const struct { const char *what; unsigned at, width; uint32_t value; int r; } cases[] = {
                { "magic", LH_MAGIC, 4, 0, -EINVAL },
                { "version 2", LH_VERSION, 2, 2, -ENOTSUP },
                { "key of 0 bytes", LH_KEY_BYTES, 4, 0, -ENOTSUP },
                { "huge key", LH_KEY_BYTES, 4, UINT32_MAX, -ENOTSUP },
                { "digest without iterations", LH_DIGEST_ITERATIONS, 4, 0, -EINVAL },
                { "digest forever", LH_DIGEST_ITERATIONS, 4, UINT32_MAX, -E2BIG },
                { "slot state", LH_SLOTS + LS_STATE, 4, 1, -EINVAL },
                { "no iterations", LH_SLOTS + LS_ITERATIONS, 4, 0, -EINVAL },
                { "iterations forever", LH_SLOTS + LS_ITERATIONS, 4, UINT32_MAX, -E2BIG },
                { "just too many", LH_SLOTS + LS_ITERATIONS, 4, LUKS_MAX_WORK, -E2BIG },
                { "inactive slot's iterations", LH_SLOTS + LS_LENGTH + LS_ITERATIONS, 4, UINT32_MAX, 0 },
                { "no stripes", LH_SLOTS + LS_STRIPES, 4, 0, -EINVAL },
                { "stripes", LH_SLOTS + 3 * LS_LENGTH + LS_STRIPES, 4, UINT32_MAX, -EINVAL },
                { "material in the header", LH_SLOTS + LS_MATERIAL, 4, 1, -EINVAL },
                { "material at 0", LH_SLOTS + LS_MATERIAL, 4, 0, -EINVAL },
                { "material outside", LH_SLOTS + LS_MATERIAL, 4, UINT32_MAX, -EINVAL },
                { "material just outside", LH_SLOTS + LS_MATERIAL, 4, (4096 + 8 * 131072 - 4096) / 512, -EINVAL },
                { "two slots' material", LH_SLOTS + LS_LENGTH + LS_MATERIAL, 4, 8, -EINVAL },
                { "cipher", LH_CIPHER, 4, 0x78787878, -ENOTSUP },
                { "unprintable hash", LH_HASH, 4, 0x01020304, -EINVAL },
                { "mode", LH_MODE, 4, 0x2d2d2d2d, -ENOTSUP },
                { "unprintable cipher", LH_CIPHER, 4, 0x61ff6161, -EINVAL },
                { "unprintable mode", LH_MODE, 4, 0x7f7f7f7f, -EINVAL },
                { "unprintable UUID", LH_UUID, 4, 0x0a0a0a0a, -EINVAL },
                { "unknown hash", LH_HASH, 4, 0x6d643400 /* md4 */, -ENOTSUP },
                { "payload means nothing here", LH_PAYLOAD, 4, 0, 0 },
        };
        AUTO(luks_key_finish) struct luks_key key = { 0 };
        struct luks_area area = make(&key);
        uint8_t good[LH_LENGTH];

        ok(file_pread(area.file, good, sizeof(good), AT));
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct luks_header h;
                uint8_t bad[LH_LENGTH];
                int r;

                memcpy(bad, good, sizeof(bad));
                if (cases[i].width == 2)
                        be16_put(bad + cases[i].at, (uint16_t)cases[i].value);
                else
                        be32_put(bad + cases[i].at, cases[i].value);
                ok(file_pwrite(area.file, bad, sizeof(bad), AT));
                r = luks_read(&area, &h);
                if (r != cases[i].r)
                        fail_msg("%s: %d, %s", cases[i].what, r, err_text(r));
                err_clear();
        }
        file_close(area.file);
}

/* Each of the words fills its field to the last byte: there is no end. */
static void test_words_without_end(void **state)
{
        static const struct { unsigned at, len; } words[] = { { LH_CIPHER, 32 }, { LH_MODE, 32 }, { LH_HASH, 32 }, { LH_UUID, 40 } };
        AUTO(luks_key_finish) struct luks_key key = { 0 };
        struct luks_area area = make(&key);
        uint8_t good[LH_LENGTH], bad[LH_LENGTH];
        struct luks_header h;

        ok(file_pread(area.file, good, sizeof(good), AT));
        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                memcpy(bad, good, sizeof(bad));
                memset(bad + words[i].at, 'a', words[i].len);
                ok(file_pwrite(area.file, bad, sizeof(bad), AT));
                assert_int_equal(luks_read(&area, &h), -EINVAL);
                assert_non_null(strstr(err_text(-EINVAL), "without an end"));
                err_clear();
        }
        file_close(area.file);
}

/* What cannot be read or written is an error, and a state that is not on the disk was not set. */
static void test_failing_file(void **state)
{
        AUTO(luks_key_finish) struct luks_key key = { 0 };
        struct luks_area area = make(&key);
        struct luks_header h;

        fault_arm("file.read=1:EIO");
        assert_int_equal(luks_read(&area, &h), -EIO);
        fault_arm(NULL);
        ok(luks_read(&area, &h));
        fault_arm("file.write=1:ENOSPC");
        assert_int_equal(luks_write_slot_state(&area, &h, 0), -ENOSPC);
        fault_arm("file.sync=1:EIO");
        assert_int_equal(luks_write_slot_state(&area, &h, 0), -EIO);
        fault_arm(NULL);
        for (unsigned i = 0; i < LUKS_SLOTS; i++)
                h.slot[i].active = true;
        assert_int_equal(luks_free_slot(&h), -1);
        assert_int_equal(luks_active_slots(&h), LUKS_SLOTS);
        err_clear();
        file_close(area.file);
}

static void test_short_area(void **state)
{
        AUTO(luks_key_finish) struct luks_key key = { 0 };
        struct luks_area area = make(&key);
        struct luks_header h;

        area.len--;
        ok(luks_read(&area, &h)); /* the last slot's padding is not needed */
        area.len = LH_LENGTH - 1;
        assert_int_equal(luks_read(&area, &h), -EINVAL);
        err_clear();
        area.len = 8192;
        assert_int_equal(luks_read(&area, &h), -EINVAL);
        err_clear();
        file_close(area.file);
}

/* --- where keys are ------------------------------------------------------------------------------------------------------ */

/* Looks for the key in all memory that a core dump would have. */
static unsigned times_dumped(const uint8_t *key, size_t len)
{
        AUTO(freep) char *line = NULL;
        FILE *f = fopen("/proc/self/smaps", "r");
        unsigned long from = 0, to = 0, a, b;
        unsigned found = 0;
        bool writable = false;
        size_t room = 0;
        char rights[5];

        assert_non_null(f);
        while (getline(&line, &room, f) > 0) {
                if (sscanf(line, "%lx-%lx %4s ", &a, &b, rights) == 3) {
                        from = a, to = b, writable = rights[0] == 'r' && rights[1] == 'w';
                } else if (!strncmp(line, "VmFlags:", 8) && writable && !strstr(line, " dd")) {
                        for (const uint8_t *p = (void *)from; (p = memmem(p, to - (unsigned long)p, key, len)); p++)
                                found++;
                }
        }
        fclose(f);
        return found;
}

/* Keys are there between begin and end, for the header they belong to, and at no other time. */
static void test_kept_keys(void **state)
{
        struct luks_id id = { .digest = "d", .salt = "s" }, other = { .digest = "d", .salt = "t" };
        struct luks_key k;

        kept_keys_put(&id, "key", 3); /* nobody keeps any */
        assert_false(kept_keys_get(&id, &k));
        kept_keys_begin();
        assert_false(kept_keys_get(&id, &k));
        kept_keys_put(&id, NULL, 0);
        kept_keys_put(&id, "key", 3);
        kept_keys_put(&id, "yek", 3); /* two images with one header: the same key */
        assert_false(kept_keys_get(&other, &k));
        assert_true(kept_keys_get(&id, &k));
        assert_int_equal(k.len, 3);
        assert_memory_equal(k.bytes, "key", 3);
        luks_key_finish(&k);
        assert_null(kept_keys_first()->next);
        kept_keys_end();
        assert_null(kept_keys_first());
        kept_keys_begin();
        assert_false(kept_keys_get(&id, &k));
        kept_keys_end();
}

static void test_not_in_core_dumps(void **state)
{
        AUTO(luks_key_finish) struct luks_key key = { 0 };
        uint8_t seen[64];
        struct luks_area area;
        struct sector_cipher *c;
        char sector[512] = "";

        if (SANITIZED)
                skip(); /* their shadow memory is as large as all there is */
        area = make(&key);
        memset(seen, 0x77, 64);
        assert_true(times_dumped(seen, 64) >= 1); /* what is there is found */
        ok(sector_cipher_new("aes", "xts-plain64", key.bytes, key.len, &c));
        ok(sector_cipher_run(c, CIPHER_ENCRYPT, 0, sector, 512));
        assert_int_equal(slot_of(&area, "one", &key), 0);
        assert_int_equal(times_dumped(key.bytes, 16), 0);
        assert_int_equal(times_dumped(key.bytes + 16, 16), 0);
        sector_cipher_free(c);
        assert_int_equal(times_dumped(key.bytes, 16), 0);
        file_close(area.file);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_xts_vector),
                cmocka_unit_test(test_ivs),
                cmocka_unit_test(test_words),
                cmocka_unit_test(test_pbkdf2),
                cmocka_unit_test(test_af),
                cmocka_unit_test(test_passwords),
                cmocka_unit_test(test_crash),
                cmocka_unit_test(test_hostile_fields),
                cmocka_unit_test(test_words_without_end),
                cmocka_unit_test(test_failing_file),
                cmocka_unit_test(test_short_area),
                cmocka_unit_test(test_kept_keys),
                cmocka_unit_test(test_not_in_core_dumps),
        };

        if (!HAVE_CRYPTO) {
                printf("skipped: built without a crypto library\n");
                return 77;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
