#include "api/errors.h"

#include <errno.h>
#include <stddef.h>

/*
 * An error that names a field is the fault of what the request asked for, even
 * where the system found it (a missing file, too much memory): 400. What is in
 * no row is ours: 500. What may be tried again later is 429 where somebody set
 * a limit, and 503 where the host has no room.
 */
static const struct {
	int code;
	unsigned plain, with_field;
} statuses[] = {
	{EINVAL, 400, 400},
	{ENOTSUP, 400, 400},
	{ENOENT, 404, 400},
	{EEXIST, 409, 409},
	{EBUSY, 409, 400},
	{EMSGSIZE, 413, 413},
	{ENOBUFS, 429, 429},
	{EIO, 500, 500},
	{EAGAIN, 503, 503},
	{ENOMEM, 503, 400},
	{EMFILE, 503, 503},
	{ENFILE, 503, 503},
	{ESHUTDOWN, 503, 503},
	{ETIMEDOUT, 504, 504},
};

unsigned http_retry_after_s(unsigned status)
{
	return status == 429 || status == 503 ? 1 : 0;
}

unsigned http_status(const struct error *e)
{
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		if (statuses[i].code == e->code)
			return e->field[0] ? statuses[i].with_field
					   : statuses[i].plain;
	return e->field[0] ? 400 : 500;
}
