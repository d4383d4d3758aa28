#pragma once

/*
 * The files a VM is made of, opened by the daemon: kernel, initrd, drives,
 * pmem. A path that names anything but a regular file (or, for a drive or pmem,
 * a block device) is refused, without opening it: a FIFO cannot hang the
 * daemon.
 */

#include "base/error.h"
#include "vmm/config.h"

#include <stdint.h>

struct drive_image {
	uint64_t size_bytes; /* a multiple of 512 */
	int fd;
	/* fd has O_DIRECT: its alignment, at most 512; 0: buffered */
	uint32_t direct_align;
	uint32_t block_bytes; /* of the storage: what it likes to write */
};

struct pmem_image {
	uint64_t file_bytes;
	int fd;
};

/* What a guest's mapping of a file is rounded up to. */
#define PMEM_ALIGN (2ull << 20)

/* drives[i] belongs to config->drives[i], pmem[i] to config->pmem[i]. */
struct vm_images {
	int kernel_fd; /* -1: none */
	int initrd_fd; /* -1: none */
	struct drive_image drives[VM_MAX_DRIVES];
	unsigned n_drives;
	struct pmem_image pmem[VM_MAX_PMEM];
	unsigned n_pmem;
};

void vm_images_init(struct vm_images *im);
void vm_images_close(struct vm_images *im); /* and init */

/* Fails with the field at fault. host: where the paths are (daemon/paths.h). */
int images_open_boot_source(const struct vm_host *host,
	const struct vm_boot_source *b, int *ret_kernel, int *ret_initrd,
	struct error *err);
/* vm: for the log. */
int images_open_drive(const char *vm, const struct vm_host *host,
	const struct vm_drive *d, struct drive_image *ret, struct error *err);
int images_open_pmem(const struct vm_host *host, const struct vm_pmem *p,
	struct pmem_image *ret, struct error *err);

/* All of a configuration, into *ret (initialised). */
int images_open_all(const char *vm, const struct vm_config *c,
	struct vm_images *ret, struct error *err);

/* The size again: it may have changed since the drive was configured. */
int images_measure(const char *vm, const struct vm_drive *d,
	struct drive_image *im, struct error *err);
int images_measure_pmem(
	const struct vm_pmem *p, struct pmem_image *im, struct error *err);
