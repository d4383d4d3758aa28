#include "daemon/vm.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "daemon/admission.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>

/* A VM's own API socket, and the process it ends with. */

/* Out of descriptors: until it is tried again. */
#define PAUSE_NS 50000000u
/* Then others have their turn. */
#define ACCEPTS_MAX 16

/* ---- the socket ---- */

static struct vm *of_port(struct vm_port *p)
{
	return (struct vm *)((char *)p - offsetof(struct vm, port));
}

static void on_client(struct loop_source *s, uint32_t events)
{
	struct vm_port *p =
		(struct vm_port *)((char *)s -
				   offsetof(struct vm_port, listen));

	(void)events;
	for (int i = 0; i < ACCEPTS_MAX; i++) {
		int fd = accept4(
			p->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			api_port_add(p->api, fd);
			continue;
		}
		if (errno == EAGAIN || errno == ECONNABORTED)
			return;
		/* The client stays in the backlog, and the loop would come
		 * here at once. */
		loop_remove(of_port(p)->env->loop, &p->listen);
		loop_set_timer(of_port(p)->env->loop, &p->pause,
			clock_ns() + PAUSE_NS);
		return;
	}
}

static void on_pause_over(struct loop_timer *t)
{
	struct vm_port *p =
		(struct vm_port *)((char *)t - offsetof(struct vm_port, pause));
	struct loop *loop = of_port(p)->env->loop;

	if (loop_add(loop, &p->listen, p->socket.fd, EPOLLIN) < 0)
		loop_set_timer(loop, &p->pause, clock_ns() + PAUSE_NS);
}

static int open_socket(struct vm *vm, struct error *err)
{
	struct vm_port *p = &vm->port;
	int r;

	if (!vm->config.api_socket.path)
		return 0;
	if (api_socket_open(&p->socket, &vm->config.host,
		    &vm->config.api_socket, err) < 0)
		return -err->code;
	p->api = api_port_create(vm->env->server, vm->id);
	if (!p->api)
		return error_set(err, ENOMEM, "out of memory");
	r = loop_add(vm->env->loop, &p->listen, p->socket.fd, EPOLLIN);
	return r < 0 ? error_errno(err, -r, "epoll_ctl") : 0;
}

/* ---- the owner ---- */

static void on_owner_gone(struct loop_source *s, uint32_t events)
{
	struct vm *vm =
		(struct vm *)((char *)s - offsetof(struct vm, port.owner));

	(void)events;
	loop_remove(vm->env->loop, s);
	log_info("owner_gone", "vm=%s pid=%u", vm->id,
		vm->config.host.owner_pid);
	vm_shut_down(vm);
}

static int watch_owner(struct vm *vm, struct error *err)
{
	static const char field[] = "host.owner_pid";
	struct vm_host *h = &vm->config.host;
	struct vm_port *p = &vm->port;
	uint64_t began;
	int r;

	if (!h->owner_pid)
		return 0;
	p->owner_fd = pidfd_open((pid_t)h->owner_pid, 0);
	/* With the descriptor in hand the number is nobody else's. */
	began = p->owner_fd < 0 ? 0 : process_start_time((pid_t)h->owner_pid);
	if (began == 0 && errno != ESRCH && errno != ENOENT && errno != EINVAL)
		return error_errno(err, errno, "%s", field);
	if (began == 0)
		return error_field(err, EINVAL, field, "there is no process %u",
			h->owner_pid);
	if (h->owner_start_time && h->owner_start_time != began)
		return error_field(err, EINVAL, field,
			"process %u is not the one that was meant",
			h->owner_pid);
	h->owner_start_time = began;
	r = loop_add(vm->env->loop, &p->owner, p->owner_fd, EPOLLIN);
	return r < 0 ? error_errno(err, -r, "epoll_ctl") : 0;
}

static void on_orphaned(struct loop_timer *t)
{
	struct vm *vm =
		(struct vm *)((char *)t - offsetof(struct vm, port.orphaned));

	vm_shut_down(vm);
}

/* ---- both ---- */

void vm_port_init(struct vm *vm)
{
	vm->port = (struct vm_port){
		.socket.fd = -1,
		.listen = {-1, on_client},
		.pause.fire = on_pause_over,
		.owner_fd = -1,
		.owner = {-1, on_owner_gone},
		.orphaned.fire = on_orphaned,
	};
}

/* 0: it goes without it. */
static int lost(const struct vm *vm, const char *what, const struct error *err)
{
	char quoted[ERROR_MSG_MAX];

	if (admission_is_shortage(err))
		return -err->code;
	log_error("vm_port_lost", "vm=%s what=%s error=%s", vm->id, what,
		log_quote(quoted, sizeof(quoted), err->msg));
	return 0;
}

int vm_port_reopen(struct vm *vm, struct error *err)
{
	int r = 0;

	if (vm_open_logger(vm, &vm->config, err) < 0)
		r = lost(vm, "logger", err);
	if (r == 0 && vm_open_metrics(vm, &vm->config, err) < 0)
		r = lost(vm, "metrics", err);
	if (r < 0)
		return r;
	vm_resume_metrics(vm);
	if (open_socket(vm, err) < 0)
		r = lost(vm, "api_socket", err);
	if (r < 0 || watch_owner(vm, err) == 0)
		return r;
	if (!err->field[0]) /* it is not certain that it is gone */
		return -err->code;
	(void)lost(vm, "owner", err);
	/* Soon, when all that is known of it has been found. */
	return loop_set_timer(vm->env->loop, &vm->port.orphaned, clock_ns());
}

int vm_port_open(struct vm *vm, struct error *err)
{
	return watch_owner(vm, err) < 0 ? -err->code : open_socket(vm, err);
}

void vm_port_close(struct vm *vm)
{
	struct vm_port *p = &vm->port;

	loop_clear_timer(vm->env->loop, &p->pause);
	loop_remove(vm->env->loop, &p->listen);
	api_port_destroy(take_ptr(&p->api));
	api_socket_close(&p->socket, &vm->config.host, &vm->config.api_socket);
}

void vm_port_fini(struct vm *vm)
{
	vm_port_close(vm);
	loop_clear_timer(vm->env->loop, &vm->port.orphaned);
	loop_remove(vm->env->loop, &vm->port.owner);
	close_fd(&vm->port.owner_fd);
}
