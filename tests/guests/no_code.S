/* Jumps to where there is no memory: KVM cannot fetch an instruction. */
#include "guest.h"

GUEST_PVH
	READY
	mov $HOLE, %eax
	jmp *%eax
