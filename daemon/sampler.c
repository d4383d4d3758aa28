#include "daemon/sampler.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "daemon/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

struct sampler {
	struct loop *loop;
	const struct registry *vms;
	struct loop_source done; /* done_fd */
	struct loop_timer next_round;
	uint64_t wanted_until_ns, round_ns;
	bool busy; /* a file is with the thread, or the timer is set */

	/* Whose file it is. By name: it may go meanwhile. */
	char id[VM_ID_MAX + 1];
	pid_t pid;

	pthread_t thread;
	bool has_thread;
	int done_fd;

	pthread_mutex_t lock; /* what follows */
	pthread_cond_t changed;
	bool stop;
	int fd; /* to be read; -1: none */
	int result;
	struct memory_sample sample;
};

static void *read_files(void *arg)
{
	struct sampler *s = arg;

	pthread_setname_np(pthread_self(), "sampler");
	pthread_mutex_lock(&s->lock);
	for (;;) {
		struct memory_sample sample;
		int fd, r;

		while (s->fd < 0 && !s->stop)
			pthread_cond_wait(&s->changed, &s->lock);
		if (s->stop)
			break;
		fd = s->fd;
		pthread_mutex_unlock(&s->lock);
		r = memory_sample_read(fd, &sample);
		pthread_mutex_lock(&s->lock);
		close(fd);
		s->fd = -1;
		s->result = r;
		if (r == 0)
			s->sample = sample;
		fd_notify(s->done_fd);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* Opened here: it stays this process's, whoever has its number later. */
static bool hand_over(struct sampler *s, struct vm *vm)
{
	char path[48];
	int fd;

	if (!vm->process.jail.pid || vm->sampled_ns >= s->round_ns)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup",
		(int)vm->process.jail.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	vm->sampled_ns = clock_ns();
	snprintf(s->id, sizeof(s->id), "%s", vm->id);
	s->pid = vm->process.jail.pid;
	pthread_mutex_lock(&s->lock);
	s->fd = fd;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
	return true;
}

/* From this VM on: the next of this round, or a pause until the next one. */
static void go_on(struct sampler *s, struct vm *vm)
{
	for (; vm; vm = TAILQ_NEXT(vm, link))
		if (hand_over(s, vm))
			return;
	s->busy = loop_set_timer(s->loop, &s->next_round,
			  s->round_ns + SAMPLER_ROUND_NS) == 0;
}

static void begin_round(struct sampler *s)
{
	s->round_ns = clock_ns();
	s->busy = s->round_ns < s->wanted_until_ns;
	if (s->busy)
		go_on(s, TAILQ_FIRST(&s->vms->list));
}

static void on_next_round(struct loop_timer *t)
{
	begin_round((struct sampler *)((char *)t -
				       offsetof(struct sampler, next_round)));
}

static void on_done(struct loop_source *source, uint32_t events)
{
	struct sampler *s = (struct sampler *)((char *)source -
					       offsetof(struct sampler, done));
	struct vm *vm = registry_find(s->vms, s->id);
	uint64_t n;

	(void)events;
	if (read(s->done_fd, &n, sizeof(n)) < 0)
		return;
	pthread_mutex_lock(&s->lock);
	if (vm && vm->process.jail.pid == s->pid && s->result == 0) {
		vm->memory = s->sample;
		vm->memory_pid = s->pid;
	}
	pthread_mutex_unlock(&s->lock);
	/* One that is gone has taken its place in the list with it. */
	go_on(s, vm ? TAILQ_NEXT(vm, link) : TAILQ_FIRST(&s->vms->list));
}

int sampler_create(struct sampler **ret, struct loop *loop,
	const struct registry *vms, struct error *err)
{
	struct sampler *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return error_set(err, ENOMEM, "out of memory");
	s->loop = loop;
	s->vms = vms;
	s->fd = -1;
	s->done = (struct loop_source){-1, on_done};
	s->next_round.fire = on_next_round;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	s->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = s->done_fd < 0 ? -errno
			   : loop_add(s->loop, &s->done, s->done_fd, EPOLLIN);
	if (r < 0) {
		sampler_destroy(s);
		return error_errno(err, -r, "eventfd");
	}
	*ret = s;
	return 0;
}

void sampler_destroy(struct sampler *s)
{
	if (!s)
		return;
	if (s->has_thread) {
		pthread_mutex_lock(&s->lock);
		s->stop = true;
		pthread_cond_signal(&s->changed);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->thread, NULL);
	}
	loop_remove(s->loop, &s->done);
	loop_clear_timer(s->loop, &s->next_round);
	close_fd(&s->done_fd);
	close_fd(&s->fd);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->changed);
	free(s);
}

void sampler_want(struct sampler *s)
{
	s->wanted_until_ns = clock_ns() + SAMPLER_WANTED_NS;
	/* It has all signals blocked, as we have. */
	if (!s->has_thread)
		s->has_thread =
			pthread_create(&s->thread, NULL, read_files, s) == 0;
	if (s->has_thread && !s->busy)
		begin_round(s);
}
