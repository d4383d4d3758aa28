#include "api/resources.h"

/* In the order of enum api_moment. */
static const char *const moment_names[API_MOMENTS] = {
	"process_ready",
	"configured",
	"loaded",
	"first_instruction",
	"kernel_up",
	"guest_ready",
};

struct json_object *exit_write(const struct api_vm *vm)
{
	struct json_object *o = json_object_new_object();

	json_add_string(o, "reason", vm->exit_reason);
	if (vm->exit_signal)
		json_add_int(o, "signal", vm->exit_signal);
	else if (vm->exit_status >= 0) /* else nobody knows */
		json_add_int(o, "status", vm->exit_status);
	if (vm->exit_detail[0])
		json_add_string(o, "detail", vm->exit_detail);
	return o;
}

static struct json_object *timeline_write(const struct api_vm *vm)
{
	struct json_object *o = json_object_new_object();

	json_add_uint(o, "clock_monotonic_ns", vm->received_ns);
	json_add_uint(o, "request_received", 0);
	for (unsigned i = 0; i < API_MOMENTS; i++)
		if (vm->moments[i])
			json_add_uint(o, moment_names[i], vm->moments[i]);
	return o;
}

struct json_object *vm_summary_write(const struct api_vm *vm)
{
	struct json_object *o = json_object_new_object();

	json_add_string(o, "id", vm->id);
	json_add_string(o, "state", vm->state);
	if (vm->pid)
		json_add_int(o, "pid", vm->pid);
	if (vm->exit_reason)
		json_object_object_add(o, "exit", exit_write(vm));
	json_object_object_add(o, "labels", labels_write(vm->config));
	return o;
}

struct json_object *vm_write(
	const struct api_vm *vm, const struct api_counters *counters)
{
	struct json_object *o = vm_summary_write(vm), *console;

	if (vm->started)
		json_object_object_add(o, "timeline", timeline_write(vm));
	console = json_add_object(o, "console");
	json_add_uint(console, "bytes", vm->console_bytes);
	json_add_uint(console, "dropped", vm->console_dropped);
	if (counters)
		json_object_object_add(o, "counters", counters_write(counters));
	document_write(o, vm->config);
	return o;
}
