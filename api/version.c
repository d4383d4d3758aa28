#include "api/resources.h"

void version_get(struct request *r)
{
	struct json_object *o = json_object_new_object();

	json_add_string(o, "mayfly_version", MAYFLY_VERSION);
	json_add_string(o, "api_version", "v1");
	request_reply_json(r, 200, o);
}
