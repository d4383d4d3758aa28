#pragma once

/* In place of daemon/process.c: processes that are no more than descriptors. */

#include "daemon/process.h"

#define FAKES_MAX 64

struct fake_process {
	int peer; /* its end of the conversation; -1: it is no more */
	int died; /* an eventfd: its pidfd */
	struct msg_prepare machine;
};

/* Those made so far; the pid of a process is its place here, from 1. */
extern struct fake_process fakes[FAKES_MAX];
/* Any thread makes one, so: how many have been made, and are there still. */
extern unsigned fakes_made, fakes_alive;
/* How the next ones are made: so many fail, with this error. */
extern unsigned fakes_to_fail;
extern int fakes_error;
extern bool fakes_stillborn; /* they die when they have said it */
extern bool fakes_silent;    /* they do not say that they are prepared */

void fakes_reset(void);
void fake_says(unsigned pid, uint32_t type, uint32_t seq);
void fake_dies(unsigned pid);
