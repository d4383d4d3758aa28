#pragma once

/*
 * What happened to the VMs, in order: a bounded history, and those who follow
 * it. Each event has a number; numbers go up for ever, also over restarts of
 * the daemon, so that a follower can say where it was.
 */

#include "api/backend.h"

#include <stddef.h>

#define EVENTS_MAX 4096 /* in the history */

struct events;

/* NULL: out of memory. */
struct events *events_create(void);
void events_destroy(struct events *e); /* NULL is fine; has no readers */

/* All that e points to is copied. e NULL: nobody listens. */
void events_publish(struct events *e, const struct api_event *event);
/* Whether anybody follows them now. */
bool events_are_followed(const struct events *e);
/* No more will come: readers are told when they have read what there is. */
void events_end(struct events *e);

/* As api_backend_ops says. */
void events_reader_open(
	struct events *e, struct api_reader *r, const uint64_t *after);
int events_reader_next(struct api_reader *r, struct api_event *ret);
void events_reader_close(struct api_reader *r);
