#pragma once

/* All VMs, by id and in the order of their creation. They belong to whoever
 * put them in. */

#include "daemon/vm.h"

TAILQ_HEAD(vm_list, vm);

struct registry {
	struct vm_list list;
	struct vm **buckets;
	size_t n_buckets; /* a power of two */
	size_t n;
	uint64_t last_number; /* that a VM was given */
};

int registry_init(struct registry *r);  /* 0 or -ENOMEM */
void registry_fini(struct registry *r); /* must be empty */

struct vm *registry_find(const struct registry *r, const char *id);
/* The first VM, in the order of creation, with a higher number; or NULL. */
struct vm *registry_after(const struct registry *r, uint64_t number);
/* The number of a VM that is created now: greater than that of any other,
 * also of those that are gone. */
uint64_t registry_next_number(struct registry *r);
/* No VM of this id may be there. Its place is by its number; 0: it gets one. */
void registry_add(struct registry *r, struct vm *vm);
void registry_remove(struct registry *r, struct vm *vm);
