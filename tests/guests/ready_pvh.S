/* ready.S by PVH; it says so only if EBX points at the start info. */
#include "guest.h"

GUEST_PVH
	cmpl $0x336ec578, (%ebx) /* XEN_HVM_START_MAGIC_VALUE */
	jne 1f
	READY
1:	STOP
