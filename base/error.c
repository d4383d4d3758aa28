#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void format(char *buf, size_t size, const char *fmt, va_list ap)
{
	if (vsnprintf(buf, size, fmt, ap) < 0)
		snprintf(buf, size, "(message could not be formatted)");
}

int error_set(struct error *e, int code, const char *fmt, ...)
{
	va_list ap;

	e->code = code;
	e->field[0] = '\0';
	va_start(ap, fmt);
	format(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	return -code;
}

int error_field(
	struct error *e, int code, const char *field, const char *fmt, ...)
{
	va_list ap;

	e->code = code;
	snprintf(e->field, sizeof(e->field), "%s", field);
	va_start(ap, fmt);
	format(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	return -code;
}

int error_errno(struct error *e, int code, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	e->code = code;
	e->field[0] = '\0';
	va_start(ap, fmt);
	format(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	n = strlen(e->msg);
	snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", strerror(code));
	return -code;
}

int error_wrap(struct error *e, const char *fmt, ...)
{
	char cause[ERROR_MSG_MAX];
	va_list ap;
	size_t n;

	memcpy(cause, e->msg, sizeof(cause));
	va_start(ap, fmt);
	format(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	n = strlen(e->msg);
	snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", cause);
	return -e->code;
}
