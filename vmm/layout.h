#pragma once

/*
 * The guest-physical memory map and the ports: every address the guest meets
 * is a line here.
 */

#include "vmm/limits.h"

/* Low memory, until LAYOUT_HIGH_RAM. */
#define LAYOUT_GDT 0x500ull
#define LAYOUT_PVH_INFO 0x6000ull  /* hvm_start_info, memory map, modules */
#define LAYOUT_ZERO_PAGE 0x7000ull /* struct boot_params */
#define LAYOUT_BOOT_STACK 0x8ff0ull
#define LAYOUT_PML4 0x9000ull /* 3 pages: PML4, PDPT, PD */
#define LAYOUT_CMDLINE 0x20000ull
#define LAYOUT_EBDA 0x9fc00ull /* MP table; low RAM ends here */
#define LAYOUT_EBDA_END 0xa0000ull
#define LAYOUT_ACPI 0xe0000ull /* RSDP first, then the tables */
#define LAYOUT_ACPI_END 0xfd000ull
#define LAYOUT_VMGENID 0xfd000ull /* 1 page: the VM's generation */
#define LAYOUT_VMCLOCK 0xfe000ull /* 1 page: its virtual clock */
#define LAYOUT_ROM 0xff000ull     /* 1 page, all the firmware there is: */
#define LAYOUT_RESET_VECTOR 0xffff0ull
#define LAYOUT_HIGH_RAM 0x100000ull /* kernels go here */

/* The hole below 4 GiB; RAM that would lie in it continues at 4 GiB. Behind it
 * come memory to plug and files, where memory_plan.h says. */
#define LAYOUT_HOLE 0xc0000000ull
#define LAYOUT_HOLE_END 0x100000000ull
#define LAYOUT_VIRTIO 0xd0000000ull /* one page each */
#define LAYOUT_VIRTIO_STRIDE 0x1000ull
#define LAYOUT_IOAPIC 0xfec00000ull
#define LAYOUT_LAPIC 0xfee00000ull
#define LAYOUT_IDENTITY_MAP 0xfffbc000ull /* 1 page, for KVM on Intel */
#define LAYOUT_TSS 0xfffbd000ull          /* 3 pages, for KVM on Intel */

/* Interrupts: pins of the one IOAPIC. */
#define LAYOUT_IRQ_KEYBOARD 1u
#define LAYOUT_IRQ_GENERATION 3u
#define LAYOUT_IRQ_SERIAL 4u
#define LAYOUT_IRQ_VIRTIO 5u /* and up */
#define LAYOUT_IRQ_END 24u
#define LAYOUT_VIRTIO_MAX (LAYOUT_IRQ_END - LAYOUT_IRQ_VIRTIO)

/* I/O ports. */
#define LAYOUT_PORT_I8042_DATA 0x60u
#define LAYOUT_PORT_I8042_CMD 0x64u
#define LAYOUT_PORT_SERIAL 0x3f8u
#define LAYOUT_PORT_PVPANIC 0x505u
#define LAYOUT_PORT_SLEEP_CONTROL 0x600u /* ACPI 6.4 4.8.3.7 */
#define LAYOUT_PORT_SLEEP_STATUS 0x601u
#define LAYOUT_PORT_READY VM_READY_PORT /* guest ready: any byte written */
