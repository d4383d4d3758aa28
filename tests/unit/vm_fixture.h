#pragma once

/* A VM with the fake KVM, in one thread: nothing of it is left after a test. */

#include "tests/unit/fake_kvm.h"
#include "tests/unit/vm_start.h"

#include <check.h>
#include <string.h>

static struct vm vm;
static struct vm_start s;
static struct error err;

static inline void setup(void)
{
	fake_kvm_reset();
	ck_assert_int_eq(vm_init(&vm, 1234), 0);
}

static inline void teardown(void)
{
	vm_start_destroy_vm(&vm);
	if (s.n_fds)
		vm_start_free(&s);
	memset(&s, 0, sizeof(s));
}

static inline int create(void)
{
	return vm_start_create(&vm, &s, &err);
}

static inline int load(void)
{
	return vm_load(&vm, &s.msg.start, s.fds, &err);
}
