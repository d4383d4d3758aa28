#include "api/fields.h"
#include "api/resources.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/*
 * Firecracker's custom CPU templates. Numbers are strings, "0x.." or "0b..";
 * a bitmap says what becomes of each bit of a register: 0, 1, or x for as it
 * is. Of a bitmap with too few, the missing ones are x.
 */

#define NAME "cpu-config"
#define CPUID_NAME "cpu-config.cpuid_modifiers"
#define MSR_NAME "cpu-config.msr_modifiers"
#define CAPS_NAME "cpu-config.kvm_capabilities"

/* Of the strings: long enough for any that means something. */
#define TEXT_MAX 160

static const struct field table[] = {
	{"kvm_capabilities", FIELD_ELSEWHERE},
	{"cpuid_modifiers", FIELD_ELSEWHERE},
	{"msr_modifiers", FIELD_ELSEWHERE},
	{"vcpu_features", FIELD_ELSEWHERE},
	{"reg_modifiers", FIELD_ELSEWHERE},
	{NULL},
};

struct leaf_text {
	char *leaf, *subleaf;
	uint32_t flags;
};

static const struct field leaf_table[] = {
	{"leaf", FIELD_STRING, true, offsetof(struct leaf_text, leaf), 1,
		TEXT_MAX},
	{"subleaf", FIELD_STRING, true, offsetof(struct leaf_text, subleaf), 1,
		TEXT_MAX},
	{"flags", FIELD_UINT, true, offsetof(struct leaf_text, flags), 0, 7},
	{"modifiers", FIELD_ELSEWHERE, true},
	{NULL},
};

/* In the order of enum vm_cpuid_reg. */
static const char *const registers[] = {"eax", "ebx", "ecx", "edx", NULL};

struct reg_text {
	char *bitmap;
	uint32_t reg;
};

static const struct field reg_table[] = {
	{"register", FIELD_CHOICE, true, offsetof(struct reg_text, reg), 0, 0,
		registers},
	{"bitmap", FIELD_STRING, true, offsetof(struct reg_text, bitmap), 1,
		TEXT_MAX},
	{NULL},
};

struct msr_text {
	char *addr, *bitmap;
};

static const struct field msr_table[] = {
	{"addr", FIELD_STRING, true, offsetof(struct msr_text, addr), 1,
		TEXT_MAX},
	{"bitmap", FIELD_STRING, true, offsetof(struct msr_text, bitmap), 1,
		TEXT_MAX},
	{NULL},
};

/* ---- strings ---- */

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 99;
}

static int read_number(const char *prefix, const char *field, const char *s,
	uint32_t *ret, struct error *err)
{
	int base = strncmp(s, "0x", 2) == 0   ? 16
		   : strncmp(s, "0b", 2) == 0 ? 2
					      : 0;
	bool ok = base && s[2];
	char name[ERROR_FIELD_MAX];
	uint64_t v = 0;

	for (s += 2; ok && *s; s++) {
		ok = digit(*s) < base;
		v = v * (unsigned)base + (unsigned)digit(*s);
		ok = ok && v <= UINT32_MAX;
	}
	*ret = (uint32_t)v;
	if (ok)
		return 0;
	snprintf(name, sizeof(name), "%s.%s", prefix, field);
	return error_field(err, EINVAL, name,
		"must be a number of 32 bits, as \"0x..\" or \"0b..\"");
}

/* Of at most bits bits: which stay, and which of the others are 1. */
static int read_bitmap(const char *prefix, const char *s, unsigned bits,
	uint64_t *ret_keep, uint64_t *ret_set, struct error *err)
{
	bool ok = strncmp(s, "0b", 2) == 0;
	char name[ERROR_FIELD_MAX];
	uint64_t keep = UINT64_MAX, set = 0;
	unsigned n = 0;

	for (s += ok ? 2 : 0; ok && *s; s++) {
		if (*s == '_')
			continue;
		ok = (*s == '0' || *s == '1' || *s == 'x') && n++ < bits;
		keep = keep << 1 | (*s == 'x');
		set = set << 1 | (*s == '1');
	}
	*ret_keep = keep;
	*ret_set = set;
	if (ok && n > 0)
		return 0;
	snprintf(name, sizeof(name), "%s.bitmap", prefix);
	return error_field(err, EINVAL, name,
		"must be \"0b\" and 1 to %u of 0, 1 and x (with _ in between)",
		bits);
}

static void write_bitmap(
	struct json_object *o, uint64_t keep, uint64_t set, unsigned bits)
{
	char s[2 + 64 + 1] = "0b";

	for (unsigned i = 0; i < bits; i++) {
		uint64_t bit = 1ull << (bits - 1 - i);

		s[2 + i] = keep & bit ? 'x' : set & bit ? '1' : '0';
	}
	json_add_string(o, "bitmap", s);
}

static void write_number(struct json_object *o, const char *key, uint32_t v)
{
	char s[16];

	snprintf(s, sizeof(s), "0x%x", v);
	json_add_string(o, key, s);
}

/* ---- arrays ---- */

/* Room for one more of *list, which has n; fails at max. */
static int grow(void *list, unsigned n, size_t size, unsigned max,
	const char *name, const char *what, struct error *err)
{
	void *more;

	if (n == max)
		return error_field(
			err, EINVAL, name, "at most %u %s", max, what);
	more = reallocarray(*(void **)list, n + 1u, size);
	if (!more)
		return error_set(err, ENOMEM, "out of memory");
	*(void **)list = more;
	return 0;
}

/* A field's name out of others'; what does not fit is cut. */
__attribute__((format(printf, 2, 3))) static void name_field(
	char *ret, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(ret, ERROR_FIELD_MAX, format, args);
	va_end(args);
}

/* Each element of the array at key, if there is one. name: its field. */
static int read_array(struct json_object *o, const char *key, const char *name,
	int (*read)(struct json_object *o, const char *name, void *arg,
		struct error *err),
	void *arg, struct error *err)
{
	struct json_object *a;

	if (!json_object_object_get_ex(o, key, &a) || !a)
		return 0;
	if (!json_object_is_type(a, json_type_array))
		return error_field(err, EINVAL, name, "must be an array");
	for (size_t i = 0; i < json_object_array_length(a); i++) {
		char element[ERROR_FIELD_MAX];

		name_field(element, "%s[%zu]", name, i);
		if (read(json_object_array_get_idx(a, i), element, arg, err) <
			0)
			return -err->code;
	}
	return 0;
}

/* One leaf, while its registers are read. */
struct leaf {
	struct vm_cpu_config *cpu;
	struct vm_cpuid_mod mod;
};

static int read_register(
	struct json_object *o, const char *name, void *arg, struct error *err)
{
	struct leaf *leaf = arg;
	struct vm_cpu_config *cpu = leaf->cpu;
	struct reg_text text = {NULL};
	uint64_t keep = 0, set = 0;
	int r;

	r = fields_read(reg_table, o, name, false, &text, err);
	if (r == 0)
		r = read_bitmap(name, text.bitmap, 32, &keep, &set, err);
	if (r == 0)
		r = grow(&cpu->cpuid, cpu->n_cpuid, sizeof(*cpu->cpuid),
			VM_MAX_CPUID_MODS, CPUID_NAME,
			"registers can be changed", err);
	free(text.bitmap);
	if (r < 0)
		return r;
	leaf->mod.reg = text.reg;
	leaf->mod.keep = (uint32_t)keep;
	leaf->mod.set = (uint32_t)set;
	cpu->cpuid[cpu->n_cpuid++] = leaf->mod;
	return 0;
}

static int read_leaf(
	struct json_object *o, const char *name, void *arg, struct error *err)
{
	struct leaf leaf = {.cpu = arg};
	struct leaf_text text = {NULL};
	unsigned before = leaf.cpu->n_cpuid;
	char modifiers[ERROR_FIELD_MAX];
	int r;

	name_field(modifiers, "%s.modifiers", name);
	r = fields_read(leaf_table, o, name, false, &text, err);
	if (r == 0)
		r = read_number(name, "leaf", text.leaf, &leaf.mod.leaf, err);
	if (r == 0)
		r = read_number(
			name, "subleaf", text.subleaf, &leaf.mod.subleaf, err);
	leaf.mod.flags = text.flags;
	free(text.leaf);
	free(text.subleaf);
	if (r == 0)
		r = read_array(
			o, "modifiers", modifiers, read_register, &leaf, err);
	if (r == 0 && leaf.cpu->n_cpuid == before)
		r = error_field(err, EINVAL, modifiers,
			"must hold 1 to %d registers", VM_MAX_CPUID_MODS);
	return r;
}

static int read_msr(
	struct json_object *o, const char *name, void *arg, struct error *err)
{
	struct vm_cpu_config *cpu = arg;
	struct msr_text text = {NULL};
	struct vm_msr_mod mod;
	int r;

	r = fields_read(msr_table, o, name, false, &text, err);
	if (r == 0)
		r = read_number(name, "addr", text.addr, &mod.index, err);
	if (r == 0)
		r = read_bitmap(
			name, text.bitmap, 64, &mod.keep, &mod.set, err);
	if (r == 0)
		r = grow(&cpu->msrs, cpu->n_msrs, sizeof(*cpu->msrs),
			VM_MAX_MSR_MODS, MSR_NAME, "MSRs can be changed", err);
	free(text.addr);
	free(text.bitmap);
	if (r == 0)
		cpu->msrs[cpu->n_msrs++] = mod;
	return r;
}

static int read_cap(
	struct json_object *o, const char *name, void *arg, struct error *err)
{
	struct vm_cpu_config *cpu = arg;
	const char *s = json_object_get_string(o);
	bool ok = json_object_is_type(o, json_type_string);
	struct vm_kvm_cap cap = {.not_needed = ok && s[0] == '!'};
	uint64_t v = 0;

	if (cap.not_needed)
		s++;
	ok = ok && s[0];
	for (; ok && *s; s++) {
		ok = digit(*s) < 10;
		v = v * 10 + (unsigned)digit(*s);
		ok = ok && v <= INT32_MAX;
	}
	if (!ok)
		return error_field(err, EINVAL, name,
			"must be \"N\" or \"!N\", N between 0 and %d",
			INT32_MAX);
	if (grow(&cpu->caps, cpu->n_caps, sizeof(*cpu->caps), VM_MAX_KVM_CAPS,
		    CAPS_NAME, "capabilities", err) < 0)
		return -err->code;
	cap.cap = (uint32_t)v;
	cpu->caps[cpu->n_caps++] = cap;
	return 0;
}

/* Refused unless null or empty. */
static int check_arm(struct json_object *o, const char *key, struct error *err)
{
	struct json_object *v;
	char name[ERROR_FIELD_MAX];

	if (!json_object_object_get_ex(o, key, &v) || !v ||
		(json_object_is_type(v, json_type_array) &&
			json_object_array_length(v) == 0))
		return 0;
	snprintf(name, sizeof(name), NAME ".%s", key);
	return error_field(err, EINVAL, name, "is for Arm hosts only");
}

/* ---- the section ---- */

static int read_all(
	struct json_object *o, struct vm_cpu_config *cpu, struct error *err)
{
	int r = fields_read(table, o, NAME, false, cpu, err);

	if (r == 0)
		r = check_arm(o, "vcpu_features", err);
	if (r == 0)
		r = check_arm(o, "reg_modifiers", err);
	if (r == 0)
		r = read_array(
			o, "kvm_capabilities", CAPS_NAME, read_cap, cpu, err);
	if (r == 0)
		r = read_array(
			o, "cpuid_modifiers", CPUID_NAME, read_leaf, cpu, err);
	if (r == 0)
		r = read_array(
			o, "msr_modifiers", MSR_NAME, read_msr, cpu, err);
	return r;
}

int cpu_config_read(
	struct json_object *o, struct vm_config *c, struct error *err)
{
	vm_cpu_config_fini(&c->cpu);
	if (c->machine_config.cpu_template != VM_CPU_TEMPLATE_NONE)
		return error_field(err, EINVAL, NAME,
			"goes without machine-config.cpu_template: the CPU is "
			"by either");
	return read_all(o, &c->cpu, err);
}

static struct json_object *leaf_write(
	struct json_object *leaves, const struct vm_cpuid_mod *m)
{
	struct json_object *o = json_object_new_object();

	write_number(o, "leaf", m->leaf);
	write_number(o, "subleaf", m->subleaf);
	json_add_uint(o, "flags", m->flags);
	json_object_array_add(leaves, o);
	return json_add_array(o, "modifiers");
}

static void leaves_write(
	struct json_object *leaves, const struct vm_cpu_config *cpu)
{
	struct json_object *mods = NULL;

	for (unsigned i = 0; i < cpu->n_cpuid; i++) {
		const struct vm_cpuid_mod *m = &cpu->cpuid[i];
		struct json_object *o = json_object_new_object();

		if (i == 0 || m->leaf != m[-1].leaf ||
			m->subleaf != m[-1].subleaf || m->flags != m[-1].flags)
			mods = leaf_write(leaves, m);
		json_add_string(o, "register", registers[m->reg]);
		write_bitmap(o, m->keep, m->set, 32);
		json_object_array_add(mods, o);
	}
}

static void msrs_write(
	struct json_object *msrs, const struct vm_cpu_config *cpu)
{
	for (unsigned i = 0; i < cpu->n_msrs; i++) {
		struct json_object *o = json_object_new_object();

		write_number(o, "addr", cpu->msrs[i].index);
		write_bitmap(o, cpu->msrs[i].keep, cpu->msrs[i].set, 64);
		json_object_array_add(msrs, o);
	}
}

struct json_object *cpu_config_write(const struct vm_config *c)
{
	const struct vm_cpu_config *cpu = &c->cpu;
	struct json_object *o, *caps;

	if (!cpu->n_caps && !cpu->n_cpuid && !cpu->n_msrs)
		return NULL;
	o = json_object_new_object();
	caps = json_add_array(o, "kvm_capabilities");
	for (unsigned i = 0; i < cpu->n_caps; i++) {
		char s[16];

		snprintf(s, sizeof(s), "%s%u",
			cpu->caps[i].not_needed ? "!" : "", cpu->caps[i].cap);
		json_object_array_add(caps, json_object_new_string(s));
	}
	leaves_write(json_add_array(o, "cpuid_modifiers"), cpu);
	msrs_write(json_add_array(o, "msr_modifiers"), cpu);
	return o;
}

/* As in Firecracker, what was put last counts: this or a template. */
static int read_body(struct request *r, struct vm_config *c, struct error *err)
{
	c->machine_config.cpu_template = VM_CPU_TEMPLATE_NONE;
	return cpu_config_read(r->json, c, err);
}

void cpu_config_put(struct request *r)
{
	section_change(r, API_SECTION_CPU, read_body);
}
