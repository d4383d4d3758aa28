#pragma once

/*
 * What the metadata service answers to a request: Firecracker's MMDS, V1 and
 * V2.
 */

#include "net/mmds.h"
#include "net/mmds_http.h"
#include "net/mmds_token.h"

struct mmds_service {
	enum mmds_version version;
	bool imds_compat;
	struct mmds_tokens tokens;
	struct mmds_stats *stats;
};

/*
 * Reads one request out of rx[n] and writes its answer, as struct tcp_app says.
 * img: NULL: no data yet. tx has room for TCP_TX_MAX bytes.
 */
size_t mmds_serve(struct mmds_service *s, const struct mmds_image *img,
	uint64_t now_ns, const uint8_t *rx, size_t n, uint8_t *tx,
	size_t *ret_len, bool *ret_close);
