#pragma once

#include "net/mmds_image.h"

#include <string.h>

/* The image of one string, the root, in buf, which is aligned and has room for
 * MMDS_TEXT_IMAGE(len) bytes: its length. */
#define MMDS_TEXT_IMAGE(len)                                                   \
	(sizeof(struct mmds_image) + sizeof(struct mmds_entry) + (len))

static inline size_t mmds_text_image(void *buf, const char *text, size_t len)
{
	struct mmds_image *img = buf;
	uint32_t at = MMDS_TEXT_IMAGE(0);

	*img = (struct mmds_image){.magic = MMDS_IMAGE_MAGIC,
		.n_entries = 1,
		.size = at + (uint32_t)len};
	img->entries[0] = (struct mmds_entry){
		.has_text = 1, .text = at, .text_len = (uint32_t)len};
	memcpy((char *)buf + at, text, len);
	return img->size;
}
