#include "vmm/probe.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "vmm/kvm.h"
#include "vmm/probe_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* KVM on hardware does thousands, one nested in an emulated machine hundreds,
 * one that interprets single figures. */
#define RING0_MIPS_MIN 15

/* For a guest of some thousand instructions, on a host however busy. */
#define PROBE_LIMIT_MS 20000

const struct kvm_probe_cap kvm_probe_caps[KVM_PROBE_CAPS] = {
	{"irqchip", KVM_CAP_IRQCHIP, true},
	{"user_memory", KVM_CAP_USER_MEMORY, true},
	{"set_tss_addr", KVM_CAP_SET_TSS_ADDR, true},
	{"ext_cpuid", KVM_CAP_EXT_CPUID, true},
	{"irqfd", KVM_CAP_IRQFD, true},
	{"ioeventfd", KVM_CAP_IOEVENTFD, true},
	{"set_identity_map_addr", KVM_CAP_SET_IDENTITY_MAP_ADDR, true},
	{"immediate_exit", KVM_CAP_IMMEDIATE_EXIT, true},
	{"nr_vcpus", KVM_CAP_NR_VCPUS, false},
	{"max_vcpus", KVM_CAP_MAX_VCPUS, false},
	{"nr_memslots", KVM_CAP_NR_MEMSLOTS, false},
	{"tsc_deadline_timer", KVM_CAP_TSC_DEADLINE_TIMER, false},
	{"kvmclock_ctrl", KVM_CAP_KVMCLOCK_CTRL, false},
};

static void unusable(struct kvm_probe *p, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void unusable(struct kvm_probe *p, const char *fmt, ...)
{
	va_list ap;

	p->verdict = KVM_VERDICT_UNUSABLE;
	va_start(ap, fmt);
	(void)vsnprintf(p->reason, sizeof(p->reason), fmt, ap);
	va_end(ap);
}

/* False: it cannot be used at all, and the reason is set. */
static bool check_caps(int kvm, struct kvm_probe *p)
{
	const char *missing = NULL;

	for (unsigned i = 0; i < KVM_PROBE_CAPS; i++) {
		int r = kvm_check_extension(kvm, kvm_probe_caps[i].cap);

		p->caps[i] = r > 0 ? r : 0;
		if (p->caps[i] == 0 && kvm_probe_caps[i].required)
			missing = kvm_probe_caps[i].name;
	}
	if (p->api_version != KVM_API_VERSION) {
		unusable(p, "KVM's API has version %d, not %d", p->api_version,
			KVM_API_VERSION);
		return false;
	}
	if (missing) {
		unusable(p, "KVM lacks the capability %s", missing);
		return false;
	}
	return true;
}

/* The child: its result goes through the pipe whole, or not at all. */
static _Noreturn void run_child(int kvm, int out)
{
	struct probe_guest_result res;
	sigset_t alarm;
	ssize_t n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	sigprocmask(SIG_UNBLOCK, &alarm, NULL);
	memset(&res, 0, sizeof(res));
	res.error = probe_guest_run(kvm, &res);
	n = write(out, &res, sizeof(res));
	_exit(n == (ssize_t)sizeof(res) ? 0 : 1);
}

/* Waits for the result, no longer than until the limit. */
static int read_result(int in, struct probe_guest_result *ret)
{
	uint64_t end = clock_ns() + PROBE_LIMIT_MS * 1000000ull;
	struct pollfd p = {.fd = in, .events = POLLIN};

	for (;;) {
		uint64_t now = clock_ns();
		ssize_t n;
		int r;

		if (now >= end)
			return -ETIMEDOUT;
		r = poll(&p, 1, (int)((end - now) / 1000000) + 1);
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r <= 0)
			continue;
		n = read(in, ret, sizeof(*ret));
		if (n == (ssize_t)sizeof(*ret))
			return 0;
		return n < 0 ? -errno : -EPIPE;
	}
}

static int run_in_child(
	int kvm, struct probe_guest_result *ret, struct error *err)
{
	_cleanup_close_ int in = -1, out = -1;
	int p[2], r;
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return error_errno(err, errno, "pipe2");
	in = p[0];
	out = p[1];
	pid = fork();
	if (pid < 0)
		return error_errno(err, errno, "fork");
	if (pid == 0)
		run_child(kvm, out);
	close_fd(&out);
	r = read_result(in, ret);
	if (r < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return r < 0 ? error_errno(err, -r, "running the probe's guest") : 0;
}

static void judge(struct kvm_probe *p, const struct probe_guest_result *res)
{
	bool slow = res->ring0_mips < RING0_MIPS_MIN;
	bool fails = res->xsave == KVM_INSN_FAILS ||
		     res->cmpxchg16b == KVM_INSN_FAILS;
	const char *what = "";

	p->xsave = res->xsave;
	p->cmpxchg16b = res->cmpxchg16b;
	p->ring0_mips = res->ring0_mips;
	if (p->xsave == KVM_INSN_FAILS && p->cmpxchg16b == KVM_INSN_FAILS)
		what = ", without XSAVE and CMPXCHG16B";
	else if (p->xsave == KVM_INSN_FAILS)
		what = ", without XSAVE";
	else if (p->cmpxchg16b == KVM_INSN_FAILS)
		what = ", without CMPXCHG16B";
	p->verdict = slow || fails ? KVM_VERDICT_SOFTWARE : KVM_VERDICT_CAN;
	(void)snprintf(p->reason, sizeof(p->reason),
		"%s: a guest's ring 0 runs at %llu million instructions a "
		"second%s",
		slow || fails ? "software KVM, cannot run Linux"
			      : "can run Linux",
		(unsigned long long)p->ring0_mips, what);
}

int kvm_probe(int kvm, struct kvm_probe *ret, struct error *err)
{
	struct probe_guest_result res = {0};
	int r;

	*ret = (struct kvm_probe){.api_version = kvm_api_version(kvm)};
	if (ret->api_version < 0)
		return error_errno(
			err, -ret->api_version, "KVM_GET_API_VERSION");
	if (!check_caps(kvm, ret))
		return 0;
	r = run_in_child(kvm, &res, err);
	if (r < 0)
		return r;
	if (res.error < 0) {
		unusable(ret, "KVM could not run the probe's guest: %s",
			strerror(-res.error));
		return 0;
	}
	judge(ret, &res);
	return 0;
}
