#include "daemon/vm_state.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NO VM_STATES

/* The whole life again, state by state: where each event leads, or NO. */
static const enum vm_state want[VM_STATES][VM_EVENTS] = {
	[VM_NOT_STARTED] = {[VM_EV_CONFIGURE] = VM_NOT_STARTED,
		[VM_EV_START] = VM_STARTING,
		[VM_EV_PAUSE] = NO,
		[VM_EV_RESUME] = NO,
		[VM_EV_CTRL_ALT_DEL] = NO,
		[VM_EV_CONSOLE_INPUT] = NO,
		[VM_EV_UPDATE] = NO,
		[VM_EV_DELETE] = VM_DELETING,
		[VM_EV_STARTED] = NO,
		[VM_EV_START_FAILED] = NO,
		[VM_EV_PAUSED] = NO,
		[VM_EV_RESUMED] = NO,
		[VM_EV_DIED] = NO},
	[VM_STARTING] = {[VM_EV_CONFIGURE] = NO,
		[VM_EV_START] = NO,
		[VM_EV_PAUSE] = NO,
		[VM_EV_RESUME] = NO,
		[VM_EV_CTRL_ALT_DEL] = NO,
		[VM_EV_CONSOLE_INPUT] = NO,
		[VM_EV_UPDATE] = NO,
		[VM_EV_DELETE] = NO,
		[VM_EV_STARTED] = VM_RUNNING,
		[VM_EV_START_FAILED] = VM_NOT_STARTED,
		[VM_EV_PAUSED] = NO,
		[VM_EV_RESUMED] = NO,
		[VM_EV_DIED] = NO},
	[VM_RUNNING] = {[VM_EV_CONFIGURE] = NO,
		[VM_EV_START] = NO,
		[VM_EV_PAUSE] = VM_RUNNING,
		[VM_EV_RESUME] = VM_RUNNING,
		[VM_EV_CTRL_ALT_DEL] = VM_RUNNING,
		[VM_EV_CONSOLE_INPUT] = VM_RUNNING,
		[VM_EV_UPDATE] = VM_RUNNING,
		[VM_EV_DELETE] = VM_DELETING,
		[VM_EV_STARTED] = NO,
		[VM_EV_START_FAILED] = NO,
		[VM_EV_PAUSED] = VM_PAUSED,
		[VM_EV_RESUMED] = VM_RUNNING,
		[VM_EV_DIED] = VM_EXITED},
	[VM_PAUSED] = {[VM_EV_CONFIGURE] = NO,
		[VM_EV_START] = NO,
		[VM_EV_PAUSE] = VM_PAUSED,
		[VM_EV_RESUME] = VM_PAUSED,
		[VM_EV_CTRL_ALT_DEL] = NO,
		[VM_EV_CONSOLE_INPUT] = VM_PAUSED,
		[VM_EV_UPDATE] = VM_PAUSED,
		[VM_EV_DELETE] = VM_DELETING,
		[VM_EV_STARTED] = NO,
		[VM_EV_START_FAILED] = NO,
		[VM_EV_PAUSED] = VM_PAUSED,
		[VM_EV_RESUMED] = VM_RUNNING,
		[VM_EV_DIED] = VM_EXITED},
	[VM_EXITED] = {[VM_EV_CONFIGURE] = NO,
		[VM_EV_START] = NO,
		[VM_EV_PAUSE] = NO,
		[VM_EV_RESUME] = NO,
		[VM_EV_CTRL_ALT_DEL] = NO,
		[VM_EV_CONSOLE_INPUT] = NO,
		[VM_EV_UPDATE] = NO,
		[VM_EV_DELETE] = VM_DELETING,
		[VM_EV_STARTED] = NO,
		[VM_EV_START_FAILED] = NO,
		[VM_EV_PAUSED] = NO,
		[VM_EV_RESUMED] = NO,
		[VM_EV_DIED] = NO},
	[VM_DELETING] = {[VM_EV_CONFIGURE] = NO,
		[VM_EV_START] = NO,
		[VM_EV_PAUSE] = NO,
		[VM_EV_RESUME] = NO,
		[VM_EV_CTRL_ALT_DEL] = NO,
		[VM_EV_CONSOLE_INPUT] = NO,
		[VM_EV_UPDATE] = NO,
		[VM_EV_DELETE] = VM_DELETING,
		[VM_EV_STARTED] = NO,
		[VM_EV_START_FAILED] = NO,
		[VM_EV_PAUSED] = NO,
		[VM_EV_RESUMED] = NO,
		[VM_EV_DIED] = VM_DELETING},
};

START_TEST(each_event_leads_on_or_is_refused)
{
	for (int e = 0; e < VM_EVENTS; e++) {
		enum vm_state state = (enum vm_state)_i;
		struct error err = {0};
		int r = vm_state_after(&state, (enum vm_event)e, &err);

		if (want[_i][e] != NO) {
			ck_assert_int_eq(r, 0);
			ck_assert_int_eq(state, want[_i][e]);
			continue;
		}
		ck_assert_msg(r == -EBUSY, "event %d in state %d", e, _i);
		ck_assert_int_eq(state, _i);
		ck_assert_ptr_nonnull(strstr(err.msg, "the VM "));
	}
}
END_TEST

START_TEST(the_api_knows_four_states)
{
	static const char *const names[VM_STATES] = {"Not started",
		"Not started", "Running", "Paused", "Exited", "Exited"};

	ck_assert_str_eq(vm_state_name((enum vm_state)_i), names[_i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vm_state");
	TCase *t = tcase_create("state");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, each_event_leads_on_or_is_refused, 0, VM_STATES);
	tcase_add_loop_test(t, the_api_knows_four_states, 0, VM_STATES);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
