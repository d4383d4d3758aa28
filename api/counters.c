#include "api/counters.h"

#include "api/resources.h"

/* NOLINTBEGIN(bugprone-macro-parentheses): types and members */
#define C(type, member, text)                                                  \
	{                                                                      \
		.name = #member, .help = (text),                               \
		.offset = offsetof(type, member)                               \
	}
#define N(a) (sizeof(a) / sizeof((a)[0]))

#define EXITS(member, reason)                                                  \
	{                                                                      \
		.name = #member,                                               \
		.help = "vCPU exits to the VMM: an I/O port (pio), a "         \
			"register (mmio), a call out of the guest "            \
			"(interrupted), other",                                \
		.offset = offsetof(struct api_counters, member),               \
		.family = "exits", .label = "reason", .value = (reason)        \
	}

static const struct counter general[] = {
	EXITS(exits_pio, "pio"),
	EXITS(exits_mmio, "mmio"),
	EXITS(exits_other, "other"),
	EXITS(exits_interrupted, "interrupted"),
	C(struct api_counters, guest_faults,
		"malformed rings and registers, of all devices"),
	C(struct api_counters, console_limited,
		"bytes of console output a rate limiter threw away"),
	{.name = "memory_resident_bytes",
		.help = "memory of its process, what the guest has touched "
			"among it",
		.offset = offsetof(struct api_counters, memory_resident_bytes),
		.gauge = true},
};

#define DRIVE(member, text) C(struct api_drive_stats, member, text)

static const struct counter drive[] = {
	DRIVE(reads, "read requests"),
	DRIVE(writes, "write requests"),
	DRIVE(flushes, "flush requests"),
	DRIVE(discards, "discard requests"),
	DRIVE(write_zeroes, "write-zeroes requests"),
	DRIVE(others, "other requests"),
	DRIVE(read_bytes, "bytes read"),
	DRIVE(write_bytes, "bytes written"),
	DRIVE(throttled, "times a rate limiter made the drive wait"),
	DRIVE(errors, "requests that failed on the host"),
	DRIVE(malformed, "requests refused as the guest's fault"),
};

#define DRIVE_TIME(op)                                                         \
	{                                                                      \
		.name = "request_duration_seconds",                            \
		.help = "from taking a request out of the ring to giving it "  \
			"back, throttled time included",                       \
		.offset = offsetof(struct api_drive_stats, op##_time),         \
		.label = "op", .value = #op                                    \
	}

static const struct counter_histogram drive_times[] = {
	DRIVE_TIME(read),
	DRIVE_TIME(write),
	DRIVE_TIME(flush),
};

#define NET(member, text) C(struct api_net_stats, member, text)

static const struct counter net[] = {
	NET(rx_packets, "packets to the guest"),
	NET(rx_bytes, "bytes to the guest"),
	NET(rx_dropped, "packets to the guest that were lost"),
	NET(rx_throttled, "times a rate limiter made reception wait"),
	NET(tx_packets, "packets of the guest"),
	NET(tx_bytes, "bytes of the guest"),
	NET(tx_dropped, "packets of the guest that were lost"),
	NET(tx_throttled, "times a rate limiter made transmission wait"),
	NET(tap_errors, "failures of the tap"),
	NET(malformed, "packets and commands refused as the guest's fault"),
	NET(mmds_rx_packets, "packets to the metadata service"),
	NET(mmds_tx_packets, "packets of the metadata service"),
};

static const struct counter_histogram net_times[] = {
	{.name = "tx_duration_seconds",
		.help = "from finding a packet in the ring to the tap having "
			"it, throttled time included",
		.offset = offsetof(struct api_net_stats, tx_time)},
};

#define PMEM(member, text) C(struct api_pmem_stats, member, text)

static const struct counter pmem[] = {
	PMEM(flushes, "flush requests"),
	PMEM(errors, "flushes that failed on the host"),
	PMEM(throttled, "times a rate limiter made the device wait"),
	PMEM(malformed, "requests refused as the guest's fault"),
};

#define SUB(device, member, text)                                              \
	{                                                                      \
		.name = #member, .help = (text),                               \
		.offset = offsetof(struct api_counters, device.member)         \
	}

#define GAUGE(device, member, text)                                            \
	{                                                                      \
		.name = #member, .help = (text),                               \
		.offset = offsetof(struct api_counters, device.member),        \
		.gauge = true                                                  \
	}
#define NOW(device, member, text)                                              \
	{                                                                      \
		.name = #member, .help = (text),                               \
		.offset = offsetof(struct api_counters, device.member),        \
		.gauge = true, .only_metrics = true                            \
	}

static const struct counter vsock[] = {
	GAUGE(vsock, connections, "connections there are"),
	SUB(vsock, opened, "connections opened"),
	SUB(vsock, refused, "connections refused"),
	SUB(vsock, resets, "connections reset"),
	SUB(vsock, rx_packets, "packets to the guest"),
	SUB(vsock, tx_packets, "packets of the guest"),
	SUB(vsock, rx_bytes, "bytes to the guest"),
	SUB(vsock, tx_bytes, "bytes of the guest"),
	SUB(vsock, errors, "failures on the host"),
	SUB(vsock, malformed, "packets refused as the guest's fault"),
};

static const struct counter entropy[] = {
	SUB(entropy, requests, "requests"),
	SUB(entropy, bytes, "random bytes given"),
	SUB(entropy, errors, "requests that failed on the host"),
	SUB(entropy, throttled, "times a rate limiter made the device wait"),
	SUB(entropy, malformed, "requests refused as the guest's fault"),
};

static const struct counter balloon[] = {
	SUB(balloon, inflated_pages, "4 KiB pages the guest gave up"),
	SUB(balloon, deflated_pages, "4 KiB pages the guest took back"),
	SUB(balloon, reported_bytes, "free bytes reported and taken"),
	SUB(balloon, hinted_bytes, "free bytes hinted at and taken"),
	SUB(balloon, errors, "pages the host could not take"),
	SUB(balloon, malformed, "requests refused as the guest's fault"),
	NOW(balloon, target_bytes, "what the guest is asked to give up"),
	NOW(balloon, actual_bytes, "what it has given up"),
};

static const struct counter memory[] = {
	SUB(memory, plugs, "blocks plugged"),
	SUB(memory, unplugs, "blocks unplugged"),
	SUB(memory, refused, "requests refused"),
	SUB(memory, malformed, "requests refused as the guest's fault"),
	NOW(memory, requested_bytes, "memory the guest is asked to plug"),
	NOW(memory, plugged_bytes, "memory it has plugged"),
};

static const struct counter mmds[] = {
	SUB(mmds, requests, "HTTP requests"),
	SUB(mmds, denied, "requests without a valid token"),
	SUB(mmds, not_found, "requests for what is not there"),
	SUB(mmds, malformed, "requests and packets that made no sense"),
	SUB(mmds, tokens, "tokens given"),
	SUB(mmds, connections, "connections accepted"),
};

#define SEVERAL(member, metric_name, id_member, label_name, type)              \
	.metric = (metric_name), .counters = metric_table_##member,            \
	.n = N(metric_table_##member), .id_name = #id_member,                  \
	.label = (label_name),                                                 \
	.there = offsetof(struct api_counters, n_##member),                    \
	.first = offsetof(struct api_counters, member),                        \
	.stride = sizeof(type), .id = offsetof(type, id_member)
#define metric_table_drives drive
#define metric_table_nets net
#define metric_table_pmem pmem
#define ONE(name, metric_name)                                                 \
	.metric = (metric_name), .counters = name, .n = N(name),               \
	.there = offsetof(struct api_counters, has_##name)

/* NOLINTEND(bugprone-macro-parentheses) */

const struct counter_group counter_groups[] = {
	{.metric = "", .counters = general, .n = N(general)},
	{.json = "drives",
		SEVERAL(drives, "drive_", drive_id, "drive",
			struct api_drive_stats),
		.histograms = drive_times,
		.n_histograms = N(drive_times)},
	{.json = "network-interfaces",
		SEVERAL(nets, "net_", iface_id, "iface", struct api_net_stats),
		.histograms = net_times,
		.n_histograms = N(net_times)},
	{.json = "pmem",
		SEVERAL(pmem, "pmem_", id, "pmem", struct api_pmem_stats)},
	{.json = "vsock", ONE(vsock, "vsock_")},
	{.json = "entropy", ONE(entropy, "entropy_")},
	{.json = "balloon", ONE(balloon, "balloon_")},
	{.json = "memory-hotplug", ONE(memory, "memory_hotplug_")},
	{.json = "mmds", ONE(mmds, "mmds_")},
};
const unsigned n_counter_groups = N(counter_groups);

static const void *at(const void *base, size_t offset)
{
	return (const char *)base + offset;
}

unsigned counter_devices(
	const struct counter_group *g, const struct api_counters *c)
{
	if (g->id_name)
		return *(const unsigned *)at(c, g->there);
	return g->json ? *(const bool *)at(c, g->there) : 1;
}

uint64_t counter_value(const struct counter_group *g, unsigned device,
	const struct counter *counter, const struct api_counters *c)
{
	return *(const uint64_t *)at(
		c, g->first + device * g->stride + counter->offset);
}

const struct histogram *counter_histogram(const struct counter_group *g,
	unsigned device, const struct counter_histogram *h,
	const struct api_counters *c)
{
	return at(c, g->first + device * g->stride + h->offset);
}

const char *counter_id(const struct counter_group *g, unsigned device,
	const struct api_counters *c)
{
	if (!g->id_name)
		return NULL;
	return *(const char *const *)at(
		c, g->first + device * g->stride + g->id);
}

static void write_device(struct json_object *o, const struct counter_group *g,
	unsigned device, const struct api_counters *c)
{
	for (unsigned i = 0; i < g->n; i++)
		if (!g->counters[i].only_metrics)
			json_add_uint(o, g->counters[i].name,
				counter_value(g, device, &g->counters[i], c));
}

static void write_group(struct json_object *o, const struct counter_group *g,
	const struct api_counters *c)
{
	struct json_object *a, *one;

	if (!g->id_name) {
		if (counter_devices(g, c))
			write_device(g->json ? json_add_object(o, g->json) : o,
				g, 0, c);
		return;
	}
	a = json_add_array(o, g->json);
	for (unsigned i = 0; i < counter_devices(g, c); i++) {
		one = json_object_new_object();
		json_add_string(one, g->id_name, counter_id(g, i, c));
		write_device(one, g, i, c);
		json_object_array_add(a, one);
	}
}

struct json_object *counters_write(const struct api_counters *c)
{
	struct json_object *o = json_object_new_object();

	for (unsigned i = 0; i < n_counter_groups; i++)
		write_group(o, &counter_groups[i], c);
	return o;
}
