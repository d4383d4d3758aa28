#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * SipHash-2-4 (Aumasson, Bernstein 2012) with an output of 128 bits: a keyed
 * function whose values nobody can predict who does not have the key.
 */
#define SIPHASH_KEY_BYTES 16
#define SIPHASH_BYTES 16

void siphash(uint8_t ret[SIPHASH_BYTES], const uint8_t key[SIPHASH_KEY_BYTES],
	const void *data, size_t len);
