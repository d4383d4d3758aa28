#pragma once

/*
 * A mayflyd of a bench's own, in a new directory under /dev/shm; it ends, and
 * the directory goes, with the program. Ends the program when it cannot be had.
 */

#include <sys/types.h>

/* The tools' build knows where the programs are. options: further words of its
 * command line, then NULL; or NULL. */
void bench_daemon_start(const char *mayflyd, const char *const *options);
pid_t bench_daemon_pid(void);
/* Until it answers. */
void bench_daemon_wait(void);

/* What it listens on. */
const char *bench_daemon_socket(void);
