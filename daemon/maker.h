#pragma once

/*
 * Makes processes, on a thread of its own: from clone to exec its maker is held
 * for a millisecond, and the loop must not be. Nothing else is done there. In
 * turn; what was made, or why it was not, is told on the loop's thread.
 */

#include "daemon/loop.h"
#include "daemon/process.h"

#include <sys/queue.h>

struct maker;

/* Embedded in its owner, the maker's from maker_ask() to done(). */
struct maker_job {
	STAILQ_ENTRY(maker_job) link;
	struct msg_prepare machine;
	struct process process; /* result 0: made, and the owner's */
	int result;
	struct error err;
	void (*done)(struct maker_job *job);
};

/* loop and env: borrowed. No other thread calls process_make() from now on. */
int maker_create(struct maker **ret, struct loop *loop,
	const struct process_env *env, struct error *err);
void maker_ask(struct maker *m, struct maker_job *job);
/* Those not begun yet fail with ESHUTDOWN; all are done() when it returns. NULL
 * is fine. */
void maker_destroy(struct maker *m);
