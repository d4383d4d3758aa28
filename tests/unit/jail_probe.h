#pragma once

/*
 * What tests run in a jail instead of mayfly-vmm: a static-pie that looks
 * around, and tells or does what its control socket asks for.
 */

#include <stdint.h>

/* One byte each; the answer is struct probe_report or struct probe_result. */
#define PROBE_LOOK 'l'
#define PROBE_FILTER 'f'    /* with the seccomp image; then the role's number */
#define PROBE_OPEN 'o'      /* open("/"): no program allows it */
#define PROBE_RING 'r'      /* makes an I/O worker's ring, restricted */
#define PROBE_RING_READ 'R' /* reads an empty file on it */
#define PROBE_RING_OPEN 'O' /* opens "/" on it */

struct probe_report {
	int32_t pid, sid;
	uint32_t umask, personality, securebits;
	uint64_t fds; /* bit n: n is open */
	int32_t root_entries;
	int32_t mkdir_error, create_error, mount_error;
	int32_t lo_flags;         /* interface 1's, or -1 */
	int32_t second_interface; /* its index, or -1 */
	uint32_t args, env;
	char arg0[32];
	char host[65];
};

struct probe_result {
	int32_t r;
};
