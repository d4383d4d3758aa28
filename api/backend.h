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
#include "base/histogram.h"
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
	uint64_t discards, write_zeroes, throttled;
	struct histogram read_time, write_time, flush_time;
};

struct api_net_stats {
	const char *iface_id;
	uint64_t rx_packets, rx_bytes, rx_dropped, rx_throttled;
	uint64_t tx_packets, tx_bytes, tx_dropped, tx_throttled;
	uint64_t tap_errors, malformed, mmds_rx_packets, mmds_tx_packets;
	struct histogram tx_time;
};

struct api_pmem_stats {
	const char *id;
	uint64_t flushes, errors, throttled, malformed;
};

struct api_counters {
	uint64_t exits_pio, exits_mmio, exits_other, exits_interrupted;
	uint64_t guest_faults, console_limited;
	uint64_t memory_resident_bytes; /* of its process; 0: it has none */
	/* Sampled every now and then after scraped(): the process's
	 * proportional share, and what the guest has touched, with what little
	 * the process has beside it. */
	bool has_memory_sample;
	uint64_t memory_pss_bytes, memory_anonymous_bytes;
	struct api_drive_stats drives[VM_MAX_DRIVES];
	unsigned n_drives;
	struct api_net_stats nets[VM_MAX_NETS];
	unsigned n_nets;
	struct api_pmem_stats pmem[VM_MAX_PMEM];
	unsigned n_pmem;
	bool has_vsock, has_entropy, has_balloon, has_memory, has_mmds;
	struct {
		uint64_t connections, opened, refused, resets;
		uint64_t rx_packets, tx_packets, rx_bytes, tx_bytes;
		uint64_t errors, malformed;
	} vsock;
	struct {
		uint64_t requests, bytes, errors, throttled, malformed;
	} entropy;
	struct {
		uint64_t inflated_pages, deflated_pages;
		uint64_t reported_bytes, hinted_bytes, errors, malformed;
		uint64_t target_bytes, actual_bytes;
	} balloon;
	struct {
		uint64_t plugs, unplugs, refused, malformed;
		uint64_t requested_bytes, plugged_bytes;
	} memory;
	struct {
		uint64_t requests, denied, not_found, malformed, tokens;
		uint64_t connections;
	} mmds;
};

/* Processes that wait for a VM to become. */
struct api_pool {
	unsigned ready, target;
	uint64_t starts_from_pool, starts_without;
};

/* What some devices of a guest that runs are at. */
struct api_device_state {
	uint64_t balloon_target_pages, balloon_actual_pages; /* of 4 KiB */
	/* By VIRTIO_BALLOON_S_*; UINT64_MAX: the guest has not told. */
	uint64_t balloon_stats[16];
	uint64_t hint_host_cmd, hint_guest_cmd;
	uint64_t memory_requested_bytes, memory_plugged_bytes;
};

/* One VM as it is now. Pointers are borrowed until control goes back to the
 * event loop. */
struct api_vm {
	const char *id;
	uint64_t number; /* rises in the order of creation; never 0 */
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
	API_SECTION_NET,
	API_SECTION_VSOCK,
	API_SECTION_ENTROPY,
	API_SECTION_BALLOON,
	API_SECTION_MEMORY_HOTPLUG,
	API_SECTION_PMEM,
	API_SECTION_SERIAL,
	API_SECTION_MMDS,
	API_SECTION_CPU,
	API_SECTION_LOGGER,
	API_SECTION_METRICS,
};

/* What a request changes of a guest that runs. */
enum api_update_kind {
	API_UPDATE_DRIVE,
	API_UPDATE_NET,
	API_UPDATE_PMEM,
	API_UPDATE_SERIAL,
	API_UPDATE_BALLOON,
	API_UPDATE_BALLOON_STATS,
	API_UPDATE_HINTING_START,
	API_UPDATE_HINTING_STOP,
	API_UPDATE_MEMORY,
	API_UPDATE_CONSOLE_SIZE,
};

/* Buckets that are not there stay as they are. */
struct api_limiter_update {
	bool has_bandwidth, has_ops;
	struct vm_rate_limiter to;
};

struct api_update {
	enum api_update_kind kind;
	char sub_id[VM_ID_MAX + 1]; /* of the drive, interface or pmem */
	char *path_on_host;         /* DRIVE; owned; NULL: stays */
	/* DRIVE, PMEM, SERIAL: the first; NET: receive, transmit */
	struct api_limiter_update limiter[2];
	uint32_t amount_mib; /* BALLOON; MEMORY: the requested size */
	uint32_t interval_s;
	bool acknowledge_on_stop;
	uint16_t columns, rows;
};

/* The metadata: as JSON, and compiled (net/mmds_image.h). Both malloc()ed. */
struct api_mmds_data {
	char *json;
	void *image;
	size_t image_len;
};

enum api_action {
	API_ACTION_START,
	API_ACTION_CTRL_ALT_DEL,
	API_ACTION_FLUSH_METRICS,
	API_ACTION_PAUSE,
	API_ACTION_RESUME,
};

/* A request that was answered at a VM's own socket. */
struct api_served {
	const char *id;     /* the VM's */
	const char *method; /* "" and a path "" where there is no such route */
	const char *path;   /* "/drives/{drive_id}": as the route has it */
	unsigned status;
	const char *fault; /* "": it succeeded */
	uint64_t us;
};

/* What happens to VMs. */
enum api_event_kind {
	API_EVENT_CREATED,
	API_EVENT_STARTED,
	API_EVENT_GUEST_READY, /* the guest said so */
	API_EVENT_PAUSED,
	API_EVENT_RESUMED,
	API_EVENT_EXITED,
	API_EVENT_DELETED,
	API_EVENT_OOM,       /* its process was killed: no memory was left */
	API_EVENT_THROTTLED, /* a rate limiter has begun to hold it back */
	API_EVENT_ADOPTED,   /* by this daemon: it was another's */
	API_EVENTS
};

struct api_event {
	uint64_t seq;
	uint64_t lost; /* events before it that its reader came too late for */
	uint64_t time_ms; /* CLOCK_REALTIME */
	enum api_event_kind kind;
	const char *vm;
	struct vm_label *labels; /* the VM's, at that time */
	unsigned n_labels;
	pid_t pid;          /* 0: it has none */
	const char *reason; /* of EXITED; else NULL */
	/* Of EXITED and OOM; of THROTTLED, where it is a network's: which way;
	 * else NULL. */
	const char *detail;
	const char *device; /* of THROTTLED: "drives/data"; else NULL */
};

/* Someone who follows a console or the events. Embedded in its owner. */
struct api_reader {
	void (*wake)(struct api_reader *r); /* there may be more to read */
	void *backend;
	struct api_reader *next;
	uint64_t pos;
	bool waiting;
};

struct api_backend_ops {
	const struct api_host *(*host)(void *ctx);

	/* Those with a higher number than `after`, in its order, until each()
	 * wants no more. */
	void (*list)(void *ctx, uint64_t after,
		bool (*each)(void *arg, const struct api_vm *vm), void *arg);
	int (*get)(void *ctx, const char *id, struct api_vm *ret,
		struct error *err);
	/* How long starts took, from request to running guest. */
	const struct histogram *(*start_times)(void *ctx);
	const struct api_pool *(*pool)(void *ctx);
	/* Somebody reads the metrics of all VMs: for some time from now on,
	 * what it takes time to know is looked at in the background. */
	void (*scraped)(void *ctx);
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
	 * one section; sub_id: which drive, interface or pmem. */
	int (*configure)(void *ctx, const char *id, struct vm_config *config,
		enum api_section section, const char *sub_id,
		struct error *err);
	/* Changes a guest that runs or is paused, and then its configuration
	 * to match. *u is taken over. */
	int (*update)(void *ctx, const char *id, struct api_update *u,
		struct api_op *op, struct error *err);
	/* Of a guest that runs or is paused; fails else. */
	int (*device_state)(void *ctx, const char *id,
		struct api_device_state *ret, struct error *err);

	/* The metadata: *ret NULL: there is none. */
	int (*mmds_get)(
		void *ctx, const char *id, const char **ret, struct error *err);
	/* *data is taken over. Before the start it is kept for then. */
	int (*mmds_set)(void *ctx, const char *id, struct api_mmds_data *data,
		struct api_op *op, struct error *err);

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

	/* Events of all VMs: those after number *after that are still known (0:
	 * all) and those to come, or only these (after NULL), until
	 * events_close(). */
	void (*events_open)(
		void *ctx, struct api_reader *r, const uint64_t *after);
	/* 1: one event, its pointers borrowed until control goes back to the
	 * event loop; 0: none now, wake() will be called; -ENODATA: there will
	 * be no more. */
	int (*events_next)(struct api_reader *r, struct api_event *ret);
	void (*events_close)(struct api_reader *r);

	/* Succeeds when the VM has exited; -ETIMEDOUT after timeout_ns
	 * (UINT64_MAX: never). */
	int (*wait)(void *ctx, const char *id, uint64_t timeout_ns,
		struct api_op *op, struct error *err);

	/* For the VM's log and metrics. */
	void (*served)(void *ctx, const struct api_served *s);

	/* done() of this pending operation will not be called any more. */
	void (*cancel)(void *ctx, struct api_op *op);
};

struct api_backend {
	const struct api_backend_ops *ops;
	void *ctx;
};
