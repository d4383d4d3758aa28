#include "daemon/registry.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIRST_BUCKETS 256

int registry_init(struct registry *r)
{
	*r = (struct registry){.n_buckets = FIRST_BUCKETS};
	TAILQ_INIT(&r->list);
	r->buckets = calloc(r->n_buckets, sizeof(struct vm *));
	return r->buckets ? 0 : -ENOMEM;
}

void registry_fini(struct registry *r)
{
	assert(r->n == 0);
	free(r->buckets);
}

/* FNV-1a. Whoever may name VMs may also delete them: ids chosen to collide
 * harm nobody else. */
static size_t hash(const char *id)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (; *id; id++)
		h = (h ^ (unsigned char)*id) * 0x100000001b3ull;
	return (size_t)h;
}

static struct vm **bucket(const struct registry *r, const char *id)
{
	return &r->buckets[hash(id) & (r->n_buckets - 1)];
}

struct vm *registry_find(const struct registry *r, const char *id)
{
	struct vm *vm = *bucket(r, id);

	while (vm && strcmp(vm->id, id) != 0)
		vm = vm->hash_next;
	return vm;
}

struct vm *registry_after(const struct registry *r, uint64_t number)
{
	struct vm *vm;

	TAILQ_FOREACH(vm, &r->list, link)
	if (vm->number > number)
		break;
	return vm;
}

/*
 * Whoever pages through the list comes back with the number of the last VM of
 * a page, be that one gone or this daemon another one by then: so numbers are
 * never given twice, and are higher in a later daemon.
 */
uint64_t registry_next_number(struct registry *r)
{
	struct timespec now;
	uint64_t ns;

	clock_gettime(CLOCK_REALTIME, &now);
	ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (ns <= r->last_number)
		ns = r->last_number + 1;
	return r->last_number = ns;
}

static void link_vm(struct registry *r, struct vm *vm)
{
	struct vm **b = bucket(r, vm->id);

	vm->hash_next = *b;
	*b = vm;
}

/* Without memory it stays as it is, with longer chains. */
static void grow(struct registry *r)
{
	size_t n = 2 * r->n_buckets;
	struct vm **more = calloc(n, sizeof(struct vm *)), *vm;

	if (!more)
		return;
	free(r->buckets);
	r->buckets = more;
	r->n_buckets = n;
	TAILQ_FOREACH(vm, &r->list, link)
	link_vm(r, vm);
}

void registry_add(struct registry *r, struct vm *vm)
{
	struct vm *before = TAILQ_LAST(&r->list, vm_list);

	assert(!registry_find(r, vm->id));
	if (r->n >= r->n_buckets)
		grow(r);
	if (!vm->number)
		vm->number = registry_next_number(r);
	link_vm(r, vm);
	while (before && before->number > vm->number)
		before = TAILQ_PREV(before, vm_list, link);
	if (before)
		TAILQ_INSERT_AFTER(&r->list, before, vm, link);
	else
		TAILQ_INSERT_HEAD(&r->list, vm, link);
	if (vm->number > r->last_number)
		r->last_number = vm->number;
	r->n++;
}

void registry_remove(struct registry *r, struct vm *vm)
{
	struct vm **p = bucket(r, vm->id);

	while (*p != vm)
		p = &(*p)->hash_next;
	*p = vm->hash_next;
	TAILQ_REMOVE(&r->list, vm, link);
	r->n--;
}
