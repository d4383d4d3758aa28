#include "tests/unit/fake_kvm.h"

#include "vmm/kvm.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

struct fake_kvm fake_kvm;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void fake_kvm_reset(void)
{
	memset(&fake_kvm, 0, sizeof(fake_kvm));
	fake_kvm.tsc_khz = 2500000;
	fake_kvm.tsc_deadline = true;
	fake_kvm.api_version = KVM_API_VERSION;
	fake_kvm.missing_cap = -1;
	for (unsigned i = 0; i < FAKE_KVM_VCPUS; i++)
		fake_kvm.vcpu[i].fd = -1;
}

void fake_kvm_script(
	unsigned vcpu, const fake_step *steps, unsigned n, void *arg)
{
	fake_kvm.vcpu[vcpu].steps = steps;
	fake_kvm.vcpu[vcpu].n_steps = n;
	fake_kvm.vcpu[vcpu].arg = arg;
}

/* Notes the call; its number among its kind, or the failure asked for. */
static int note(enum fake_call call)
{
	int r;

	pthread_mutex_lock(&lock);
	r = (int)fake_kvm.calls[call]++;
	if (fake_kvm.n_order < sizeof(fake_kvm.order) / sizeof(call))
		fake_kvm.order[fake_kvm.n_order++] = call;
	if (fake_kvm.fail[call])
		r = fake_kvm.fail[call];
	pthread_mutex_unlock(&lock);
	return r;
}

static struct fake_vcpu *vcpu_of(int fd)
{
	for (unsigned i = 0; i < FAKE_KVM_VCPUS; i++)
		if (fake_kvm.vcpu[i].fd == fd)
			return &fake_kvm.vcpu[i];
	abort();
}

static int simple(enum fake_call call)
{
	int r = note(call);

	return r < 0 ? r : 0;
}

int kvm_api_version(int kvm)
{
	(void)kvm;
	return fake_kvm.api_version;
}

int kvm_vcpu_mmap_bytes(int kvm)
{
	(void)kvm;
	return FAKE_KVM_RUN_BYTES;
}

int kvm_create_vm(int kvm)
{
	int r = simple(FAKE_CREATE_VM);

	(void)kvm;
	return r < 0 ? r : eventfd(0, EFD_CLOEXEC);
}

int kvm_get_supported_cpuid(int kvm, struct kvm_cpuid2 *ids)
{
	(void)kvm;
	ids->nent = 1;
	ids->entries[0] = fake_kvm.supported;
	return 0;
}

int kvm_check_extension(int fd, unsigned cap)
{
	(void)fd;
	if (cap == KVM_CAP_TSC_DEADLINE_TIMER)
		return fake_kvm.tsc_deadline;
	return (int)cap != fake_kvm.missing_cap;
}

int kvm_set_memory(int vm, uint32_t slot, uint64_t gpa, void *hva, uint64_t len,
	uint32_t flags)
{
	int r = simple(FAKE_MEMORY);

	(void)vm;
	if (r < 0)
		return r;
	if (flags & KVM_MEM_READONLY && fake_kvm.refuse_read_only)
		return -EINVAL;
	if (slot >= sizeof(fake_kvm.slots) / sizeof(fake_kvm.slots[0]))
		abort();
	fake_kvm.slots[slot].gpa = gpa;
	fake_kvm.slots[slot].hva = hva;
	fake_kvm.slots[slot].len = len;
	fake_kvm.slots[slot].flags = flags;
	return 0;
}

int kvm_set_tss_addr(int vm, uint64_t gpa)
{
	(void)vm;
	(void)gpa;
	return simple(FAKE_TSS);
}

int kvm_set_identity_map_addr(int vm, uint64_t gpa)
{
	(void)vm;
	(void)gpa;
	return simple(FAKE_IDENTITY);
}

int kvm_create_irqchip(int vm)
{
	(void)vm;
	return simple(FAKE_IRQCHIP);
}

int kvm_enable_cap(int vm, unsigned cap, uint64_t arg0)
{
	(void)vm;
	(void)cap;
	(void)arg0;
	return simple(FAKE_CAP);
}

int kvm_irqfd(int vm, int fd, uint32_t gsi)
{
	int r = note(FAKE_IRQFD);

	(void)vm;
	if (r < 0)
		return r;
	fake_kvm.irqfds[r].fd = fd;
	fake_kvm.irqfds[r].gsi = gsi;
	return 0;
}

int kvm_ioeventfd(int vm, int fd, uint64_t gpa, uint32_t match)
{
	int r = note(FAKE_IOEVENTFD);

	(void)vm;
	if (r < 0)
		return r;
	fake_kvm.ioeventfds[r].fd = fd;
	fake_kvm.ioeventfds[r].gpa = gpa;
	fake_kvm.ioeventfds[r].match = match;
	return 0;
}

int kvm_create_vcpu(int vm, unsigned long id)
{
	int r = simple(FAKE_VCPU);

	(void)vm;
	if (r < 0)
		return r;
	fake_kvm.vcpu[id].fd = eventfd(0, EFD_CLOEXEC);
	return fake_kvm.vcpu[id].fd;
}

int kvm_map_run(int vcpu, size_t bytes, struct kvm_run **ret)
{
	*ret = calloc(1, bytes);
	if (!*ret)
		return -ENOMEM;
	vcpu_of(vcpu)->run = *ret;
	return 0;
}

void kvm_unmap_run(struct kvm_run *run, size_t bytes)
{
	(void)bytes;
	free(run);
}

int kvm_set_cpuid(int vcpu, const struct kvm_cpuid2 *ids)
{
	struct fake_vcpu *v = vcpu_of(vcpu);

	v->cpuid.nent = ids->nent;
	memcpy(v->cpuid.entries, ids->entries,
		ids->nent * sizeof(ids->entries[0]));
	return simple(FAKE_CPUID);
}

int kvm_get_tsc_khz(int vcpu)
{
	(void)vcpu;
	return fake_kvm.tsc_khz;
}

static struct kvm_msr_entry *msr_of(struct fake_vcpu *v, uint32_t index)
{
	for (unsigned i = 0; i < v->n_msrs; i++)
		if (v->msrs[i].index == index)
			return &v->msrs[i];
	return NULL;
}

/* As KVM: up to the first one it doesn't know. */
int kvm_get_msrs(int vcpu, struct kvm_msrs *msrs)
{
	int r = simple(FAKE_GET_MSRS);

	for (uint32_t i = 0; r == 0 && i < msrs->nmsrs; i++) {
		struct kvm_msr_entry *e = &msrs->entries[i];
		const struct kvm_msr_entry *at =
			msr_of(vcpu_of(vcpu), e->index);

		if (e->index == fake_kvm.unknown_msr)
			return (int)i;
		e->data = at ? at->data : fake_kvm.msr_reset;
	}
	return r < 0 ? r : (int)msrs->nmsrs;
}

int kvm_set_msrs(int vcpu, const struct kvm_msrs *msrs)
{
	struct fake_vcpu *v = vcpu_of(vcpu);
	int r = simple(FAKE_MSRS);

	for (uint32_t i = 0; r == 0 && i < msrs->nmsrs; i++) {
		struct kvm_msr_entry *at = msr_of(v, msrs->entries[i].index);

		if (msrs->entries[i].index == fake_kvm.fixed_msr)
			return (int)i;
		if (!at)
			at = &v->msrs[v->n_msrs++];
		*at = msrs->entries[i];
	}
	return r < 0 ? r : (int)msrs->nmsrs;
}

int kvm_get_regs(int vcpu, struct kvm_regs *ret)
{
	*ret = vcpu_of(vcpu)->regs;
	return 0;
}

int kvm_set_regs(int vcpu, const struct kvm_regs *regs)
{
	vcpu_of(vcpu)->regs = *regs;
	return simple(FAKE_REGS);
}

int kvm_get_sregs(int vcpu, struct kvm_sregs *ret)
{
	*ret = vcpu_of(vcpu)->sregs;
	return 0;
}

int kvm_set_sregs(int vcpu, const struct kvm_sregs *sregs)
{
	vcpu_of(vcpu)->sregs = *sregs;
	return simple(FAKE_SREGS);
}

int kvm_clock_ctrl(int vcpu)
{
	(void)vcpu;
	return simple(FAKE_CLOCK_CTRL);
}

/* As KVM: a signal that came before, or comes now, ends it; so does
 * immediate_exit, looked at when no signal can slip in between any more. */
static int wait_for_signal(struct kvm_run *run)
{
	sigset_t block, old;

	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &block, &old);
	if (!__atomic_load_n(&run->immediate_exit, __ATOMIC_RELAXED))
		sigsuspend(&old);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -EINTR;
}

int kvm_run(int vcpu)
{
	struct fake_vcpu *v = vcpu_of(vcpu);
	int r = simple(FAKE_RUN);

	if (r < 0)
		return r;
	if (__atomic_load_n(&v->run->immediate_exit, __ATOMIC_RELAXED))
		return -EINTR;
	if (v->next_step == v->n_steps)
		return wait_for_signal(v->run);
	return v->steps[v->next_step++](v->run, v->arg);
}
