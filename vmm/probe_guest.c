#include "vmm/probe_guest.h"

#include "vmm/kvm.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

/* Guest memory: page tables which map it one to one, code, data. */
#define MEM_BYTES 0x10000u
#define GPA_PML4 0x1000u
#define GPA_PDPT 0x2000u
#define GPA_PD 0x3000u
#define GPA_CODE 0x4000u
#define GPA_DATA 0x5000u /* RDI; up to MEM_BYTES */
#define PTE_PRESENT_WRITE 0x3u
#define PTE_2MIB 0x80u

#define CR0_PE_ET_NE_PG 0x80000031u
#define CR4_PAE (1u << 5)
#define CR4_OSFXSR (1u << 9)
#define CR4_OSXSAVE (1u << 18)
#define EFER_LME_LMA 0x500u

#define DONE_PORT 0x10
#define CPUID_MAX_ENTRIES 256

/* The loop counts in RCX until it is interrupted. */
static const uint8_t loop_code[] = {
	0x48, 0xff, 0xc1, /* 1: inc %rcx */
	0xeb, 0xfb,       /* jmp 1b */
};
#define LOOP_INSNS 2
#define LOOP_US 12000
#define LOOP_MIN_NS 200000
#define LOOP_TRIES 5
#define LOOP_FAST_MIPS 100 /* no need to look again */

static const uint8_t xsave_code[] = {
	0x31, 0xc9,                   /* xor %ecx, %ecx */
	0x0f, 0x01, 0xd0,             /* xgetbv */
	0x0f, 0x01, 0xd1,             /* xsetbv */
	0xb8, 0xff, 0xff, 0xff, 0xff, /* mov $-1, %eax */
	0xba, 0xff, 0xff, 0xff, 0xff, /* mov $-1, %edx */
	0x0f, 0xae, 0x27,             /* xsave (%rdi) */
	0x0f, 0xae, 0x2f,             /* xrstor (%rdi) */
	0xe6, DONE_PORT,              /* out %al, $DONE_PORT */
};

static const uint8_t cmpxchg16b_code[] = {
	0x48,
	0x0f,
	0xc7,
	0x0f, /* cmpxchg16b (%rdi) */
	0xf0,
	0x48,
	0x0f,
	0xc7,
	0x0f, /* lock cmpxchg16b (%rdi) */
	0xe6,
	DONE_PORT,
};

struct guest {
	int vcpu;
	uint8_t *mem;
	bool has_xsave, has_cmpxchg16b;
};

static struct kvm_run *volatile alarm_run;
static volatile sig_atomic_t alarmed;

static void on_alarm(int sig)
{
	(void)sig;
	alarmed = 1;
	/* If it came just before KVM_RUN. */
	if (alarm_run)
		alarm_run->immediate_exit = 1;
}

static int set_cpuid(struct guest *g, int kvm)
{
	struct kvm_cpuid2 *ids = calloc(
		1, sizeof(*ids) + CPUID_MAX_ENTRIES * sizeof(ids->entries[0]));
	int r;

	if (!ids)
		return -ENOMEM;
	ids->nent = CPUID_MAX_ENTRIES;
	r = kvm_get_supported_cpuid(kvm, ids);
	for (unsigned i = 0; r == 0 && i < ids->nent; i++) {
		if (ids->entries[i].function != 1)
			continue;
		g->has_xsave = ids->entries[i].ecx & (1u << 26);
		g->has_cmpxchg16b = ids->entries[i].ecx & (1u << 13);
	}
	if (r == 0)
		r = kvm_set_cpuid(g->vcpu, ids);
	free(ids);
	return r;
}

static void put_entry(struct guest *g, uint32_t gpa, uint64_t entry)
{
	memcpy(g->mem + gpa, &entry, sizeof(entry));
}

static int create(struct guest *g, int kvm)
{
	int run_bytes = kvm_vcpu_mmap_bytes(kvm), vm, r;
	struct kvm_run *run;

	if (run_bytes < (int)sizeof(struct kvm_run))
		return -EPROTO;
	g->mem = mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->mem == MAP_FAILED)
		return -errno;
	put_entry(g, GPA_PML4, GPA_PDPT | PTE_PRESENT_WRITE);
	put_entry(g, GPA_PDPT, GPA_PD | PTE_PRESENT_WRITE);
	put_entry(g, GPA_PD, PTE_2MIB | PTE_PRESENT_WRITE);
	vm = kvm_create_vm(kvm);
	if (vm < 0)
		return vm;
	r = kvm_set_memory(vm, 0, 0, g->mem, MEM_BYTES, 0);
	if (r == 0)
		r = kvm_set_tss_addr(vm, 0xfffbd000);
	if (r < 0)
		return r;
	g->vcpu = kvm_create_vcpu(vm, 0);
	if (g->vcpu < 0)
		return g->vcpu;
	r = kvm_map_run(g->vcpu, (size_t)run_bytes, &run);
	alarm_run = run;
	return r < 0 ? r : set_cpuid(g, kvm);
}

/* Long mode at GPA_CODE, RDI at the data. */
static int load(struct guest *g, const uint8_t *code, size_t len, bool osxsave)
{
	struct kvm_regs regs = {.rip = GPA_CODE, .rdi = GPA_DATA, .rflags = 2};
	struct kvm_segment seg = {.limit = 0xffffffff,
		.selector = 8,
		.type = 3,
		.present = 1,
		.s = 1,
		.g = 1,
		.db = 1};
	struct kvm_sregs s;
	int r;

	memcpy(g->mem + GPA_CODE, code, len);
	memset(g->mem + GPA_DATA, 0, MEM_BYTES - GPA_DATA);
	r = kvm_get_sregs(g->vcpu, &s);
	if (r < 0)
		return r;
	s.ds = s.es = s.fs = s.gs = s.ss = seg;
	seg.type = 11;
	seg.l = 1;
	seg.db = 0;
	s.cs = seg;
	s.tr = (struct kvm_segment){
		.selector = 16, .limit = 0x67, .type = 11, .present = 1};
	s.ldt = (struct kvm_segment){.unusable = 1};
	s.cr0 = CR0_PE_ET_NE_PG;
	s.cr3 = GPA_PML4;
	s.cr4 = CR4_PAE | CR4_OSFXSR | (osxsave ? CR4_OSXSAVE : 0);
	s.efer = EFER_LME_LMA;
	r = kvm_set_sregs(g->vcpu, &s);
	return r < 0 ? r : kvm_set_regs(g->vcpu, &regs);
}

/* Interrupts what runs after us microseconds, 0: not any more. */
static void set_alarm(long us)
{
	const struct itimerval t = {.it_value.tv_usec = us};

	alarmed = 0;
	alarm_run->immediate_exit = 0;
	setitimer(ITIMER_REAL, &t, NULL);
}

/* Whether code gets as far as its write to DONE_PORT. A KVM that doesn't even
 * take the registers for it fails it as well. */
static enum kvm_probe_insn try_insn(
	struct guest *g, const uint8_t *code, size_t len, bool osxsave)
{
	bool done = false;
	int r;

	if (load(g, code, len, osxsave) < 0)
		return KVM_INSN_FAILS;
	set_alarm(500000);
	do
		r = kvm_run(g->vcpu);
	while (r == -EINTR && !alarmed);
	if (r == 0)
		done = alarm_run->exit_reason == KVM_EXIT_IO &&
		       alarm_run->io.port == DONE_PORT;
	set_alarm(0);
	return done ? KVM_INSN_WORKS : KVM_INSN_FAILS;
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* What the loop counts in one interval, as instructions a second; 0 if the
 * host gave us next to no time. CPU time: the host has other things to do. */
static int measure_once(struct guest *g, uint64_t *ret_mips)
{
	struct kvm_regs regs;
	uint64_t ns;
	int r = load(g, loop_code, sizeof(loop_code), false);

	if (r < 0)
		return r;
	set_alarm(LOOP_US);
	ns = cpu_ns();
	do
		r = kvm_run(g->vcpu);
	while (r == -EINTR && !alarmed);
	ns = cpu_ns() - ns;
	if (r != -EINTR)
		return r < 0 ? r : -EPROTO; /* an exit, from that loop */
	r = kvm_get_regs(g->vcpu, &regs);
	if (r < 0)
		return r;
	*ret_mips = ns < LOOP_MIN_NS ? 0 : regs.rcx * LOOP_INSNS * 1000 / ns;
	return 0;
}

/* The best of a few: an emulated machine translates the loop first, and its
 * CPU time is not all ours. */
static int measure(struct guest *g, uint64_t *ret_mips)
{
	uint64_t best = 0, mips = 0;
	int r = 0;

	for (unsigned i = 0; i < LOOP_TRIES && r == 0 && best < LOOP_FAST_MIPS;
		i++) {
		r = measure_once(g, &mips);
		if (r == 0 && mips > best)
			best = mips;
	}
	*ret_mips = best;
	return r;
}

int probe_guest_run(int kvm, struct probe_guest_result *ret)
{
	struct sigaction sa = {.sa_handler = on_alarm};
	struct guest g = {.vcpu = -1};
	int r;

	r = create(&g, kvm);
	if (r < 0)
		return r;
	if (sigaction(SIGALRM, &sa, NULL) < 0)
		return -errno;
	r = measure(&g, &ret->ring0_mips);
	if (r < 0)
		return r;
	ret->cmpxchg16b = KVM_INSN_ABSENT;
	if (g.has_cmpxchg16b)
		ret->cmpxchg16b = try_insn(
			&g, cmpxchg16b_code, sizeof(cmpxchg16b_code), false);
	ret->xsave = KVM_INSN_ABSENT;
	if (g.has_xsave)
		ret->xsave = try_insn(&g, xsave_code, sizeof(xsave_code), true);
	return 0;
}
