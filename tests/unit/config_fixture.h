#pragma once

/* A VM's configuration, empty before each test, and how a test fills it. */

#include "vmm/config.h"

#include <check.h>
#include <string.h>

static struct vm_config config;
static struct error err;

static inline void set_up(void)
{
	vm_config_init(&config);
	memset(&err, 0, sizeof(err));
}

static inline void tear_down(void)
{
	vm_config_fini(&config);
}

static inline char *copy(const char *s)
{
	return s ? strdup(s) : NULL;
}

static inline int put_net(
	const char *id, const char *tap, const char *netns, const char *mac)
{
	struct vm_net n = {.iface_id = copy(id),
		.host_dev_name = copy(tap),
		.netns = copy(netns),
		.guest_mac = copy(mac),
		.queue_pairs = 1};
	int r = vm_config_put_net(&config, &n, &err);

	ck_assert_ptr_null(n.iface_id);
	return r;
}

static inline int put_pmem(const char *id, bool root)
{
	struct vm_pmem p = {.id = copy(id),
		.path_on_host = copy("/p"),
		.root_device = root};
	int r = vm_config_put_pmem(&config, &p, &err);

	ck_assert_ptr_null(p.id);
	return r;
}
