#include "net/mmds_token.h"

#include <string.h>

#define NS_PER_S 1000000000u

/* What is behind the digits. */
struct token {
	uint64_t expires_ns; /* since the epoch */
	uint64_t number;     /* no two are the same */
	uint8_t mac[SIPHASH_BYTES];
};

#define SIGNED_BYTES offsetof(struct token, mac)

_Static_assert(2 * sizeof(struct token) == MMDS_TOKEN_LEN, "two digits a byte");

void mmds_tokens_init(struct mmds_tokens *t,
	const uint8_t key[SIPHASH_KEY_BYTES], uint64_t now_ns)
{
	*t = (struct mmds_tokens){.epoch_ns = now_ns};
	memcpy(t->key, key, sizeof(t->key));
}

void mmds_token_make(struct mmds_tokens *t, uint64_t now_ns, uint32_t ttl_s,
	char ret[MMDS_TOKEN_LEN])
{
	static const char digits[] = "0123456789abcdef";
	struct token token = {
		.expires_ns = now_ns - t->epoch_ns + (uint64_t)ttl_s * NS_PER_S,
		.number = t->n_made++,
	};
	uint8_t bytes[sizeof(token)];

	siphash(token.mac, t->key, &token, SIGNED_BYTES);
	memcpy(bytes, &token, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++) {
		ret[2 * i] = digits[bytes[i] >> 4];
		ret[2 * i + 1] = digits[bytes[i] & 0xf];
	}
}

/* 16: not a digit. Upper case is not: one token has one spelling. */
static uint8_t digit(char c)
{
	if (c >= '0' && c <= '9')
		return (uint8_t)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (uint8_t)(c - 'a' + 10);
	return 16;
}

bool mmds_token_valid(const struct mmds_tokens *t, uint64_t now_ns,
	const char *token, size_t len)
{
	uint8_t bytes[sizeof(struct token)], mac[SIPHASH_BYTES], wrong = 0;
	struct token got;

	if (len != MMDS_TOKEN_LEN)
		return false;
	for (size_t i = 0; i < sizeof(bytes); i++) {
		uint8_t high = digit(token[2 * i]);
		uint8_t low = digit(token[2 * i + 1]);

		wrong |= (high | low) & 16;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	memcpy(&got, bytes, sizeof(got));
	siphash(mac, t->key, &got, SIGNED_BYTES);
	for (size_t i = 0; i < sizeof(mac); i++)
		wrong |= mac[i] ^ got.mac[i];
	return !wrong && now_ns - t->epoch_ns < got.expires_ns;
}
