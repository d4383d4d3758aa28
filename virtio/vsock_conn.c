#include "base/counter.h"
#include "virtio/vsock_dev.h"

#include "base/clock.h"

#include <assert.h>
#include <string.h>

struct vsock_conn *vsock_conn_new(struct vsock *v, enum vsock_state state)
{
	struct vsock_conn *c = v->free;
	uint32_t generation;

	if (c)
		v->free = c->hash_next;
	else if (v->n_used < VSOCK_MAX_CONNECTIONS)
		c = &v->conns[v->n_used++];
	else
		return NULL;
	generation = c->generation;
	memset(c, 0, sizeof(*c));
	c->dev = v;
	c->state = state;
	c->generation = generation;
	c->in_use = true;
	c->fd = -1;
	c->held_last = &c->held;
	c->buf_alloc = vsock_arena_promise(&v->arena);
	v->n_conns++;
	counter_add(&v->config.stats->connections, 1);
	return c;
}

void vsock_conn_free(struct vsock_conn *c)
{
	struct vsock *v = c->dev;

	assert(!c->hashed && !c->queued && !c->timed && !c->asking);
	assert(c->fd < 0 && !c->held && c->buf.len == 0);
	vsock_arena_unpromise(&v->arena, c->buf_alloc);
	c->in_use = false;
	c->generation++;
	c->hash_next = v->free;
	v->free = c;
	v->n_conns--;
	counter_add(&v->config.stats->connections, (uint64_t)-1);
}

/* Guests choose ports: with a key they do not know, not the bucket, too. */
static struct vsock_conn **bucket(
	const struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
	uint64_t x = ((uint64_t)host_port << 32 | guest_port) ^ v->hash_key;

	x *= 0x9e3779b97f4a7c15u;
	x ^= x >> 32;
	x *= v->hash_key | 1;
	return &v->buckets[(x >> 40) % VSOCK_BUCKETS];
}

struct vsock_conn *vsock_conn_find(
	const struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_conn *c = *bucket(v, host_port, guest_port);

	while (c && (c->host_port != host_port || c->guest_port != guest_port))
		c = c->hash_next;
	return c;
}

void vsock_conn_hash(struct vsock_conn *c)
{
	struct vsock_conn **at = bucket(c->dev, c->host_port, c->guest_port);

	c->hash_next = *at;
	*at = c;
	c->hashed = true;
}

void vsock_conn_unhash(struct vsock_conn *c)
{
	struct vsock_conn **at;

	if (!c->hashed)
		return;
	at = bucket(c->dev, c->host_port, c->guest_port);
	while (*at != c)
		at = &(*at)->hash_next;
	*at = c->hash_next;
	c->hashed = false;
}

uint32_t vsock_conn_port(struct vsock *v, uint32_t guest_port)
{
	/* There are more of them than connections. */
	do
		v->last_port = (v->last_port + 1) % VSOCK_HOST_PORT_FIRST +
			       VSOCK_HOST_PORT_FIRST;
	while (vsock_conn_find(v, v->last_port, guest_port));
	return v->last_port;
}

uint64_t vsock_conn_token(const struct vsock_conn *c)
{
	return (uint64_t)c->generation << 32 | (uint32_t)(c - c->dev->conns);
}

struct vsock_conn *vsock_conn_by_token(struct vsock *v, uint64_t token)
{
	uint32_t i = (uint32_t)token;
	struct vsock_conn *c;

	if (i >= v->n_used)
		return NULL;
	c = &v->conns[i];
	return c->in_use && c->generation == token >> 32 ? c : NULL;
}

/* A guest that counts wrongly gets nothing (§5.10.6.3). */
uint32_t vsock_conn_credit(const struct vsock_conn *c)
{
	uint32_t out = c->tx_cnt - c->peer_fwd_cnt;

	return out < c->peer_buf_alloc ? c->peer_buf_alloc - out : 0;
}

bool vsock_conn_credit_is_low(const struct vsock_conn *c)
{
	uint32_t known_free = c->buf_alloc - (c->rx_cnt - c->fwd_told);

	return c->fwd_told != c->fwd_cnt && known_free < c->buf_alloc / 2;
}

void vsock_conn_limit(struct vsock_conn *c)
{
	struct vsock *v = c->dev;

	vsock_conn_unlimit(c);
	c->deadline_ns = clock_ns() + v->config.patience_ns;
	c->timed = true;
	/* All wait equally long: the list is in order. */
	TAILQ_INSERT_TAIL(&v->limited, c, limit);
	if (v->timer.state == WORKER_OP_IDLE)
		worker_timer(v->worker, &v->timer, c->deadline_ns);
}

void vsock_conn_unlimit(struct vsock_conn *c)
{
	if (c->timed)
		TAILQ_REMOVE(&c->dev->limited, c, limit);
	c->timed = false;
}
