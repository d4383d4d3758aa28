#pragma once

/*
 * The configuration of one VM as the API knows it. Paths live in the daemon
 * alone: what a mayfly-vmm needs of this reaches it as descriptors and as
 * struct msg_start.
 *
 * A struct vm_config owns its strings. To change one, copy it, change the copy,
 * and swap it in when all of the change has succeeded.
 */

#include "base/error.h"
#include "vmm/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VM_MAX_LABELS 64

/*
 * For kernels of any distribution. console=ttyS0: the VM's one console.
 * reboot=k: through the keyboard controller, the reset this machine has.
 * panic=-1: reboot (that is, exit) at once on a panic. pci=off: there is no PCI
 * to look for. i8042.*: no mouse and no second controller, whose probing waits.
 */
#define VM_DEFAULT_BOOT_ARGS                                                   \
	"console=ttyS0 reboot=k panic=-1 pci=off i8042.noaux i8042.nomux "     \
	"i8042.dumbkbd"
/* Where the console is virtio: one of the two, or each line comes twice. */
#define VM_DEFAULT_BOOT_ARGS_HVC                                               \
	"console=hvc0 reboot=k panic=-1 pci=off i8042.noaux i8042.nomux "      \
	"i8042.dumbkbd"

/* How a drive's writes are cached: its flushes are obeyed, or ignored. */
enum vm_cache_type { VM_CACHE_UNSAFE, VM_CACHE_WRITEBACK };

/* Accepted for its clients' sake: all I/O is io_uring. */
enum vm_io_engine { VM_IO_SYNC, VM_IO_ASYNC };

struct vm_boot_source {
	char *kernel_image_path; /* NULL: not configured yet */
	char *initrd_path;       /* NULL: none */
	char *boot_args;         /* NULL: VM_DEFAULT_BOOT_ARGS(_HVC) */
};

enum vm_huge_pages { VM_PAGES_NORMAL, VM_PAGES_2M };

/* Where the guest's console is: ttyS0 or hvc0. Both carry the same bytes to the
 * same ring; kernel messages before its drivers come only over the first. */
enum vm_console_type { VM_CONSOLE_SERIAL, VM_CONSOLE_VIRTIO };

/* vmm/cpu_template.h; in the order of their names in the API. */
enum vm_cpu_template {
	VM_CPU_TEMPLATE_NONE, /* what the host has */
	VM_CPU_TEMPLATE_V2,
	VM_CPU_TEMPLATE_V3,
	VM_CPU_TEMPLATE_V4,
	VM_CPU_TEMPLATE_C3,
	VM_CPU_TEMPLATE_T2,
	VM_CPU_TEMPLATE_T2A,
	VM_CPU_TEMPLATE_T2CL,
	VM_CPU_TEMPLATE_T2S
};

struct vm_machine_config {
	uint32_t vcpu_count;
	uint32_t mem_size_mib;
	bool smt;
	bool track_dirty_pages;
	uint32_t huge_pages;   /* enum vm_huge_pages */
	uint32_t cpu_template; /* enum vm_cpu_template */
	uint32_t console;      /* enum vm_console_type */
};

/* A token bucket; size 0: no limit. */
struct vm_bucket {
	uint64_t size, one_time_burst, refill_time_ms;
};

struct vm_rate_limiter {
	struct vm_bucket bandwidth; /* bytes */
	struct vm_bucket ops;
};

struct vm_drive {
	char *drive_id;
	char *path_on_host;
	char *partuuid; /* of the root partition; NULL: the whole drive */
	bool is_root_device;
	bool is_read_only;
	uint32_t cache_type; /* enum vm_cache_type */
	uint32_t io_engine;  /* enum vm_io_engine */
	struct vm_rate_limiter rate_limiter;
};

struct vm_net {
	char *iface_id;
	char *host_dev_name;
	char *netns;     /* name under /run/netns; NULL: the daemon's own */
	char *bridge;    /* with create; NULL: none */
	bool create;     /* make the tap, and remove it with the VM */
	char *guest_mac; /* "aa:bb:cc:dd:ee:ff", lower case; NULL: guest's
			    choice */
	uint32_t mtu;    /* 0: not told */
	uint32_t queue_pairs;
	struct vm_rate_limiter rx_rate_limiter, tx_rate_limiter;
};

struct vm_vsock {
	char *vsock_id; /* accepted for its clients' sake */
	char *uds_path; /* NULL: no vsock */
	uint32_t guest_cid;
};

struct vm_entropy {
	bool there;
	struct vm_rate_limiter rate_limiter;
};

struct vm_balloon {
	bool there;
	uint32_t amount_mib;
	bool deflate_on_oom;
	uint32_t stats_polling_interval_s;
	bool free_page_hinting, free_page_reporting;
};

struct vm_memory_hotplug {
	bool there;
	uint32_t total_size_mib, block_size_mib, slot_size_mib;
	uint32_t requested_size_mib; /* changed while running */
};

struct vm_pmem {
	char *id;
	char *path_on_host;
	bool root_device;
	bool read_only;
	struct vm_rate_limiter rate_limiter;
};

struct vm_serial {
	struct vm_rate_limiter rate_limiter;
};

struct vm_mmds_config {
	bool there;
	uint32_t version; /* enum mmds_version */
	uint32_t ipv4;    /* host byte order */
	bool imds_compat;
	char *interfaces[VM_MAX_NETS]; /* iface_ids */
	unsigned n_interfaces;
};

/* A register of a CPUID leaf: (register & keep) | set. */
enum vm_cpuid_reg { VM_CPUID_EAX, VM_CPUID_EBX, VM_CPUID_ECX, VM_CPUID_EDX };
struct vm_cpuid_mod {
	uint32_t leaf, subleaf, flags; /* KVM_CPUID_FLAG_* */
	uint32_t reg;                  /* enum vm_cpuid_reg */
	uint32_t keep, set;
};

struct vm_msr_mod {
	uint32_t index;
	uint64_t keep, set;
};

struct vm_kvm_cap {
	uint32_t cap;
	bool not_needed; /* "!N": do not insist on it */
};

struct vm_cpu_config {
	struct vm_cpuid_mod *cpuid;
	unsigned n_cpuid; /* at most VM_MAX_CPUID_MODS */
	struct vm_msr_mod *msrs;
	unsigned n_msrs; /* at most VM_MAX_MSR_MODS */
	struct vm_kvm_cap *caps;
	unsigned n_caps; /* at most VM_MAX_KVM_CAPS */
};

/*
 * How what the configuration names is found on the host: by the daemon, as if
 * it were a process of that root and working directory.
 */
struct vm_host {
	char *path_root;   /* no path leads out of it; NULL: the host's root */
	char *path_base;   /* where relative paths begin; NULL: the root */
	char *netns;       /* where taps are looked for that do not say; NULL */
	uint32_t uid, gid; /* of files made for it; 0: the daemon's own */
	uint32_t owner_pid; /* the VM ends with this process; 0: with nobody */
	/* ... which began at this time: field 22 of its /proc/PID/stat. */
	uint64_t owner_start_time;
};

/* A socket of the VM's own, which serves Firecracker's API. */
struct vm_api_socket {
	char *path;        /* NULL: none */
	uint32_t mode;     /* permission bits */
	uint32_t uid, gid; /* its owner */
};

/* In the order of their names in the API: each says more. */
enum vm_log_level {
	VM_LOG_OFF,
	VM_LOG_ERROR,
	VM_LOG_WARNING,
	VM_LOG_INFO,
	VM_LOG_DEBUG,
	VM_LOG_TRACE
};

struct vm_logger {
	bool there;
	char *log_path; /* NULL: nowhere */
	char *module;   /* only what comes from there; NULL: all */
	uint32_t level; /* enum vm_log_level */
	bool show_level, show_log_origin;
};

struct vm_metrics {
	char *metrics_path; /* NULL: nowhere */
};

struct vm_label {
	char *key;
	char *value;
};

struct vm_config {
	struct vm_boot_source boot_source;
	struct vm_machine_config machine_config;
	struct vm_drive drives[VM_MAX_DRIVES]; /* the root drive is first */
	unsigned n_drives;
	struct vm_net nets[VM_MAX_NETS];
	unsigned n_nets;
	struct vm_vsock vsock;
	struct vm_entropy entropy;
	struct vm_balloon balloon;
	struct vm_memory_hotplug memory_hotplug;
	struct vm_pmem pmem[VM_MAX_PMEM]; /* a root device is first */
	unsigned n_pmem;
	struct vm_serial serial;
	struct vm_mmds_config mmds;
	struct vm_cpu_config cpu;
	struct vm_host host;
	struct vm_api_socket api_socket;
	struct vm_logger logger;
	struct vm_metrics metrics;
	struct vm_label *labels;
	unsigned n_labels;
};

/* 1 vCPU and 128 MiB, and nothing else. */
void vm_config_init(struct vm_config *c);
void vm_config_fini(struct vm_config *c);

/* A deep copy into ret (uninitialised before): 0 or -ENOMEM. */
int vm_config_copy(struct vm_config *ret, const struct vm_config *c);

void vm_boot_source_fini(struct vm_boot_source *b);
void vm_drive_fini(struct vm_drive *d);
void vm_net_fini(struct vm_net *n);
void vm_pmem_fini(struct vm_pmem *p);
void vm_vsock_fini(struct vm_vsock *v);
void vm_mmds_config_fini(struct vm_mmds_config *m);
void vm_cpu_config_fini(struct vm_cpu_config *cpu);
void vm_host_fini(struct vm_host *h);
void vm_api_socket_fini(struct vm_api_socket *a);

/*
 * Adds a drive, interface or pmem device, or replaces the one of the same id,
 * and keeps a root device first among its kind. Takes *d, *n or *p over
 * (leaving it empty), whatever happens. Fails when there would be two root
 * devices or too many of a kind.
 */
int vm_config_put_drive(
	struct vm_config *c, struct vm_drive *d, struct error *err);
int vm_config_put_net(struct vm_config *c, struct vm_net *n, struct error *err);
int vm_config_put_pmem(
	struct vm_config *c, struct vm_pmem *p, struct error *err);

/* -1 when there is none. */
int vm_config_find_drive(const struct vm_config *c, const char *drive_id);
int vm_config_find_net(const struct vm_config *c, const char *iface_id);
int vm_config_find_pmem(const struct vm_config *c, const char *id);

/* The bytes of a MAC address: whether it is one. */
bool vm_mac_parse(const char *text, uint8_t ret[6]);

/* How many virtio devices the guest will find. */
unsigned vm_config_count_devices(const struct vm_config *c);

/* Takes key and value over, whatever happens. 0 or -ENOMEM. */
int vm_config_add_label(struct vm_config *c, char *key, char *value);

/* What no single field's range can tell. host_mem_mib: 0 if not known. */
int vm_config_check(
	const struct vm_config *c, uint64_t host_mem_mib, struct error *err);

/*
 * Writes the kernel's command line to buf[VM_CMDLINE_MAX]: the boot arguments,
 * and root= for the root drive or pmem device.
 */
int vm_config_cmdline(const struct vm_config *c, char *buf, struct error *err);
