#include "api/fields.h"
#include "api/resources.h"

#include <errno.h>
#include <limits.h>

/* ---- the log ---- */

/* In the order of enum vm_log_level. */
static const char *const levels[] = {
	"Off", "Error", "Warning", "Info", "Debug", "Trace", NULL};

static const struct field logger_table[] = {
	{"log_path", FIELD_STRING, false, offsetof(struct vm_logger, log_path),
		1, PATH_MAX - 1},
	{"level", FIELD_CHOICE_ANY_CASE, false,
		offsetof(struct vm_logger, level), 0, 0, levels},
	{"show_level", FIELD_BOOL, false,
		offsetof(struct vm_logger, show_level)},
	{"show_log_origin", FIELD_BOOL, false,
		offsetof(struct vm_logger, show_log_origin)},
	{"module", FIELD_STRING, false, offsetof(struct vm_logger, module), 1,
		128, NULL, is_cmdline_char, "printable ASCII"},
	{NULL},
};

/* What is not given stays as it is, as in Firecracker. */
int logger_read(struct json_object *o, struct vm_config *c, struct error *err)
{
	if (!c->logger.there)
		c->logger =
			(struct vm_logger){.there = true, .level = VM_LOG_INFO};
	return fields_read(logger_table, o, "logger", false, &c->logger, err);
}

struct json_object *logger_write(const struct vm_config *c)
{
	return c->logger.there ? fields_write(logger_table, &c->logger) : NULL;
}

static int read_logger(
	struct request *r, struct vm_config *c, struct error *err)
{
	return logger_read(r->json, c, err);
}

void logger_put(struct request *r)
{
	section_change(r, API_SECTION_LOGGER, read_logger);
}

/* ---- the metrics ---- */

static const struct field metrics_table[] = {
	{"metrics_path", FIELD_STRING, true,
		offsetof(struct vm_metrics, metrics_path), 1, PATH_MAX - 1},
	{"properties", FIELD_UNSUPPORTED},
	{NULL},
};

int vm_metrics_read(
	struct json_object *o, struct vm_config *c, struct error *err)
{
	if (c->metrics.metrics_path)
		return error_field(err, EINVAL, "metrics",
			"is set already, and can be set once");
	return fields_read(
		metrics_table, o, "metrics", false, &c->metrics, err);
}

struct json_object *vm_metrics_write(const struct vm_config *c)
{
	return c->metrics.metrics_path
		       ? fields_write(metrics_table, &c->metrics)
		       : NULL;
}

static int read_metrics(
	struct request *r, struct vm_config *c, struct error *err)
{
	return vm_metrics_read(r->json, c, err);
}

void vm_metrics_put(struct request *r)
{
	section_change(r, API_SECTION_METRICS, read_metrics);
}
