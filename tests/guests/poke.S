/*
 * Reads and writes memory, any address of it, as the serial line says: with
 * paging on, through a window. Hexadecimal digits make up a number, and then
 *
 *   s  the number is the address
 *   w  it goes there, 64 bits      r  prints the 64 bits that are there
 *   W  the same with 32 bits       R  the same with 32 bits
 *
 * Each of them begins a new number; what else comes is ignored.
 */
#include "guest.h"

#define WINDOW 0x3fe00000             /* the first GiB's last 2 MiB ... */
#define WINDOW_PDE (0xb000 + 511 * 8) /* ... and what maps them */
#define LARGE_PAGE 0x83               /* present, writable, 2 MiB */

GUEST_64
	movl	$stack_top, %esp
	OUTB(PORT_SERIAL_IER, 1) /* it listens only then */
	READY
	leaq	hello(%rip), %rsi
1:	movb	(%rsi), %al
	incq	%rsi
	testb	%al, %al
	jz	begin
	call	putc
	jmp	1b

begin:
	xorl	%ebx, %ebx
next:
	movw	$PORT_SERIAL_STATUS, %dx
	inb	%dx, %al
	testb	$1, %al
	jz	next
	movw	$PORT_SERIAL, %dx
	inb	%dx, %al
	cmpb	$'s', %al
	je	address
	cmpb	$'w', %al
	je	write_64
	cmpb	$'W', %al
	je	write_32
	cmpb	$'r', %al
	je	read_64
	cmpb	$'R', %al
	je	read_32
	subb	$'0', %al
	cmpb	$9, %al
	jbe	digit
	subb	$('a' - '0' - 10), %al
	cmpb	$15, %al
	ja	next
digit:
	movzbl	%al, %eax
	shlq	$4, %rbx
	orq	%rax, %rbx
	jmp	next

address:
	movq	%rbx, %r12
	jmp	begin
write_64:
	call	look
	movq	%rbx, (%rdi)
	jmp	begin
write_32:
	call	look
	movl	%ebx, (%rdi)
	jmp	begin
read_64:
	call	look
	movq	(%rdi), %rbx
	jmp	tell
read_32:
	call	look
	movl	(%rdi), %ebx
tell:
	movl	$60, %ecx
1:	movq	%rbx, %rax
	shrq	%cl, %rax
	andl	$15, %eax
	movb	digits(%rax), %al
	call	putc
	subl	$4, %ecx
	jns	1b
	movb	$'\n', %al
	call	putc
	jmp	begin

/* RDI: where what the address is for can be seen. */
look:
	movq	%r12, %rax
	andq	$-0x200000, %rax
	orq	$LARGE_PAGE, %rax
	movq	%rax, WINDOW_PDE
	movl	%r12d, %edi
	andl	$0x1fffff, %edi
	orl	$WINDOW, %edi
	invlpg	WINDOW
	ret

/* Prints AL. */
putc:
	movb	%al, %ah
	movw	$PORT_SERIAL_STATUS, %dx
1:	inb	%dx, %al
	testb	$0x20, %al
	jz	1b
	movw	$PORT_SERIAL, %dx
	movb	%ah, %al
	outb	%al, %dx
	ret

hello:	.asciz "poke ready\n"
digits:	.ascii "0123456789abcdef"
	.balign 16
	.skip 4096
stack_top:
