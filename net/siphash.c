#include "net/siphash.h"

#include <string.h>

struct state {
	uint64_t v0, v1, v2, v3;
};

static uint64_t rotate(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static void rounds(struct state *s, unsigned n)
{
	while (n--) {
		s->v0 += s->v1;
		s->v2 += s->v3;
		s->v1 = rotate(s->v1, 13) ^ s->v0;
		s->v3 = rotate(s->v3, 16) ^ s->v2;
		s->v0 = rotate(s->v0, 32);
		s->v2 += s->v1;
		s->v0 += s->v3;
		s->v1 = rotate(s->v1, 17) ^ s->v2;
		s->v3 = rotate(s->v3, 21) ^ s->v0;
		s->v2 = rotate(s->v2, 32);
	}
}

/* Little-endian, as this machine is. */
static uint64_t load(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	memcpy(&v, p, n);
	return v;
}

static void absorb(struct state *s, uint64_t word)
{
	s->v3 ^= word;
	rounds(s, 2);
	s->v0 ^= word;
}

static void squeeze(struct state *s, uint8_t *ret)
{
	uint64_t word;

	rounds(s, 4);
	word = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
	memcpy(ret, &word, sizeof(word));
}

void siphash(uint8_t ret[SIPHASH_BYTES], const uint8_t key[SIPHASH_KEY_BYTES],
	const void *data, size_t len)
{
	uint64_t k0 = load(key, 8), k1 = load(key + 8, 8);
	const uint8_t *p = data;
	size_t left = len;
	struct state s = {
		k0 ^ 0x736f6d6570736575u,
		k1 ^ 0x646f72616e646f6du ^ 0xee, /* 0xee: of 128 bits */
		k0 ^ 0x6c7967656e657261u,
		k1 ^ 0x7465646279746573u,
	};

	for (; left >= 8; left -= 8, p += 8)
		absorb(&s, load(p, 8));
	absorb(&s, (uint64_t)len << 56 | load(p, left));
	s.v2 ^= 0xee;
	squeeze(&s, ret);
	s.v1 ^= 0xdd;
	squeeze(&s, ret + 8);
}
