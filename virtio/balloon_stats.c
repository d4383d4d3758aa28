#include "virtio/balloon_stats.h"

#include <errno.h>
#include <linux/virtio_balloon.h>
#include <string.h>

/* More than there are tags; what follows is not looked at. */
#define ENTRIES_MAX 64

static void publish(struct balloon_state *state, const uint64_t *stats)
{
	for (unsigned i = 0; i < BALLOON_STATS_MAX; i++)
		__atomic_store_n(&state->stats[i], stats[i], __ATOMIC_RELAXED);
}

void balloon_stats_clear(struct balloon_state *state)
{
	uint64_t stats[BALLOON_STATS_MAX];

	memset(stats, 0xff, sizeof(stats));
	publish(state, stats);
}

int balloon_stats_take(struct balloon_state *state, const struct iovs *from)
{
	struct virtio_balloon_stat entries[ENTRIES_MAX];
	uint64_t stats[BALLOON_STATS_MAX];
	size_t n = from->len / sizeof(entries[0]);

	if (n == 0)
		return -EPROTO;
	if (n > ENTRIES_MAX)
		n = ENTRIES_MAX;
	iovs_read(from, 0, entries, n * sizeof(entries[0]));
	memset(stats, 0xff, sizeof(stats));
	for (size_t i = 0; i < n; i++)
		if (entries[i].tag < BALLOON_STATS_MAX)
			stats[entries[i].tag] = entries[i].val;
	publish(state, stats);
	/* One writer. Release: who sees the update sees what came with it. */
	__atomic_store_n(&state->stats_updates, state->stats_updates + 1,
		__ATOMIC_RELEASE);
	return 0;
}
