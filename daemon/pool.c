#include "daemon/pool.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/admission.h"
#include "daemon/maker.h"
#include "daemon/pool_items.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define KINDS 4
/* The last seconds that count. */
#define SECONDS 10
#define ADAPTIVE_MAX 256

#define NS_PER_S 1000000000u
/* After one could not be made or prepared. */
#define BACKOFF_NS NS_PER_S
/* Until one that gives way has given back what it had; and how often one who
 * waits is worth that. */
#define RETRY_NS 5000000u
#define TRIES_MAX 100

TAILQ_HEAD(waits, pool_wait);

struct pool_kind {
	TAILQ_ENTRY(pool_kind) link; /* the one taken last first */
	struct pool *pool;
	struct msg_prepare machine;
	struct pool_items items;
	struct waits waits;
	unsigned n_waits, n_making;
	unsigned taken[SECONDS];
	uint64_t second; /* which taken[second % SECONDS] counts */
};

/* One on its way. */
struct making {
	struct maker_job job;
	struct pool_kind *kind;
};

struct pool {
	struct pool_ground ground;
	struct loop *loop;
	struct maker *maker;
	unsigned size;
	TAILQ_HEAD(kinds, pool_kind) kinds;
	unsigned n_making; /* of all */
	struct api_pool shown;
	uint64_t not_before_ns;
	struct loop_timer shrink, retry;
	bool closing;
};

/* ---- how many ---- */

static void count_from(struct pool_kind *k, uint64_t second)
{
	if (second - k->second >= SECONDS)
		memset(k->taken, 0, sizeof(k->taken));
	for (; k->second < second && second - k->second < SECONDS;)
		k->taken[++k->second % SECONDS] = 0;
	k->second = second;
}

static unsigned wanted(struct pool_kind *k)
{
	const struct pool *p = k->pool;
	unsigned most = k == TAILQ_FIRST(&p->kinds);

	/* Huge pages are set aside when a machine is made: not for nobody. */
	if (k->machine.huge_pages)
		return 0;
	if (p->size != POOL_ADAPTIVE)
		return most ? p->size : 0;
	count_from(k, clock_ns() / NS_PER_S);
	for (unsigned i = 0; i < SECONDS; i++)
		if (k->taken[i] > most)
			most = k->taken[i];
	return most < ADAPTIVE_MAX ? most : ADAPTIVE_MAX;
}

static void on_lost(struct pool_ground *g)
{
	((struct pool *)((char *)g - offsetof(struct pool, ground)))
		->not_before_ns = clock_ns() + BACKOFF_NS;
}

/* ---- those for whom one is made ---- */

static void made(struct maker_job *job);

static int make_one(struct pool_kind *k)
{
	struct making *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->kind = k;
	m->job.machine = k->machine;
	m->job.done = made;
	k->n_making++;
	k->pool->n_making++;
	maker_ask(k->pool->maker, &m->job);
	return 0;
}

static void stop_waiting(struct pool_wait *w)
{
	struct pool_kind *k = w->kind;

	TAILQ_REMOVE(&k->waits, w, link);
	k->n_waits--;
	w->kind = NULL;
}

static void serve(struct pool_kind *k)
{
	struct process process;
	struct pool_wait *w;

	while ((w = TAILQ_FIRST(&k->waits)) &&
		pool_items_take(&k->items, &process)) {
		stop_waiting(w);
		w->got(w, &process, NULL);
	}
}

/* Whether somebody makes room: of the kind that is wanted least. */
static bool give_way(struct pool *p)
{
	struct pool_kind *k;

	TAILQ_FOREACH_REVERSE(k, &p->kinds, kinds, link)
	if (pool_items_retire(&k->items))
		return true;
	return !TAILQ_EMPTY(&p->ground.retired);
}

static void not_made(struct pool_kind *k, const struct error *err)
{
	struct pool_wait *w = TAILQ_FIRST(&k->waits);
	struct pool *p = k->pool;
	char quoted[ERROR_MSG_MAX];

	if (w && admission_is_room(err->code) && w->tries++ < TRIES_MAX &&
		give_way(p) &&
		loop_set_timer(p->loop, &p->retry, clock_ns() + RETRY_NS) == 0)
		return;
	p->not_before_ns = clock_ns() + BACKOFF_NS;
	if (w) {
		stop_waiting(w);
		w->got(w, NULL, err);
		return;
	}
	log_warn("pool_not_filled", "error=%s",
		log_quote(quoted, sizeof(quoted), err->msg));
}

static void made(struct maker_job *job)
{
	struct making *m = (struct making *)job;
	struct pool_kind *k = m->kind;

	k->n_making--;
	k->pool->n_making--;
	if (k->pool->closing) {
		if (job->result == 0)
			process_destroy(&job->process, k->pool->ground.env);
	} else if (job->result < 0 ||
		   pool_items_add(&k->items, &job->process, &job->err) < 0) {
		not_made(k, &job->err);
	}
	serve(k);
	free(m);
}

static void on_retry(struct loop_timer *t)
{
	struct pool *p =
		(struct pool *)((char *)t - offsetof(struct pool, retry));
	struct pool_kind *k;

	TAILQ_FOREACH(k, &p->kinds, link)
	while (k->n_making < k->n_waits && make_one(k) == 0)
		;
}

/* ---- kinds ---- */

static void forget_kind(struct pool_kind *k)
{
	while (pool_items_retire(&k->items))
		;
	TAILQ_REMOVE(&k->pool->kinds, k, link);
	free(k);
}

/* The last of too many, unless somebody waits for it or it is on its way. */
static void forget_oldest(struct pool *p)
{
	struct pool_kind *k, *oldest = TAILQ_LAST(&p->kinds, kinds);
	unsigned n = 0;

	TAILQ_FOREACH(k, &p->kinds, link)
	n++;
	if (n > KINDS && !oldest->n_waits && !oldest->n_making)
		forget_kind(oldest);
}

/* NULL: out of memory. */
static struct pool_kind *find_kind(
	struct pool *p, const struct msg_prepare *machine)
{
	struct pool_kind *k;

	TAILQ_FOREACH(k, &p->kinds, link)
	if (memcmp(&k->machine, machine, sizeof(*machine)) == 0) {
		TAILQ_REMOVE(&p->kinds, k, link);
		TAILQ_INSERT_HEAD(&p->kinds, k, link);
		return k;
	}
	k = calloc(1, sizeof(*k));
	if (!k)
		return NULL;
	k->pool = p;
	k->machine = *machine;
	k->second = clock_ns() / NS_PER_S;
	k->items.ground = &p->ground;
	TAILQ_INIT(&k->items.list);
	TAILQ_INIT(&k->waits);
	TAILQ_INSERT_HEAD(&p->kinds, k, link);
	forget_oldest(p);
	return k;
}

/* ---- from outside ---- */

/* One a second of those that are too many. */
static void on_shrink(struct loop_timer *t)
{
	struct pool *p =
		(struct pool *)((char *)t - offsetof(struct pool, shrink));
	struct pool_kind *k;

	TAILQ_FOREACH(k, &p->kinds, link)
	if (k->items.n > wanted(k))
		(void)pool_items_retire(&k->items);
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
	p->ground =
		(struct pool_ground){.loop = loop, .env = env, .lost = on_lost};
	p->size = size;
	TAILQ_INIT(&p->kinds);
	TAILQ_INIT(&p->ground.retired);
	p->shrink.fire = on_shrink;
	p->retry.fire = on_retry;
	if (maker_create(&p->maker, loop, env, err) < 0) {
		pool_destroy(p);
		return -err->code;
	}
	if ((size && !find_kind(p, first)) ||
		loop_set_timer(loop, &p->shrink, clock_ns() + NS_PER_S) < 0) {
		pool_destroy(p);
		return error_set(err, ENOMEM, "out of memory");
	}
	*ret = p;
	return 0;
}

void pool_destroy(struct pool *p)
{
	struct pool_kind *k, *next;

	if (!p)
		return;
	p->closing = true;
	loop_clear_timer(p->loop, &p->shrink);
	loop_clear_timer(p->loop, &p->retry);
	maker_destroy(p->maker);
	for (k = TAILQ_FIRST(&p->kinds); k; k = next) {
		next = TAILQ_NEXT(k, link);
		forget_kind(k);
	}
	pool_ground_clear(&p->ground);
	free(p);
}

int pool_take(struct pool *p, const struct msg_prepare *m, struct pool_wait *w,
	struct process *ret)
{
	struct pool_kind *k = find_kind(p, m);

	if (!k)
		return -ENOMEM;
	count_from(k, clock_ns() / NS_PER_S);
	k->taken[k->second % SECONDS]++;
	/* One that is made for a start, and dies, answers that start. */
	pool_items_drop_dead(&k->items);
	if (pool_items_take(&k->items, ret)) {
		p->shown.starts_from_pool++;
		return 1;
	}
	if (k->n_making <= k->n_waits && make_one(k) < 0)
		return -ENOMEM;
	p->shown.starts_without++;
	w->kind = k;
	w->tries = 0;
	TAILQ_INSERT_TAIL(&k->waits, w, link);
	k->n_waits++;
	return 0;
}

void pool_cancel(struct pool_wait *w)
{
	if (w->kind)
		stop_waiting(w);
}

/* The kind that lacks most; NULL: none lacks any. */
static struct pool_kind *next_kind(struct pool *p)
{
	struct pool_kind *k, *best = NULL;
	unsigned most = 0;

	TAILQ_FOREACH(k, &p->kinds, link)
	{
		unsigned want = wanted(k);

		if (want > k->items.n && want - k->items.n > most) {
			most = want - k->items.n;
			best = k;
		}
	}
	return best;
}

bool pool_wants(struct pool *p)
{
	return p->n_making == 0 && next_kind(p) &&
	       clock_ns() >= p->not_before_ns;
}

void pool_refill(struct pool *p)
{
	struct pool_kind *k = next_kind(p);

	if (k)
		(void)make_one(k);
}

const struct api_pool *pool_show(struct pool *p)
{
	struct pool_kind *k;

	p->shown.ready = p->shown.target = 0;
	TAILQ_FOREACH(k, &p->kinds, link)
	{
		p->shown.ready += k->items.n_ready;
		p->shown.target += wanted(k);
	}
	return &p->shown;
}
