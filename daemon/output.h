#pragma once

/*
 * What a VM prints, and who follows it: the shared memory, its wake eventfd,
 * and the readers. It outlives its VM as long as somebody reads.
 */

#include "api/backend.h"
#include "daemon/loop.h"
#include "daemon/process.h"
#include "daemon/ring.h"

#include <stddef.h>

struct output;

/* Without a page yet; one reference. NULL: out of memory. */
struct output *output_create(struct loop *loop);
/* The VM's reference goes, and with it all hope of more bytes. */
void output_end_and_put(struct output *o);

/* Of a VM that starts, or has been found: what p shares with it, which is taken
 * over. */
void output_attach(struct output *o, struct process *p);
/* The start failed: back to how it was before output_attach(). */
void output_reset(struct output *o);
/* The VM has exited: readers get what is there, then the end. */
void output_end(struct output *o);

int output_wake_fd(const struct output *o); /* borrowed; -1: none */
struct ring *output_ring(struct output *o);
/* The page, or NULL. Every load from it is atomic and then bounded. */
const struct vm_shared *output_shared(const struct output *o);

/* As api_backend_ops says. */
void output_reader_open(struct output *o, struct api_reader *r);
ssize_t output_reader_read(struct api_reader *r, void *buf, size_t size);
void output_reader_close(struct api_reader *r);
