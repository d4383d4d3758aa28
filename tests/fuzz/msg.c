/*
 * Datagrams, as msg_recv() meets them. The first byte of the input says which
 * end receives and how many descriptors come along, the rest is the datagram.
 * What is taken must be what its type says; no descriptor may be left behind.
 */

#include "vmm/msg.h"
#include "base/fd.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void check(bool ok)
{
	if (!ok)
		abort();
}

static bool ends(const char *s, size_t size)
{
	return memchr(s, '\0', size) != NULL;
}

/* Which a receiver relies on. */
static void check_taken(const union msg *m, enum msg_end me, unsigned n_fds)
{
	struct msg_start_fds at;

	check((m->hdr.type <= MSG_VSOCK_CONNECTED) == (me == MSG_VMM));
	switch (m->hdr.type) {
	case MSG_PREPARE:
		check(n_fds == (unsigned)MSG_PREPARE_FD_CONTROL +
				       m->prepare.has_control);
		check(n_fds <= MSG_PREPARE_FDS);
		check(m->prepare.n_cpuid_mods <= VM_MAX_CPUID_MODS);
		check(m->prepare.n_msr_mods <= VM_MAX_MSR_MODS);
		check(m->prepare.n_cpuid <= MSG_CPUID_MAX);
		return;
	case MSG_START:
		msg_start_fds(&m->start, &at);
		check(n_fds == at.n && n_fds <= MSG_MAX_FDS);
		check(m->start.n_drives <= VM_MAX_DRIVES);
		check(m->start.n_nets <= VM_MAX_NETS);
		check(m->start.n_pmem <= VM_MAX_PMEM);
		check(ends(m->start.id, sizeof(m->start.id)));
		check(ends(m->start.cmdline, sizeof(m->start.cmdline)));
		return;
	case MSG_CONSOLE_INPUT:
		check(m->input.len >= 1 &&
			m->input.len <= VM_CONSOLE_INPUT_MAX);
		break;
	case MSG_LIMIT:
		check(m->limit.kind < MSG_LIMIT_KINDS);
		break;
	case MSG_BALLOON:
		check(m->balloon.what < MSG_BALLOON_WHATS);
		break;
	case MSG_ADOPT:
	case MSG_DRIVE:
	case MSG_MMDS:
		check(n_fds == 1);
		return;
	case MSG_VSOCK_CONNECTED:
		check(n_fds == m->vsock_connected.has_fd && n_fds <= 1);
		return;
	case MSG_FAILED:
		check(ends(m->failed.field, sizeof(m->failed.field)));
		check(ends(m->failed.text, sizeof(m->failed.text)));
		break;
	case MSG_EVENT:
		check(m->event.kind < MSG_EVENT_KINDS);
		break;
	case MSG_EXITING:
		check(m->exiting.reason >= VM_EXIT_SHUTDOWN &&
			m->exiting.reason <= VM_EXIT_INTERNAL_ERROR);
		check(ends(m->exiting.detail, sizeof(m->exiting.detail)));
		break;
	default:
		break;
	}
	check(n_fds == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int pair[2], fds[FD_PASS_MAX], got[MSG_MAX_FDS], next, r;
	enum msg_end me;
	unsigned n = 0, n_fds;
	union msg m;

	if (size < 1)
		return 0;
	me = data[0] & 1 ? MSG_VMM : MSG_DAEMON;
	n_fds = (data[0] >> 1) % FD_PASS_MAX;
	check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) ==
		0);
	for (unsigned i = 0; i < n_fds; i++)
		fds[i] = pair[0];
	if (fd_send(pair[0], data + 1, size - 1, fds, n_fds) == 0) {
		/* The lowest free descriptor: whether it is so afterwards. */
		next = dup(pair[0]);
		close(next);
		r = msg_recv(pair[1], me, &m, got, &n);
		check(r == 1 || r == 0 || r == -EPROTO);
		if (r == 1)
			check_taken(&m, me, n);
		else
			check(n == 0);
		for (unsigned i = 0; i < n; i++)
			close(got[i]);
		check(fcntl(next, F_GETFD) < 0);
	}
	close(pair[0]);
	close(pair[1]);
	return 0;
}

/* One of each type, to the end that takes it. */
size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	static const struct {
		uint32_t type;
		size_t size;
	} types[] = {
		{MSG_PREPARE, sizeof(struct msg_prepare)},
		{MSG_START, sizeof(struct msg_start)},
		{MSG_ADOPT, sizeof(struct msg_plain)},
		{MSG_PAUSE, sizeof(struct msg_plain)},
		{MSG_CONSOLE_INPUT, sizeof(struct msg_console_input)},
		{MSG_CONSOLE_SIZE, sizeof(struct msg_console_size)},
		{MSG_DRIVE, sizeof(struct msg_drive_update)},
		{MSG_LIMIT, sizeof(struct msg_limit)},
		{MSG_BALLOON, sizeof(struct msg_balloon)},
		{MSG_MEMORY, sizeof(struct msg_memory)},
		{MSG_MMDS, sizeof(struct msg_mmds)},
		{MSG_VSOCK_CONNECTED, sizeof(struct msg_vsock_connected)},
		{MSG_VSOCK_CONNECT, sizeof(struct msg_vsock_connect)},
		{MSG_STARTED, sizeof(struct msg_plain)},
		{MSG_FAILED, sizeof(struct msg_failed)},
		{MSG_DONE, sizeof(struct msg_done)},
		{MSG_EVENT, sizeof(struct msg_event)},
		{MSG_EXITING, sizeof(struct msg_exiting)},
	};
	union msg m;

	if (n >= sizeof(types) / sizeof(types[0]))
		return 0;
	check(types[n].size + 1 <= cap);
	memset(&m, 0, sizeof(m));
	m.hdr.type = types[n].type;
	m.hdr.seq = 1;
	buf[0] = m.hdr.type <= MSG_VSOCK_CONNECTED;
	if (m.hdr.type == MSG_PREPARE) {
		m.prepare.has_control = 1;
		buf[0] |= MSG_PREPARE_FDS << 1;
	} else if (m.hdr.type == MSG_ADOPT || m.hdr.type == MSG_DRIVE ||
		   m.hdr.type == MSG_MMDS) {
		buf[0] |= 1 << 1;
	} else if (m.hdr.type == MSG_START) {
		m.start.n_drives = 2;
		m.start.has_initrd = 1;
		buf[0] |= (MSG_START_FD_FIXED + 3) << 1;
	} else if (m.hdr.type == MSG_CONSOLE_INPUT) {
		m.input.len = 1;
	} else if (m.hdr.type == MSG_EXITING) {
		m.exiting.reason = VM_EXIT_RESET;
	}
	memcpy(buf + 1, &m, types[n].size);
	return types[n].size + 1;
}
