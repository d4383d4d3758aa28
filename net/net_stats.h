#pragma once

#include "base/histogram.h"

#include <stdint.h>

/* What one interface has done; written by the worker with relaxed atomics.
 * rx: to the guest, tx: from it. */
struct net_stats {
	uint64_t rx_packets, rx_bytes, rx_dropped;
	uint64_t tx_packets, tx_bytes, tx_dropped;
	uint64_t rx_throttled, tx_throttled; /* times a limiter made it wait */
	uint64_t tap_errors, malformed;
	uint64_t mmds_rx_packets, mmds_tx_packets;
	/* From a packet's first look at, in the guest's ring, to the tap having
	 * it: a limiter and a full tap are waited for in between. */
	struct histogram tx_time;
} __attribute__((aligned(64)));
