#pragma once

/* The driver's memory statistics (virtio 1.2 §5.5.6.3). */

#include "virtio/balloon.h"
#include "virtio/iovs.h"

/* As long as nobody has told. */
void balloon_stats_clear(struct balloon_state *state);

/* Takes a buffer of them over into state, one update. Tags nobody knows are
 * passed over; -EPROTO: there is not one entry in it. */
int balloon_stats_take(struct balloon_state *state, const struct iovs *from);
