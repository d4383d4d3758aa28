#include "vmm/config.h"

#include "base/cleanup.h"

#include <errno.h>
#include <string.h>

int vm_config_find_drive(const struct vm_config *c, const char *drive_id)
{
	for (unsigned i = 0; i < c->n_drives; i++)
		if (strcmp(c->drives[i].drive_id, drive_id) == 0)
			return (int)i;
	return -1;
}

int vm_config_find_net(const struct vm_config *c, const char *iface_id)
{
	for (unsigned i = 0; i < c->n_nets; i++)
		if (strcmp(c->nets[i].iface_id, iface_id) == 0)
			return (int)i;
	return -1;
}

int vm_config_find_pmem(const struct vm_config *c, const char *id)
{
	for (unsigned i = 0; i < c->n_pmem; i++)
		if (strcmp(c->pmem[i].id, id) == 0)
			return (int)i;
	return -1;
}

/* What is the root device, but for the drive or pmem device that is about to be
 * replaced (-1: none). A root device is first, so no other place needs a look.
 */
static int refuse_second_root(const struct vm_config *c, int drive_replaced,
	int pmem_replaced, const char *field, struct error *err)
{
	if (c->n_drives > 0 && c->drives[0].is_root_device &&
		drive_replaced != 0)
		return error_field(err, EINVAL, field,
			"drive \"%s\" is the root device already",
			c->drives[0].drive_id);
	if (c->n_pmem > 0 && c->pmem[0].root_device && pmem_replaced != 0)
		return error_field(err, EINVAL, field,
			"pmem device \"%s\" is the root device already",
			c->pmem[0].id);
	return 0;
}

int vm_config_put_drive(
	struct vm_config *c, struct vm_drive *d, struct error *err)
{
	int at = vm_config_find_drive(c, d->drive_id), r = 0;
	struct vm_drive taken = *d;

	*d = (struct vm_drive){NULL};
	if (taken.is_root_device)
		r = refuse_second_root(c, at, -1, "drives.is_root_device", err);
	if (r < 0) {
		vm_drive_fini(&taken);
		return r;
	}
	if (at < 0 && c->n_drives == VM_MAX_DRIVES) {
		vm_drive_fini(&taken);
		return error_field(err, EINVAL, "drives",
			"a VM has at most %d drives", VM_MAX_DRIVES);
	}
	if (at < 0)
		at = (int)c->n_drives++;
	else
		vm_drive_fini(&c->drives[at]);
	if (taken.is_root_device) {
		memmove(&c->drives[1], &c->drives[0],
			(size_t)at * sizeof(c->drives[0]));
		at = 0;
	}
	c->drives[at] = taken;
	return 0;
}

int vm_config_put_pmem(
	struct vm_config *c, struct vm_pmem *p, struct error *err)
{
	int at = vm_config_find_pmem(c, p->id), r = 0;
	struct vm_pmem taken = *p;

	*p = (struct vm_pmem){NULL};
	if (taken.root_device)
		r = refuse_second_root(c, -1, at, "pmem.root_device", err);
	if (r < 0) {
		vm_pmem_fini(&taken);
		return r;
	}
	if (at < 0 && c->n_pmem == VM_MAX_PMEM) {
		vm_pmem_fini(&taken);
		return error_field(err, EINVAL, "pmem",
			"a VM has at most %d pmem devices", VM_MAX_PMEM);
	}
	if (at < 0)
		at = (int)c->n_pmem++;
	else
		vm_pmem_fini(&c->pmem[at]);
	if (taken.root_device) {
		memmove(&c->pmem[1], &c->pmem[0],
			(size_t)at * sizeof(c->pmem[0]));
		at = 0;
	}
	c->pmem[at] = taken;
	return 0;
}

int vm_config_put_net(struct vm_config *c, struct vm_net *n, struct error *err)
{
	int at = vm_config_find_net(c, n->iface_id);
	struct vm_net taken = *n;

	*n = (struct vm_net){NULL};
	if (at < 0 && c->n_nets == VM_MAX_NETS) {
		vm_net_fini(&taken);
		return error_field(err, EINVAL, "network-interfaces",
			"a VM has at most %d network interfaces", VM_MAX_NETS);
	}
	if (at < 0)
		at = (int)c->n_nets++;
	else
		vm_net_fini(&c->nets[at]);
	c->nets[at] = taken;
	return 0;
}
