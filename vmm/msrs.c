#include "vmm/msrs.h"

#include "vmm/kvm.h"

#include <errno.h>
#include <string.h>

#define MSR_IA32_MISC_ENABLE 0x1a0u
#define MISC_ENABLE_FAST_STRING 1u
#define MISC_ENABLE_BTS_UNAVAILABLE (1u << 11)
#define MISC_ENABLE_PEBS_UNAVAILABLE (1u << 12)
#define MSR_MTRR_DEF_TYPE 0x2ffu
#define MTRR_ENABLE (1u << 11)
#define MTRR_WRITE_BACK 6u

/*
 * Fast strings on, or Linux gives up `rep movsb` on Intel, and no tracing, in
 * accord with CPUID; all memory write-back, or it takes MTRRs as disabled and
 * does without the PAT. The rest stays as KVM reset it. In this order, the
 * least needed last: a KVM that doesn't know one of them takes those before it.
 */
static const struct kvm_msr_entry boot_msrs[] = {
	{.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE | MTRR_WRITE_BACK},
	{.index = MSR_IA32_MISC_ENABLE,
		.data = MISC_ENABLE_FAST_STRING | MISC_ENABLE_BTS_UNAVAILABLE |
			MISC_ENABLE_PEBS_UNAVAILABLE},
};
#define N_BOOT_MSRS (sizeof(boot_msrs) / sizeof(boot_msrs[0]))

int msrs_set_boot(int vcpu)
{
	struct {
		struct kvm_msrs m;
		struct kvm_msr_entry entries[N_BOOT_MSRS];
	} a = {.m.nmsrs = N_BOOT_MSRS};
	int r;

	memcpy(a.entries, boot_msrs, sizeof(boot_msrs));
	r = kvm_set_msrs(vcpu, &a.m);
	return r < 0 ? r : 0;
}

#define FIELD "cpu-config.msr_modifiers"

static int modify(int vcpu, const struct msg_msr_mod *mod, struct error *err)
{
	struct {
		struct kvm_msrs m;
		struct kvm_msr_entry entry;
	} a = {.m.nmsrs = 1, .entry.index = mod->index};
	int r = kvm_get_msrs(vcpu, &a.m), code;

	code = r < 0 ? -r : EINVAL;
	if (r != 1)
		return error_field(err, code, FIELD,
			"this host's KVM has no MSR 0x%x", mod->index);
	a.entry.data = (a.entry.data & mod->keep) | mod->set;
	r = kvm_set_msrs(vcpu, &a.m);
	code = r < 0 ? -r : EINVAL;
	if (r != 1)
		return error_field(err, code, FIELD,
			"this host's KVM does not let MSR 0x%x be 0x%llx",
			mod->index, (unsigned long long)a.entry.data);
	return 0;
}

int msrs_modify(
	int vcpu, const struct msg_msr_mod *mods, unsigned n, struct error *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < n; i++)
		r = modify(vcpu, &mods[i], err);
	return r;
}
