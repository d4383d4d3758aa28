#include "vmm/config.h"

#include "base/cleanup.h"

#include <errno.h>
#include <string.h>

/* A kind of struct that owns strings, and where in it they are. */
struct owner {
	size_t size;
	unsigned n;
	size_t at[5];
};

static const struct owner boot_source_owner = {sizeof(struct vm_boot_source), 3,
	{offsetof(struct vm_boot_source, kernel_image_path),
		offsetof(struct vm_boot_source, initrd_path),
		offsetof(struct vm_boot_source, boot_args)}};
static const struct owner drive_owner = {sizeof(struct vm_drive), 3,
	{offsetof(struct vm_drive, drive_id),
		offsetof(struct vm_drive, path_on_host),
		offsetof(struct vm_drive, partuuid)}};
static const struct owner net_owner = {sizeof(struct vm_net), 5,
	{offsetof(struct vm_net, iface_id),
		offsetof(struct vm_net, host_dev_name),
		offsetof(struct vm_net, netns), offsetof(struct vm_net, bridge),
		offsetof(struct vm_net, guest_mac)}};
static const struct owner vsock_owner = {sizeof(struct vm_vsock), 2,
	{offsetof(struct vm_vsock, vsock_id),
		offsetof(struct vm_vsock, uds_path)}};
static const struct owner pmem_owner = {sizeof(struct vm_pmem), 2,
	{offsetof(struct vm_pmem, id), offsetof(struct vm_pmem, path_on_host)}};
static const struct owner host_owner = {sizeof(struct vm_host), 3,
	{offsetof(struct vm_host, path_root),
		offsetof(struct vm_host, path_base),
		offsetof(struct vm_host, netns)}};
static const struct owner api_socket_owner = {sizeof(struct vm_api_socket), 1,
	{offsetof(struct vm_api_socket, path)}};
static const struct owner logger_owner = {sizeof(struct vm_logger), 2,
	{offsetof(struct vm_logger, log_path),
		offsetof(struct vm_logger, module)}};
static const struct owner metrics_owner = {sizeof(struct vm_metrics), 1,
	{offsetof(struct vm_metrics, metrics_path)}};

/* Members that are plain values, and own nothing. */
static const struct {
	size_t at, size;
} plain[] = {
#define PLAIN(m)                                                               \
	{                                                                      \
		offsetof(struct vm_config, m),                                 \
			sizeof(((struct vm_config *)0)->m)                     \
	}
	PLAIN(machine_config),
	PLAIN(entropy),
	PLAIN(balloon),
	PLAIN(memory_hotplug),
	PLAIN(serial),
#undef PLAIN
};

static char **string_at(const struct owner *o, void *p, unsigned i)
{
	return (char **)(void *)((char *)p + o->at[i]);
}

static void fini_strings(const struct owner *o, void *p)
{
	for (unsigned i = 0; i < o->n; i++)
		free(*string_at(o, p, i));
	memset(p, 0, o->size);
}

/* Leaves *ret NULL for NULL. */
static int copy_string(char **ret, const char *s)
{
	*ret = s ? strdup(s) : NULL;
	return s && !*ret ? -ENOMEM : 0;
}

/* On failure what is in *ret can be freed. */
static int copy_owner(const struct owner *o, void *ret, const void *from)
{
	int r = 0;

	memcpy(ret, from, o->size);
	for (unsigned i = 0; i < o->n; i++) {
		char **to = string_at(o, ret, i);
		const char *s = *to;

		*to = NULL;
		if (r == 0)
			r = copy_string(to, s);
	}
	return r;
}

void vm_config_init(struct vm_config *c)
{
	*c = (struct vm_config){
		.machine_config = {.vcpu_count = 1, .mem_size_mib = 128}};
}

void vm_boot_source_fini(struct vm_boot_source *b)
{
	fini_strings(&boot_source_owner, b);
}

void vm_drive_fini(struct vm_drive *d)
{
	fini_strings(&drive_owner, d);
}

void vm_net_fini(struct vm_net *n)
{
	fini_strings(&net_owner, n);
}

void vm_vsock_fini(struct vm_vsock *v)
{
	fini_strings(&vsock_owner, v);
}

void vm_pmem_fini(struct vm_pmem *p)
{
	fini_strings(&pmem_owner, p);
}

void vm_host_fini(struct vm_host *h)
{
	fini_strings(&host_owner, h);
}

void vm_api_socket_fini(struct vm_api_socket *a)
{
	fini_strings(&api_socket_owner, a);
}

static void vm_logger_fini(struct vm_logger *l)
{
	fini_strings(&logger_owner, l);
}

static void vm_metrics_fini(struct vm_metrics *m)
{
	fini_strings(&metrics_owner, m);
}

void vm_mmds_config_fini(struct vm_mmds_config *m)
{
	for (unsigned i = 0; i < m->n_interfaces; i++)
		free(m->interfaces[i]);
	*m = (struct vm_mmds_config){false};
}

void vm_cpu_config_fini(struct vm_cpu_config *cpu)
{
	free(cpu->cpuid);
	free(cpu->msrs);
	free(cpu->caps);
	*cpu = (struct vm_cpu_config){NULL};
}

void vm_config_fini(struct vm_config *c)
{
	vm_boot_source_fini(&c->boot_source);
	for (unsigned i = 0; i < c->n_drives; i++)
		vm_drive_fini(&c->drives[i]);
	for (unsigned i = 0; i < c->n_nets; i++)
		vm_net_fini(&c->nets[i]);
	for (unsigned i = 0; i < c->n_pmem; i++)
		vm_pmem_fini(&c->pmem[i]);
	vm_vsock_fini(&c->vsock);
	vm_mmds_config_fini(&c->mmds);
	vm_cpu_config_fini(&c->cpu);
	vm_host_fini(&c->host);
	vm_api_socket_fini(&c->api_socket);
	vm_logger_fini(&c->logger);
	vm_metrics_fini(&c->metrics);
	for (unsigned i = 0; i < c->n_labels; i++) {
		free(c->labels[i].key);
		free(c->labels[i].value);
	}
	free(c->labels);
	vm_config_init(c);
}

/* n elements of so many bytes, none: NULL. */
static int copy_array(void **ret, const void *from, unsigned n, size_t size)
{
	*ret = NULL;
	if (n == 0)
		return 0;
	*ret = reallocarray(NULL, n, size);
	if (!*ret)
		return -ENOMEM;
	memcpy(*ret, from, n * size);
	return 0;
}

static int copy_cpu(struct vm_cpu_config *ret, const struct vm_cpu_config *cpu)
{
	void *cpuid, *msrs = NULL, *caps = NULL;
	int r;

	r = copy_array(&cpuid, cpu->cpuid, cpu->n_cpuid, sizeof(*cpu->cpuid));
	if (r == 0)
		r = copy_array(
			&msrs, cpu->msrs, cpu->n_msrs, sizeof(*cpu->msrs));
	if (r == 0)
		r = copy_array(
			&caps, cpu->caps, cpu->n_caps, sizeof(*cpu->caps));
	*ret = *cpu;
	ret->cpuid = cpuid;
	ret->msrs = msrs;
	ret->caps = caps;
	return r;
}

static int copy_mmds(struct vm_mmds_config *ret, const struct vm_mmds_config *m)
{
	*ret = *m;
	ret->n_interfaces = 0;
	for (unsigned i = 0; i < m->n_interfaces; i++) {
		if (copy_string(&ret->interfaces[i], m->interfaces[i]) < 0)
			return -ENOMEM;
		ret->n_interfaces++;
	}
	return 0;
}

/* The elements of an array within *ret; *ret_n counts those begun. */
static int copy_owners(const struct owner *o, void *ret, unsigned *ret_n,
	const void *from, unsigned n)
{
	int r = 0;

	for (*ret_n = 0; r == 0 && *ret_n < n;) {
		size_t at = (*ret_n)++ * o->size;

		r = copy_owner(o, (char *)ret + at, (const char *)from + at);
	}
	return r;
}

static int copy_labels(struct vm_config *ret, const struct vm_config *c)
{
	for (unsigned i = 0; i < c->n_labels; i++) {
		char *key = strdup(c->labels[i].key);
		char *value = strdup(c->labels[i].value);

		if (vm_config_add_label(ret, key, value) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int copy_into(struct vm_config *ret, const struct vm_config *c)
{
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		memcpy((char *)ret + plain[i].at, (const char *)c + plain[i].at,
			plain[i].size);
	if (copy_owner(&boot_source_owner, &ret->boot_source, &c->boot_source) <
			0 ||
		copy_owners(&drive_owner, ret->drives, &ret->n_drives,
			c->drives, c->n_drives) < 0 ||
		copy_owners(&net_owner, ret->nets, &ret->n_nets, c->nets,
			c->n_nets) < 0 ||
		copy_owners(&pmem_owner, ret->pmem, &ret->n_pmem, c->pmem,
			c->n_pmem) < 0 ||
		copy_owner(&vsock_owner, &ret->vsock, &c->vsock) < 0 ||
		copy_owner(&host_owner, &ret->host, &c->host) < 0 ||
		copy_owner(&api_socket_owner, &ret->api_socket,
			&c->api_socket) < 0 ||
		copy_owner(&logger_owner, &ret->logger, &c->logger) < 0 ||
		copy_owner(&metrics_owner, &ret->metrics, &c->metrics) < 0 ||
		copy_mmds(&ret->mmds, &c->mmds) < 0 ||
		copy_cpu(&ret->cpu, &c->cpu) < 0)
		return -ENOMEM;
	return copy_labels(ret, c);
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
