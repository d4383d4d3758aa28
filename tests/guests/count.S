/* Prints letters without end, one exit each: its progress can be watched. */
#include "guest.h"

GUEST_64
	READY
	mov $PORT_SERIAL, %edx
1:	mov $'a', %eax
2:	out %al, (%dx)
	inc %eax
	cmp $'z', %al
	jbe 2b
	mov $'\n', %eax
	out %al, (%dx)
	jmp 1b
