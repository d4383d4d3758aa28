#include "api/fields.h"
#include "api/resources.h"

/* In the order of enum api_action. */
static const char *const action_types[] = {
	"InstanceStart", "SendCtrlAltDel", "FlushMetrics", NULL};
static const char *const states[] = {"Paused", "Resumed", NULL};

static const struct field action_table[] = {
	{"action_type", FIELD_CHOICE, true, 0, 0, 0, action_types},
	{NULL},
};

static const struct field state_table[] = {
	{"state", FIELD_CHOICE, true, 0, 0, 0, states},
	{NULL},
};

static void act(
	struct request *r, const struct field *table, enum api_action first)
{
	const struct api_backend *b = r->backend;
	uint32_t choice = 0;
	struct error err;

	if (fields_read(table, r->json, "", false, &choice, &err) < 0) {
		request_reply_error(r, &err);
		return;
	}
	request_finish(r,
		b->ops->act(b->ctx, r->id, (enum api_action)(first + choice),
			r->received_ns, &r->op, &err),
		&err, false, request_reply_done);
}

void actions_put(struct request *r)
{
	act(r, action_table, API_ACTION_START);
}

void vm_state_patch(struct request *r)
{
	act(r, state_table, API_ACTION_PAUSE);
}
