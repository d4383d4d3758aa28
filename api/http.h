#pragma once

/* Inside the HTTP server: what server.c, exchange.c and stream.c share. */

#include "api/port.h"
#include "api/request.h"
#include "api/router.h"
#include "api/server.h"

#include <microhttpd.h>
#include <stdbool.h>

/* A larger body than its route takes is read and thrown away up to here, so
 * that its sender gets to read the answer. */
#define API_DRAIN_MAX (1u << 20)

struct api_server {
	struct api_backend backend;
	struct MHD_Daemon *mhd;
	struct MHD_Daemon *scrapes; /* on a TCP port (scrape_port.c); or NULL */
	int hangups;    /* epoll: clients of suspended requests that go away */
	bool run_again; /* a connection was resumed, or added */
	struct port_connection *adding; /* at this moment */
	unsigned open_requests;
	unsigned n_connections; /* when last looked */
	unsigned connections_max, n_port_connections;
};

/*
 * A connection that is suspended is not looked at by microhttpd; this tells
 * when its client closes it. Embedded in its owner; one at a time for a
 * connection.
 */
struct hangup {
	struct api_server *server;
	struct MHD_Connection *conn;
	void (*gone)(struct hangup *h);
	bool watching;
};

void hangup_watch(struct hangup *h);
void hangup_unwatch(struct hangup *h);

/* port.c: microhttpd's callback, and whether a connection is to a VM's own
 * socket: *ret_id NULL: that VM is gone. */
void port_on_connection(void *server, struct MHD_Connection *conn, void **slot,
	enum MHD_ConnectionNotificationCode what);
bool port_of(struct MHD_Connection *conn, const char **ret_id);
/* It has a request, or that is answered completely. */
void port_busy(struct MHD_Connection *conn, bool busy);
/* A request there is answered; fault: NULL: none, or no memory for it. */
void port_served(struct api_server *s, struct MHD_Connection *conn,
	const struct request *r, unsigned status, const char *fault);

/* framing.c: fails when there are two answers to where a request's body ends:
 * somebody before us may have believed the other one (RFC 9112, 6.3). */
int framing_check(struct MHD_Connection *conn, struct error *err);

/* microhttpd's callbacks (exchange.c). */
enum MHD_Result exchange_access(void *server, struct MHD_Connection *conn,
	const char *url, const char *method, const char *version,
	const char *data, size_t *size, void **slot);
void exchange_completed(void *server, struct MHD_Connection *conn, void **slot,
	enum MHD_RequestTerminationCode why);

/* Resumes conn, soon. */
void server_resume(struct api_server *s, struct MHD_Connection *conn);

/* The response that follows something (stream.c); NULL with err set. arg: taken
 * over. */
struct MHD_Response *stream_create(struct api_server *s,
	struct MHD_Connection *conn, const struct stream_ops *ops, void *arg,
	struct error *err);
