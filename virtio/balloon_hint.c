#include "virtio/balloon_hint.h"

/* Smaller ones are STOP and DONE. */
#define FIRST_RUN 2u

uint32_t balloon_hint_start(struct balloon_hint *h, bool acknowledge)
{
	h->last_run++;
	if (h->last_run < FIRST_RUN)
		h->last_run = FIRST_RUN;
	h->host_cmd = h->last_run;
	h->acknowledge = acknowledge;
	return h->host_cmd;
}

uint32_t balloon_hint_stop(struct balloon_hint *h)
{
	h->host_cmd = VIRTIO_BALLOON_CMD_ID_DONE;
	return h->host_cmd;
}

bool balloon_hint_running(const struct balloon_hint *h)
{
	return h->host_cmd >= FIRST_RUN && h->guest_cmd == h->host_cmd;
}

bool balloon_hint_take(struct balloon_hint *h, uint32_t cmd)
{
	bool was_running = balloon_hint_running(h);

	h->guest_cmd = cmd;
	if (cmd != VIRTIO_BALLOON_CMD_ID_STOP || !was_running ||
		!h->acknowledge)
		return false;
	balloon_hint_stop(h);
	return true;
}
