#include "api/json_check.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct scan {
	const char *start, *p, *end;
	unsigned max_depth;
	size_t members;
	struct error *err;
};

/* The length of the UTF-8 sequence at p (1 to 4), 0 when it is not one. */
static unsigned utf8_sequence(const char *p, const char *end)
{
	/* By length: the least code point, so that overlong forms show. */
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned char first = (unsigned char)*p;
	unsigned n = first < 0x80         ? 1
		     : first >> 5 == 0x6  ? 2
		     : first >> 4 == 0xe  ? 3
		     : first >> 3 == 0x1e ? 4
					  : 0;
	uint32_t cp;

	if (n <= 1 || (size_t)(end - p) < n)
		return n == 1;
	cp = first & (0x7fu >> n);
	for (unsigned i = 1; i < n; i++) {
		if (((unsigned char)p[i] & 0xc0) != 0x80)
			return 0;
		cp = cp << 6 | ((unsigned char)p[i] & 0x3f);
	}
	if (cp < least[n] || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
		return 0;
	return n;
}

void utf8_repair(char *s)
{
	const char *end = s + strlen(s);

	while (*s) {
		unsigned n = utf8_sequence(s, end);

		if (n == 0)
			*s = '?';
		s += n ? n : 1;
	}
}

static int refuse(struct scan *s, const char *what)
{
	if (s->p >= s->end)
		return error_set(s->err, EINVAL,
			"the body is not JSON: it ends too early");
	return error_set(s->err, EINVAL, "the body is not JSON: %s at byte %zu",
		what, (size_t)(s->p - s->start));
}

static void skip_space(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' ||
					*s->p == '\n' || *s->p == '\r'))
		s->p++;
}

static bool take(struct scan *s, char c)
{
	if (s->p >= s->end || *s->p != c)
		return false;
	s->p++;
	return true;
}

static bool is_digit(const struct scan *s)
{
	return s->p < s->end && *s->p >= '0' && *s->p <= '9';
}

static int scan_digits(struct scan *s)
{
	if (!is_digit(s))
		return refuse(s, "a digit is missing");
	while (is_digit(s))
		s->p++;
	return 0;
}

static int scan_number(struct scan *s)
{
	take(s, '-');
	if (take(s, '0')) {
		if (is_digit(s))
			return refuse(s, "a number starts with 0");
	} else if (scan_digits(s) < 0) {
		return -EINVAL;
	}
	if (take(s, '.') && scan_digits(s) < 0)
		return -EINVAL;
	if (take(s, 'e') || take(s, 'E')) {
		if (!take(s, '+'))
			take(s, '-');
		if (scan_digits(s) < 0)
			return -EINVAL;
	}
	return 0;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Behind "\u": four hexadecimal digits. */
static int scan_hex4(struct scan *s, uint32_t *ret)
{
	*ret = 0;
	for (unsigned i = 0; i < 4; i++, s->p++) {
		static const char digits[] = "0123456789abcdef";
		const char *d;

		d = s->p < s->end && *s->p ? strchr(digits, lower(*s->p))
					   : NULL;
		if (!d)
			return refuse(s, "a \\u escape is malformed");
		*ret = *ret << 4 | (uint32_t)(d - digits);
	}
	return 0;
}

static int scan_escape(struct scan *s)
{
	uint32_t cp, low;

	if (s->p >= s->end || !*s->p || !strchr("\"\\/bfnrtu", *s->p))
		return refuse(s, "an unknown escape");
	if (*s->p++ != 'u')
		return 0;
	if (scan_hex4(s, &cp) < 0)
		return -EINVAL;
	if (cp == 0)
		return refuse(s, "a NUL in a string");
	if (cp < 0xd800 || cp > 0xdfff)
		return 0;
	if (cp > 0xdbff || !take(s, '\\') || !take(s, 'u'))
		return refuse(s, "half a surrogate pair");
	if (scan_hex4(s, &low) < 0)
		return -EINVAL;
	if (low < 0xdc00 || low > 0xdfff)
		return refuse(s, "half a surrogate pair");
	return 0;
}

static int scan_string(struct scan *s)
{
	if (!take(s, '"'))
		return refuse(s, "a string is missing");
	while (s->p < s->end && *s->p != '"') {
		unsigned n;

		if (take(s, '\\')) {
			if (scan_escape(s) < 0)
				return -EINVAL;
			continue;
		}
		if ((unsigned char)*s->p < 0x20)
			return refuse(s, "a control character in a string");
		n = utf8_sequence(s->p, s->end);
		if (n == 0)
			return refuse(s, "invalid UTF-8");
		s->p += n;
	}
	return take(s, '"') ? 0 : refuse(s, "a string without its end");
}

static int scan_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
		return refuse(s, "an unknown word");
	s->p += n;
	return 0;
}

static int scan_value(struct scan *s, unsigned depth);

/* An object or an array, from its opening bracket on. */
static int scan_container(struct scan *s, unsigned depth)
{
	bool object = *s->p++ == '{';
	char close = object ? '}' : ']';

	if (depth >= s->max_depth)
		return error_set(s->err, EINVAL,
			"the body is nested deeper than %u levels",
			s->max_depth);
	skip_space(s);
	if (take(s, close))
		return 0;
	do {
		skip_space(s);
		if (object) {
			if (scan_string(s) < 0)
				return -EINVAL;
			skip_space(s);
			if (!take(s, ':'))
				return refuse(s, "a colon is missing");
			s->members++;
		}
		if (scan_value(s, depth + 1) < 0)
			return -EINVAL;
	} while (take(s, ','));
	return take(s, close) ? 0 : refuse(s, "a comma or bracket is missing");
}

static int scan_value(struct scan *s, unsigned depth)
{
	int r;

	skip_space(s);
	switch (s->p < s->end ? *s->p : '\0') {
	case '{':
	case '[':
		r = scan_container(s, depth);
		break;
	case '"':
		r = scan_string(s);
		break;
	case 't':
		r = scan_word(s, "true");
		break;
	case 'f':
		r = scan_word(s, "false");
		break;
	case 'n':
		r = scan_word(s, "null");
		break;
	default:
		if (s->p < s->end && *s->p != '-' && !is_digit(s))
			return refuse(s, "a value is missing");
		r = scan_number(s);
	}
	skip_space(s);
	return r;
}

int json_check(const char *text, size_t len, unsigned max_depth,
	size_t *ret_members, struct error *err)
{
	struct scan s = {text, text, text + len, max_depth, 0, err};
	int r = scan_value(&s, 0);

	if (r < 0)
		return r;
	if (s.p != s.end)
		return refuse(&s, "something follows the end");
	*ret_members = s.members;
	return 0;
}
