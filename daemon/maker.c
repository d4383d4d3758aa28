#include "daemon/maker.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

STAILQ_HEAD(jobs, maker_job);

struct maker {
	struct loop *loop;
	const struct process_env *env;
	struct loop_source told; /* of done_fd */
	int done_fd;             /* eventfd: look at done */
	pthread_t thread;
	bool has_thread;

	pthread_mutex_t lock; /* what follows */
	pthread_cond_t asked;
	struct jobs todo, done;
	bool stopping;
};

/* NULL: it is over. */
static struct maker_job *next_job(struct maker *m)
{
	struct maker_job *job;

	pthread_mutex_lock(&m->lock);
	while (!m->stopping && STAILQ_EMPTY(&m->todo))
		pthread_cond_wait(&m->asked, &m->lock);
	job = m->stopping ? NULL : STAILQ_FIRST(&m->todo);
	if (job)
		STAILQ_REMOVE_HEAD(&m->todo, link);
	pthread_mutex_unlock(&m->lock);
	return job;
}

static void *run(void *arg)
{
	struct maker *m = arg;
	struct maker_job *job;

	pthread_setname_np(pthread_self(), "maker");
	while ((job = next_job(m))) {
		job->result = process_make(
			&job->process, m->env, &job->machine, &job->err);
		pthread_mutex_lock(&m->lock);
		STAILQ_INSERT_TAIL(&m->done, job, link);
		pthread_mutex_unlock(&m->lock);
		fd_notify(m->done_fd);
	}
	return NULL;
}

static void tell(struct maker *m)
{
	struct jobs done = STAILQ_HEAD_INITIALIZER(done);
	struct maker_job *job;

	pthread_mutex_lock(&m->lock);
	STAILQ_CONCAT(&done, &m->done);
	pthread_mutex_unlock(&m->lock);
	while ((job = STAILQ_FIRST(&done))) {
		STAILQ_REMOVE_HEAD(&done, link);
		job->done(job);
	}
}

static void on_done(struct loop_source *s, uint32_t events)
{
	struct maker *m =
		(struct maker *)((char *)s - offsetof(struct maker, told));
	uint64_t n;

	(void)events;
	if (read(m->done_fd, &n, sizeof(n)) == sizeof(n))
		tell(m);
}

int maker_create(struct maker **ret, struct loop *loop,
	const struct process_env *env, struct error *err)
{
	struct maker *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return error_set(err, ENOMEM, "out of memory");
	m->loop = loop;
	m->env = env;
	STAILQ_INIT(&m->todo);
	STAILQ_INIT(&m->done);
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->asked, NULL);
	m->told = (struct loop_source){-1, on_done};
	m->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = m->done_fd < 0 ? -errno
			   : loop_add(loop, &m->told, m->done_fd, EPOLLIN);
	if (r == 0)
		r = -pthread_create(&m->thread, NULL, run, m);
	if (r < 0) {
		maker_destroy(m);
		return error_errno(err, -r, "a thread that makes processes");
	}
	m->has_thread = true;
	*ret = m;
	return 0;
}

void maker_ask(struct maker *m, struct maker_job *job)
{
	pthread_mutex_lock(&m->lock);
	STAILQ_INSERT_TAIL(&m->todo, job, link);
	pthread_cond_signal(&m->asked);
	pthread_mutex_unlock(&m->lock);
}

void maker_destroy(struct maker *m)
{
	struct maker_job *job;

	if (!m)
		return;
	pthread_mutex_lock(&m->lock);
	m->stopping = true;
	pthread_cond_signal(&m->asked);
	pthread_mutex_unlock(&m->lock);
	if (m->has_thread)
		pthread_join(m->thread, NULL);
	STAILQ_FOREACH(job, &m->todo, link)
	job->result = error_set(&job->err, ESHUTDOWN, "mayflyd is stopping");
	STAILQ_CONCAT(&m->done, &m->todo);
	tell(m);
	loop_remove(m->loop, &m->told);
	close_fd(&m->done_fd);
	pthread_cond_destroy(&m->asked);
	pthread_mutex_destroy(&m->lock);
	free(m);
}
