/* SPDX-License-Identifier: Apache-2.0 */
/* The domain registry without sockets: bodies, filters, JSON, times, and the memory store when memory
 * is short. registry_seeds_test.c has the rules. */
#include "dialect/rethink/registry_http.h"
#include "dialect/rethink/registry_world_test.h"

/* ---- bodies ---- */

#define HYPERTY \
	"\"expires\": 5, \"resources\": [\"a\"], \"dataSchemes\": [], \"status\": \"live\", " \
	"\"descriptor\": \"d\", \"runtime\": \"r\""

static int body(const char *text, bool create, struct sn_reg_values *v, enum sn_reg_body_form *form)
{
	static struct sn_arena arena;

	sn__arena_finish(&arena);
	sn__arena_init(&arena, 512, 1 << 20);
	return text == NULL
			? 0 /* frees */
			: sn__reg_body(SN_REG_HYPERTY, sn_str_from(text), create, &arena, v, form);
}

static void assert_body(const char *text, int r, enum sn_reg_body_form form)
{
	struct sn_reg_values v;
	enum sn_reg_body_form got = SN_REG_EMPTY;

	if (body(text, true, &v, &got) != r || (r == 0 && got != form))
		fail_msg("%s", text);
}

static void bodies(void **state)
{
	struct sn_reg_values v;
	enum sn_reg_body_form form;

	assert_body("{}", 0, SN_REG_EMPTY);
	assert_body(" { } ", 0, SN_REG_EMPTY);
	assert_body("{" HYPERTY "}", 0, SN_REG_WHOLE);
	assert_body("{" HYPERTY ", \"x\": {\"y\": [1]}}", 0, SN_REG_WHOLE);
	assert_body("{\"descriptor\": \"d\"}", 0, SN_REG_ONLY_DESCRIPTOR);
	assert_body("{\"x\": 1}", 0, SN_REG_SOME);
	assert_body("{\"descriptor\": \"d\", \"x\": 1}", 0, SN_REG_SOME);
	assert_body("", SN_E_INVALID, 0);
	assert_body("[]", SN_E_INVALID, 0);
	assert_body("{\"a\": 1, \"a\": 1}", SN_E_INVALID, 0);
	assert_body("{\"a\": 1, \"\\u0061\": 1}", SN_E_INVALID, 0);
	assert_body("{\"status\": null}", SN_E_INVALID, 0);
	assert_body("{\"guid\": null}", 0, SN_REG_SOME);
	assert_body("{\"guid\": \"\\u0000\"}", SN_E_INVALID, 0);
	assert_body("{} x", SN_E_INVALID, 0);
	for (const char *const *e = (const char *const[]){"2.5", "\"x\"", "\"\"", "1e99", "[]",
			     "2147483648", "-2147483649", "true", "\"+7\"", NULL};
			*e != NULL; e++) {
		char text[64];

		(void)snprintf(text, sizeof(text), "{\"expires\": %s}", *e);
		assert_body(text, SN_E_INVALID, 0);
	}
	assert_int_equal(body("{\"expires\": \"-7\", \"status\": true, \"runtime\": 1.50, "
			      "\"resources\": [\"a\\u0062\", \"\\\"\"]}",
					 false, &v, &form),
			0);
	assert_int_equal(v.expires, -7);
	assert_true(sn_str_eq(v.text[SN_REG_STATUS], SN_STR("true")));
	assert_true(sn_str_eq(v.text[SN_REG_RUNTIME], SN_STR("1.50")));
	assert_true(sn_str_eq(v.text[SN_REG_RESOURCES], SN_STR("[\"ab\",\"\\\"\"]")));
	assert_int_equal(body("{\"expires\": -2147483648}", false, &v, &form), 0);
	assert_int_equal(v.expires, INT32_MIN);
	assert_int_equal(body("{\"status\": null}", false, &v, &form), 0);
	assert_null(v.text[SN_REG_STATUS].ptr);
	(void)body(NULL, false, &v, &form);
}

static void body_limits(void **state)
{
	struct sn_reg_values v;
	enum sn_reg_body_form form;
	struct sn_buf b;

	sn__buf_init(&b, 1 << 20);
	for (unsigned n = SN_REG_ITEMS_MAX; n <= SN_REG_ITEMS_MAX + 1; n++) {
		sn__buf_clear(&b);
		assert_int_equal(sn__buf_puts(&b, "{\"resources\": [0"), 0);
		for (unsigned i = 1; i < n; i++)
			assert_int_equal(sn__buf_puts(&b, ",\"x\""), 0);
		assert_int_equal(sn__buf_append(&b, "]}", 3), 0);
		assert_int_equal(body(sn__buf_data(&b), false, &v, &form),
				n <= SN_REG_ITEMS_MAX ? 0 : SN_E_INVALID);
	}
	for (unsigned n = SN_REG_ID_MAX; n <= SN_REG_ID_MAX + 1; n++) {
		sn__buf_clear(&b);
		assert_int_equal(sn__buf_printf(&b, "{\"guid\": \"%0*d\"}", (int)n, 7), 0);
		assert_int_equal(sn__buf_append(&b, "", 1), 0);
		assert_int_equal(body(sn__buf_data(&b), false, &v, &form),
				n <= SN_REG_ID_MAX ? 0 : SN_E_INVALID);
	}
	sn__buf_clear(&b);
	for (unsigned i = 0; i < 70; i++)
		assert_int_equal(sn__buf_puts(&b, "{\"x\":"), 0);
	assert_int_equal(sn__buf_append(&b, "", 1), 0);
	assert_int_equal(body(sn__buf_data(&b), false, &v, &form), SN_E_INVALID);
	(void)body(NULL, false, &v, &form);
	sn__buf_finish(&b);
}

/* ---- filters ---- */

static int filtered(const char *query, const char *resources, const char *schemes)
{
	struct sn_arena arena;
	struct sn_reg_filter f;
	struct sn_reg_entry e = {.kind = SN_REG_HYPERTY};
	int r;

	e.v.text[SN_REG_RESOURCES] = sn_str_from(resources);
	e.v.text[SN_REG_SCHEMES] = sn_str_from(schemes);
	sn__arena_init(&arena, 256, 1 << 16);
	r = sn__reg_filter(sn_str_from(query), &arena, &f);
	if (r == 0)
		r = sn__reg_matches(&f, &e);
	sn__arena_finish(&arena);
	return r;
}

static void filters(void **state)
{
	static const char ab[] = "[\"a\",\"b c\",\"\\\",\"]";

	assert_int_equal(filtered("resources=a", ab, "[]"), 1);
	assert_int_equal(filtered("resources=b+c,a,a,,", ab, "[]"), 1);
	assert_int_equal(filtered("resources=b%20c%2Ca", ab, "[]"), 1);
	assert_int_equal(filtered("resources=,a", ab, "[]"), 0);
	assert_int_equal(filtered("resources=", ab, "[]"), 0);
	assert_int_equal(filtered("resources=,", ab, "[]"), 1);
	assert_int_equal(filtered("resources=A", ab, "[]"), 0);
	assert_int_equal(filtered("resources=b", ab, "[]"), 0);
	assert_int_equal(filtered("resources=%22", "[\"\\\"\",\"x\"]", "[]"), 1);
	assert_int_equal(filtered("resources=%22", ab, "[]"), 0);
	assert_int_equal(filtered("resources=a&dataSchemes=a", ab, "[]"), 0);
	assert_int_equal(filtered("resources=a&dataSchemes=s", ab, "[\"s\"]"), 1);
	assert_int_equal(filtered("resources=a&resources=zz", ab, "[]"), 1);
	assert_int_equal(filtered("", ab, "[]"), SN_E_NOT_FOUND);
	assert_int_equal(filtered("&", ab, "[]"), SN_E_NOT_FOUND);
	assert_int_equal(filtered("resources=a&x=1", ab, "[]"), SN_E_NOT_FOUND);
	assert_int_equal(filtered("resources=%zz", ab, "[]"), SN_E_INVALID);
	assert_int_equal(filtered("resources=%00", ab, "[]"), SN_E_INVALID);
	assert_int_equal(filtered("resources=%ff", ab, "[]"), SN_E_INVALID);
}

/* ---- small things ---- */

static void times(void **state)
{
	static const struct {
		int64_t s;
		const char *text;
	} known[] = {{0, "1970-01-01T00:00:00Z"}, {-5, "1970-01-01T00:00:00Z"},
			{951782399, "2000-02-28T23:59:59Z"}, {951782400, "2000-02-29T00:00:00Z"},
			{951868800, "2000-03-01T00:00:00Z"}, {1516192496, "2018-01-17T12:34:56Z"},
			{4107542400, "2100-03-01T00:00:00Z"},
			{INT64_C(1) << 60, "9999-12-31T23:59:59Z"}};
	char text[SN_REG_TIME_MAX];

	for (size_t i = 0; i < SN_COUNT(known); i++) {
		assert_int_equal(sn__reg_time(known[i].s, text), 20);
		assert_string_equal(text, known[i].text);
	}
}

static void assert_email(const char *user, const char *email)
{
	struct sn_str got = sn__reg_email(sn_str_from(user));

	if (!sn_str_eq(got, sn_str_from(email)))
		fail_msg("%s: %.*s", user, (int)got.len, got.ptr);
}

static void emails(void **state)
{
	assert_email("user://id.nimbus.example/marta.vidal", "marta.vidal");
	assert_email("user://id.nimbus.example/marta//", "marta");
	assert_email("marta@x", "marta@x");
	assert_email("///", "///");
	assert_email("a/", "a");
}

static int segment(const char *raw, char *out)
{
	struct sn_arena arena;
	struct sn_str text;
	int r;

	sn__arena_init(&arena, 256, 1 << 16);
	r = sn__reg_segment(sn_str_from(raw), &arena, &text);
	if (r == 0)
		(void)snprintf(out, 64, "%.*s", (int)text.len, text.ptr);
	sn__arena_finish(&arena);
	return r;
}

static void segments(void **state)
{
	char out[64], longest[SN_REG_ID_MAX + 2];

	assert_int_equal(segment("a%2Fb+c%C3%A9", out), 0);
	assert_string_equal(out, "a/b+c\xc3\xa9");
	for (const char *const *bad = (const char *const[]){"%", "%2", "%zz", "%00", "%ff", "a%C3",
			     NULL};
			*bad != NULL; bad++)
		assert_int_equal(segment(*bad, out), SN_E_INVALID);
	memset(longest, 'x', sizeof(longest));
	longest[SN_REG_ID_MAX + 1] = '\0';
	assert_int_equal(segment(longest, out), SN_E_INVALID);
	longest[SN_REG_ID_MAX] = '\0';
	assert_int_equal(segment(longest, out), 0);
}

static void json(void **state)
{
	struct sn_reg_entry e = {.kind = SN_REG_OBJECT,
			.id = SN_STR("comm://\"x\""),
			.v = world_values("live", -3)};
	struct sn_buf b;

	sn__buf_init(&b, 4096);
	e.v.text[SN_REG_NAME] = SN_STR("n");
	e.v.text[SN_REG_REPORTER] = SN_STR("r");
	assert_int_equal(sn__reg_put_entry(&b, &e), 0);
	assert_int_equal(sn__buf_append(&b, "", 1), 0);
	assert_string_equal(sn__buf_data(&b),
			"{\"schema\":\"d\",\"url\":\"comm://\\\"x\\\"\",\"reporter\":\"r\","
			"\"name\":\"n\",\"status\":\"live\","
			"\"startingTime\":\"1970-01-01T00:00:00Z\","
			"\"resources\":[\"chat\",\"a\\\"b\"],\"dataSchemes\":[],"
			"\"lastModified\":\"1970-01-01T00:00:00Z\",\"expires\":-3,\"runtime\":\"\"}");
	sn__buf_finish(&b);
}

static void page(void **state)
{
	static const char evil[] = "<script>'\"&";
	struct sn_reg_entry e = {.id = SN_STR("<i>\"'"),
			.user = sn_str_from(evil),
			.v = world_values(evil, 1)};
	struct sn_buf b;
	struct sn_reg_page p = {.out = &b, .host = "h\"><b>"};

	sn__buf_init(&b, 1 << 16);
	e.v.text[SN_REG_RESOURCES] = SN_STR("[\"<u>\\\"\"]");
	for (unsigned i = SN_REG_DESCRIPTOR; i < SN_REG_MEMBERS; i++)
		e.v.text[i] = sn_str_from(evil);
	sn__reg_page_begin(&p, "Ram", 1, 1000000);
	sn__reg_page_entry(&p, &e, sn_str_from(evil));
	sn__reg_page_end(&p);
	assert_int_equal(p.r, 0);
	assert_int_equal(sn__buf_append(&b, "", 1), 0);
	for (const char *const *no = (const char *const[]){"<script", "<i>", "<u>", "<b>", "h\">",
			     NULL};
			*no != NULL; no++)
		assert_null(strstr(sn__buf_data(&b), *no));
	assert_non_null(strstr(sn__buf_data(&b), "Hyperties stored: 1000000<"));
	assert_non_null(strstr(sn__buf_data(&b), "/hyperty/url/%3Ci%3E%22%27\">&lt;i&gt;"));
	sn__buf_finish(&b);
}

/* ---- the memory store ---- */

/* A hyperty, its replacement, an object that moves between names. */
static int life(struct world *w)
{
	struct sn_reg_values v = world_values("live", 3), more = {.has_expires = false};
	struct sn_reg_op put = {.act = SN_REG_CREATE,
			.id = SN_STR("i"),
			.user = SN_STR("u/e"),
			.values = &v};
	struct sn_reg_op change = {.act = SN_REG_UPDATE, .id = SN_STR("i"), .values = &more};
	int r;

	v.text[SN_REG_GUID] = SN_STR("g");
	v.text[SN_REG_NAME] = v.text[SN_REG_REPORTER] = SN_STR("n");
	r = world_do(w, put);
	v.text[SN_REG_GUID] = SN_STR("g2");
	v.text[SN_REG_DESCRIPTOR] = SN_STR("other");
	if (r == 0)
		r = world_do(w, put);
	put.kind = change.kind = SN_REG_OBJECT;
	if (r == 0)
		r = world_do(w, put);
	more.text[SN_REG_NAME] = SN_STR("n2");
	if (r == 0)
		r = world_do(w, change);
	change.kind = SN_REG_HYPERTY;
	more.text[SN_REG_GUID] = SN_STR("g3");
	return r < 0 ? r : world_do(w, change);
}

static void assert_read(struct world *w, enum sn_reg_kind kind, enum sn_reg_key by, const char *key,
		const char *seen)
{
	struct sn_reg_op op = {.act = SN_REG_READ, .kind = kind, .by = by, .id = sn_str_from(key)};

	assert_int_equal(world_do(w, op), seen[0] != '\0' ? 0 : SN_E_NOT_FOUND);
	assert_string_equal(w->seen, seen);
}

static void assert_lived(struct world *w)
{
	static const char hyperty[] = "i live 3 1000000 1000000 g3|";
	static const char object[] = "i live 3 1000000 1000000 |";

	assert_read(w, SN_REG_HYPERTY, SN_REG_BY_GUID, "g", hyperty);
	assert_read(w, SN_REG_HYPERTY, SN_REG_BY_GUID, "g3", hyperty);
	assert_read(w, SN_REG_HYPERTY, SN_REG_BY_EMAIL, "e", hyperty);
	assert_read(w, SN_REG_OBJECT, SN_REG_BY_NAME, "n", "");
	assert_read(w, SN_REG_OBJECT, SN_REG_BY_NAME, "n2", object);
	assert_read(w, SN_REG_OBJECT, SN_REG_BY_REPORTER, "n", object);
}

static void without_memory(void **state)
{
	int64_t live = sn__mem_live();
	bool failed = true;

	for (uint64_t nth = 1; failed; nth++) {
		static struct world w;
		int r;

		world_open(&w, false, 1);
		sn__mem_fail_nth(nth);
		r = life(&w);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_int_equal(r, failed ? SN_E_NOMEM : 0);
		/* Whatever failed, it can be done again. */
		assert_int_equal(failed ? life(&w) : 0, 0);
		assert_lived(&w);
		world_close(&w);
		assert_int_equal(sn__mem_live(), live);
	}
}

static void sql_without_memory(void **state)
{
	int64_t live = sn__mem_live();
	bool failed = true;

	for (uint64_t nth = 1; failed; nth++) {
		static struct world w;
		int r;

		world_open(&w, true, 1);
		assert_int_equal(world_do(&w, (struct sn_reg_op){.act = SN_REG_COUNT}), 0);
		sn__mem_fail_nth(nth);
		r = life(&w);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_true(failed ? r < 0 && r != SN_E_NOT_FOUND : r == 0);
		assert_int_equal(failed ? life(&w) : 0, 0);
		assert_lived(&w);
		world_close(&w);
		assert_int_equal(sn__mem_live(), live);
	}
}

static void full(void **state)
{
	struct sn_reg_memory_options o = {.max_entries = 1};
	struct sn_reg_values v = world_values("live", 3);
	struct sn_reg_op op = {
			.act = SN_REG_CREATE, .id = SN_STR("a"), .user = SN_STR("u"), .values = &v};
	struct sn_reg_store *store;

	assert_int_equal(sn__reg_memory_open(&o, &store), 0);
	assert_int_equal(store->ops->submit(store, &op), 1);
	assert_int_equal(op.result, 0);
	op.id = SN_STR("b");
	assert_int_equal(store->ops->submit(store, &op), 1);
	assert_int_equal(op.result, SN_E_LIMIT);
	op.id = SN_STR("a");
	assert_int_equal(store->ops->submit(store, &op), 1);
	assert_int_equal(op.result, 0);
	store->ops->discard(store);
}

static void no_entry(struct sn_reg_op *op, const struct sn_reg_entry *e, struct sn_str guid)
{
	assert_true(sn__reg_is_gone(e));
}

/* More than one step of the heartbeat takes, and more than one /registry/updated gives. */
static void many(void **state)
{
	enum { N = 25000 };
	static struct world w;
	struct sn_reg_values v = world_values("live", 5);
	unsigned turned = 0, given = 0, rounds = 0;
	int r;

	world_open(&w, false, 1);
	for (unsigned i = 0; i < N; i++) {
		char id[32];
		struct sn_reg_op op = {.act = SN_REG_CREATE, .user = SN_STR("u"), .values = &v};

		(void)snprintf(id, sizeof(id), "%u", i);
		op.id = sn_str_from(id);
		assert_int_equal(world_do(&w, op), 0);
	}
	w.now += 6;
	do {
		r = world_do(&w, (struct sn_reg_op){.act = SN_REG_EXPIRE});
		turned += (unsigned)w.op.n;
		rounds++;
	} while (r == SN_E_AGAIN);
	assert_int_equal(r, 0);
	assert_int_equal(turned, N);
	assert_true(rounds > 1);
	while (given < N) { /* a part each time, none twice */
		struct sn_reg_op op = {.act = SN_REG_UPDATED, .now = w.now, .entry = no_entry};

		assert_int_equal(w.store->ops->submit(w.store, &op), 1);
		assert_int_equal(op.result, 0);
		assert_int_equal(op.n, SN_MIN(N - given, SN_REG_UPDATED_MAX));
		given += (unsigned)op.n;
	}
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(bodies),
			cmocka_unit_test(body_limits),
			cmocka_unit_test(filters),
			cmocka_unit_test(times),
			cmocka_unit_test(emails),
			cmocka_unit_test(segments),
			cmocka_unit_test(json),
			cmocka_unit_test(page),
			cmocka_unit_test(without_memory),
			cmocka_unit_test(sql_without_memory),
			cmocka_unit_test(full),
			cmocka_unit_test(many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
