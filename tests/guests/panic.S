/* Tells pvpanic that it panicked. */
#include "guest.h"

GUEST_64
	READY
	OUTB(PORT_PVPANIC, 1)
	STOP
