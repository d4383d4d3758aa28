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
#include "vmm/limits.h"

#include <stdint.h>

#define MSG_PROTOCOL 1u

enum msg_type {
	MSG_INVALID,
	/* daemon to VMM */
	MSG_START,
	MSG_PAUSE,
	MSG_RESUME,
	MSG_CTRL_ALT_DEL,
	MSG_CONSOLE_INPUT,
	/* VMM to daemon */
	MSG_STARTED, /* guest runs: answers MSG_START */
	MSG_FAILED,  /* it could not: answers MSG_START, then the VMM exits */
	MSG_DONE,    /* answers PAUSE, RESUME, CTRL_ALT_DEL, CONSOLE_INPUT */
	MSG_EVENT,   /* something worth a log line */
	MSG_EXITING, /* the last message: why the guest ended */
	MSG_TYPES
};

/* seq: chosen by the daemon, repeated in the answer; 0 in EVENT and EXITING. */
struct msg_hdr {
	uint32_t type;
	uint32_t seq;
};

struct msg_drive {
	uint64_t size_bytes;   /* a multiple of 512 */
	uint32_t direct_align; /* O_DIRECT is set: alignment; 0: buffered */
	uint8_t read_only;
	uint8_t writeback; /* offer VIRTIO_BLK_F_FLUSH */
	uint8_t pad[2];
	char serial[20]; /* VIRTIO_BLK_T_GET_ID; NUL-padded */
};

/*
 * Descriptors: kvm, shared memfd, seccomp image memfd, wake eventfd, kernel,
 * initrd if has_initrd, then one per drive.
 */
enum msg_start_fd {
	MSG_START_FD_KVM,
	MSG_START_FD_SHARED,
	MSG_START_FD_SECCOMP,
	MSG_START_FD_WAKE,
	MSG_START_FD_KERNEL,
	MSG_START_FD_FIXED, /* initrd and drives follow */
};

/* CPUID entries as KVM_GET_SUPPORTED_CPUID gave them; asked once, by the
 * daemon, since the answer is the same for every VM and takes 0.3 ms. */
#define MSG_CPUID_MAX 128
struct msg_cpuid_entry {
	uint32_t function, index, flags, eax, ebx, ecx, edx;
};

struct msg_start {
	struct msg_hdr hdr;
	uint32_t protocol; /* MSG_PROTOCOL */
	uint32_t vcpu_count;
	uint64_t mem_bytes;    /* a multiple of 1 MiB */
	uint32_t shared_bytes; /* size of the shared memfd */
	uint8_t smt;
	uint8_t has_initrd;
	uint8_t n_drives;
	uint8_t pad;
	uint32_t n_cpuid;
	struct msg_cpuid_entry cpuid[MSG_CPUID_MAX];
	struct msg_drive drives[VM_MAX_DRIVES]; /* drives[0] is /dev/vda */
	char cmdline[VM_CMDLINE_MAX]; /* NUL-terminated; the VMM appends */
};

/* PAUSE, RESUME, CTRL_ALT_DEL, STARTED */
struct msg_plain {
	struct msg_hdr hdr;
};

struct msg_console_input {
	struct msg_hdr hdr;
	uint32_t len; /* 1 .. VM_CONSOLE_INPUT_MAX */
	uint8_t data[VM_CONSOLE_INPUT_MAX];
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
	struct msg_start start;
	struct msg_plain plain;
	struct msg_console_input input;
	struct msg_failed failed;
	struct msg_done done;
	struct msg_event event;
	struct msg_exiting exiting;
};

#define MSG_MAX_FDS (MSG_START_FD_FIXED + 1 + VM_MAX_DRIVES)

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
