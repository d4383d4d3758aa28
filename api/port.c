#include "api/port.h"

#include "api/http.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "vmm/limits.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

/* As many as Firecracker has. */
#define CONNECTIONS_MAX 10

struct port_connection {
	LIST_ENTRY(port_connection) link;
	struct api_port *port; /* NULL: its VM is gone */
	int fd;
	bool busy; /* a request of it has not been answered completely */
};

struct api_port {
	struct api_server *server;
	char id[VM_ID_MAX + 1];
	LIST_HEAD(port_connections, port_connection) connections;
	unsigned n;
};

struct api_port *api_port_create(struct api_server *s, const char *id)
{
	struct api_port *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->server = s;
	snprintf(p->id, sizeof(p->id), "%s", id);
	return p;
}

static void refuse(int fd)
{
	static const char answer[] =
		"HTTP/1.1 503 Service Unavailable\r\n"
		"Connection: close\r\n"
		"Content-Type: application/json\r\n"
		"Content-Length: 45\r\n"
		"\r\n"
		"{\"fault_message\":\"too many clients are here\"}";

	(void)!send(
		fd, answer, sizeof(answer) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
}

void api_port_add(struct api_port *p, int fd)
{
	struct sockaddr_storage nobody = {.ss_family = AF_UNIX};
	struct api_server *s = p->server;

	/* The daemon's own socket has some left. */
	if (p->n == CONNECTIONS_MAX ||
		s->n_port_connections >= s->connections_max / 4 * 3) {
		refuse(fd);
		return;
	}
	/* microhttpd tells of the connection before it comes back. One that
	 * belonged to no port would reach every VM. */
	s->adding = calloc(1, sizeof(*s->adding));
	if (!s->adding) {
		close(fd);
		return;
	}
	*s->adding = (struct port_connection){.port = p, .fd = fd};
	if (MHD_add_connection(s->mhd, fd, (struct sockaddr *)&nobody,
		    sizeof(sa_family_t)) == MHD_YES)
		assert(!s->adding);
	free(s->adding);
	s->adding = NULL;
	s->run_again = true;
}

void port_on_connection(void *server, struct MHD_Connection *conn, void **slot,
	enum MHD_ConnectionNotificationCode what)
{
	struct api_server *s = server;
	struct port_connection *c = *slot;

	(void)conn;
	if (what == MHD_CONNECTION_NOTIFY_STARTED && s->adding) {
		c = take_ptr(&s->adding);
		c->port->n++;
		s->n_port_connections++;
		LIST_INSERT_HEAD(&c->port->connections, c, link);
		*slot = c;
	} else if (what == MHD_CONNECTION_NOTIFY_CLOSED && c) {
		if (c->port) {
			LIST_REMOVE(c, link);
			c->port->n--;
		}
		s->n_port_connections--;
		free(c);
		*slot = NULL;
	}
}

static struct port_connection *find(struct MHD_Connection *conn)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

/* Nothing more comes in; microhttpd sees its end. */
static void end_if_gone(struct port_connection *c)
{
	if (!c->port && !c->busy)
		shutdown(c->fd, SHUT_RD);
}

void port_busy(struct MHD_Connection *conn, bool busy)
{
	struct port_connection *c = find(conn);

	if (!c)
		return;
	c->busy = busy;
	end_if_gone(c);
}

bool port_of(struct MHD_Connection *conn, const char **ret_id)
{
	const struct port_connection *c = find(conn);

	*ret_id = c && c->port ? c->port->id : NULL;
	return c != NULL;
}

void port_served(struct api_server *s, struct MHD_Connection *conn,
	const struct request *r, unsigned status, const char *fault)
{
	const struct api_served served = {
		.id = r->id,
		.method = r->route ? r->route->method : "",
		.path = r->route ? route_path(r->route, true) : "",
		.status = status,
		.fault = status < 300 ? ""
			 : fault      ? fault
				      : "?",
		.us = (clock_ns() - r->received_ns) / 1000,
	};
	const char *id;

	/* Its VM may be gone by now, and another have its name. */
	if (port_of(conn, &id) && id)
		s->backend.ops->served(s->backend.ctx, &served);
}

void api_port_destroy(struct api_port *p)
{
	struct port_connection *c;

	if (!p)
		return;
	while ((c = LIST_FIRST(&p->connections))) {
		LIST_REMOVE(c, link);
		c->port = NULL;
		end_if_gone(c);
	}
	free(p);
}
