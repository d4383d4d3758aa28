#include "daemon/pool.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/queue.h>

#define KINDS 4
/* The last seconds that count. */
#define SECONDS 10
#define ADAPTIVE_MAX 64

#define NS_PER_S 1000000000u
/* After one could not be made or prepared. */
#define BACKOFF_NS (1u * NS_PER_S)

struct item {
	TAILQ_ENTRY(item) link;
	struct pool *pool;
	struct kind *kind; /* NULL: retired */
	struct process process;
	struct loop_source sock, pidfd;
	bool ready; /* it has answered */
};

TAILQ_HEAD(items, item);

struct kind {
	struct msg_prepare machine;
	struct items items; /* the ready ones first */
	unsigned n, n_ready;
	uint64_t used_ns; /* taken last; 0: there is no such kind */
	unsigned taken[SECONDS];
	uint64_t second; /* which taken[second % SECONDS] counts */
};

struct pool {
	struct loop *loop;
	const struct process_env *env;
	unsigned size;
	struct kind kinds[KINDS];
	struct items retired; /* on their way out */
	struct api_pool shown;
	uint64_t not_before_ns;
	struct loop_timer shrink;
};

/* ---- how many ---- */

static void count_from(struct kind *k, uint64_t second)
{
	if (second - k->second >= SECONDS)
		memset(k->taken, 0, sizeof(k->taken));
	for (; k->second < second && second - k->second < SECONDS;)
		k->taken[++k->second % SECONDS] = 0;
	k->second = second;
}

static const struct kind *latest(const struct pool *p)
{
	const struct kind *best = &p->kinds[0];

	for (unsigned i = 1; i < KINDS; i++)
		if (p->kinds[i].used_ns > best->used_ns)
			best = &p->kinds[i];
	return best;
}

static unsigned wanted(const struct pool *p, struct kind *k)
{
	unsigned most = k == latest(p);

	if (!k->used_ns || (p->size != POOL_ADAPTIVE && !most))
		return 0;
	if (p->size != POOL_ADAPTIVE)
		return p->size;
	count_from(k, clock_ns() / NS_PER_S);
	for (unsigned i = 0; i < SECONDS; i++)
		if (k->taken[i] > most)
			most = k->taken[i];
	return most < ADAPTIVE_MAX ? most : ADAPTIVE_MAX;
}

/* ---- those that wait ---- */

static void take_out(struct item *it)
{
	struct kind *k = it->kind;

	TAILQ_REMOVE(&k->items, it, link);
	k->n--;
	k->n_ready -= it->ready;
}

/* Without its daemon it ends by itself; on_pidfd() sees to what is left. */
static void retire(struct item *it)
{
	loop_remove(it->pool->loop, &it->sock);
	close_fd(&it->process.jail.sock);
	take_out(it);
	TAILQ_INSERT_TAIL(&it->pool->retired, it, link);
	it->kind = NULL;
}

static void failed(struct item *it, const char *why)
{
	char quoted[ERROR_MSG_MAX];

	it->pool->not_before_ns = clock_ns() + BACKOFF_NS;
	log_warn("pool_vmm_lost", "pid=%d reason=%s", it->process.jail.pid,
		log_quote(quoted, sizeof(quoted), why));
	retire(it);
	pidfd_send_signal(it->process.jail.pidfd, SIGKILL, NULL, 0);
}

static void on_sock(struct loop_source *s, uint32_t events)
{
	struct item *it =
		(struct item *)((char *)s - offsetof(struct item, sock));
	struct kind *k = it->kind;
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
	k->n_ready++;
	TAILQ_REMOVE(&k->items, it, link);
	TAILQ_INSERT_HEAD(&k->items, it, link);
}

static void bury(struct item *it)
{
	loop_remove(it->pool->loop, &it->pidfd);
	TAILQ_REMOVE(&it->pool->retired, it, link);
	process_destroy(&it->process, it->pool->env);
	free(it);
}

static void on_pidfd(struct loop_source *s, uint32_t events)
{
	struct item *it =
		(struct item *)((char *)s - offsetof(struct item, pidfd));

	(void)events;
	if (it->kind)
		failed(it, "it died");
	bury(it);
}

static int watch(struct item *it)
{
	struct loop *l = it->pool->loop;
	int r = loop_add(l, &it->pidfd, it->process.jail.pidfd, EPOLLIN);

	if (r == 0)
		r = loop_add(l, &it->sock, it->process.jail.sock, EPOLLIN);
	if (r < 0)
		loop_remove(l, &it->pidfd);
	return r;
}

static int add_item(struct pool *p, struct kind *k, struct error *err)
{
	struct item *it = calloc(1, sizeof(*it));
	int r;

	if (!it)
		return error_set(err, ENOMEM, "out of memory");
	it->pool = p;
	it->kind = k;
	it->sock = (struct loop_source){-1, on_sock};
	it->pidfd = (struct loop_source){-1, on_pidfd};
	if (process_make(&it->process, p->env, &k->machine, err) < 0) {
		free(it);
		return -err->code;
	}
	r = watch(it);
	if (r < 0) {
		process_destroy(&it->process, p->env);
		free(it);
		return error_errno(err, -r, "epoll_ctl");
	}
	TAILQ_INSERT_TAIL(&k->items, it, link);
	k->n++;
	return 0;
}

/* ---- kinds ---- */

static void forget_kind(struct kind *k)
{
	struct item *it;

	while ((it = TAILQ_FIRST(&k->items)))
		retire(it);
	k->used_ns = 0;
}

static bool same(const struct kind *k, const struct msg_prepare *m)
{
	return k->used_ns && memcmp(&k->machine, m, sizeof(*m)) == 0;
}

/* The kind, in place of the one that was used the longest ago if it is new. */
static struct kind *find_kind(struct pool *p, const struct msg_prepare *m)
{
	struct kind *oldest = &p->kinds[0];

	for (unsigned i = 0; i < KINDS; i++) {
		struct kind *k = &p->kinds[i];

		if (same(k, m))
			return k;
		if (k->used_ns < oldest->used_ns)
			oldest = k;
	}
	forget_kind(oldest);
	oldest->machine = *m;
	memset(oldest->taken, 0, sizeof(oldest->taken));
	oldest->second = clock_ns() / NS_PER_S;
	return oldest;
}

/* ---- from outside ---- */

/* One a second of those that are too many. */
static void on_shrink(struct loop_timer *t)
{
	struct pool *p =
		(struct pool *)((char *)t - offsetof(struct pool, shrink));

	for (unsigned i = 0; i < KINDS; i++) {
		struct kind *k = &p->kinds[i];

		if (k->n > wanted(p, k))
			retire(TAILQ_LAST(&k->items, items));
	}
	loop_set_timer(p->loop, t, clock_ns() + NS_PER_S);
}

int pool_create(struct pool **ret, struct loop *loop,
	const struct process_env *env, unsigned size,
	const struct msg_prepare *first, struct error *err)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (!p)
		return error_set(err, ENOMEM, "out of memory");
	p->loop = loop;
	p->env = env;
	p->size = size;
	TAILQ_INIT(&p->retired);
	for (unsigned i = 0; i < KINDS; i++)
		TAILQ_INIT(&p->kinds[i].items);
	find_kind(p, first)->used_ns = 1;
	p->shrink.fire = on_shrink;
	if (size && loop_set_timer(loop, &p->shrink, clock_ns() + NS_PER_S)) {
		pool_destroy(p);
		return error_set(err, ENOMEM, "out of memory");
	}
	*ret = p;
	return 0;
}

void pool_destroy(struct pool *p)
{
	struct item *it;

	if (!p)
		return;
	loop_clear_timer(p->loop, &p->shrink);
	for (unsigned i = 0; i < KINDS; i++)
		forget_kind(&p->kinds[i]);
	/* All at once: each takes its time. */
	TAILQ_FOREACH(it, &p->retired, link)
	pidfd_send_signal(it->process.jail.pidfd, SIGKILL, NULL, 0);
	while ((it = TAILQ_FIRST(&p->retired)))
		bury(it);
	free(p);
}

bool pool_take(struct pool *p, const struct msg_prepare *m, struct process *ret)
{
	struct item *it;
	struct kind *k;

	if (!p->size) {
		p->shown.starts_without++;
		return false;
	}
	k = find_kind(p, m);
	k->used_ns = clock_ns();
	count_from(k, k->used_ns / NS_PER_S);
	k->taken[k->second % SECONDS]++;
	it = TAILQ_FIRST(&k->items);
	if (!it) {
		p->shown.starts_without++;
		return false;
	}
	p->shown.starts_from_pool++;
	loop_remove(p->loop, &it->sock);
	loop_remove(p->loop, &it->pidfd);
	take_out(it);
	*ret = it->process;
	free(it);
	return true;
}

/* The kind that lacks most; NULL: none lacks any. */
static struct kind *next_kind(struct pool *p)
{
	struct kind *best = NULL;
	unsigned most = 0;

	for (unsigned i = 0; i < KINDS; i++) {
		struct kind *k = &p->kinds[i];
		unsigned want = wanted(p, k);

		if (want > k->n && want - k->n > most) {
			most = want - k->n;
			best = k;
		}
	}
	return best;
}

bool pool_wants(struct pool *p)
{
	return p->size && next_kind(p) && clock_ns() >= p->not_before_ns;
}

void pool_refill(struct pool *p)
{
	struct kind *k = next_kind(p);
	struct error err;
	char quoted[ERROR_MSG_MAX];

	if (!k || add_item(p, k, &err) == 0)
		return;
	p->not_before_ns = clock_ns() + BACKOFF_NS;
	log_warn("pool_not_filled", "error=%s",
		log_quote(quoted, sizeof(quoted), err.msg));
}

const struct api_pool *pool_show(struct pool *p)
{
	p->shown.ready = p->shown.target = 0;
	for (unsigned i = 0; i < KINDS; i++) {
		p->shown.ready += p->kinds[i].n_ready;
		p->shown.target += wanted(p, &p->kinds[i]);
	}
	return &p->shown;
}
