#pragma once

/*
 * Errors of the control path.
 *
 * A function that can fail in a way a person has to understand takes a
 * `struct error *` as its last parameter. The caller owns it (on the stack or
 * in its own object); it is written only on failure. The first cause sets it,
 * callers on the way up prefix context with error_wrap().
 *
 * The data path does not use this: it returns a negative errno and never logs.
 *
 * Thread-safe as long as two threads do not share one struct error.
 */

#define ERROR_MSG_MAX 256
#define ERROR_FIELD_MAX 64

/*
 * code: a positive errno. EINVAL, ENOENT, EACCES, ... caused by what the caller
 * asked for keep their meaning up to the API, whose one table turns them into
 * HTTP statuses.
 * field: the API field at fault ("boot-source.kernel_image_path"), or "".
 */
struct error {
	int code;
	char field[ERROR_FIELD_MAX];
	char msg[ERROR_MSG_MAX];
};

/* Sets code and message (field becomes ""). Returns -code. */
int error_set(struct error *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The same, with the field at fault. Returns -code. */
int error_field(struct error *e, int code, const char *field, const char *fmt,
	...) __attribute__((format(printf, 4, 5)));

/* Sets code and "message: strerror(code)". Returns -code. */
int error_errno(struct error *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Prefixes "context: " to the message, truncating its end. Returns -e->code. */
int error_wrap(struct error *e, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
