#pragma once

/*
 * The resources: one file each, with its field table, its part of a whole
 * document, and the handlers of its routes.
 */

#include "api/request.h"

/* version.c, host.c */
void version_get(struct request *r);
void host_get(struct request *r);
struct json_object *host_write(const struct api_host *h);

/* vms.c */
void vms_list(struct request *r);
void vms_get(struct request *r);
void vms_put(struct request *r);
void vms_delete(struct request *r);

/*
 * Reads the whole document of PUT /v1/vms/{id} into *c (initialised by
 * vm_config_init()); on failure it is the caller's to vm_config_fini().
 */
int vm_document_read(struct json_object *o, struct vm_config *c,
	bool *ret_start, struct error *err);

/* Each reads its section into *c, replacing what was there (partial: changing
 * it), and writes it. */

/* section.c: answers a request that changes one section, which read() puts
 * into a copy of the configuration. */
void section_change(struct request *r, enum api_section section,
	int (*read)(struct request *r, struct vm_config *c, struct error *err));

/* boot_source.c */
void boot_source_put(struct request *r);
int boot_source_read(
	struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *boot_source_write(const struct vm_config *c);

/* machine_config.c */
void machine_config_get(struct request *r);
void machine_config_put(struct request *r);
void machine_config_patch(struct request *r);
int machine_config_read(struct json_object *o, bool partial,
	struct vm_config *c, struct error *err);
struct json_object *machine_config_write(const struct vm_config *c);

/* drives.c. drive_id: what the path says; NULL: as the body says. */
void drive_put(struct request *r);
int drive_read(struct json_object *o, const char *drive_id, struct vm_config *c,
	struct error *err);
int drives_read(struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *drives_write(const struct vm_config *c);

/* labels.c */
int labels_read(struct json_object *o, struct vm_config *c, struct error *err);
struct json_object *labels_write(const struct vm_config *c);

/* actions.c */
void actions_put(struct request *r);
void vm_state_patch(struct request *r);

/* console.c */
void console_get(struct request *r);
void console_put(struct request *r);

/* wait.c */
void wait_get(struct request *r);

/* vm_json.c: {"reason": ...} */
struct json_object *exit_write(const struct api_vm *vm);
struct json_object *vm_write(
	const struct api_vm *vm, const struct api_counters *counters);
struct json_object *vm_summary_write(const struct api_vm *vm);
