#pragma once

/* What one microVM can have; the API names these ranges in its errors. */

#define VM_ID_MAX 64 /* bytes, without the closing NUL */
#define VM_MAX_VCPUS 32
#define VM_MAX_DRIVES 16
#define VM_MAX_NETS 8
#define VM_MAX_QUEUE_PAIRS 8 /* of one network interface */
#define VM_MAX_PMEM 8
#define VM_MAX_HOTPLUG_SLOTS 4096
#define VM_MAX_VIRTIO 19 /* devices of all kinds: an interrupt pin for each */
#define VM_CMDLINE_MAX 2048 /* x86 COMMAND_LINE_SIZE, with the NUL */
/* With "_" and a port behind it it fits in a socket's address. */
#define VM_UDS_PATH_MAX 96
#define VM_CONSOLE_BYTES (1u << 20)
#define VM_CONSOLE_INPUT_MAX 4096
/* A guest is ready: the I/O port, and the vsock port of the host. */
#define VM_READY_PORT 0x6d66u
#define VM_MMDS_MAX 51200     /* bytes of JSON */
#define VM_MAX_CPUID_MODS 256 /* registers changed by a CPU configuration */
#define VM_MAX_MSR_MODS 64
#define VM_MAX_KVM_CAPS 32
