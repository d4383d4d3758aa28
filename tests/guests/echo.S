/* Prints what it is given, until a 'q', which ends it by shutdown. */
#include "guest.h"

GUEST_64
	OUTB(PORT_SERIAL_IER, 1) /* it listens only then */
	READY
1:	mov $PORT_SERIAL_STATUS, %edx
	in (%dx), %al
	test $1, %al
	jz 1b
	mov $PORT_SERIAL, %edx
	in (%dx), %al
	cmp $'q', %al
	je 2f
	out %al, (%dx)
	jmp 1b
2:	OUTB(PORT_SLEEP_CONTROL, 0x34)
	STOP
