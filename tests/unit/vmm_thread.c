#include "tests/unit/vmm_thread.h"

#include "base/cleanup.h"
#include "tests/unit/fake_kvm.h"
#include "vmm/control.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#define PATIENCE_MS 10000

void vmm_thread_make(struct vmm_thread *t, unsigned n_drives)
{
	memset(t, 0, sizeof(*t));
	fake_kvm_reset();
	ck_assert_int_eq(vm_init(&t->vm, 1), 0);
	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, t->sock),
		0);
	vm_start_make(&t->s, n_drives);
	t->wake_fd = t->status = -1;
}

void vmm_thread_listen(struct vmm_thread *t)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	/* Of Linux's abstract ones, any. */
	t->address.sun_family = AF_UNIX;
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&t->address,
				 sizeof(t->address.sun_family)),
		0);
	t->address_len = sizeof(t->address);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&t->address,
				 &t->address_len),
		0);
	ck_assert_int_eq(listen(fd, 8), 0);
	t->s.prep.prepare.has_control = 1;
	t->s.prep_fds[MSG_PREPARE_FD_CONTROL] = fd;
}

void vmm_thread_free(struct vmm_thread *t)
{
	vm_start_destroy_vm(&t->vm);
	vm_start_free(&t->s);
	close_fd(&t->sock[0]);
	close_fd(&t->sock[1]);
	close_fd(&t->wake_fd);
}

static void *run(void *arg)
{
	struct vmm_thread *t = arg;

	t->status = control_run(&t->vm, t->sock[1]);
	return NULL;
}

void vmm_thread_run(struct vmm_thread *t)
{
	ck_assert_int_eq(pthread_create(&t->thread, NULL, run, t), 0);
}

void vmm_thread_send_prepare(struct vmm_thread *t)
{
	ck_assert_int_eq(
		msg_send(t->sock[0], MSG_DAEMON, &t->s.prep, t->s.prep_fds,
			(unsigned)MSG_PREPARE_FD_CONTROL +
				t->s.prep.prepare.has_control),
		0);
}

void vmm_thread_send_start(struct vmm_thread *t)
{
	ck_assert_int_eq(msg_send(t->sock[0], MSG_DAEMON, &t->s.msg, t->s.fds,
				 t->s.n_fds),
		0);
}

void vmm_thread_send_plain(struct vmm_thread *t, uint32_t type, uint32_t seq)
{
	union msg m = {.plain = {.hdr = {type, seq}}};

	ck_assert_int_eq(msg_send(t->sock[0], MSG_DAEMON, &m, NULL, 0), 0);
}

void vmm_thread_prepare(struct vmm_thread *t)
{
	vmm_thread_run(t);
	vmm_thread_send_prepare(t);
	ck_assert_int_eq(vmm_thread_done(t, VMM_PREPARE_SEQ), 0);
}

void vmm_thread_start(struct vmm_thread *t)
{
	union msg m;

	vmm_thread_prepare(t);
	vmm_thread_send_start(t);
	ck_assert_int_eq(vmm_thread_receive(t, &m), 1);
	ck_assert_uint_eq(m.hdr.type, MSG_STARTED);
	ck_assert_uint_eq(m.hdr.seq, VMM_START_SEQ);
}

int vmm_thread_receive(struct vmm_thread *t, union msg *ret)
{
	struct pollfd p = {.fd = t->sock[0], .events = POLLIN};
	int fds[MSG_MAX_FDS];
	unsigned n_fds;

	ck_assert_msg(poll(&p, 1, PATIENCE_MS) == 1, "no message");
	return msg_recv(t->sock[0], MSG_DAEMON, ret, fds, &n_fds);
}

int vmm_thread_done(struct vmm_thread *t, uint32_t seq)
{
	union msg m;

	ck_assert_int_eq(vmm_thread_receive(t, &m), 1);
	ck_assert_uint_eq(m.hdr.type, MSG_DONE);
	ck_assert_uint_eq(m.hdr.seq, seq);
	return m.done.code;
}

bool vmm_thread_is_silent(struct vmm_thread *t)
{
	struct pollfd p = {.fd = t->sock[0], .events = POLLIN};

	return poll(&p, 1, 50) == 0;
}

void vmm_thread_wait_lost(struct vmm_thread *t)
{
	for (int ms = 0; fcntl(t->sock[1], F_GETFD) >= 0; ms++) {
		ck_assert_int_lt(ms, PATIENCE_MS);
		(void)poll(NULL, 0, 1);
	}
	t->sock[1] = -1;
}

void vmm_thread_lose(struct vmm_thread *t)
{
	close_fd(&t->sock[0]);
	vmm_thread_wait_lost(t);
}

int vmm_thread_connect(struct vmm_thread *t)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(connect(fd, (const struct sockaddr *)&t->address,
				 t->address_len),
		0);
	t->sock[0] = fd;
	return fd;
}

void vmm_thread_adopt(struct vmm_thread *t)
{
	union msg m = {.plain = {.hdr = {MSG_ADOPT, 50}}};

	close_fd(&t->wake_fd);
	t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ck_assert_int_ge(t->wake_fd, 0);
	vmm_thread_connect(t);
	ck_assert_int_eq(
		msg_send(t->sock[0], MSG_DAEMON, &m, &t->wake_fd, 1), 0);
	ck_assert_int_eq(vmm_thread_done(t, 50), 0);
}

int vmm_thread_join(struct vmm_thread *t)
{
	ck_assert_int_eq(pthread_join(t->thread, NULL), 0);
	return t->status;
}
