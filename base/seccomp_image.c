#include "base/seccomp_image.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

const struct seccomp_image *seccomp_image_map(int fd)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		return NULL;
	if (st.st_size < (off_t)sizeof(struct seccomp_image)) {
		errno = EINVAL;
		return NULL;
	}
	p = mmap(NULL, sizeof(struct seccomp_image), PROT_READ, MAP_PRIVATE, fd,
		0);
	return p == MAP_FAILED ? NULL : p;
}

int seccomp_image_install(const struct seccomp_image *img, enum seccomp_role r)
{
	uint32_t n = img->n_insns[r];
	struct sock_fprog prog = {.len = (unsigned short)n,
		.filter = (struct sock_filter *)(uintptr_t)img->insns[r]};

	if (n == 0 || n > SECCOMP_IMAGE_MAX_INSNS)
		return -EINVAL;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		return -errno;
	return 0;
}
