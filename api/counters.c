#include "api/resources.h"

/* One number of a struct: the API calls it as the struct does. */
struct counter {
	const char *name;
	size_t offset;
};

#define COUNTER(type, member)                                                  \
	{                                                                      \
#member, offsetof(type, member)                                \
	}
#define N(a) (sizeof(a) / sizeof((a)[0]))

static const struct counter general[] = {
	COUNTER(struct api_counters, exits_pio),
	COUNTER(struct api_counters, exits_mmio),
	COUNTER(struct api_counters, exits_other),
	COUNTER(struct api_counters, exits_interrupted),
	COUNTER(struct api_counters, guest_faults),
	COUNTER(struct api_counters, console_limited),
};

static const struct counter drive[] = {
	COUNTER(struct api_drive_stats, reads),
	COUNTER(struct api_drive_stats, writes),
	COUNTER(struct api_drive_stats, flushes),
	COUNTER(struct api_drive_stats, discards),
	COUNTER(struct api_drive_stats, write_zeroes),
	COUNTER(struct api_drive_stats, others),
	COUNTER(struct api_drive_stats, read_bytes),
	COUNTER(struct api_drive_stats, write_bytes),
	COUNTER(struct api_drive_stats, throttled),
	COUNTER(struct api_drive_stats, errors),
	COUNTER(struct api_drive_stats, malformed),
};

static const struct counter net[] = {
	COUNTER(struct api_net_stats, rx_packets),
	COUNTER(struct api_net_stats, rx_bytes),
	COUNTER(struct api_net_stats, rx_dropped),
	COUNTER(struct api_net_stats, rx_throttled),
	COUNTER(struct api_net_stats, tx_packets),
	COUNTER(struct api_net_stats, tx_bytes),
	COUNTER(struct api_net_stats, tx_dropped),
	COUNTER(struct api_net_stats, tx_throttled),
	COUNTER(struct api_net_stats, tap_errors),
	COUNTER(struct api_net_stats, malformed),
	COUNTER(struct api_net_stats, mmds_rx_packets),
	COUNTER(struct api_net_stats, mmds_tx_packets),
};

static const struct counter pmem[] = {
	COUNTER(struct api_pmem_stats, flushes),
	COUNTER(struct api_pmem_stats, errors),
	COUNTER(struct api_pmem_stats, throttled),
	COUNTER(struct api_pmem_stats, malformed),
};

#define SUB(device, member)                                                    \
	{                                                                      \
#member, offsetof(struct api_counters, device.member)          \
	}

static const struct counter vsock[] = {
	SUB(vsock, connections),
	SUB(vsock, opened),
	SUB(vsock, refused),
	SUB(vsock, resets),
	SUB(vsock, rx_packets),
	SUB(vsock, tx_packets),
	SUB(vsock, rx_bytes),
	SUB(vsock, tx_bytes),
	SUB(vsock, errors),
	SUB(vsock, malformed),
};

static const struct counter entropy[] = {
	SUB(entropy, requests),
	SUB(entropy, bytes),
	SUB(entropy, errors),
	SUB(entropy, throttled),
	SUB(entropy, malformed),
};

static const struct counter balloon[] = {
	SUB(balloon, inflated_pages),
	SUB(balloon, deflated_pages),
	SUB(balloon, reported_bytes),
	SUB(balloon, hinted_bytes),
	SUB(balloon, errors),
	SUB(balloon, malformed),
};

static const struct counter memory[] = {
	SUB(memory, plugs),
	SUB(memory, unplugs),
	SUB(memory, refused),
	SUB(memory, malformed),
};

static const struct counter mmds[] = {
	SUB(mmds, requests),
	SUB(mmds, denied),
	SUB(mmds, not_found),
	SUB(mmds, malformed),
	SUB(mmds, tokens),
	SUB(mmds, connections),
};

static void add(struct json_object *o, const struct counter *table, size_t n,
	const void *base)
{
	for (size_t i = 0; i < n; i++)
		json_add_uint(o, table[i].name,
			*(const uint64_t *)(const void *)((const char *)base +
							  table[i].offset));
}

/* One device of several of its kind. */
static void add_one(struct json_object *array, const char *id_name,
	const char *id, const struct counter *table, size_t n, const void *base)
{
	struct json_object *o = json_object_new_object();

	json_add_string(o, id_name, id);
	add(o, table, n, base);
	json_object_array_add(array, o);
}

struct json_object *counters_write(const struct api_counters *c)
{
	struct json_object *o = json_object_new_object(), *a;

	add(o, general, N(general), c);
	a = json_add_array(o, "drives");
	for (unsigned i = 0; i < c->n_drives; i++)
		add_one(a, "drive_id", c->drives[i].drive_id, drive, N(drive),
			&c->drives[i]);
	a = json_add_array(o, "network-interfaces");
	for (unsigned i = 0; i < c->n_nets; i++)
		add_one(a, "iface_id", c->nets[i].iface_id, net, N(net),
			&c->nets[i]);
	a = json_add_array(o, "pmem");
	for (unsigned i = 0; i < c->n_pmem; i++)
		add_one(a, "id", c->pmem[i].id, pmem, N(pmem), &c->pmem[i]);
	if (c->has_vsock)
		add(json_add_object(o, "vsock"), vsock, N(vsock), c);
	if (c->has_entropy)
		add(json_add_object(o, "entropy"), entropy, N(entropy), c);
	if (c->has_balloon)
		add(json_add_object(o, "balloon"), balloon, N(balloon), c);
	if (c->has_memory)
		add(json_add_object(o, "memory-hotplug"), memory, N(memory), c);
	if (c->has_mmds)
		add(json_add_object(o, "mmds"), mmds, N(mmds), c);
	return o;
}
