#pragma once

/*
 * Whether this host's KVM can run Linux, found out by running something: a
 * software KVM has the whole API and interprets the guest's ring 0, at a few
 * million instructions a second and without some of them.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* A capability by its name in the KVM API, without KVM_CAP_, in lower case. */
struct kvm_probe_cap {
	const char *name;
	unsigned cap;
	bool required;
};

#define KVM_PROBE_CAPS 13
extern const struct kvm_probe_cap kvm_probe_caps[KVM_PROBE_CAPS];

enum kvm_verdict {
	KVM_VERDICT_CAN,      /* runs Linux at speed */
	KVM_VERDICT_SOFTWARE, /* runs guests, but no Linux */
	KVM_VERDICT_UNUSABLE, /* lacks what Mayfly needs of any KVM */
};

enum kvm_probe_insn {
	KVM_INSN_WORKS,
	KVM_INSN_ABSENT, /* CPUID doesn't offer it: Linux does without */
	KVM_INSN_FAILS,
};

struct kvm_probe {
	int api_version;
	int caps[KVM_PROBE_CAPS]; /* what KVM_CHECK_EXTENSION said */
	enum kvm_probe_insn xsave, cmpxchg16b; /* in ring 0 */
	uint64_t ring0_mips; /* measured, a tight loop; 0: not measured */
	enum kvm_verdict verdict;
	char reason[192]; /* a sentence for people */
};

/*
 * Takes about 0.05 s, in a child process which is killed after 5 s. Fails if
 * the probe itself could not be made; what KVM cannot do is in the verdict.
 * kvm: /dev/kvm, open for reading and writing. The caller has no other threads.
 */
int kvm_probe(int kvm, struct kvm_probe *ret, struct error *err);
