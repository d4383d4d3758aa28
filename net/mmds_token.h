#pragma once

/*
 * Session tokens of the metadata service. A token says until when it holds and
 * carries a keyed hash of that, so that nothing has to be kept for it: asking
 * for many costs no memory and takes no other token's place. The key is random
 * and never leaves this process: no other VM's tokens hold here.
 *
 * Times are CLOCK_MONOTONIC, ns.
 */

#include "net/siphash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MMDS_TOKEN_LEN 64         /* hexadecimal digits */
#define MMDS_TOKEN_TTL_MAX 21600u /* s; at least 1 */

struct mmds_tokens {
	uint8_t key[SIPHASH_KEY_BYTES];
	/* Times in tokens count from here: a guest learns nothing of its
	 * host's. */
	uint64_t epoch_ns;
	uint64_t n_made;
};

void mmds_tokens_init(struct mmds_tokens *t,
	const uint8_t key[SIPHASH_KEY_BYTES], uint64_t now_ns);

void mmds_token_make(struct mmds_tokens *t, uint64_t now_ns, uint32_t ttl_s,
	char ret[MMDS_TOKEN_LEN]);

/* In time that does not depend on what is wrong with it. */
bool mmds_token_valid(const struct mmds_tokens *t, uint64_t now_ns,
	const char *token, size_t len);
