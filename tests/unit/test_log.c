#include "base/cleanup.h"
#include "base/log.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int out = -1;
static char text[4096];

static const char *written(void)
{
	ssize_t n = pread(out, text, sizeof(text) - 1, 0);

	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	return text;
}

static void open_out(void)
{
	out = memfd_create("log", MFD_CLOEXEC);
	ck_assert_int_ge(out, 0);
}

static void close_out(void)
{
	unsetenv("JOURNAL_STREAM");
	log_init(LOG_TEXT, LOG_INFO, STDERR_FILENO);
	close_fd(&out);
}

START_TEST(text_is_one_line_of_pairs)
{
	log_init(LOG_TEXT, LOG_INFO, out);
	log_info("vm_started", "vm=%s pid=%d", "a", 7);
	ck_assert_ptr_nonnull(
		strstr(written(), "Z info event=vm_started vm=a pid=7\n"));
	ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
}
END_TEST

START_TEST(json_escapes_and_splits_pairs)
{
	char q[64];

	log_init(LOG_JSON, LOG_INFO, out);
	log_warn("e", "vm=a why=%s n=3", log_quote(q, sizeof(q), "a \"b\"\n"));
	ck_assert_ptr_nonnull(strstr(written(),
		"\"level\":\"warn\",\"event\":\"e\",\"vm\":\"a\","
		"\"why\":\"a \\\"b\\\"\\u000a\",\"n\":\"3\"}\n"));
}
END_TEST

static void make_out_the_journal(int inode_off_by)
{
	char is[48];
	struct stat st;

	ck_assert_int_eq(fstat(out, &st), 0);
	snprintf(is, sizeof(is), "%llu:%llu", (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino + (unsigned)inode_off_by);
	setenv("JOURNAL_STREAM", is, 1);
}

START_TEST(the_journal_gets_priorities_and_no_time)
{
	make_out_the_journal(0);
	log_init(LOG_TEXT, LOG_DEBUG, out);
	log_error("a", "vm=x");
	log_warn("b", "vm=x");
	log_info("c", "vm=x");
	log_debug("d", "vm=x");
	ck_assert_str_eq(written(), "<3>error event=a vm=x\n"
				    "<4>warn event=b vm=x\n"
				    "<6>info event=c vm=x\n"
				    "<7>debug event=d vm=x\n");
}
END_TEST

START_TEST(json_for_the_journal_has_a_priority_too)
{
	make_out_the_journal(0);
	log_init(LOG_JSON, LOG_INFO, out);
	log_warn("e", "vm=x");
	ck_assert_ptr_eq(strstr(written(), "<4>{\"time\":\""), text);
	ck_assert_ptr_nonnull(
		strstr(text, "\",\"level\":\"warn\",\"event\":\"e\""));
}
END_TEST

START_TEST(somebody_elses_journal_stream_changes_nothing)
{
	make_out_the_journal(1);
	log_init(LOG_TEXT, LOG_INFO, out);
	log_info("e", "vm=x");
	ck_assert_int_ne(written()[0], '<');
	ck_assert_ptr_nonnull(strstr(text, "Z info event=e vm=x\n"));
}
END_TEST

START_TEST(levels_below_the_limit_are_silent)
{
	log_init(LOG_TEXT, LOG_WARN, out);
	log_info("no", "x=1");
	ck_assert_str_eq(written(), "");
	log_error("yes", "x=1");
	ck_assert_str_ne(written(), "");
}
END_TEST

START_TEST(a_line_too_long_is_cut_but_stays_one_line)
{
	char longer[3000];
	size_t n;

	memset(longer, '"', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	log_init(LOG_JSON, LOG_INFO, out);
	log_info("e", "k=%s", longer);
	n = strlen(written());
	ck_assert_uint_le(n, 1024);
	ck_assert_int_eq(text[n - 1], '\n');
	ck_assert_int_eq(text[n - 2], '}');
}
END_TEST

START_TEST(quote_closes_what_it_cuts)
{
	char q[6];

	ck_assert_str_eq(log_quote(q, sizeof(q), "abcdef"), "\"abc\"");
	ck_assert_str_eq(log_quote(q, sizeof(q), "ab\"c"), "\"ab\"");
}
END_TEST

START_TEST(limit_lets_a_burst_through_and_counts_the_rest)
{
	struct log_limit l = LOG_LIMIT(2, 1);
	uint32_t held = 9;

	ck_assert(log_limit_ok(&l, 1000, &held));
	ck_assert_uint_eq(held, 0);
	ck_assert(log_limit_ok(&l, 1001, &held));
	ck_assert(!log_limit_ok(&l, 1002, &held));
	ck_assert(!log_limit_ok(&l, 1000000999, &held));
	ck_assert(log_limit_ok(&l, 1000001000, &held));
	ck_assert_uint_eq(held, 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("log");
	TCase *t = tcase_create("log");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, open_out, close_out);
	tcase_add_test(t, text_is_one_line_of_pairs);
	tcase_add_test(t, json_escapes_and_splits_pairs);
	tcase_add_test(t, the_journal_gets_priorities_and_no_time);
	tcase_add_test(t, json_for_the_journal_has_a_priority_too);
	tcase_add_test(t, somebody_elses_journal_stream_changes_nothing);
	tcase_add_test(t, levels_below_the_limit_are_silent);
	tcase_add_test(t, a_line_too_long_is_cut_but_stays_one_line);
	tcase_add_test(t, quote_closes_what_it_cuts);
	tcase_add_test(t, limit_lets_a_burst_through_and_counts_the_rest);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
