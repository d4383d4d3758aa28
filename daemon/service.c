#include "daemon/service.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

/* At most so often: a burst of VMs costs no message each. */
#define STATUS_NS 250000000ull

int service_socket(int *ret_fd, struct error *err)
{
	int n = sd_listen_fds(1), fd = SD_LISTEN_FDS_START;

	if (n < 0)
		return error_errno(err, -n, "LISTEN_FDS");
	if (n == 0)
		return 0;
	if (n > 1)
		return error_set(err, EINVAL,
			"%d sockets were handed over; there is use for one", n);
	if (sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) <= 0)
		return error_set(err, EINVAL,
			"what was handed over is no listening Unix stream "
			"socket");
	*ret_fd = fd;
	return 1;
}

static void tell_count(struct service *s)
{
	s->told = s->vms;
	sd_notifyf(0, "STATUS=%zu VM%s", s->vms, s->vms == 1 ? "" : "s");
}

static void on_status(struct loop_timer *t)
{
	tell_count((struct service *)((char *)t -
				      offsetof(struct service, status)));
}

static void on_watchdog(struct loop_timer *t)
{
	struct service *s =
		(struct service *)((char *)t -
				   offsetof(struct service, watchdog));

	sd_notify(0, "WATCHDOG=1");
	loop_set_timer(s->loop, t, clock_ns() + s->watchdog_ns);
}

void service_init(struct service *s, struct loop *loop)
{
	uint64_t us = 0;

	*s = (struct service){.loop = loop};
	s->status.fire = on_status;
	s->watchdog.fire = on_watchdog;
	/* Half of what is granted, as sd_watchdog_enabled(3) recommends. */
	if (sd_watchdog_enabled(0, &us) > 0)
		s->watchdog_ns = us * 1000 / 2;
}

void service_ready(struct service *s)
{
	s->ready = true;
	sd_notify(0, "READY=1");
	tell_count(s);
	if (s->watchdog_ns)
		on_watchdog(&s->watchdog);
}

void service_count(struct service *s, size_t n)
{
	s->vms = n;
	if (s->ready && n != s->told && !s->status.at)
		loop_set_timer(s->loop, &s->status, clock_ns() + STATUS_NS);
}

void service_stopping(struct service *s)
{
	sd_notify(0, "STOPPING=1");
	tell_count(s);
}
