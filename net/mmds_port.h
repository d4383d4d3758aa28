#pragma once

/* Inside the metadata service: what mmds.c and mmds_port.c share. */

#include "net/mmds.h"
#include "net/mmds_serve.h"
#include "net/mmds_tcp.h"

#include <pthread.h>

struct mmds {
	uint32_t ipv4;
	uint64_t (*clock)(void);
	uint8_t tcp_key[SIPHASH_KEY_BYTES];
	struct mmds_service service; /* the worker's */
	pthread_mutex_t lock;        /* what follows */
	struct mmds_image *image;    /* NULL: none yet */
};

/* As struct tcp_app's serve(). */
size_t mmds_answer(struct mmds *m, const uint8_t *rx, size_t n, uint8_t *tx,
	size_t *ret_len, bool *ret_close);
