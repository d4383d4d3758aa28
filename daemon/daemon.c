#include "daemon/daemon.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/tcp_listener.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

/* Before processes are made ahead. */
#define QUIET_NS 1000000u
/* ... but if there are so few, or less. */
#define POOL_LOW 16u
/* Stopping: for the last answers to be read by their clients. */
#define LAST_CALL_NS 3000000000ull

/* Each VM takes a handful of descriptors, each connection one. */
static void raise_fd_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return;
	l.rlim_cur = l.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &l) < 0)
		log_warn("fd_limit", "limit=%llu",
			(unsigned long long)l.rlim_cur);
}

/* ---- the pool ---- */

/*
 * A request is often followed by the next, and the making of a process takes
 * its CPU time from that one: while there are many others it waits until nobody
 * has asked for anything for a millisecond.
 */
static int idle_in_ms(void *arg)
{
	struct daemon *d = arg;

	/* Starts that are under way need the CPUs. */
	if (d->stopping || d->env.n_starting > 0 || !pool_wants(d->env.pool) ||
		!admission_has_spare(&d->admission))
		return -1;
	return pool_show(d->env.pool)->ready > POOL_LOW &&
			       clock_ns() - d->asked_ns < QUIET_NS
		       ? 1
		       : 0;
}

static void idle_work(void *arg)
{
	struct daemon *d = arg;

	admission_take_spare(&d->admission);
	pool_refill(d->env.pool);
}

/* It begins with the machine that a VM has which says nothing of it. */
static int open_pool(struct daemon *d, unsigned size, struct error *err)
{
	struct vm_config config;
	struct msg_prepare first;
	int r;

	vm_config_init(&config);
	if (d->env.procs.kvm_fd < 0)
		size = 0;
	r = size ? vm_fill_prepare(&d->env, &config, &first, err) : 0;
	vm_config_fini(&config);
	if (r == 0)
		r = pool_create(&d->env.pool, d->loop, &d->env.procs, size,
			&first, err);
	if (r == 0)
		loop_set_idle(d->loop, idle_in_ms, idle_work, d);
	return r;
}

/* ---- the end ---- */

/* The first signal stops the daemon in good order; there is no second. keep:
 * VMs that run go on, and wait for another daemon. */
static void stop(struct daemon *d, bool keep)
{
	struct vm *vm, *next;

	if (d->stopping)
		return;
	d->stopping = true;
	d->keep_vms = keep;
	log_info("stopping", "vms=%zu keep=%d", d->vms.n, keep);
	service_stopping(&d->service);
	api_server_quiesce(d->server);
	for (vm = TAILQ_FIRST(&d->vms.list); vm && !keep; vm = next) {
		next = TAILQ_NEXT(vm, link);
		vm_shut_down(vm);
	}
}

/* Those that start or go may finish that. */
static void leave_vms(struct daemon *d)
{
	struct vm *vm, *next;

	for (vm = TAILQ_FIRST(&d->vms.list); vm; vm = next) {
		next = TAILQ_NEXT(vm, link);
		/* Of an earlier daemon's start nobody waits for the answer. */
		if (vm->state == VM_DELETING ||
			(vm->state == VM_STARTING && !vm->process.jail.adopted))
			continue;
		registry_remove(&d->vms, vm);
		vm_leave(vm);
	}
}

static void on_signal(struct loop_source *s, uint32_t events)
{
	struct daemon *d =
		(struct daemon *)((char *)s - offsetof(struct daemon, signals));
	struct signalfd_siginfo info;

	(void)events;
	if (read(d->signal_fd, &info, sizeof(info)) == sizeof(info))
		stop(d, info.ssi_signo == SIGTERM);
}

static void on_http(struct loop_source *s, uint32_t events)
{
	struct daemon *d =
		(struct daemon *)((char *)s - offsetof(struct daemon, http));

	(void)events;
	d->asked_ns = clock_ns();
	api_server_run(d->server);
}

static void on_scrapes(struct loop_source *s, uint32_t events)
{
	(void)events;
	api_server_run((
		(struct daemon *)((char *)s - offsetof(struct daemon, scrapes)))
			       ->server);
}

static void on_hangups(struct loop_source *s, uint32_t events)
{
	(void)events;
	api_server_hangups((
		(struct daemon *)((char *)s - offsetof(struct daemon, hangups)))
				   ->server);
}

/* Before there is a thread: each has the mask of who made it. */
static int open_signals(struct daemon *d, struct error *err)
{
	sigset_t set;
	int r;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL); /* ignored, it would hide how a VM ended */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (d->signal_fd < 0)
		return error_errno(err, errno, "signalfd");
	d->signals.ready = on_signal;
	r = loop_add(d->loop, &d->signals, d->signal_fd, EPOLLIN);
	return r < 0 ? error_errno(err, -r, "epoll_ctl") : 0;
}

static int open_listener(
	struct daemon *d, const struct options *o, struct error *err)
{
	int fd, r = service_socket(&fd, err);

	if (r == 0)
		return listener_open(
			&d->listener, o->socket_path, o->socket_group, err);
	if (r > 0)
		listener_take(&d->listener, fd);
	return r;
}

/* For Prometheus, where it is asked for. */
static int listen_for_scrapes(
	struct daemon *d, const char *address, struct error *err)
{
	char listening[64];
	int fd;

	if (!address)
		return 0;
	fd = tcp_listen(address, listening, sizeof(listening), err);
	if (fd < 0)
		return fd;
	if (api_server_listen_scrapes(d->server, fd, err) < 0) {
		close(fd);
		return -err->code;
	}
	log_info("metrics_listening", "address=%s", listening);
	return 0;
}

static int open_server(
	struct daemon *d, const struct options *o, struct error *err)
{
	struct api_backend backend = {&daemon_backend, d};
	int fds[API_SERVER_FDS], r;

	if (open_listener(d, o, err) < 0 ||
		api_server_create(&d->server, &backend, d->listener.fd,
			o->idle_timeout_s, err) < 0)
		return -err->code;
	d->listener.fd = -1;
	d->env.server = d->server;
	if (listen_for_scrapes(d, o->metrics_listen, err) < 0)
		return -err->code;
	api_server_fds(d->server, fds);
	d->http.ready = on_http;
	d->scrapes.ready = on_scrapes;
	d->hangups.ready = on_hangups;
	r = loop_add(d->loop, &d->http, fds[API_SERVER_FD_HTTP], EPOLLIN);
	if (r == 0)
		r = loop_add(d->loop, &d->hangups, fds[API_SERVER_FD_HANGUPS],
			EPOLLIN);
	if (r == 0 && fds[API_SERVER_FD_SCRAPES] >= 0)
		r = loop_add(d->loop, &d->scrapes, fds[API_SERVER_FD_SCRAPES],
			EPOLLIN);
	return r < 0 ? error_errno(err, -r, "epoll_ctl") : 0;
}

int daemon_open(struct daemon *d, const struct options *o, struct error *err)
{
	*d = (struct daemon){
		.host.kvm_fd = -1,
		.listener = {.fd = -1, .dir_fd = -1},
		.signals.fd = -1,
		.http.fd = -1,
		.hangups.fd = -1,
		.scrapes.fd = -1,
		.signal_fd = -1,
		.state = {-1, -1, -1},
		.max_vms = o->max_vms,
	};
	if (registry_init(&d->vms) < 0)
		return error_set(err, ENOMEM, "out of memory");
	raise_fd_limit();
	if (loop_create(&d->loop, err) < 0 ||
		state_open(&d->state, o->state_dir, err) < 0 ||
		open_signals(d, err) < 0 || daemon_open_env(d, o, err) < 0 ||
		open_pool(d, o->pool, err) < 0 ||
		sampler_create(&d->sampler, d->loop, &d->vms, err) < 0 ||
		open_server(d, o, err) < 0)
		return -err->code;
	/* Clients wait until the loop runs. */
	return daemon_adopt_all(d, err);
}

static void on_last_call_over(struct loop_timer *t)
{
	loop_stop(((struct daemon *)((char *)t -
				     offsetof(struct daemon, last_call)))
			  ->loop);
}

static int prepare(void *arg)
{
	struct daemon *d = arg;
	int limit_ms;
	bool over;

	if (d->stopping && d->keep_vms)
		leave_vms(d);
	over = d->stopping && d->vms.n == 0;
	if (over)
		events_end(d->env.events);
	service_count(&d->service, d->vms.n);
	limit_ms = api_server_prepare(d->server);
	if (!over)
		return limit_ms;
	if (api_server_open_requests(d->server) == 0)
		loop_stop(d->loop);
	else if (!d->last_call.at)
		loop_set_timer(
			d->loop, &d->last_call, clock_ns() + LAST_CALL_NS);
	return limit_ms;
}

void daemon_run(struct daemon *d)
{
	d->last_call.fire = on_last_call_over;
	service_init(&d->service, d->loop);
	service_count(&d->service, d->vms.n);
	service_ready(&d->service);
	loop_run(d->loop, prepare, d);
}

void daemon_close(struct daemon *d)
{
	if (d->loop) {
		loop_remove(d->loop, &d->http);
		loop_remove(d->loop, &d->hangups);
		loop_remove(d->loop, &d->scrapes);
		loop_remove(d->loop, &d->signals);
	}
	orphans_fini(&d->orphans);
	listener_close(&d->listener);
	api_server_destroy(d->server);
	sampler_destroy(d->sampler);
	throttle_watch_fini(&d->throttle);
	pool_destroy(d->env.pool);
	if (d->env.procs.jail)
		jail_destroy(d->env.procs.jail);
	host_close(&d->host);
	close_fd(&d->signal_fd);
	state_close(&d->state);
	loop_destroy(d->loop);
	registry_fini(&d->vms);
	events_destroy(d->env.events);
}
