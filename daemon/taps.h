#pragma once

/*
 * The taps of a VM's network interfaces, opened by the daemon: each belongs to
 * one interface of one VM, from its configuration to the end of its process. A
 * VM that runs has their queues; what is kept here tells when it has let go of
 * them.
 */

#include "base/error.h"
#include "net/tap.h"
#include "vmm/config.h"
#include "vmm/msg.h"

#include <stdbool.h>
#include <sys/queue.h>

struct vm_tap {
	LIST_ENTRY(vm_tap) link;
	char vm[VM_ID_MAX + 1];
	char *name, *netns; /* what it is known by */
	bool made;          /* for this VM: it goes with its last queue */
	struct tap tap;
};

/* All that any VM has. */
LIST_HEAD(tap_list, vm_tap);

/* taps[i] belongs to config->nets[i]. */
struct vm_taps {
	struct vm_tap *taps[VM_MAX_NETS];
	unsigned n;
};

/* All of a configuration, into *ret (zero). Fails with the field at fault;
 * then some are open. */
int taps_open_all(struct tap_list *all, const char *vm,
	const struct vm_config *c, struct vm_taps *ret, struct error *err);

/*
 * The interface iface_id is new in `to`, or another than in `from`, which *t
 * belongs to: afterwards *t belongs to `to`. On failure nothing changes.
 */
int taps_change(struct tap_list *all, const char *vm,
	const struct vm_config *from, const struct vm_config *to,
	const char *iface_id, struct vm_taps *t, struct error *err);

/* What they tell the VM. Fails when one was lost. */
int taps_fill(const struct vm_taps *t, struct msg_start *m, struct error *err);
/* Where msg_start_fds() says. */
void taps_place_fds(
	const struct vm_taps *t, const struct msg_start *m, int *fds);

/* A VM has them that another daemon started; what tells their use is opened
 * here, as far as it can be. */
void taps_found(struct tap_list *all, const char *vm, const struct vm_config *c,
	struct vm_taps *ret);

/* The VM has the queues now. */
void taps_handed_over(struct vm_taps *t);
/* The VM did not start, and may be started again. What cannot be opened is
 * logged, and missing in taps_fill(). */
void taps_reopen(struct tap_list *all, const char *vm,
	const struct vm_config *c, struct vm_taps *t);
/* Whether one that was handed over is still open somewhere; of those that were
 * made only, or of all. */
bool taps_in_use(const struct vm_taps *t, bool made_only);
/* They are others' to use. */
void taps_close(struct vm_taps *t);
