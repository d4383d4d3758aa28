#include "virtio/worker_loop.h"

#include "base/clock.h"
#include "base/counter.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>

#define NS_PER_S 1000000000u
#define LONGEST_SLEEP_NS (86400ull * NS_PER_S)

/* What a completion's user_data means, in the bits a pointer leaves free. */
enum tag { TAG_OP, TAG_WATCH, TAG_CANCEL, TAG_MASK = 3 };

_Thread_local const struct worker *worker_current;

static void list_init(struct op_list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void list_add(struct op_list *l, struct worker_op *op)
{
	op->next = NULL;
	*l->last = op;
	l->last = &op->next;
}

static struct worker_op *list_take(struct op_list *l)
{
	struct worker_op *op = l->first;

	if (op)
		l->first = op->next;
	if (!l->first)
		l->last = &l->first;
	return op;
}

static void list_remove(struct op_list *l, struct worker_op *op)
{
	struct worker_op **at = &l->first;

	while (*at != op)
		at = &(*at)->next;
	*at = op->next;
	if (!*at)
		l->last = at;
}

static void make_ready(struct worker *w, struct worker_op *op, int32_t res)
{
	op->state = WORKER_OP_READY;
	op->res = res;
	list_add(&w->ready, op);
}

/* [W]: on its thread, or in worker_call() when there is none. */
static bool may_use(struct worker *w)
{
	return worker_current == w || w->state != WORKER_RUNNING;
}

static void enqueue(struct worker *w, struct worker_op *op)
{
	assert(op->state == WORKER_OP_IDLE && may_use(w));
	if (w->state == WORKER_STOPPED) {
		make_ready(w, op, -ECANCELED);
		return;
	}
	op->state = WORKER_OP_WAITING;
	list_add(&w->waiting, op);
}

static void request(
	struct worker *w, struct worker_op *op, uint8_t opcode, unsigned file)
{
	assert(file < w->n_fixed + w->n_spare);
	op->opcode = opcode;
	op->file = file;
	enqueue(w, op);
}

static void rw(struct worker *w, struct worker_op *op, uint8_t opcode,
	unsigned file, const struct iovec *iov, unsigned n, uint64_t off_bytes)
{
	op->iov = iov;
	op->n_iov = n;
	op->off_bytes = off_bytes;
	request(w, op, opcode, file);
}

void worker_readv(struct worker *w, struct worker_op *op, unsigned file,
	const struct iovec *iov, unsigned n, uint64_t off_bytes)
{
	rw(w, op, IORING_OP_READV, file, iov, n, off_bytes);
}

void worker_writev(struct worker *w, struct worker_op *op, unsigned file,
	const struct iovec *iov, unsigned n, uint64_t off_bytes)
{
	rw(w, op, IORING_OP_WRITEV, file, iov, n, off_bytes);
}

void worker_recvmsg(struct worker *w, struct worker_op *op, unsigned file,
	struct msghdr *msg)
{
	op->msg = msg;
	request(w, op, IORING_OP_RECVMSG, file);
}

void worker_sendmsg(struct worker *w, struct worker_op *op, unsigned file,
	const struct msghdr *msg)
{
	op->msg = (struct msghdr *)msg; /* only read */
	request(w, op, IORING_OP_SENDMSG, file);
}

void worker_fdatasync(struct worker *w, struct worker_op *op, unsigned file)
{
	request(w, op, IORING_OP_FSYNC, file);
}

void worker_fallocate(struct worker *w, struct worker_op *op, unsigned file,
	int mode, uint64_t off_bytes, uint64_t len_bytes)
{
	op->n_iov = (uint32_t)mode;
	op->off_bytes = off_bytes;
	op->len_bytes = len_bytes;
	request(w, op, IORING_OP_FALLOCATE, file);
}

void worker_poll(
	struct worker *w, struct worker_op *op, unsigned file, short events)
{
	op->n_iov = (uint16_t)events;
	request(w, op, IORING_OP_POLL_ADD, file);
}

void worker_timer(struct worker *w, struct worker_op *op, uint64_t deadline_ns)
{
	struct worker_op **at = &w->timers;

	assert(op->state == WORKER_OP_IDLE && may_use(w));
	if (w->stopping) {
		make_ready(w, op, -ECANCELED);
		return;
	}
	/* A device has one or two of them. */
	while (*at && (*at)->deadline_ns <= deadline_ns)
		at = &(*at)->next;
	op->state = WORKER_OP_TIMER;
	op->deadline_ns = deadline_ns;
	op->next = *at;
	*at = op;
}

void worker_defer(struct worker *w, struct worker_op *op)
{
	assert(op->state == WORKER_OP_IDLE && may_use(w));
	make_ready(w, op, 0);
}

static void cancel_timer(struct worker *w, struct worker_op *op)
{
	struct worker_op **at = &w->timers;

	while (*at != op)
		at = &(*at)->next;
	*at = op->next;
	make_ready(w, op, -ECANCELED);
}

static void cancel_submitted(struct worker *w, uint64_t user_data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&w->ring);

	if (!sqe) {
		io_uring_submit(&w->ring);
		sqe = io_uring_get_sqe(&w->ring);
	}
	/* The kernel takes no more now: it completes uncancelled. */
	if (!sqe)
		return;
	io_uring_prep_cancel64(sqe, user_data, 0);
	/* Required of every request here. Before 5.19 the kernel takes no
	 * cancel with it: then what is in flight completes. */
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data64(sqe, TAG_CANCEL);
	w->in_flight++;
}

void worker_cancel(struct worker *w, struct worker_op *op)
{
	assert(may_use(w));
	switch (op->state) {
	case WORKER_OP_WAITING:
		list_remove(&w->waiting, op);
		make_ready(w, op, -ECANCELED);
		break;
	case WORKER_OP_SUBMITTED:
		op->restart = false;
		cancel_submitted(w, (uintptr_t)op | TAG_OP);
		break;
	case WORKER_OP_TIMER:
		cancel_timer(w, op);
		break;
	case WORKER_OP_IDLE:
	case WORKER_OP_READY:
		break;
	}
}

static void arm_watches(struct worker *w)
{
	for (unsigned i = 0; i < w->n_watches; i++) {
		struct watch *watch = &w->watches[i];
		struct io_uring_sqe *sqe;

		if (watch->armed)
			continue;
		sqe = io_uring_get_sqe(&w->ring);
		if (!sqe)
			return;
		io_uring_prep_poll_multishot(sqe, (int)watch->file, POLLIN);
		sqe->flags |= IOSQE_FIXED_FILE;
		io_uring_sqe_set_data64(sqe, (uint64_t)i << 2 | TAG_WATCH);
		watch->armed = true;
	}
}

static void prepare(struct io_uring_sqe *sqe, const struct worker_op *op)
{
	int file = (int)op->file;

	switch (op->opcode) {
	case IORING_OP_FSYNC:
		io_uring_prep_fsync(sqe, file, IORING_FSYNC_DATASYNC);
		break;
	case IORING_OP_FALLOCATE:
		/* The length is where others have an address. */
		io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, file,
			(const void *)(uintptr_t)op->len_bytes, op->n_iov,
			op->off_bytes);
		break;
	case IORING_OP_POLL_ADD:
		io_uring_prep_poll_add(sqe, file, op->n_iov);
		break;
	case IORING_OP_RECVMSG:
		io_uring_prep_recvmsg(sqe, file, op->msg, MSG_DONTWAIT);
		break;
	case IORING_OP_SENDMSG:
		io_uring_prep_sendmsg(
			sqe, file, op->msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	default: /* READV, WRITEV */
		io_uring_prep_rw(op->opcode, sqe, file, op->iov, op->n_iov,
			op->off_bytes);
		break;
	}
}

static bool may_wait_long(const struct worker_op *op)
{
	return op->opcode == IORING_OP_READV ||
	       op->opcode == IORING_OP_WRITEV ||
	       op->opcode == IORING_OP_POLL_ADD;
}

static void submit_op(
	struct worker *w, struct io_uring_sqe *sqe, struct worker_op *op)
{
	prepare(sqe, op);
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data64(sqe, (uintptr_t)op | TAG_OP);
	op->state = WORKER_OP_SUBMITTED;
	op->restart = false;
	op->at = NULL;
	w->in_flight++;
	if (op->opcode == IORING_OP_POLL_ADD)
		w->n_polls++;
	if (!w->renews || !may_wait_long(op))
		return;
	op->at = &w->submitted;
	op->next = w->submitted;
	if (op->next)
		op->next->at = &op->next;
	w->submitted = op;
}

static void forget_op(struct worker *w, struct worker_op *op)
{
	w->in_flight--;
	if (op->opcode == IORING_OP_POLL_ADD)
		w->n_polls--;
	if (!op->at)
		return;
	*op->at = op->next;
	if (op->next)
		op->next->at = op->at;
}

/* Moves what waits into the ring, as far as it and its completions have room
 * there. Returns whether some still waits only for the next submission. */
static bool fill(struct worker *w)
{
	arm_watches(w);
	while (w->waiting.first) {
		struct io_uring_sqe *sqe;

		if (w->in_flight - w->n_polls >= w->in_flight_max)
			return false;
		sqe = io_uring_get_sqe(&w->ring);
		if (!sqe)
			return true;
		submit_op(w, sqe, list_take(&w->waiting));
	}
	return false;
}

/* How long to sleep at most: until the next timer. */
static struct __kernel_timespec time_left(const struct worker *w)
{
	uint64_t now = clock_ns(), left = 0;

	if (w->timers->deadline_ns > now)
		left = w->timers->deadline_ns - now;
	/* The kernel would add its clock to it, and overflow. */
	if (left > LONGEST_SLEEP_NS)
		left = LONGEST_SLEEP_NS;
	return (struct __kernel_timespec){.tv_sec = (int64_t)(left / NS_PER_S),
		.tv_nsec = (int64_t)(left % NS_PER_S)};
}

/* The one io_uring_enter of an iteration. */
static void submit_and_wait(struct worker *w)
{
	bool more = fill(w);
	struct __kernel_timespec ts = {0}, *timeout = NULL;
	struct io_uring_cqe *cqe;
	int r;

	if (io_uring_sq_ready(&w->ring) > 0)
		counter_add(&w->submits, 1);
	if (w->timers) {
		ts = time_left(w);
		timeout = &ts;
	}
	if (more || w->ready.first)
		r = io_uring_submit_and_get_events(&w->ring);
	else
		r = io_uring_submit_and_wait_timeout(
			&w->ring, &cqe, 1, timeout, NULL);
	/* EAGAIN, EBUSY, ENOMEM: what was not taken stays in the ring for the
	 * next time. Anything else is a bug of ours. */
	assert(r >= 0 || r == -ETIME || r == -EINTR || r == -EAGAIN ||
		r == -EBUSY || r == -ENOMEM);
}

static void complete_op(struct worker *w, struct worker_op *op, int32_t res)
{
	forget_op(w, op);
	if (op->restart && (res == -ECANCELED || res == -EINTR)) {
		op->state = WORKER_OP_WAITING;
		list_add(&w->waiting, op);
		return;
	}
	op->state = WORKER_OP_IDLE;
	op->done(op, res);
}

static void complete(struct worker *w, const struct io_uring_cqe *cqe)
{
	uint64_t data = cqe->user_data;
	struct watch *watch;

	switch (data & TAG_MASK) {
	case TAG_OP:
		complete_op(w, (struct worker_op *)(uintptr_t)data, cqe->res);
		break;
	case TAG_WATCH:
		watch = &w->watches[data >> 2];
		if (!(cqe->flags & IORING_CQE_F_MORE))
			watch->armed = false;
		/* Cancelled: armed again, it looks by itself. */
		if (cqe->res < 0)
			break;
		/* Kicks could come for ever; calls are waited for. */
		if (!w->stopping || watch->op == &w->call_op)
			watch->op->done(watch->op, 0);
		break;
	default: /* TAG_CANCEL */
		w->in_flight--;
		break;
	}
}

static void reap(struct worker *w)
{
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	io_uring_for_each_cqe(&w->ring, head, cqe)
	{
		complete(w, cqe);
		n++;
	}
	io_uring_cq_advance(&w->ring, n);
}

uint64_t worker_now(struct worker *w)
{
	if (!w->now_ns)
		w->now_ns = clock_ns();
	return w->now_ns;
}

static void expire_timers(struct worker *w)
{
	uint64_t now = w->timers ? clock_ns() : 0;

	while (w->timers && w->timers->deadline_ns <= now) {
		struct worker_op *op = w->timers;

		w->timers = op->next;
		make_ready(w, op, -ETIME);
	}
}

void worker_loop_run_ready(struct worker *w)
{
	struct op_list batch;
	struct worker_op *op;

	if (!w->ready.first)
		return;
	batch.first = w->ready.first;
	list_init(&w->ready);
	while ((op = batch.first)) {
		batch.first = op->next;
		op->state = WORKER_OP_IDLE;
		op->done(op, op->res);
	}
}

void worker_loop_init(struct worker *w)
{
	list_init(&w->waiting);
	list_init(&w->ready);
}

void worker_loop_turn(struct worker *w)
{
	submit_and_wait(w);
	w->now_ns = 0;
	reap(w);
	expire_timers(w);
	worker_loop_run_ready(w);
}

bool worker_loop_idle(const struct worker *w)
{
	return !w->in_flight && !w->waiting.first && !w->ready.first;
}

void worker_loop_cancel_timers(struct worker *w)
{
	while (w->timers)
		cancel_timer(w, w->timers);
}

void worker_loop_cancel_waiting(struct worker *w)
{
	while (w->waiting.first)
		make_ready(w, list_take(&w->waiting), -ECANCELED);
}

/* A watch that is armed again looks at its eventfd first: no signal is lost. */
void worker_loop_renew(struct worker *w)
{
	for (unsigned i = 0; i < w->n_watches; i++)
		if (w->watches[i].armed)
			cancel_submitted(w, (uint64_t)i << 2 | TAG_WATCH);
	for (struct worker_op *op = w->submitted; op; op = op->next) {
		op->restart = true;
		cancel_submitted(w, (uintptr_t)op | TAG_OP);
	}
}
