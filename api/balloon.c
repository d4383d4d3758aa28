#include "api/fields.h"
#include "api/resources.h"

#include <errno.h>
#include <linux/virtio_balloon.h>

/* What a 32-bit number of pages can say. */
#define AMOUNT_MAX_MIB (UINT32_MAX >> 8)
#define INTERVAL_MAX_S 65535
#define PAGES_PER_MIB 256

static const struct field table[] = {
	{"amount_mib", FIELD_UINT, true,
		offsetof(struct vm_balloon, amount_mib), 0, AMOUNT_MAX_MIB},
	{"deflate_on_oom", FIELD_BOOL, true,
		offsetof(struct vm_balloon, deflate_on_oom)},
	{"stats_polling_interval_s", FIELD_UINT, false,
		offsetof(struct vm_balloon, stats_polling_interval_s), 0,
		INTERVAL_MAX_S},
	{"free_page_hinting", FIELD_BOOL, false,
		offsetof(struct vm_balloon, free_page_hinting)},
	{"free_page_reporting", FIELD_BOOL, false,
		offsetof(struct vm_balloon, free_page_reporting)},
	{NULL},
};

static const struct field amount_table[] = {
	{"amount_mib", FIELD_UINT, true,
		offsetof(struct api_update, amount_mib), 0, AMOUNT_MAX_MIB},
	{NULL},
};

static const struct field interval_table[] = {
	{"stats_polling_interval_s", FIELD_UINT, true,
		offsetof(struct api_update, interval_s), 0, INTERVAL_MAX_S},
	{NULL},
};

static const struct field hinting_table[] = {
	{"acknowledge_on_stop", FIELD_BOOL, false,
		offsetof(struct api_update, acknowledge_on_stop)},
	{NULL},
};

static const struct field no_table[] = {
	{NULL},
};

/* By VIRTIO_BALLOON_S_*. */
static const char *const stat_names[] = {
	[VIRTIO_BALLOON_S_SWAP_IN] = "swap_in",
	[VIRTIO_BALLOON_S_SWAP_OUT] = "swap_out",
	[VIRTIO_BALLOON_S_MAJFLT] = "major_faults",
	[VIRTIO_BALLOON_S_MINFLT] = "minor_faults",
	[VIRTIO_BALLOON_S_MEMFREE] = "free_memory",
	[VIRTIO_BALLOON_S_MEMTOT] = "total_memory",
	[VIRTIO_BALLOON_S_AVAIL] = "available_memory",
	[VIRTIO_BALLOON_S_CACHES] = "disk_caches",
	[VIRTIO_BALLOON_S_HTLB_PGALLOC] = "hugetlb_allocations",
	[VIRTIO_BALLOON_S_HTLB_PGFAIL] = "hugetlb_failures",
	/* Newer than some headers: 10 to 15. */
	"oom_kill",
	"alloc_stall",
	"async_scan",
	"direct_scan",
	"async_reclaim",
	"direct_reclaim",
};

_Static_assert(sizeof(stat_names) / sizeof(stat_names[0]) ==
		       sizeof(((struct api_device_state *)0)->balloon_stats) /
			       sizeof(uint64_t),
	"a name for each statistic");

int balloon_read(struct json_object *o, struct vm_config *c, struct error *err)
{
	c->balloon = (struct vm_balloon){.there = true};
	return fields_read(table, o, "balloon", false, &c->balloon, err);
}

struct json_object *balloon_write(const struct vm_config *c)
{
	return c->balloon.there ? fields_write(table, &c->balloon) : NULL;
}

static int read_body(struct request *r, struct vm_config *c, struct error *err)
{
	return balloon_read(r->json, c, err);
}

void balloon_put(struct request *r)
{
	section_change(r, API_SECTION_BALLOON, read_body);
}

void balloon_get(struct request *r)
{
	section_get(r, "balloon", balloon_write);
}

static int read_amount(
	struct request *r, struct api_update *u, struct error *err)
{
	u->kind = API_UPDATE_BALLOON;
	return fields_read(amount_table, r->json, "balloon", false, u, err);
}

void balloon_patch(struct request *r)
{
	update_run(r, read_amount);
}

static int read_interval(
	struct request *r, struct api_update *u, struct error *err)
{
	u->kind = API_UPDATE_BALLOON_STATS;
	return fields_read(interval_table, r->json, "balloon", false, u, err);
}

void balloon_stats_patch(struct request *r)
{
	update_run(r, read_interval);
}

static int read_hinting_start(
	struct request *r, struct api_update *u, struct error *err)
{
	u->kind = API_UPDATE_HINTING_START;
	u->acknowledge_on_stop = true;
	return r->json ? fields_read(hinting_table, r->json, "balloon", false,
				 u, err)
		       : 0;
}

void balloon_hinting_start(struct request *r)
{
	update_run(r, read_hinting_start);
}

static int read_hinting_stop(
	struct request *r, struct api_update *u, struct error *err)
{
	u->kind = API_UPDATE_HINTING_STOP;
	return r->json ? fields_read(
				 no_table, r->json, "balloon", false, u, err)
		       : 0;
}

void balloon_hinting_stop(struct request *r)
{
	update_run(r, read_hinting_stop);
}

/* The state of a guest's balloon, and its configuration. */
static int look(struct request *r, struct api_device_state *ret,
	struct vm_balloon *ret_config, struct error *err)
{
	const struct api_backend *b = r->backend;
	struct api_vm vm;

	if (b->ops->device_state(b->ctx, r->id, ret, err) < 0 ||
		b->ops->get(b->ctx, r->id, &vm, err) < 0)
		return -err->code;
	*ret_config = vm.config->balloon;
	return vm.config->balloon.there
		       ? 0
		       : error_set(err, ENOENT, "the VM has no balloon");
}

void balloon_stats_get(struct request *r)
{
	struct vm_balloon config = {false};
	struct api_device_state s;
	struct json_object *o;
	struct error err;
	int e = look(r, &s, &config, &err);

	if (e == 0 && config.stats_polling_interval_s == 0)
		e = error_field(&err, EINVAL,
			"balloon.stats_polling_interval_s",
			"is 0: this balloon has no statistics");
	if (e < 0) {
		request_reply_error(r, &err);
		return;
	}
	o = json_object_new_object();
	json_add_uint(o, "target_pages", s.balloon_target_pages);
	json_add_uint(o, "actual_pages", s.balloon_actual_pages);
	json_add_uint(o, "target_mib", s.balloon_target_pages / PAGES_PER_MIB);
	json_add_uint(o, "actual_mib", s.balloon_actual_pages / PAGES_PER_MIB);
	for (size_t i = 0; i < sizeof(stat_names) / sizeof(stat_names[0]); i++)
		if (s.balloon_stats[i] != UINT64_MAX)
			json_add_uint(o, stat_names[i], s.balloon_stats[i]);
	request_reply_json(r, 200, o);
}

void balloon_hinting_get(struct request *r)
{
	struct vm_balloon config = {false};
	struct api_device_state s;
	struct json_object *o;
	struct error err;
	int e = look(r, &s, &config, &err);

	if (e == 0 && !config.free_page_hinting)
		e = error_field(&err, EINVAL, "balloon.free_page_hinting",
			"is false: this balloon takes no hints");
	if (e < 0) {
		request_reply_error(r, &err);
		return;
	}
	o = json_object_new_object();
	json_add_uint(o, "host_cmd", s.hint_host_cmd);
	json_add_uint(o, "guest_cmd", s.hint_guest_cmd);
	request_reply_json(r, 200, o);
}
