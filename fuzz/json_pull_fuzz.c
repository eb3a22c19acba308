/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON reader against jansson: the same texts are accepted, and mean the same. */
#include <jansson.h>
#include <stdlib.h>

#include "base/mem.h"
#include "proto/json_value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool right)
{
	if (!right)
		abort();
}

static void same(struct sn_json_pull *r, json_t *v);

static void same_string(struct sn_json_string s, const char *text, size_t len)
{
	char *plain = malloc(s.raw.len + 1);

	must(plain != NULL);
	must(sn__json_unescape(s, plain) == len && memcmp(plain, text, len) == 0);
	must(sn__json_string_is(s, (struct sn_str){text, len}));
	free(plain);
}

static void same_object(struct sn_json_pull *r, json_t *v)
{
	struct sn_json_members m;
	struct sn_arena arena;
	struct sn_str raw;

	/* The trusting reader and the checking one see the same extent. */
	must(sn__json_skip(r, &raw) == 0);
	sn__arena_init(&arena, 1024, (size_t)64 << 20);
	must(sn__json_members(raw, &arena, &m) == 0);
	must(m.n == json_object_size(v));
	for (uint32_t i = 0; i < m.n; i++) {
		json_t *member = json_object_getn(v, m.v[i].key.ptr, m.v[i].key.len);
		struct sn_json_pull inner;

		must(member != NULL);
		sn__json_begin(&inner, m.v[i].raw);
		same(&inner, member);
		must(sn__json_finish(&inner) == 0);
	}
	sn__arena_finish(&arena);
}

static void same_array(struct sn_json_pull *r, json_t *v)
{
	size_t n = 0;

	must(sn__json_enter_array(r) == 0);
	while (sn__json_item(r) > 0)
		same(r, json_array_get(v, n++));
	must(r->error == 0 && n == json_array_size(v));
}

static void same(struct sn_json_pull *r, json_t *v)
{
	struct sn_json_string s;
	struct sn_str n;
	uint64_t u;
	bool b;

	switch (sn__json_peek(r)) {
	case SN_JSON_OBJECT:
		must(json_is_object(v));
		same_object(r, v);
		break;
	case SN_JSON_ARRAY:
		must(json_is_array(v));
		same_array(r, v);
		break;
	case SN_JSON_STRING:
		must(sn__json_string(r, &s) == 0 && json_is_string(v));
		same_string(s, json_string_value(v), json_string_length(v));
		break;
	case SN_JSON_NUMBER:
		must(json_is_number(v) && sn__json_number(r, &n) == 0);
		if (json_is_integer(v) && json_integer_value(v) >= 0)
			must(sn__json_uint(n, UINT64_MAX, &u) == 0 &&
					u == (uint64_t)json_integer_value(v));
		break;
	case SN_JSON_NULL:
		must(json_is_null(v) && sn__json_null(r) == 0);
		break;
	default:
		must(json_is_boolean(v) && sn__json_bool(r, &b) == 0 && b == json_is_true(v));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_str text = {(const char *)data, size};
	struct sn_json_pull r;
	struct sn_arena arena;
	json_error_t error;
	bool equal = false;
	json_t *v;
	int rc;

	if (size == 0)
		return 0;
	rc = sn__json_check(text, NULL);
	if (memchr(text.ptr, '\0', size) != NULL) { /* jansson takes it for the end */
		must(rc != 0);
		return 0;
	}
	v = json_loadb(text.ptr, size, JSON_DECODE_ANY, &error);

	/* Jansson also refuses numbers it cannot hold, and allows more depth. */
	if (v == NULL && json_error_code(&error) == json_error_numeric_overflow)
		return 0;
	if (rc != SN_E_LIMIT)
		must((v != NULL) == (rc == 0));
	if (v != NULL && rc == 0) {
		sn__json_begin(&r, text);
		same(&r, v);
		must(r.error == 0);
		sn__arena_init(&arena, 1024, (size_t)64 << 20);
		must(sn__json_text_equal(text, text, &arena, &equal) == 0 && equal);
		sn__arena_finish(&arena);
	}
	json_decref(v);
	return 0;
}
