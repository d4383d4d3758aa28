/* Starts all other CPUs at once. Each finds its number the same in both leaves
 * that tell it, and marks it; when all there should be have, their number is
 * printed in hexadecimal, and the guest shuts down. */
#include "guest.h"

#define TRAMPOLINE 0x10000 /* SIPI's vector is its page */
#define SEEN (ap_seen - ap)

GUEST_PVH
	mov $stack, %esp
	mov $ap, %esi
	mov $TRAMPOLINE, %edi
	mov $(ap_end - ap), %ecx
	rep movsb
	mov $LAPIC, %eax
	movl $0x10f, 0xf0(%eax)    /* enabled */
	movl $0xc4500, 0x300(%eax) /* INIT to all but this */
	movl $(0xc4600 | TRAMPOLINE >> 12), 0x300(%eax) /* SIPI */

	mov $0xb, %eax
	mov $1, %ecx
	cpuid
	movzwl %bx, %ebx           /* how many CPUs */
	mov $32, %ecx
	sub %ebx, %ecx
	mov $-1, %esi
	shr %cl, %esi              /* a bit for each */
1:	pause
	cmp %esi, TRAMPOLINE + SEEN
	jne 1b

	mov %ebx, %eax
	shr $4, %eax
	call digit
	mov %ebx, %eax
	call digit
	mov $'\n', %al
	mov $PORT_SERIAL, %edx
	out %al, (%dx)
	OUTB(PORT_SLEEP_CONTROL, 0x34)
	STOP

digit:	and $15, %eax
	mov digits(%eax), %al
	mov $PORT_SERIAL, %edx
	out %al, (%dx)
	ret

	.code16
ap:	mov $1, %eax
	cpuid
	shr $24, %ebx
	mov %ebx, %esi
	mov $0xb, %eax
	xor %ecx, %ecx
	cpuid
	cmp %esi, %edx
	jne 1f
	lock btsl %edx, %cs:SEEN
1:	cli
	hlt
	jmp 1b
	.balign 4
ap_seen:
	.long 1                    /* the first CPU's bit */
ap_end:

	.code32
digits:	.ascii "0123456789abcdef"
	.balign 16
	.skip 256
stack:
