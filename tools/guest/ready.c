/*
 * Tells the VMM that the guest's init has been reached: one byte 0x01 to I/O
 * port 0x6d66, Mayfly's "guest ready" port. A program of its own, because
 * Debian's cloud kernel has no /dev/port. Freestanding, so that it costs next
 * to nothing. Exits 1 where I/O ports cannot be had; nothing depends on it.
 */

#define SYS_exit 60
#define SYS_ioperm 173

#define READY_PORT 0x6d66
#define READY_BYTE 0x01

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
	long ret = syscall3(SYS_ioperm, READY_PORT, 1, 1);

	if (ret == 0)
		__asm__ volatile("outb %b0, %w1"
				 :
				 : "a"(READY_BYTE), "d"(READY_PORT));
	for (;;)
		syscall3(SYS_exit, ret != 0, 0, 0);
}
