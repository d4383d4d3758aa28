#pragma once

/*
 * A rate limiter: two token buckets, of bytes and of operations. A bucket
 * starts full, refills linearly (size tokens in refill_ns), and has a burst on
 * top, spent first and never refilled. What is larger than the whole bucket
 * empties it and leaves it in debt: the next one waits in proportion.
 *
 * Plain arithmetic on the caller's clock: no thread, no timer, no system call.
 * A device whose take is refused sets a worker_timer() for the time given and
 * leaves its ring alone until then. One thread at a time (the device's worker).
 */

#include <stdbool.h>
#include <stdint.h>

/* size or refill_ns 0: no limit. */
struct bucket_config {
	uint64_t size, one_time_burst, refill_ns;
};

struct rate_limiter_config {
	struct bucket_config bytes, ops;
};

/* Which of the two an update means; the other keeps its tokens. */
struct rate_limiter_update {
	bool has_bytes, has_ops;
	struct rate_limiter_config config;
};

struct bucket {
	struct bucket_config config;
	uint64_t tokens, burst, debt;
	uint64_t filled_ns; /* when tokens was right */
};

struct rate_limiter {
	struct bucket bytes, ops;
};

void rate_limiter_init(struct rate_limiter *l,
	const struct rate_limiter_config *config, uint64_t now_ns);
/* A bucket that is changed starts full, with its burst. */
void rate_limiter_update(struct rate_limiter *l,
	const struct rate_limiter_update *u, uint64_t now_ns);

/* Whether it limits at all: else nobody needs to know the time. */
bool rate_limiter_active(const struct rate_limiter *l);

/*
 * Takes one operation of so many bytes: 0. Or takes nothing, and returns the
 * time (ns, > now_ns) at which to try again.
 */
uint64_t rate_limiter_take(
	struct rate_limiter *l, uint64_t bytes, uint64_t now_ns);
