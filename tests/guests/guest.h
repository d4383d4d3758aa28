/* clang-format off */
/*
 * What the tiny guests know of the machine. They are ELF files of one loadable
 * segment at 1 MiB; GUEST_64 starts one that boots by the 64-bit entry,
 * GUEST_PVH one that boots by PVH, in 32-bit protected mode.
 *
 * The numbers are those of vmm/layout.h, whose C suffixes the assembler does
 * not take.
 */

#define PORT_I8042_CMD 0x64
#define PORT_SERIAL 0x3f8
#define PORT_SERIAL_IER (PORT_SERIAL + 1)
#define PORT_SERIAL_STATUS (PORT_SERIAL + 5)
#define PORT_PVPANIC 0x505
#define PORT_SLEEP_CONTROL 0x600
#define PORT_READY 0x6d66
#define VIRTIO_BASE 0xd0000000
#define HOLE 0xc0000000
#define LAPIC 0xfee00000

#define GUEST_64 \
	.code64; \
	.text; \
	.globl _start; \
	_start:

/* The ELF note that announces a PVH entry (XEN_ELFNOTE_PHYS32_ENTRY). */
#define GUEST_PVH \
	.section .note.Xen, "a", @note; \
	.long 4, 4, 18; \
	.asciz "Xen"; \
	.long _start; \
	.code32; \
	.text; \
	.globl _start; \
	_start:

/* One byte to a port. Clobbers eax and edx. */
#define OUTB(port, value) \
	mov $port, %edx; \
	mov $value, %eax; \
	out %al, (%dx)

#define READY OUTB(PORT_READY, 1)

/* Nothing more happens on this vCPU. */
#define STOP \
	99: cli; \
	hlt; \
	jmp 99b
