#pragma once

/*
 * Compiled seccomp programs, as they travel from the daemon (jailer/ compiles
 * them with libseccomp, once) to every mayfly-vmm (which only installs them).
 * They lie in one sealed memfd, mapped read-only by the receiver.
 */

#include <linux/filter.h>
#include <stdint.h>

enum seccomp_role {
	SECCOMP_CONTROL, /* the main thread: messages, set-up, lifecycle */
	SECCOMP_VCPU,    /* KVM_RUN and the devices' registers */
	SECCOMP_WORKER,  /* io_uring_enter and little else */
	SECCOMP_ROLES
};

#define SECCOMP_IMAGE_MAX_INSNS 1024

struct seccomp_image {
	uint32_t n_insns[SECCOMP_ROLES];
	struct sock_filter insns[SECCOMP_ROLES][SECCOMP_IMAGE_MAX_INSNS];
};

/*
 * Maps the image behind fd (borrowed) read-only. Returns NULL with errno set,
 * or the mapping, which stays for the process's life.
 */
const struct seccomp_image *seccomp_image_map(int fd);

/*
 * Installs one program on the calling thread; PR_SET_NO_NEW_PRIVS must be set.
 * Threads it creates afterwards inherit it. 0 or a negative errno.
 */
int seccomp_image_install(const struct seccomp_image *img, enum seccomp_role r);
