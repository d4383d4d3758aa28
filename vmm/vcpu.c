#include "vmm/vcpu.h"

#include "base/clock.h"
#include "vmm/kvm.h"
#include "vmm/vcpu_exit.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Only its arrival matters, and that an idle KVM_RUN ends by it. */
#define VCPU_SIGNAL SIGUSR1

/* Touched little: exits are handled a few frames deep. */
#define VCPU_STACK_BYTES (64u << 10)

static void on_signal(int sig)
{
	(void)sig;
}

int vcpus_init_signal(void)
{
	struct sigaction sa = {.sa_handler = on_signal};

	return sigaction(VCPU_SIGNAL, &sa, NULL) < 0 ? -errno : 0;
}

/* With the lock held. */
static void set_want(struct vcpus *s, enum vcpus_want want)
{
	s->want = want;
	if (want == VCPUS_RUN)
		return; /* each thread clears its own flag as it goes */
	for (unsigned i = 0; i < s->n; i++)
		if (s->cpu[i].run) /* not yet: then it does not run either */
			__atomic_store_n(&s->cpu[i].run->immediate_exit, 1,
				__ATOMIC_RELAXED);
}

static void signal_threads(struct vcpus *s)
{
	for (unsigned i = 0; i < s->n; i++)
		if (s->cpu[i].has_thread)
			pthread_kill(s->cpu[i].thread, VCPU_SIGNAL);
}

/* Waits while paused. False: the thread must end. */
static bool obey(struct vcpu *c)
{
	struct vcpus *s = c->set;
	bool run, waited = false;

	pthread_mutex_lock(&s->lock);
	if (s->want == VCPUS_PAUSE) {
		waited = true;
		s->parked++;
		pthread_cond_broadcast(&s->changed);
		while (s->want == VCPUS_PAUSE)
			pthread_cond_wait(&s->changed, &s->lock);
		s->parked--;
	}
	run = s->want == VCPUS_RUN;
	if (run)
		__atomic_store_n(&c->run->immediate_exit, 0, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&s->lock);
	/* -EINVAL from a guest without kvmclock: nothing to tell it. */
	if (run && waited && c->entered)
		(void)kvm_clock_ctrl(c->fd);
	c->entered = true;
	return run;
}

static void enter_loop(struct vcpu *c)
{
	struct vcpus *s = c->set;
	struct vcpu_end end;

	for (;;) {
		int r = kvm_run(c->fd);

		if (r == -EINTR) {
			__atomic_fetch_add(&c->counters->exits_interrupted, 1,
				__ATOMIC_RELAXED);
			if (!obey(c))
				return;
			continue;
		}
		if (r == -EAGAIN)
			continue; /* this vCPU just got its INIT or SIPI */
		if (r < 0)
			vcpu_exit_failed(c->fd, -r, &end);
		else if (vcpu_exit_handle(c->run, c->fd, s->config.pio,
				 s->config.mmio, c->counters,
				 &end) == VM_EXIT_NONE)
			continue;
		vcpus_end(s);
		s->config.ended(s->config.arg, end.reason, end.detail);
		return;
	}
}

/* What `top -H` shows; "vcpu31" is the longest. */
static void set_name(unsigned id)
{
	char name[16];

	(void)snprintf(name, sizeof(name), "vcpu%u", id);
	pthread_setname_np(pthread_self(), name);
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *c = arg;
	struct vcpus *s = c->set;
	int r;

	set_name(c->id);
	r = s->config.thread_start(s->config.arg);
	pthread_mutex_lock(&s->lock);
	s->started++;
	if (r < 0 && s->start_error == 0)
		s->start_error = r;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);

	if (r == 0 && obey(c)) {
		if (c->id == 0)
			__atomic_store_n(
				&s->config.shared
					 ->moments[VM_MOMENT_FIRST_ENTRY],
				clock_ns(), __ATOMIC_RELAXED);
		enter_loop(c);
	}

	pthread_mutex_lock(&s->lock);
	s->parked++;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static int start_threads(struct vcpus *s)
{
	pthread_attr_t attr;
	int r;

	r = pthread_attr_init(&attr);
	if (r != 0)
		return r;
	r = pthread_attr_setstacksize(&attr, VCPU_STACK_BYTES);
	for (unsigned i = 0; i < s->n && r == 0; i++) {
		struct vcpu *c = &s->cpu[i];

		r = pthread_create(&c->thread, &attr, vcpu_thread, c);
		c->has_thread = r == 0;
	}
	pthread_attr_destroy(&attr);
	return r;
}

int vcpus_begin(struct vcpus *s, unsigned n, const struct vcpus_config *config,
	struct error *err)
{
	int r;

	*s = (struct vcpus){.config = *config, .want = VCPUS_PAUSE, .n = n};
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	for (unsigned i = 0; i < n; i++) {
		s->cpu[i].set = s;
		s->cpu[i].id = i;
		s->cpu[i].fd = -1;
		s->cpu[i].counters = &config->shared->vcpu[i];
	}
	r = start_threads(s);
	return r > 0 ? error_errno(err, r, "starting vCPU threads") : 0;
}

static int create_one(struct vcpus *s, int vm, struct vcpu *c)
{
	struct kvm_run *run;
	int r;

	c->fd = kvm_create_vcpu(vm, c->id);
	if (c->fd < 0)
		return c->fd;
	r = kvm_map_run(c->fd, s->run_bytes, &run);
	if (r == 0)
		c->run = run;
	return r;
}

int vcpus_create(struct vcpus *s, int vm, int run_bytes, struct error *err)
{
	if (run_bytes < (int)sizeof(struct kvm_run))
		return error_set(err, EPROTO,
			"KVM's run page has %d bytes, less than its layout",
			run_bytes);
	s->run_bytes = (size_t)run_bytes;
	for (unsigned i = 0; i < s->n; i++) {
		int r = create_one(s, vm, &s->cpu[i]);

		if (r < 0)
			return error_errno(err, -r, "creating vCPU %u", i);
	}
	return 0;
}

int vcpus_ready(struct vcpus *s, struct error *err)
{
	int r;

	pthread_mutex_lock(&s->lock);
	while (s->started < s->n)
		pthread_cond_wait(&s->changed, &s->lock);
	r = s->start_error;
	pthread_mutex_unlock(&s->lock);
	return r < 0 ? error_errno(err, -r, "starting vCPU threads") : 0;
}

void vcpus_run(struct vcpus *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->want == VCPUS_PAUSE)
		set_want(s, VCPUS_RUN);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

int vcpus_pause(struct vcpus *s)
{
	int r = 0;

	pthread_mutex_lock(&s->lock);
	if (s->want == VCPUS_RUN) {
		set_want(s, VCPUS_PAUSE);
		signal_threads(s);
	}
	while (s->want == VCPUS_PAUSE && s->parked < s->n)
		pthread_cond_wait(&s->changed, &s->lock);
	if (s->want != VCPUS_PAUSE)
		r = -ESHUTDOWN;
	pthread_mutex_unlock(&s->lock);
	return r;
}

void vcpus_end(struct vcpus *s)
{
	pthread_mutex_lock(&s->lock);
	set_want(s, VCPUS_STOP);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

void vcpus_stop(struct vcpus *s)
{
	vcpus_end(s);
	signal_threads(s);
	for (unsigned i = 0; i < s->n; i++) {
		struct vcpu *c = &s->cpu[i];

		if (c->has_thread)
			pthread_join(c->thread, NULL);
		c->has_thread = false;
	}
}

void vcpus_destroy(struct vcpus *s)
{
	if (s->n == 0)
		return;
	vcpus_stop(s);
	for (unsigned i = 0; i < s->n; i++) {
		struct vcpu *c = &s->cpu[i];

		if (c->run)
			kvm_unmap_run(c->run, s->run_bytes);
		if (c->fd >= 0)
			close(c->fd);
	}
	s->n = 0;
}
