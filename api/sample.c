#include "api/sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 'vm="ID",iface="ID"' */
#define LABELS_BYTES (2 * VM_ID_MAX + 24)

/* What the counters need. */
struct room {
	unsigned devices, values, histograms;
};

static struct room measure(const struct api_counters *c)
{
	struct room room = {0};

	for (unsigned g = 0; g < n_counter_groups; g++) {
		const struct counter_group *group = &counter_groups[g];
		unsigned n = counter_devices(group, c);

		room.devices += n;
		room.values += n * group->n;
		room.histograms += n * group->n_histograms;
	}
	return room;
}

/* Where the next of each kind goes. */
struct places {
	struct sampled_device *device;
	struct histogram *histogram;
	uint64_t *value;
	char *labels;
};

static void take_device(struct places *to, const char *vm_labels, unsigned g,
	unsigned device, const struct api_counters *c)
{
	const struct counter_group *group = &counter_groups[g];

	*to->device++ = (struct sampled_device){
		.group = g,
		.labels = to->labels,
		.values = to->value,
		.histograms = to->histogram,
	};
	if (group->id_name)
		snprintf(to->labels, LABELS_BYTES, "%s,%s=\"%s\"", vm_labels,
			group->label, counter_id(group, device, c));
	else
		snprintf(to->labels, LABELS_BYTES, "%s", vm_labels);
	to->labels += LABELS_BYTES;
	for (unsigned i = 0; i < group->n; i++)
		*to->value++ =
			counter_value(group, device, &group->counters[i], c);
	for (unsigned i = 0; i < group->n_histograms; i++)
		*to->histogram++ = *counter_histogram(
			group, device, &group->histograms[i], c);
}

static bool take_counters(struct vm_sample *s, const struct api_counters *c)
{
	struct room room = measure(c);
	struct places to;

	/* One place more than is needed: it is never empty. */
	s->devices = malloc((room.devices + 1) * sizeof(*to.device) +
			    room.histograms * sizeof(*to.histogram) +
			    room.values * sizeof(*to.value) +
			    (size_t)room.devices * LABELS_BYTES);
	if (!s->devices)
		return false;
	s->n_devices = room.devices;
	to.device = s->devices;
	to.histogram = (struct histogram *)(to.device + room.devices);
	to.value = (uint64_t *)(to.histogram + room.histograms);
	to.labels = (char *)(to.value + room.values);
	for (unsigned g = 0; g < n_counter_groups; g++)
		for (unsigned d = 0; d < counter_devices(&counter_groups[g], c);
			d++)
			take_device(&to, s->labels, g, d, c);
	return true;
}

bool vm_sample_take(struct vm_sample *ret, const struct api_vm *vm,
	const struct api_counters *counters)
{
	*ret = (struct vm_sample){.console_bytes = vm->console_bytes};
	snprintf(ret->labels, sizeof(ret->labels), "vm=\"%s\"", vm->id);
	snprintf(ret->state, sizeof(ret->state), "%s", vm->state);
	if (!counters)
		return true;
	ret->has_memory = counters->has_memory_sample;
	ret->pss_bytes = counters->memory_pss_bytes;
	ret->touched_bytes = counters->memory_anonymous_bytes;
	return take_counters(ret, counters);
}

void vm_sample_fini(struct vm_sample *s)
{
	free(s->devices);
}
