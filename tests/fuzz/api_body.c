/*
 * Bodies of requests: the first byte chooses the resource, the rest is the
 * body. What is taken must be within its bounds, and read back the same from
 * what the API shows of it; what is refused must be refused in plain words.
 */

#include "api/json.h"
#include "api/resources.h"
#include "tests/fuzz/fuzz.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void check(bool ok)
{
	if (!ok)
		abort();
}

enum resource {
	DOCUMENT,
	BOOT_SOURCE,
	MACHINE,
	MACHINE_PART,
	DRIVE,
	CPU,
	RESOURCES
};

static int read_as(enum resource what, struct json_object *o,
	struct vm_config *c, struct error *err)
{
	bool start;

	switch (what) {
	case DOCUMENT:
		return document_read(o, c, &start, err);
	case BOOT_SOURCE:
		return boot_source_read(o, c, err);
	case MACHINE:
	case MACHINE_PART:
		return machine_config_read(o, what == MACHINE_PART, c, err);
	case DRIVE:
		return drive_read(o, "drives", NULL, c, err);
	case CPU:
		return cpu_config_read(o, c, err);
	case RESOURCES:
		break;
	}
	return -1;
}

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

static void check_config(const struct vm_config *c)
{
	char cmdline[VM_CMDLINE_MAX];
	struct error err;

	check(c->machine_config.vcpu_count >= 1 &&
		c->machine_config.vcpu_count <= VM_MAX_VCPUS);
	check(c->machine_config.mem_size_mib >= 1);
	check(!c->machine_config.track_dirty_pages);
	check_cpu(c);
	check(c->n_drives <= VM_MAX_DRIVES && c->n_labels <= VM_MAX_LABELS);
	for (unsigned i = 0; i < c->n_drives; i++) {
		const struct vm_drive *d = &c->drives[i];

		check(strlen(d->drive_id) <= VM_ID_MAX && d->path_on_host[0]);
		check(!d->is_root_device || i == 0);
		check(vm_config_find_drive(c, d->drive_id) == (int)i);
	}
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
	if (read_as(data[0] % RESOURCES, o, &c, &err) == 0) {
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
		{CPU, "{\"kvm_capabilities\":[\"!56\",\"1\"],"
		      "\"cpuid_modifiers\":[{\"leaf\":\"0x7\","
		      "\"subleaf\":\"0b1\",\"flags\":1,\"modifiers\":["
		      "{\"register\":\"ebx\",\"bitmap\":\"0b1x_01\"},"
		      "{\"register\":\"edx\",\"bitmap\":\"0bx\"}]}],"
		      "\"msr_modifiers\":[{\"addr\":\"0x10a\","
		      "\"bitmap\":\"0b1x0\"}],\"reg_modifiers\":null}"},
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
