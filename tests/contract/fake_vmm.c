/*
 * Stands in for mayfly-vmm, in the same jail, and misbehaves on command: the
 * word after "fake=" in the kernel arguments says how to answer MSG_START, each
 * byte typed into the console what to do next.
 */
#include "base/seccomp_image.h"
#include "vmm/msg.h"
#include "vmm/shared.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCK 3

static struct vm_shared *shared;
static int wake_fd, seccomp_fd;

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

static void say_exiting(uint32_t reason, const char *detail)
{
	struct msg_exiting m = {.hdr = {.type = MSG_EXITING}, .reason = reason};

	memcpy(m.detail, detail, strnlen(detail, sizeof(m.detail)));
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

static bool is(const char *mode, const char *want)
{
	size_t n = strlen(want);

	return strncmp(mode, want, n) == 0 &&
	       (mode[n] == ' ' || mode[n] == '\0');
}

static void answer_start(const struct msg_start *m)
{
	const char *mode = strstr(m->cmdline, "fake=");
	uint32_t seq = m->hdr.seq;

	mode = mode ? mode + 5 : "ok";
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
		say_failed(seq, EINVAL, "boot-source.kernel_image_path"),
			_exit(1);
	else if (is(mode, "failed_host"))
		say_failed(seq, 0, ""), _exit(1);
	else if (is(mode, "failed_hang"))
		say_failed(seq, EIO, ""), hang();
	else if (is(mode, "exits"))
		say_exiting(VM_EXIT_SHUTDOWN, ""), _exit(0);
	else if (is(mode, "done_instead"))
		reply(MSG_DONE, seq, 0), hang();
	else if (is(mode, "flood"))
		for (;;)
			reply(MSG_EVENT, 0, 0);
	else if (is(mode, "twice"))
		reply(MSG_STARTED, seq, 0);
	else if (is(mode, "and_gone")) {
		reply(MSG_STARTED, seq, 0);
		say_exiting(VM_EXIT_RESET, "");
		_exit(0);
	}
	reply(MSG_STARTED, seq, 0);
}

/* Lies about how much was printed. */
static void lie_in_page(unsigned how)
{
	static const uint64_t heads[] = {UINT64_MAX, 1ull << 63,
		VM_CONSOLE_BYTES, 3 * VM_CONSOLE_BYTES + 1, 1, 0};

	shared->console_bytes = how * 4096;
	__atomic_store_n(&shared->console_head,
		heads[how % (sizeof(heads) / sizeof(heads[0]))],
		__ATOMIC_SEQ_CST);
	shared->moments[VM_MOMENT_FIRST_ENTRY] = UINT64_MAX - how;
	shared->vcpu[0].exits_pio = UINT64_MAX;
	fd_notify(wake_fd);
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
	case 'L':
		lie_in_page(m->data[1]);
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

int main(void)
{
	int fds[MSG_MAX_FDS];
	unsigned n_fds;
	union msg m;

	if (msg_recv(SOCK, MSG_VMM, &m, fds, &n_fds) != 1 ||
		m.hdr.type != MSG_START)
		return 1;
	shared = mmap(NULL, m.start.shared_bytes, PROT_READ | PROT_WRITE,
		MAP_SHARED, fds[MSG_START_FD_SHARED], 0);
	seccomp_fd = fds[MSG_START_FD_SECCOMP];
	wake_fd = fds[MSG_START_FD_WAKE];
	if (shared == MAP_FAILED)
		return 2;
	answer_start(&m.start);
	for (;;) {
		int r = msg_recv(SOCK, MSG_VMM, &m, fds, &n_fds);

		if (r == -EAGAIN) {
			poll(&(struct pollfd){SOCK, POLLIN, 0}, 1, -1);
			continue;
		}
		if (r != 1)
			return 0;
		if (m.hdr.type != MSG_CONSOLE_INPUT || obey(&m.input))
			reply(MSG_DONE, m.hdr.seq, 0);
	}
}
