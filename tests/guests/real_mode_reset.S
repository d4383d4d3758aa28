/* Goes back to real mode and jumps to the reset vector, as kernels do that know
 * no better way. */
#include "guest.h"

GUEST_PVH
	mov $0x10000, %edi
	mov $real, %esi
	mov $(real_end - real), %ecx
	rep movsb
	lgdt table_ptr
	ljmp $8, $0x10000

	.code16
real:	mov %cr0, %eax
	and $0xfe, %al
	mov %eax, %cr0
	.byte 0xea /* ljmp $0xffff, $0 */
	.word 0, 0xffff
real_end:

	.code32
	.align 8
table:	.quad 0
	.quad 0x000f9b000000ffff /* 16-bit code, base 0 */
table_ptr:
	.word 15
	.long table
