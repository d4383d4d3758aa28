/*
 * Stands in for mayfly-vmm, in the same jail, and misbehaves on command: the
 * memory asked for says how to answer MSG_PREPARE (at_prepare[] below), the
 * word after "fake=" in the kernel arguments how to answer MSG_START, each byte
 * typed into the console what to do next. With "outlive=" there it waits for
 * another daemon when its own is gone, and the word behind that says how
 * MSG_ADOPT is answered. What it is told of devices it prints, a line a
 * message.
 */
#include "base/seccomp_image.h"
#include "vmm/msg.h"
#include "vmm/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOCK 3

static struct vm_shared *shared;
static int wake_fd, seccomp_fd, control_fd = -1;
static struct msg_prepare machine;
static char outlive[16];                    /* "": not */
static unsigned until_failure, until_death; /* messages; 0: none */

static void hang(void)
{
	for (;;)
		pause();
}

/* A system call the seccomp program of an I/O worker does not have. */
static void violate(void)
{
	const struct seccomp_image *img = seccomp_image_map(seccomp_fd);

	if (img && seccomp_image_install(img, SECCOMP_WORKER) == 0)
		chdir("/");
	_exit(9);
}

static void reply(uint32_t type, uint32_t seq, int32_t code)
{
	union msg m;

	memset(&m, 0, sizeof(m));
	m.hdr.type = type;
	m.hdr.seq = seq;
	if (type == MSG_DONE)
		m.done.code = code;
	while (msg_send(SOCK, MSG_VMM, &m, NULL, 0) == -EAGAIN)
		poll(&(struct pollfd){SOCK, POLLOUT, 0}, 1, -1);
}

static void set_run_state(uint32_t state)
{
	__atomic_store_n(&shared->run_state, state, __ATOMIC_RELEASE);
}

static void say_exiting(uint32_t reason, const char *detail)
{
	struct msg_exiting m = {.hdr = {.type = MSG_EXITING}, .reason = reason};

	memcpy(m.detail, detail, strnlen(detail, sizeof(m.detail)));
	shared->exit_reason = reason;
	memcpy(shared->exit_detail, m.detail, sizeof(m.detail));
	set_run_state(VM_RUN_STATE_ENDED);
	/* Not msg_send(): it would refuse a wrong reason. */
	send(SOCK, &m, sizeof(m), 0);
}

static void say_failed(uint32_t seq, int32_t code, const char *field)
{
	struct msg_failed m = {
		.hdr = {.type = MSG_FAILED, .seq = seq}, .code = code};

	memcpy(m.field, field, strnlen(field, sizeof(m.field)));
	memcpy(m.text, "is bad\x01\xff",
		strnlen("is bad\x01\xff", sizeof(m.text)));
	send(SOCK, &m, sizeof(m), 0);
}

static void print(const char *s, size_t n)
{
	uint64_t head = shared->console_head;

	for (size_t i = 0; i < n; i++)
		shared->console[(head + i) % VM_CONSOLE_BYTES] = (uint8_t)s[i];
	__atomic_store_n(&shared->console_head, head + n, __ATOMIC_SEQ_CST);
	if (__atomic_exchange_n(&shared->wake, 0, __ATOMIC_SEQ_CST))
		fd_notify(wake_fd);
}

__attribute__((format(printf, 1, 2))) static void tell(const char *fmt, ...)
{
	char line[512];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if (n > 0 && (size_t)n < sizeof(line))
		print(line, (size_t)n);
}

static const char *limiter(const struct rate_limiter_config *c)
{
	static char text[4][200];
	static unsigned i;
	char *to = text[i++ % 4];

	snprintf(to, sizeof(text[0]), "bytes=%llu/%llu/%llu ops=%llu/%llu/%llu",
		(unsigned long long)c->bytes.size,
		(unsigned long long)c->bytes.one_time_burst,
		(unsigned long long)c->bytes.refill_ns,
		(unsigned long long)c->ops.size,
		(unsigned long long)c->ops.one_time_burst,
		(unsigned long long)c->ops.refill_ns);
	return to;
}

/* What a descriptor is: its file's size and how it was opened. */
static const char *file(int fd)
{
	static char text[64];
	int flags = fcntl(fd, F_GETFL);
	struct stat st;

	if (flags < 0 || fstat(fd, &st) < 0)
		return "none";
	if (S_ISSOCK(st.st_mode))
		return "socket";
	snprintf(text, sizeof(text), "%lld%s%s", (long long)st.st_size,
		(flags & O_ACCMODE) == O_RDONLY ? ",ro" : "",
		flags & O_DIRECT ? ",direct" : "");
	return text;
}

static void tell_cpu(const struct msg_prepare *m)
{
	for (unsigned i = 0; i < m->n_cpuid_mods; i++) {
		const struct msg_cpuid_mod *c = &m->cpuid_mods[i];

		tell("cpuid %x.%x flags=%u reg=%u keep=%x set=%x\n", c->leaf,
			c->subleaf, c->flags, c->reg, c->keep, c->set);
	}
	for (unsigned i = 0; i < m->n_msr_mods; i++)
		tell("msr %x keep=%llx set=%llx\n", m->msr_mods[i].index,
			(unsigned long long)m->msr_mods[i].keep,
			(unsigned long long)m->msr_mods[i].set);
}

static void tell_devices(const struct msg_start *m, const int *fds)
{
	struct msg_start_fds at;

	msg_start_fds(m, &at);
	tell("machine vcpus=%u mem=%llu smt=%u huge=%u console=%u %s\n",
		machine.vcpu_count, (unsigned long long)machine.mem_bytes,
		machine.smt, machine.huge_pages, m->console,
		limiter(&m->serial_limiter));
	tell_cpu(&machine);
	for (unsigned i = 0; i < m->n_drives; i++)
		tell("drive %.20s size=%llu ro=%u writeback=%u %s file=%s\n",
			m->drives[i].serial,
			(unsigned long long)m->drives[i].size_bytes,
			m->drives[i].read_only, m->drives[i].writeback,
			limiter(&m->drives[i].limiter),
			file(fds[at.drives + i]));
	for (unsigned i = 0; i < m->n_nets; i++) {
		const struct msg_net *n = &m->nets[i];

		tell("net mac=%u:%02x%02x%02x%02x%02x%02x mtu=%u pairs=%u "
		     "mmds=%u rx %s tx %s\n",
			n->has_mac, n->mac[0], n->mac[1], n->mac[2], n->mac[3],
			n->mac[4], n->mac[5], n->mtu, n->n_pairs, n->mmds,
			limiter(&n->rx_limiter), limiter(&n->tx_limiter));
	}
	for (unsigned i = 0; i < m->n_pmem; i++)
		tell("pmem size=%llu used=%llu ro=%u %s file=%s\n",
			(unsigned long long)m->pmem[i].size_bytes,
			(unsigned long long)m->pmem[i].file_bytes,
			m->pmem[i].read_only, limiter(&m->pmem[i].limiter),
			file(fds[at.pmem + i]));
	if (m->has_vsock)
		tell("vsock cid=%u %s\n", m->guest_cid, file(fds[at.vsock]));
	if (m->has_entropy)
		tell("entropy %s\n", limiter(&m->entropy_limiter));
	if (m->has_balloon)
		tell("balloon target=%u interval=%u oom=%u hinting=%u "
		     "reporting=%u\n",
			m->balloon.target_pages, m->balloon.stats_interval_s,
			m->balloon.deflate_on_oom, m->balloon.hinting,
			m->balloon.reporting);
	if (m->has_memory_hotplug)
		tell("memory region=%llu block=%llu slot=%llu requested=%llu\n",
			(unsigned long long)m->memory_hotplug.region_bytes,
			(unsigned long long)m->memory_hotplug.block_bytes,
			(unsigned long long)m->memory_hotplug.slot_bytes,
			(unsigned long long)m->memory_hotplug.requested_bytes);
	if (m->has_mmds)
		tell("mmds version=%u ipv4=%x imds=%u data=%u file=%s\n",
			m->mmds.version, m->mmds.ipv4, m->mmds.imds_compat,
			m->mmds.data_len,
			at.mmds < 0 ? "none" : file(fds[at.mmds]));
}

/* A guest that does at once what it is asked for. */
static void obey_device(const union msg *m, int fd)
{
	switch (m->hdr.type) {
	case MSG_PAUSE:
		set_run_state(VM_RUN_STATE_PAUSED);
		break;
	case MSG_RESUME:
		set_run_state(VM_RUN_STATE_RUNNING);
		break;
	case MSG_DRIVE:
		tell("drive index=%u size=%llu align=%s file=%s\n",
			m->drive.index, (unsigned long long)m->drive.size_bytes,
			m->drive.direct_align ? "some" : "0", file(fd));
		close(fd);
		break;
	case MSG_LIMIT:
		tell("limit kind=%u index=%u has=%u,%u %s\n", m->limit.kind,
			m->limit.index, m->limit.has_bytes, m->limit.has_ops,
			limiter(&m->limit.config));
		break;
	case MSG_BALLOON:
		tell("balloon what=%u value=%u\n", m->balloon.what,
			m->balloon.value);
		if (m->balloon.what == MSG_BALLOON_TARGET)
			shared->balloon.target_pages =
				shared->balloon.actual_pages = m->balloon.value;
		break;
	case MSG_MEMORY:
		tell("memory requested=%llu\n",
			(unsigned long long)m->memory.requested_bytes);
		shared->memory.plugged_bytes = m->memory.requested_bytes;
		break;
	case MSG_MMDS:
		tell("mmds data=%u file=%s\n", m->mmds.len, file(fd));
		close(fd);
		break;
	case MSG_CONSOLE_SIZE:
		tell("size %ux%u\n", m->size.columns, m->size.rows);
		break;
	default:
		break;
	}
}

/* What 1001 MiB and so on do. All but the last few are never started. */
static const char *const at_prepare[] = {
	"hang",          /* 1001 */
	"die",           /* 1002 */
	"trap",          /* 1003 */
	"close",         /* 1004 */
	"garbage",       /* 1005 */
	"failed",        /* 1006: of a field */
	"failed_host",   /* 1007 */
	"failed_hang",   /* 1008 */
	"started",       /* 1009: the wrong answer */
	"exits",         /* 1010 */
	"flood",         /* 1011 */
	"refuse",        /* 1012: MSG_DONE with an error */
	"and_gone",      /* 1013: dies once it is ready */
	"and_gone_late", /* 1014: ... some time after that */
	"and_garbage",   /* 1015: says something when nobody asked */
	"twice",         /* 1016: is ready twice, and starts */
	"late",          /* 1017: ready after half a second, and starts */
};

static bool is(const char *mode, const char *want)
{
	size_t n = strlen(want);

	return strncmp(mode, want, n) == 0 &&
	       (mode[n] == ' ' || mode[n] == '\0');
}

/* What can go wrong at every question; field: of one that failed. Returns if
 * the word is none of these. */
static void misbehave(const char *mode, uint32_t seq, const char *field)
{
	if (is(mode, "hang"))
		hang();
	else if (is(mode, "die"))
		_exit(3);
	else if (is(mode, "trap"))
		__builtin_trap();
	else if (is(mode, "close"))
		close(SOCK), hang();
	else if (is(mode, "garbage"))
		send(SOCK, "garbage", 7, 0), hang();
	else if (is(mode, "failed"))
		say_failed(seq, EINVAL, field), _exit(1);
	else if (is(mode, "failed_host"))
		say_failed(seq, 0, ""), _exit(1);
	else if (is(mode, "failed_room"))
		say_failed(seq, EMFILE, ""), _exit(1);
	else if (is(mode, "failed_hang"))
		say_failed(seq, EIO, ""), hang();
	else if (is(mode, "exits"))
		say_exiting(VM_EXIT_SHUTDOWN, ""), _exit(0);
	else if (is(mode, "started"))
		reply(MSG_STARTED, seq, 0), hang();
	else if (is(mode, "refuse"))
		reply(MSG_DONE, seq, EIO), hang();
	else if (is(mode, "flood"))
		for (;;)
			reply(MSG_EVENT, 0, 0);
}

static void answer_prepare(void)
{
	uint64_t n = (machine.mem_bytes >> 20) - 1001;
	const char *mode = "ok";
	uint32_t seq = machine.hdr.seq;

	if (n < sizeof(at_prepare) / sizeof(at_prepare[0]))
		mode = at_prepare[n];
	misbehave(mode, seq, "machine-config.mem_size_mib");
	if (is(mode, "late"))
		usleep(500000);
	reply(MSG_DONE, seq, 0);
	if (is(mode, "and_gone"))
		_exit(0);
	if (is(mode, "and_gone_late"))
		usleep(300000), _exit(0);
	if (is(mode, "and_garbage"))
		send(SOCK, "garbage", 7, 0), hang();
	if (is(mode, "twice"))
		reply(MSG_DONE, seq, 0);
}

static void answer_start(const struct msg_start *m)
{
	const char *mode = strstr(m->cmdline, "fake=");
	const char *then = strstr(m->cmdline, "outlive=");
	uint32_t seq = m->hdr.seq;

	if (then)
		snprintf(outlive, sizeof(outlive), "%.*s",
			(int)strcspn(then + 8, " "), then + 8);
	mode = mode ? mode + 5 : "ok";
	if (is(mode, "done_instead"))
		reply(MSG_DONE, seq, 0), hang();
	if (!is(mode, "started"))
		misbehave(mode, seq, "boot-source.kernel_image_path");
	set_run_state(VM_RUN_STATE_RUNNING);
	if (is(mode, "twice"))
		reply(MSG_STARTED, seq, 0);
	reply(MSG_STARTED, seq, 0);
	if (is(mode, "and_gone")) {
		say_exiting(VM_EXIT_RESET, "");
		_exit(0);
	}
}

/* The first message of another daemon. */
static void answer_adopt(uint32_t seq, int fd)
{
	misbehave(outlive, seq, "");
	dup2(fd, wake_fd);
	close(fd);
	if (is(outlive, "twice"))
		reply(MSG_DONE, seq, 0);
	reply(MSG_DONE, seq, 0);
	if (is(outlive, "and_gone"))
		say_exiting(VM_EXIT_RESET, ""), _exit(0);
}

/* Its daemon is gone: waits for another one. */
static void find_daemon(void)
{
	int fd;

	close(SOCK);
	if (!outlive[0] || control_fd < 0)
		_exit(0);
	if (is(outlive, "deaf")) /* connected to and no more */
		hang();
	if (is(outlive, "unreachable"))
		close(control_fd), hang();
	if (is(outlive, "ends")) /* while nobody is there */
		say_exiting(VM_EXIT_PANIC, "alone"), _exit(0);
	if (is(outlive, "crashes"))
		__builtin_trap();
	do {
		poll(&(struct pollfd){control_fd, POLLIN, 0}, 1, -1);
		fd = accept4(control_fd, NULL, NULL, SOCK_CLOEXEC);
	} while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	if (fd < 0)
		_exit(4);
	if (fd != SOCK) {
		dup2(fd, SOCK);
		close(fd);
	}
}

/* Lies about how much was printed. */
static void lie_in_page(unsigned how)
{
	static const uint64_t heads[] = {UINT64_MAX, 1ull << 63,
		VM_CONSOLE_BYTES, 3 * VM_CONSOLE_BYTES + 1, 1, 0};

	shared->console_bytes = how * 4096;
	shared->version += how;
	shared->exit_reason = UINT32_MAX - how;
	memset(shared->exit_detail, 'A', sizeof(shared->exit_detail));
	set_run_state(VM_RUN_STATE_ENDED + how);
	__atomic_store_n(&shared->console_head,
		heads[how % (sizeof(heads) / sizeof(heads[0]))],
		__ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < VM_MOMENTS; i++)
		shared->moments[i] = UINT64_MAX - how;
	shared->received_ns = how % 2 ? UINT64_MAX : how;
	shared->vcpu[0].exits_pio = UINT64_MAX;
	memset(shared->blk, 0xff, sizeof(shared->blk));
	memset(shared->net, 0xff, sizeof(shared->net));
	memset(&shared->balloon, 0xff, sizeof(shared->balloon));
	memset(&shared->memory, 0xff, sizeof(shared->memory));
	fd_notify(wake_fd);
}

/* A guest's connections to one port: n of them, as many at a time as a VMM may
 * ask for. */
static void connect_many(uint32_t port, unsigned n)
{
	struct msg_vsock_connect c = {
		.hdr = {.type = MSG_VSOCK_CONNECT}, .port = port};
	unsigned asked = 0, yes = 0, no = 0, n_fds;
	uint64_t sum = 0;
	union msg m;
	int fd;

	while (yes + no < n) {
		if (asked < n && asked - yes - no < VSOCK_MAX_CONNECTING) {
			c.token = asked++;
			send(SOCK, &c, sizeof(c), 0);
			continue;
		}
		if (msg_recv(SOCK, MSG_VMM, &m, &fd, &n_fds) != 1 ||
			m.hdr.type != MSG_VSOCK_CONNECTED)
			continue;
		sum += m.vsock_connected.token;
		yes += n_fds;
		no += !n_fds;
		if (n_fds && write(fd, "hello", 5) == 5)
			close(fd);
	}
	tell("vsock yes=%u no=%u tokens=%llu\n", yes, no,
		(unsigned long long)sum);
}

/* Whether the answer is to be sent. */
static bool obey(const struct msg_console_input *m)
{
	static char block[4096];

	switch (m->data[0]) {
	case 'b': /* ends well */
		say_exiting(VM_EXIT_SHUTDOWN, "");
		_exit(0);
	case 'B': /* says so and does not */
		say_exiting(VM_EXIT_SHUTDOWN, "");
		hang();
		break;
	case 'd': /* ends well, a little later and with many words */
		reply(MSG_DONE, m->hdr.seq, 0);
		usleep(200000);
		for (unsigned i = 0; i < 40; i++)
			reply(MSG_EVENT, 0, 0);
		say_exiting(VM_EXIT_RESET, "");
		_exit(0);
	case 'R': /* a reason that is none, and words that are no text */
		say_exiting(77, "x");
		hang();
		break;
	case 'T': /* without an end */
		memset(block, 'A', sizeof(block) - 1);
		say_exiting(VM_EXIT_PANIC, block);
		_exit(0);
	case 'x': /* without a word */
		_exit(0);
	case 't':
		__builtin_trap();
	case 'y':
		violate();
		break;
	case 'c':
		close(SOCK);
		hang();
		break;
	case 'g':
		send(SOCK, "?", 1, 0);
		hang();
		break;
	case 's':
		reply(MSG_STARTED, 1, 0);
		break;
	case 'F':
		say_failed(1, EIO, "");
		hang();
		break;
	case 'h':
		hang();
		break;
	case 'f': {
		struct msg_event e = {.hdr = {.type = MSG_EVENT}};

		/* From many sides, so that the socket is never empty. */
		for (unsigned i = 0; i < 7; i++)
			if (fork() == 0)
				break;
		for (;;)
			send(SOCK, &e, sizeof(e), 0);
	}
	case 'v': /* connects to ports; 0: the one of ready guests */
		connect_many(m->data[1] ? m->data[1] : VM_READY_PORT,
			(unsigned)m->data[2] << 8 | m->data[3]);
		break;
	case 'V': /* without minding the answers */
		for (struct msg_vsock_connect e =
				{.hdr = {.type = MSG_VSOCK_CONNECT}, .port = 1};
			;)
			send(SOCK, &e, sizeof(e), 0);
	case 'X': { /* a message, and a descriptor nobody asked for */
		struct msg_event e = {.hdr = {.type = MSG_EVENT}};

		fd_send(SOCK, &e, sizeof(e), &wake_fd, 1);
		hang();
		break;
	}
	case 'w': /* wakes the daemon without end */
		for (;;)
			fd_notify(wake_fd);
	case 'n': /* no answer to this one */
		return false;
	case 'l': /* a late one */
		sleep(2);
		break;
	case 'u': /* an answer to nothing, too */
		reply(MSG_DONE, 0xdeadbeef, 0);
		break;
	case 'e':
		reply(MSG_DONE, m->hdr.seq, ENOBUFS);
		return false;
	case 'E':
		reply(MSG_DONE, m->hdr.seq, -1);
		return false;
	case 'q': /* of the next messages to devices the nth fails */
		until_failure = m->data[1];
		break;
	case 'k': /* ... is the last */
		until_death = m->data[1];
		break;
	case 'L':
		lie_in_page(m->data[1]);
		break;
	case 'S':
		set_run_state(m->data[1]);
		break;
	case 'p': /* prints the rest */
		print((const char *)m->data + 1, m->len - 1);
		break;
	case 'P': /* prints 2 MiB */
		memset(block, 'z', sizeof(block));
		for (unsigned i = 0; i < 512; i++)
			print(block, sizeof(block));
		break;
	default:
		break;
	}
	return true;
}

/* The next message, whenever it comes; 0: the daemon is gone. */
static int receive(union msg *m, int *fds, unsigned *n_fds)
{
	int r;

	while ((r = msg_recv(SOCK, MSG_VMM, m, fds, n_fds)) == -EAGAIN)
		poll(&(struct pollfd){SOCK, POLLIN, 0}, 1, -1);
	return r;
}

/* What a daemon says first; false: not that. */
static bool get_ready(void)
{
	int fds[MSG_MAX_FDS];
	unsigned n_fds;
	union msg m;

	if (receive(&m, fds, &n_fds) != 1 || m.hdr.type != MSG_PREPARE)
		return false;
	machine = m.prepare;
	shared = mmap(NULL, machine.shared_bytes, PROT_READ | PROT_WRITE,
		MAP_SHARED, fds[MSG_PREPARE_FD_SHARED], 0);
	seccomp_fd = fds[MSG_PREPARE_FD_SECCOMP];
	wake_fd = fds[MSG_PREPARE_FD_WAKE];
	if (machine.has_control) {
		control_fd = fds[MSG_PREPARE_FD_CONTROL];
		listen(control_fd, MSG_CONTROL_BACKLOG);
	}
	if (shared == MAP_FAILED)
		return false;
	answer_prepare();

	if (receive(&m, fds, &n_fds) != 1 || m.hdr.type != MSG_START)
		return false;
	if (strstr(m.start.cmdline, "tell"))
		tell_devices(&m.start, fds);
	for (unsigned i = MSG_START_FD_FIXED; i < n_fds; i++)
		close(fds[i]);
	answer_start(&m.start);
	return true;
}

int main(void)
{
	int fds[MSG_MAX_FDS];
	unsigned n_fds;
	union msg m;

	if (!get_ready())
		return 1;
	for (;;) {
		if (receive(&m, fds, &n_fds) != 1) {
			find_daemon();
			continue;
		}
		if (m.hdr.type == MSG_ADOPT) {
			answer_adopt(m.hdr.seq, fds[0]);
			continue;
		}
		if (m.hdr.type == MSG_CONSOLE_INPUT) {
			if (obey(&m.input))
				reply(MSG_DONE, m.hdr.seq, 0);
			continue;
		}
		obey_device(&m, fds[0]);
		if (until_death && --until_death == 0)
			return 0;
		if (until_failure && --until_failure == 0)
			reply(MSG_DONE, m.hdr.seq, EIO);
		else
			reply(MSG_DONE, m.hdr.seq, 0);
	}
}
