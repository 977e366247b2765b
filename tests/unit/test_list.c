/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/bitmap.h"
#include "common/bytes.h"
#include "common/list.h"

struct item {
        int n;
        struct list link;
};

static void fill(struct list *head, struct item *items, int first, int count)
{
        list_init(head);
        for (int i = 0; i < count; i++) {
                items[i].n = first + i;
                list_add_tail(head, &items[i].link);
        }
}

/* The numbers on the list as decimal digits: 1, 2, 3 is 123. */
static int digits(struct list *head)
{
        int v = 0;

        list_for_each(n, head)
                v = v * 10 + list_entry(n, struct item, link)->n;
        return v;
}

static void test_add_and_delete(void **state)
{
        struct item it[3], front = { .n = 9 };
        struct list head;

        fill(&head, it, 1, 3);
        list_add_head(&head, &front.link);
        assert_int_equal(digits(&head), 9123);
        list_del(&it[1].link);
        assert_int_equal(digits(&head), 913);
        list_del(&it[1].link); /* a node that is on no list may be deleted again */
        assert_true(list_empty(&it[1].link));
        assert_int_equal(digits(&head), 913);
}

static void test_pop(void **state)
{
        struct item it[2];
        struct list head;

        fill(&head, it, 1, 2);
        assert_ptr_equal(list_pop(&head), &it[0].link);
        assert_true(list_empty(&it[0].link));
        assert_ptr_equal(list_pop(&head), &it[1].link);
        assert_null(list_pop(&head));
        assert_true(list_empty(&head));
}

static void test_splice(void **state)
{
        struct item a[2], b[2];
        struct list to, from;

        fill(&to, a, 1, 2);
        fill(&from, b, 3, 2);
        list_splice_tail(&to, &from);
        assert_int_equal(digits(&to), 1234);
        assert_true(list_empty(&from));
        list_splice_tail(&to, &from);
        assert_int_equal(digits(&to), 1234);
        list_splice_tail(&from, &to);
        assert_int_equal(digits(&from), 1234);
        assert_true(list_empty(&to));
}

static void test_delete_while_walking(void **state)
{
        struct item it[4];
        struct list head;

        fill(&head, it, 1, 4);
        list_for_each_safe(n, &head)
                if (list_entry(n, struct item, link)->n % 2)
                        list_del(n);
        assert_int_equal(digits(&head), 24);
}

static void test_bitmap(void **state)
{
        unsigned long map[BITMAP_WORDS(130)] = { 0 };

        assert_false(bitmap_test_and_set(map, 0));
        assert_false(bitmap_test_and_set(map, 64));
        assert_true(bitmap_test_and_set(map, 64));
        bitmap_set(map, 129);
        for (size_t i = 0; i < 130; i++)
                assert_int_equal(bitmap_test(map, i), i == 0 || i == 64 || i == 129);
        bitmap_clear(map, 64);
        assert_false(bitmap_test(map, 64));
        assert_true(bitmap_test(map, 129));
}

static void test_bytes(void **state)
{
        static const uint8_t in[9] = { 0, 1, 2, 3, 4, 5, 6, 7, 8 };
        uint8_t out[9] = { 0 };

        assert_int_equal(be16_get(in + 1), 0x0102);
        assert_int_equal(le16_get(in + 1), 0x0201);
        assert_int_equal(be32_get(in + 1), 0x01020304);
        assert_true(be64_get(in + 1) == 0x0102030405060708ull && le64_get(in + 1) == 0x0807060504030201ull);
        be64_put(out + 1, 0x0102030405060708ull);
        assert_memory_equal(out, in, 9);
        le32_put(out + 1, 0x04030201);
        assert_memory_equal(out, in, 5);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_add_and_delete), cmocka_unit_test(test_pop), cmocka_unit_test(test_splice),
                cmocka_unit_test(test_delete_while_walking), cmocka_unit_test(test_bitmap), cmocka_unit_test(test_bytes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
