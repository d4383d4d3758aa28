/* Pulses the i8042's reset line. */
#include "guest.h"

GUEST_64
	READY
	OUTB(PORT_I8042_CMD, 0xfe)
	STOP
