/* SPDX-License-Identifier: Apache-2.0 */
/* Spans as text: the vectors' spans written by us are the vectors' spans, and the OTLP form. */
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/test.h"
#include "mesh/span.h"

static json_t *load_vectors(void)
{
	const char *root = getenv("SINEW_SOURCE_ROOT");
	char path[512];
	json_error_t error;
	json_t *v;

	(void)snprintf(path, sizeof(path), "%s/tests/vectors/berlioz-spans.json",
			root != NULL ? root : ".");
	v = json_load_file(path, 0, &error);
	if (v == NULL)
		fail_msg("%s: %s", path, error.text);
	return v;
}

static uint64_t hex(const json_t *v)
{
	uint64_t id = 0;

	if (v != NULL)
		assert_int_equal(sn__parse_hex_u64(sn_str_from(json_string_value(v)), UINT64_MAX,
						 &id),
				0);
	return id;
}

static struct sn_str text(const json_t *v)
{
	return sn_str_from(json_string_value(v));
}

/* The span that the vector's object describes; @tags has room for four. */
static struct sn_span span_of(const json_t *v, struct sn_span_tag *tags)
{
	const json_t *kind = json_object_get(v, "kind"), *value;
	const json_t *local = json_object_get(v, "localEndpoint");
	struct sn_span s = {
			.trace_id = {0, hex(json_object_get(v, "traceId"))},
			.id = hex(json_object_get(v, "id")),
			.parent_id = hex(json_object_get(v, "parentId")),
			.kind = strcmp(json_string_value(kind), "CLIENT") == 0 ? SN_SPAN_CLIENT
									       : SN_SPAN_SERVER,
			.name = text(json_object_get(v, "name")),
			.local = text(json_object_get(local, "serviceName")),
			.ipv4 = text(json_object_get(local, "ipv4")),
			.remote = text(json_object_get(
					json_object_get(v, "remoteEndpoint"), "serviceName")),
			.wall_ns = 1000 *
					(uint64_t)json_integer_value(
							json_object_get(v, "timestamp")),
			.duration_ns = 1000 *
					(uint64_t)json_integer_value(
							json_object_get(v, "duration")),
			.shared = json_is_true(json_object_get(v, "shared")),
			.tags = tags,
	};
	const char *key;

	json_object_foreach(json_object_get(v, "tags"), key, value)
	{
		if (strcmp(key, "error") == 0)
			s.error = text(value);
		else
			tags[s.n_tags++] = (struct sn_span_tag){key, text(value)};
	}
	return s;
}

static void equals(struct sn_buf *out, const json_t *expected)
{
	json_t *got = NULL;

	assert_int_equal(sn__json_parse(sn__buf_str(out), 1 << 20, &got, NULL), 0);
	if (!sn__json_equal(got, expected))
		fail_msg("%.*s", (int)out->len, sn__buf_data(out));
	json_decref(got);
}

static void vectors(void **state)
{
	json_t *doc = load_vectors();
	const json_t *one;
	size_t i;

	assert_true(json_array_size(json_object_get(doc, "spans")) >= 9);
	json_array_foreach(json_object_get(doc, "spans"), i, one)
	{
		const json_t *expected = json_object_get(one, "span");
		struct sn_span_tag tags[4];
		struct sn_span span = span_of(expected, tags);
		struct sn_buf out;

		sn__buf_init(&out, 4096);
		assert_int_equal(sn__span_zipkin(&span, &out), 0);
		equals(&out, expected);
		sn__buf_finish(&out);
	}
	json_decref(doc);
}

static const struct sn_span_tag sample_tags[] = {
		{"http.method", SN_STR("GET")},
		{"http.status_code", SN_STR("503")},
};
static const struct sn_span_note sample_notes[] = {
		{1931000000124000000, SN_STR("back-off 500 ms")},
};
static const struct sn_span sample = {
		.trace_id = {0xa1b2c3d4e5f60718, 0x6e0a2b4c8d1f3057},
		.id = 0x1d2c3b4a59687766,
		.parent_id = 7,
		.kind = SN_SPAN_CLIENT,
		.name = SN_STR("GET \"\xc3\xa9\""),
		.local = SN_STR("Front"),
		.remote = SN_STR("Basket"),
		.wall_ns = 1931000000123000000,
		.duration_ns = 500,
		.error = SN_STR("503"),
		.tags = sample_tags,
		.n_tags = 2,
		.notes = sample_notes,
		.n_notes = 1,
};

static void zipkin_rest(void **state)
{
	json_t *expected = json_loads(
			"{\"traceId\":\"a1b2c3d4e5f607186e0a2b4c8d1f3057\","
			"\"parentId\":\"0000000000000007\",\"id\":\"1d2c3b4a59687766\","
			"\"name\":\"get \\\"\xc3\xa9\\\"\",\"kind\":\"CLIENT\","
			"\"timestamp\":1931000000123000,\"duration\":1,"
			"\"localEndpoint\":{\"serviceName\":\"front\"},"
			"\"remoteEndpoint\":{\"serviceName\":\"basket\"},"
			"\"annotations\":[{\"timestamp\":1931000000124000,"
			"\"value\":\"back-off 500 ms\"}],"
			"\"tags\":{\"http.method\":\"GET\",\"http.status_code\":\"503\","
			"\"error\":\"503\"},\"debug\":true}",
			0, NULL);
	struct sn_span span = sample;
	struct sn_buf out;

	span.debug = true;
	sn__buf_init(&out, 4096);
	assert_int_equal(sn__span_zipkin(&span, &out), 0);
	equals(&out, expected);
	sn__buf_finish(&out);
	json_decref(expected);
}

static void otlp(void **state)
{
	json_t *expected = json_loads("{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":"
				      "\"service.name\",\"value\":{\"stringValue\":\"Front\"}}]},"
				      "\"scopeSpans\":[{\"scope\":{\"name\":\"sinew\","
				      "\"version\":\"" SN_VERSION "\"},\"spans\":[{"
				      "\"traceId\":\"a1b2c3d4e5f607186e0a2b4c8d1f3057\","
				      "\"spanId\":\"1d2c3b4a59687766\","
				      "\"parentSpanId\":\"0000000000000007\","
				      "\"name\":\"GET \\\"\xc3\xa9\\\"\",\"kind\":3,"
				      "\"startTimeUnixNano\":\"1931000000123000000\","
				      "\"endTimeUnixNano\":\"1931000000123000500\",\"attributes\":["
				      "{\"key\":\"http.request.method\",\"value\":{\"stringValue\":"
				      "\"GET\"}},{\"key\":\"http.response.status_code\",\"value\":{"
				      "\"intValue\":\"503\"}},{\"key\":\"peer.service\",\"value\":{"
				      "\"stringValue\":\"Basket\"}}],\"events\":[{\"timeUnixNano\":"
				      "\"1931000000124000000\",\"name\":\"back-off 500 ms\"}],"
				      "\"status\":{\"code\":2,\"message\":\"503\"}}]}]}]}",
			0, NULL);
	struct sn_buf out;

	assert_non_null(expected);
	sn__buf_init(&out, 4096);
	assert_int_equal(sn__span_otlp_begin(SN_STR("Front"), &out), 0);
	assert_int_equal(sn__span_otlp(&sample, &out), 0);
	assert_int_equal(sn__span_otlp_end(&out), 0);
	equals(&out, expected);
	sn__buf_finish(&out);
	json_decref(expected);
}

/* A buffer that is too small at any place is left as it was. */
static void limits(void **state)
{
	struct sn_buf whole, out;

	sn__buf_init(&whole, 4096);
	assert_int_equal(sn__span_zipkin(&sample, &whole), 0);
	for (size_t max = 1; max < whole.len; max++) {
		sn__buf_init(&out, max);
		assert_int_equal(sn__span_zipkin(&sample, &out), SN_E_LIMIT);
		assert_int_equal(out.len, 0);
		sn__buf_finish(&out);
	}
	sn__buf_finish(&whole);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(vectors),
			cmocka_unit_test(zipkin_rest),
			cmocka_unit_test(otlp),
			cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
