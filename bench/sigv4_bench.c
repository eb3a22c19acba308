/* SPDX-License-Identifier: Apache-2.0 */
/* What signing costs a request of DynamoDB: hash of the body, canonical request, signature. */
#include <stdio.h>
#include <time.h>

#include "base/mem.h"
#include "base/time.h"
#include "proto/sigv4.h"

static void print(const char *name, double value, const char *unit)
{
	(void)printf("{\"name\": \"sigv4/%s\", \"value\": %.2f, \"unit\": \"%s\"}\n", name, value,
			unit);
}

/* Of this process: what others do on the machine is not counted. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * SN_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static int sign(struct sn_sigv4 *s, const struct sn_sigv4_key *key, size_t size, struct sn_buf *out)
{
	static char body[65536];
	static const struct sn_http_header h[] = {
			{SN_STR("Content-Type"), SN_STR("application/x-amz-json-1.0")},
			{SN_STR("Host"), SN_STR("dynamodb.eu-north-1.amazonaws.com")},
			{SN_STR("X-Amz-Date"), SN_STR("20150830T123600Z")},
			{SN_STR("X-Amz-Target"), SN_STR("DynamoDB_20120810.PutItem")},
	};
	struct sn_sigv4_request req = {.method = SN_STR("POST"),
			.path = SN_STR("/"),
			.headers = h,
			.n_headers = SN_COUNT(h)};
	int r = sn__sigv4_hash(s, (struct sn_str){body, size}, req.payload);

	sn__buf_clear(out);
	return r < 0 ? r
		     : sn__sigv4_authorization(s, key, SN_STR("AKIDEXAMPLE"), "20150830T123600Z",
				       &req, out);
}

static int bench_size(struct sn_sigv4 *s, const struct sn_sigv4_key *key, size_t size, int rounds,
		const char *name)
{
	struct sn_buf out;
	uint64_t begin, count;
	int r;

	sn__buf_init(&out, 4096);
	r = sign(s, key, size, &out);
	count = sn__mem_count();
	begin = cpu_ns();
	for (int i = 0; i < rounds && r == 0; i++)
		r = sign(s, key, size, &out);
	print(name, (double)(cpu_ns() - begin) / rounds / 1e3, "us");
	if (sn__mem_count() != count)
		print("allocations", (double)(sn__mem_count() - count), "blocks");
	sn__buf_finish(&out);
	return r;
}

static int bench_key(struct sn_sigv4 *s, struct sn_sigv4_key *key)
{
	enum { ROUNDS = 20000 };
	uint64_t begin = cpu_ns();
	int r = 0;

	for (int i = 0; i < ROUNDS && r == 0; i++)
		r = sn__sigv4_key(s, SN_STR("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
				SN_STR("20150830"), SN_STR("eu-north-1"), SN_STR("dynamodb"), key);
	print("key-of-a-day", (double)(cpu_ns() - begin) / ROUNDS / 1e3, "us");
	return r;
}

int main(void)
{
	struct sn_sigv4_key key;
	struct sn_sigv4 s;

	if (sn__sigv4_init(&s) < 0)
		return 1;
	if (bench_key(&s, &key) < 0 || bench_size(&s, &key, 200, 100000, "request-200-bytes") < 0 ||
			bench_size(&s, &key, 4096, 50000, "request-4-KiB") < 0 ||
			bench_size(&s, &key, 65536, 5000, "request-64-KiB") < 0)
		return 1;
	sn__sigv4_finish(&s);
	return 0;
}
