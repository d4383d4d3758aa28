#include "virtio/rate_limiter.h"

/*
 * All products are of two 64-bit numbers, in 128 bits: whatever size, refill
 * time and clock there are, nothing overflows. What is rounded is rounded
 * against the taker, by less than a token or a nanosecond.
 */

/* A fast bucket is not looked at for each of its tokens. */
#define RETRY_MIN_NS 1000000u

static bool limits(const struct bucket *b)
{
	return b->config.size && b->config.refill_ns;
}

static void fill(
	struct bucket *b, const struct bucket_config *config, uint64_t now_ns)
{
	*b = (struct bucket){
		.config = *config,
		.tokens = config->size,
		.burst = config->one_time_burst,
		.filled_ns = now_ns,
	};
}

/* The time it takes for so many tokens to come; saturates. */
static uint64_t time_for(const struct bucket *b, uint64_t tokens)
{
	unsigned __int128 ns =
		((unsigned __int128)tokens * b->config.refill_ns +
			b->config.size - 1) /
		b->config.size;

	return ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

/* For n tokens that have come; the bucket has room for what is not owed. */
static void put(struct bucket *b, uint64_t n)
{
	uint64_t part = n < b->debt ? n : b->debt;

	b->debt -= part;
	b->tokens += n - part;
}

static void refill(struct bucket *b, uint64_t now_ns)
{
	unsigned __int128 gained;
	uint64_t room = b->config.size - b->tokens;

	/* No time has passed, or the clock is another one. */
	if (now_ns <= b->filled_ns) {
		b->filled_ns = now_ns;
		return;
	}
	gained = (unsigned __int128)(now_ns - b->filled_ns) * b->config.size /
		 b->config.refill_ns;
	if (gained >= (unsigned __int128)b->debt + room) {
		b->debt = 0;
		b->tokens = b->config.size;
		b->filled_ns = now_ns;
		return;
	}
	/* In debt there are no tokens, and a gain up to twice the size. */
	if (gained > UINT64_MAX)
		gained = UINT64_MAX;
	put(b, (uint64_t)gained);
	/* The rest of the time is on its way to the next token. */
	b->filled_ns += time_for(b, (uint64_t)gained);
}

/* What n tokens take of the bucket after the burst. */
static uint64_t after_burst(const struct bucket *b, uint64_t n)
{
	return n > b->burst ? n - b->burst : 0;
}

static uint64_t add(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* When so many tokens will have come, with the debt paid. */
static uint64_t time_of(const struct bucket *b, uint64_t tokens)
{
	return add(
		b->filled_ns, add(time_for(b, tokens), time_for(b, b->debt)));
}

/* Refills; 0: n tokens can be taken; else the time of the next try. */
static uint64_t look(struct bucket *b, uint64_t n, uint64_t now_ns)
{
	uint64_t enough_ns, full_ns, soon_ns;

	if (!limits(b))
		return 0;
	refill(b, now_ns);
	n = after_burst(b, n);
	if (n == 0)
		return 0;
	/* What will never fit waits until nothing is owed. */
	if (n > b->config.size)
		n = b->tokens;
	if (n <= b->tokens && !b->debt)
		return 0;
	enough_ns = time_of(b, n - b->tokens);
	full_ns = time_of(b, b->config.size - b->tokens);
	soon_ns = add(now_ns, RETRY_MIN_NS);
	/* A little later is fine, unless tokens would be lost by it. */
	if (soon_ns > full_ns)
		soon_ns = full_ns;
	return enough_ns > soon_ns ? enough_ns : soon_ns;
}

/* Of one that limits nothing as well: nobody looks at it. */
static void take(struct bucket *b, uint64_t n)
{
	uint64_t rest = after_burst(b, n);

	b->burst -= n - rest;
	if (rest > b->tokens) {
		b->debt = rest - b->tokens;
		b->tokens = 0;
	} else {
		b->tokens -= rest;
	}
}

void rate_limiter_init(struct rate_limiter *l,
	const struct rate_limiter_config *config, uint64_t now_ns)
{
	fill(&l->bytes, &config->bytes, now_ns);
	fill(&l->ops, &config->ops, now_ns);
}

void rate_limiter_update(struct rate_limiter *l,
	const struct rate_limiter_update *u, uint64_t now_ns)
{
	if (u->has_bytes)
		fill(&l->bytes, &u->config.bytes, now_ns);
	if (u->has_ops)
		fill(&l->ops, &u->config.ops, now_ns);
}

bool rate_limiter_active(const struct rate_limiter *l)
{
	return limits(&l->bytes) || limits(&l->ops);
}

uint64_t rate_limiter_take(
	struct rate_limiter *l, uint64_t bytes, uint64_t now_ns)
{
	uint64_t for_bytes = look(&l->bytes, bytes, now_ns);
	uint64_t for_ops = look(&l->ops, 1, now_ns);

	if (for_bytes || for_ops)
		return for_bytes > for_ops ? for_bytes : for_ops;
	take(&l->bytes, bytes);
	take(&l->ops, 1);
	return 0;
}
