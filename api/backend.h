#pragma once

/*
 * What the API asks of whoever runs the VMs (the daemon): plain structs in and
 * out, no JSON and no HTTP. All on one thread.
 *
 * Operations return 0, or a negative errno with err set, or API_PENDING: then
 * op->done() is called exactly once later (never before the call returns),
 * unless cancel() takes the operation back.
 */

#include "base/error.h"
#include "vmm/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define API_PENDING 1

struct api_op {
	/* err: NULL when it succeeded. */
	void (*done)(struct api_op *op, const struct error *err);
	void *backend; /* the backend's own */
};

/* Names and moments in the order a start reaches them. */
enum api_moment {
	API_MOMENT_PROCESS_READY,
	API_MOMENT_CONFIGURED,
	API_MOMENT_LOADED,
	API_MOMENT_FIRST_INSTRUCTION,
	API_MOMENT_KERNEL_UP,
	API_MOMENT_GUEST_READY,
	API_MOMENTS
};

struct api_drive_stats {
	const char *drive_id;
	uint64_t reads, writes, flushes, others;
	uint64_t read_bytes, write_bytes, errors, malformed;
};

struct api_counters {
	uint64_t exits_pio, exits_mmio, exits_other, exits_interrupted;
	uint64_t guest_faults;
	struct api_drive_stats drives[VM_MAX_DRIVES];
	unsigned n_drives;
};

/* One VM as it is now. Pointers are borrowed until control goes back to the
 * event loop. */
struct api_vm {
	const char *id;
	const char *state;
	const struct vm_config *config;
	pid_t pid;               /* 0: no process */
	const char *exit_reason; /* NULL: has not exited */
	const char *exit_detail; /* "": none */
	int exit_status;         /* -1: died of a signal */
	int exit_signal;         /* 0: exited by itself */
	uint64_t console_bytes, console_dropped;
	bool started;                  /* it has a timeline and counters */
	uint64_t received_ns;          /* CLOCK_MONOTONIC, of the request */
	uint64_t moments[API_MOMENTS]; /* ns after the request; 0: not yet */
};

struct api_flag {
	const char *name;
	int value; /* 0: absent */
};

/* What this host can do; constant strings. */
struct api_host {
	bool kvm_usable;
	int kvm_api_version; /* 0: there is no KVM */
	const struct api_flag *kvm_capabilities;
	unsigned n_kvm_capabilities;
	const char *verdict;            /* "linux", "tiny_guests" or "none" */
	const char *reason;             /* a sentence */
	uint64_t ring0_mips;            /* 0: not measured */
	const char *xsave, *cmpxchg16b; /* in ring 0; NULL: not tried */
	unsigned cgroup_version;        /* 0: none */
	bool io_uring;
	const struct api_flag *io_uring_features;
	unsigned n_io_uring_features;
	unsigned cpus;
	uint64_t mem_total_bytes, mem_available_bytes;
	const char *kernel_release;
};

/* Which part of a configuration a request changes. */
enum api_section {
	API_SECTION_BOOT_SOURCE,
	API_SECTION_MACHINE_CONFIG,
	API_SECTION_DRIVE,
};

enum api_action {
	API_ACTION_START,
	API_ACTION_CTRL_ALT_DEL,
	API_ACTION_PAUSE,
	API_ACTION_RESUME,
};

/* Someone who follows a console. Embedded in its owner. */
struct api_reader {
	void (*wake)(struct api_reader *r); /* there may be more to read */
	void *backend;
	struct api_reader *next;
	uint64_t pos;
	bool waiting;
};

struct api_backend_ops {
	const struct api_host *(*host)(void *ctx);

	void (*list)(void *ctx,
		void (*each)(void *arg, const struct api_vm *vm), void *arg);
	int (*get)(void *ctx, const char *id, struct api_vm *ret,
		struct error *err);
	/* Of a VM that was started; -ENODATA else. */
	int (*counters)(void *ctx, const char *id, struct api_counters *ret);

	/* Takes *config over. received_ns: when the request came. On failure,
	 * now or later, no VM remains. */
	int (*create)(void *ctx, const char *id, struct vm_config *config,
		bool start, uint64_t received_ns, struct api_op *op,
		struct error *err);
	int (*remove)(void *ctx, const char *id, struct api_op *op,
		struct error *err);

	/* Replaces the configuration by *config (taken over), which differs in
	 * one section; drive_id: which drive, for API_SECTION_DRIVE. */
	int (*configure)(void *ctx, const char *id, struct vm_config *config,
		enum api_section section, const char *drive_id,
		struct error *err);

	int (*act)(void *ctx, const char *id, enum api_action action,
		uint64_t received_ns, struct api_op *op, struct error *err);
	int (*console_input)(void *ctx, const char *id, const void *data,
		size_t len, struct api_op *op, struct error *err);

	/* All the console holds, in a buffer the caller frees, and how many
	 * bytes there were before it. */
	int (*console)(void *ctx, const char *id, char **ret, size_t *ret_len,
		uint64_t *ret_dropped, struct error *err);
	/* Follows from the oldest byte there is, until reader_close(). */
	int (*reader_open)(void *ctx, const char *id, struct api_reader *r,
		struct error *err);
	/* Bytes read; 0: none now, wake() will be called; -ENODATA: it ended,
	 * there is no more. */
	ssize_t (*reader_read)(struct api_reader *r, void *buf, size_t size);
	void (*reader_close)(struct api_reader *r);

	/* Succeeds when the VM has exited; -ETIMEDOUT after timeout_ns
	 * (UINT64_MAX: never). */
	int (*wait)(void *ctx, const char *id, uint64_t timeout_ns,
		struct api_op *op, struct error *err);

	/* done() of this pending operation will not be called any more. */
	void (*cancel)(void *ctx, struct api_op *op);
};

struct api_backend {
	const struct api_backend_ops *ops;
	void *ctx;
};
