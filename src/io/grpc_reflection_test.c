/* SPDX-License-Identifier: Apache-2.0 */
/* Server reflection, asked as its clients ask. */
#include "io/grpc_world_test.h"
#include "proto/protobuf.h"

#define V1 "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
#define V1ALPHA "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

static struct sn_grpc_services *services;
static struct sn_grpc_health *health;
static struct sn_grpc_reflection *reflection;
static char *set; /* of reflected.proto */

static void nothing(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	sn_grpc_exchange_finish(x, SN_GRPC_UNIMPLEMENTED, NULL, NULL, 0);
}

static const struct sn_grpc_method nothing_methods[] = {{.name = "Nothing", .start = nothing}};
static struct sn_grpc_service shop = {.size = sizeof(shop),
		.name = "test.Shop",
		.methods = nothing_methods,
		.n_methods = 1};
static const struct sn_grpc_service bare = {.size = sizeof(bare),
		.name = "test.Bare",
		.methods = nothing_methods,
		.n_methods = 1};

static int read_set(void **state)
{
	FILE *f = fopen(PROTO_SETS "/reflected.desc", "rbe");
	size_t n;

	set = test_malloc(100000);
	if (f == NULL)
		return -1;
	n = fread(set, 1, 100000, f);
	(void)fclose(f);
	shop.descriptors = set;
	shop.descriptors_size = n;
	return 0;
}

static int free_set(void **state)
{
	test_free(set);
	return 0;
}

static void open_all(struct world *w)
{
	assert_int_equal(sn__grpc_services_create(w->a, NULL, &services), 0);
	assert_int_equal(sn__grpc_services_add(services, &shop, NULL), 0);
	assert_int_equal(sn__grpc_services_add(services, &bare, NULL), 0);
	assert_int_equal(sn__grpc_health_create(services, &health, NULL), 0);
	assert_int_equal(sn__grpc_reflection_create(services, &reflection, NULL), 0);
	gw_open(w, sn__grpc_handle, services);
}

static void close_all(void)
{
	gw_close();
	sn__grpc_reflection_destroy(reflection);
	sn__grpc_health_destroy(health);
	sn__grpc_services_destroy(services);
}

/* ---- one talk ---- */

static void put(struct sn_buf *out, const char *before, struct sn_str text)
{
	assert_int_equal(sn__buf_printf(out, "%s%.*s", before, (int)text.len, text.ptr), 0);
}

static struct sn_str first_bytes(struct sn_str in, uint32_t number)
{
	struct sn_protobuf_field f;

	while (sn__protobuf_next(&in, &f) > 0) {
		if (f.number == number && f.wire == SN_PROTOBUF_LEN)
			return f.bytes;
	}
	return SN_STR("");
}

/* What is in the members of an answer's oneof. */
static void put_content(struct sn_buf *out, uint32_t kind, struct sn_str in)
{
	static const char *const kinds[] = {
			"", "", "", "", "files", "numbers", "services", "error"};
	struct sn_protobuf_field f;

	assert_int_equal(sn__buf_puts(out, kinds[kind]), 0);
	while (sn__protobuf_next(&in, &f) > 0) {
		if (f.wire == SN_PROTOBUF_VARINT)
			assert_int_equal(sn__buf_printf(out, " %d", (int)f.value), 0);
		else if (kind == 4 || kind == 6) /* of files and services the names */
			put(out, " ", first_bytes(f.bytes, 1));
		else
			put(out, " ", f.bytes);
	}
}

/* Send @request and compare what comes: "host|kind content"; the request itself comes back too. */
static void ask_raw(struct call *c, struct sn_str request, const char *expected)
{
	unsigned before = c->n;
	struct sn_protobuf_field f;
	struct sn_str in, original = SN_STR("?");
	struct sn_buf text;
	int r = sn__grpc_send(&c->req, request);

	assert_true(r == 0 || r == SN_E_AGAIN);
	UNTIL(c->n > before || c->done);
	assert_int_equal(c->n, before + 1);
	sn__buf_init(&text, 1 << 20);
	for (in = sn__buf_str(&c->last); sn__protobuf_next(&in, &f) > 0;) {
		if (f.number == 1)
			put(&text, "", f.bytes), put(&text, "", SN_STR("|"));
		else if (f.number == 2)
			original = f.bytes;
		else
			put_content(&text, f.number, f.bytes);
	}
	assert_int_equal(original.len, request.len);
	assert_memory_equal(original.ptr, request.ptr, request.len);
	assert_string_equal(as_text(&text), expected);
	sn__buf_finish(&text);
}

static void ask(struct call *c, uint32_t field, const char *text, const char *expected)
{
	struct sn_buf request;

	sn__buf_init(&request, 1 << 20);
	assert_int_equal(sn__protobuf_put_bytes(&request, field, sn_str_from(text)), 0);
	ask_raw(c, sn__buf_str(&request), expected);
	sn__buf_finish(&request);
}

static void ask_extension(struct call *c, const char *type, uint64_t number, const char *expected)
{
	struct sn_buf request, inner;

	sn__buf_init(&inner, 1000);
	sn__buf_init(&request, 1000);
	assert_int_equal(sn__protobuf_put_bytes(&request, 1, SN_STR("here")), 0);
	assert_int_equal(sn__protobuf_put_bytes(&inner, 1, sn_str_from(type)), 0);
	assert_int_equal(sn__protobuf_put_varint(&inner, 2, number), 0);
	assert_int_equal(sn__protobuf_put_bytes(&request, 5, sn__buf_str(&inner)), 0);
	ask_raw(c, sn__buf_str(&request), expected);
	sn__buf_finish(&inner);
	sn__buf_finish(&request);
}

#define FILE_BY_NAME 3
#define FILE_OF_SYMBOL 4
#define EXTENSIONS 6
#define LIST 7

static void end(struct call *c)
{
	sn__grpc_end(&c->req);
	world_run(gw.w, &c->done);
	assert_int_equal(c->req.code, 0);
	call_finish(c);
}

/* ---- tests ---- */

static void test_services(void **state)
{
	static const char all[] =
			"services test.Shop test.Bare grpc.health.v1.Health "
			"grpc.reflection.v1.ServerReflection grpc.reflection.v1alpha.ServerReflection";
	struct call c;

	open_all(*state);
	call_streams(&c, V1);
	ask(&c, LIST, "*", all);
	ask(&c, LIST, "", all);
	end(&c);
	call_streams(&c, V1ALPHA);
	ask(&c, LIST, "*", all);
	end(&c);
	close_all();
}

#define REFLECTED "files reflected.proto"
#define IMPORTS " google/protobuf/empty.proto reflected_base.proto"

static void test_symbols(void **state)
{
	static const char *const symbols[] = {"test.Color", "test.RED", "test.Holder",
			"test.Holder.inner", "test.Holder.Inner", "test.Holder.Inner.color",
			"test.Shop.Buy", "test.Shop.Close"};
	struct call c;

	open_all(*state);
	call_streams(&c, V1);
	/* What is imported comes once a stream, what is asked for always. */
	ask(&c, FILE_OF_SYMBOL, "test.Shop", REFLECTED IMPORTS);
	for (size_t i = 0; i < SN_COUNT(symbols); i++)
		ask(&c, FILE_OF_SYMBOL, symbols[i], REFLECTED);
	ask(&c, FILE_OF_SYMBOL, "test.Base.id", "files reflected_base.proto");
	ask(&c, FILE_OF_SYMBOL, "test.Bare", "error 5 no such symbol: test.Bare");
	ask(&c, FILE_OF_SYMBOL, "test", "error 5 no such symbol: test");
	ask(&c, FILE_OF_SYMBOL, "", "error 5 no such symbol: ");
	ask(&c, FILE_OF_SYMBOL, "grpc.health.v1.Health.Watch", "files grpc/health/v1/health.proto");
	ask(&c, FILE_OF_SYMBOL, "grpc.reflection.v1.ErrorResponse",
			"files grpc/reflection/v1/reflection.proto");
	ask(&c, FILE_OF_SYMBOL, "grpc.reflection.v1alpha.ErrorResponse",
			"files grpc/reflection/v1alpha/reflection.proto");
	end(&c);
	/* Another stream has seen nothing. */
	call_streams(&c, V1ALPHA);
	ask(&c, FILE_OF_SYMBOL, "test.Base", "files reflected_base.proto");
	ask(&c, FILE_OF_SYMBOL, "test.Color", REFLECTED " google/protobuf/empty.proto");
	end(&c);
	close_all();
}

static void test_files(void **state)
{
	struct call c;

	open_all(*state);
	call_streams(&c, V1);
	ask(&c, FILE_BY_NAME, "google/protobuf/empty.proto", "files google/protobuf/empty.proto");
	ask(&c, FILE_BY_NAME, "reflected.proto", REFLECTED " reflected_base.proto");
	ask(&c, FILE_BY_NAME, "reflected", "error 5 no such file: reflected");
	end(&c);
	close_all();
}

static void test_extensions(void **state)
{
	struct call c;

	open_all(*state);
	call_streams(&c, V1);
	ask(&c, EXTENSIONS, "test.Base", "numbers test.Base 150 100");
	ask(&c, EXTENSIONS, "test.Holder", "numbers test.Holder");
	ask(&c, EXTENSIONS, "test.Color", "error 5 no such type: test.Color");
	ask_extension(&c, "test.Base", 100, "here|" REFLECTED IMPORTS);
	ask_extension(&c, "test.Base", 150, "here|" REFLECTED);
	ask_extension(&c, "test.Base", 151, "here|error 5 no such extension of test.Base");
	ask_extension(&c, "test.Base", UINT64_MAX, "here|error 5 no such extension of test.Base");
	ask_extension(&c, "test.Nobody", 100, "here|error 5 no such extension of test.Nobody");
	end(&c);
	close_all();
}

static void test_malformed(void **state)
{
	char name[100000], expected[300];
	struct call c;

	open_all(*state);
	call_streams(&c, V1);
	ask_raw(&c, SN_STR(""), "error 3 the request asks for nothing that is known here");
	ask_raw(&c, SN_STR("\x0a\x01h"),
			"h|error 3 the request asks for nothing that is known here");
	ask_raw(&c, SN_STR("\x42\x01h"), "error 3 the request asks for nothing that is known here");
	/* Of a oneof the last counts; a varint is none of it. */
	ask_raw(&c, SN_STR("\x3a\x00\x22\x01?"), "error 5 no such symbol: ?");
	ask_raw(&c, SN_STR("\x22\x01?\x38\x01"), "error 5 no such symbol: ?");
	/* A long name is not said again in full. */
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	(void)snprintf(expected, sizeof(expected), "error 5 no such symbol: %.200s", name);
	ask(&c, FILE_OF_SYMBOL, name, expected);
	assert_int_equal(sn__grpc_send(&c.req, SN_STR("\x22\x7f?")), 0);
	world_run(gw.w, &c.done);
	assert_int_equal(c.req.code, SN_E_STATUS);
	assert_non_null(strstr(as_text(&c.text),
			"INTERNAL \"the request is no ServerReflectionRequest\""));
	call_finish(&c);
	close_all();
}

/* Who asks without reading has to wait, and gets every answer. */
static void test_flood(void **state)
{
	enum { QUESTIONS = 3000 };
	struct sn_buf request;
	unsigned sent = 0;
	struct call c;

	open_all(*state);
	sn__buf_init(&request, 100);
	assert_int_equal(sn__protobuf_put_bytes(&request, FILE_BY_NAME, SN_STR("reflected.proto")),
			0);
	call_streams(&c, V1);
	while (sent < QUESTIONS) {
		int r = sn__grpc_send(&c.req, sn__buf_str(&request));

		assert_true(r == 0 || r == SN_E_AGAIN);
		sent++;
	}
	sn__grpc_end(&c.req);
	world_run(gw.w, &c.done);
	assert_int_equal(c.n, QUESTIONS);
	assert_int_equal(c.req.code, 0);
	sn__buf_finish(&request);
	call_finish(&c);
	close_all();
}

/* ---- descriptors that do not fit, memory ---- */

static void refuse(const struct sn_grpc_service *service, int code, const char *what)
{
	struct sn_grpc_reflection *none = NULL;
	struct sn_error err;

	assert_int_equal(sn__grpc_services_create(gw.w->a, NULL, &services), 0);
	assert_int_equal(sn__grpc_services_add(services, &shop, NULL), 0);
	assert_int_equal(sn__grpc_services_add(services, service, NULL), 0);
	assert_int_equal(sn__grpc_reflection_create(services, &none, &err), code);
	assert_non_null(strstr(sn_error_text(&err), what));
	assert_null(none);
	sn__grpc_services_destroy(services);
}

static void test_bad_descriptors(void **state)
{
	struct sn_grpc_service bad = bare;

	gw.w = *state;
	bad.descriptors = "\x0a\x7f";
	bad.descriptors_size = 2;
	refuse(&bad, SN_E_INVALID, "the descriptors of test.Bare");
	/* Another file with a type that is there already. */
	bad.descriptors = "\x0a\x18\x0a\x07x.proto\x12\x04test\x22\x07\x0a\x05"
			  "Color";
	bad.descriptors_size = 26;
	refuse(&bad, SN_E_INVALID, "test.Color is defined in reflected.proto and in x.proto");
}

static void test_no_memory(void **state)
{
	gw.w = *state;
	for (uint64_t n = 1;; n++) {
		struct sn_grpc_reflection *one = NULL;
		int r;

		assert_int_equal(sn__grpc_services_create(gw.w->a, NULL, &services), 0);
		assert_int_equal(sn__grpc_services_add(services, &shop, NULL), 0);
		sn__mem_fail_nth(n);
		r = sn__grpc_reflection_create(services, &one, NULL);
		sn__mem_fail_nth(0);
		assert_true(r == 0 || (r == SN_E_NOMEM && one == NULL));
		sn__grpc_reflection_destroy(one);
		sn__grpc_services_destroy(services);
		if (r == 0)
			return;
	}
}

/* A stream that meets the failure ends, with a status or broken; the next one is answered. */
static void test_no_memory_in_calls(void **state)
{
	bool failed = true;

	open_all(*state);
	for (uint64_t n = 1; failed; n++) {
		struct call c;

		call_init(&c, V1);
		c.req.streams = true;
		assert_int_equal(sn__buf_reserve(&c.text, 1000, &(char *){NULL}), 0);
		assert_int_equal(sn__buf_reserve(&c.last, 10000, &(char *){NULL}), 0);
		sn__mem_fail_nth(n);
		if (sn__grpc_start(gw.dest, &c.req, NULL) == 0) {
			if (sn__grpc_send(&c.req, SN_STR("\x22\x09test.Shop")) < 0)
				sn__grpc_cancel(&c.req, SN_E_NOMEM);
			sn__grpc_end(&c.req);
			world_run(gw.w, &c.done);
			assert_true(c.req.code != 0 || c.n == 1);
		}
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		call_finish(&c);
	}
	close_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(test_services, world_sim, world_close),
			cmocka_unit_test_setup_teardown(test_services, world_uv, world_close),
			cmocka_unit_test_setup_teardown(test_symbols, world_sim, world_close),
			cmocka_unit_test_setup_teardown(test_symbols, world_rough, world_close),
			cmocka_unit_test_setup_teardown(test_symbols, world_uv, world_close),
			cmocka_unit_test_setup_teardown(test_files, world_sim, world_close),
			cmocka_unit_test_setup_teardown(test_extensions, world_sim, world_close),
			cmocka_unit_test_setup_teardown(test_malformed, world_sim, world_close),
			cmocka_unit_test_setup_teardown(test_flood, world_sim, world_close),
			cmocka_unit_test_setup_teardown(test_flood, world_uv, world_close),
			cmocka_unit_test_setup_teardown(
					test_bad_descriptors, world_sim, world_close),
			cmocka_unit_test_setup_teardown(test_no_memory, world_sim, world_close),
			cmocka_unit_test_setup_teardown(
					test_no_memory_in_calls, world_sim, world_close),
	};

	gw.version = SN_HTTP_2;
	return cmocka_run_group_tests(tests, read_set, free_set);
}
