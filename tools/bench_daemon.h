#pragma once

/*
 * A mayflyd of a bench's own, in a new directory under /tmp; it ends, and the
 * directory goes, with the program. Ends the program when it cannot be had.
 */

/* The tools' build knows where the programs are; vmm: NULL for that one. */
void bench_daemon_start(const char *mayflyd, const char *vmm);

/* What it listens on. */
const char *bench_daemon_socket(void);
