/* The shortest life: ready, then halted for ever. */
#include "guest.h"

GUEST_64
	READY
	STOP
