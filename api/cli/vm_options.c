#include "api/cli/cli.h"

#include "base/cleanup.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One line here is one line there. */
/* clang-format off */
const char vm_options_help[] =
	"      --config FILE     begin with this JSON document, as PUT\n"
	"                        /v1/vms/NAME takes it (-: standard input); the\n"
	"                        other options change it\n"
	"  -k, --kernel FILE     bzImage or vmlinux\n"
	"  -i, --initrd FILE\n"
	"  -a, --append ARGS     the kernel's command line\n"
	"  -c, --cpus N          (default 1)\n"
	"  -m, --memory MIB      (default 128)\n"
	"  -r, --root FILE[:ro]  the root disk: an image or a block device\n"
	"  -d, --disk FILE[:ro]  another; may be given again\n"
	"  -n, --net TAP[,KEY=VALUE...]\n"
	"                        a network interface on this tap; keys are the\n"
	"                        API's: create=true, bridge=, netns=, guest_mac=,\n"
	"                        mtu=, queue_pairs=; may be given again\n"
	"      --vsock CID:PATH  a vsock, and its Unix socket\n"
	"      --entropy         a source of random numbers\n"
	"      --balloon MIB     a balloon of this size, with statistics\n"
	"      --hugepages       2 MiB pages for the guest's memory\n"
	"      --virtio-console  hvc0 instead of the serial port ttyS0\n"
	"  -l, --label KEY=VALUE may be given again\n";
/* clang-format on */

enum {
	OPT_CONFIG = 256,
	OPT_VSOCK,
	OPT_ENTROPY,
	OPT_BALLOON,
	OPT_HUGEPAGES,
	OPT_VIRTIO_CONSOLE,
};

const struct option vm_options[] = {
	{"config", required_argument, NULL, OPT_CONFIG},
	{"kernel", required_argument, NULL, 'k'},
	{"initrd", required_argument, NULL, 'i'},
	{"append", required_argument, NULL, 'a'},
	{"cpus", required_argument, NULL, 'c'},
	{"memory", required_argument, NULL, 'm'},
	{"root", required_argument, NULL, 'r'},
	{"disk", required_argument, NULL, 'd'},
	{"net", required_argument, NULL, 'n'},
	{"vsock", required_argument, NULL, OPT_VSOCK},
	{"entropy", no_argument, NULL, OPT_ENTROPY},
	{"balloon", required_argument, NULL, OPT_BALLOON},
	{"hugepages", no_argument, NULL, OPT_HUGEPAGES},
	{"virtio-console", no_argument, NULL, OPT_VIRTIO_CONSOLE},
	{"label", required_argument, NULL, 'l'},
	{NULL},
};

/* The object or array at key, made if there is none. */
static struct json_object *section(
	struct json_object *doc, const char *key, bool array)
{
	struct json_object *o = NULL;

	if (json_object_object_get_ex(doc, key, &o) &&
		json_object_is_type(
			o, array ? json_type_array : json_type_object))
		return o;
	o = array ? json_object_new_array() : json_object_new_object();
	json_object_object_add(doc, key, o);
	return o;
}

static void set_string(struct json_object *o, const char *key, const char *s)
{
	json_object_object_add(o, key, json_object_new_string(s));
}

/* The daemon opens paths, and has its own current directory. */
static int set_path(struct json_object *o, const char *key, const char *path,
	struct error *err)
{
	_cleanup_free_ char *whole = realpath(path, NULL);

	if (!whole)
		return error_errno(err, errno, "%s", path);
	set_string(o, key, whole);
	return 0;
}

static int set_number(struct json_object *o, const char *key, const char *s,
	const char *option, struct error *err)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(s, &end, 10);
	if (!*s || *end || errno)
		return error_set(err, EINVAL, "%s: \"%s\" is no whole number",
			option, s);
	json_object_object_add(o, key, json_object_new_int64(n));
	return 0;
}

static int add_disk(
	struct json_object *doc, const char *arg, bool root, struct error *err)
{
	struct json_object *drives = section(doc, "drives", true);
	struct json_object *d = json_object_new_object();
	size_t len = strlen(arg);
	bool read_only = len > 3 && strcmp(arg + len - 3, ":ro") == 0;
	char path[PATH_MAX];
	char id[32] = "root";

	json_object_array_add(drives, d);
	snprintf(path, sizeof(path), "%.*s", (int)(read_only ? len - 3 : len),
		arg);
	if (!root)
		snprintf(id, sizeof(id), "disk%zu",
			json_object_array_length(drives));
	set_string(d, "drive_id", id);
	json_object_object_add(
		d, "is_root_device", json_object_new_boolean(root));
	json_object_object_add(
		d, "is_read_only", json_object_new_boolean(read_only));
	return set_path(d, "path_on_host", path, err);
}

/* What the API wants there; anything else is a string. */
static int add_value(struct json_object *o, const char *key, const char *s,
	struct error *err)
{
	if (strcmp(key, "mtu") == 0 || strcmp(key, "queue_pairs") == 0)
		return set_number(o, key, s, key, err);
	if (strcmp(key, "create") == 0 &&
		(strcmp(s, "true") == 0 || strcmp(s, "false") == 0))
		json_object_object_add(
			o, key, json_object_new_boolean(s[0] == 't'));
	else
		set_string(o, key, s);
	return 0;
}

static int add_net(struct json_object *doc, const char *arg, struct error *err)
{
	struct json_object *nets = section(doc, "network-interfaces", true);
	struct json_object *net = json_object_new_object();
	char copy[512], id[32], *save = NULL, *word, *value;

	snprintf(id, sizeof(id), "eth%zu", json_object_array_length(nets));
	json_object_array_add(nets, net);
	snprintf(copy, sizeof(copy), "%s", arg);
	word = strtok_r(copy, ",", &save);
	if (!word || strlen(arg) >= sizeof(copy))
		return error_set(err, EINVAL, "--net wants the name of a tap");
	set_string(net, "iface_id", id);
	set_string(net, "host_dev_name", word);
	while ((word = strtok_r(NULL, ",", &save))) {
		value = strchr(word, '=');
		if (!value)
			return error_set(err, EINVAL,
				"--net: \"%s\" is not KEY=VALUE", word);
		*value++ = '\0';
		if (add_value(net, word, value, err) < 0)
			return -err->code;
	}
	return 0;
}

static int add_vsock(
	struct json_object *doc, const char *arg, struct error *err)
{
	struct json_object *vsock = section(doc, "vsock", false);
	const char *colon = strchr(arg, ':');
	char cid[16], cwd[PATH_MAX] = "", path[2 * PATH_MAX];

	if (!colon || (size_t)(colon - arg) >= sizeof(cid))
		return error_set(err, EINVAL, "--vsock wants CID:PATH");
	snprintf(cid, sizeof(cid), "%.*s", (int)(colon - arg), arg);
	/* It does not exist yet. */
	if (colon[1] != '/' && !getcwd(cwd, sizeof(cwd)))
		return error_errno(err, errno, "getcwd");
	snprintf(path, sizeof(path), "%s%s%s", cwd, cwd[0] ? "/" : "",
		colon + 1);
	set_string(vsock, "uds_path", path);
	return set_number(vsock, "guest_cid", cid, "--vsock", err);
}

static int add_balloon(
	struct json_object *doc, const char *arg, struct error *err)
{
	struct json_object *b = section(doc, "balloon", false);

	json_object_object_add(
		b, "deflate_on_oom", json_object_new_boolean(true));
	json_object_object_add(
		b, "stats_polling_interval_s", json_object_new_int(1));
	return set_number(b, "amount_mib", arg, "--balloon", err);
}

static int add_label(
	struct json_object *doc, const char *arg, struct error *err)
{
	struct json_object *labels = section(doc, "labels", false);
	const char *value = strchr(arg, '=');
	char key[128];

	if (!value || (size_t)(value - arg) >= sizeof(key))
		return error_set(err, EINVAL, "--label wants KEY=VALUE");
	snprintf(key, sizeof(key), "%.*s", (int)(value - arg), arg);
	set_string(labels, key, value + 1);
	return 0;
}

static int read_config(
	struct json_object **doc, const char *path, struct error *err)
{
	struct json_object *o;

	if (strcmp(path, "-") == 0)
		o = json_object_from_fd(STDIN_FILENO);
	else
		o = json_object_from_file(path);
	if (!json_object_is_type(o, json_type_object)) {
		json_object_put(o);
		return error_set(err, EINVAL,
			"%s cannot be read, or is no JSON object", path);
	}
	json_object_put(*doc);
	*doc = o;
	return 0;
}

static int read_machine(
	struct json_object *doc, int opt, const char *arg, struct error *err)
{
	struct json_object *m = section(doc, "machine-config", false), *v;

	/* Both are required once one is given. */
	if (!json_object_object_get_ex(m, "vcpu_count", &v))
		json_object_object_add(m, "vcpu_count", json_object_new_int(1));
	if (!json_object_object_get_ex(m, "mem_size_mib", &v))
		json_object_object_add(
			m, "mem_size_mib", json_object_new_int(128));
	switch (opt) {
	case 'c':
		return set_number(m, "vcpu_count", arg, "--cpus", err);
	case 'm':
		return set_number(m, "mem_size_mib", arg, "--memory", err);
	case OPT_HUGEPAGES:
		set_string(m, "huge_pages", "2M");
		return 0;
	default:
		set_string(m, "console", "virtio");
		return 0;
	}
}

int vm_option_read(
	int opt, const char *arg, struct json_object **doc, struct error *err)
{
	struct json_object *boot;

	switch (opt) {
	case OPT_CONFIG:
		return read_config(doc, arg, err);
	case 'k':
	case 'i':
		boot = section(*doc, "boot-source", false);
		return set_path(boot,
			opt == 'k' ? "kernel_image_path" : "initrd_path", arg,
			err);
	case 'a':
		set_string(
			section(*doc, "boot-source", false), "boot_args", arg);
		return 0;
	case 'r':
	case 'd':
		return add_disk(*doc, arg, opt == 'r', err);
	case 'n':
		return add_net(*doc, arg, err);
	case 'l':
		return add_label(*doc, arg, err);
	case OPT_VSOCK:
		return add_vsock(*doc, arg, err);
	case OPT_ENTROPY:
		section(*doc, "entropy", false);
		return 0;
	case OPT_BALLOON:
		return add_balloon(*doc, arg, err);
	default:
		return read_machine(*doc, opt, arg, err);
	}
}
