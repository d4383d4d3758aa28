#pragma once

/*
 * Messages between the daemon and one mayfly-vmm: one datagram each on a
 * SOCK_SEQPACKET pair, fixed size per type, no pointers, host byte order (both
 * ends are one machine). Descriptors travel by SCM_RIGHTS in the order given.
 * msg_send() and msg_recv() refuse whatever does not match the table in msg.c:
 * type, direction, exact size, number of descriptors.
 *
 * The daemon's end does not block; the VMM's control thread does.
 */

#include "base/fd.h"
#include "virtio/rate_limiter.h"
#include "vmm/limits.h"

#include <stdint.h>

#define MSG_PROTOCOL 3u

enum msg_type {
	MSG_INVALID,
	/* daemon to VMM */
	MSG_PREPARE, /* the machine, which may then wait for its use */
	MSG_START,   /* devices and kernel, and off it goes */
	MSG_ADOPT,   /* the first message of another daemon */
	MSG_PAUSE,
	MSG_RESUME,
	MSG_CTRL_ALT_DEL,
	MSG_CONSOLE_INPUT,
	MSG_CONSOLE_SIZE,
	MSG_DRIVE,           /* another file, or the same with another size */
	MSG_LIMIT,           /* a rate limiter */
	MSG_BALLOON,         /* target, statistics, hinting */
	MSG_MEMORY,          /* requested size of the hotplugged memory */
	MSG_MMDS,            /* the metadata */
	MSG_VSOCK_CONNECTED, /* answers MSG_VSOCK_CONNECT */
	/* VMM to daemon */
	MSG_STARTED, /* guest runs: answers MSG_START */
	MSG_FAILED,  /* it could not: answers MSG_PREPARE or MSG_START, then
		      * the VMM exits */
	MSG_DONE,    /* answers all others of the daemon's */
	MSG_EVENT,   /* something worth a log line */
	MSG_VSOCK_CONNECT, /* a guest wants a connection to a host port */
	MSG_EXITING,       /* the last message: why the guest ended */
	MSG_TYPES
};

/* seq: chosen by the daemon, repeated in the answer; 0 in EVENT, EXITING and
 * the two of vsock. */
struct msg_hdr {
	uint32_t type;
	uint32_t seq;
};

struct msg_drive {
	uint64_t size_bytes;   /* a multiple of 512 */
	uint32_t direct_align; /* O_DIRECT is set: alignment; 0: buffered */
	uint32_t block_bytes;  /* of the host's storage */
	uint8_t read_only;
	uint8_t writeback; /* offer VIRTIO_BLK_F_FLUSH */
	uint8_t pad[6];
	char serial[20]; /* VIRTIO_BLK_T_GET_ID; NUL-padded */
	struct rate_limiter_config limiter;
};

struct msg_net {
	uint64_t tap_features;
	uint8_t mac[6];
	uint8_t has_mac;
	uint8_t n_pairs;
	uint16_t mtu;
	uint8_t mmds; /* the metadata service answers here */
	uint8_t pad[5];
	struct rate_limiter_config rx_limiter, tx_limiter;
};

struct msg_pmem {
	uint64_t size_bytes; /* of the guest's region: a multiple of 2 MiB */
	uint64_t file_bytes; /* of it, what the file has */
	uint8_t read_only;
	uint8_t pad[7];
	struct rate_limiter_config limiter;
};

struct msg_memory_hotplug {
	uint64_t region_bytes, block_bytes, slot_bytes, requested_bytes;
};

struct msg_balloon_config {
	uint32_t target_pages;
	uint32_t stats_interval_s;
	uint8_t deflate_on_oom, hinting, reporting;
	uint8_t pad[5];
};

struct msg_mmds_config {
	uint32_t ipv4;
	uint8_t version; /* enum mmds_version */
	uint8_t imds_compat;
	uint8_t pad[2];
	uint32_t data_len; /* of the metadata's image; 0: there is none yet */
};

/* (register & keep) | set, after all the VMM does itself but topology. */
struct msg_cpuid_mod {
	uint32_t leaf, subleaf, flags, reg, keep, set;
};

struct msg_msr_mod {
	uint32_t index, pad;
	uint64_t keep, set;
};

/* CPUID entries as KVM_GET_SUPPORTED_CPUID gave them; asked once, by the
 * daemon, since the answer is the same for every VM and takes 0.3 ms. */
#define MSG_CPUID_MAX 128
struct msg_cpuid_entry {
	uint32_t function, index, flags, eax, ebx, ecx, edx;
};

/*
 * What takes long to make and is the same for many VMs: memory, KVM's VM, vCPUs
 * and their threads. A daemon may send it long before MSG_START, to a VMM that
 * waits in its pool: one fits whose message was this, byte for byte.
 *
 * Descriptors: as enum msg_prepare_fd says; the last one only if has_control.
 */
struct msg_prepare {
	struct msg_hdr hdr;
	uint32_t protocol; /* MSG_PROTOCOL */
	uint32_t vcpu_count;
	uint64_t mem_bytes;    /* a multiple of 1 MiB */
	uint32_t shared_bytes; /* size of the shared memory */
	uint8_t smt;
	uint8_t huge_pages;  /* enum vm_huge_pages */
	uint8_t has_control; /* else the VM ends with its daemon */
	uint8_t pad[5];
	uint32_t n_cpuid, n_cpuid_mods, n_msr_mods;
	struct msg_cpuid_entry cpuid[MSG_CPUID_MAX];
	struct msg_cpuid_mod cpuid_mods[VM_MAX_CPUID_MODS];
	struct msg_msr_mod msr_mods[VM_MAX_MSR_MODS];
};

enum msg_prepare_fd {
	MSG_PREPARE_FD_KVM,
	MSG_PREPARE_FD_SHARED,
	MSG_PREPARE_FD_SECCOMP,
	MSG_PREPARE_FD_WAKE,
	MSG_PREPARE_FD_CONTROL, /* a listening SOCK_SEQPACKET: where another
				 * daemon will connect, once this one is gone */
	MSG_PREPARE_FDS
};

/* Of that socket: so many daemons may come and go while a VMM does not run. */
#define MSG_CONTROL_BACKLOG 64

/*
 * Descriptors: kernel, initrd if has_initrd, then one per drive, n_pairs per
 * net, one per pmem, the listening socket if has_vsock, the metadata (as in
 * MSG_MMDS) if has_mmds and mmds.data_len. msg_start_fds() tells where they
 * are.
 */
enum msg_start_fd {
	MSG_START_FD_KERNEL,
	MSG_START_FD_FIXED, /* the others follow */
};

struct msg_start {
	struct msg_hdr hdr;
	char id[VM_ID_MAX + 1]; /* for whoever lists processes */
	uint8_t console;        /* enum vm_console_type */
	uint8_t has_initrd;
	uint8_t n_drives, n_nets, n_pmem;
	uint8_t has_vsock, has_entropy, has_balloon, has_memory_hotplug;
	uint8_t has_mmds;
	uint32_t guest_cid;
	struct msg_drive drives[VM_MAX_DRIVES]; /* drives[0] is /dev/vda */
	struct msg_net nets[VM_MAX_NETS];
	struct msg_pmem pmem[VM_MAX_PMEM];
	struct msg_memory_hotplug memory_hotplug;
	struct msg_balloon_config balloon;
	struct msg_mmds_config mmds;
	struct rate_limiter_config entropy_limiter, serial_limiter;
	char cmdline[VM_CMDLINE_MAX]; /* NUL-terminated; the VMM appends */
};

/* PAUSE, RESUME, CTRL_ALT_DEL, STARTED; ADOPT, which carries one descriptor:
 * the wake eventfd from now on */
struct msg_plain {
	struct msg_hdr hdr;
};

struct msg_console_input {
	struct msg_hdr hdr;
	uint32_t len; /* 1 .. VM_CONSOLE_INPUT_MAX */
	uint8_t data[VM_CONSOLE_INPUT_MAX];
};

struct msg_console_size {
	struct msg_hdr hdr;
	uint16_t columns, rows;
	uint32_t pad;
};

/* Carries one descriptor: the drive's file from now on. */
struct msg_drive_update {
	struct msg_hdr hdr;
	uint32_t index;
	uint32_t direct_align;
	uint64_t size_bytes;
};

enum msg_limit_kind {
	MSG_LIMIT_DRIVE,
	MSG_LIMIT_NET_RX,
	MSG_LIMIT_NET_TX,
	MSG_LIMIT_PMEM,
	MSG_LIMIT_SERIAL, /* index 0 */
	MSG_LIMIT_KINDS
};

struct msg_limit {
	struct msg_hdr hdr;
	uint32_t kind;
	uint32_t index;
	uint8_t has_bytes, has_ops;
	uint8_t pad[6];
	struct rate_limiter_config config;
};

enum msg_balloon_what {
	MSG_BALLOON_TARGET,         /* value: pages of 4 KiB */
	MSG_BALLOON_STATS_INTERVAL, /* value: s */
	MSG_BALLOON_HINTING_START,  /* value: acknowledge on stop */
	MSG_BALLOON_HINTING_STOP,
	MSG_BALLOON_WHATS
};

struct msg_balloon {
	struct msg_hdr hdr;
	uint32_t what;
	uint32_t value;
};

struct msg_memory {
	struct msg_hdr hdr;
	uint64_t requested_bytes;
};

/* Carries one descriptor: a memfd with a struct mmds_image of len bytes. */
struct msg_mmds {
	struct msg_hdr hdr;
	uint32_t len;
	uint32_t pad;
};

struct msg_vsock_connect {
	struct msg_hdr hdr;
	uint64_t token;
	uint32_t port;
	uint32_t pad;
};

/* Carries the connected socket if has_fd; else nobody listens there. */
struct msg_vsock_connected {
	struct msg_hdr hdr;
	uint64_t token;
	uint8_t has_fd;
	uint8_t pad[7];
};

/* An errno, the API field at fault and a sentence; see base/error.h. */
struct msg_failed {
	struct msg_hdr hdr;
	int32_t code;
	char field[64];
	char text[256];
};

/* code: 0, or a positive errno (ENOBUFS: the console's input is full). */
struct msg_done {
	struct msg_hdr hdr;
	int32_t code;
	uint32_t pad;
};

enum msg_event_kind {
	MSG_EVENT_BLK_ERROR,   /* index: drive; value: errno; once per storm */
	MSG_EVENT_NEEDS_RESET, /* index: device; a malformed ring or register */
	MSG_EVENT_NET_ERROR,   /* index: interface; value: errno; the tap */
	MSG_EVENT_GUEST_READY, /* the guest wrote to the ready port; once */
	MSG_EVENT_KINDS
};

struct msg_event {
	struct msg_hdr hdr;
	uint32_t kind;
	uint32_t index;
	int64_t value;
};

enum vm_exit_reason {
	VM_EXIT_NONE,
	VM_EXIT_SHUTDOWN,       /* ACPI S5 */
	VM_EXIT_RESET,          /* i8042 or ACPI reset register */
	VM_EXIT_TRIPLE_FAULT,   /* KVM_EXIT_SHUTDOWN */
	VM_EXIT_PANIC,          /* pvpanic */
	VM_EXIT_INTERNAL_ERROR, /* KVM_EXIT_INTERNAL_ERROR, FAIL_ENTRY, ... */
	/* set by the daemon, never sent: */
	VM_EXIT_KILLED,    /* a signal from outside; status tells which */
	VM_EXIT_VIOLATION, /* SIGSYS: a system call outside its filter */
	VM_EXIT_CRASHED,   /* any other death without MSG_EXITING */
	VM_EXIT_REASONS
};

struct msg_exiting {
	struct msg_hdr hdr;
	uint32_t reason;
	uint32_t pad;
	char detail[256]; /* "" or a sentence with KVM's details */
};

union msg {
	struct msg_hdr hdr;
	struct msg_prepare prepare;
	struct msg_start start;
	struct msg_plain plain;
	struct msg_console_input input;
	struct msg_console_size size;
	struct msg_drive_update drive;
	struct msg_limit limit;
	struct msg_balloon balloon;
	struct msg_memory memory;
	struct msg_mmds mmds;
	struct msg_vsock_connect vsock_connect;
	struct msg_vsock_connected vsock_connected;
	struct msg_failed failed;
	struct msg_done done;
	struct msg_event event;
	struct msg_exiting exiting;
};

#define MSG_MAX_FDS                                                            \
	(MSG_START_FD_FIXED + 1 + VM_MAX_DRIVES +                              \
		VM_MAX_NETS * VM_MAX_QUEUE_PAIRS + VM_MAX_PMEM + 2)

/* Where MSG_START's descriptors are; -1: there is none. */
struct msg_start_fds {
	int initrd, vsock, mmds;
	unsigned drives;            /* the first of n_drives */
	unsigned nets[VM_MAX_NETS]; /* the first of n_pairs */
	unsigned pmem;
	unsigned n; /* in all */
};

void msg_start_fds(const struct msg_start *m, struct msg_start_fds *ret);

enum msg_end { MSG_DAEMON, MSG_VMM };

/* Sends m as its type's size says; fds borrowed. 0 or a negative errno
 * (-EAGAIN: the peer does not read; -EINVAL: not this end's to send). */
int msg_send(int sock, enum msg_end me, const union msg *m, const int *fds,
	unsigned n_fds);

/*
 * Receives one message. 1: got it, with exactly the descriptors its type
 * carries, owned by the caller; 0: the peer is gone; -EAGAIN; -EPROTO: not a
 * message this end takes (its descriptors are closed). Every string member is
 * NUL-terminated on return, whatever the peer sent.
 */
int msg_recv(int sock, enum msg_end me, union msg *ret, int *ret_fds,
	unsigned *ret_n_fds);
