#pragma once

/*
 * virtio/worker.h without a thread, a ring or a clock: linked before the real
 * one. What a device asks for is done when the test says so, in the order asked
 * for, so an input always does the same.
 */

#include "virtio/worker.h"

struct worker *fake_worker_get(void); /* there is one */

/* Does what can be done now, until nothing more can. */
void fake_worker_run(void);
/* All timers have expired. */
void fake_worker_expire(void);
