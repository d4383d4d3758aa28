#include "daemon/tcp_listener.h"

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct error err;
static char listening[64];

static const char *const bad[] = {"", ":", "9464", ":9464", "127.0.0.1",
	"127.0.0.1:", "localhost:9464", "127.0.0.1:http", "127.0.0.1:65536",
	"127.0.0.1:-1", "127.0.0.1:+1", "127.0.0.1: 1", "127.0.0.1:000080",
	"127.0.0:1:2", "::1:9464", "::1", "[::1]", "[::1]:", "[::1:9464",
	"::1]:9464", "[127.0.0.1]:9464", "[]:1", "127.0.0.1.2:9464"};

START_TEST(what_is_no_address_is_refused_by_name)
{
	ck_assert_int_eq(
		tcp_listen(bad[_i], listening, sizeof(listening), &err),
		-EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "--metrics-listen"));
	ck_assert_ptr_nonnull(strstr(err.msg, bad[_i]));
}
END_TEST

START_TEST(it_listens_where_it_says)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	int fd = tcp_listen("127.0.0.1:0", listening, sizeof(listening), &err);
	unsigned long port;
	int client;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(strncmp(listening, "127.0.0.1:", 10), 0);
	port = strtoul(listening + 10, NULL, 10);
	ck_assert_uint_gt(port, 0);
	a.sin_port = htons((uint16_t)port);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	client = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(connect(client, (struct sockaddr *)&a, sizeof(a)), 0);
	close(client);
	/* Nobody else does. */
	ck_assert_int_eq(
		tcp_listen(listening, listening, sizeof(listening), &err),
		-EADDRINUSE);
	ck_assert_ptr_nonnull(strstr(err.msg, "--metrics-listen 127.0.0.1:"));
	close(fd);
}
END_TEST

START_TEST(an_address_of_ipv6_has_brackets)
{
	int fd = tcp_listen("[::1]:0", listening, sizeof(listening), &err);

	/* A host may be without it. */
	if (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)
		return;
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(strncmp(listening, "[::1]:", 6), 0);
	close(fd);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tcp_listener");
	TCase *t = tcase_create("tcp_listener");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, what_is_no_address_is_refused_by_name, 0,
		sizeof(bad) / sizeof(bad[0]));
	tcase_add_test(t, it_listens_where_it_says);
	tcase_add_test(t, an_address_of_ipv6_has_brackets);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
