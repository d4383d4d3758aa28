#include "vmm/regs.h"

#include "vmm/kvm.h"
#include "vmm/layout.h"

#define CR0_PE (1ull << 0)
#define CR0_ET (1ull << 4)
#define CR0_PG (1ull << 31)
#define CR4_PAE (1ull << 5)
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)
#define RFLAGS_FIXED (1ull << 1)

/* Segment types: accessed; executable and readable, or writable; busy TSS. */
#define TYPE_CODE 0xb
#define TYPE_DATA 0x3
#define TYPE_TSS_BUSY 0xb

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){.selector = selector,
		.limit = 0xffffffff,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1};
}

/* What both protocols share: flat segments, and the TSS VMX wants (which lies
 * in no table: nobody loads it again). */
static void set_segments(struct kvm_sregs *s)
{
	struct kvm_segment data = flat(BOOT_GDT_DS, TYPE_DATA);

	data.db = 1;
	s->ds = data;
	s->es = data;
	s->fs = data;
	s->gs = data;
	s->ss = data;
	s->cs = flat(BOOT_GDT_CS, TYPE_CODE);
	s->tr = (struct kvm_segment){
		.limit = 0x67, .type = TYPE_TSS_BUSY, .present = 1};
	s->ldt = (struct kvm_segment){.unusable = 1};
	s->idt.base = 0;
	s->idt.limit = 0;
	s->gdt.base = LAYOUT_GDT;
	s->gdt.limit = BOOT_GDT_BYTES - 1;
}

/* The 64-bit entry (Linux, Documentation/arch/x86/boot.rst). */
static void set_linux64(struct kvm_regs *r, struct kvm_sregs *s)
{
	s->cs.l = 1;
	s->cr0 = CR0_PE | CR0_ET | CR0_PG;
	s->cr3 = LAYOUT_PML4;
	s->cr4 = CR4_PAE;
	s->efer = EFER_LME | EFER_LMA;
	r->rsp = LAYOUT_BOOT_STACK;
	r->rbp = LAYOUT_BOOT_STACK;
}

/* PVH: 32-bit protected mode, paging off. */
static void set_pvh(struct kvm_sregs *s)
{
	s->cs.db = 1;
	s->cr0 = CR0_PE | CR0_ET;
	s->cr4 = 0;
	s->efer = 0;
}

int regs_set_boot(int vcpu, const struct boot_entry *entry)
{
	struct kvm_regs r = {.rip = entry->entry_gpa, .rflags = RFLAGS_FIXED};
	struct kvm_sregs s;
	int e;

	/* What is not set below stays as KVM reset it: the APIC base. */
	e = kvm_get_sregs(vcpu, &s);
	if (e < 0)
		return e;
	set_segments(&s);
	if (entry->protocol == BOOT_PVH) {
		set_pvh(&s);
		r.rbx = entry->info_gpa;
	} else {
		set_linux64(&r, &s);
		r.rsi = entry->info_gpa;
	}
	e = kvm_set_sregs(vcpu, &s);
	return e < 0 ? e : kvm_set_regs(vcpu, &r);
}
