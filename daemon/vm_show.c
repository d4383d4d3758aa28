#include "daemon/vm.h"

#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a VM tells of itself stands in memory it can write: each value is loaded
 * once, and what it means is bounded where it could mean harm. */

_Static_assert(
	(int)API_MOMENTS == (int)VM_MOMENTS, "the API shows each moment");

static uint64_t load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

/* Only what can be true: after the request, and not in the future. */
static void show_moments(
	const struct vm *vm, const struct vm_shared *s, struct api_vm *ret)
{
	uint64_t now = clock_ns();

	ret->received_ns = vm->received_ns;
	for (unsigned i = 0; i < VM_MOMENTS; i++) {
		uint64_t at = load(&s->moments[i]);

		if (at > vm->received_ns && at <= now)
			ret->moments[i] = at - vm->received_ns;
	}
}

void vm_show(const struct vm *vm, struct api_vm *ret)
{
	const struct vm_shared *s = output_shared(vm->output);

	*ret = (struct api_vm){
		.id = vm->id,
		.number = vm->number,
		.state = vm_state_name(vm->state),
		.config = &vm->config,
		.pid = vm->process.jail.pid,
		.exit_detail = "",
		.started = s && vm->state != VM_STARTING,
	};
	if (vm->state == VM_EXITED ||
		(vm->state == VM_DELETING && vm->exit.reason)) {
		ret->exit_reason = vm_exit_reason_name(vm->exit.reason);
		ret->exit_detail = vm->exit.detail;
		ret->exit_status = vm->exit.status;
		ret->exit_signal = vm->exit.signal;
	}
	if (!s)
		return;
	ret->console_bytes = ring_head(output_ring(vm->output));
	ret->console_dropped =
		ring_oldest(output_ring(vm->output), ret->console_bytes);
	if (ret->started)
		show_moments(vm, s, ret);
}

/* Each kind of device. */

static void count_vcpus(const struct vm *vm, const struct vm_shared *s,
	struct api_counters *ret)
{
	for (unsigned i = 0; i < vm->config.machine_config.vcpu_count; i++) {
		const struct vcpu_counters *c = &s->vcpu[i];

		ret->exits_pio += load(&c->exits_pio);
		ret->exits_mmio += load(&c->exits_mmio);
		ret->exits_other += load(&c->exits_other);
		ret->exits_interrupted += load(&c->exits_interrupted);
	}
}

static void count_drives(const struct vm_config *c, const struct vm_shared *s,
	struct api_counters *ret)
{
	ret->n_drives = c->n_drives;
	for (unsigned i = 0; i < c->n_drives; i++) {
		const struct blk_stats *b = &s->blk[i];

		ret->drives[i] = (struct api_drive_stats){
			.drive_id = c->drives[i].drive_id,
			.reads = load(&b->reads),
			.writes = load(&b->writes),
			.flushes = load(&b->flushes),
			.others = load(&b->others),
			.read_bytes = load(&b->read_bytes),
			.write_bytes = load(&b->write_bytes),
			.errors = load(&b->errors),
			.malformed = load(&b->malformed),
			.discards = load(&b->discards),
			.write_zeroes = load(&b->write_zeroes),
			.throttled = load(&b->throttled),
		};
		histogram_load(&b->read_time, &ret->drives[i].read_time);
		histogram_load(&b->write_time, &ret->drives[i].write_time);
		histogram_load(&b->flush_time, &ret->drives[i].flush_time);
	}
}

static void count_nets(const struct vm_config *c, const struct vm_shared *s,
	struct api_counters *ret)
{
	ret->n_nets = c->n_nets;
	for (unsigned i = 0; i < c->n_nets; i++) {
		const struct net_stats *n = &s->net[i];

		ret->nets[i] = (struct api_net_stats){
			.iface_id = c->nets[i].iface_id,
			.rx_packets = load(&n->rx_packets),
			.rx_bytes = load(&n->rx_bytes),
			.rx_dropped = load(&n->rx_dropped),
			.rx_throttled = load(&n->rx_throttled),
			.tx_packets = load(&n->tx_packets),
			.tx_bytes = load(&n->tx_bytes),
			.tx_dropped = load(&n->tx_dropped),
			.tx_throttled = load(&n->tx_throttled),
			.tap_errors = load(&n->tap_errors),
			.malformed = load(&n->malformed),
			.mmds_rx_packets = load(&n->mmds_rx_packets),
			.mmds_tx_packets = load(&n->mmds_tx_packets),
		};
		histogram_load(&n->tx_time, &ret->nets[i].tx_time);
	}
}

static void count_pmem(const struct vm_config *c, const struct vm_shared *s,
	struct api_counters *ret)
{
	ret->n_pmem = c->n_pmem;
	for (unsigned i = 0; i < c->n_pmem; i++) {
		const struct pmem_stats *p = &s->pmem[i];

		ret->pmem[i] = (struct api_pmem_stats){
			.id = c->pmem[i].id,
			.flushes = load(&p->flushes),
			.errors = load(&p->errors),
			.throttled = load(&p->throttled),
			.malformed = load(&p->malformed),
		};
	}
}

static void count_vsock(const struct vsock_stats *v, struct api_counters *ret)
{
	ret->vsock.connections = load(&v->connections);
	ret->vsock.opened = load(&v->opened);
	ret->vsock.refused = load(&v->refused);
	ret->vsock.resets = load(&v->resets);
	ret->vsock.rx_packets = load(&v->rx_packets);
	ret->vsock.tx_packets = load(&v->tx_packets);
	ret->vsock.rx_bytes = load(&v->rx_bytes);
	ret->vsock.tx_bytes = load(&v->tx_bytes);
	ret->vsock.errors = load(&v->errors);
	ret->vsock.malformed = load(&v->malformed);
}

static void count_entropy(const struct rng_stats *r, struct api_counters *ret)
{
	ret->entropy.requests = load(&r->requests);
	ret->entropy.bytes = load(&r->bytes);
	ret->entropy.errors = load(&r->errors);
	ret->entropy.throttled = load(&r->throttled);
	ret->entropy.malformed = load(&r->malformed);
}

static void count_balloon(
	const struct balloon_state *b, struct api_counters *ret)
{
	ret->balloon.inflated_pages = load(&b->inflated_pages);
	ret->balloon.deflated_pages = load(&b->deflated_pages);
	ret->balloon.reported_bytes = load(&b->reported_bytes);
	ret->balloon.hinted_bytes = load(&b->hinted_bytes);
	ret->balloon.errors = load(&b->errors);
	ret->balloon.malformed = load(&b->malformed);
	ret->balloon.target_bytes = load(&b->target_pages) << 12;
	ret->balloon.actual_bytes = load(&b->actual_pages) << 12;
}

static void count_memory(const struct memdev_state *m, struct api_counters *ret)
{
	ret->memory.plugs = load(&m->plugs);
	ret->memory.unplugs = load(&m->unplugs);
	ret->memory.refused = load(&m->refused);
	ret->memory.malformed = load(&m->malformed);
	ret->memory.requested_bytes = load(&m->requested_bytes);
	ret->memory.plugged_bytes = load(&m->plugged_bytes);
}

static void count_mmds(const struct mmds_stats *m, struct api_counters *ret)
{
	ret->mmds.requests = load(&m->requests);
	ret->mmds.denied = load(&m->denied);
	ret->mmds.not_found = load(&m->not_found);
	ret->mmds.malformed = load(&m->malformed);
	ret->mmds.tokens = load(&m->tokens);
	ret->mmds.connections = load(&m->connections);
}

/* /proc/PID/statm: pages in all, pages resident, ... */
static uint64_t resident_bytes(pid_t pid)
{
	char path[40], text[64];
	const char *space;

	if (pid == 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	(void)file_read_text(AT_FDCWD, path, text, sizeof(text));
	space = strchr(text, ' ');
	return !space ? 0
		      : strtoull(space, NULL, 10) *
				(uint64_t)sysconf(_SC_PAGESIZE);
}

int vm_counters(const struct vm *vm, struct api_counters *ret)
{
	const struct vm_shared *s = output_shared(vm->output);
	const struct vm_config *c = &vm->config;

	if (!s || vm->state == VM_STARTING)
		return -ENODATA;
	*ret = (struct api_counters){
		.guest_faults = load(&s->guest_faults),
		.console_limited = load(&s->console_limited),
		.memory_resident_bytes = resident_bytes(vm->process.jail.pid),
		.has_memory_sample = vm->memory_pid &&
				     vm->memory_pid == vm->process.jail.pid,
		.memory_pss_bytes = vm->memory.pss_bytes,
		.memory_anonymous_bytes = vm->memory.anonymous_bytes,
		.has_vsock = c->vsock.uds_path != NULL,
		.has_entropy = c->entropy.there,
		.has_balloon = c->balloon.there,
		.has_memory = c->memory_hotplug.there,
		.has_mmds = c->mmds.there,
	};
	count_vcpus(vm, s, ret);
	count_drives(c, s, ret);
	count_nets(c, s, ret);
	count_pmem(c, s, ret);
	count_vsock(&s->vsock, ret);
	count_entropy(&s->rng, ret);
	count_balloon(&s->balloon, ret);
	count_memory(&s->memory, ret);
	count_mmds(&s->mmds, ret);
	return 0;
}

static uint64_t load_at_most(const uint64_t *p, uint64_t max)
{
	uint64_t n = load(p);

	return n < max ? n : max;
}

int vm_device_state(
	const struct vm *vm, struct api_device_state *ret, struct error *err)
{
	const struct vm_shared *s = output_shared(vm->output);
	const struct vm_config *c = &vm->config;
	uint64_t region = (uint64_t)c->memory_hotplug.total_size_mib << 20;
	uint64_t pages = ((uint64_t)c->machine_config.mem_size_mib << 8) +
			 (region >> 12);
	enum vm_state after = vm->state;

	if (vm_state_after(&after, VM_EV_UPDATE, err) < 0)
		return -err->code;
	if (!s)
		return vm_refuse_foreign(vm, err);
	*ret = (struct api_device_state){
		.balloon_target_pages =
			load_at_most(&s->balloon.target_pages, pages),
		.balloon_actual_pages =
			load_at_most(&s->balloon.actual_pages, pages),
		.hint_host_cmd =
			load_at_most(&s->balloon.hint_host_cmd, UINT32_MAX),
		.hint_guest_cmd =
			load_at_most(&s->balloon.hint_guest_cmd, UINT32_MAX),
		.memory_requested_bytes =
			load_at_most(&s->memory.requested_bytes, region),
		.memory_plugged_bytes =
			load_at_most(&s->memory.plugged_bytes, region),
	};
	for (unsigned i = 0; i < BALLOON_STATS_MAX; i++)
		ret->balloon_stats[i] = load(&s->balloon.stats[i]);
	return 0;
}

static struct api_event event_of(const struct vm *vm, enum api_event_kind kind)
{
	return (struct api_event){
		.kind = kind,
		.vm = vm->id,
		.labels = vm->config.labels,
		.n_labels = vm->config.n_labels,
		.pid = vm->process.jail.pid,
	};
}

void vm_publish(struct vm *vm, enum api_event_kind kind)
{
	struct api_event e = event_of(vm, kind);

	if (kind == API_EVENT_EXITED)
		e.reason = vm_exit_reason_name(vm->exit.reason);
	if (kind == API_EVENT_EXITED || kind == API_EVENT_OOM)
		e.detail = vm->exit.detail;
	events_publish(vm->env->events, &e);
	vm_log_event(vm, kind);
}

void vm_publish_throttled(
	const struct vm *vm, const char *device, const char *direction)
{
	struct api_event e = event_of(vm, API_EVENT_THROTTLED);

	e.device = device;
	e.detail = direction;
	events_publish(vm->env->events, &e);
}
