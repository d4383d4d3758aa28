#include "vmm/config.h"

#include "vmm/kernel_args.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void vm_config_init(struct vm_config *c)
{
	*c = (struct vm_config){
		.machine_config = {.vcpu_count = 1, .mem_size_mib = 128}};
}

void vm_boot_source_fini(struct vm_boot_source *b)
{
	free(b->kernel_image_path);
	free(b->initrd_path);
	free(b->boot_args);
	*b = (struct vm_boot_source){NULL};
}

void vm_drive_fini(struct vm_drive *d)
{
	free(d->drive_id);
	free(d->path_on_host);
	free(d->partuuid);
	*d = (struct vm_drive){NULL};
}

void vm_config_fini(struct vm_config *c)
{
	vm_boot_source_fini(&c->boot_source);
	for (unsigned i = 0; i < c->n_drives; i++)
		vm_drive_fini(&c->drives[i]);
	for (unsigned i = 0; i < c->n_labels; i++) {
		free(c->labels[i].key);
		free(c->labels[i].value);
	}
	free(c->labels);
	vm_config_init(c);
}

/* Leaves *ret NULL for NULL. */
static int copy_string(char **ret, const char *s)
{
	*ret = s ? strdup(s) : NULL;
	return s && !*ret ? -ENOMEM : 0;
}

static int copy_drive(struct vm_drive *ret, const struct vm_drive *d)
{
	*ret = *d;
	ret->drive_id = ret->path_on_host = ret->partuuid = NULL;
	if (copy_string(&ret->drive_id, d->drive_id) < 0 ||
		copy_string(&ret->path_on_host, d->path_on_host) < 0 ||
		copy_string(&ret->partuuid, d->partuuid) < 0)
		return -ENOMEM;
	return 0;
}

static int copy_into(struct vm_config *ret, const struct vm_config *c)
{
	const struct vm_boot_source *b = &c->boot_source;
	struct vm_boot_source *to = &ret->boot_source;

	ret->machine_config = c->machine_config;
	if (copy_string(&to->kernel_image_path, b->kernel_image_path) < 0 ||
		copy_string(&to->initrd_path, b->initrd_path) < 0 ||
		copy_string(&to->boot_args, b->boot_args) < 0)
		return -ENOMEM;
	for (unsigned i = 0; i < c->n_drives; i++) {
		ret->n_drives++;
		if (copy_drive(&ret->drives[i], &c->drives[i]) < 0)
			return -ENOMEM;
	}
	for (unsigned i = 0; i < c->n_labels; i++) {
		char *key = strdup(c->labels[i].key);
		char *value = strdup(c->labels[i].value);

		if (vm_config_add_label(ret, key, value) < 0)
			return -ENOMEM;
	}
	return 0;
}

int vm_config_copy(struct vm_config *ret, const struct vm_config *c)
{
	vm_config_init(ret);
	if (copy_into(ret, c) < 0) {
		vm_config_fini(ret);
		return -ENOMEM;
	}
	return 0;
}

int vm_config_find_drive(const struct vm_config *c, const char *drive_id)
{
	for (unsigned i = 0; i < c->n_drives; i++)
		if (strcmp(c->drives[i].drive_id, drive_id) == 0)
			return (int)i;
	return -1;
}

int vm_config_put_drive(
	struct vm_config *c, struct vm_drive *d, struct error *err)
{
	int at = vm_config_find_drive(c, d->drive_id);
	struct vm_drive taken = *d;

	*d = (struct vm_drive){NULL};
	/* The root drive is first, so no other place needs a look. */
	if (taken.is_root_device && c->n_drives > 0 &&
		c->drives[0].is_root_device && at != 0) {
		vm_drive_fini(&taken);
		return error_field(err, EINVAL, "drives.is_root_device",
			"drive \"%s\" is the root device already",
			c->drives[0].drive_id);
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

int vm_config_add_label(struct vm_config *c, char *key, char *value)
{
	struct vm_label *more = NULL;

	if (key && value)
		more = reallocarray(
			c->labels, c->n_labels + 1u, sizeof(*c->labels));
	if (!more) {
		free(key);
		free(value);
		return -ENOMEM;
	}
	c->labels = more;
	c->labels[c->n_labels++] = (struct vm_label){key, value};
	return 0;
}

int vm_config_check(
	const struct vm_config *c, uint64_t host_mem_mib, struct error *err)
{
	const struct vm_machine_config *m = &c->machine_config;

	if (host_mem_mib && m->mem_size_mib > host_mem_mib)
		return error_field(err, EINVAL, "machine-config.mem_size_mib",
			"must be between 1 and %llu, the memory of this host",
			(unsigned long long)host_mem_mib);
	if (m->smt && m->vcpu_count > 1 && m->vcpu_count % 2)
		return error_field(err, EINVAL, "machine-config.vcpu_count",
			"must be 1 or even with smt");
	return 0;
}

int vm_config_cmdline(const struct vm_config *c, char *buf, struct error *err)
{
	const char *args = c->boot_source.boot_args;
	const struct vm_drive *root = &c->drives[0];
	size_t len;
	int n;

	if (!args)
		args = VM_DEFAULT_BOOT_ARGS;
	len = kernel_args_len(args);
	if (c->n_drives == 0 || !root->is_root_device)
		n = snprintf(buf, VM_CMDLINE_MAX, "%s", args);
	else
		n = snprintf(buf, VM_CMDLINE_MAX, "%.*s%sroot=%s%s %s%s%s",
			(int)len, args, len && args[len - 1] != ' ' ? " " : "",
			root->partuuid ? "PARTUUID=" : "/dev/vda",
			root->partuuid ? root->partuuid : "",
			root->is_read_only ? "ro" : "rw", args[len] ? " " : "",
			args + len);
	if (n < 0 || n >= VM_CMDLINE_MAX)
		return error_field(err, EINVAL, "boot-source.boot_args",
			"the command line with root= is longer than %d bytes",
			VM_CMDLINE_MAX - 1);
	return 0;
}
