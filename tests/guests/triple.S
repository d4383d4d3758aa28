/* A fault without an interrupt table: a triple fault. */
#include "guest.h"

GUEST_64
	READY
	lidt none(%rip)
	ud2
	STOP

none:	.word 0
	.quad 0
