#pragma once

/*
 * Logging: one line per event on stderr, as `key=value` pairs or, with
 * LOG_JSON, as one JSON object per line. Each line is one write(2), so lines of
 * several threads and processes do not mix.
 *
 *   log_info("vm_started", "vm=%s pid=%d", id, pid);
 *
 * Where stderr is systemd's journal a line begins with its priority, "<6>",
 * which journald takes off and notes, and text has no time, which it notes too.
 *
 * The first argument names the event (a word); the format that follows is
 * itself made of `key=value` pairs separated by one space. A value which may
 * hold spaces or is not ours is printed with %s between double quotes, through
 * log_quote().
 *
 * Thread-safe. A guest must not be able to fill a disk through us: whatever it
 * can trigger goes through a struct log_limit.
 */

#include <stddef.h>
#include <stdint.h>

enum log_format { LOG_TEXT, LOG_JSON };
enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Process-wide, set once at start. fd: where lines go, borrowed. */
void log_init(enum log_format format, enum log_level level, int fd);

void log_event(enum log_level level, const char *event, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(event, ...) log_event(LOG_ERROR, event, __VA_ARGS__)
#define log_warn(event, ...) log_event(LOG_WARN, event, __VA_ARGS__)
#define log_info(event, ...) log_event(LOG_INFO, event, __VA_ARGS__)
#define log_debug(event, ...) log_event(LOG_DEBUG, event, __VA_ARGS__)

/*
 * Escapes s into buf as a double-quoted string without control characters (cut
 * where buf ends, always closed) and returns buf. size: at least 3.
 */
const char *log_quote(char *buf, size_t size, const char *s);

/*
 * At most `burst` events per `interval_ns`. log_limit_ok() returns whether this
 * one may be logged and, when it may, how many were held back since the last.
 * Initialise with LOG_LIMIT(); one owner thread, or atomics are not needed.
 */
struct log_limit {
	uint64_t interval_ns;
	uint64_t window_start_ns;
	uint32_t burst;
	uint32_t used;
	uint32_t suppressed;
};

#define LOG_LIMIT(burst_, interval_s)                                          \
	{                                                                      \
		.interval_ns = (interval_s)*1000000000ull, .burst = (burst_)   \
	}

/* now_ns: CLOCK_MONOTONIC. */
int log_limit_ok(
	struct log_limit *l, uint64_t now_ns, uint32_t *ret_suppressed);
