#include "tests/unit/fake_kvm.h"
#include "vmm/kvm.h"
#include "vmm/vcpu_exit.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PORT 0x3f8
#define MMIO 0xd0000000ull

/* A device which keeps the last access, and reads as its offset's bytes. */
static struct {
	unsigned reads, writes;
	uint64_t off;
	unsigned len;
	uint8_t bytes[64]; /* all that was written, one after the other */
	unsigned n;
} dev;

static void dev_read(void *d, uint64_t off, void *data, unsigned len)
{
	(void)d;
	dev.reads++;
	dev.off = off;
	dev.len = len;
	memset(data, 0x50 + (int)dev.reads, len);
}

static void dev_write(void *d, uint64_t off, const void *data, unsigned len)
{
	(void)d;
	dev.writes++;
	dev.off = off;
	dev.len = len;
	ck_assert_uint_le(dev.n + len, sizeof(dev.bytes));
	memcpy(dev.bytes + dev.n, data, len);
	dev.n += len;
}

static struct bus pio, mmio;
static struct vcpu_counters counters;
static struct vcpu_end end;
static int vcpu;

/* KVM's page, the data of port accesses in its second half. */
static union {
	struct kvm_run run;
	char bytes[8192];
} page;
static struct kvm_run *const run = &page.run;
static char *const io_data = page.bytes + 4096;

static void setup(void)
{
	const struct bus_range ports = {PORT, 8, NULL, dev_read, dev_write};
	const struct bus_range mem = {MMIO, 4096, NULL, dev_read, dev_write};

	memset(&dev, 0, sizeof(dev));
	memset(&pio, 0, sizeof(pio));
	memset(&mmio, 0, sizeof(mmio));
	memset(&counters, 0, sizeof(counters));
	memset(&page, 0, sizeof(page));
	memset(&end, 0, sizeof(end));
	fake_kvm_reset();
	vcpu = kvm_create_vcpu(-1, 0);
	fake_kvm.vcpu[0].regs.rip = 0x1234;
	ck_assert_int_eq(bus_add(&pio, &ports), 0);
	ck_assert_int_eq(bus_add(&mmio, &mem), 0);
}

static enum vm_exit_reason handle(void)
{
	return vcpu_exit_handle(run, vcpu, &pio, &mmio, &counters, &end);
}

static void io(uint8_t direction, uint8_t size, uint16_t port, uint32_t count)
{
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = direction;
	run->io.size = size;
	run->io.port = port;
	run->io.count = count;
	run->io.data_offset = 4096;
}

START_TEST(a_string_written_to_a_port_arrives_element_by_element)
{
	io(KVM_EXIT_IO_OUT, 2, PORT + 2, 3);
	memcpy(io_data, "abcdefgh", 9);
	ck_assert_int_eq(handle(), VM_EXIT_NONE);
	ck_assert_uint_eq(dev.writes, 3);
	ck_assert_uint_eq(dev.len, 2);
	ck_assert_uint_eq(dev.off, 2);
	ck_assert_uint_eq(dev.n, 6);
	ck_assert_mem_eq(dev.bytes, "abcdef", 6);
	ck_assert_uint_eq(counters.exits_pio, 1);
}
END_TEST

START_TEST(a_string_read_from_a_port_is_filled_element_by_element)
{
	io(KVM_EXIT_IO_IN, 4, PORT + 4, 2);
	ck_assert_int_eq(handle(), VM_EXIT_NONE);
	ck_assert_uint_eq(dev.reads, 2);
	ck_assert_uint_eq(dev.off, 4);
	ck_assert_mem_eq(io_data, "QQQQRRRR\0", 9);
}
END_TEST

START_TEST(a_memory_write_goes_to_its_bus)
{
	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = MMIO + 0x70;
	run->mmio.is_write = 1;
	run->mmio.len = 4;
	memcpy(run->mmio.data, "wxyz", 4);
	ck_assert_int_eq(handle(), VM_EXIT_NONE);
	ck_assert_uint_eq(dev.writes, 1);
	ck_assert_uint_eq(dev.off, 0x70);
	ck_assert_mem_eq(dev.bytes, "wxyz", 4);
	ck_assert_uint_eq(counters.exits_mmio, 1);
	ck_assert_uint_eq(counters.exits_pio, 0);
}
END_TEST

START_TEST(a_memory_read_goes_to_its_bus)
{
	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = MMIO + 0x100;
	run->mmio.len = 8;
	ck_assert_int_eq(handle(), VM_EXIT_NONE);
	ck_assert_uint_eq(dev.reads, 1);
	ck_assert_uint_eq(dev.off, 0x100);
	ck_assert_uint_eq(dev.len, 8);
	ck_assert_mem_eq(run->mmio.data, "QQQQQQQQ", 8);
}
END_TEST

START_TEST(an_interrupted_vcpu_enters_again)
{
	run->exit_reason = KVM_EXIT_INTR;
	ck_assert_int_eq(handle(), VM_EXIT_NONE);
	ck_assert_uint_eq(counters.exits_other, 1);
}
END_TEST

START_TEST(a_failed_entry_is_an_internal_error)
{
	vcpu_exit_failed(vcpu, EINVAL, &end);
	ck_assert_int_eq(end.reason, VM_EXIT_INTERNAL_ERROR);
	ck_assert_str_eq(end.detail, "KVM_RUN failed, errno 22 at rip 0x1234");
}
END_TEST

START_TEST(memory_the_host_has_lost_is_said_so)
{
	vcpu_exit_failed(vcpu, EFAULT, &end);
	ck_assert_int_eq(end.reason, VM_EXIT_INTERNAL_ERROR);
	ck_assert_ptr_nonnull(strstr(end.detail, "pmem file cut short"));
	ck_assert_ptr_nonnull(strstr(end.detail, "at rip 0x1234"));
}
END_TEST

/* ---- ends ---- */

static void exit_shutdown(void)
{
	run->exit_reason = KVM_EXIT_SHUTDOWN;
}

static void system_event(uint32_t type)
{
	run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	run->system_event.type = type;
}

static void event_shutdown(void)
{
	system_event(KVM_SYSTEM_EVENT_SHUTDOWN);
}

static void event_reset(void)
{
	system_event(KVM_SYSTEM_EVENT_RESET);
}

static void event_crash(void)
{
	system_event(KVM_SYSTEM_EVENT_CRASH);
}

static void event_other(void)
{
	system_event(77);
}

static void exit_emulation(void)
{
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	run->emulation_failure.ndata = 4;
	run->emulation_failure.flags =
		KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
	run->emulation_failure.insn_size = 3;
	memcpy(run->emulation_failure.insn_bytes, "\x0f\xc7\x0e", 3);
}

/* A length no instruction has: what lies behind is not to be shown. */
static void exit_emulation_long(void)
{
	exit_emulation();
	run->emulation_failure.insn_size = 255;
	memset(run->emulation_failure.insn_bytes, 0x90, 15);
	((uint8_t *)run->emulation_failure.insn_bytes)[15] = 0xcc;
}

static void exit_emulation_bare(void)
{
	exit_emulation();
	run->emulation_failure.ndata = 0;
}

static void exit_emulation_shortest(void)
{
	exit_emulation();
	run->emulation_failure.ndata = 3;
}

static void exit_emulation_no_bytes(void)
{
	exit_emulation();
	run->emulation_failure.flags = 0;
}

static void exit_suberror(void)
{
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = KVM_INTERNAL_ERROR_SIMUL_EX;
	run->internal.ndata = 1;
	run->internal.data[0] = 0xabc;
	run->internal.data[1] = 0xdef; /* not announced: not shown */
}

static void exit_fail_entry(void)
{
	run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	run->fail_entry.hardware_entry_failure_reason = 0x80000021;
}

static void exit_unknown(void)
{
	run->exit_reason = KVM_EXIT_UNKNOWN;
	run->hw.hardware_exit_reason = 0x4d;
}

static void exit_hlt(void)
{
	run->exit_reason = KVM_EXIT_HLT;
}

static const struct {
	void (*exit)(void);
	enum vm_exit_reason reason;
	const char *detail;
} ends[] = {
	{exit_shutdown, VM_EXIT_TRIPLE_FAULT, ""},
	{event_shutdown, VM_EXIT_SHUTDOWN, ""},
	{event_reset, VM_EXIT_RESET, ""},
	{event_crash, VM_EXIT_PANIC, "KVM reported a crash"},
	{event_other, VM_EXIT_INTERNAL_ERROR,
		"KVM system event 77 at rip 0x1234"},
	{exit_emulation, VM_EXIT_INTERNAL_ERROR,
		"KVM could not emulate an instruction, bytes 0f c7 0e"
		" at rip 0x1234"},
	{exit_emulation_long, VM_EXIT_INTERNAL_ERROR,
		"KVM could not emulate an instruction, bytes 90 90 90 90 90 90"
		" 90 90 90 90 90 90 90 90 90 at rip 0x1234"},
	{exit_emulation_bare, VM_EXIT_INTERNAL_ERROR,
		"KVM could not emulate an instruction at rip 0x1234"},
	{exit_emulation_shortest, VM_EXIT_INTERNAL_ERROR,
		"KVM could not emulate an instruction, bytes 0f c7 0e"
		" at rip 0x1234"},
	{exit_emulation_no_bytes, VM_EXIT_INTERNAL_ERROR,
		"KVM could not emulate an instruction at rip 0x1234"},
	{exit_suberror, VM_EXIT_INTERNAL_ERROR,
		"KVM internal error, suberror 2, data 0xabc 0x0"
		" at rip 0x1234"},
	{exit_fail_entry, VM_EXIT_INTERNAL_ERROR,
		"the CPU refused to enter the guest, hardware reason "
		"0x80000021 at rip 0x1234"},
	{exit_unknown, VM_EXIT_INTERNAL_ERROR,
		"an exit KVM does not know, hardware reason 0x4d"
		" at rip 0x1234"},
	{exit_hlt, VM_EXIT_INTERNAL_ERROR,
		"unexpected KVM exit reason 5 at rip 0x1234"},
};
#define N_ENDS ((int)(sizeof(ends) / sizeof(ends[0])))

START_TEST(each_end_is_told_with_its_details)
{
	ends[_i].exit();
	ck_assert_int_eq(handle(), ends[_i].reason);
	ck_assert_int_eq(end.reason, ends[_i].reason);
	ck_assert_str_eq(end.detail, ends[_i].detail);
	ck_assert_uint_eq(counters.exits_other, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vcpu_exit");
	TCase *go_on = tcase_create("go_on");
	TCase *tc_ends = tcase_create("ends");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(go_on, setup, NULL);
	tcase_add_test(
		go_on, a_string_written_to_a_port_arrives_element_by_element);
	tcase_add_test(
		go_on, a_string_read_from_a_port_is_filled_element_by_element);
	tcase_add_test(go_on, a_memory_write_goes_to_its_bus);
	tcase_add_test(go_on, a_memory_read_goes_to_its_bus);
	tcase_add_test(go_on, an_interrupted_vcpu_enters_again);
	suite_add_tcase(s, go_on);

	tcase_add_checked_fixture(tc_ends, setup, NULL);
	tcase_add_loop_test(
		tc_ends, each_end_is_told_with_its_details, 0, N_ENDS);
	tcase_add_test(tc_ends, a_failed_entry_is_an_internal_error);
	tcase_add_test(tc_ends, memory_the_host_has_lost_is_said_so);
	suite_add_tcase(s, tc_ends);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
