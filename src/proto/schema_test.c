/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors read at run time: those protoc makes, and broken ones. */
#include "proto/schema.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/test.h"
#include "proto/protobuf.h"

/* A descriptor set made by protoc at build time. */
static struct sn_str load(const char *name)
{
	static char data[1 << 18];
	char path[1024];
	size_t n;
	FILE *f;

	(void)snprintf(path, sizeof path, PROTO_SETS "/%s.desc", name);
	f = fopen(path, "rb");
	if (f == NULL)
		fail_msg("%s is not there", path);
	n = fread(data, 1, sizeof data, f);
	(void)fclose(f);
	assert_true(n > 0 && n < sizeof data);
	return (struct sn_str){data, n};
}

static struct sn_schema *schema_of(const char *name)
{
	struct sn_schema *schema = NULL;
	struct sn_error err;

	assert_int_equal(sn__schema_create(&schema), 0);
	if (sn__schema_add_set(schema, load(name), &err) < 0)
		fail_msg("%s", err.text);
	return schema;
}

static void describes(const struct sn_schema *schema, const char *name, const char *text)
{
	struct sn_buf out;

	sn__buf_init(&out, 100000);
	assert_int_equal(sn__schema_describe(schema, sn_str_from(name), &out), 0);
	assert_int_equal(sn__buf_append(&out, "", 1), 0);
	assert_string_equal(sn__buf_data(&out), text);
	sn__buf_finish(&out);
}

static void service(void **state)
{
	struct sn_schema *schema = schema_of("json3");
	const struct sn_schema_service *s = sn__schema_service(
			schema, SN_STR("sinew.json3.Greeter"));
	struct sn_schema_method m;

	assert_non_null(s);
	assert_int_equal(sn__schema_method_at(s, 0, &m), 0);
	assert_string_equal(m.name.ptr, "Hello");
	assert_string_equal(m.input.ptr, "sinew.json3.Request");
	assert_string_equal(m.output.ptr, "sinew.json3.Answer");
	assert_false(m.client_streams || m.server_streams);
	assert_int_equal(sn__schema_method_at(s, 1, &m), 0);
	assert_true(!m.client_streams && m.server_streams);
	assert_int_equal(sn__schema_method_at(s, 2, &m), 0);
	assert_true(m.client_streams && !m.server_streams);
	assert_int_equal(sn__schema_method_at(s, 3, &m), 0);
	assert_true(m.client_streams && m.server_streams);
	assert_int_equal(sn__schema_method_at(s, 4, &m), SN_E_NOT_FOUND);
	assert_null(sn__schema_service(schema, SN_STR("sinew.json3.Request")));
	assert_null(sn__schema_service(schema, SN_STR("sinew.json3.Greete")));
	sn__schema_destroy(schema);
}

static void describe(void **state)
{
	struct sn_schema *schema = schema_of("json3");
	struct sn_buf out;

	describes(schema, "sinew.json3.Greeter",
			"service sinew.json3.Greeter {\n"
			"  rpc Hello(sinew.json3.Request) returns (sinew.json3.Answer);\n"
			"  rpc Listen(sinew.json3.Request) returns (stream sinew.json3.Answer);\n"
			"  rpc Tell(stream sinew.json3.Request) returns (sinew.json3.Answer);\n"
			"  rpc Chat(stream sinew.json3.Request) returns (stream sinew.json3.Answer);\n"
			"}\n");
	describes(schema, "sinew.json3.Colour",
			"enum sinew.json3.Colour {\n  NONE = 0;\n  RED = 1;\n  DEEP_BLUE = -7;\n}\n");
	describes(schema, "google.protobuf.Value",
			"message google.protobuf.Value {\n"
			"  oneof kind {\n"
			"    google.protobuf.NullValue null_value = 1;\n"
			"    double number_value = 2;\n"
			"    string string_value = 3;\n"
			"    bool bool_value = 4;\n"
			"    google.protobuf.Struct struct_value = 5;\n"
			"    google.protobuf.ListValue list_value = 6;\n"
			"  }\n"
			"}\n");
	describes(schema, "google.protobuf.Struct",
			"message google.protobuf.Struct {\n"
			"  map<string, google.protobuf.Value> fields = 1;\n"
			"}\n");
	/* Types within, in their order */
	assert_int_equal(sn__schema_add_set(schema, load("grpc_reflection"), NULL), 0);
	describes(schema, "grpc.reflection.v1.ErrorResponse",
			"message grpc.reflection.v1.ErrorResponse {\n"
			"  int32 error_code = 1;\n"
			"  string error_message = 2;\n"
			"}\n");
	assert_int_equal(sn__schema_add_file(schema,
					 SN_STR("\x0a\x01x\x22\x23\x0a\x01P\x1a\x03\x0a\x01"
						"A\x1a\x03"
						"\x0a\x01"
						"B\x22\x09\x0a\x01"
						"E\x12\x04\x0a\x02"
						"E0\x22\x09"
						"\x0a\x01"
						"F\x12\x04\x0a\x02"
						"F0"),
					 NULL),
			0);
	describes(schema, "P",
			"message P {\n  enum E {\n    E0 = 0;\n  }\n  enum F {\n    F0 = 0;\n  }\n"
			"  message A {\n  }\n  message B {\n  }\n}\n");
	sn__buf_init(&out, 10);
	assert_int_equal(sn__schema_describe(schema, SN_STR("no.Such"), &out), SN_E_NOT_FOUND);
	assert_int_equal(sn__schema_describe(schema, SN_STR("sinew.json3.Leaf"), &out), SN_E_LIMIT);
	assert_int_equal(out.len, 0);
	sn__buf_finish(&out);
	sn__schema_destroy(schema);

	schema = schema_of("json2");
	describes(schema, "sinew.json2.Inner",
			"message sinew.json2.Inner {\n"
			"  required int32 must = 1;\n"
			"  string text = 2 [default = \"a \\\"text\\\"\"];\n"
			"  sinew.json2.Size size = 3 [default = LARGE];\n"
			"}\n");
	sn__schema_destroy(schema);
}

static bool defines(const struct sn_schema *schema, const char *symbol, const char *file)
{
	struct sn_str bytes = sn__schema_file_of(schema, sn_str_from(symbol));

	return bytes.ptr != NULL && bytes.ptr == sn__schema_file(schema, sn_str_from(file)).ptr;
}

static void files(void **state)
{
	struct sn_schema *schema = schema_of("json3");
	struct sn_error err;

	assert_true(defines(schema, "sinew.json3.All", "json3.proto"));
	assert_true(defines(schema, "sinew.json3.Scalars.Inside", "json3.proto"));
	assert_true(defines(schema, "sinew.json3.Scalars.EINS", "json3.proto"));
	assert_true(defines(schema, "sinew.json3.Greeter.Chat", "json3.proto"));
	assert_true(defines(schema, "sinew.json3.Leaf.long_name", "json3.proto"));
	assert_true(defines(schema, "google.protobuf.Any", "google/protobuf/any.proto"));
	assert_false(defines(schema, "sinew.json3", "json3.proto"));
	assert_null(sn__schema_file(schema, SN_STR("json")).ptr);
	assert_true(sn_str_eq(sn__schema_import(schema, SN_STR("json3.proto"), 0),
			SN_STR("google/protobuf/any.proto")));
	assert_true(sn_str_eq(sn__schema_import(schema, SN_STR("json3.proto"), 6),
			SN_STR("google/protobuf/wrappers.proto")));
	assert_null(sn__schema_import(schema, SN_STR("json3.proto"), 7).ptr);
	assert_null(sn__schema_import(schema, SN_STR("other.proto"), 0).ptr);
	/* Known files are passed over, one by one or in a set. */
	assert_int_equal(sn__schema_add_set(schema, load("json3"), &err), 0);
	assert_int_equal(sn__schema_add_file(schema, sn__schema_file(schema, SN_STR("json3.proto")),
					 NULL),
			0);
	assert_int_equal(sn__schema_add_set(schema, load("grpc_testing"), &err), 0);
	assert_non_null(sn__schema_service(schema, SN_STR("grpc.testing.TestService")));
	sn__schema_destroy(schema);
	sn__schema_destroy(NULL);
}

static void refuses_file(struct sn_schema *schema, struct sn_str file, int code, const char *text)
{
	struct sn_error err = {0};
	int r = sn__schema_add_file(schema, file, &err);

	if (r != code || strcmp(err.text, text) != 0)
		fail_msg("%d \"%s\" instead of \"%s\"", r, err.text, text);
}

static void refuses(void **state)
{
	struct sn_schema *schema = NULL;
	struct sn_error err;

	assert_int_equal(sn__schema_create(&schema), 0);
	refuses_file(schema, SN_STR(""), SN_E_PARSE,
			"file without a name: not a FileDescriptorProto");
	refuses_file(schema, SN_STR("\x0a\x05x"), SN_E_PARSE,
			"file without a name: not a FileDescriptorProto");
	refuses_file(schema, SN_STR("\x0a\x01x\x12\x02.a"), SN_E_PARSE,
			"file x: a package without a proper name");
	refuses_file(schema,
			SN_STR("\x0a\x01x\x62\x08"
			       "editions"),
			SN_E_PARSE, "file x: neither proto2 nor proto3");
	refuses_file(schema, SN_STR("\x0a\x01x\x22\x03\x0a\x01-"), SN_E_PARSE,
			"file x: a definition without a proper name");
	refuses_file(schema, SN_STR("\x0a\x01x\x22\x06\x0a\x01M\x12\x01\x08"), SN_E_PARSE,
			"file x: not a FileDescriptorProto");
	refuses_file(schema,
			SN_STR("\x0a\x01x\x22\x08\x0a\x01M\x12\x03\x0a\x01"
			       "f"),
			SN_E_PARSE, "file x: a field without a proper number or type");
	/* Two int32 with the number 1 */
	refuses_file(schema,
			SN_STR("\x0a\x01x\x22\x15\x0a\x01M\x12\x07\x0a\x01"
			       "f\x18\x01\x28\x05"
			       "\x12\x07\x0a\x01g\x18\x01\x28\x05"),
			SN_E_PARSE, "file x: two fields with one number");
	refuses_file(schema,
			SN_STR("\x0a\x01x\x22\x0e\x0a\x01M\x12\x09\x0a\x01"
			       "f\x18\x01\x28\x05\x48\x00"),
			SN_E_PARSE, "file x: a field of a oneof that is not there");
	refuses_file(schema, SN_STR("\x0a\x01x\x22\x07\x0a\x01M\x3a\x02\x38\x01"), SN_E_PARSE,
			"file x: an entry of a map without key and value");
	refuses_file(schema,
			SN_STR("\x0a\x01x\x2a\x03\x0a\x01"
			       "E"),
			SN_E_PARSE, "file x: an enum without values");
	refuses_file(schema, SN_STR("\x0a\x01x\x32\x08\x0a\x01S\x12\x03\x0a\x01m"), SN_E_PARSE,
			"file x: a method without input or output");
	/* The good one, and another that defines the same. */
	assert_int_equal(
			sn__schema_add_file(schema, SN_STR("\x0a\x01x\x22\x03\x0a\x01M"), &err), 0);
	refuses_file(schema, SN_STR("\x0a\x01y\x22\x03\x0a\x01N\x22\x03\x0a\x01M"), SN_E_PARSE,
			"M is defined in x and in y");
	assert_null(sn__schema_message(schema, SN_STR("N")));
	assert_null(sn__schema_file(schema, SN_STR("y")).ptr);
	/* A set is added whole or not at all. */
	assert_int_equal(
			sn__schema_add_set(schema,
					SN_STR("\x0a\x08\x0a\x01y\x22\x03\x0a\x01N\x0a\x03\x0a\x01"),
					&err),
			SN_E_PARSE);
	assert_string_equal(err.text, "not a FileDescriptorSet");
	assert_null(sn__schema_message(schema, SN_STR("N")));
	assert_int_equal(
			sn__schema_add_set(schema,
					SN_STR("\x0a\x08\x0a\x01y\x22\x03\x0a\x01N\x0a\x08\x0a\x01z"
					       "\x22\x03\x0a\x01M"),
					&err),
			SN_E_PARSE);
	assert_string_equal(err.text, "M is defined in x and in z");
	assert_null(sn__schema_message(schema, SN_STR("N")));
	assert_non_null(sn__schema_message(schema, SN_STR("M")));
	sn__schema_destroy(schema);
}

/* @depth messages, each defined in the other. */
static int nested(struct sn_schema *schema, unsigned depth)
{
	char space[512];
	size_t at = sizeof space;
	struct sn_str name = SN_STR("\x0a\x04"
				    "deep");
	struct sn_error err;

	for (unsigned i = 0; i < depth; i++) {
		char text[6] = {0x1a, 0, 0x0a, 0x01, 'M'};
		size_t len = sizeof space - at + 3;
		size_t n = len < 0x80 ? 2 : 3;

		text[0] = i + 1 == depth ? 0x22 : 0x1a;
		at -= 3;
		memcpy(space + at, text + 2, 3);
		text[1] = (char)(len < 0x80 ? len : len | 0x80);
		text[2] = (char)(len >> 7);
		at -= n;
		memcpy(space + at, text, n);
	}
	at -= name.len;
	memcpy(space + at, name.ptr, name.len);
	return sn__schema_add_file(schema, (struct sn_str){space + at, sizeof space - at}, &err);
}

static void limits(void **state)
{
	struct sn_schema *schema = NULL;
	char *large = test_calloc(1, SN_SCHEMA_SIZE_MAX + 8);
	struct sn_buf name;

	assert_int_equal(sn__schema_create(&schema), 0);
	assert_int_equal(nested(schema, SN_SCHEMA_DEPTH_MAX + 1), SN_E_LIMIT);
	assert_int_equal(nested(schema, SN_SCHEMA_DEPTH_MAX), 0);
	memcpy(large,
			"\x0a\x01"
			"L\x7a\x80\x80\x80\x20",
			8);
	assert_int_equal(sn__schema_add_file(schema, (struct sn_str){large, SN_SCHEMA_SIZE_MAX + 8},
					 NULL),
			SN_E_LIMIT);
	test_free(large);
	sn__buf_init(&name, 1000);
	assert_int_equal(sn__buf_puts(&name,
					 "\x0a\x01"
					 "f\x22\x84\x04\x0a\x81\x04"),
			0);
	while (name.len < 9 + SN_SCHEMA_NAME_MAX + 1)
		assert_int_equal(sn__buf_puts(&name, "M"), 0);
	assert_int_equal(sn__schema_add_file(schema, sn__buf_str(&name), NULL), SN_E_LIMIT);
	sn__buf_finish(&name);
	sn__schema_destroy(schema);
}

static void truncated(void **state)
{
	struct sn_str set = load("json2");
	unsigned good = 0;

	for (size_t n = 0; n < set.len; n++) {
		struct sn_schema *schema = NULL;
		char *exact = test_malloc(n + 1);

		memcpy(exact, set.ptr, n);
		assert_int_equal(sn__schema_create(&schema), 0);
		if (sn__schema_add_set(schema, (struct sn_str){exact, n}, NULL) == 0)
			good++;
		sn__schema_destroy(schema);
		test_free(exact);
	}
	assert_int_equal(good, 1); /* the empty set */
}

static void memory_sweep(void **state)
{
	struct sn_str set = load("json3");
	int64_t live = sn__mem_live();
	unsigned failed = 0;
	int r = SN_E_NOMEM;

	for (uint64_t nth = 1; r == SN_E_NOMEM; nth++) {
		struct sn_schema *schema = NULL;
		struct sn_error err;

		sn__mem_fail_nth(0);
		assert_int_equal(sn__schema_create(&schema), 0);
		sn__mem_fail_nth(nth);
		r = sn__schema_add_set(schema, set, &err);
		if (r < 0) {
			assert_int_equal(r, SN_E_NOMEM);
			assert_null(sn__schema_message(schema, SN_STR("sinew.json3.All")));
			assert_null(sn__schema_message(schema, SN_STR("google.protobuf.Any")));
			assert_null(sn__schema_file(schema, SN_STR("json3.proto")).ptr);
			failed++;
		}
		sn__schema_destroy(schema);
		assert_int_equal(sn__mem_live(), live);
	}
	sn__mem_fail_nth(0);
	assert_int_equal(r, 0);
	assert_true(failed > 10);
}

/* ---- names without a leading dot ---- */

static void put_text(struct sn_buf *out, uint32_t number, const char *text)
{
	assert_int_equal(sn__protobuf_put_bytes(out, number, sn_str_from(text)), 0);
}

static void put_message(struct sn_buf *out, uint32_t number, struct sn_buf *message)
{
	assert_int_equal(sn__protobuf_put_bytes(out, number, sn__buf_str(message)), 0);
	sn__buf_clear(message);
}

/* FieldDescriptorProto of type message. */
static void put_field(struct sn_buf *out, unsigned number, const char *type)
{
	struct sn_buf f;
	char name[10];

	sn__buf_init(&f, 1000);
	(void)snprintf(name, sizeof name, "f%u", number);
	put_text(&f, 1, name);
	assert_int_equal(sn__protobuf_put_varint(&f, 3, number), 0);
	assert_int_equal(sn__protobuf_put_varint(&f, 5, SN_SCHEMA_MESSAGE), 0);
	put_text(&f, 6, type);
	put_message(out, 2, &f);
	sn__buf_finish(&f);
}

static void relative_names(void **state)
{
	struct sn_schema *schema;
	struct sn_buf file, a, b;

	assert_int_equal(sn__schema_create(&schema), 0);
	sn__buf_init(&file, 10000);
	sn__buf_init(&a, 10000);
	sn__buf_init(&b, 10000);
	put_text(&file, 1, "main.proto");
	put_text(&file, 2, "a.b");
	put_text(&a, 1, "M");
	put_text(&b, 1, "N");
	put_field(&b, 1, "M");
	put_message(&a, 3, &b);
	put_field(&a, 1, "N");
	put_field(&a, 2, "Later");
	put_field(&a, 3, ".a.b.M");
	put_field(&a, 4, "b.M.N");
	put_field(&a, 5, "Nowhere");
	put_field(&a, 6, "a.b.M");
	put_message(&file, 4, &a);
	put_text(&a, 1, "S");
	put_text(&b, 1, "Do");
	put_text(&b, 2, "M");
	put_text(&b, 3, "Later");
	put_message(&a, 2, &b);
	put_message(&file, 6, &a);
	assert_int_equal(sn__schema_add_file(schema, sn__buf_str(&file), NULL), 0);
	describes(schema, "a.b.S", "service a.b.S {\n  rpc Do(a.b.M) returns (Later);\n}\n");
	sn__buf_clear(&file);
	put_text(&file, 1, "later.proto");
	put_text(&file, 2, "a");
	put_text(&a, 1, "Later");
	put_message(&file, 4, &a);
	assert_int_equal(sn__schema_add_file(schema, sn__buf_str(&file), NULL), 0);
	describes(schema, "a.b.S", "service a.b.S {\n  rpc Do(a.b.M) returns (a.Later);\n}\n");
	describes(schema, "a.b.M",
			"message a.b.M {\n  a.b.M.N f1 = 1;\n  a.Later f2 = 2;\n"
			"  a.b.M f3 = 3;\n  a.b.M.N f4 = 4;\n"
			"  Nowhere f5 = 5;\n  a.b.M f6 = 6;\n"
			"  message N {\n    a.b.M f1 = 1;\n  }\n}\n");
	describes(schema, "a.b.M.N", "message a.b.M.N {\n  a.b.M f1 = 1;\n}\n");
	sn__buf_finish(&file);
	sn__buf_finish(&a);
	sn__buf_finish(&b);
	sn__schema_destroy(schema);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(service),
			cmocka_unit_test(describe),
			cmocka_unit_test(files),
			cmocka_unit_test(refuses),
			cmocka_unit_test(limits),
			cmocka_unit_test(relative_names),
			cmocka_unit_test(truncated),
			cmocka_unit_test(memory_sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
