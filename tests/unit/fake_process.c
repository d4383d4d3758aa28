#include "tests/unit/fake_process.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <check.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

struct fake_process fakes[FAKES_MAX];
unsigned fakes_made, fakes_alive, fakes_to_fail;
int fakes_error;
bool fakes_silent, fakes_stillborn;

void fakes_reset(void)
{
	ck_assert_uint_eq(fakes_alive, 0);
	fakes_made = fakes_to_fail = 0;
	fakes_silent = fakes_stillborn = false;
}

void fake_says(unsigned pid, uint32_t type, uint32_t seq)
{
	union msg m = {.done = {.hdr = {type, seq}}};

	ck_assert_int_eq(
		msg_send(fakes[pid - 1].peer, MSG_VMM, &m, NULL, 0), 0);
}

void fake_dies(unsigned pid)
{
	close_fd(&fakes[pid - 1].peer);
	fd_notify(fakes[pid - 1].died);
}

void process_init(struct process *p)
{
	*p = (struct process){.jail = {.pidfd = -1, .sock = -1}, .wake_fd = -1};
}

int process_make(struct process *ret, const struct process_env *env,
	const struct msg_prepare *m, struct error *err)
{
	struct fake_process *f = &fakes[fakes_made];
	int pair[2];

	ck_assert_ptr_null(env->jail);
	if (fakes_to_fail > 0) {
		fakes_to_fail--;
		return error_set(err, fakes_error, "as it was told");
	}
	ck_assert_uint_lt(fakes_made, FAKES_MAX);
	ck_assert_int_eq(
		socketpair(AF_UNIX,
			SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
		0);
	process_init(ret);
	ret->jail.sock = pair[0];
	ret->jail.pidfd = f->died = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret->jail.pid = (pid_t)++fakes_made;
	f->peer = pair[1];
	memcpy(&f->machine, m, sizeof(*m));
	__atomic_add_fetch(&fakes_alive, 1, __ATOMIC_SEQ_CST);
	if (!fakes_silent)
		fake_says(fakes_made, MSG_DONE, 0);
	if (fakes_stillborn)
		fake_dies(fakes_made);
	return 0;
}

int process_destroy(struct process *p, const struct process_env *env)
{
	ck_assert_ptr_null(env->jail);
	ck_assert_int_gt(p->jail.pid, 0);
	close_fd(&fakes[p->jail.pid - 1].peer);
	close_fd(&p->jail.sock);
	close_fd(&p->jail.pidfd);
	process_init(p);
	__atomic_sub_fetch(&fakes_alive, 1, __ATOMIC_SEQ_CST);
	return -1;
}
