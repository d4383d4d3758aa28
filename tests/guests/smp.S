/* Starts the second vCPU by INIT and SIPI; that one prints and shuts down. */
#include "guest.h"

#define TRAMPOLINE 0x10000 /* SIPI's vector is its page */

GUEST_PVH
	mov $ap, %esi
	mov $TRAMPOLINE, %edi
	mov $(ap_end - ap), %ecx
	rep movsb
	mov $LAPIC, %eax
	movl $0x10f, 0xf0(%eax)     /* enabled */
	movl $0x01000000, 0x310(%eax) /* to APIC id 1 */
	movl $0x4500, 0x300(%eax)   /* INIT */
	movl $0x01000000, 0x310(%eax)
	movl $(0x4600 | TRAMPOLINE >> 12), 0x300(%eax) /* SIPI */
	STOP

	.code16
ap:	mov $PORT_READY, %dx
	out %al, (%dx)
	mov $PORT_SERIAL, %dx
	mov $'2', %al
	out %al, (%dx)
	mov $PORT_SLEEP_CONTROL, %dx
	mov $0x34, %al
	out %al, (%dx)
1:	cli
	hlt
	jmp 1b
ap_end:
