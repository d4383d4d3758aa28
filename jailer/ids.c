#include "jailer/ids.h"

#include "base/cleanup.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct ids {
	int lock_fd;
	uid_t first;
	unsigned count;
	pthread_mutex_t lock; /* what follows */
	unsigned next;        /* where the search begins */
	bool used[];
};

int ids_create(struct ids **ret, const char *lock_path, uid_t first,
	unsigned count, struct error *err)
{
	struct ids *ids;

	/* (uid_t)-1 means "unchanged" to setresuid() */
	if (first == 0 || count == 0 || count > UINT32_MAX - first)
		return error_set(err, EINVAL,
			"the user ids %u and the %u from there on cannot be "
			"given to VMs: they must be above 0 and below %u",
			first, count, UINT32_MAX);
	ids = calloc(1, sizeof(*ids) + count * sizeof(ids->used[0]));
	if (!ids)
		return error_errno(err, ENOMEM, "allocating %u ids", count);
	ids->first = first;
	ids->count = count;
	pthread_mutex_init(&ids->lock, NULL);
	ids->lock_fd = open(lock_path,
		O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
	if (ids->lock_fd < 0) {
		int e = errno;

		ids_destroy(ids);
		return error_errno(err, e, "opening %s", lock_path);
	}
	*ret = ids;
	return 0;
}

void ids_destroy(struct ids *ids)
{
	if (!ids)
		return;
	close_fd(&ids->lock_fd);
	pthread_mutex_destroy(&ids->lock);
	free(ids);
}

static int set_lock(const struct ids *ids, uid_t uid, short type)
{
	struct flock l = {.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = (off_t)uid,
		.l_len = 1};

	return fcntl(ids->lock_fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

static int take(struct ids *ids, uid_t *ret, struct error *err)
{
	for (unsigned tried = 0; tried < ids->count; tried++) {
		unsigned i = (ids->next + tried) % ids->count;
		int r;

		if (ids->used[i])
			continue;
		r = set_lock(ids, ids->first + i, F_WRLCK);
		if (r == -EAGAIN || r == -EACCES)
			continue; /* another daemon's VM has it */
		if (r < 0)
			return error_errno(
				err, -r, "locking user id %u", ids->first + i);
		ids->used[i] = true;
		ids->next = (i + 1) % ids->count;
		*ret = ids->first + i;
		return 0;
	}
	return error_set(err, ENOSPC,
		"all %u user ids for VMs, from %u on, are in use", ids->count,
		ids->first);
}

int ids_take(struct ids *ids, uid_t *ret, struct error *err)
{
	int r;

	pthread_mutex_lock(&ids->lock);
	r = take(ids, ret, err);
	pthread_mutex_unlock(&ids->lock);
	return r;
}

bool ids_adopt(struct ids *ids, uid_t uid)
{
	bool mine;

	if (uid < ids->first || uid - ids->first >= ids->count)
		return false;
	pthread_mutex_lock(&ids->lock);
	mine = !ids->used[uid - ids->first];
	ids->used[uid - ids->first] = true;
	/* Had another daemon taken it meanwhile, both VMs would have it. */
	if (mine)
		(void)set_lock(ids, uid, F_WRLCK);
	pthread_mutex_unlock(&ids->lock);
	return mine;
}

void ids_give(struct ids *ids, uid_t uid)
{
	assert(uid >= ids->first && uid - ids->first < ids->count);
	pthread_mutex_lock(&ids->lock);
	assert(ids->used[uid - ids->first]);
	ids->used[uid - ids->first] = false;
	set_lock(ids, uid, F_UNLCK);
	pthread_mutex_unlock(&ids->lock);
}
