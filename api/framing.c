#include "api/http.h"

#include <errno.h>
#include <strings.h>

/* How a body's end is told. */
struct framing {
	unsigned lengths, codings;
	bool chunked;
};

static enum MHD_Result take_header(
	void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
	struct framing *f = arg;

	(void)kind;
	if (strcasecmp(key, "Content-Length") == 0)
		f->lengths++;
	if (strcasecmp(key, "Transfer-Encoding") == 0) {
		f->codings++;
		f->chunked = value && strcasecmp(value, "chunked") == 0;
	}
	return MHD_YES;
}

int framing_check(struct MHD_Connection *conn, struct error *err)
{
	struct framing f = {0};

	MHD_get_connection_values(conn, MHD_HEADER_KIND, take_header, &f);
	if (f.lengths > 1)
		return error_field(
			err, EINVAL, "Content-Length", "is given twice");
	if (f.lengths && f.codings)
		return error_field(err, EINVAL, "Content-Length",
			"is given beside Transfer-Encoding");
	if (f.codings > 1 || (f.codings && !f.chunked))
		return error_field(err, EINVAL, "Transfer-Encoding",
			"must be chunked, and given once");
	return 0;
}
