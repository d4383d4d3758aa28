#include "bench_crowd.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

struct crowd {
	struct floor *floor;
	uint64_t *ns;   /* shared with the children; 0: it failed */
	int tickets[2]; /* when a VM was asked for; whoever reads it makes it */
	int done[2];    /* a byte for each guest that has spoken */
	int stay[2];    /* closed when all may go */
	pid_t *pids;
	unsigned n_forked;
};

/* The kernel takes away what it has, when it ends. */
__attribute__((noreturn)) static void be_one(struct crowd *c, unsigned i)
{
	struct floor_machine *m;
	struct error err;
	uint64_t asked;
	char byte = 0;

	close_fd(&c->tickets[1]);
	close_fd(&c->stay[1]);
	if (read(c->tickets[0], &asked, sizeof(asked)) != sizeof(asked))
		_exit(1);
	if (floor_start(c->floor, &m, &err) == 0)
		c->ns[i] = clock_ns() - asked;
	if (write(c->done[1], &byte, 1) != 1 || read(c->stay[0], &byte, 1) != 0)
		_exit(1);
	_exit(0);
}

static int fork_all(struct crowd *c, unsigned n, struct error *err)
{
	for (; c->n_forked < n; c->n_forked++) {
		pid_t pid = fork();

		if (pid < 0)
			return error_errno(err, errno, "raw KVM: fork");
		if (pid == 0)
			be_one(c, c->n_forked);
		c->pids[c->n_forked] = pid;
	}
	return 0;
}

static int ask_all(
	struct crowd *c, unsigned n, unsigned at_a_time, struct error *err)
{
	unsigned asked = 0, done = 0;
	uint64_t now;
	char byte;

	while (done < n) {
		for (; asked < n && asked - done < at_a_time; asked++) {
			now = clock_ns();
			if (write(c->tickets[1], &now, sizeof(now)) < 0)
				return error_errno(err, errno, "raw KVM");
		}
		if (read(c->done[0], &byte, 1) != 1)
			return error_errno(err, errno, "raw KVM");
		done++;
	}
	return 0;
}

static int open_crowd(struct crowd *c, unsigned n, struct error *err)
{
	c->pids = calloc(n, sizeof(*c->pids));
	c->ns = mmap(NULL, n * sizeof(*c->ns), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!c->pids || c->ns == MAP_FAILED || pipe2(c->done, O_CLOEXEC) < 0 ||
		pipe2(c->tickets, O_CLOEXEC) < 0 ||
		pipe2(c->stay, O_CLOEXEC) < 0)
		return error_errno(err, errno, "raw KVM: a pipe");
	return 0;
}

static void close_crowd(struct crowd *c, unsigned n)
{
	close_fd(&c->tickets[1]);
	close_fd(&c->stay[1]);
	while (c->n_forked > 0)
		(void)waitpid(c->pids[--c->n_forked], NULL, 0);
	close_fd(&c->tickets[0]);
	close_fd(&c->stay[0]);
	close_fd(&c->done[0]);
	close_fd(&c->done[1]);
	if (c->ns != MAP_FAILED)
		munmap(c->ns, n * sizeof(*c->ns));
	free(c->pids);
}

int crowd_run(struct floor *f, unsigned n, unsigned at_a_time, uint64_t *ret,
	uint64_t *ret_ns, struct error *err)
{
	struct crowd c = {.floor = f,
		.done = {-1, -1},
		.tickets = {-1, -1},
		.stay = {-1, -1}};
	int r = open_crowd(&c, n, err);
	uint64_t begin;

	if (r == 0)
		r = fork_all(&c, n, err);
	begin = clock_ns();
	if (r == 0)
		r = ask_all(&c, n, at_a_time, err);
	*ret_ns = clock_ns() - begin;
	for (unsigned i = 0; i < n && r == 0; i++) {
		ret[i] = c.ns[i];
		if (!ret[i])
			r = error_set(err, EIO, "raw KVM: a start failed");
	}
	close_crowd(&c, n);
	return r;
}
