/*
 * The whole userland of the boot bench: tells that init runs, first through
 * Mayfly's ready port, then with one byte on the console. Freestanding.
 */

#define SYS_write 1
#define SYS_pause 34
#define SYS_ioperm 173

#define READY_PORT 0x6d66

static long syscall3(long nr, long a, long b, long c)
{
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return ret;
}

__attribute__((noreturn)) void _start(void)
{
	if (syscall3(SYS_ioperm, READY_PORT, 1, 1) == 0)
		__asm__ volatile("outb %b0, %w1" : : "a"(1), "d"(READY_PORT));
	syscall3(SYS_write, 1, (long)"R\n", 2);
	for (;;)
		syscall3(SYS_pause, 0, 0, 0);
}
