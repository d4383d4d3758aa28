#include "vmm/starter.h"

#include "vmm/msg.h"

#define STACK_BYTES (256u << 10)

static void *run(void *arg)
{
	struct starter *s = arg;
	unsigned n_fds;

	pthread_setname_np(pthread_self(), "starter");
	s->asked = msg_recv(s->sock, MSG_VMM, s->msg, s->fds, &n_fds) == 1 &&
		   s->msg->hdr.type == MSG_START;
	if (s->asked)
		s->result = vm_create(s->vm, &s->msg->start, s->fds, &s->err);
	return NULL;
}

int starter_begin(struct starter *s, struct vm *vm, int sock, union msg *msg,
	int *fds, struct error *err)
{
	pthread_attr_t attr;
	int r;

	*s = (struct starter){.vm = vm, .sock = sock, .msg = msg, .fds = fds};
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	r = pthread_create(&s->thread, &attr, run, s);
	pthread_attr_destroy(&attr);
	return r > 0 ? error_errno(err, r, "a thread for the start") : 0;
}

void starter_wait(struct starter *s)
{
	pthread_join(s->thread, NULL);
}
