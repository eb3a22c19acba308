/* SPDX-License-Identifier: Apache-2.0 */
/* Messages and JSON: what tests/protobuf does not reach: broken input, limits, memory. */
#include "proto/protobuf_json.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/test.h"
#include "proto/protobuf.h"

static struct sn_schema *schema;

static int load(void **state)
{
	static const char *const paths[] = {PROTO_SETS "/json3.desc", PROTO_SETS "/json2.desc"};
	static char data[1 << 18];

	assert_int_equal(sn__schema_create(&schema), 0);
	for (size_t i = 0; i < SN_COUNT(paths); i++) {
		FILE *f = fopen(paths[i], "rb");
		size_t n;

		assert_non_null(f);
		n = fread(data, 1, sizeof data, f);
		(void)fclose(f);
		assert_int_equal(sn__schema_add_set(schema, (struct sn_str){data, n}, NULL), 0);
	}
	return 0;
}

static int unload(void **state)
{
	sn__schema_destroy(schema);
	return sn__mem_live() == 0 ? 0 : -1;
}

static const struct sn_schema_message *type_of(const char *name)
{
	char full[100];
	const struct sn_schema_message *m;

	(void)snprintf(full, sizeof full, "sinew.%s", name);
	m = sn__schema_message(schema, sn_str_from(full));
	assert_non_null(m);
	return m;
}

/* ---- to JSON ---- */

static void shows(const char *type, struct sn_str wire, const char *json)
{
	struct sn_error err = {0};
	struct sn_buf out;

	sn__buf_init(&out, 10000);
	if (sn__protobuf_to_json(schema, type_of(type), wire, &out, &err) < 0)
		fail_msg("%s: %s", json, err.text);
	assert_int_equal(sn__buf_append(&out, "", 1), 0);
	assert_string_equal(sn__buf_data(&out), json);
	sn__buf_finish(&out);
}

static void wire_order(void **state)
{
	shows("json3.All", (struct sn_str){NULL, 0}, "{}");
	/* The last counts; submessages are merged; lists collected; packed or not. */
	shows("json3.Leaf", SN_STR("\x08\x01\x12\x01x\x08\x02"), "{\"a\":2,\"longName\":\"x\"}");
	shows("json3.All", SN_STR("\x12\x02\x08\x01\x60\x05\x12\x03\x12\x01x"),
			"{\"leaf\":{\"a\":1,\"longName\":\"x\"},\"underTwo\":5}");
	shows("json3.Lists", SN_STR("\x08\x01\x52\x01\x04\x0a\x02\x02\x03\x50\x05\x08\x04"),
			"{\"rInt32\":[1,2,3,4],\"uUint32\":[4,5]}");
	shows("json3.Lists", SN_STR("\x0a\x00\x12\x00"), "{}");
	/* The last member of a oneof counts, and parts of one are merged. */
	shows("json3.All", SN_STR("\x20\x01\x2a\x01x\x3a\x02\x08\x01"), "{\"oLeaf\":{\"a\":1}}");
	shows("json3.All", SN_STR("\x3a\x02\x08\x01\x20\x01\x3a\x03\x12\x01x"),
			"{\"oLeaf\":{\"longName\":\"x\"}}");
	shows("json3.All", SN_STR("\x3a\x02\x08\x01\x3a\x03\x12\x01x"),
			"{\"oLeaf\":{\"a\":1,\"longName\":\"x\"}}");
	/* Entries: the last of one key, absent keys and values, parts in any order. */
	shows("json3.Maps",
			SN_STR("\x0a\x05\x0a\x01k\x10\x01\x0a\x02\x10\x07\x0a\x05\x10\x02\x0a\x01k"
			       "\x12\x02\x08\x05\x1a\x00"),
			"{\"mInt64\":{\"k\":\"2\",\"\":\"7\"},\"mLeaf\":{\"5\":{}},"
			"\"mString\":{\"false\":\"\"}}");
}

static void unknown(void **state)
{
	/* Fields nobody knows, of another wire type, and groups */
	shows("json3.Leaf", SN_STR("\xf8\x07\x01\x0a\x01x\x10\x01\x23\x08\x01\x24\x08\x03"),
			"{\"a\":3}");
	shows("json2.Old", SN_STR("\x0a\x01n\x93\x01\x08\x01\x94\x01"), "{\"name\":\"n\"}");
	/* Numbers no enum has: of proto3 shown, of proto2 unknown, in maps and lists too */
	shows("json3.Lists", SN_STR("\x20\x63\x20\x01"), "{\"rEnum\":[99,\"RED\"]}");
	shows("json2.Old", SN_STR("\x20\x63\x80\x01\x63\x80\x01\x01\x82\x01\x02\x02\x01"),
			"{\"allSizes\":[\"SMALL\",\"SMALL\"]}");
	shows("json3.Scalars", SN_STR("\x40\xf9\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
			"{\"fEnum\":\"DEEP_BLUE\"}");
}

static void hides(const char *type, struct sn_str wire, int code, const char *sentence)
{
	struct sn_error err = {0};
	struct sn_buf out;
	int r;

	sn__buf_init(&out, 10000);
	assert_int_equal(sn__buf_puts(&out, "before"), 0);
	r = sn__protobuf_to_json(schema, type_of(type), wire, &out, &err);
	if (r != code || strcmp(err.text, sentence) != 0)
		fail_msg("%d \"%s\" instead of %d \"%s\"", r, err.text, code, sentence);
	assert_int_equal(out.len, 6);
	sn__buf_finish(&out);
}

static void broken(void **state)
{
	hides("json3.Leaf", SN_STR("\x08"), SN_E_PARSE, "message: not a protobuf message");
	hides("json3.Leaf", SN_STR("\x12\x01\xff"), SN_E_PARSE,
			"field long_name: a string that is not UTF-8");
	hides("json3.All", SN_STR("\x1a\x04\x12\x02\x08\x80"), SN_E_PARSE,
			"field all.leaf: not a protobuf message");
	hides("json3.Lists", SN_STR("\x0a\x01\x80"), SN_E_PARSE,
			"field r_int32: packed numbers end in the middle of one");
	hides("json3.Lists", SN_STR("\x2a\x03xyz"), SN_E_PARSE,
			"field r_fixed32: packed numbers end in the middle of one");
	hides("json3.Maps", SN_STR("\x0a\x03\x0a\x01\xff"), SN_E_PARSE,
			"field m_int64: a key that is not UTF-8");
	hides("json3.Known", SN_STR("\x42\x02\x10\xff"), SN_E_PARSE,
			"field timestamp: not a time of the years 1 to 9999");
	hides("json3.Known", SN_STR("\x12\x04\x08\x01\x10\xff"), SN_E_PARSE,
			"field duration: not a duration of up to 10,000 years");
	hides("json3.Known",
			SN_STR("\x22\x03\x0a\x01"
			       "A"),
			SN_E_PARSE, "field mask: not a field mask that has a JSON form");
	hides("json3.Known", SN_STR("\x0a\x06\x0a\x04x/no"), SN_E_NOT_FOUND,
			"field any: of a type that is not in the schema");
	hides("json3.Known", SN_STR("\x0a\x03\x12\x01x"), SN_E_NOT_FOUND,
			"field any: of a type that is not in the schema");
	hides("json3.Known", SN_STR("\x32\x09\x11\x00\x00\x00\x00\x00\x00\xf8\x7f"), SN_E_PARSE,
			"field value: google.protobuf.Struct: a number that is not finite");
}

/* All in All in All, 63 deep below the first. */
static void depth(void **state)
{
	struct sn_str text;
	struct sn_buf wire, out;
	json_t *json = NULL;

	sn__buf_init(&wire, 10000);
	sn__buf_init(&out, 10000);
	for (int i = 1; i < SN_JSON_DEPTH_MAX; i++)
		assert_int_equal(sn__protobuf_put_around(&wire, 3, 0), 0);
	assert_int_equal(sn__protobuf_to_json(schema, type_of("json3.All"), sn__buf_str(&wire),
					 &out, NULL),
			0);
	text = sn__buf_str(&out);
	assert_int_equal(sn__json_parse(text, 10000, &json, NULL), 0);
	sn__buf_clear(&wire);
	assert_int_equal(
			sn__protobuf_from_json(schema, type_of("json3.All"), json, &wire, NULL), 0);
	json_decref(json);
	assert_int_equal(sn__protobuf_put_around(&wire, 3, 0), 0);
	sn__buf_clear(&out);
	assert_int_equal(sn__protobuf_to_json(schema, type_of("json3.All"), sn__buf_str(&wire),
					 &out, NULL),
			SN_E_LIMIT);
	/* A Struct counts the brackets around it, as does an Any, where messages are counted first. */
	sn__buf_clear(&wire);
	for (int i = 0; i < SN_JSON_DEPTH_MAX; i++) {
		assert_int_equal(sn__protobuf_put_around(&wire, 1, 0), 0);
		assert_int_equal(sn__protobuf_put_around(&wire, 6, 0), 0);
	}
	assert_int_equal(sn__protobuf_put_around(&wire, 6, 0), 0);
	assert_int_equal(sn__protobuf_to_json(schema, type_of("json3.Known"), sn__buf_str(&wire),
					 &out, NULL),
			SN_E_LIMIT);
	sn__buf_finish(&wire);
	sn__buf_finish(&out);
}

/* ---- from JSON ---- */

static void takes(const char *type, const char *text, struct sn_str wire)
{
	struct sn_error err = {0};
	json_t *json = NULL;
	struct sn_buf out;

	sn__buf_init(&out, 10000);
	assert_int_equal(sn__json_parse(sn_str_from(text), 10000, &json, NULL), 0);
	if (sn__protobuf_from_json(schema, type_of(type), json, &out, &err) < 0)
		fail_msg("%s: %s", text, err.text);
	assert_int_equal(out.len, wire.len);
	if (wire.len > 0)
		assert_memory_equal(sn__buf_data(&out), wire.ptr, wire.len);
	json_decref(json);
	sn__buf_finish(&out);
}

static void accepts(void **state)
{
	takes("json3.Leaf", "{\"a\":0,\"longName\":\"\"}", SN_STR(""));
	takes("json3.Leaf", "{\"long_name\":\"x\",\"a\":null}", SN_STR("\x12\x01x"));
	takes("json3.Scalars",
			"{\"fInt64\":\"-1\",\"fUint64\":18,\"fSint32\":\"-2\",\"fDouble\":\"1\"}",
			SN_STR("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x20\x12\x28\x03"
			       "\x71\x00\x00\x00\x00\x00\x00\xf0\x3f"));
	takes("json3.Scalars", "{\"fInt32\":1e2,\"fUint32\":\"1.0\"}", SN_STR("\x08\x64\x18\x01"));
	/* Larger than jansson's integers */
	takes("json3.Scalars", "{\"fDouble\":\"18446744073709551616\"}",
			SN_STR("\x71\x00\x00\x00\x00\x00\x00\xf0\x43"));
	takes("json3.Scalars", "{\"fEnum\":\"RED\",\"fInside\":\"EINS\",\"pInt32\":0}",
			SN_STR("\x40\x01\x88\x01\x01\x90\x01\x00"));
	takes("json3.Scalars", "{\"fEnum\":99}", SN_STR("\x40\x63"));
	takes("json3.Scalars", "{\"fFloat\":3.4028235e38}", SN_STR("\x6d\xff\xff\x7f\x7f"));
	takes("json3.Scalars", "{\"fFloat\":\"NaN\"}", SN_STR("\x6d\x00\x00\xc0\x7f"));
	takes("json3.Lists", "{\"rInt32\":[1,300],\"uUint32\":[1,2],\"rString\":[],\"rBool\":null}",
			SN_STR("\x0a\x03\x01\xac\x02\x50\x01\x50\x02"));
	takes("json3.All", "{\"oNull\":null,\"leaf\":null,\"oInt32\":null}", SN_STR("\x48\x00"));
	takes("json3.Known", "{\"value\":null,\"any\":{},\"wInt64\":\"0\",\"struct\":null}",
			SN_STR("\x32\x02\x08\x00\x0a\x00\x62\x00"));
	takes("json3.Maps", "{\"mString\":{\"true\":\"x\"},\"mEnum\":{\"7\":-7}}",
			SN_STR("\x1a\x05\x08\x01\x12\x01x\x22\x0d\x08\x07\x10\xf9\xff\xff\xff\xff\xff\xff"
			       "\xff\xff\x01"));
	takes("json2.Old", "{\"name\":\"\",\"allSizes\":[\"HUGE\"],\"flagIsUp\":true}",
			SN_STR("\x0a\x00\x80\x01\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x28\x01"));
}

static void refuses_json(const char *type, const char *text, int code, const char *sentence)
{
	struct sn_error err = {0};
	json_t *json = NULL;
	struct sn_buf out;
	int r;

	sn__buf_init(&out, 100);
	assert_int_equal(sn__buf_puts(&out, "before"), 0);
	assert_int_equal(sn__json_parse(sn_str_from(text), 10000, &json, NULL), 0);
	r = sn__protobuf_from_json(schema, type_of(type), json, &out, &err);
	if (r != code || strcmp(err.text, sentence) != 0)
		fail_msg("%d \"%s\" instead of %d \"%s\"", r, err.text, code, sentence);
	assert_int_equal(out.len, 6);
	json_decref(json);
	sn__buf_finish(&out);
}

static void refuses(void **state)
{
	refuses_json("json3.All", "{\"leaf\":{\"longNam\":\"\"}}", SN_E_INVALID,
			"field leaf.longNam: not in sinew.json3.Leaf; do you mean longName?");
	refuses_json("json3.Lists", "{\"rInt32\":[1,[2]]}", SN_E_INVALID,
			"field rInt32[1]: a number is due, not an array");
	refuses_json("json3.Lists", "{\"rLeaf\":[{},{\"a\":true}]}", SN_E_INVALID,
			"field rLeaf[1].a: a number is due, not a boolean");
	refuses_json("json3.Lists", "{\"rLeaf\":[null]}", SN_E_INVALID,
			"field rLeaf[0]: null is no item of a list");
	refuses_json("json3.Maps", "{\"mInt64\":{\"k\":null}}", SN_E_INVALID,
			"field mInt64.k: null is no value of a map");
	refuses_json("json3.Maps", "{\"mString\":{\"yes\":\"x\"}}", SN_E_INVALID,
			"field mString.yes: the key true or false is due");
	refuses_json("json3.Maps", "{\"mLeaf\":{\"2147483648\":{}}}", SN_E_INVALID,
			"field mLeaf.2147483648: the number is out of range");
	refuses_json("json3.Scalars", "{\"fInt32\":1.5}", SN_E_INVALID,
			"field fInt32: a whole number is due");
	refuses_json("json3.Scalars", "{\"fUint64\":-1}", SN_E_INVALID,
			"field fUint64: the number is out of range");
	refuses_json("json3.Scalars", "{\"fFloat\":3.5e38}", SN_E_INVALID,
			"field fFloat: the number is out of range");
	refuses_json("json3.Scalars", "{\"fDouble\":\"1e999\"}", SN_E_INVALID,
			"field fDouble: the number is out of range");
	refuses_json("json3.Scalars", "{\"fDouble\":\"NaN\\u0000\"}", SN_E_INVALID,
			"field fDouble: a number is due");
	refuses_json("json3.Scalars", "{\"fBytes\":\"?\"}", SN_E_INVALID,
			"field fBytes: bytes are given in base64");
	refuses_json("json3.Scalars", "{\"fBytes\":1}", SN_E_INVALID,
			"field fBytes: a string (bytes are given in base64) is due, not a number");
	refuses_json("json3.All", "{\"oInt32\":1,\"oLeaf\":{}}", SN_E_INVALID,
			"field oLeaf: a second member of the oneof choice");
	refuses_json("json2.Old", "{}", SN_E_INVALID, "message: name is required");
	refuses_json("json2.Old", "{\"name\":\"n\",\"pair\":{}}", SN_E_INVALID,
			"field pair: groups are not supported");
	refuses_json("json2.Old", "{\"name\":\"n\",\"size\":2}", SN_E_INVALID,
			"field size: not a value of sinew.json2.Size");
	refuses_json("json2.Old", "{\"name\":\"n\",\"size\":\"SMAL\"}", SN_E_INVALID,
			"field size: not a value of sinew.json2.Size; do you mean SMALL?");
	refuses_json("json3.Known", "{\"any\":{\"@type\":\"x/no.Such\"}}", SN_E_NOT_FOUND,
			"field any: the type no.Such is not in the schema");
	refuses_json("json3.Known", "{\"any\":{\"a\":1}}", SN_E_INVALID,
			"field any: \"@type\" is due, like \"type.googleapis.com/a.Message\"");
	refuses_json("json3.Known",
			"{\"any\":{\"@type\":\"x/google.protobuf.Duration\",\"value\":\"1\"}}",
			SN_E_INVALID, "field any.value: a duration like \"1.5s\" is due");
	refuses_json("json3.Known", "{\"value\":[9007199254740993]}", SN_E_INVALID,
			"field value: google.protobuf.Struct: numbers are doubles, which cannot hold "
			"9007199254740993");
	refuses_json("json3.Leaf",
			"{\"longName\":\"1234567890123456789012345678901234567890"
			"1234567890123456789012345678901234567890123456789012345\"}",
			SN_E_LIMIT, "message: the message is too large");
	refuses_json("json3.Leaf", "{\"\\n\\u007f\":1}", SN_E_INVALID,
			"field ??: not in sinew.json3.Leaf");
}

/* ---- Struct ---- */

static void structs(void **state)
{
	/* {"a": 1, "b": [true, null, 1.5]} */
	static const char wire[] = "\x0a\x0e\x0a\x01"
				   "a\x12\x09\x11\x00\x00\x00\x00\x00\x00\xf0\x3f"
				   "\x0a\x1a\x0a\x01"
				   "b\x12\x15\x32\x13\x0a\x02\x20\x01\x0a\x02\x08\x00"
				   "\x0a\x09\x11\x00\x00\x00\x00\x00\x00\xf8\x3f";
	struct sn_error err;
	json_t *json = NULL;
	struct sn_buf out;
	char *text;

	assert_int_equal(sn__protobuf_struct_read(
					 (struct sn_str){wire, sizeof wire - 1}, &json, NULL),
			0);
	text = sn__json_text(json);
	assert_string_equal(text, "{\"a\":1,\"b\":[true,null,1.5]}");
	sn__free(text);
	sn__buf_init(&out, 100);
	assert_int_equal(sn__protobuf_struct_write(json, &out, NULL), 0);
	assert_int_equal(out.len, sizeof wire - 1);
	assert_memory_equal(sn__buf_data(&out), wire, out.len);
	json_decref(json);
	/* The last of one name, kinds that change, parts of a list */
	assert_int_equal(sn__protobuf_struct_read(SN_STR("\x0a\x07\x0a\x01"
							 "a\x12\x02\x20\x01\x0a\x07\x0a\x01"
							 "a"
							 "\x12\x02\x08\x00\x0a\x11\x0a\x01"
							 "b\x12\x0c\x20\x01\x32"
							 "\x02\x0a\x00\x32\x04\x0a\x02\x20\x00"),
					 &json, NULL),
			0);
	text = sn__json_text(json);
	assert_string_equal(text, "{\"a\":null,\"b\":[null,false]}");
	sn__free(text);
	json_decref(json);
	json = NULL;
	assert_int_equal(sn__protobuf_struct_read(SN_STR("\x0a"), &json, &err), SN_E_PARSE);
	assert_int_equal(sn__protobuf_struct_read(SN_STR("\x0a\x03\x0a\x01\0"), &json, &err),
			SN_E_PARSE);
	assert_int_equal(sn__protobuf_struct_read(
					 SN_STR("\x0a\x05\x12\x03\x1a\x01\xff"), &json, &err),
			SN_E_PARSE);
	assert_int_equal(
			sn__protobuf_struct_read(
					SN_STR("\x0a\x0b\x12\x09\x11\x00\x00\x00\x00\x00\x00\xf0\xff"),
					&json, &err),
			SN_E_PARSE);
	assert_string_equal(err.text, "google.protobuf.Struct: a number that is not finite");
	assert_null(json);
	json = json_array();
	assert_int_equal(sn__protobuf_struct_write(json, &out, &err), SN_E_INVALID);
	assert_string_equal(err.text, "google.protobuf.Struct: an array is no object");
	json_decref(json);
	sn__buf_finish(&out);
}

/* Lists in lists, @depth brackets with the object around. */
static json_t *nested(int depth)
{
	json_t *object = json_object();
	json_t *inner = object;

	for (int i = 1; i < depth; i++) {
		json_t *array = json_array();

		if (i == 1)
			json_object_set_new(object, "a", array);
		else
			json_array_append_new(inner, array);
		inner = array;
	}
	return object;
}

static void struct_depth(void **state)
{
	json_t *json = nested(SN_JSON_DEPTH_MAX + 1);
	json_t *again = NULL;
	struct sn_buf out;

	sn__buf_init(&out, 10000);
	assert_int_equal(sn__protobuf_struct_write(json, &out, NULL), SN_E_LIMIT);
	assert_int_equal(out.len, 0);
	json_decref(json);
	json = nested(SN_JSON_DEPTH_MAX);
	assert_int_equal(sn__protobuf_struct_write(json, &out, NULL), 0);
	assert_int_equal(sn__protobuf_struct_read(sn__buf_str(&out), &again, NULL), 0);
	assert_true(sn__json_equal(json, again));
	json_decref(again);
	again = NULL;
	/* One more list around the list: its value in the entry is {6: {1: value}}. */
	assert_int_equal(sn__protobuf_value_write(SN_PROTOBUF_LIST, json_object_get(json, "a"), 2,
					 &out, NULL),
			SN_E_LIMIT);
	assert_int_equal(sn__protobuf_value_read(
					 SN_PROTOBUF_STRUCT, sn__buf_str(&out), 1, &again, NULL),
			SN_E_LIMIT);
	assert_null(again);
	json_decref(json);
	sn__buf_finish(&out);
}

/* ---- memory ---- */

static const char *const everything[][2] = {
		{"json3.Known",
				"{\"any\":{\"@type\":\"type.googleapis.com/sinew.json3.Leaf\",\"a\":3},"
				"\"duration\":\"1.500s\",\"mask\":\"aB,c\",\"struct\":{\"a\":[1,{\"b\":null}]},"
				"\"value\":\"x\",\"list\":[true],\"timestamp\":\"1972-01-01T10:00:20.021Z\","
				"\"wBytes\":\"AAAA\"}"},
		{"json3.Maps",
				"{\"mInt64\":{\"a\":\"1\"},\"mLeaf\":{\"1\":{\"a\":2},\"3\":{}},"
				"\"mDuration\":{\"-1\":\"1s\"}}"},
		{"json3.All", "{\"leaf\":{\"longName\":\"x\"},\"all\":{\"all\":{}},\"oBytes\":\"YQ==\"}"},
};

static int both_ways(const struct sn_schema_message *type, const json_t *json, struct sn_str text)
{
	struct sn_error err = {0};
	struct sn_buf wire, out;
	int r;

	sn__buf_init(&wire, 10000);
	sn__buf_init(&out, 10000);
	r = sn__protobuf_from_json(schema, type, json, &wire, &err);
	if (r == 0)
		r = sn__protobuf_to_json(schema, type, sn__buf_str(&wire), &out, &err);
	if (r == 0)
		assert_true(sn_str_eq(sn__buf_str(&out), text));
	else
		assert_true(strstr(err.text, "out of memory") != NULL);
	sn__buf_finish(&wire);
	sn__buf_finish(&out);
	return r;
}

static void memory_sweep(void **state)
{
	json_set_alloc_funcs(sn__malloc, sn__free);
	for (size_t i = 0; i < SN_COUNT(everything); i++) {
		const struct sn_schema_message *type = type_of(everything[i][0]);
		struct sn_str text = sn_str_from(everything[i][1]);
		json_t *json = NULL;
		uint64_t nth = 0;
		int64_t live;
		int r = sn__json_parse(text, 10000, &json, NULL);

		assert_int_equal(r, 0);
		live = sn__mem_live();
		do {
			sn__mem_fail_nth(++nth);
			r = both_ways(type, json, text);
			if (r != 0 && r != SN_E_NOMEM)
				fail_msg("%s: allocation %u: %d", everything[i][0], (unsigned)nth,
						r);
			assert_int_equal(sn__mem_live(), live);
		} while (sn__mem_failed());
		sn__mem_fail_nth(0);
		assert_int_equal(r, 0);
		assert_true(nth > 5);
		json_decref(json);
	}
	json_set_alloc_funcs(malloc, free);
}

static void truncated(void **state)
{
	for (size_t i = 0; i < SN_COUNT(everything); i++) {
		const struct sn_schema_message *type = type_of(everything[i][0]);
		json_t *json = NULL;
		struct sn_buf wire, out;

		sn__buf_init(&wire, 10000);
		sn__buf_init(&out, 10000);
		assert_int_equal(sn__json_parse(sn_str_from(everything[i][1]), 10000, &json, NULL),
				0);
		assert_int_equal(sn__protobuf_from_json(schema, type, json, &wire, NULL), 0);
		json_decref(json);
		for (size_t n = 0; n < wire.len; n++) {
			char *exact = test_malloc(n + 1);
			int r;

			memcpy(exact, sn__buf_data(&wire), n);
			sn__buf_clear(&out);
			r = sn__protobuf_to_json(
					schema, type, (struct sn_str){exact, n}, &out, NULL);
			assert_true(r == 0 || r == SN_E_PARSE);
			test_free(exact);
		}
		sn__buf_finish(&wire);
		sn__buf_finish(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(wire_order),
			cmocka_unit_test(unknown),
			cmocka_unit_test(broken),
			cmocka_unit_test(depth),
			cmocka_unit_test(accepts),
			cmocka_unit_test(refuses),
			cmocka_unit_test(structs),
			cmocka_unit_test(struct_depth),
			cmocka_unit_test(memory_sweep),
			cmocka_unit_test(truncated),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
