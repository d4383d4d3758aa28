/* Never exits again by itself. */
#include "guest.h"

GUEST_64
	READY
1:	jmp 1b
