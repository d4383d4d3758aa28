#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

static struct {
	enum log_format format;
	enum log_level level;
	int fd;
	bool journal;
} config = {LOG_TEXT, LOG_INFO, STDERR_FILENO, false};

static const char *const level_names[] = {"error", "warn", "info", "debug"};
/* syslog(3)'s, as sd-daemon(3) has them at the start of a line. */
static const char *const priorities[] = {"<3>", "<4>", "<6>", "<7>"};

/* systemd says which device and inode it made standard error of; whoever
 * redirects it leaves that in the environment. */
static bool is_journal(int fd)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char is[48];
	struct stat st;

	if (!stream || fstat(fd, &st) < 0)
		return false;
	snprintf(is, sizeof(is), "%llu:%llu", (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino);
	return strcmp(stream, is) == 0;
}

void log_init(enum log_format format, enum log_level level, int fd)
{
	config.format = format;
	config.level = level;
	config.fd = fd;
	config.journal = is_journal(fd);
}

/* A line under construction; what does not fit is cut, the end never is. */
struct line {
	char buf[LINE_MAX_BYTES];
	size_t len;
};

static void line_putc(struct line *l, char c)
{
	/* Two bytes stay free for a closing brace and the newline. */
	if (l->len < sizeof(l->buf) - 3)
		l->buf[l->len++] = c;
}

static void line_puts(struct line *l, const char *s)
{
	while (*s)
		line_putc(l, *s++);
}

static void line_put_escaped(struct line *l, char c)
{
	unsigned char u = (unsigned char)c;
	char esc[8];

	if (c == '"' || c == '\\') {
		line_putc(l, '\\');
		line_putc(l, c);
	} else if (u < 0x20 || u == 0x7f) {
		snprintf(esc, sizeof(esc), "\\u%04x", u);
		line_puts(l, esc);
	} else {
		line_putc(l, c);
	}
}

/*
 * Rewrites `key=value key="quoted value"` pairs as JSON members. All values
 * become strings: a reader need not guess which are numbers.
 */
static void line_put_json_pairs(struct line *l, const char *s)
{
	while (*s) {
		int quoted;

		line_puts(l, ",\"");
		while (*s && *s != '=')
			line_put_escaped(l, *s++);
		line_puts(l, "\":\"");
		if (*s == '=')
			s++;
		quoted = *s == '"';
		if (quoted)
			s++;
		while (*s && *s != (quoted ? '"' : ' ')) {
			/* Inside quotes the pair is escaped already. */
			if (quoted && *s == '\\' && s[1]) {
				line_putc(l, *s++);
				line_putc(l, *s++);
			} else {
				line_put_escaped(l, *s++);
			}
		}
		if (quoted && *s == '"')
			s++;
		while (*s == ' ')
			s++;
		line_putc(l, '"');
	}
}

static void line_put_time(struct line *l)
{
	char when[40];
	struct timespec ts;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(when + n, sizeof(when) - n, ".%03ldZ", ts.tv_nsec / 1000000);
	line_puts(l, when);
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
	char pairs[LINE_MAX_BYTES / 2];
	struct line l = {.len = 0};
	va_list ap;
	ssize_t n;

	if (level > config.level)
		return;
	va_start(ap, fmt);
	if (vsnprintf(pairs, sizeof(pairs), fmt, ap) < 0)
		pairs[0] = '\0';
	va_end(ap);
	if (config.journal)
		line_puts(&l, priorities[level]);
	if (config.format == LOG_JSON) {
		line_puts(&l, "{\"time\":\"");
		line_put_time(&l);
		line_puts(&l, "\",\"level\":\"");
		line_puts(&l, level_names[level]);
		line_puts(&l, "\",\"event\":\"");
		line_puts(&l, event);
		line_putc(&l, '"');
		line_put_json_pairs(&l, pairs);
		l.buf[l.len++] = '}';
	} else {
		if (!config.journal) {
			line_put_time(&l);
			line_putc(&l, ' ');
		}
		line_puts(&l, level_names[level]);
		line_puts(&l, " event=");
		line_puts(&l, event);
		if (pairs[0])
			line_putc(&l, ' ');
		for (const char *s = pairs; *s; s++)
			line_putc(&l, *s == '\n' ? ' ' : *s);
	}
	l.buf[l.len++] = '\n';
	do
		n = write(config.fd, l.buf, l.len);
	while (n < 0 && errno == EINTR);
}

const char *log_quote(char *buf, size_t size, const char *s)
{
	size_t n = 0;

	buf[n++] = '"';
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		char esc[8];
		size_t len;

		if (c == '"' || c == '\\')
			len = (size_t)snprintf(esc, sizeof(esc), "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			len = (size_t)snprintf(esc, sizeof(esc), "\\u%04x", c);
		else
			len = (size_t)snprintf(esc, sizeof(esc), "%c", c);
		if (n + len + 2 > size)
			break;
		memcpy(buf + n, esc, len);
		n += len;
	}
	buf[n++] = '"';
	buf[n] = '\0';
	return buf;
}

int log_limit_ok(struct log_limit *l, uint64_t now_ns, uint32_t *ret_suppressed)
{
	if (l->window_start_ns == 0 ||
		now_ns - l->window_start_ns >= l->interval_ns) {
		l->window_start_ns = now_ns;
		l->used = 0;
	}
	if (l->used >= l->burst) {
		l->suppressed++;
		return 0;
	}
	l->used++;
	*ret_suppressed = l->suppressed;
	l->suppressed = 0;
	return 1;
}
