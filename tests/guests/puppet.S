/*
 * Does what the serial line tells it, one letter at a time. Paging is on, the
 * first GiB is mapped one to one, interrupts are off.
 *
 *   b  power off (ACPI S5)        r  reset (i8042)
 *   l  power off a little later: about a quarter of a second
 *   t  triple fault               p  panic (pvpanic)
 *   h  halt for good              x  spin in silence
 *   c  count aloud, about 50 lines a second, until the next letter
 *   f  flood the console until the next letter
 *   i  run code where there is no memory
 *   m  write nonsense to the first virtio device
 *   e  eat: write to each page from 4 to 14 MiB
 *
 * Anything else is printed back.
 */
#include "guest.h"

#define TICK (1 << 25)               /* TSC cycles from line to line */
#define WINDOW 0x3fe00000            /* the GiB's last 2 MiB ... */
#define WINDOW_PDE (0xb000 + 511 * 8) /* ... and what maps them */
#define LARGE_PAGE 0x83              /* present, writable, 2 MiB */

GUEST_64
	movl	$stack_top, %esp
	OUTB(PORT_SERIAL_IER, 1) /* it listens only then */
	READY
	leaq	hello(%rip), %rsi
	call	print

next:
	call	poll
	jz	next
act:
	cmpb	$'b', %al
	je	power_off
	cmpb	$'l', %al
	je	later
	cmpb	$'r', %al
	je	reset
	cmpb	$'t', %al
	je	triple_fault
	cmpb	$'p', %al
	je	panic
	cmpb	$'h', %al
	je	halt
	cmpb	$'x', %al
	je	spin
	cmpb	$'c', %al
	je	count
	cmpb	$'f', %al
	je	flood
	cmpb	$'i', %al
	je	nowhere
	cmpb	$'m', %al
	je	nonsense
	cmpb	$'e', %al
	je	eat
	call	putc
	jmp	next

later:
	call	clock
	movq	%rax, %rbp
later_wait:
	pause
	call	clock
	subq	%rbp, %rax
	cmpq	$(16 * TICK), %rax
	jb	later_wait
power_off:
	OUTB(PORT_SLEEP_CONTROL, 0x34) /* SLP_TYP 5, SLP_EN */
	jmp	halt

reset:
	OUTB(PORT_I8042_CMD, 0xfe)
	jmp	halt

triple_fault:
	lidt	empty(%rip)
	ud2

panic:
	OUTB(PORT_PVPANIC, 1)
halt:
	cli
	hlt
	jmp	halt

spin:
	pause
	jmp	spin

count:
	xorl	%ebx, %ebx
count_line:
	leaq	tick(%rip), %rsi
	call	print
	movl	$28, %ecx
digit:
	movl	%ebx, %eax
	shrl	%cl, %eax
	andl	$15, %eax
	movb	digits(%rax), %al
	call	putc
	subl	$4, %ecx
	jns	digit
	movb	$'\n', %al
	call	putc
	incl	%ebx
	call	clock
	movq	%rax, %rbp
count_wait:
	call	poll
	jnz	act
	call	clock
	subq	%rbp, %rax
	cmpq	$TICK, %rax
	jb	count_wait
	jmp	count_line

flood:
	movl	$256, %ecx
	movw	$PORT_SERIAL, %dx
	movb	$'#', %al
1:	outb	%al, %dx
	loop	1b
	call	poll
	jz	flood
	jmp	act

nowhere:
	movl	$(HOLE + 0x8000000), %eax
	call	look_at
	jmp	*%rdi

nonsense:
	/* DRIVER_OK with nothing negotiated, and a kick of no queue. */
	movl	$VIRTIO_BASE, %eax
	call	look_at
	movl	$-1, 0x30(%rdi)
	movl	$-1, 0x38(%rdi)
	movl	$-1, 0x80(%rdi)
	movl	$-1, 0x84(%rdi)
	movl	$-1, 0x44(%rdi)
	movl	$0xff, 0x70(%rdi)
	movl	$-1, 0x50(%rdi)
	movl	0x70(%rdi), %eax
	leaq	survived(%rip), %rsi
	call	print
	jmp	next

eat:
	movl	$0x400000, %edi
1:	incb	(%rdi)
	addl	$4096, %edi
	cmpl	$0xe00000, %edi
	jb	1b
	leaq	eaten(%rip), %rsi
	call	print
	jmp	next

/* Maps the physical address in EAX; RDI: where. */
look_at:
	orl	$LARGE_PAGE, %eax
	movq	%rax, WINDOW_PDE
	movl	$WINDOW, %edi
	invlpg	(%rdi)
	ret

/* AL and a clear ZF: a byte from the line. ZF: none there. */
poll:
	movw	$PORT_SERIAL_STATUS, %dx
	inb	%dx, %al
	testb	$1, %al
	jz	1f
	movw	$PORT_SERIAL, %dx
	inb	%dx, %al
	testl	$-1, %esp		/* clears ZF */
1:	ret

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

/* Prints the string at RSI. */
print:
	movb	(%rsi), %al
	testb	%al, %al
	jz	1f
	call	putc
	incq	%rsi
	jmp	print
1:	ret

clock:
	rdtsc
	shlq	$32, %rdx
	orq	%rdx, %rax
	ret

hello:	.asciz "puppet ready\n"
tick:	.asciz "tick "
survived: .asciz "still here\n"
eaten:	.asciz "eaten\n"
digits:	.ascii "0123456789abcdef"
	.balign 8
empty:	.word 0
	.quad 0
	.balign 16
	.skip 4096
stack_top:
