#pragma once

#include <stddef.h>

/*
 * Writes s into buf as printable ASCII, at most size - 1 bytes, with '?' for
 * what is not: names out of a request and words of a VMM end up in messages,
 * JSON and logs. Returns buf.
 */
const char *text_printable(char *buf, size_t size, const char *s);
