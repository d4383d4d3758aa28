/* A string instruction's many bytes in one exit, and accesses of all widths to
 * where there is nothing. Ends by shutdown, by reset if something is wrong. */
#include "guest.h"

GUEST_PVH
	READY
	mov $PORT_SERIAL, %edx
	mov $text, %esi
	mov $(end - text), %ecx
	rep outsb
	mov $0x1234, %edx
	in (%dx), %eax
	cmp $-1, %eax
	jne 1f
	mov $HOLE, %eax
	mov 2(%eax), %ecx
	cmp $-1, %ecx
	jne 1f
	mov %ecx, 2(%eax)
	mov %cl, 1(%eax)
	mov $VIRTIO_BASE, %eax
	mov (%eax), %ecx
	cmp $0x74726976, %ecx /* "virt" with a drive, else nothing */
	je 2f
	cmp $-1, %ecx
	jne 1f
2:	OUTB(PORT_SLEEP_CONTROL, 0x34)
	STOP
1:	OUTB(PORT_I8042_CMD, 0xfe)
	STOP

text:	.ascii "a string of bytes\n"
end:
