/*
 * Bodies of requests: the first byte chooses the resource, the rest is the
 * body. What is taken must be within its bounds, and read back the same from
 * what the API shows of it; what is refused must be refused in plain words.
 */

#include "api/json.h"
#include "api/resources.h"
#include "tests/fuzz/fuzz.h"

#include <net/if.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void check(bool ok)
{
	if (!ok)
		abort();
}

static int read_document(
	struct json_object *o, struct vm_config *c, struct error *err)
{
	bool start;

	return document_read(o, c, &start, err);
}

static int read_machine(
	struct json_object *o, struct vm_config *c, struct error *err)
{
	return machine_config_read(o, false, c, err);
}

static int read_machine_part(
	struct json_object *o, struct vm_config *c, struct error *err)
{
	return machine_config_read(o, true, c, err);
}

static int read_drive(
	struct json_object *o, struct vm_config *c, struct error *err)
{
	return drive_read(o, "drives", NULL, c, err);
}

static int read_net(
	struct json_object *o, struct vm_config *c, struct error *err)
{
	return network_interface_read(o, "network-interfaces", NULL, c, err);
}

static int read_pmem(
	struct json_object *o, struct vm_config *c, struct error *err)
{
	return pmem_read(o, "pmem", NULL, c, err);
}

enum resource {
	DOCUMENT,
	BOOT_SOURCE,
	MACHINE,
	MACHINE_PART,
	DRIVE,
	NET,
	PMEM,
	VSOCK,
	ENTROPY,
	SERIAL,
	BALLOON,
	MEMORY_HOTPLUG,
	CPU_CONFIG,
	MMDS_CONFIG,
	RESOURCES
};

static int (*const readers[RESOURCES])(
	struct json_object *o, struct vm_config *c, struct error *err) = {
	[DOCUMENT] = read_document,
	[BOOT_SOURCE] = boot_source_read,
	[MACHINE] = read_machine,
	[MACHINE_PART] = read_machine_part,
	[DRIVE] = read_drive,
	[NET] = read_net,
	[PMEM] = read_pmem,
	[VSOCK] = vsock_read,
	[ENTROPY] = entropy_read,
	[SERIAL] = serial_read,
	[BALLOON] = balloon_read,
	[MEMORY_HOTPLUG] = memory_hotplug_read,
	[CPU_CONFIG] = cpu_config_read,
	[MMDS_CONFIG] = mmds_config_read,
};

/* A refusal is printed into JSON and logs. */
static void check_refused(const struct error *err)
{
	check(err->code > 0 && err->msg[0]);
	for (const char *p = err->field; *p; p++)
		check(*p >= 0x20 && *p < 0x7f);
	for (const char *p = err->msg; *p; p++)
		check(*p >= 0x20 && *p < 0x7f);
}

static void check_cpu(const struct vm_config *c)
{
	check(c->cpu.n_cpuid <= VM_MAX_CPUID_MODS &&
		c->cpu.n_msrs <= VM_MAX_MSR_MODS &&
		c->cpu.n_caps <= VM_MAX_KVM_CAPS);
	for (unsigned i = 0; i < c->cpu.n_cpuid; i++)
		check(c->cpu.cpuid[i].reg <= VM_CPUID_EDX &&
			!(c->cpu.cpuid[i].keep & c->cpu.cpuid[i].set));
	for (unsigned i = 0; i < c->cpu.n_msrs; i++)
		check(!(c->cpu.msrs[i].keep & c->cpu.msrs[i].set));
	check(c->machine_config.cpu_template == VM_CPU_TEMPLATE_NONE ||
		c->cpu.n_cpuid + c->cpu.n_msrs + c->cpu.n_caps == 0);
}

static void check_bucket(const struct vm_bucket *b)
{
	check((b->size == 0) == (b->refill_time_ms == 0));
	check(b->size || !b->one_time_burst);
	check(b->size <= INT64_MAX && b->one_time_burst <= INT64_MAX);
	/* In ns it fits as well. */
	check(b->refill_time_ms <= INT64_MAX / 1000000);
}

static void check_limiter(const struct vm_rate_limiter *l)
{
	check_bucket(&l->bandwidth);
	check_bucket(&l->ops);
}

static void check_net(const struct vm_config *c, unsigned at)
{
	const struct vm_net *n = &c->nets[at];

	check(strlen(n->iface_id) <= VM_ID_MAX);
	check(vm_config_find_net(c, n->iface_id) == (int)at);
	check(n->host_dev_name[0] && strlen(n->host_dev_name) < IFNAMSIZ);
	check(!strchr(n->host_dev_name, '/') && !strchr(n->host_dev_name, '%'));
	check(!n->bridge || (n->bridge[0] && strlen(n->bridge) < IFNAMSIZ));
	/* A name in a directory, and nothing else. */
	check(!n->netns || (n->netns[0] && !strchr(n->netns, '/') &&
				   strcmp(n->netns, ".") != 0 &&
				   strcmp(n->netns, "..") != 0));
	check(!n->guest_mac || (strlen(n->guest_mac) == 17 &&
				       !strpbrk(n->guest_mac, "ABCDEF")));
	check(n->mtu == 0 || (n->mtu >= 68 && n->mtu <= 65535));
	check(n->queue_pairs >= 1 && n->queue_pairs <= VM_MAX_QUEUE_PAIRS);
	check_limiter(&n->rx_rate_limiter);
	check_limiter(&n->tx_rate_limiter);
}

static void check_devices(const struct vm_config *c)
{
	const struct vm_memory_hotplug *h = &c->memory_hotplug;
	unsigned roots = 0;

	check(c->n_nets <= VM_MAX_NETS && c->n_pmem <= VM_MAX_PMEM);
	for (unsigned i = 0; i < c->n_nets; i++)
		check_net(c, i);
	for (unsigned i = 0; i < c->n_drives; i++)
		roots += c->drives[i].is_root_device;
	for (unsigned i = 0; i < c->n_pmem; i++) {
		check(strlen(c->pmem[i].id) <= VM_ID_MAX);
		check(vm_config_find_pmem(c, c->pmem[i].id) == (int)i);
		check(c->pmem[i].path_on_host[0]);
		check(!c->pmem[i].root_device || i == 0);
		roots += c->pmem[i].root_device;
		check_limiter(&c->pmem[i].rate_limiter);
	}
	check(roots <= 1);
	if (c->vsock.uds_path)
		check(c->vsock.guest_cid >= 3 &&
			c->vsock.guest_cid < UINT32_MAX &&
			c->vsock.uds_path[0] &&
			strlen(c->vsock.uds_path) + strlen("_4294967295") <=
				107);
	check(c->balloon.amount_mib <= UINT32_MAX / 256);
	check(!h->there ||
		(h->block_size_mib >= 2 && h->slot_size_mib >= 128 &&
			h->total_size_mib >= 128 &&
			!(h->block_size_mib & (h->block_size_mib - 1))));
	check(c->mmds.n_interfaces <= VM_MAX_NETS);
	check_cpu(c);
	check_limiter(&c->entropy.rate_limiter);
	check_limiter(&c->serial.rate_limiter);
}

/* What passes the check keeps what the VM relies on. */
static void check_whole(const struct vm_config *c)
{
	const struct vm_memory_hotplug *h = &c->memory_hotplug;
	struct error err = {0};

	if (vm_config_check(c, 0, &err) < 0) {
		check_refused(&err);
		return;
	}
	check(vm_config_count_devices(c) <= VM_MAX_VIRTIO);
	check(!c->balloon.there ||
		c->balloon.amount_mib <= c->machine_config.mem_size_mib);
	check(!h->there || (h->total_size_mib % h->slot_size_mib == 0 &&
				   h->slot_size_mib % h->block_size_mib == 0 &&
				   h->requested_size_mib <= h->total_size_mib));
}

static void check_config(const struct vm_config *c)
{
	char cmdline[VM_CMDLINE_MAX];
	struct error err;

	check(c->machine_config.vcpu_count >= 1 &&
		c->machine_config.vcpu_count <= VM_MAX_VCPUS);
	check(c->machine_config.mem_size_mib >= 1);
	check(!c->machine_config.track_dirty_pages);
	check(c->n_drives <= VM_MAX_DRIVES && c->n_labels <= VM_MAX_LABELS);
	for (unsigned i = 0; i < c->n_drives; i++) {
		const struct vm_drive *d = &c->drives[i];

		check(strlen(d->drive_id) <= VM_ID_MAX && d->path_on_host[0]);
		check(!d->is_root_device || i == 0);
		check(vm_config_find_drive(c, d->drive_id) == (int)i);
		check_limiter(&d->rate_limiter);
	}
	check_devices(c);
	check_whole(c);
	if (vm_config_cmdline(c, cmdline, &err) == 0)
		check(strlen(cmdline) < VM_CMDLINE_MAX);
	else
		check_refused(&err);
}

/* The API shows a VM as the document it could have been created with. */
static struct json_object *show(const struct vm_config *c)
{
	struct json_object *o = json_object_new_object();

	document_write(o, c);
	json_object_object_add(o, "labels", labels_write(c));
	return o;
}

static void check_round_trip(const struct vm_config *c)
{
	_cleanup_json_ struct json_object *shown = show(c), *parsed, *again;
	const char *text =
		json_object_to_json_string_ext(shown, JSON_C_TO_STRING_PLAIN);
	struct vm_config back;
	struct error err;
	bool start;

	again = NULL;
	parsed = json_parse(text, strlen(text), &err);
	check(parsed != NULL);
	vm_config_init(&back);
	check(document_read(parsed, &back, &start, &err) == 0);
	again = show(&back);
	check(json_object_equal(shown, again));
	vm_config_fini(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_json_ struct json_object *o = NULL;
	struct vm_config c;
	struct error err = {0};

	if (size == 0)
		return 0;
	o = json_parse((const char *)data + 1, size - 1, &err);
	if (!o) {
		check_refused(&err);
		return 0;
	}
	vm_config_init(&c);
	if (readers[data[0] % RESOURCES](o, &c, &err) == 0) {
		check_config(&c);
		check_round_trip(&c);
	} else {
		check_refused(&err);
	}
	vm_config_fini(&c);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	static const struct {
		enum resource what;
		const char *body;
	} seeds[] = {
		{DOCUMENT, "{\"boot-source\":{\"kernel_image_path\":\"/k\"},"
			   "\"machine-config\":{\"vcpu_count\":2,"
			   "\"mem_size_mib\":64,\"smt\":true},"
			   "\"drives\":[{\"drive_id\":\"a\",\"path_on_host\":"
			   "\"/d\",\"is_root_device\":true,\"partuuid\":"
			   "\"0a-1\",\"rate_limiter\":null}],"
			   "\"labels\":{\"k\":\"\\u00e9\xe2\x82\xac\"},"
			   "\"vsock\":null,\"start\":true}"},
		{BOOT_SOURCE, "{\"kernel_image_path\":\"/k\",\"initrd_path\":"
			      "\"/i\",\"boot_args\":\"a b -- c\"}"},
		{MACHINE, "{\"vcpu_count\":32,\"mem_size_mib\":4294967295,"
			  "\"huge_pages\":\"None\",\"cpu_template\":\"None\"}"},
		{MACHINE_PART, "{\"mem_size_mib\":1}"},
		{DRIVE, "{\"drive_id\":\"d\",\"path_on_host\":\"/d\","
			"\"is_root_device\":false,\"cache_type\":"
			"\"Writeback\",\"io_engine\":\"Async\"}"},
		{DOCUMENT, "{\"network-interfaces\":[{\"iface_id\":\"e\","
			   "\"host_dev_name\":\"t\"}],\"pmem\":[{\"id\":\"p\","
			   "\"path_on_host\":\"/p\",\"root_device\":true}],"
			   "\"vsock\":{\"guest_cid\":3,\"uds_path\":\"/v\"},"
			   "\"entropy\":{},\"serial\":{},\"balloon\":{"
			   "\"amount_mib\":8,\"deflate_on_oom\":true},"
			   "\"memory-hotplug\":{\"total_size_mib\":256}}"},
		{NET, "{\"iface_id\":\"e\",\"host_dev_name\":\"tap0\","
		      "\"create\":true,\"bridge\":\"br0\",\"netns\":\"n\","
		      "\"guest_mac\":\"06:00:AC:10:00:02\",\"mtu\":68,"
		      "\"queue_pairs\":8,\"rx_rate_limiter\":{\"bandwidth\":"
		      "{\"size\":9223372036854775807,\"one_time_burst\":1,"
		      "\"refill_time\":9223372036854}},"
		      "\"tx_rate_limiter\":{\"ops\":{\"size\":0,"
		      "\"refill_time\":0}}}"},
		{PMEM, "{\"id\":\"p\",\"path_on_host\":\"/p\","
		       "\"root_device\":false,\"read_only\":true,"
		       "\"rate_limiter\":{}}"},
		{VSOCK, "{\"vsock_id\":\"v\",\"guest_cid\":4294967294,"
			"\"uds_path\":\"/v\"}"},
		{ENTROPY, "{\"rate_limiter\":{\"bandwidth\":{\"size\":1,"
			  "\"refill_time\":1}}}"},
		{SERIAL, "{\"serial_out_path\":null,\"rate_limiter\":null}"},
		{BALLOON, "{\"amount_mib\":16777215,\"deflate_on_oom\":false,"
			  "\"stats_polling_interval_s\":65535,"
			  "\"free_page_hinting\":true,"
			  "\"free_page_reporting\":true}"},
		{MEMORY_HOTPLUG,
			"{\"total_size_mib\":1024,\"block_size_mib\":4,"
			"\"slot_size_mib\":256,\"requested_size_mib\":8}"},
		{CPU_CONFIG, "{\"kvm_capabilities\":[\"!56\",\"1\"],"
			     "\"cpuid_modifiers\":[{\"leaf\":\"0x7\","
			     "\"subleaf\":\"0b1\",\"flags\":1,\"modifiers\":["
			     "{\"register\":\"ebx\",\"bitmap\":\"0b1x_01\"},"
			     "{\"register\":\"edx\",\"bitmap\":\"0bx\"}]}],"
			     "\"msr_modifiers\":[{\"addr\":\"0x10a\","
			     "\"bitmap\":\"0b1x0\"}],\"reg_modifiers\":null}"},
		{MMDS_CONFIG, "{\"version\":\"V2\",\"ipv4_address\":"
			      "\"169.254.170.2\",\"network_interfaces\":["
			      "\"e\"],\"imds_compat\":true}"},
	};
	size_t len;

	if (n >= sizeof(seeds) / sizeof(seeds[0]))
		return 0;
	len = strlen(seeds[n].body);
	check(len + 1 <= cap);
	buf[0] = (uint8_t)seeds[n].what;
	memcpy(buf + 1, seeds[n].body, len);
	return len + 1;
}
