#include "api/errors.h"

#include <errno.h>
#include <stddef.h>

/*
 * An error that names a field is the fault of what the request asked for, even
 * where the system found it (a missing file, too much memory): 400. What is in
 * no row is ours: 500.
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
	{EMFILE, 500, 500},
	{ENFILE, 500, 500},
	{ESHUTDOWN, 503, 503},
	{ETIMEDOUT, 504, 504},
};

unsigned http_status(const struct error *e)
{
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		if (statuses[i].code == e->code)
			return e->field[0] ? statuses[i].with_field
					   : statuses[i].plain;
	return e->field[0] ? 400 : 500;
}
