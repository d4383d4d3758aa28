#include "api/http.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define CONNECTIONS_MAX 8192
#define CONNECTION_MEMORY_BYTES (24u * 1024)

static void log_from_mhd(void *arg, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void log_from_mhd(void *arg, const char *fmt, va_list ap)
{
	char text[200], quoted[220];

	(void)arg;
	vsnprintf(text, sizeof(text), fmt, ap);
	log_debug("http", "text=%s", log_quote(quoted, sizeof(quoted), text));
}

/* Ids have no characters that need percent-encoding, so none is undone in a
 * path: what is encoded does not match. The values of parameters are decoded
 * where they are taken. */
static size_t keep_escapes(void *arg, struct MHD_Connection *c, char *s)
{
	(void)arg;
	(void)c;
	return strlen(s);
}

/* VMs need descriptors, too: those who come when there are so many wait in the
 * socket's queue until another one has gone. */
static unsigned connections_max(void)
{
	long files = sysconf(_SC_OPEN_MAX);

	return files > 0 && files / 2 < CONNECTIONS_MAX ? (unsigned)files / 2
							: CONNECTIONS_MAX;
}

int api_server_create(struct api_server **ret,
	const struct api_backend *backend, int listen_fd,
	unsigned idle_timeout_s, struct error *err)
{
	struct api_server *s = calloc(1, sizeof(*s));

	if (!s)
		return error_set(err, ENOMEM, "out of memory");
	s->backend = *backend;
	s->connections_max = connections_max();
	s->hangups = epoll_create1(EPOLL_CLOEXEC);
	if (s->hangups < 0) {
		error_errno(err, errno, "epoll_create1");
		free(s);
		return -err->code;
	}
	s->mhd = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0,
		NULL, NULL, exchange_access, s, MHD_OPTION_EXTERNAL_LOGGER,
		log_from_mhd, NULL, MHD_OPTION_LISTEN_SOCKET, listen_fd,
		MHD_OPTION_NOTIFY_COMPLETED, exchange_completed, s,
		MHD_OPTION_NOTIFY_CONNECTION, port_on_connection, s,
		MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
		MHD_OPTION_CONNECTION_LIMIT, s->connections_max,
		MHD_OPTION_CONNECTION_TIMEOUT, idle_timeout_s,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)CONNECTION_MEMORY_BYTES, MHD_OPTION_END);
	if (!s->mhd) {
		close(s->hangups);
		free(s);
		return error_set(
			err, EIO, "the HTTP server could not be started");
	}
	*ret = s;
	return 0;
}

static int epoll_fd(struct MHD_Daemon *mhd)
{
	return MHD_get_daemon_info(mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

void api_server_fds(const struct api_server *s, int fds[API_SERVER_FDS])
{
	fds[API_SERVER_FD_HTTP] = epoll_fd(s->mhd);
	fds[API_SERVER_FD_HANGUPS] = s->hangups;
	fds[API_SERVER_FD_SCRAPES] = s->scrapes ? epoll_fd(s->scrapes) : -1;
}

void api_server_run(struct api_server *s)
{
	s->run_again = false;
	MHD_run(s->mhd);
	if (s->scrapes)
		MHD_run(s->scrapes);
}

/* How long it may wait at most, in ms. */
static unsigned patience(struct MHD_Daemon *mhd)
{
	MHD_UNSIGNED_LONG_LONG ms;

	if (!mhd || MHD_get_timeout(mhd, &ms) != MHD_YES)
		return UINT_MAX;
	return ms > 60000 ? 60000 : (unsigned)ms;
}

static unsigned least_patience(const struct api_server *s)
{
	unsigned a = patience(s->mhd), b = patience(s->scrapes);

	return a < b ? a : b;
}

/* When it is full microhttpd does not listen; that there is room again it sees
 * the next time it runs. */
static bool anybody_left(struct api_server *s)
{
	unsigned n =
		MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)
			->num_connections;
	bool fewer = n < s->n_connections;

	s->n_connections = n;
	return fewer;
}

int api_server_prepare(struct api_server *s)
{
	unsigned ms;

	if (s->run_again)
		api_server_run(s);
	if (least_patience(s) == 0)
		api_server_run(s);
	if (anybody_left(s))
		api_server_run(s);
	ms = least_patience(s);
	return ms == UINT_MAX ? -1 : (int)ms;
}

void server_resume(struct api_server *s, struct MHD_Connection *conn)
{
	MHD_resume_connection(conn);
	s->run_again = true;
}

static int connection_fd(struct MHD_Connection *conn)
{
	return MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD)
		->connect_fd;
}

/* Edge-triggered and without EPOLLIN: only EPOLLHUP and EPOLLERR, which are
 * always reported, are wanted, and once. */
void hangup_watch(struct hangup *h)
{
	struct epoll_event ev = {.events = EPOLLET, .data.ptr = h};

	if (epoll_ctl(h->server->hangups, EPOLL_CTL_ADD, connection_fd(h->conn),
		    &ev) == 0)
		h->watching = true;
}

void hangup_unwatch(struct hangup *h)
{
	if (h->watching)
		epoll_ctl(h->server->hangups, EPOLL_CTL_DEL,
			connection_fd(h->conn), NULL);
	h->watching = false;
}

void api_server_hangups(struct api_server *s)
{
	struct epoll_event ev;

	/* One at a time: gone() may unwatch any other. */
	while (epoll_wait(s->hangups, &ev, 1, 0) == 1) {
		struct hangup *h = ev.data.ptr;

		hangup_unwatch(h);
		h->gone(h);
	}
}

static void quiesce(struct MHD_Daemon *mhd)
{
	int fd = MHD_quiesce_daemon(mhd);

	if (fd >= 0)
		close(fd);
}

void api_server_quiesce(struct api_server *s)
{
	quiesce(s->mhd);
	if (s->scrapes)
		quiesce(s->scrapes);
}

unsigned api_server_open_requests(const struct api_server *s)
{
	return s->open_requests;
}

void api_server_destroy(struct api_server *s)
{
	if (!s)
		return;
	MHD_stop_daemon(s->mhd);
	if (s->scrapes)
		MHD_stop_daemon(s->scrapes);
	close(s->hangups);
	free(s);
}
