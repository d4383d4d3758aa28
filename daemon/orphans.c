#include "daemon/orphans.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>

struct orphan {
	LIST_ENTRY(orphan) link;
	struct orphans *all;
	struct process process;
	struct loop_source pidfd;
};

static void on_end(struct loop_source *s, uint32_t events)
{
	struct orphan *it =
		(struct orphan *)((char *)s - offsetof(struct orphan, pidfd));

	(void)events;
	loop_remove(it->all->loop, s);
	LIST_REMOVE(it, link);
	process_destroy(&it->process, it->all->env);
	free(it);
}

/* Without its end having been seen. */
static void let_go(struct process *p)
{
	close_fd(&p->jail.sock);
	close_fd(&p->jail.pidfd);
}

static int kill_and_watch(struct orphans *o, const struct process *p)
{
	struct orphan *it = calloc(1, sizeof(*it));
	int r;

	if (!it)
		return -ENOMEM;
	it->all = o;
	it->process = *p;
	it->pidfd = (struct loop_source){-1, on_end};
	r = loop_add(o->loop, &it->pidfd, p->jail.pidfd, EPOLLIN);
	if (r < 0) {
		free(it);
		return r;
	}
	LIST_INSERT_HEAD(&o->list, it, link);
	log_info("orphan_ended", "pid=%d uid=%u", p->jail.pid, p->jail.uid);
	pidfd_send_signal(p->jail.pidfd, SIGKILL, NULL, 0);
	return 0;
}

int orphans_end(struct orphans *o, const char *key)
{
	struct state_proc ignored;
	struct process p;
	int r;

	process_init(&p);
	snprintf(p.key, sizeof(p.key), "%s", key);
	r = process_find(&p, o->env, &ignored);
	/* Somebody is there: who, nobody can tell. */
	if (r == 0 && (p.deaf || p.jail.sock >= 0)) {
		log_error("process_unreadable", "key=%s", key);
		let_go(&p);
		return 0;
	}
	if (r >= 0 && !p.jail.pid) {
		process_destroy(&p, o->env);
		return 0;
	}
	if (r > 0)
		r = kill_and_watch(o, &p);
	if (r < 0)
		let_go(&p);
	return r;
}

void orphans_fini(struct orphans *o)
{
	struct orphan *it;

	while ((it = LIST_FIRST(&o->list))) {
		loop_remove(o->loop, &it->pidfd);
		LIST_REMOVE(it, link);
		let_go(&it->process);
		free(it);
	}
}
