#include "daemon/vm.h"
#include "vmm/cpu_template.h"
#include "vmm/kvm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int check_caps(
	int kvm, const struct vm_cpu_config *cpu, struct error *err)
{
	for (unsigned i = 0; i < cpu->n_caps; i++)
		if (!cpu->caps[i].not_needed &&
			kvm_check_extension(kvm, cpu->caps[i].cap) <= 0)
			return error_field(err, EINVAL,
				"cpu-config.kvm_capabilities",
				"this host's KVM lacks capability %u",
				cpu->caps[i].cap);
	return 0;
}

static int fill_cpuid_mods(struct msg_prepare *m,
	const struct vm_cpu_config *cpu, struct error *err)
{
	for (unsigned i = 0; i < cpu->n_cpuid; i++) {
		const struct vm_cpuid_mod *from = &cpu->cpuid[i];

		if (!cpu_template_leaf(
			    m->cpuid, m->n_cpuid, from->leaf, from->subleaf))
			return error_field(err, EINVAL,
				"cpu-config.cpuid_modifiers",
				"this host's KVM has no leaf 0x%x, subleaf "
				"0x%x",
				from->leaf, from->subleaf);
		m->cpuid_mods[i] = (struct msg_cpuid_mod){.leaf = from->leaf,
			.subleaf = from->subleaf,
			.flags = from->flags,
			.reg = from->reg,
			.keep = from->keep,
			.set = from->set};
	}
	m->n_cpuid_mods = cpu->n_cpuid;
	return 0;
}

static void fill_msr_mods(
	struct msg_prepare *m, const struct vm_cpu_config *cpu)
{
	for (unsigned i = 0; i < cpu->n_msrs; i++)
		m->msr_mods[i] =
			(struct msg_msr_mod){.index = cpu->msrs[i].index,
				.keep = cpu->msrs[i].keep,
				.set = cpu->msrs[i].set};
	m->n_msr_mods = cpu->n_msrs;
}

int vm_cpu_fill(const struct vm_env *env, const struct vm_config *c,
	struct msg_prepare *m, struct error *err)
{
	m->n_cpuid = env->n_cpuid;
	memcpy(m->cpuid, env->cpuid, m->n_cpuid * sizeof(m->cpuid[0]));
	if (check_caps(env->procs.kvm_fd, &c->cpu, err) < 0 ||
		fill_cpuid_mods(m, &c->cpu, err) < 0)
		return -err->code;
	fill_msr_mods(m, &c->cpu);
	return cpu_template_apply(c->machine_config.cpu_template, m, err);
}

int vm_cpu_check(
	const struct vm_env *env, const struct vm_config *c, struct error *err)
{
	struct msg_prepare *m;
	int r;

	/* A host that cannot run a VM at all says so when one starts. */
	if (env->procs.kvm_fd < 0)
		return 0;
	m = malloc(sizeof(*m));
	if (!m)
		return error_set(err, ENOMEM, "out of memory");
	r = vm_cpu_fill(env, c, m, err);
	free(m);
	return r;
}
