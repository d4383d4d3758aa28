#pragma once

/*
 * A fuzz target is one file with these two functions. It is built twice:
 * with libFuzzer (-Dfuzz=true and clang), and with replay.c as an ordinary test
 * which runs the seeds and some thousand mutations of them, the same each time.
 */

#include <stddef.h>
#include <stdint.h>

/* libFuzzer's entry point: must take anything. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The n-th valid input, in buf: its length, or 0 when there are no more. */
size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap);
