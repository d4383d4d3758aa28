#include "daemon/registry.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* More than the buckets there are at first. */
#define MANY 1000

static struct registry reg;
static struct vm *vms;

static void set_up(void)
{
	vms = calloc(MANY, sizeof(*vms));
	ck_assert_ptr_nonnull(vms);
	for (unsigned i = 0; i < MANY; i++)
		snprintf(vms[i].id, sizeof(vms[i].id), "vm-%u", i);
	ck_assert_int_eq(registry_init(&reg), 0);
}

static void tear_down(void)
{
	while (!TAILQ_EMPTY(&reg.list))
		registry_remove(&reg, TAILQ_FIRST(&reg.list));
	registry_fini(&reg);
	free(vms);
}

START_TEST(a_vm_is_found_by_its_id_until_it_is_removed)
{
	registry_add(&reg, &vms[1]);
	ck_assert_ptr_eq(registry_find(&reg, "vm-1"), &vms[1]);
	ck_assert_ptr_null(registry_find(&reg, "vm-2"));
	ck_assert_ptr_null(registry_find(&reg, "vm-"));
	ck_assert_ptr_null(registry_find(&reg, "VM-1"));
	registry_remove(&reg, &vms[1]);
	ck_assert_ptr_null(registry_find(&reg, "vm-1"));
	ck_assert_uint_eq(reg.n, 0);
}
END_TEST

START_TEST(numbers_rise_and_find_the_next_vm)
{
	uint64_t second;

	for (unsigned i = 0; i < 4; i++)
		registry_add(&reg, &vms[i]);
	ck_assert_ptr_eq(registry_after(&reg, 0), &vms[0]);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_lt(vms[i].number, vms[i + 1].number);
		ck_assert_ptr_eq(
			registry_after(&reg, vms[i].number), &vms[i + 1]);
	}
	ck_assert_ptr_null(registry_after(&reg, vms[3].number));
	second = vms[1].number;
	registry_remove(&reg, &vms[1]);
	ck_assert_ptr_eq(registry_after(&reg, second), &vms[2]);
	/* Whoever comes again is new ... */
	vms[1].number = 0;
	registry_add(&reg, &vms[1]);
	ck_assert_uint_lt(vms[3].number, vms[1].number);
	ck_assert_ptr_eq(registry_after(&reg, vms[3].number), &vms[1]);
	/* ... unless another daemon knew it: then it has its place. */
	registry_remove(&reg, &vms[1]);
	vms[1].number = second;
	registry_add(&reg, &vms[1]);
	ck_assert_ptr_eq(registry_after(&reg, vms[0].number), &vms[1]);
	ck_assert_ptr_eq(registry_after(&reg, second), &vms[2]);
}
END_TEST

START_TEST(no_number_is_given_twice_when_the_clock_goes_back)
{
	reg.last_number = UINT64_MAX / 2;
	registry_add(&reg, &vms[0]);
	registry_add(&reg, &vms[1]);
	ck_assert_uint_eq(vms[0].number, UINT64_MAX / 2 + 1);
	ck_assert_uint_eq(vms[1].number, UINT64_MAX / 2 + 2);
}
END_TEST

START_TEST(all_of_many_are_found_and_listed_in_order)
{
	struct vm *vm;
	unsigned i = 0;

	for (i = 0; i < MANY; i++)
		registry_add(&reg, &vms[i]);
	ck_assert_uint_eq(reg.n, MANY);
	ck_assert_uint_ge(reg.n_buckets, MANY / 2);
	for (i = 0; i < MANY; i++)
		ck_assert_ptr_eq(registry_find(&reg, vms[i].id), &vms[i]);
	i = 0;
	TAILQ_FOREACH(vm, &reg.list, link)
	ck_assert_ptr_eq(vm, &vms[i++]);
	ck_assert_uint_eq(i, MANY);
}
END_TEST

START_TEST(removing_one_leaves_the_others)
{
	for (unsigned i = 0; i < MANY; i++)
		registry_add(&reg, &vms[i]);
	for (unsigned i = 0; i < MANY; i += 2)
		registry_remove(&reg, &vms[i]);
	for (unsigned i = 0; i < MANY; i++)
		ck_assert_ptr_eq(
			registry_find(&reg, vms[i].id), i % 2 ? &vms[i] : NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("registry");
	TCase *t = tcase_create("registry");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, a_vm_is_found_by_its_id_until_it_is_removed);
	tcase_add_test(t, all_of_many_are_found_and_listed_in_order);
	tcase_add_test(t, numbers_rise_and_find_the_next_vm);
	tcase_add_test(t, no_number_is_given_twice_when_the_clock_goes_back);
	tcase_add_test(t, removing_one_leaves_the_others);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
