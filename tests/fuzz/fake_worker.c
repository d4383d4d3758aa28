#include "tests/fuzz/fake_worker.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FILES 8192u
#define MAX_WATCHES 16u
/* Turns of a run: a device that always has something to do is wrong. */
#define MAX_TURNS 100000u

enum { POLL_OP, RECV_OP, SEND_OP };

struct list {
	struct worker_op *first, **last;
};

struct worker {
	int files[MAX_FILES]; /* as fd + 1 */
	struct {
		struct worker_op *op;
		int fd;
	} watches[MAX_WATCHES];
	unsigned n_files, n_watches;
	struct list waiting, ready;
	struct worker_op *timers;
};

static struct worker worker;

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void add(struct list *l, struct worker_op *op)
{
	if (!l->last)
		l->last = &l->first;
	op->next = NULL;
	*l->last = op;
	l->last = &op->next;
}

static struct worker_op *take_all(struct list *l)
{
	struct worker_op *op = l->first;

	*l = (struct list){0};
	return op;
}

struct worker *fake_worker_get(void)
{
	return &worker;
}

int worker_add_file(struct worker *w, int fd, unsigned *ret_index)
{
	*ret_index = w->n_files;
	w->files[w->n_files++] = fd + 1;
	return 0;
}

int worker_watch(struct worker *w, struct worker_op *op, unsigned file)
{
	must(w->n_watches < MAX_WATCHES);
	w->watches[w->n_watches].op = op;
	w->watches[w->n_watches++].fd = w->files[file] - 1;
	return 0;
}

int worker_install_file(struct worker *w, int fd, unsigned *ret_index)
{
	unsigned i = w->n_files;

	while (i < MAX_FILES && w->files[i])
		i++;
	if (i == MAX_FILES)
		return -ENOSPC;
	w->files[i] = fd + 1;
	*ret_index = i;
	return 0;
}

/* Nothing is queued on it any more. */
void worker_remove_file(struct worker *w, unsigned index)
{
	for (struct worker_op *op = w->waiting.first; op; op = op->next)
		must(op->file != index);
	must(w->files[index]);
	w->files[index] = 0;
}

static void ask(struct worker *w, struct worker_op *op, uint8_t opcode,
	unsigned file, struct msghdr *msg, short events)
{
	must(op->state == WORKER_OP_IDLE && w->files[file]);
	op->state = WORKER_OP_SUBMITTED;
	op->opcode = opcode;
	op->file = file;
	op->msg = msg;
	op->n_iov = (uint16_t)events;
	add(&w->waiting, op);
}

void worker_poll(
	struct worker *w, struct worker_op *op, unsigned file, short events)
{
	ask(w, op, POLL_OP, file, NULL, events);
}

void worker_recvmsg(struct worker *w, struct worker_op *op, unsigned file,
	struct msghdr *msg)
{
	ask(w, op, RECV_OP, file, msg, 0);
}

void worker_sendmsg(struct worker *w, struct worker_op *op, unsigned file,
	const struct msghdr *msg)
{
	ask(w, op, SEND_OP, file, (struct msghdr *)msg, 0);
}

void worker_defer(struct worker *w, struct worker_op *op)
{
	must(op->state == WORKER_OP_IDLE);
	op->state = WORKER_OP_READY;
	op->res = 0;
	add(&w->ready, op);
}

void worker_timer(struct worker *w, struct worker_op *op, uint64_t deadline_ns)
{
	must(op->state == WORKER_OP_IDLE);
	op->state = WORKER_OP_TIMER;
	op->deadline_ns = deadline_ns;
	op->next = w->timers;
	w->timers = op;
}

static void expire(struct worker *w, struct worker_op *op, int32_t res)
{
	struct worker_op **at = &w->timers;

	while (*at != op)
		at = &(*at)->next;
	*at = op->next;
	op->state = WORKER_OP_READY;
	op->res = res;
	add(&w->ready, op);
}

void worker_cancel(struct worker *w, struct worker_op *op)
{
	if (op->state == WORKER_OP_TIMER)
		expire(w, op, -ECANCELED);
}

void fake_worker_expire(void)
{
	while (worker.timers)
		expire(&worker, worker.timers, -ETIME);
}

void worker_call(struct worker *w, void (*fn)(void *arg), void *arg)
{
	(void)w;
	fn(arg);
	fake_worker_run();
}

static bool finish(struct worker_op *op, int32_t res)
{
	op->state = WORKER_OP_IDLE;
	op->done(op, res);
	return true;
}

static bool poll_now(int fd, short events, int32_t *ret)
{
	struct pollfd p = {.fd = fd, .events = events};

	*ret = poll(&p, 1, 0) == 1 ? p.revents : 0;
	return *ret;
}

static bool try_op(struct worker *w, struct worker_op *op)
{
	int fd = w->files[op->file] - 1;
	int32_t res;
	ssize_t n;

	if (op->opcode == POLL_OP) {
		if (poll_now(fd, (short)op->n_iov, &res))
			return finish(op, res);
		add(&w->waiting, op);
		return false;
	}
	n = op->opcode == RECV_OP
		    ? recvmsg(fd, op->msg, MSG_DONTWAIT)
		    : sendmsg(fd, op->msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	return finish(op, n < 0 ? -errno : (int32_t)n);
}

static bool look_at_watches(struct worker *w)
{
	bool any = false;
	uint64_t count;
	int32_t res;

	for (unsigned i = 0; i < w->n_watches; i++) {
		if (!poll_now(w->watches[i].fd, POLLIN, &res))
			continue;
		/* A listening socket is none that can be read, and stays so
		 * until somebody accepts. */
		if (read(w->watches[i].fd, &count, sizeof(count)) > 0)
			any = true;
		w->watches[i].op->done(w->watches[i].op, 0);
	}
	return any;
}

static bool turn(struct worker *w)
{
	bool any = look_at_watches(w);
	struct worker_op *op, *next;

	for (op = take_all(&w->waiting); op; op = next) {
		next = op->next;
		any |= try_op(w, op);
	}
	for (op = take_all(&w->ready); op; op = next) {
		next = op->next;
		any |= finish(op, op->res);
	}
	return any;
}

void fake_worker_run(void)
{
	unsigned n = 0;

	while (turn(&worker))
		must(++n < MAX_TURNS);
}
