#include "daemon/pool_items.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>

struct pool_item {
	TAILQ_ENTRY(pool_item) link;
	struct pool_ground *ground;
	struct pool_items *items; /* NULL: retired */
	struct process process;
	struct loop_source sock, pidfd;
	bool ready; /* it has answered */
};

static void take_out(struct pool_item *it)
{
	struct pool_items *items = it->items;

	TAILQ_REMOVE(&items->list, it, link);
	items->n--;
	items->n_ready -= it->ready;
	it->items = NULL;
}

/* Without its daemon it ends by itself; on_pidfd() sees to what is left. */
static void retire(struct pool_item *it)
{
	loop_remove(it->ground->loop, &it->sock);
	close_fd(&it->process.jail.sock);
	take_out(it);
	TAILQ_INSERT_TAIL(&it->ground->retired, it, link);
}

static void failed(struct pool_item *it, const char *why)
{
	char quoted[ERROR_MSG_MAX];

	log_warn("pool_vmm_lost", "pid=%d reason=%s", it->process.jail.pid,
		log_quote(quoted, sizeof(quoted), why));
	retire(it);
	pidfd_send_signal(it->process.jail.pidfd, SIGKILL, NULL, 0);
	it->ground->lost(it->ground);
}

static void on_sock(struct loop_source *s, uint32_t events)
{
	struct pool_item *it =
		(struct pool_item *)((char *)s -
				     offsetof(struct pool_item, sock));
	struct pool_items *items = it->items;
	unsigned n_fds;
	union msg m;
	int r = msg_recv(it->process.jail.sock, MSG_DAEMON, &m, NULL, &n_fds);

	(void)events;
	if (r == -EAGAIN)
		return;
	if (r != 1 || m.hdr.type != MSG_DONE || m.hdr.seq != 0 || it->ready) {
		failed(it, r == 1 && m.hdr.type == MSG_FAILED
				   ? m.failed.text
				   : "it said what it should not");
		return;
	}
	it->ready = true;
	items->n_ready++;
	TAILQ_REMOVE(&items->list, it, link);
	TAILQ_INSERT_HEAD(&items->list, it, link);
}

static void bury(struct pool_item *it)
{
	loop_remove(it->ground->loop, &it->pidfd);
	TAILQ_REMOVE(&it->ground->retired, it, link);
	process_destroy(&it->process, it->ground->env);
	free(it);
}

static void on_pidfd(struct loop_source *s, uint32_t events)
{
	struct pool_item *it =
		(struct pool_item *)((char *)s -
				     offsetof(struct pool_item, pidfd));

	(void)events;
	if (it->items)
		failed(it, "it died");
	bury(it);
}

static int watch(struct pool_item *it)
{
	struct loop *l = it->ground->loop;
	int r = loop_add(l, &it->pidfd, it->process.jail.pidfd, EPOLLIN);

	if (r == 0)
		r = loop_add(l, &it->sock, it->process.jail.sock, EPOLLIN);
	if (r < 0)
		loop_remove(l, &it->pidfd);
	return r;
}

int pool_items_add(
	struct pool_items *items, struct process *process, struct error *err)
{
	struct pool_item *it = calloc(1, sizeof(*it));
	int r = -ENOMEM;

	if (it) {
		it->ground = items->ground;
		it->items = items;
		it->process = *process;
		it->sock = (struct loop_source){-1, on_sock};
		it->pidfd = (struct loop_source){-1, on_pidfd};
		r = watch(it);
	}
	if (r < 0) {
		process_destroy(process, items->ground->env);
		free(it);
		return error_errno(err, -r, "watching a VM");
	}
	TAILQ_INSERT_TAIL(&items->list, it, link);
	items->n++;
	return 0;
}

void pool_items_drop_dead(struct pool_items *items)
{
	struct pool_item *it;

	while ((it = TAILQ_FIRST(&items->list)) &&
		fd_is_readable(it->process.jail.pidfd))
		failed(it, "it died");
}

bool pool_items_take(struct pool_items *items, struct process *ret)
{
	struct pool_item *it = TAILQ_FIRST(&items->list);

	if (!it)
		return false;
	loop_remove(it->ground->loop, &it->sock);
	loop_remove(it->ground->loop, &it->pidfd);
	take_out(it);
	*ret = it->process;
	free(it);
	return true;
}

bool pool_items_retire(struct pool_items *items)
{
	struct pool_item *it = TAILQ_LAST(&items->list, pool_item_list);

	if (it)
		retire(it);
	return it;
}

void pool_ground_clear(struct pool_ground *g)
{
	struct pool_item *it, *next;

	/* All at once: each takes its time. */
	TAILQ_FOREACH(it, &g->retired, link)
	pidfd_send_signal(it->process.jail.pidfd, SIGKILL, NULL, 0);
	for (it = TAILQ_FIRST(&g->retired); it; it = next) {
		next = TAILQ_NEXT(it, link);
		bury(it);
	}
}
