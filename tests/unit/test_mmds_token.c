#include "net/mmds_token.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define S 1000000000ull

static const uint8_t key[SIPHASH_KEY_BYTES] = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static struct mmds_tokens tokens;
static char token[MMDS_TOKEN_LEN];

static void setup(void)
{
	mmds_tokens_init(&tokens, key, 1000 * S);
}

static bool valid(uint64_t now_ns)
{
	return mmds_token_valid(&tokens, now_ns, token, sizeof(token));
}

/* Of the bytes 0, 1, 2 ... under that key: as `openssl mac -macopt size:16
 * SIPHASH` has them. */
static const struct {
	size_t len;
	const char *hash;
} hashes[] = {
	{0, "a3817f04ba25a8e66df67214c7550293"},
	{1, "da87c1d86b99af44347659119b22fc45"},
	{7, "a1f1ebbed8dbc153c0b84aa61ff08239"},
	{8, "3b62a9ba6258f5610f83e264f31497b4"},
	{9, "264499060ad9baabc47f8b02bb6d71ed"},
	{15, "5493e99933b0a8117e08ec0f97cfc3d9"},
	{16, "6ee2a4ca67b054bbfd3315bf85230577"},
	{63, "5150d1772f50834a503e069a973fbd7c"},
};

START_TEST(siphash_is_that_of_others)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t data[64], out[SIPHASH_BYTES];
	char hex[2 * SIPHASH_BYTES + 1] = "";

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	siphash(out, key, data, hashes[_i].len);
	for (size_t i = 0; i < sizeof(out); i++) {
		hex[2 * i] = digits[out[i] >> 4];
		hex[2 * i + 1] = digits[out[i] & 15];
	}
	ck_assert_str_eq(hex, hashes[_i].hash);
}
END_TEST

START_TEST(a_token_is_valid_until_it_expires)
{
	mmds_token_make(&tokens, 1005 * S, 60, token);
	ck_assert(valid(1005 * S));
	ck_assert(valid(1065 * S - 1));
	ck_assert(!valid(1065 * S));
	ck_assert(!valid(5000 * S));
}
END_TEST

START_TEST(a_token_may_last_six_hours)
{
	mmds_token_make(&tokens, 1000 * S, MMDS_TOKEN_TTL_MAX, token);
	ck_assert(valid(1000 * S + 21600 * S - 1));
	ck_assert(!valid(1000 * S + 21600 * S));
}
END_TEST

START_TEST(no_two_tokens_are_the_same)
{
	char other[MMDS_TOKEN_LEN];

	mmds_token_make(&tokens, 1000 * S, 1, token);
	mmds_token_make(&tokens, 1000 * S, 1, other);
	ck_assert_mem_ne(token, other, sizeof(token));
	ck_assert(valid(1000 * S));
	ck_assert(mmds_token_valid(&tokens, 1000 * S, other, sizeof(other)));
}
END_TEST

/* Each character, and so expiry, number and signature. */
START_TEST(a_token_with_any_character_changed_is_invalid)
{
	char c;

	mmds_token_make(&tokens, 1000 * S, 60, token);
	c = token[_i];
	for (unsigned i = 1; i < 256; i++) {
		token[_i] = (char)i;
		ck_assert(valid(1000 * S) == ((char)i == c));
	}
}
END_TEST

START_TEST(a_token_of_another_length_is_invalid)
{
	char longer[MMDS_TOKEN_LEN + 1] = "";

	mmds_token_make(&tokens, 1000 * S, 60, token);
	memcpy(longer, token, sizeof(token));
	longer[MMDS_TOKEN_LEN] = '0';
	for (size_t len = 0; len <= sizeof(longer); len++)
		ck_assert(mmds_token_valid(&tokens, 1000 * S, longer, len) ==
			  (len == MMDS_TOKEN_LEN));
}
END_TEST

START_TEST(a_token_of_another_vm_is_invalid)
{
	struct mmds_tokens other;
	uint8_t other_key[SIPHASH_KEY_BYTES];

	memcpy(other_key, key, sizeof(key));
	other_key[15] ^= 1;
	mmds_tokens_init(&other, other_key, 1000 * S);
	mmds_token_make(&other, 1000 * S, 60, token);
	ck_assert(mmds_token_valid(&other, 1000 * S, token, sizeof(token)));
	ck_assert(!valid(1000 * S));
}
END_TEST

/* The guest does not learn how long its host has been up. */
START_TEST(a_token_holds_no_time_of_the_host)
{
	char other[MMDS_TOKEN_LEN];

	mmds_token_make(&tokens, 1001 * S, 60, token);
	mmds_tokens_init(&tokens, key, 7777 * S);
	mmds_token_make(&tokens, 7778 * S, 60, other);
	ck_assert_mem_eq(token, other, sizeof(token));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mmds_token");
	TCase *tc = tcase_create("tokens");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_loop_test(tc, siphash_is_that_of_others, 0,
		sizeof(hashes) / sizeof(hashes[0]));
	tcase_add_test(tc, a_token_is_valid_until_it_expires);
	tcase_add_test(tc, a_token_may_last_six_hours);
	tcase_add_test(tc, no_two_tokens_are_the_same);
	tcase_add_loop_test(tc, a_token_with_any_character_changed_is_invalid,
		0, MMDS_TOKEN_LEN);
	tcase_add_test(tc, a_token_of_another_length_is_invalid);
	tcase_add_test(tc, a_token_of_another_vm_is_invalid);
	tcase_add_test(tc, a_token_holds_no_time_of_the_host);
	suite_add_tcase(s, tc);

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
