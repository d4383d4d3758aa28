/* Prints what its CPU and its machine say of themselves, a line each, and shuts
 * down: registers of CPUID, an MSR, and the pages of the VM's generation. */
#include "guest.h"

#define VMGENID 0xfd000
#define VMCLOCK 0xfe000
#define MSR_ARCH_CAPABILITIES 0x10a

GUEST_64
	mov $stack, %esp
	mov $1, %eax
	cpuid
	mov %eax, %ebx
	call print              /* signature */
	mov $0x80000006, %eax
	cpuid
	mov %ecx, %ebx
	call print              /* level 2 cache */
	mov $MSR_ARCH_CAPABILITIES, %ecx
	rdmsr
	mov %eax, %edi
	mov %edx, %ebx
	call print
	mov %edi, %ebx
	call print
	mov VMGENID, %ebx
	call print
	mov VMGENID + 4, %ebx
	call print
	mov VMGENID + 8, %ebx
	call print
	mov VMGENID + 12, %ebx
	call print
	mov VMCLOCK, %ebx       /* "VCLK" */
	call print
	mov VMCLOCK + 0x18, %ebx /* flags */
	call print
	OUTB(PORT_SLEEP_CONTROL, 0x34)
	STOP

/* EBX and a line's end. */
print:	mov $PORT_SERIAL, %edx
	mov $28, %ecx
1:	mov %ebx, %eax
	shr %cl, %eax
	and $15, %eax
	mov digits(%rax), %al
	out %al, (%dx)
	sub $4, %ecx
	jns 1b
	mov $'\n', %al
	out %al, (%dx)
	ret

digits:	.ascii "0123456789abcdef"
	.balign 16
	.skip 256
stack:
