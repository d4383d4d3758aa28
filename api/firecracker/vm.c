#include "api/firecracker/run.h"

#include "api/cli/client.h"
#include "api/cli/json_get.h"
#include "base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A VM of that name whose owner has just died goes within moments. */
#define TRIES 40
#define PAUSE_MS 50

static int put(struct client *c, const char *id, const struct fc_options *o,
	struct json_object *doc, struct error *err)
{
	int r = client_vm(c, "PUT", id, "", doc, NULL, err);

	for (int i = 0; o->id && r == -EEXIST && i < TRIES; i++) {
		poll(NULL, 0, PAUSE_MS);
		r = client_vm(c, "PUT", id, "", doc, NULL, err);
	}
	return r;
}

int fc_vm_create(struct client *c, const struct fc_options *o,
	struct json_object *doc, char *id, struct error *err)
{
	_cleanup_free_ char *metadata = NULL;
	char path[100];
	int r;

	if (o->metadata) {
		metadata = fc_read_file(o, o->metadata, err);
		if (!metadata)
			return -err->code;
	}
	snprintf(id, 65, "%s", o->id ? o->id : FC_DEFAULT_ID);
	r = put(c, id, o, doc, err);
	if (r == -EEXIST && !o->id) {
		snprintf(id, 65, FC_DEFAULT_ID "-%d", (int)getpid());
		r = put(c, id, o, doc, err);
	}
	/* Then it is not ours to delete. */
	if (r < 0)
		id[0] = '\0';
	if (r < 0 || !metadata)
		return r;
	snprintf(path, sizeof(path), "/v1/vms/%s/mmds", id);
	return client_request(
		c, "PUT", path, NULL, metadata, strlen(metadata), NULL, err);
}

int fc_vm_start(struct client *c, const char *id, struct error *err)
{
	struct json_object *action = json_object_new_object();
	int r;

	json_object_object_add(
		action, "action_type", json_object_new_string("InstanceStart"));
	r = client_vm(c, "PUT", id, "/actions", action, NULL, err);
	json_object_put(action);
	return r;
}

/* To Firecracker a guest's end is one, however it came to it. */
static int exit_status(const char *reason)
{
	static const char *const own[] = {
		"shutdown", "reset", "panic", "triple_fault"};

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (strcmp(reason, own[i]) == 0)
			return FC_EXIT_OK;
	return strcmp(reason, "violation") == 0 ? FC_EXIT_BAD_SYSCALL
						: FC_EXIT_FAILED;
}

static void look_at_exit(struct json_object *o, struct fc_look *ret)
{
	const char *reason = get_string(o, "reason");
	const char *detail = get_string(o, "detail");

	ret->status = exit_status(reason);
	if (strcmp(reason, "shutdown") != 0 && strcmp(reason, "reset") != 0)
		snprintf(ret->why, sizeof(ret->why), "%s%s%s", reason,
			detail[0] ? ": " : "", detail);
}

int fc_vm_look(struct client *c, const char *id, struct fc_look *ret,
	struct error *err)
{
	struct reply reply = {0};
	const char *state;
	int r = client_vm(c, "GET", id, "", NULL, &reply, err);

	if (r < 0 && r != -ENOENT)
		return r;
	*ret = (struct fc_look){.state = FC_GONE, .status = FC_EXIT_FAILED};
	if (r < 0)
		return 0;
	state = get_string(reply.json, "state");
	ret->state = strcmp(state, "Not started") == 0 ? FC_NOT_STARTED
		     : strcmp(state, "Exited") == 0    ? FC_EXITED
						       : FC_RUNNING;
	ret->pid = (pid_t)get_uint(reply.json, "pid");
	ret->dropped = get_uint(get(reply.json, "console"), "dropped");
	if (ret->state == FC_EXITED)
		look_at_exit(get(reply.json, "exit"), ret);
	reply_fini(&reply);
	return 0;
}

void fc_find_netns(char *buf, unsigned long size)
{
	DIR *dir = opendir("/run/netns");
	struct stat own, st;
	struct dirent *e;

	buf[0] = '\0';
	if (!dir)
		return;
	if (stat("/proc/self/ns/net", &own) < 0)
		own.st_ino = 0;
	while (own.st_ino && !buf[0] && (e = readdir(dir)))
		if (fstatat(dirfd(dir), e->d_name, &st, 0) == 0 &&
			st.st_ino == own.st_ino && st.st_dev == own.st_dev)
			snprintf(buf, size, "%s", e->d_name);
	closedir(dir);
}
