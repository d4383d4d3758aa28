#include "daemon/host.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "vmm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define KVM_PATH "/dev/kvm"

static const struct {
	const char *name;
	uint32_t bit;
} uring_features[HOST_IO_URING_FEATURES] = {
	{"single_mmap", IORING_FEAT_SINGLE_MMAP},
	{"nodrop", IORING_FEAT_NODROP},
	{"submit_stable", IORING_FEAT_SUBMIT_STABLE},
	{"rw_cur_pos", IORING_FEAT_RW_CUR_POS},
	{"cur_personality", IORING_FEAT_CUR_PERSONALITY},
	{"fast_poll", IORING_FEAT_FAST_POLL},
	{"poll_32bits", IORING_FEAT_POLL_32BITS},
	{"sqpoll_nonfixed", IORING_FEAT_SQPOLL_NONFIXED},
	{"ext_arg", IORING_FEAT_EXT_ARG},
	{"native_workers", IORING_FEAT_NATIVE_WORKERS},
	{"rsrc_tags", IORING_FEAT_RSRC_TAGS},
	{"cqe_skip", IORING_FEAT_CQE_SKIP},
	{"linked_file", IORING_FEAT_LINKED_FILE},
};

/* A ring as small as there is, made to be asked for its features. */
static void probe_io_uring(struct host *h)
{
	struct io_uring_params p = {.flags = IORING_SETUP_R_DISABLED};
	_cleanup_close_ int fd = (int)syscall(__NR_io_uring_setup, 1, &p);

	h->shown.io_uring = fd >= 0;
	for (unsigned i = 0; i < HOST_IO_URING_FEATURES; i++)
		h->uring[i] = (struct api_flag){uring_features[i].name,
			fd >= 0 && (p.features & uring_features[i].bit)};
	h->shown.io_uring_features = h->uring;
	h->shown.n_io_uring_features = HOST_IO_URING_FEATURES;
}

static void unusable(struct host *h, const char *why)
{
	h->probe = (struct kvm_probe){.verdict = KVM_VERDICT_UNUSABLE};
	snprintf(h->probe.reason, sizeof(h->probe.reason), "%.*s",
		(int)sizeof(h->probe.reason) - 1, why);
}

static void probe_kvm(struct host *h)
{
	char why[sizeof(h->probe.reason)];
	struct error err;

	h->kvm_fd = open(KVM_PATH, O_RDWR | O_CLOEXEC);
	if (h->kvm_fd < 0) {
		snprintf(why, sizeof(why), "%s cannot be opened: %s%s",
			KVM_PATH, strerror(errno),
			errno == ENOENT ? " (is the kvm module loaded, and "
					  "virtualisation on in the firmware?)"
					: "");
		unusable(h, why);
		return;
	}
	if (kvm_probe(h->kvm_fd, &h->probe, &err) < 0)
		unusable(h, err.msg);
}

static const char *insn_name(enum kvm_probe_insn i)
{
	static const char *const names[] = {
		[KVM_INSN_WORKS] = "works",
		[KVM_INSN_ABSENT] = "absent",
		[KVM_INSN_FAILS] = "fails",
	};

	return names[i];
}

static const char *verdict_name(enum kvm_verdict v)
{
	static const char *const names[] = {
		[KVM_VERDICT_CAN] = "linux",
		[KVM_VERDICT_SOFTWARE] = "tiny_guests",
		[KVM_VERDICT_UNUSABLE] = "none",
	};

	return names[v];
}

void host_probe(struct host *h)
{
	struct api_host *s = &h->shown;

	*h = (struct host){.kvm_fd = -1};
	probe_kvm(h);
	probe_io_uring(h);
	uname(&h->uts);
	for (unsigned i = 0; i < KVM_PROBE_CAPS; i++)
		h->caps[i] = (struct api_flag){
			kvm_probe_caps[i].name, h->probe.caps[i]};
	s->kvm_capabilities = h->caps;
	s->n_kvm_capabilities = KVM_PROBE_CAPS;
	s->kvm_api_version = h->probe.api_version;
	s->kvm_usable = h->probe.verdict != KVM_VERDICT_UNUSABLE;
	s->verdict = verdict_name(h->probe.verdict);
	s->reason = h->probe.reason;
	s->ring0_mips = h->probe.ring0_mips;
	if (s->ring0_mips) {
		s->xsave = insn_name(h->probe.xsave);
		s->cmpxchg16b = insn_name(h->probe.cmpxchg16b);
	}
	s->cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	s->kernel_release = h->uts.release;
	if (!s->kvm_usable)
		close_fd(&h->kvm_fd);
}

void host_close(struct host *h)
{
	close_fd(&h->kvm_fd);
}

static uint64_t meminfo_bytes(const char *text, const char *key)
{
	const char *p = strstr(text, key);

	return p ? strtoull(p + strlen(key), NULL, 10) << 10 : 0;
}

const struct api_host *host_show(struct host *h, enum jail_cgroup cgroup)
{
	char text[4096];

	(void)file_read_text(AT_FDCWD, "/proc/meminfo", text, sizeof(text));
	h->shown.mem_total_bytes = meminfo_bytes(text, "MemTotal:");
	h->shown.mem_available_bytes = meminfo_bytes(text, "MemAvailable:");
	h->shown.cgroup_version = cgroup == JAIL_CGROUP_V2   ? 2
				  : cgroup == JAIL_CGROUP_V1 ? 1
							     : 0;
	return &h->shown;
}
