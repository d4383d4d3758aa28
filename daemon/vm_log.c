#include "daemon/vm.h"

#include "api/firecracker.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "daemon/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

/*
 * What a VM has written about itself where its client wants it, as Firecracker
 * does: a log, and metrics. Whatever takes no more is not waited for: a line is
 * whole, or missed.
 */

#define METRICS_INTERVAL_NS 60000000000ull
#define LINE_MAX_BYTES 1024

static const char what_we_are[] =
	"Mayfly " MAYFLY_VERSION ", as Firecracker v" FIRECRACKER_VERSION;

/* ---- files ---- */

/* A terminal or /dev/null: opening any other device may do something. */
static bool is_harmless(dev_t dev)
{
	unsigned n = major(dev);

	return dev == makedev(1, 3) || n == 4 || n == 5 ||
	       (n >= 136 && n <= 143);
}

static int create_file(const struct vm_config *c, const char *path)
{
	const struct vm_host *h = &c->host;
	int fd = paths_open(
		&c->host, path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND, 0600);

	/* To be read by whom the VM is for. */
	if (fd >= 0 && (h->uid || h->gid))
		(void)!fchown(fd, h->uid, h->gid);
	return fd;
}

static int open_file(const struct vm_config *c, const char *path)
{
	_cleanup_close_ int at = -1;
	struct stat st;
	int r = paths_look(&c->host, path, &at);

	if (r == -ENOENT)
		return create_file(c, path);
	if (r < 0)
		return r;
	if (fstat(at, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode) &&
		!(S_ISCHR(st.st_mode) && is_harmless(st.st_rdev)))
		return -ENOTSUP;
	/* A FIFO nobody reads yet is one somebody will read. */
	return paths_reopen(at, (S_ISFIFO(st.st_mode) ? O_RDWR : O_WRONLY) |
					O_APPEND | O_NONBLOCK | O_NOCTTY);
}

/* NULL: none, and what is open is closed. */
static int replace_file(int *fd, const struct vm_config *c, const char *field,
	const char *path, struct error *err)
{
	char quoted[160];
	int opened = path ? open_file(c, path) : -1;

	if (path && opened < 0) {
		log_quote(quoted, sizeof(quoted), path);
		if (opened == -ENOTSUP)
			return error_field(err, EINVAL, field,
				"%s is neither a file nor a FIFO", quoted);
		error_errno(err, -opened, "%s cannot be opened", quoted);
		snprintf(err->field, sizeof(err->field), "%s", field);
		return opened;
	}
	close_fd(fd);
	*fd = opened;
	return 0;
}

static bool write_line(int fd, const char *line, size_t len)
{
	return write(fd, line, len) == (ssize_t)len;
}

/* ---- the log ---- */

static bool wanted(
	const struct vm_logger *l, enum vm_log_level level, const char *module)
{
	return level <= l->level &&
	       (!l->module ||
		       strncmp(module, l->module, strlen(l->module)) == 0);
}

static size_t print_time(char *buf, size_t size)
{
	struct timespec ts;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(buf, size, "%Y-%m-%dT%H:%M:%S", &tm);
	return n + (size_t)snprintf(buf + n, size - n, ".%09ld", ts.tv_nsec);
}

/* Where a line comes from. */
struct origin {
	enum vm_log_level level;
	const char *thread, *module, *file;
	int line;
};

#define FROM(level, thread, module)                                            \
	(&(const struct origin){level, thread, module, __FILE__, __LINE__})

__attribute__((format(printf, 3, 4))) static void log_line(
	struct vm *vm, const struct origin *from, const char *format, ...)
{
	static const char *const levels[] = {
		"OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"};
	const struct vm_logger *l = &vm->config.logger;
	char line[LINE_MAX_BYTES], *p = line;
	const char *end = line + sizeof(line) - 1; /* for the newline */
	va_list args;
	size_t n;

	if (vm->log.fd < 0 || !wanted(l, from->level, from->module))
		return;
	p += print_time(p, (size_t)(end - p));
	p += snprintf(p, (size_t)(end - p), " [%s:%s", vm->id, from->thread);
	if (l->show_level)
		p += snprintf(p, (size_t)(end - p), ":%s", levels[from->level]);
	if (l->show_log_origin)
		p += snprintf(
			p, (size_t)(end - p), ":%s:%d", from->file, from->line);
	p += snprintf(p, (size_t)(end - p), "] ");
	va_start(args, format);
	vsnprintf(p, (size_t)(end - p), format, args);
	va_end(args);
	n = strlen(line);
	line[n++] = '\n';
	if (!write_line(vm->log.fd, line, n))
		vm->log.missed.log++;
}

/* ---- the metrics ---- */

int vm_flush_metrics(struct vm *vm, struct error *err)
{
	struct api_counters counters;
	_cleanup_free_ char *line = NULL;
	bool has;

	if (vm->log.metrics_fd < 0)
		return error_set(err, EINVAL,
			"the VM has no metrics: PUT /metrics sets where they "
			"go");
	has = vm_counters(vm, &counters) == 0;
	line = fc_metrics_line(
		vm->log.metrics, has ? &counters : NULL, &vm->log.missed);
	if (!line)
		return error_set(err, ENOMEM, "out of memory");
	if (write_line(vm->log.metrics_fd, line, strlen(line)))
		return 0;
	vm->log.missed.metrics++;
	return error_set(err, EIO, "the metrics could not be written");
}

static void set_timer(struct vm *vm)
{
	loop_set_timer(vm->env->loop, &vm->log.timer,
		clock_ns() + METRICS_INTERVAL_NS);
}

static void on_interval(struct loop_timer *t)
{
	struct vm *vm =
		(struct vm *)((char *)t - offsetof(struct vm, log.timer));
	struct error ignored;

	(void)vm_flush_metrics(vm, &ignored);
	set_timer(vm);
}

static int make_metrics(struct vm *vm, struct error *err)
{
	if (!vm->log.metrics)
		vm->log.metrics = fc_metrics_create();
	return vm->log.metrics ? 0 : error_set(err, ENOMEM, "out of memory");
}

/* ---- both ---- */

void vm_log_init(struct vm *vm)
{
	vm->log = (struct vm_log){
		.fd = -1, .metrics_fd = -1, .timer.fire = on_interval};
}

void vm_log_fini(struct vm *vm)
{
	loop_clear_timer(vm->env->loop, &vm->log.timer);
	close_fd(&vm->log.fd);
	close_fd(&vm->log.metrics_fd);
	fc_metrics_destroy(take_ptr(&vm->log.metrics));
}

int vm_open_logger(
	struct vm *vm, const struct vm_config *config, struct error *err)
{
	return replace_file(&vm->log.fd, config, "logger.log_path",
		config->logger.log_path, err);
}

int vm_open_metrics(
	struct vm *vm, const struct vm_config *config, struct error *err)
{
	if (!config->metrics.metrics_path)
		return 0;
	if (make_metrics(vm, err) < 0 ||
		replace_file(&vm->log.metrics_fd, config,
			"metrics.metrics_path", config->metrics.metrics_path,
			err) < 0)
		return -err->code;
	set_timer(vm);
	return 0;
}

void vm_resume_metrics(struct vm *vm)
{
	struct api_counters counters;

	if (vm->log.metrics_fd >= 0 && vm_counters(vm, &counters) == 0)
		fc_metrics_skip(vm->log.metrics, &counters);
}

void vm_log_event(struct vm *vm, enum api_event_kind kind)
{
	static const char *const words[API_EVENTS] = {
		[API_EVENT_CREATED] = what_we_are,
		[API_EVENT_STARTED] = "the guest runs",
		[API_EVENT_GUEST_READY] = "the guest says it is ready",
		[API_EVENT_PAUSED] = "the guest is paused",
		[API_EVENT_RESUMED] = "the guest runs again",
	};
	const char *detail = vm->exit.detail;
	struct error ignored;
	char quoted[300];

	if (words[kind])
		log_line(vm, FROM(VM_LOG_INFO, "main", "vmm"), "%s",
			words[kind]);
	if (kind != API_EVENT_EXITED)
		return;
	log_line(vm, FROM(VM_LOG_INFO, "main", "vmm"),
		"the VM has ended: %s%s%s",
		vm_exit_reason_name(vm->exit.reason), detail[0] ? ": " : "",
		detail[0] ? log_quote(quoted, sizeof(quoted), detail) : "");
	(void)vm_flush_metrics(vm, &ignored);
	vm_log_fini(vm);
}

void vm_log_served(struct vm *vm, const struct api_served *s)
{
	struct error ignored;
	char quoted[400];

	if (make_metrics(vm, &ignored) == 0)
		fc_metrics_served(vm->log.metrics, s);
	if (s->fault[0])
		log_line(vm, FROM(VM_LOG_ERROR, "fc_api", "api_server"),
			"%s %s: %u in %llu us: %s",
			s->method[0] ? s->method : "?", s->path, s->status,
			(unsigned long long)s->us,
			log_quote(quoted, sizeof(quoted), s->fault));
	else
		log_line(vm, FROM(VM_LOG_INFO, "fc_api", "api_server"),
			"%s %s: %u in %llu us", s->method[0] ? s->method : "?",
			s->path, s->status, (unsigned long long)s->us);
}
