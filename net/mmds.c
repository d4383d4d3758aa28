#include "net/mmds_port.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

int mmds_create(
	struct mmds **ret, const struct mmds_config *config, struct error *err)
{
	uint8_t key[SIPHASH_KEY_BYTES];
	struct mmds *m = calloc(1, sizeof(*m));

	if (!m)
		return error_set(err, ENOMEM, "out of memory");
	m->clock = config->clock ? config->clock : clock_ns;
	m->ipv4 = config->ipv4;
	m->service.version = config->version;
	m->service.imds_compat = config->imds_compat;
	m->service.stats = config->stats;
	/* Here and not later: a worker may not ask for random bytes. */
	if (getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key) ||
		getrandom(m->tcp_key, sizeof(m->tcp_key), 0) !=
			(ssize_t)sizeof(m->tcp_key)) {
		free(m);
		return error_errno(err, errno, "getrandom");
	}
	mmds_tokens_init(&m->service.tokens, key, m->clock());
	pthread_mutex_init(&m->lock, NULL);
	*ret = m;
	return 0;
}

void mmds_destroy(struct mmds *m)
{
	if (!m)
		return;
	pthread_mutex_destroy(&m->lock);
	free(m->image);
	free(m);
}

int mmds_set_data(struct mmds *m, int fd, size_t len)
{
	struct mmds_image *img, *old;
	int r;

	if (len < sizeof(*img) || len > MMDS_IMAGE_MAX)
		return -EINVAL;
	img = malloc(len);
	if (!img)
		return -ENOMEM;
	r = fd_pread_full(fd, img, len, 0);
	if (r == 0 && !mmds_image_ok(img, len))
		r = -EINVAL;
	if (r < 0) {
		free(img);
		return r;
	}
	pthread_mutex_lock(&m->lock);
	old = m->image;
	m->image = img;
	pthread_mutex_unlock(&m->lock);
	/* Answers are copies: nothing points into it. */
	free(old);
	return 0;
}

size_t mmds_answer(struct mmds *m, const uint8_t *rx, size_t n, uint8_t *tx,
	size_t *ret_len, bool *ret_close)
{
	size_t used;

	pthread_mutex_lock(&m->lock);
	used = mmds_serve(&m->service, m->image, m->clock(), rx, n, tx, ret_len,
		ret_close);
	pthread_mutex_unlock(&m->lock);
	return used;
}
