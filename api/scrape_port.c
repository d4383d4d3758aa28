#include "api/http.h"

#include <errno.h>
#include <string.h>

/*
 * A TCP port for Prometheus, which knows no Unix sockets: an HTTP server of its
 * own that has GET /metrics and nothing else, whatever is asked of it.
 */

#define CONNECTIONS_MAX 16
#define CONNECTION_MEMORY_BYTES (24u * 1024)
#define IDLE_TIMEOUT_S 60u

static enum MHD_Result refuse(struct MHD_Connection *conn)
{
	static const char text[] =
		"{\"fault_message\":\"here is only GET /metrics\"}";
	struct MHD_Response *response =
		MHD_create_response_from_buffer(sizeof(text) - 1,
			(void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);
	enum MHD_Result r;

	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type", "application/json");
	r = MHD_queue_response(conn, 404, response);
	MHD_destroy_response(response);
	return r;
}

static enum MHD_Result scrape_access(void *server, struct MHD_Connection *conn,
	const char *url, const char *method, const char *version,
	const char *data, size_t *size, void **slot)
{
	if (strcmp(method, "GET") != 0 || strcmp(url, "/metrics") != 0)
		return refuse(conn);
	return exchange_access(
		server, conn, url, method, version, data, size, slot);
}

int api_server_listen_scrapes(
	struct api_server *s, int listen_fd, struct error *err)
{
	s->scrapes = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL,
		scrape_access, s, MHD_OPTION_LISTEN_SOCKET, listen_fd,
		MHD_OPTION_NOTIFY_COMPLETED, exchange_completed, s,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)CONNECTION_MEMORY_BYTES, MHD_OPTION_END);
	return s->scrapes ? 0
			  : error_set(err, EIO,
				    "the HTTP server for --metrics-listen "
				    "could not be started");
}
