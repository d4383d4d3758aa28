#pragma once

/*
 * The configuration of one VM as the API knows it. Paths live in the daemon
 * alone: what a mayfly-vmm needs of this reaches it as descriptors and as
 * struct msg_start.
 *
 * A struct vm_config owns its strings. To change one, copy it, change the copy,
 * and swap it in when all of the change has succeeded.
 */

#include "base/error.h"
#include "vmm/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VM_MAX_LABELS 64

/*
 * For kernels of any distribution. console=ttyS0: the VM's one console.
 * reboot=k: through the keyboard controller, the reset this machine has.
 * panic=-1: reboot (that is, exit) at once on a panic. pci=off: there is no PCI
 * to look for. i8042.*: no mouse and no second controller, whose probing waits.
 */
#define VM_DEFAULT_BOOT_ARGS                                                   \
	"console=ttyS0 reboot=k panic=-1 pci=off i8042.noaux i8042.nomux "     \
	"i8042.dumbkbd"

/* How a drive's writes are cached: its flushes are obeyed, or ignored. */
enum vm_cache_type { VM_CACHE_UNSAFE, VM_CACHE_WRITEBACK };

/* Accepted for its clients' sake: all I/O is io_uring. */
enum vm_io_engine { VM_IO_SYNC, VM_IO_ASYNC };

struct vm_boot_source {
	char *kernel_image_path; /* NULL: not configured yet */
	char *initrd_path;       /* NULL: none */
	char *boot_args;         /* NULL: VM_DEFAULT_BOOT_ARGS */
};

struct vm_machine_config {
	uint32_t vcpu_count;
	uint32_t mem_size_mib;
	bool smt;
	bool track_dirty_pages;
	uint32_t huge_pages;
	uint32_t cpu_template;
};

struct vm_drive {
	char *drive_id;
	char *path_on_host;
	char *partuuid; /* of the root partition; NULL: the whole drive */
	bool is_root_device;
	bool is_read_only;
	uint32_t cache_type; /* enum vm_cache_type */
	uint32_t io_engine;  /* enum vm_io_engine */
};

struct vm_label {
	char *key;
	char *value;
};

struct vm_config {
	struct vm_boot_source boot_source;
	struct vm_machine_config machine_config;
	struct vm_drive drives[VM_MAX_DRIVES]; /* the root drive is first */
	unsigned n_drives;
	struct vm_label *labels;
	unsigned n_labels;
};

/* 1 vCPU and 128 MiB, and nothing else. */
void vm_config_init(struct vm_config *c);
void vm_config_fini(struct vm_config *c);

/* A deep copy into ret (uninitialised before): 0 or -ENOMEM. */
int vm_config_copy(struct vm_config *ret, const struct vm_config *c);

void vm_boot_source_fini(struct vm_boot_source *b);
void vm_drive_fini(struct vm_drive *d);

/*
 * Adds a drive or replaces the one of the same id, and keeps the root drive
 * first. Takes *d over (leaving it empty), whatever happens. Fails when there
 * would be two root devices or too many drives.
 */
int vm_config_put_drive(
	struct vm_config *c, struct vm_drive *d, struct error *err);

/* -1 when there is none. */
int vm_config_find_drive(const struct vm_config *c, const char *drive_id);

/* Takes key and value over, whatever happens. 0 or -ENOMEM. */
int vm_config_add_label(struct vm_config *c, char *key, char *value);

/* What no single field's range can tell. host_mem_mib: 0 if not known. */
int vm_config_check(
	const struct vm_config *c, uint64_t host_mem_mib, struct error *err);

/*
 * Writes the kernel's command line to buf[VM_CMDLINE_MAX]: the boot arguments,
 * and root= for the root drive.
 */
int vm_config_cmdline(const struct vm_config *c, char *buf, struct error *err);
