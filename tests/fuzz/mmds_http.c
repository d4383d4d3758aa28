/*
 * A conversation with the metadata service, as its HTTP sees it. The input is
 * what was received. Of what is accepted, all lies within it, nothing less
 * would have been enough, and its answer has the form and the length it says.
 */

#include "net/mmds_serve.h"
#include "net/mmds_tcp.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/mmds_text.h"

#include <stdlib.h>
#include <string.h>

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_within(struct http_text t, const uint8_t *buf, size_t n)
{
	if (t.p)
		check(t.p >= (const char *)buf && t.len <= n &&
			t.p + t.len <= (const char *)buf + n);
}

static int parse(const uint8_t *buf, size_t n)
{
	struct http_request r;
	int ret = http_parse(buf, n, &r);

	check(ret == 0 || ret == -400 || ret == -431 || ret == -505 ||
		(ret > 0 && (size_t)ret <= n && ret <= (int)HTTP_HEAD_MAX));
	if (ret <= 0)
		return ret;
	check(r.path.len >= 1 && r.path.p[0] == '/');
	check_within(r.path, buf, (size_t)ret);
	check_within(r.token, buf, (size_t)ret);
	check_within(r.ttl, buf, (size_t)ret);
	check(http_parse(buf, (size_t)ret - 1, &r) == 0);
	check(http_parse(buf, (size_t)ret, &r) == ret);
	return ret;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t tx[TCP_TX_MAX];
	static _Alignas(8) uint8_t image[MMDS_TEXT_IMAGE(5)];
	struct mmds_stats stats = {0};
	struct mmds_service service = {
		.version = size & 1 ? MMDS_V1 : MMDS_V2, .stats = &stats};
	const char *end, *length;
	size_t used, len = 0;
	bool closes = false;
	int r = parse(data, size);

	mmds_text_image(image, "hello", 5);
	check(mmds_image_ok(image, sizeof(image)));
	mmds_tokens_init(&service.tokens, (uint8_t[16]){0}, 0);
	used = mmds_serve(&service, (struct mmds_image *)image, 1, data, size,
		tx, &len, &closes);
	check((used == 0) == (r == 0));
	if (used == 0)
		return 0;
	check(used == (r > 0 ? (size_t)r : size));
	check(r > 0 || closes);
	check(len > 0 && len < sizeof(tx));
	tx[len] = '\0';
	check(strncmp((char *)tx, "HTTP/1.", 7) == 0);
	end = strstr((char *)tx, "\r\n\r\n");
	length = strstr((char *)tx, "\r\nContent-Length: ");
	check(end && length && length < end);
	check(strtoul(length + 18, NULL, 10) == strlen(end + 4));
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *buf, size_t cap)
{
	static const char *const seeds[] = {
		"GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n"
		"User-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
		"GET http://169.254.169.254//a/b/ HTTP/1.0\r\n"
		"Accept: text/html, application/json;q=0.9\r\n"
		"Connection: TE, keep-alive\r\n\r\n",
		"PUT /latest/api/token HTTP/1.1\r\n"
		"X-metadata-token-ttl-seconds: 21600\r\n"
		"Content-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
		"PUT /latest/api/token HTTP/1.1\r\n"
		"X-aws-ec2-metadata-token-ttl-seconds: 60\r\n"
		"X-Forwarded-For: 10.0.0.1\r\n\r\n",
		"GET / HTTP/1.1\r\nX-metadata-token: 00112233445566778899\r\n"
		"Transfer-Encoding: chunked\r\n\r\n",
		"HEAD / HTTP/1.1\r\nX-aws-ec2-metadata-token: x\r\n\r\n",
	};
	size_t len;

	if (n >= sizeof(seeds) / sizeof(seeds[0]))
		return 0;
	len = strlen(seeds[n]);
	if (len > cap)
		return 0;
	memcpy(buf, seeds[n], len);
	return len;
}
