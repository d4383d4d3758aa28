#include "daemon/vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NS_PER_MS 1000000u

static void fill_bucket(struct bucket_config *to, const struct vm_bucket *b)
{
	to->size = b->size;
	to->one_time_burst = b->one_time_burst;
	to->refill_ns = b->refill_time_ms * NS_PER_MS;
}

void vm_fill_limiter(
	struct rate_limiter_config *to, const struct vm_rate_limiter *l)
{
	fill_bucket(&to->bytes, &l->bandwidth);
	fill_bucket(&to->ops, &l->ops);
}

static void fill_drive(struct msg_drive *to, const struct vm_drive *d,
	const struct drive_image *im)
{
	to->size_bytes = im->size_bytes;
	to->direct_align = im->direct_align;
	to->block_bytes = im->block_bytes;
	to->read_only = d->is_read_only;
	to->writeback = d->cache_type == VM_CACHE_WRITEBACK;
	memcpy(to->serial, d->drive_id,
		strnlen(d->drive_id, sizeof(to->serial)));
	vm_fill_limiter(&to->limiter, &d->rate_limiter);
}

static int fill_drives(struct vm *vm, struct msg_start *m, struct error *err)
{
	const struct vm_config *c = &vm->config;

	m->n_drives = (uint8_t)c->n_drives;
	for (unsigned i = 0; i < c->n_drives; i++) {
		if (images_measure(vm->id, &c->drives[i], &vm->images.drives[i],
			    err) < 0)
			return -err->code;
		fill_drive(&m->drives[i], &c->drives[i], &vm->images.drives[i]);
	}
	return 0;
}

static int fill_pmem(struct vm *vm, struct msg_start *m, struct error *err)
{
	const struct vm_config *c = &vm->config;

	m->n_pmem = (uint8_t)c->n_pmem;
	for (unsigned i = 0; i < c->n_pmem; i++) {
		struct pmem_image *im = &vm->images.pmem[i];
		struct msg_pmem *to = &m->pmem[i];

		if (images_measure_pmem(&c->pmem[i], im, err) < 0)
			return -err->code;
		to->file_bytes = im->file_bytes;
		to->size_bytes =
			(im->file_bytes + PMEM_ALIGN - 1) & ~(PMEM_ALIGN - 1);
		to->read_only = c->pmem[i].read_only;
		vm_fill_limiter(&to->limiter, &c->pmem[i].rate_limiter);
	}
	return 0;
}

/* All but what its tap tells. */
static void fill_net(struct msg_net *to, const struct vm_net *n)
{
	to->n_pairs = (uint8_t)n->queue_pairs;
	to->mtu = (uint16_t)n->mtu;
	to->has_mac = n->guest_mac && vm_mac_parse(n->guest_mac, to->mac);
	vm_fill_limiter(&to->rx_limiter, &n->rx_rate_limiter);
	vm_fill_limiter(&to->tx_limiter, &n->tx_rate_limiter);
}

static void fill_nets(const struct vm_config *c, struct msg_start *m)
{
	m->n_nets = (uint8_t)c->n_nets;
	for (unsigned i = 0; i < c->n_nets; i++)
		fill_net(&m->nets[i], &c->nets[i]);
}

static void fill_mmds(struct vm *vm, struct msg_start *m)
{
	const struct vm_config *c = &vm->config;
	const struct vm_mmds_config *mmds = &c->mmds;

	m->has_mmds = mmds->there;
	m->mmds.version = (uint8_t)mmds->version;
	m->mmds.ipv4 = mmds->ipv4;
	m->mmds.imds_compat = mmds->imds_compat;
	m->mmds.data_len = (uint32_t)vm->mmds.image_len;
	for (unsigned i = 0; i < mmds->n_interfaces; i++)
		/* vm_config_check(): each is there. */
		m->nets[vm_config_find_net(c, mmds->interfaces[i])].mmds = 1;
}

static void fill_balloon(struct msg_start *m, const struct vm_balloon *b)
{
	m->has_balloon = b->there;
	m->balloon.target_pages = vm_balloon_pages(b->amount_mib);
	m->balloon.stats_interval_s = b->stats_polling_interval_s;
	m->balloon.deflate_on_oom = b->deflate_on_oom;
	m->balloon.hinting = b->free_page_hinting;
	m->balloon.reporting = b->free_page_reporting;
}

static void fill_memory(struct msg_start *m, const struct vm_memory_hotplug *h)
{
	m->has_memory_hotplug = h->there;
	m->memory_hotplug.region_bytes = (uint64_t)h->total_size_mib << 20;
	m->memory_hotplug.block_bytes = (uint64_t)h->block_size_mib << 20;
	m->memory_hotplug.slot_bytes = (uint64_t)h->slot_size_mib << 20;
	m->memory_hotplug.requested_bytes = (uint64_t)h->requested_size_mib
					    << 20;
}

int vm_fill_prepare(const struct vm_env *env, const struct vm_config *c,
	struct msg_prepare *m, struct error *err)
{
	const struct vm_machine_config *mc = &c->machine_config;

	memset(m, 0, sizeof(*m));
	m->vcpu_count = mc->vcpu_count;
	m->mem_bytes = (uint64_t)mc->mem_size_mib << 20;
	m->smt = mc->smt;
	m->huge_pages = (uint8_t)mc->huge_pages;
	return vm_cpu_fill(env, c, m, err);
}

int vm_fill_start(struct vm *vm, struct msg_start *m, struct error *err)
{
	const struct vm_config *c = &vm->config;

	memset(m, 0, sizeof(*m));
	m->hdr.type = MSG_START;
	m->hdr.seq = ++vm->next_seq;
	memcpy(m->id, vm->id, sizeof(m->id));
	m->has_initrd = vm->images.initrd_fd >= 0;
	m->console = (uint8_t)c->machine_config.console;
	if (fill_drives(vm, m, err) < 0 || fill_pmem(vm, m, err) < 0)
		return -err->code;
	fill_nets(c, m);
	fill_mmds(vm, m);
	m->has_vsock = c->vsock.uds_path != NULL;
	m->guest_cid = c->vsock.guest_cid;
	m->has_entropy = c->entropy.there;
	vm_fill_limiter(&m->entropy_limiter, &c->entropy.rate_limiter);
	vm_fill_limiter(&m->serial_limiter, &c->serial.rate_limiter);
	fill_balloon(m, &c->balloon);
	fill_memory(m, &c->memory_hotplug);
	return vm_config_cmdline(c, m->cmdline, err);
}

void vm_place_image_fds(
	const struct vm *vm, const struct msg_start *m, int *fds)
{
	const struct vm_images *im = &vm->images;
	struct msg_start_fds at;

	msg_start_fds(m, &at);
	fds[MSG_START_FD_KERNEL] = im->kernel_fd;
	if (at.initrd >= 0)
		fds[at.initrd] = im->initrd_fd;
	for (unsigned i = 0; i < m->n_drives; i++)
		fds[at.drives + i] = im->drives[i].fd;
	for (unsigned i = 0; i < m->n_pmem; i++)
		fds[at.pmem + i] = im->pmem[i].fd;
}
