#include "vmm/msg.h"

#include "vmm/config.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

_Static_assert(MSG_MAX_FDS <= FD_PASS_MAX, "one message carries them all");

static const struct {
	size_t size;
	enum msg_end from;
} table[MSG_TYPES] = {
	[MSG_PREPARE] = {sizeof(struct msg_prepare), MSG_DAEMON},
	[MSG_START] = {sizeof(struct msg_start), MSG_DAEMON},
	[MSG_ADOPT] = {sizeof(struct msg_plain), MSG_DAEMON},
	[MSG_PAUSE] = {sizeof(struct msg_plain), MSG_DAEMON},
	[MSG_RESUME] = {sizeof(struct msg_plain), MSG_DAEMON},
	[MSG_CTRL_ALT_DEL] = {sizeof(struct msg_plain), MSG_DAEMON},
	[MSG_CONSOLE_INPUT] = {sizeof(struct msg_console_input), MSG_DAEMON},
	[MSG_CONSOLE_SIZE] = {sizeof(struct msg_console_size), MSG_DAEMON},
	[MSG_DRIVE] = {sizeof(struct msg_drive_update), MSG_DAEMON},
	[MSG_LIMIT] = {sizeof(struct msg_limit), MSG_DAEMON},
	[MSG_BALLOON] = {sizeof(struct msg_balloon), MSG_DAEMON},
	[MSG_MEMORY] = {sizeof(struct msg_memory), MSG_DAEMON},
	[MSG_MMDS] = {sizeof(struct msg_mmds), MSG_DAEMON},
	[MSG_VSOCK_CONNECTED] = {sizeof(struct msg_vsock_connected),
		MSG_DAEMON},
	[MSG_STARTED] = {sizeof(struct msg_plain), MSG_VMM},
	[MSG_FAILED] = {sizeof(struct msg_failed), MSG_VMM},
	[MSG_DONE] = {sizeof(struct msg_done), MSG_VMM},
	[MSG_EVENT] = {sizeof(struct msg_event), MSG_VMM},
	[MSG_VSOCK_CONNECT] = {sizeof(struct msg_vsock_connect), MSG_VMM},
	[MSG_EXITING] = {sizeof(struct msg_exiting), MSG_VMM},
};

static bool known(uint32_t type, enum msg_end from)
{
	return type > MSG_INVALID && type < MSG_TYPES &&
	       table[type].from == from;
}

void msg_start_fds(const struct msg_start *m, struct msg_start_fds *ret)
{
	unsigned n = MSG_START_FD_FIXED;

	*ret = (struct msg_start_fds){.initrd = -1, .vsock = -1, .mmds = -1};
	if (m->has_initrd)
		ret->initrd = (int)n++;
	ret->drives = n;
	n += m->n_drives;
	for (unsigned i = 0; i < m->n_nets; i++) {
		ret->nets[i] = n;
		n += m->nets[i].n_pairs;
	}
	ret->pmem = n;
	n += m->n_pmem;
	if (m->has_vsock)
		ret->vsock = (int)n++;
	if (m->has_mmds && m->mmds.data_len)
		ret->mmds = (int)n++;
	ret->n = n;
}

/* How many descriptors m carries; only after bounded(). */
static unsigned fd_count(const union msg *m)
{
	struct msg_start_fds at;

	switch (m->hdr.type) {
	case MSG_PREPARE:
		return MSG_PREPARE_FD_CONTROL + m->prepare.has_control;
	case MSG_START:
		msg_start_fds(&m->start, &at);
		return at.n;
	case MSG_ADOPT:
	case MSG_DRIVE:
	case MSG_MMDS:
		return 1;
	case MSG_VSOCK_CONNECTED:
		return m->vsock_connected.has_fd;
	default:
		return 0;
	}
}

static bool prepare_bounded(const struct msg_prepare *m)
{
	if (m->has_control > 1 || m->n_cpuid > MSG_CPUID_MAX ||
		m->n_cpuid_mods > VM_MAX_CPUID_MODS ||
		m->n_msr_mods > VM_MAX_MSR_MODS)
		return false;
	for (unsigned i = 0; i < m->n_cpuid_mods; i++)
		if (m->cpuid_mods[i].reg > VM_CPUID_EDX)
			return false;
	return true;
}

static bool start_bounded(const struct msg_start *m)
{
	if (m->has_initrd > 1 || m->has_vsock > 1 || m->has_mmds > 1 ||
		m->n_drives > VM_MAX_DRIVES || m->n_nets > VM_MAX_NETS ||
		m->n_pmem > VM_MAX_PMEM)
		return false;
	for (unsigned i = 0; i < m->n_nets; i++)
		if (m->nets[i].n_pairs < 1 ||
			m->nets[i].n_pairs > VM_MAX_QUEUE_PAIRS)
			return false;
	return true;
}

/* Whether every count and enumerator of m is one its receiver can use. */
static bool bounded(const union msg *m)
{
	switch (m->hdr.type) {
	case MSG_PREPARE:
		return prepare_bounded(&m->prepare);
	case MSG_START:
		return start_bounded(&m->start);
	case MSG_CONSOLE_INPUT:
		return m->input.len >= 1 &&
		       m->input.len <= VM_CONSOLE_INPUT_MAX;
	case MSG_LIMIT:
		return m->limit.kind < MSG_LIMIT_KINDS;
	case MSG_BALLOON:
		return m->balloon.what < MSG_BALLOON_WHATS;
	case MSG_VSOCK_CONNECTED:
		return m->vsock_connected.has_fd <= 1;
	case MSG_EVENT:
		return m->event.kind < MSG_EVENT_KINDS;
	case MSG_EXITING:
		return m->exiting.reason > VM_EXIT_NONE &&
		       m->exiting.reason <= VM_EXIT_INTERNAL_ERROR;
	default:
		return true;
	}
}

static void terminate_strings(union msg *m)
{
	if (m->hdr.type == MSG_START) {
		m->start.cmdline[sizeof(m->start.cmdline) - 1] = '\0';
		m->start.id[sizeof(m->start.id) - 1] = '\0';
	} else if (m->hdr.type == MSG_FAILED) {
		m->failed.field[sizeof(m->failed.field) - 1] = '\0';
		m->failed.text[sizeof(m->failed.text) - 1] = '\0';
	} else if (m->hdr.type == MSG_EXITING) {
		m->exiting.detail[sizeof(m->exiting.detail) - 1] = '\0';
	}
}

int msg_send(int sock, enum msg_end me, const union msg *m, const int *fds,
	unsigned n_fds)
{
	if (!known(m->hdr.type, me) || !bounded(m) || n_fds != fd_count(m))
		return -EINVAL;
	return fd_send(sock, m, table[m->hdr.type].size, fds, n_fds);
}

int msg_recv(int sock, enum msg_end me, union msg *ret, int *ret_fds,
	unsigned *ret_n_fds)
{
	enum msg_end peer = me == MSG_DAEMON ? MSG_VMM : MSG_DAEMON;
	unsigned n_fds = 0;
	ssize_t n;

	*ret_n_fds = 0;
	/* The daemon takes no descriptors from a VMM: what comes is refused. */
	n = fd_recv(sock, ret, sizeof(*ret), ret_fds,
		me == MSG_VMM ? MSG_MAX_FDS : 0, &n_fds);
	/* The peer left without having read all that we sent. That is told
	 * once, before what it had sent us, and its last words count. */
	if (n == -ECONNRESET)
		n = fd_recv(sock, ret, sizeof(*ret), ret_fds,
			me == MSG_VMM ? MSG_MAX_FDS : 0, &n_fds);
	if (n == -EMSGSIZE)
		return -EPROTO;
	if (n < 0)
		return (int)n;
	if ((size_t)n < sizeof(ret->hdr) || !known(ret->hdr.type, peer) ||
		(size_t)n != table[ret->hdr.type].size || !bounded(ret) ||
		n_fds != fd_count(ret)) {
		/* An empty datagram looks like the end, but for descriptors. */
		for (unsigned i = 0; i < n_fds; i++)
			close(ret_fds[i]);
		return n == 0 && n_fds == 0 ? 0 : -EPROTO;
	}
	terminate_strings(ret);
	*ret_n_fds = n_fds;
	return 1;
}
