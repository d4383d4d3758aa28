#pragma once

/*
 * One microVM, put together: guest memory, KVM, the devices and where they
 * answer, the I/O worker, the vCPUs. The only place that knows concrete
 * devices.
 *
 * Its life is made of steps, on the control thread but for one, in this order:
 *
 *   vm_init     what needs no configuration
 *   vm_prepare  memory, KVM's VM, the vCPUs and their threads
 *   (the control thread enters its filter)
 *   (perhaps a long time: a daemon prepares VMs before they are wanted)
 *   vm_create   devices and their threads, on a thread without a filter
 *               (vmm/starter.h), which ends. Now each thread is in its own
 *   vm_load     tables and kernel into memory
 *   vm_run      the first instruction
 *   vm_pause, vm_run, vm_ctrl_alt_del, vm_console_input ...
 *   vm_stop     no guest code runs, no request is in flight
 *
 * There is no destroy: the process ends with its VM.
 */

#include "base/error.h"
#include "base/seccomp_image.h"
#include "block/blk.h"
#include "net/net.h"
#include "virtio/gmem.h"
#include "virtio/mmio.h"
#include "virtio/worker.h"
#include "vmm/acpi_sleep.h"
#include "vmm/bus.h"
#include "vmm/console.h"
#include "vmm/generation.h"
#include "vmm/i8042.h"
#include "vmm/layout.h"
#include "vmm/memory_plan.h"
#include "vmm/msg.h"
#include "vmm/platform_tables.h"
#include "vmm/pvpanic.h"
#include "vmm/ready_port.h"
#include "vmm/serial.h"
#include "vmm/shared.h"
#include "vmm/vcpu.h"
#include "vmm/vm_events.h"

struct vm;

/* A virtio device in its slot: page LAYOUT_VIRTIO + index strides, pin
 * LAYOUT_IRQ_VIRTIO + index. */
struct vm_slot {
	struct vm *vm;
	struct virtio_dev *dev;
	struct virtio_mmio *transport;
	unsigned index;
	int irq_fd;
};

/* Packets must not wait behind a disk, nor a disk behind packets. */
enum vm_worker { VM_WORKER_IO, VM_WORKER_NET, VM_WORKERS };

/* Which of KVM's memory slots is what. */
enum vm_kvm_slot {
	VM_KVM_SLOT_RAM,
	VM_KVM_SLOT_PMEM = VM_KVM_SLOT_RAM + GMEM_MAX_REGIONS,
	VM_KVM_SLOT_HOTPLUG = VM_KVM_SLOT_PMEM + VM_MAX_PMEM
};

/* Connections the daemon was asked for. */
struct vm_vsock_asks {
	uint64_t tokens[VSOCK_MAX_CONNECTING];
	unsigned n;
};

/* A file in the guest's address space; not in gmem. */
struct vm_pmem_map {
	uint64_t gpa, len; /* len 0: there is none */
	void *hva;
	bool read_only;
};

struct vm {
	uint64_t ready_ns; /* when main() began */
	char *title;       /* that others see of the process; NULL: none */
	size_t title_bytes;
	int event_fd; /* the control thread's: look at events */
	int serial_irq_fd, keyboard_irq_fd, generation_irq_fd;
	int vm_fd;

	struct vm_shared *shared;
	const struct seccomp_image *seccomp;
	struct gmem mem;
	uint64_t ram_bytes;
	unsigned address_bits; /* of the guest's CPU */
	struct memory_plan plan;
	struct vm_pmem_map pmem_maps[VM_MAX_PMEM];
	uint64_t hotplug_slot_bytes;
	struct bus pio, mmio;

	struct console console;
	struct serial serial;
	struct i8042 keyboard;
	struct acpi_sleep sleep;
	struct pvpanic pvpanic;
	struct ready_port ready_port;
	struct generation generation;
	uint8_t first_guid[GENERATION_GUID_BYTES];

	struct worker *workers[VM_WORKERS]; /* NULL: no device needs it */
	struct vm_slot slots[VM_MAX_VIRTIO];
	unsigned n_slots;

	/* The slots' devices by what they are; NULL: not configured. */
	struct virtio_dev *drives[VM_MAX_DRIVES], *nets[VM_MAX_NETS];
	struct virtio_dev *pmem[VM_MAX_PMEM];
	struct virtio_dev *vsock, *rng, *balloon, *memory, *vconsole;
	struct vm_vsock_asks vsock_asks;
	struct mmds *mmds;

	struct vcpus vcpus;
	struct vm_events events;
};

_Static_assert(VM_MAX_VIRTIO <= LAYOUT_VIRTIO_MAX, "a pin for each device");

int vm_init(struct vm *vm, uint64_t ready_ns);

/* fds: as MSG_PREPARE carries them; the wake eventfd is borrowed for the VM's
 * life. */
int vm_prepare(struct vm *vm, const struct msg_prepare *m, const int *fds,
	struct error *err);
/* fds: as MSG_START carries them; borrowed for the VM's life. */
int vm_create(struct vm *vm, const struct msg_start *start, const int *fds,
	struct error *err);
int vm_load(struct vm *vm, const struct msg_start *start, const int *fds,
	struct error *err);

void vm_run(struct vm *vm);
int vm_pause(struct vm *vm);
/* Any other message of the daemon's to a VM that has started. fds: as the
 * message carries them, taken over. 0 or a negative errno, for MSG_DONE. */
int vm_obey(struct vm *vm, const union msg *m, const int *fds);
/* Connections of the guest's for which the daemon is asked, one by one, when
 * event_fd was signalled; and its answers. */
bool vm_vsock_next(struct vm *vm, struct msg_vsock_connect *ret);
void vm_vsock_connected(
	struct vm *vm, const struct msg_vsock_connected *m, const int *fds);
/* The daemon is gone: what it was asked for is refused. */
void vm_vsock_unasked(struct vm *vm);
/* Another one is there: where to write what was for the first. */
int vm_adopt(struct vm *vm, int taken_wake_fd);
void vm_stop(struct vm *vm);

/* Installs a thread's filter: on the control thread itself, or by the others
 * as they start. */
int vm_enter_filter(const struct vm *vm, enum seccomp_role role);

/* A moment of the start is now, unless it has been. */
void vm_mark(struct vm *vm, enum vm_moment moment);
