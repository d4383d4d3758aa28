#include "tests/unit/fake_kvm.h"
#include "tests/unit/kernel_images.h"
#include "tests/unit/vm_start.h"

#include "base/clock.h"
#include "driver.h"
#include "vmm/config.h"
#include "vmm/memory_map.h"

#include <check.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mem.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_pmem.h>
#include <sched.h>
#include <stdlib.h>

#define GIB (1024 * MIB)
#define BLOCK (2 * MIB)
#define SLOT (128 * MIB)
#define V1 (1ull << VIRTIO_F_VERSION_1)

static struct vm vm;
static struct vm_start s;
static struct error err;

static void setup(void)
{
	fake_kvm_reset();
	err = (struct error){0};
	ck_assert_int_eq(vm_init(&vm, 1), 0);
	vm_start_make(&s, 0);
}

static void teardown(void)
{
	vm_start_destroy_vm(&vm);
	vm_start_free(&s);
}

static int create(void)
{
	return vm_start_create(&vm, &s, &err);
}

static void add_hotplug(void)
{
	s.msg.start.has_memory_hotplug = 1;
	s.msg.start.memory_hotplug =
		(struct msg_memory_hotplug){.region_bytes = 4 * SLOT,
			.block_bytes = BLOCK,
			.slot_bytes = SLOT,
			.requested_bytes = 2 * SLOT};
}

/* A driver in the VM's own RAM, of the device in slot n. */
static struct driver drive(unsigned n)
{
	struct driver d = {.mem = vm.mem, .size = 8};

	d.desc = gmem_range(&vm.mem, DRIVER_DESC_GPA, 0x4000);
	d.avail = gmem_range(&vm.mem, DRIVER_AVAIL_GPA, 0x2000);
	d.used = gmem_range(&vm.mem, DRIVER_USED_GPA, 0x2000);
	driver_up(vm.slots[n].transport, &d, V1);
	return d;
}

/* One request of two descriptors; waits for its answer. */
static void run(struct driver *d, unsigned n, const void *req, uint32_t req_len,
	void *resp, uint32_t resp_len)
{
	uint64_t end = clock_ns() + 10000000000ull;
	struct driver_piece pieces[] = {{DRIVER_DATA_GPA, req_len, false},
		{DRIVER_DATA_GPA + 64, resp_len, true}, {0}};
	uint32_t id, len;

	memcpy(gmem_range(&vm.mem, DRIVER_DATA_GPA, req_len), req, req_len);
	driver_chain(d, 0, pieces);
	driver_offer(d, 0);
	driver_write(vm.slots[n].transport, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	while (!driver_used(d, &id, &len)) {
		ck_assert(clock_ns() < end);
		sched_yield();
	}
	memcpy(resp, gmem_range(&vm.mem, DRIVER_DATA_GPA + 64, resp_len),
		resp_len);
}

static uint16_t plug(struct driver *d, uint16_t type, uint64_t off, uint16_t n)
{
	struct virtio_mem_req req = {.type = type};
	struct virtio_mem_resp resp;

	req.u.plug.addr = 4 * GIB + off;
	req.u.plug.nb_blocks = n;
	run(d, 0, &req, sizeof(req), &resp, sizeof(resp));
	return resp.type;
}

START_TEST(plugged_memory_is_a_slot_of_kvm)
{
	unsigned first = VM_KVM_SLOT_HOTPLUG;
	struct driver d;

	add_hotplug();
	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_ptr_nonnull(vm.memory);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_MEMORY], 1);
	d = drive(0);
	ck_assert_uint_eq(plug(&d, VIRTIO_MEM_REQ_PLUG, SLOT + BLOCK, 1),
		VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(fake_kvm.slots[first].len, 0);
	ck_assert_uint_eq(fake_kvm.slots[first + 1].len, SLOT);
	ck_assert_uint_eq(fake_kvm.slots[first + 1].gpa, 4 * GIB + SLOT);
	ck_assert_ptr_eq(
		fake_kvm.slots[first + 1].hva, vm.mem.hotplug.hva + SLOT);
	ck_assert_uint_eq(fake_kvm.slots[first + 1].flags, 0);
	ck_assert_ptr_eq(gmem_range(&vm.mem, 4 * GIB + SLOT + BLOCK, BLOCK),
		vm.mem.hotplug.hva + SLOT + BLOCK);
	ck_assert_uint_eq(s.shared->memory.plugged_bytes, BLOCK);
	ck_assert_uint_eq(plug(&d, VIRTIO_MEM_REQ_UNPLUG, SLOT + BLOCK, 1),
		VIRTIO_MEM_RESP_ACK);
	ck_assert_uint_eq(fake_kvm.slots[first + 1].len, 0);
	ck_assert_uint_eq(fake_kvm.slots[0].len, 16 * MIB);
}
END_TEST

START_TEST(a_slot_that_kvm_refuses_is_not_plugged)
{
	struct driver d;

	add_hotplug();
	ck_assert_msg(create() == 0, "%s", err.msg);
	d = drive(0);
	fake_kvm.fail[FAKE_MEMORY] = -ENOMEM;
	ck_assert_uint_eq(
		plug(&d, VIRTIO_MEM_REQ_PLUG, 0, 1), VIRTIO_MEM_RESP_BUSY);
	ck_assert_ptr_null(gmem_range(&vm.mem, 4 * GIB, 1));
	fake_kvm.fail[FAKE_MEMORY] = 0;
	ck_assert_uint_eq(
		plug(&d, VIRTIO_MEM_REQ_PLUG, 0, 1), VIRTIO_MEM_RESP_ACK);
}
END_TEST

START_TEST(the_requested_size_changes_while_it_runs)
{
	union msg m = {.memory = {.hdr = {MSG_MEMORY, 1},
			       .requested_bytes = 3 * SLOT}};

	add_hotplug();
	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_int_eq(vm_obey(&vm, &m, NULL), 0);
	ck_assert_uint_eq(s.shared->memory.requested_bytes, 3 * SLOT);
	m.memory.requested_bytes = 5 * SLOT;
	ck_assert_int_eq(vm_obey(&vm, &m, NULL), -EINVAL);
	ck_assert_uint_eq(s.shared->memory.requested_bytes, 3 * SLOT);
}
END_TEST

START_TEST(without_a_device_there_is_nothing_to_request)
{
	union msg m = {.memory = {.hdr = {MSG_MEMORY, 1}}};

	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_int_eq(vm_obey(&vm, &m, NULL), -ENOTSUP);
}
END_TEST

START_TEST(device_memory_is_not_told_as_ram)
{
	struct memory_map_entry map[MEMORY_MAP_MAX];
	unsigned n;

	add_hotplug();
	vm_start_add_pmem(&s, 2 * MIB, false);
	ck_assert_msg(create() == 0, "%s", err.msg);
	n = memory_map(&vm.mem, map);
	for (unsigned i = 0; i < n; i++)
		ck_assert_uint_le(map[i].gpa + map[i].len, 16 * MIB);
}
END_TEST

START_TEST(a_pmem_file_is_mapped_whole_and_shared)
{
	const struct vm_pmem_map *map = &vm.pmem_maps[0];
	char byte = 0;
	uint8_t *hva;

	vm_start_add_pmem(&s, 2 * MIB + 5000, false);
	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_MEMORY], 2);
	ck_assert_uint_eq(fake_kvm.slots[VM_KVM_SLOT_PMEM].gpa, 4 * GIB);
	ck_assert_uint_eq(fake_kvm.slots[VM_KVM_SLOT_PMEM].len, 4 * MIB);
	ck_assert_uint_eq(fake_kvm.slots[VM_KVM_SLOT_PMEM].flags, 0);
	hva = fake_kvm.slots[VM_KVM_SLOT_PMEM].hva;
	ck_assert_ptr_eq(hva, map->hva);
	ck_assert_uint_eq((uintptr_t)hva % (2 * MIB), 0);
	/* No device's to touch. */
	ck_assert_ptr_null(gmem_range(&vm.mem, 4 * GIB, 1));
	hva[2 * MIB + 4999] = 'x';
	ck_assert_int_eq(
		pread(s.fds[MSG_START_FD_FIXED], &byte, 1, 2 * MIB + 4999), 1);
	ck_assert_int_eq(byte, 'x');
	/* Behind the file it is memory all the same. */
	hva[4 * MIB - 1] = 'y';
	ck_assert_int_eq(hva[4 * MIB - 1], 'y');
}
END_TEST

START_TEST(a_read_only_pmem_file_cannot_be_written)
{
	vm_start_add_pmem(&s, 4096, false);
	vm_start_add_pmem(&s, 4096, true);
	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_uint_eq(fake_kvm.slots[VM_KVM_SLOT_PMEM].flags, 0);
	ck_assert_uint_eq(
		fake_kvm.slots[VM_KVM_SLOT_PMEM + 1].flags, KVM_MEM_READONLY);
	ck_assert_uint_eq(
		fake_kvm.slots[VM_KVM_SLOT_PMEM + 1].gpa, 4 * GIB + 128 * MIB);
	/* Nor by the kernel on our behalf. */
	ck_assert_int_eq(
		pread(s.fds[MSG_START_FD_KERNEL], vm.pmem_maps[1].hva, 4, 0),
		-1);
	ck_assert_int_eq(errno, EFAULT);
	ck_assert_int_eq(
		pread(s.fds[MSG_START_FD_KERNEL], vm.pmem_maps[0].hva, 4, 0),
		4);
}
END_TEST

START_TEST(pmem_flushes)
{
	struct virtio_pmem_req req = {VIRTIO_PMEM_REQ_TYPE_FLUSH};
	struct virtio_pmem_resp resp;
	struct driver d;

	vm_start_add_pmem(&s, 4096, false);
	ck_assert_msg(create() == 0, "%s", err.msg);
	d = drive(0);
	run(&d, 0, &req, sizeof(req), &resp, sizeof(resp));
	ck_assert_uint_eq(resp.ret, 0);
}
END_TEST

START_TEST(limits_of_pmem_are_by_index)
{
	union msg m = {.limit = {.hdr = {MSG_LIMIT, 1},
			       .kind = MSG_LIMIT_PMEM,
			       .has_ops = 1}};

	vm_start_add_pmem(&s, 4096, false);
	ck_assert_msg(create() == 0, "%s", err.msg);
	ck_assert_int_eq(vm_obey(&vm, &m, NULL), 0);
	m.limit.index = 1;
	ck_assert_int_eq(vm_obey(&vm, &m, NULL), -EINVAL);
	m.limit.index = UINT32_MAX;
	ck_assert_int_eq(vm_obey(&vm, &m, NULL), -EINVAL);
}
END_TEST

START_TEST(a_pmem_file_that_cannot_be_mapped_names_its_field)
{
	unsigned index = vm_start_add_pmem(&s, 4096, false);
	int pipes[2];

	ck_assert_int_eq(pipe(pipes), 0);
	dup2(pipes[0], s.fds[MSG_START_FD_FIXED + index]);
	close(pipes[0]);
	close(pipes[1]);
	ck_assert_int_lt(create(), 0);
	ck_assert_str_eq(err.field, "pmem.path_on_host");
}
END_TEST

START_TEST(what_kvm_refuses_of_pmem_fails_the_start)
{
	vm_start_add_pmem(&s, 4096, true);
	fake_kvm.refuse_read_only = true;
	ck_assert_int_eq(create(), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "pmem 0"));
}
END_TEST

START_TEST(a_plan_that_does_not_fit_makes_no_device)
{
	add_hotplug();
	s.msg.start.memory_hotplug.region_bytes = 1ull << 50;
	ck_assert_int_eq(create(), -EINVAL);
	ck_assert_str_eq(err.field, "memory-hotplug.total_size_mib");
	ck_assert_uint_eq(vm.n_slots, 0);
	ck_assert_uint_eq(fake_kvm.calls[FAKE_IOEVENTFD], 0);
}
END_TEST

START_TEST(without_huge_pages_the_start_fails)
{
	s.prep.prepare.huge_pages = VM_PAGES_2M;
	s.prep.prepare.mem_bytes = 1ull << 35;
	ck_assert_int_eq(create(), -ENOMEM);
	ck_assert_str_eq(err.field, "machine-config.huge_pages");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vm_memory");
	TCase *t = tcase_create("memory");
	SRunner *r = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, plugged_memory_is_a_slot_of_kvm);
	tcase_add_test(t, a_slot_that_kvm_refuses_is_not_plugged);
	tcase_add_test(t, the_requested_size_changes_while_it_runs);
	tcase_add_test(t, without_a_device_there_is_nothing_to_request);
	tcase_add_test(t, device_memory_is_not_told_as_ram);
	tcase_add_test(t, a_pmem_file_is_mapped_whole_and_shared);
	tcase_add_test(t, a_read_only_pmem_file_cannot_be_written);
	tcase_add_test(t, pmem_flushes);
	tcase_add_test(t, limits_of_pmem_are_by_index);
	tcase_add_test(t, a_pmem_file_that_cannot_be_mapped_names_its_field);
	tcase_add_test(t, what_kvm_refuses_of_pmem_fails_the_start);
	tcase_add_test(t, a_plan_that_does_not_fit_makes_no_device);
	tcase_add_test(t, without_huge_pages_the_start_fails);
	suite_add_tcase(suite, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
