/*
 * usage: defaults PROGRAM [ARGUMENT...]
 *
 * Runs PROGRAM with SIGINT and SIGQUIT at their defaults: a shell script's
 * background commands ignore both, and so would all below the console's shell.
 * Freestanding, as ready.c is.
 */

#define SYS_rt_sigaction 13
#define SYS_execve 59
#define SYS_exit 60
#define SIGINT 2
#define SIGQUIT 3

struct kernel_sigaction {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	unsigned long mask;
};

static long syscall4(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
}

/* The stack as the kernel leaves it: argc, argv[], NULL, envp[], NULL. */
__attribute__((noreturn, used)) static void start(long *stack)
{
	static const struct kernel_sigaction defaults;
	long argc = stack[0];
	long *argv = stack + 1;
	long *envp = argv + argc + 1;

	syscall4(SYS_rt_sigaction, SIGINT, (long)&defaults, 0,
		sizeof(defaults.mask));
	syscall4(SYS_rt_sigaction, SIGQUIT, (long)&defaults, 0,
		sizeof(defaults.mask));
	if (argc > 1)
		syscall4(SYS_execve, argv[1], (long)(argv + 1), (long)envp, 0);
	for (;;)
		syscall4(SYS_exit, 127, 0, 0, 0);
}

__asm__(".globl _start\n"
	"_start:\n"
	"	mov %rsp, %rdi\n"
	"	call start\n");
