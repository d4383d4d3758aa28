#pragma once

/*
 * The resources: one file each, with its field table, its part of a whole
 * document, and the handlers of its routes.
 */

#include "api/request.h"

/* version.c, host.c */
void version_get(struct request *r);
void host_get(struct request *r);

/* metrics.c */
void metrics_get(struct request *r);

/* events.c */
void events_get(struct request *r);

/* vms.c */
void vms_list(struct request *r);
void vms_get(struct request *r);
void vms_put(struct request *r);
void vms_delete(struct request *r);

/*
 * document.c. Reads the whole document of PUT /v1/vms/{id} into *c (initialised
 * by vm_config_init()); on failure it is the caller's to vm_config_fini().
 */
int document_read(struct json_object *o, struct vm_config *c, bool *ret_start,
	struct error *err);
/* Adds what is configured, by sections. */
void document_write(struct json_object *o, const struct vm_config *c);
/* What Firecracker has of it. */
void vm_config_get(struct request *r);

/*
 * section.c: what the resources have in common. A handler of theirs reads its
 * section into *c, replacing what was there, or writes it (NULL: the VM has
 * none).
 */

/* Answers a request that changes one section, which read() puts into a copy of
 * the configuration. */
void section_change(struct request *r, enum api_section section,
	int (*read)(struct request *r, struct vm_config *c, struct error *err));
void section_get(struct request *r, const char *what,
	struct json_object *(*write)(const struct vm_config *c));
/* Answers a request that changes a guest that runs. */
void update_run(
	struct request *r, int (*read)(struct request *r, struct api_update *u,
				   struct error *err));

/* Of a kind there can be several of, with ids: reads one. prefix: of the
 * fields in errors, "drives" or, within a document, "drives[3]". id: what the
 * path says; NULL: as the body says. */
typedef int section_read_one(struct json_object *o, const char *prefix,
	const char *id, struct vm_config *c, struct error *err);
/* All of an array, in which no id comes twice. n: how many *c has. */
int section_read_list(struct json_object *o, const char *name,
	const char *id_field, section_read_one *one, struct vm_config *c,
	const unsigned *n, struct error *err);
int section_match_id(const char *field, const char *in_body,
	const char *in_path, struct error *err);

/* boot_source.c */
void boot_source_put(struct request *r);
int boot_source_read(
	struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *boot_source_write(const struct vm_config *c);

/* cpu_config.c */
void cpu_config_put(struct request *r);
int cpu_config_read(
	struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *cpu_config_write(const struct vm_config *c);

/* machine_config.c */
void machine_config_get(struct request *r);
void machine_config_put(struct request *r);
void machine_config_patch(struct request *r);
int machine_config_read(struct json_object *o, bool partial,
	struct vm_config *c, struct error *err);
struct json_object *machine_config_write(const struct vm_config *c);

/* drives.c */
void drive_put(struct request *r);
void drive_patch(struct request *r);
section_read_one drive_read;
int drives_read(struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *drives_write(const struct vm_config *c);

/* network_interfaces.c */
void network_interface_put(struct request *r);
void network_interface_patch(struct request *r);
section_read_one network_interface_read;
int network_interfaces_read(
	struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *network_interfaces_write(const struct vm_config *c);

/* pmem.c */
void pmem_put(struct request *r);
void pmem_patch(struct request *r);
section_read_one pmem_read;
int pmems_read(struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *pmems_write(const struct vm_config *c);

/* vsock.c */
void vsock_put(struct request *r);
int vsock_read(struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *vsock_write(const struct vm_config *c);

/* entropy.c */
void entropy_put(struct request *r);
int entropy_read(struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *entropy_write(const struct vm_config *c);

/* balloon.c */
void balloon_get(struct request *r);
void balloon_put(struct request *r);
void balloon_patch(struct request *r);
void balloon_stats_get(struct request *r);
void balloon_stats_patch(struct request *r);
void balloon_hinting_start(struct request *r);
void balloon_hinting_get(struct request *r);
void balloon_hinting_stop(struct request *r);
int balloon_read(struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *balloon_write(const struct vm_config *c);

/* memory_hotplug.c */
void memory_hotplug_get(struct request *r);
void memory_hotplug_put(struct request *r);
void memory_hotplug_patch(struct request *r);
int memory_hotplug_read(
	struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *memory_hotplug_write(const struct vm_config *c);

/* serial.c */
void serial_put(struct request *r);
void serial_patch(struct request *r);
int serial_read(struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *serial_write(const struct vm_config *c);

/* mmds.c */
void mmds_get(struct request *r);
void mmds_put(struct request *r);
void mmds_patch(struct request *r);
void mmds_config_put(struct request *r);
int mmds_config_read(
	struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *mmds_config_write(const struct vm_config *c);

/* vm_host.c */
int vm_host_read(struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *vm_host_write(const struct vm_config *c);

/* api_socket.c */
int api_socket_read(
	struct json_object *v, struct vm_config *c, struct error *err);
struct json_object *api_socket_write(const struct vm_config *c);

/* logger.c: a VM's own log and metrics, as Firecracker writes them. */
void logger_put(struct request *r);
int logger_read(struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *logger_write(const struct vm_config *c);
void vm_metrics_put(struct request *r);
int vm_metrics_read(
	struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *vm_metrics_write(const struct vm_config *c);

/* firecracker.c: what a VM's own socket has beside the VM's resources. */
void instance_get(struct request *r);
void firecracker_version_get(struct request *r);
void snapshot_put(struct request *r);

/* labels.c */
int labels_read(struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *labels_write(const struct vm_config *c);
/* A filter out of a query: "key" or "key=value". */
int labels_filter_check(const char *filter, struct error *err);
bool labels_match(
	const struct vm_label *labels, unsigned n_labels, const char *filter);

/* actions.c */
void actions_put(struct request *r);
void vm_state_patch(struct request *r);

/* console.c */
void console_get(struct request *r);
void console_put(struct request *r);
void console_patch(struct request *r);

/* wait.c */
void wait_get(struct request *r);

/* vm_json.c: {"reason": ...} */
struct json_object *exit_write(const struct api_vm *vm);
struct json_object *vm_write(
	const struct api_vm *vm, const struct api_counters *counters);
struct json_object *vm_summary_write(const struct api_vm *vm);

/* counters.c */
struct json_object *counters_write(const struct api_counters *c);
