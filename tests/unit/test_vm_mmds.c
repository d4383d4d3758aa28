#include "tests/unit/fake_kvm.h"
#include "tests/unit/mmds_text.h"
#include "tests/unit/vm_start.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The metadata service of a VM: made from MSG_START, changed by MSG_MMDS. */

static struct vm_start s;
static struct vm vm;
static struct error err;

static void setup(void)
{
	fake_kvm_reset();
	memset(&vm, 0, sizeof(vm));
	memset(&err, 0, sizeof(err));
	ck_assert_int_eq(vm_init(&vm, 1), 0);
	vm_start_make(&s, 0);
}

static void teardown(void)
{
	mmds_destroy(vm.mmds);
	vm_start_destroy_vm(&vm);
	vm_start_free(&s);
}

static int image_fd(const char *text, bool good, uint32_t *ret_len)
{
	_Alignas(8) char image[MMDS_TEXT_IMAGE(64)];
	size_t len = mmds_text_image(image, text, strlen(text));
	int fd = memfd_create("test", MFD_CLOEXEC);

	image[0] = (char)(image[0] + !good);
	ck_assert_int_eq(write(fd, image, len), (ssize_t)len);
	*ret_len = (uint32_t)len;
	return fd;
}

static int create(const char *text, bool good)
{
	struct msg_start *m = &s.msg.start;
	struct msg_start_fds at;

	m->has_mmds = 1;
	m->mmds.ipv4 = 0xa9fea9feu;
	if (text) {
		s.fds[s.n_fds++] = image_fd(text, good, &m->mmds.data_len);
		msg_start_fds(m, &at);
		ck_assert_int_eq(at.mmds, (int)s.n_fds - 1);
	}
	return vm_start_create(&vm, &s, &err);
}

/* What MSG_MMDS comes to; its descriptor is closed, whatever that is. */
static int change(const char *text, bool good)
{
	union msg m = {.mmds = {.hdr = {.type = MSG_MMDS}}};
	int fd = image_fd(text, good, &m.mmds.len);
	int r = vm_obey(&vm, &m, &fd);

	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
	return r;
}

START_TEST(a_service_starts_with_its_metadata)
{
	ck_assert_int_eq(create("hello", true), 0);
	ck_assert_ptr_nonnull(vm.mmds);
	/* It is no device. */
	ck_assert_uint_eq(vm.n_slots, 0);
}
END_TEST

START_TEST(a_service_may_start_without_metadata)
{
	ck_assert_int_eq(create(NULL, true), 0);
	ck_assert_ptr_nonnull(vm.mmds);
	ck_assert_int_eq(change("hello", true), 0);
}
END_TEST

START_TEST(metadata_that_is_none_fails_the_start)
{
	ck_assert_int_eq(create("hello", false), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "metadata"));
}
END_TEST

START_TEST(metadata_is_changed_by_a_message)
{
	ck_assert_int_eq(create("hello", true), 0);
	ck_assert_int_eq(change("changed", true), 0);
	ck_assert_int_eq(change("no metadata", false), -EINVAL);
}
END_TEST

START_TEST(a_vm_without_a_service_takes_no_metadata)
{
	ck_assert_int_eq(vm_start_create(&vm, &s, &err), 0);
	ck_assert_ptr_null(vm.mmds);
	ck_assert_int_eq(change("hello", true), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vm_mmds");
	TCase *tc = tcase_create("mmds");
	SRunner *sr = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_service_starts_with_its_metadata);
	tcase_add_test(tc, a_service_may_start_without_metadata);
	tcase_add_test(tc, metadata_that_is_none_fails_the_start);
	tcase_add_test(tc, metadata_is_changed_by_a_message);
	tcase_add_test(tc, a_vm_without_a_service_takes_no_metadata);
	suite_add_tcase(suite, tc);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
