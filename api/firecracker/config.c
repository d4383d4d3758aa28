#include "api/firecracker/options.h"

#include "api/json.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_BYTES (1u << 20)

/* ---- files ---- */

static int open_file(const struct fc_options *o, const char *path)
{
	int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, fd;

	if (o->path_root)
		return file_open_below(o->path_root, path, flags, 0);
	fd = open(path, flags);
	return fd < 0 ? -errno : fd;
}

char *fc_read_file(
	const struct fc_options *o, const char *path, struct error *err)
{
	_cleanup_close_ int fd = open_file(o, path);
	_cleanup_free_ char *text = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0) {
		error_errno(err, fd < 0 ? -fd : errno, "%s", path);
		return NULL;
	}
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX_BYTES) {
		error_set(err, EINVAL, "%s: is no file of at most %u bytes",
			path, FILE_MAX_BYTES);
		return NULL;
	}
	text = calloc(1, (size_t)st.st_size + 1);
	n = text ? read(fd, text, (size_t)st.st_size) : -1;
	if (n < 0 || memchr(text, '\0', (size_t)n)) {
		error_set(err, EINVAL, "%s: cannot be read as text", path);
		return NULL;
	}
	return take_ptr(&text);
}

static struct json_object *read_object(
	const struct fc_options *o, const char *path, struct error *err)
{
	_cleanup_free_ char *text = fc_read_file(o, path, err);
	enum json_tokener_error e;
	struct json_object *v;

	if (!text)
		return NULL;
	v = json_tokener_parse_verbose(text, &e);
	if (json_object_is_type(v, json_type_object))
		return v;
	json_object_put(v);
	error_set(err, EINVAL, "%s: %s", path,
		v || e == json_tokener_success ? "is no JSON object"
					       : json_tokener_error_desc(e));
	return NULL;
}

/* ---- the document ---- */

static void add(struct json_object *o, const char *key, const char *s)
{
	if (s)
		json_object_object_add(o, key, json_object_new_string(s));
}

/* What a process's own outputs are to the daemon. */
static const char *output_path(const char *path, char *buf, size_t size)
{
	static const struct {
		const char *name, *number;
	} names[] = {{"/dev/stdout", "1"}, {"/dev/stderr", "2"},
		{"/proc/self/fd/", NULL}, {"/dev/fd/", NULL}};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t len = strlen(names[i].name);

		if (strncmp(path, names[i].name, len) != 0 ||
			(names[i].number && path[len]))
			continue;
		snprintf(buf, size, "/proc/%d/fd/%s", (int)getpid(),
			names[i].number ? names[i].number : path + len);
		return buf;
	}
	return path;
}

static void fix_output(const struct fc_options *o, struct json_object *section,
	const char *key)
{
	struct json_object *v = NULL;
	char buf[64];

	/* Within a root there are no such names. */
	if (!o->path_root && json_object_object_get_ex(section, key, &v) &&
		json_object_is_type(v, json_type_string)) {
		const char *path = output_path(
			json_object_get_string(v), buf, sizeof(buf));

		if (path == buf)
			add(section, key, path);
	}
}

/* The section of that name, made if it is not there. */
static struct json_object *section(struct json_object *doc, const char *name)
{
	struct json_object *o = NULL;

	json_object_object_get_ex(doc, name, &o);
	if (!o) {
		o = json_object_new_object();
		json_object_object_add(doc, name, o);
	}
	return o;
}

static void add_outputs(const struct fc_options *o, struct json_object *doc)
{
	struct json_object *s;

	if (o->log_path || o->level || o->module || o->show_level ||
		o->show_log_origin) {
		s = section(doc, "logger");
		add(s, "log_path", o->log_path);
		add(s, "level", o->level);
		add(s, "module", o->module);
		if (o->show_level)
			json_object_object_add(
				s, "show_level", json_object_new_boolean(true));
		if (o->show_log_origin)
			json_object_object_add(s, "show_log_origin",
				json_object_new_boolean(true));
	}
	if (o->metrics_path)
		add(section(doc, "metrics"), "metrics_path", o->metrics_path);
	if (json_object_object_get_ex(doc, "logger", &s))
		fix_output(o, s, "log_path");
	if (json_object_object_get_ex(doc, "metrics", &s))
		fix_output(o, s, "metrics_path");
}

static int add_host(
	const struct fc_options *o, struct json_object *doc, struct error *err)
{
	struct json_object *host = json_object_new_object(), *sock;
	char cwd[PATH_MAX], mode[8];
	mode_t mask = umask(0);

	umask(mask);
	json_object_object_add(doc, "host", host);
	if (!o->path_root && !getcwd(cwd, sizeof(cwd)))
		return error_errno(err, errno, "the working directory");
	add(host, "path_root", o->path_root);
	add(host, "path_base", o->path_root ? "/" : cwd);
	add(host, "netns", o->netns);
	if (o->uid)
		json_object_object_add(
			host, "uid", json_object_new_int64(o->uid));
	if (o->gid)
		json_object_object_add(
			host, "gid", json_object_new_int64(o->gid));
	json_object_object_add(
		host, "owner_pid", json_object_new_int((int)getpid()));
	if (o->no_api)
		return 0;
	sock = json_object_new_object();
	json_object_object_add(doc, "api_socket", sock);
	add(sock, "path", o->api_sock);
	snprintf(mode, sizeof(mode), "%04o", 0777 & ~(unsigned)mask);
	add(sock, "mode", mode);
	return 0;
}

/* In Firecracker's file it is the name of another. */
static int read_cpu_config(
	const struct fc_options *o, struct json_object *doc, struct error *err)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(doc, "cpu-config", &v);
	if (!json_object_is_type(v, json_type_string))
		return 0;
	v = read_object(o, json_object_get_string(v), err);
	if (!v)
		return -err->code;
	json_object_object_add(doc, "cpu-config", v);
	return 0;
}

/* A configuration file is Firecracker's: it has none of our members. */
static int check_members(struct json_object *doc, struct error *err)
{
	static const char *const ours[] = {
		"host", "api_socket", "labels", "start"};

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (json_object_object_get_ex(doc, ours[i], NULL))
			return error_set(err, EINVAL,
				"%s: is not known in a configuration file",
				ours[i]);
	return 0;
}

int fc_document(
	const struct fc_options *o, struct json_object **ret, struct error *err)
{
	_cleanup_json_ struct json_object *doc =
		o->config_file ? read_object(o, o->config_file, err)
			       : json_object_new_object();

	if (!doc)
		return -err->code;
	if (check_members(doc, err) < 0 || read_cpu_config(o, doc, err) < 0 ||
		add_host(o, doc, err) < 0)
		return -err->code;
	add_outputs(o, doc);
	*ret = take_ptr(&doc);
	return 0;
}
