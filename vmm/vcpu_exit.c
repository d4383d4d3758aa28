#include "vmm/vcpu_exit.h"

#include "base/counter.h"
#include "vmm/kvm.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Sets the end to an internal error; " at rip 0x..." is added if known. */
static enum vm_exit_reason internal(struct vcpu_end *end, int vcpu,
	const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static enum vm_exit_reason internal(
	struct vcpu_end *end, int vcpu, const char *fmt, ...)
{
	struct kvm_regs regs;
	va_list ap;
	size_t n;

	end->reason = VM_EXIT_INTERNAL_ERROR;
	va_start(ap, fmt);
	(void)vsnprintf(end->detail, sizeof(end->detail), fmt, ap);
	va_end(ap);
	n = strlen(end->detail);
	if (kvm_get_regs(vcpu, &regs) == 0)
		(void)snprintf(end->detail + n, sizeof(end->detail) - n,
			" at rip 0x%llx", (unsigned long long)regs.rip);
	return end->reason;
}

static enum vm_exit_reason end_as(
	struct vcpu_end *end, enum vm_exit_reason reason, const char *detail)
{
	end->reason = reason;
	(void)snprintf(end->detail, sizeof(end->detail), "%s", detail);
	return reason;
}

/* KVM has the data of all count accesses side by side in the run page. */
static void handle_pio(struct kvm_run *run, const struct bus *pio)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	unsigned size = run->io.size;

	for (uint32_t i = 0; i < run->io.count; i++, data += size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			bus_write(pio, run->io.port, data, size);
		else
			bus_read(pio, run->io.port, data, size);
	}
}

static void handle_mmio(struct kvm_run *run, const struct bus *mmio)
{
	if (run->mmio.is_write)
		bus_write(mmio, run->mmio.phys_addr, run->mmio.data,
			run->mmio.len);
	else
		bus_read(mmio, run->mmio.phys_addr, run->mmio.data,
			run->mmio.len);
}

static enum vm_exit_reason system_event(
	const struct kvm_run *run, int vcpu, struct vcpu_end *end)
{
	switch (run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		return end_as(end, VM_EXIT_SHUTDOWN, "");
	case KVM_SYSTEM_EVENT_RESET:
		return end_as(end, VM_EXIT_RESET, "");
	case KVM_SYSTEM_EVENT_CRASH:
		return end_as(end, VM_EXIT_PANIC, "KVM reported a crash");
	default:
		return internal(end, vcpu, "KVM system event %u",
			run->system_event.type);
	}
}

/* The instruction that KVM could not emulate, in hexadecimal. */
static enum vm_exit_reason emulation_failure(
	const struct kvm_run *run, int vcpu, struct vcpu_end *end)
{
	char hex[3 * sizeof(run->emulation_failure.insn_bytes) + 1] = "";
	unsigned n = 0;

	/* ndata counts 64-bit words: the flags, then length and bytes. */
	if (run->emulation_failure.ndata >= 3 &&
		(run->emulation_failure.flags &
			KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
		n = run->emulation_failure.insn_size;
	if (n > sizeof(run->emulation_failure.insn_bytes))
		n = sizeof(run->emulation_failure.insn_bytes);
	for (unsigned i = 0; i < n; i++)
		(void)snprintf(hex + 3 * (size_t)i, 4, " %02x",
			run->emulation_failure.insn_bytes[i]);
	if (n == 0)
		return internal(
			end, vcpu, "KVM could not emulate an instruction");
	return internal(end, vcpu,
		"KVM could not emulate an instruction, bytes%s", hex);
}

static enum vm_exit_reason internal_error(
	const struct kvm_run *run, int vcpu, struct vcpu_end *end)
{
	unsigned long long data[2] = {0};

	if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
		return emulation_failure(run, vcpu, end);
	for (unsigned i = 0; i < 2 && i < run->internal.ndata; i++)
		data[i] = run->internal.data[i];
	return internal(end, vcpu,
		"KVM internal error, suberror %u, data 0x%llx 0x%llx",
		run->internal.suberror, data[0], data[1]);
}

enum vm_exit_reason vcpu_exit_handle(struct kvm_run *run, int vcpu,
	const struct bus *pio, const struct bus *mmio,
	struct vcpu_counters *counters, struct vcpu_end *ret_end)
{
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		counter_add(&counters->exits_pio, 1);
		handle_pio(run, pio);
		return VM_EXIT_NONE;
	case KVM_EXIT_MMIO:
		counter_add(&counters->exits_mmio, 1);
		handle_mmio(run, mmio);
		return VM_EXIT_NONE;
	case KVM_EXIT_INTR:
		counter_add(&counters->exits_other, 1);
		return VM_EXIT_NONE;
	default:
		break;
	}
	counter_add(&counters->exits_other, 1);
	switch (run->exit_reason) {
	case KVM_EXIT_SHUTDOWN:
		return end_as(ret_end, VM_EXIT_TRIPLE_FAULT, "");
	case KVM_EXIT_SYSTEM_EVENT:
		return system_event(run, vcpu, ret_end);
	case KVM_EXIT_INTERNAL_ERROR:
		return internal_error(run, vcpu, ret_end);
	case KVM_EXIT_FAIL_ENTRY:
		return internal(ret_end, vcpu,
			"the CPU refused to enter the guest, hardware reason "
			"0x%llx",
			(unsigned long long)
				run->fail_entry.hardware_entry_failure_reason);
	case KVM_EXIT_UNKNOWN:
		return internal(ret_end, vcpu,
			"an exit KVM does not know, hardware reason 0x%llx",
			(unsigned long long)run->hw.hardware_exit_reason);
	default:
		return internal(ret_end, vcpu, "unexpected KVM exit reason %u",
			run->exit_reason);
	}
}

void vcpu_exit_failed(int vcpu, int code, struct vcpu_end *ret_end)
{
	/* KVM found no memory where the host has promised some. */
	if (code == EFAULT)
		internal(ret_end, vcpu,
			"the host has lost memory of the guest's (was a pmem "
			"file cut short?)");
	else
		internal(ret_end, vcpu, "KVM_RUN failed, errno %d", code);
}
