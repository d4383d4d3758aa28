#include "vmm/vm_parts.h"

#include <errno.h>
#include <string.h>

_Static_assert(NET_MAX_PAIRS == VM_MAX_QUEUE_PAIRS, "as many as can be asked");

static void on_net_error(void *arg, int code)
{
	struct vm_slot *slot = arg;
	struct vm *vm = slot->vm;

	for (unsigned i = 0; i < VM_MAX_NETS; i++)
		if (vm->nets[i] == slot->dev)
			vm_events_net_error(&vm->events, i, code);
}

static int create_net(struct vm *vm, unsigned index, const struct msg_net *net,
	const int *tap_fds, struct error *err)
{
	struct net_config config = {
		.tap_fds = tap_fds,
		.n_pairs = net->n_pairs,
		.has_mac = net->has_mac,
		.mtu = net->mtu,
		.tap_features = net->tap_features,
		.rx_limiter = net->rx_limiter,
		.tx_limiter = net->tx_limiter,
		.stats = &vm->shared->net[index],
		.mmds = net->mmds ? vm->mmds : NULL,
		.on_error = on_net_error,
	};
	struct worker *worker;
	struct vm_slot *slot = NULL;
	int r;

	memcpy(config.mac, net->mac, sizeof(config.mac));
	r = vm_worker(vm, VM_WORKER_NET, &worker, err);
	if (r == 0)
		r = vm_slot_take(vm, &slot, err);
	if (r < 0)
		return r;
	config.arg = slot;
	r = net_create(&vm->nets[index], worker, &config, err);
	return r < 0 ? r : vm_slot_plug(slot, vm->nets[index], err);
}

int vm_create_nets(struct vm *vm, const struct msg_start *start, const int *fds,
	struct error *err)
{
	struct msg_start_fds at;

	msg_start_fds(start, &at);
	for (unsigned i = 0; i < start->n_nets; i++)
		if (create_net(vm, i, &start->nets[i], fds + at.nets[i], err) <
			0)
			return error_wrap(err, "network interface %u", i);
	return 0;
}

int vm_limit_net(struct vm *vm, unsigned index, bool rx,
	const struct rate_limiter_update *u)
{
	if (index >= VM_MAX_NETS || !vm->nets[index])
		return -EINVAL;
	return rx ? net_limit_rx(vm->nets[index], u)
		  : net_limit_tx(vm->nets[index], u);
}
