/* SPDX-License-Identifier: Apache-2.0 */

/* The header part of tests/vectors/berlioz-spans.json. */

#include "base/test.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "mesh/b3.h"

static json_t *vectors(void)
{
	const char *root = getenv("SINEW_SOURCE_ROOT");
	char path[1024];
	json_t *doc;

	snprintf(path, sizeof(path), "%s/tests/vectors/berlioz-spans.json",
			root != NULL ? root : ".");
	doc = json_load_file(path, 0, NULL);
	assert_non_null(doc);
	return doc;
}

static unsigned headers_of(json_t *object, struct sn_http_header *headers)
{
	const char *name;
	json_t *value;
	unsigned n = 0;

	json_object_foreach(object, name, value) headers[n++] = (struct sn_http_header){
			sn_str_from(name), sn_str_from(json_string_value(value))};
	return n;
}

/* "$new" is the id first met under that name, whatever it is. */
static void check_id(const char *id, json_t *want, struct sn_str got, char fresh[17])
{
	const char *text = json_string_value(want);

	if (strcmp(text, "$new") == 0) {
		assert_int_equal(got.len, 16);
		if (fresh[0] == '\0')
			memcpy(fresh, got.ptr, 16);
		text = fresh;
	}
	if (got.len != strlen(text) || memcmp(got.ptr, text, got.len) != 0)
		fail_msg("%s: got %.*s, want %s", id, (int)got.len, got.ptr, text);
}

static struct sn_str found(const struct sn_b3_headers *h, const char *name)
{
	for (unsigned i = 0; i < h->n; i++)
		if (sn_str_eq(h->headers[i].name, sn_str_from(name)))
			return h->headers[i].value;
	return (struct sn_str){NULL, 0};
}

static struct sn_str hex(uint64_t high, uint64_t low, char out[33])
{
	if (high != 0)
		snprintf(out, 33, "%016" PRIx64 "%016" PRIx64, high, low);
	else
		snprintf(out, 33, "%016" PRIx64, low);
	return sn_str_from(out);
}

static void check_context(const char *id, json_t *want, const struct sn_context *ctx, bool shared,
		char fresh[17])
{
	json_t *parent = json_object_get(want, "parentId");
	char text[33];

	check_id(id, json_object_get(want, "traceId"),
			hex(ctx->trace_id[0], ctx->trace_id[1], text), fresh);
	check_id(id, json_object_get(want, "spanId"), hex(0, ctx->span_id, text), fresh);
	if (json_is_null(parent))
		assert_int_equal(ctx->parent_span_id, 0);
	else
		check_id(id, parent, hex(0, ctx->parent_span_id, text), fresh);
	assert_int_equal(ctx->sampled, json_is_true(json_object_get(want, "sampled")));
	assert_int_equal(ctx->debug, json_is_true(json_object_get(want, "debug")));
	assert_int_equal(shared, json_is_true(json_object_get(want, "shared")));
}

static void check_case(json_t *c, struct sn_rng *rng)
{
	const char *id = json_string_value(json_object_get(c, "id")), *name;
	struct sn_http_header in[8];
	struct sn_b3_headers out;
	struct sn_context ctx;
	char fresh[17] = "", other[17];
	uint64_t span_id = sn__rng_u64(rng);
	bool shared;
	json_t *want;

	sn__b3_read(in, headers_of(json_object_get(c, "incoming"), in), rng, &ctx, &shared);
	check_context(id, json_object_get(c, "server_context"), &ctx, shared, fresh);
	assert_int_equal(ctx.sampled, json_is_true(json_object_get(c, "server_span_recorded")));
	sn__b3_write(&ctx, span_id, &out);
	snprintf(other, sizeof(other), "%016" PRIx64, span_id);
	assert_int_equal(out.n, json_object_size(json_object_get(c, "outgoing")));
	json_object_foreach(json_object_get(c, "outgoing"), name, want)
	{
		if (strcmp(json_string_value(want), "$id64") == 0)
			assert_string_equal(found(&out, name).ptr, other);
		else
			check_id(id, want, found(&out, name), fresh);
	}
}

static void test_vectors(void **state)
{
	json_t *doc = vectors(), *cases = json_object_get(doc, "b3"), *c;
	struct sn_rng rng;
	size_t i;

	sn__rng_seed(&rng, 7);
	assert_int_equal(json_array_size(cases), 10);
	json_array_foreach(cases, i, c) check_case(c, &rng);
	json_decref(doc);
}

static void test_root_of_its_own(void **state)
{
	struct sn_b3_headers out;

	sn__b3_write(NULL, 0xabc, &out);
	assert_int_equal(out.n, 3); /* no parent */
	assert_string_equal(found(&out, "X-B3-TraceId").ptr, "0000000000000abc");
	assert_string_equal(found(&out, "X-B3-SpanId").ptr, "0000000000000abc");
	assert_string_equal(found(&out, "X-B3-Sampled").ptr, "1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_vectors),
			cmocka_unit_test(test_root_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
