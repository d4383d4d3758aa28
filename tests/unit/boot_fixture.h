#pragma once

/* Guest memory, and an image that is booted into it. */

#include "base/cleanup.h"
#include "tests/unit/kernel_images.h"

#include <check.h>

#define MEM (16 * MIB)

static struct gmem mem;
static struct error err;
static struct boot_entry entry;

static inline void make_memory(void)
{
	memset(&err, 0, sizeof(err));
	ck_assert_int_eq(gmem_create(&mem, MEM, LAYOUT_HOLE, LAYOUT_HOLE_END,
				 false, &err),
		0);
}

static inline void teardown(void)
{
	gmem_destroy(&mem);
}

static inline const uint8_t *at(uint64_t gpa)
{
	return gmem_range(&mem, gpa, 1);
}

static inline int load_image(const void *bytes, size_t size, int initrd_fd)
{
	_cleanup_close_ int fd = image_fd(bytes, size);
	struct boot_images images = {.kernel_fd = fd,
		.initrd_fd = initrd_fd,
		.cmdline = "quiet",
		.rsdp_gpa = LAYOUT_ACPI};

	ck_assert_int_ge(fd, 0);
	return boot_load(&mem, &images, &entry, &err);
}
