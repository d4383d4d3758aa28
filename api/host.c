#include "api/resources.h"
#include "api/server.h"

static void add_values(
	struct json_object *o, const struct api_flag *f, unsigned n)
{
	for (unsigned i = 0; o && i < n; i++)
		json_add_int(o, f[i].name, f[i].value);
}

static void add_flags(
	struct json_object *o, const struct api_flag *f, unsigned n)
{
	for (unsigned i = 0; o && i < n; i++)
		json_add_bool(o, f[i].name, f[i].value != 0);
}

static struct json_object *host_write(const struct api_host *h)
{
	struct json_object *o = json_object_new_object(), *sub;

	sub = json_add_object(o, "kvm");
	json_add_bool(sub, "usable", h->kvm_usable);
	json_add_int(sub, "api_version", h->kvm_api_version);
	add_values(json_add_object(sub, "capabilities"), h->kvm_capabilities,
		h->n_kvm_capabilities);
	sub = json_add_object(o, "probe");
	json_add_string(sub, "verdict", h->verdict);
	json_add_string(sub, "reason", h->reason);
	if (h->ring0_mips)
		json_add_uint(sub, "ring0_mips", h->ring0_mips);
	if (h->xsave)
		json_add_string(sub, "xsave", h->xsave);
	if (h->cmpxchg16b)
		json_add_string(sub, "cmpxchg16b", h->cmpxchg16b);
	json_add_uint(o, "cgroup_version", h->cgroup_version);
	sub = json_add_object(o, "io_uring");
	json_add_bool(sub, "usable", h->io_uring);
	add_flags(json_add_object(sub, "features"), h->io_uring_features,
		h->n_io_uring_features);
	sub = json_add_object(o, "memory");
	json_add_uint(sub, "total_bytes", h->mem_total_bytes);
	json_add_uint(sub, "available_bytes", h->mem_available_bytes);
	json_add_uint(o, "cpus", h->cpus);
	json_add_string(o, "kernel", h->kernel_release);
	return o;
}

void host_get(struct request *r)
{
	const struct api_backend *b = r->backend;

	request_reply_json(r, 200, host_write(b->ops->host(b->ctx)));
}

void api_print_host(FILE *out, const struct api_host *h)
{
	_cleanup_json_ struct json_object *o = host_write(h);

	fprintf(out, "%s\n",
		json_object_to_json_string_ext(
			o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED));
}
