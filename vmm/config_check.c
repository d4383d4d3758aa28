#include "vmm/config.h"

#include "vmm/kernel_args.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

unsigned vm_config_count_devices(const struct vm_config *c)
{
	return c->n_drives + c->n_nets + c->n_pmem +
	       (c->vsock.uds_path != NULL) + c->entropy.there +
	       c->balloon.there + c->memory_hotplug.there +
	       (c->machine_config.console == VM_CONSOLE_VIRTIO);
}

/* -1: it is none. */
static int hex_digit(char c)
{
	static const char digits[16] = "0123456789abcdef";
	const char *at =
		memchr(digits, tolower((unsigned char)c), sizeof(digits));

	return at ? (int)(at - digits) : -1;
}

bool vm_mac_parse(const char *text, uint8_t ret[6])
{
	const char between = ':';

	if (strlen(text) != 17)
		return false;
	for (unsigned i = 0; i < 6; i++) {
		const char *p = text + 3 * (size_t)i;
		int high = hex_digit(p[0]), low = hex_digit(p[1]);

		if (high < 0 || low < 0 || (i < 5 && p[2] != between))
			return false;
		ret[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static int check_machine(const struct vm_machine_config *m,
	uint64_t host_mem_mib, struct error *err)
{
	if (host_mem_mib && m->mem_size_mib > host_mem_mib)
		return error_field(err, EINVAL, "machine-config.mem_size_mib",
			"must be between 1 and %llu, the memory of this host",
			(unsigned long long)host_mem_mib);
	if (m->smt && m->vcpu_count > 1 && m->vcpu_count % 2)
		return error_field(err, EINVAL, "machine-config.vcpu_count",
			"must be 1 or even with smt");
	if (m->huge_pages == VM_PAGES_2M && m->mem_size_mib % 2)
		return error_field(err, EINVAL, "machine-config.mem_size_mib",
			"must be even with huge_pages 2M");
	return 0;
}

static bool same_string(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static int check_net(const struct vm_config *c, unsigned at, struct error *err)
{
	const struct vm_net *n = &c->nets[at];

	if (n->bridge && !n->create)
		return error_field(err, EINVAL, "network-interfaces.bridge",
			"goes with \"create\": true only");
	for (unsigned i = 0; i < at; i++) {
		const struct vm_net *o = &c->nets[i];

		if (n->guest_mac && same_string(n->guest_mac, o->guest_mac))
			return error_field(err, EINVAL,
				"network-interfaces.guest_mac",
				"%s is that of interface \"%s\" already",
				n->guest_mac, o->iface_id);
		if (same_string(n->host_dev_name, o->host_dev_name) &&
			same_string(n->netns, o->netns))
			return error_field(err, EINVAL,
				"network-interfaces.host_dev_name",
				"\"%s\" is that of interface \"%s\" already",
				n->host_dev_name, o->iface_id);
	}
	return 0;
}

static int check_hotplug(const struct vm_memory_hotplug *h, struct error *err)
{
	if (!h->there)
		return 0;
	if (h->slot_size_mib % h->block_size_mib)
		return error_field(err, EINVAL, "memory-hotplug.slot_size_mib",
			"must be a multiple of block_size_mib, %u",
			h->block_size_mib);
	if (h->total_size_mib % h->slot_size_mib)
		return error_field(err, EINVAL, "memory-hotplug.total_size_mib",
			"must be a multiple of slot_size_mib, %u",
			h->slot_size_mib);
	if (h->total_size_mib / h->slot_size_mib > VM_MAX_HOTPLUG_SLOTS)
		return error_field(err, EINVAL, "memory-hotplug.slot_size_mib",
			"must be larger: there may be %d slots at most",
			VM_MAX_HOTPLUG_SLOTS);
	if (h->requested_size_mib > h->total_size_mib ||
		h->requested_size_mib % h->block_size_mib)
		return error_field(err, EINVAL,
			"memory-hotplug.requested_size_mib",
			"must be between 0 and %u, and a multiple of %u",
			h->total_size_mib, h->block_size_mib);
	return 0;
}

static int check_mmds(const struct vm_config *c, struct error *err)
{
	const struct vm_mmds_config *m = &c->mmds;

	for (unsigned i = 0; i < m->n_interfaces; i++)
		if (vm_config_find_net(c, m->interfaces[i]) < 0)
			return error_field(err, EINVAL,
				"mmds-config.network_interfaces",
				"there is no network interface \"%s\"",
				m->interfaces[i]);
	return 0;
}

int vm_config_check(
	const struct vm_config *c, uint64_t host_mem_mib, struct error *err)
{
	const struct vm_machine_config *m = &c->machine_config;
	unsigned n = vm_config_count_devices(c);
	int r;

	r = check_machine(m, host_mem_mib, err);
	for (unsigned i = 0; r == 0 && i < c->n_nets; i++)
		r = check_net(c, i, err);
	if (r == 0)
		r = check_hotplug(&c->memory_hotplug, err);
	if (r == 0)
		r = check_mmds(c, err);
	if (r < 0)
		return r;
	if (c->balloon.there && c->balloon.amount_mib > m->mem_size_mib)
		return error_field(err, EINVAL, "balloon.amount_mib",
			"must be between 0 and %u, the memory of the VM",
			m->mem_size_mib);
	if (n > VM_MAX_VIRTIO)
		return error_field(err, EINVAL, "devices",
			"a VM has at most %d virtio devices of all kinds, this "
			"would be %u",
			VM_MAX_VIRTIO, n);
	return 0;
}

/* Which device the root file system is on, as the kernel calls it; NULL: none.
 */
static const char *root_device(
	const struct vm_config *c, const char **ret_uuid, bool *ret_read_only)
{
	*ret_uuid = NULL;
	if (c->n_drives > 0 && c->drives[0].is_root_device) {
		*ret_uuid = c->drives[0].partuuid;
		*ret_read_only = c->drives[0].is_read_only;
		return "/dev/vda";
	}
	if (c->n_pmem > 0 && c->pmem[0].root_device) {
		*ret_read_only = c->pmem[0].read_only;
		return "/dev/pmem0";
	}
	return NULL;
}

int vm_config_cmdline(const struct vm_config *c, char *buf, struct error *err)
{
	const char *args = c->boot_source.boot_args, *root, *uuid;
	bool read_only = false;
	size_t len;
	int n;

	if (!args && c->machine_config.console == VM_CONSOLE_VIRTIO)
		args = VM_DEFAULT_BOOT_ARGS_HVC;
	if (!args)
		args = VM_DEFAULT_BOOT_ARGS;
	len = kernel_args_len(args);
	root = root_device(c, &uuid, &read_only);
	if (!root)
		n = snprintf(buf, VM_CMDLINE_MAX, "%s", args);
	else
		n = snprintf(buf, VM_CMDLINE_MAX, "%.*s%sroot=%s%s %s%s%s",
			(int)len, args, len && args[len - 1] != ' ' ? " " : "",
			uuid ? "PARTUUID=" : root, uuid ? uuid : "",
			read_only ? "ro" : "rw", args[len] ? " " : "",
			args + len);
	if (n < 0 || n >= VM_CMDLINE_MAX)
		return error_field(err, EINVAL, "boot-source.boot_args",
			"the command line with root= is longer than %d bytes",
			VM_CMDLINE_MAX - 1);
	return 0;
}
