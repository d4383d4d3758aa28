/*
 * Runs one mayfly-vmm in a jail, without a daemon: what a guest prints comes to
 * stdout, its end and the timeline to stderr. For tests of mayfly-vmm by
 * itself, and for people who want to know what it does.
 *
 *   spawn_vm [OPTION...] KERNEL
 *
 * Exit status: 0 as expected, 1 not, 77 where there is no KVM or no root.
 */

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "jailer/jail.h"
#include "vmm/kvm.h"
#include "vmm/msg.h"
#include "vmm/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define SKIP 77
#define OUTPUT_MAX (256u << 10)

static const char usage[] =
	"usage: spawn_vm [OPTION...] KERNEL\n"
	"  --cpus N, --smt, --mem MIB, --cmdline TEXT\n"
	"  --initrd FILE, --drive FILE[:ro] (several)\n"
	"  --timeout-ms N    kill it then (default 20000)\n"
	"  --do A,A,...      once it runs: pause, resume, frozen (no output\n"
	"                    while paused), keys (Ctrl-Alt-Del), ready (wait\n"
	"                    for the guest's word), sleep:MS, wait:TEXT (in "
	"the\n"
	"                    output), output (wait for more of it), "
	"type:TEXT,\n"
	"                    close (the control socket), lose (the same, "
	"where\n"
	"                    another daemon may come), adopt (be that one),\n"
	"                    kill\n"
	"  --expect REASON   shutdown, reset, triple-fault, panic,\n"
	"                    internal-error, failed, killed, crashed, closed\n"
	"  --expect-text TEXT  in the output, or in the reason's details\n"
	"  --status          print /proc/PID/status and fds when it runs\n";

static const char *const reasons[] = {
	[VM_EXIT_NONE] = "killed",
	[VM_EXIT_SHUTDOWN] = "shutdown",
	[VM_EXIT_RESET] = "reset",
	[VM_EXIT_TRIPLE_FAULT] = "triple-fault",
	[VM_EXIT_PANIC] = "panic",
	[VM_EXIT_INTERNAL_ERROR] = "internal-error",
};

static const char *const moments[VM_MOMENTS] = {"process-ready", "configured",
	"loaded", "first-entry", "kernel-up", "guest-ready"};

struct run {
	struct jail *jail;
	struct jail_process p;
	struct vm_shared *shared;
	int wake_fd, listen_fd; /* listen_fd -1: it ends with its daemon */
	struct sockaddr_un address;
	socklen_t address_len;
	uint64_t spawned_ns, deadline_ns;
	uint64_t console_tail;
	char *output;
	size_t n_output;

	bool answered; /* a STARTED, FAILED or DONE came */
	bool failed, gone, closed;
	int done_code;
	const char *reason;
	char detail[512];
};

static struct option options[] = {
	{"cpus", required_argument, NULL, 'c'},
	{"smt", no_argument, NULL, 's'},
	{"mem", required_argument, NULL, 'm'},
	{"cmdline", required_argument, NULL, 'k'},
	{"initrd", required_argument, NULL, 'i'},
	{"drive", required_argument, NULL, 'd'},
	{"timeout-ms", required_argument, NULL, 't'},
	{"do", required_argument, NULL, 'x'},
	{"expect", required_argument, NULL, 'e'},
	{"expect-text", required_argument, NULL, 'E'},
	{"status", no_argument, NULL, 'S'},
	{"vmm", required_argument, NULL, 'v'},
	{NULL, 0, NULL, 0},
};

static struct {
	const char *vmm, *kernel, *initrd, *expect, *text;
	char *actions;
	const char *drives[VM_MAX_DRIVES];
	unsigned n_drives;
	uint64_t timeout_ms, mem_mib;
	bool status, outlive;
} opt = {.vmm = MAYFLY_VMM, .timeout_ms = 20000, .mem_mib = 128};

static pid_t vmm_pid; /* of the VM, which may outlive us */

static _Noreturn void die(int status, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static _Noreturn void die(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	if (vmm_pid > 0)
		kill(vmm_pid, SIGKILL);
	exit(status);
}

static int must_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		die(1, "%s: %s", path, strerror(errno));
	return fd;
}

static unsigned long number(const char *s)
{
	char *end;
	unsigned long n = strtoul(s, &end, 0);

	if (*end != '\0' || end == s)
		die(1, "not a number: %s", s);
	return n;
}

/* ---- the first messages ---- */

static void parse(
	int argc, char **argv, struct msg_prepare *prepare, struct msg_start *m)
{
	int c;

	prepare->vcpu_count = 1;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'c')
			prepare->vcpu_count = (uint32_t)number(optarg);
		else if (c == 's')
			prepare->smt = 1;
		else if (c == 'm')
			opt.mem_mib = number(optarg);
		else if (c == 'k')
			(void)snprintf(
				m->cmdline, sizeof(m->cmdline), "%s", optarg);
		else if (c == 'i')
			opt.initrd = optarg;
		else if (c == 'd' && opt.n_drives < VM_MAX_DRIVES)
			opt.drives[opt.n_drives++] = optarg;
		else if (c == 't')
			opt.timeout_ms = number(optarg);
		else if (c == 'x')
			opt.actions = optarg;
		else if (c == 'e')
			opt.expect = optarg;
		else if (c == 'E')
			opt.text = optarg;
		else if (c == 'S')
			opt.status = true;
		else if (c == 'v')
			opt.vmm = optarg;
		else
			die(1, "%s", usage);
	}
	if (optind != argc - 1)
		die(1, "%s", usage);
	opt.kernel = argv[optind];
	opt.outlive =
		opt.actions && (strstr(opt.actions, ",lose") ||
				       strncmp(opt.actions, "lose", 4) == 0);
}

static void add_cpuid(struct msg_prepare *m, int kvm)
{
	struct kvm_cpuid2 *ids = calloc(
		1, sizeof(*ids) + MSG_CPUID_MAX * sizeof(ids->entries[0]));
	int r;

	if (!ids)
		die(1, "out of memory");
	ids->nent = MSG_CPUID_MAX;
	r = kvm_get_supported_cpuid(kvm, ids);
	if (r < 0)
		die(1, "KVM_GET_SUPPORTED_CPUID: %s", strerror(-r));
	m->n_cpuid = ids->nent;
	for (unsigned i = 0; i < ids->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &ids->entries[i];

		m->cpuid[i] = (struct msg_cpuid_entry){e->function, e->index,
			e->flags, e->eax, e->ebx, e->ecx, e->edx};
	}
	free(ids);
}

static int open_drive(struct msg_drive *d, const char *arg)
{
	size_t len = strlen(arg);
	bool ro = len > 3 && strcmp(arg + len - 3, ":ro") == 0;
	char path[PATH_MAX];
	int fd;

	(void)snprintf(
		path, sizeof(path), "%.*s", (int)(ro ? len - 3 : len), arg);
	fd = must_open(path, ro ? O_RDONLY : O_RDWR);
	d->read_only = ro;
	d->writeback = 1;
	d->size_bytes = (uint64_t)lseek(fd, 0, SEEK_END) & ~511ull;
	return fd;
}

static void make_shared(struct run *run, struct msg_prepare *m, int *ret_fd)
{
	struct vm_shared *s;
	int fd = memfd_create("shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	m->shared_bytes = (uint32_t)sizeof(*s) + VM_CONSOLE_BYTES;
	if (fd < 0 || ftruncate(fd, m->shared_bytes) < 0)
		die(1, "memfd: %s", strerror(errno));
	s = mmap(NULL, m->shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		0);
	if (s == MAP_FAILED)
		die(1, "mmap: %s", strerror(errno));
	s->version = VM_SHARED_VERSION;
	s->console_bytes = VM_CONSOLE_BYTES;
	run->shared = s;
	*ret_fd = fd;
}

/* Where another daemon would connect; in no file system. */
static void make_listener(struct run *run)
{
	struct sockaddr *a = (struct sockaddr *)&run->address;

	run->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	run->address.sun_family = AF_UNIX;
	run->address_len = sizeof(run->address);
	if (run->listen_fd < 0 ||
		bind(run->listen_fd, a, sizeof(a->sa_family)) < 0 ||
		getsockname(run->listen_fd, a, &run->address_len) < 0 ||
		listen(run->listen_fd, 1) < 0)
		die(1, "a listening socket: %s", strerror(errno));
}

static void send_prepare(struct run *run, struct msg_prepare *m, int kvm)
{
	int fds[MSG_PREPARE_FDS], r;

	m->hdr = (struct msg_hdr){MSG_PREPARE, 1};
	m->protocol = MSG_PROTOCOL;
	m->mem_bytes = opt.mem_mib << 20;
	add_cpuid(m, kvm);
	make_shared(run, m, &fds[MSG_PREPARE_FD_SHARED]);
	fds[MSG_PREPARE_FD_KVM] = kvm;
	fds[MSG_PREPARE_FD_SECCOMP] = jail_seccomp_fd(run->jail);
	fds[MSG_PREPARE_FD_WAKE] = run->wake_fd;
	if (opt.outlive) {
		make_listener(run);
		m->has_control = 1;
		fds[MSG_PREPARE_FD_CONTROL] = run->listen_fd;
	}
	r = msg_send(run->p.sock, MSG_DAEMON, (union msg *)m, fds,
		(unsigned)MSG_PREPARE_FD_CONTROL + m->has_control);
	if (r < 0)
		die(1, "MSG_PREPARE: %s", strerror(-r));
	close(fds[MSG_PREPARE_FD_SHARED]);
	close_fd(&run->listen_fd);
}

static void send_start(struct run *run, struct msg_start *m)
{
	int fds[MSG_MAX_FDS];
	unsigned n = MSG_START_FD_FIXED;
	int r;

	m->hdr = (struct msg_hdr){MSG_START, 2};
	(void)snprintf(m->id, sizeof(m->id), "spawn_vm");
	fds[MSG_START_FD_KERNEL] = must_open(opt.kernel, O_RDONLY);
	if (opt.initrd) {
		m->has_initrd = 1;
		fds[n++] = must_open(opt.initrd, O_RDONLY);
	}
	m->n_drives = (uint8_t)opt.n_drives;
	for (unsigned i = 0; i < opt.n_drives; i++)
		fds[n++] = open_drive(&m->drives[i], opt.drives[i]);
	r = msg_send(run->p.sock, MSG_DAEMON, (union msg *)m, fds, n);
	if (r < 0)
		die(1, "MSG_START: %s", strerror(-r));
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
}

/* ---- what comes back ---- */

static void drain_console(struct run *run)
{
	struct vm_shared *s = run->shared;
	uint64_t head;

	__atomic_store_n(&s->wake, 1, __ATOMIC_SEQ_CST);
	head = __atomic_load_n(&s->console_head, __ATOMIC_SEQ_CST);
	for (; run->console_tail < head; run->console_tail++) {
		uint8_t c = s->console[run->console_tail % VM_CONSOLE_BYTES];

		(void)fputc(c, stdout);
		if (run->n_output < OUTPUT_MAX)
			run->output[run->n_output++] = (char)c;
	}
	(void)fflush(stdout);
}

static void take_message(struct run *run)
{
	int fds[MSG_MAX_FDS], r;
	unsigned n_fds;
	union msg m;

	r = msg_recv(run->p.sock, MSG_DAEMON, &m, fds, &n_fds);
	if (r == -EAGAIN)
		return;
	if (r <= 0) {
		close_fd(&run->p.sock);
		return;
	}
	if (m.hdr.type == MSG_STARTED) {
		run->answered = true;
	} else if (m.hdr.type == MSG_FAILED) {
		run->answered = run->failed = true;
		run->reason = "failed";
		(void)snprintf(run->detail, sizeof(run->detail), "%s: %s (%s)",
			m.failed.field, m.failed.text, strerror(m.failed.code));
	} else if (m.hdr.type == MSG_DONE) {
		run->answered = true;
		run->done_code = m.done.code;
	} else if (m.hdr.type == MSG_EVENT) {
		(void)fprintf(stderr, "event: kind=%u index=%u value=%lld\n",
			m.event.kind, m.event.index, (long long)m.event.value);
	} else if (m.hdr.type == MSG_EXITING) {
		run->reason = reasons[m.exiting.reason];
		(void)snprintf(run->detail, sizeof(run->detail), "%s",
			m.exiting.detail);
	}
}

/* One turn of at most ms milliseconds. */
static void turn(struct run *run, int ms)
{
	struct pollfd p[] = {{.fd = run->p.sock, .events = POLLIN},
		{.fd = run->wake_fd, .events = POLLIN},
		{.fd = run->p.pidfd, .events = POLLIN}};
	uint64_t n;

	if (clock_ns() > run->deadline_ns) {
		(void)fprintf(stderr, "timeout: killing it\n");
		run->deadline_ns = UINT64_MAX;
		kill(run->p.pid, SIGKILL);
	}
	drain_console(run);
	(void)poll(p, 3, ms);
	if (p[1].revents && read(run->wake_fd, &n, sizeof(n)) < 0)
		die(1, "eventfd: %s", strerror(errno));
	drain_console(run);
	if (p[0].revents)
		take_message(run);
	else if (p[2].revents)
		run->gone = true;
}

/* fd: with MSG_ADOPT, else -1. */
static void ask_with(struct run *run, union msg *m, uint32_t type, int fd)
{
	int r;

	m->hdr = (struct msg_hdr){type, 3};
	run->answered = false;
	r = msg_send(run->p.sock, MSG_DAEMON, m, &fd, fd >= 0);
	if (r < 0)
		die(1, "message %u: %s", type, strerror(-r));
	while (!run->answered && !run->gone)
		turn(run, 100);
	if (run->done_code != 0)
		die(1, "message %u refused: %s", type,
			strerror(run->done_code));
}

static void ask(struct run *run, union msg *m, uint32_t type)
{
	ask_with(run, m, type, -1);
}

/* What another daemon does. */
static void adopt(struct run *run)
{
	int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	union msg m = {0};

	run->p.sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (wake_fd < 0 || run->p.sock < 0)
		die(1, "eventfd or socket: %s", strerror(errno));
	if (connect(run->p.sock, (struct sockaddr *)&run->address,
		    run->address_len) < 0 ||
		fcntl(run->p.sock, F_SETFL, O_NONBLOCK) < 0)
		die(1, "connecting to the VMM: %s", strerror(errno));
	close(run->wake_fd);
	run->wake_fd = wake_fd;
	ask_with(run, &m, MSG_ADOPT, wake_fd);
}

static bool contains(const struct run *run, const char *text)
{
	return memmem(run->output, run->n_output, text, strlen(text)) ||
	       strstr(run->detail, text);
}

static void sleep_turns(struct run *run, unsigned long ms)
{
	uint64_t end = clock_ns() + ms * 1000000;

	while (!run->gone && clock_ns() < end)
		turn(run, 10);
}

static void check_frozen(struct run *run)
{
	uint64_t head;

	drain_console(run);
	head = run->console_tail;
	sleep_turns(run, 100);
	if (run->console_tail != head)
		die(1, "the guest printed while it was paused");
}

static void wait_output(struct run *run)
{
	uint64_t before;

	drain_console(run);
	before = run->console_tail;
	while (!run->gone && run->console_tail == before)
		turn(run, 100);
}

static void act(struct run *run, const char *a)
{
	uint64_t *ready = &run->shared->moments[VM_MOMENT_GUEST_READY];
	union msg m = {0};

	if (strcmp(a, "pause") == 0)
		ask(run, &m, MSG_PAUSE);
	else if (strcmp(a, "resume") == 0)
		ask(run, &m, MSG_RESUME);
	else if (strcmp(a, "keys") == 0)
		ask(run, &m, MSG_CTRL_ALT_DEL);
	else if (strcmp(a, "frozen") == 0)
		check_frozen(run);
	else if (strcmp(a, "output") == 0)
		wait_output(run);
	else if (strcmp(a, "lose") == 0)
		close_fd(&run->p.sock);
	else if (strcmp(a, "adopt") == 0)
		adopt(run);
	else if (strcmp(a, "kill") == 0)
		kill(run->p.pid, SIGKILL);
	else if (strcmp(a, "close") == 0) {
		close_fd(&run->p.sock);
		run->closed = true;
	} else if (strncmp(a, "sleep:", 6) == 0)
		sleep_turns(run, number(a + 6));
	else if (strcmp(a, "ready") == 0)
		while (!run->gone &&
			__atomic_load_n(ready, __ATOMIC_RELAXED) == 0)
			turn(run, 1);
	else if (strncmp(a, "wait:", 5) == 0)
		while (!run->gone && !contains(run, a + 5))
			turn(run, 10);
	else if (strncmp(a, "type:", 5) == 0) {
		m.input.len = (uint32_t)strlen(a + 5);
		memcpy(m.input.data, a + 5, m.input.len);
		ask(run, &m, MSG_CONSOLE_INPUT);
	} else
		die(1, "no such action: %s", a);
}

static void print_status(const struct run *run)
{
	char cmd[256];

	(void)snprintf(cmd, sizeof(cmd),
		"P=%d; for t in /proc/$P/task/*; do "
		"grep -HE 'Name|Uid|CapEff|NoNewPrivs|Seccomp:' $t/status; "
		"done >&2; ls -l /proc/$P/fd >&2; "
		"cat /proc/$P/smaps_rollup >&2",
		run->p.pid);
	if (system(cmd) != 0) /* NOLINT(cert-env33-c): a tool for people */
		(void)fprintf(stderr, "status: failed\n");
}

static void print_timeline(const struct run *run, unsigned vcpus)
{
	(void)fprintf(stderr, "timeline (us since spawn):");
	for (unsigned i = 0; i < VM_MOMENTS; i++) {
		uint64_t at = run->shared->moments[i];

		if (at)
			(void)fprintf(stderr, " %s %llu", moments[i],
				(unsigned long long)(at - run->spawned_ns) /
					1000);
	}
	(void)fputs("\nexits:", stderr);
	for (unsigned i = 0; i < vcpus; i++) {
		const struct vcpu_counters *c = &run->shared->vcpu[i];

		(void)fprintf(stderr,
			" vcpu%u pio %llu mmio %llu other %llu "
			"interrupted %llu",
			i, (unsigned long long)c->exits_pio,
			(unsigned long long)c->exits_mmio,
			(unsigned long long)c->exits_other,
			(unsigned long long)c->exits_interrupted);
	}
	(void)fputc('\n', stderr);
}

/* Whether it ended as the options said it would. */
static bool as_expected(const struct run *run)
{
	if (opt.expect && strcmp(opt.expect, run->reason) != 0) {
		(void)fprintf(stderr, "expected: %s\n", opt.expect);
		return false;
	}
	if (opt.text && !contains(run, opt.text)) {
		(void)fprintf(stderr, "expected text: %s\n", opt.text);
		return false;
	}
	return true;
}

/* Both messages, one after the other. */
static void start(struct run *run, struct msg_prepare *prepare,
	struct msg_start *m, int kvm)
{
	send_prepare(run, prepare, kvm);
	while (!run->answered && !run->gone)
		turn(run, 100);
	if (run->failed || run->gone)
		return;
	if (run->done_code != 0)
		die(1, "MSG_PREPARE: %s", strerror(run->done_code));
	run->answered = false;
	send_start(run, m);
	while (!run->answered && !run->gone)
		turn(run, 100);
}

static void follow(struct run *run)
{
	char none[] = "", *save = NULL;
	char *actions = opt.actions ? opt.actions : none;

	if (opt.status && !run->failed)
		print_status(run);
	for (char *a = strtok_r(actions, ",", &save); a && !run->gone;
		a = strtok_r(NULL, ",", &save))
		act(run, a);
	while (!run->gone)
		turn(run, 100);
	drain_console(run);
}

int main(int argc, char **argv)
{
	/* Several of these run at a time, and nobody shares a parent group. */
	char cgroup[40];
	struct jail_config c = {.uid_first = 2100000000,
		.uid_count = 64,
		.cgroup_name = cgroup};
	struct run run = {.reason = "killed", .listen_fd = -1};
	static union msg prepare, m;
	struct error err;
	char name[32];
	int kvm, wstatus;
	bool ok;

	parse(argc, argv, &prepare.prepare, &m.start);
	(void)snprintf(cgroup, sizeof(cgroup), "mayfly-spawn-%d", getpid());
	c.exe_path = opt.vmm;
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0 || geteuid() != 0)
		die(SKIP, "this needs root and /dev/kvm");
	log_init(LOG_TEXT, LOG_WARN, STDERR_FILENO);
	run.output = malloc(OUTPUT_MAX);
	run.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!run.output || run.wake_fd < 0)
		die(1, "no memory or eventfd");
	if (jail_create(&run.jail, &c, &err) < 0)
		die(1, "jail: %s", err.msg);
	(void)snprintf(name, sizeof(name), "vm-%d", getpid());
	run.spawned_ns = clock_ns();
	run.deadline_ns = run.spawned_ns + opt.timeout_ms * 1000000;
	if (jail_spawn(run.jail, name, opt.mem_mib << 20,
		    prepare.prepare.vcpu_count + 2, &run.p, &err) < 0)
		die(1, "jail_spawn: %s", err.msg);
	vmm_pid = run.p.pid;
	start(&run, &prepare.prepare, &m.start, kvm);
	follow(&run);
	wstatus = jail_reap(run.jail, &run.p);
	vmm_pid = 0;
	if (run.closed && wstatus == 0)
		run.reason = "closed";
	else if (strcmp(run.reason, "killed") == 0 &&
		 !(WIFSIGNALED(wstatus) && WTERMSIG(wstatus) == SIGKILL))
		run.reason = "crashed";
	jail_destroy(run.jail);
	(void)fprintf(stderr, "end: %s%s%s, wait status 0x%x\n", run.reason,
		run.detail[0] ? ": " : "", run.detail, (unsigned)wstatus);
	print_timeline(&run, prepare.prepare.vcpu_count);
	ok = as_expected(&run);
	free(run.output);
	return ok ? 0 : 1;
}
