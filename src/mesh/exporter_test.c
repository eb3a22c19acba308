/* SPDX-License-Identifier: Apache-2.0 */
/* The exporter against our own HTTP server as the collector. */
#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "io/http_server.h"
#include "io/world_test.h"
#include "mesh/exporter.h"

struct fixture {
	struct world *w;
	struct sn_http_server *server;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	struct sn_exporter *exporter;
	unsigned status; /* what the collector answers; 0: nothing */
	const char *answer;
	unsigned n_warnings;
	char warning[200];
	unsigned batches; /* it has taken */
	size_t spans;     /* in them */
	size_t last_batch;
	char first_name[32]; /* of the last batch's first span */
	char path[64];
	bool closed, server_closed, pool_closed, got;
};

static const json_t *otlp_spans(const json_t *doc)
{
	const json_t *one = json_array_get(json_object_get(doc, "resourceSpans"), 0);

	return json_object_get(json_array_get(json_object_get(one, "scopeSpans"), 0), "spans");
}

static void on_body(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	struct fixture *f = arg;
	json_t *batch;
	const json_t *list;

	assert_true(status == 0 || sn__mem_failed());
	if (status != 0)
		return;
	batch = json_loadb(body, size, 0, NULL);
	assert_non_null(batch);
	list = json_is_array(batch) ? batch : otlp_spans(batch);
	assert_true(json_is_array(list));
	f->batches++;
	f->last_batch = json_array_size(list);
	f->spans += f->last_batch;
	(void)snprintf(f->first_name, sizeof(f->first_name), "%s",
			json_string_value(json_object_get(json_array_get(list, 0), "name")));
	json_decref(batch);
	f->got = true;
	if (f->status != 0 &&
			sn_exchange_respond(x, f->status, NULL, 0, f->answer,
					f->answer != NULL ? strlen(f->answer) : 0) < 0) {
		assert_true(sn__mem_failed());
		sn_exchange_abort(x);
	}
}

static void collector(struct sn_exchange *x, void *arg)
{
	struct fixture *f = arg;

	(void)snprintf(f->path, sizeof(f->path), "%s", sn_exchange_path(x));
	assert_string_equal(sn_exchange_header(x, "content-type"), "application/json");
	if (sn_exchange_read_all(x, 0, on_body, f) < 0) {
		assert_true(sn__mem_failed());
		sn_exchange_abort(x);
	}
}

static void on_warning(const char *text, void *arg)
{
	struct fixture *f = arg;

	f->n_warnings++;
	(void)snprintf(f->warning, sizeof(f->warning), "%s", text);
}

static struct fixture *setup_form(struct world *w, enum sn_exporter_form form)
{
	struct fixture *f = test_malloc(sizeof(*f));
	struct sn_http_server_config config = {.addr = world_addr("127.0.0.1:0")};
	struct sn_exporter_options opts = {.loop = w->a, .form = form, .service = SN_STR("front")};
	struct sn_http_dest_options dest = {0};

	*f = (struct fixture){.w = w, .status = 202};
	assert_int_equal(sn__http_server_open(w->b, &config, collector, f, &f->server, NULL), 0);
	assert_int_equal(sn__http_pool_create(w->a, NULL, &f->pool), 0);
	dest.addr = sn__http_server_addr(f->server);
	assert_int_equal(sn__http_dest_create(f->pool, &dest, &f->dest), 0);
	opts.warn = on_warning;
	opts.warn_arg = f;
	assert_int_equal(sn__exporter_create(&opts, &f->exporter), 0);
	return f;
}

static struct fixture *setup(struct world *w)
{
	return setup_form(w, SN_EXPORT_ZIPKIN);
}

static void set_true(void *arg)
{
	*(bool *)arg = true;
}

static void teardown(struct fixture *f)
{
	if (!f->closed) {
		sn__exporter_close(f->exporter, set_true, &f->closed);
		world_run(f->w, &f->closed);
	}
	sn__http_dest_unref(f->dest);
	sn__http_pool_close(f->pool, set_true, &f->pool_closed);
	world_run(f->w, &f->pool_closed);
	sn__http_server_close(f->server, 0, set_true, &f->server_closed);
	world_run(f->w, &f->server_closed);
	test_free(f);
}

static void add(struct fixture *f, unsigned n)
{
	char name[16];

	(void)snprintf(name, sizeof(name), "s%u", n);
	sn__exporter_add(f->exporter,
			&(struct sn_span){.trace_id = {0, 1},
					.id = n + 1,
					.name = sn_str_from(name),
					.local = SN_STR("front"),
					.wall_ns = 1931000000123000000,
					.duration_ns = 5000});
}

static struct sn_exporter_counts counts(const struct fixture *f)
{
	struct sn_exporter_counts c;

	sn__exporter_counts(f->exporter, &c);
	return c;
}

static void until_sent_or_failed(struct fixture *f, uint64_t n)
{
	while (counts(f).sent + counts(f).failed < n && world_once(f->w))
		;
	assert_int_equal(counts(f).sent + counts(f).failed, n);
}

static void one_batch(void **state)
{
	struct fixture *f = setup(*state);

	assert_int_equal(sn__exporter_set_dest(f->exporter, f->dest, "/api/v2/spans"), 0);
	for (unsigned i = 0; i < 3; i++)
		add(f, i);
	until_sent_or_failed(f, 3);
	assert_int_equal(counts(f).sent, 3);
	assert_int_equal(f->batches, 1);
	assert_int_equal(f->spans, 3);
	assert_string_equal(f->path, "/api/v2/spans");
	teardown(f);
}

/* More than waits at most: the oldest go, and all are counted. */
static void overflow(void **state)
{
	struct fixture *f = setup(*state);

	assert_int_equal(sn__exporter_set_dest(f->exporter, f->dest, "/"), 0);
	for (unsigned i = 0; i < 2000; i++)
		add(f, i); /* the first batch leaves when it is full */
	assert_int_equal(counts(f).dropped, 2000 - SN_EXPORTER_BATCH_MAX - SN_EXPORTER_QUEUE_MAX);
	until_sent_or_failed(f, SN_EXPORTER_BATCH_MAX + SN_EXPORTER_QUEUE_MAX);
	assert_int_equal(counts(f).sent, f->spans);
	assert_int_equal(f->batches, 3);
	assert_int_equal(f->last_batch, SN_EXPORTER_QUEUE_MAX - SN_EXPORTER_BATCH_MAX);
	teardown(f);
}

/* An OTLP collector that takes a part. */
static void partly_taken(void **state)
{
	static const struct {
		const char *answer;
		unsigned failed;
	} cases[] = {
			{"{}", 0},
			{"{\"partialSuccess\":{}}", 0},
			{"{\"partialSuccess\":{\"rejectedSpans\":\"2\",\"errorMessage\":\"x\"}}",
					2},
			{"{\"partialSuccess\":{\"rejectedSpans\":1}}", 1},
			{"{\"partialSuccess\":{\"rejectedSpans\":-1}}", 0},
			{"{\"partialSuccess\":{\"rejectedSpans\":99}}", 3},
			{"{\"partialSuccess\":7}", 0},
			{"nonsense", 0},
	};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct fixture *f = setup_form(*state, SN_EXPORT_OTLP);

		f->answer = cases[i].answer;
		f->status = 200;
		assert_int_equal(sn__exporter_set_dest(f->exporter, f->dest, "/v1/traces"), 0);
		for (unsigned k = 0; k < 3; k++)
			add(f, k);
		until_sent_or_failed(f, 3);
		assert_int_equal(counts(f).failed, cases[i].failed);
		assert_int_equal(f->spans, 3);
		teardown(f);
	}
}

/* Refused batches are not sent again. */
static void refused(void **state)
{
	struct fixture *f = setup(*state);

	f->status = 503;
	assert_int_equal(sn__exporter_set_dest(f->exporter, f->dest, "/"), 0);
	add(f, 1);
	until_sent_or_failed(f, 1);
	assert_int_equal(counts(f).failed, 1);
	assert_string_equal(f->warning, "spans are lost: the Zipkin collector answers 503");
	add(f, 2);
	until_sent_or_failed(f, 2);
	assert_int_equal(f->n_warnings, 1); /* told once */
	f->status = 202;
	add(f, 3);
	until_sent_or_failed(f, 3);
	assert_int_equal(f->n_warnings, 2);
	assert_string_equal(f->warning, "the Zipkin collector takes spans again");
	assert_int_equal(f->batches, 3);
	assert_string_equal(f->first_name, "s3");
	teardown(f);
}

/* Closing sends what waits, but not for ever. */
static void flush(void **state)
{
	struct fixture *f = setup(*state);
	uint64_t start_ns;

	assert_int_equal(sn__exporter_set_dest(f->exporter, f->dest, "/"), 0);
	add(f, 1);
	sn__exporter_close(f->exporter, set_true, &f->closed);
	assert_false(f->closed);
	world_run(f->w, &f->closed);
	assert_int_equal(f->spans, 1);
	teardown(f);

	f = setup(*state);
	f->status = 0; /* a collector that says nothing */
	assert_int_equal(sn__exporter_set_dest(f->exporter, f->dest, "/"), 0);
	add(f, 1);
	start_ns = sn__loop_clock_ns(f->w->a);
	sn__exporter_close(f->exporter, set_true, &f->closed);
	world_run(f->w, &f->closed);
	assert_true(f->got);
	assert_in_range(sn__loop_clock_ns(f->w->a) - start_ns, sn_ms_to_ns(SN_EXPORTER_FLUSH_MS),
			4 * sn_ms_to_ns(SN_EXPORTER_FLUSH_MS));
	teardown(f);
}

static void nowhere(void **state)
{
	struct fixture *f = setup(*state);

	add(f, 1);
	assert_int_equal(counts(f).dropped, 1);
	assert_int_equal(sn__exporter_set_dest(f->exporter, f->dest, "/"), 0);
	add(f, 2);
	assert_int_equal(sn__exporter_set_dest(f->exporter, NULL, NULL), 0);
	teardown(f);
}

/* The collector moves: what has left stays where it was sent, the rest goes to the new one. */
static void destination_changes(void **state)
{
	struct fixture *f = setup(*state);

	assert_int_equal(sn__exporter_set_dest(f->exporter, f->dest, "/one"), 0);
	for (unsigned i = 0; i < SN_EXPORTER_BATCH_MAX + 1; i++)
		add(f, i); /* a batch is on its way */
	assert_int_equal(sn__exporter_set_dest(f->exporter, f->dest, "/two"), 0);
	assert_int_equal(counts(f).waiting, SN_EXPORTER_BATCH_MAX + 1);
	until_sent_or_failed(f, SN_EXPORTER_BATCH_MAX + 1);
	assert_int_equal(counts(f).sent, SN_EXPORTER_BATCH_MAX + 1);
	assert_int_equal(counts(f).waiting, 0);
	assert_string_equal(f->path, "/two");
	teardown(f);
}

/* Two spans and a new destination with the @nth allocation failing; whether it did. Every span ends in
 * one of the counts. */
static bool poor(void **state, uint64_t nth)
{
	struct fixture *f = setup(*state);
	bool failed;
	int r;

	sn__mem_fail_nth(nth);
	r = sn__exporter_set_dest(f->exporter, f->dest, "/");
	add(f, 1);
	if (r == 0)
		r = sn__exporter_set_dest(f->exporter, f->dest, "/again");
	add(f, 2);
	for (int i = 0; i < 10000 && counts(f).waiting > 0 && world_once(f->w); i++)
		;
	failed = sn__mem_failed();
	sn__mem_fail_nth(0);
	assert_true(r == 0 || r == SN_E_NOMEM);
	assert_int_equal(counts(f).sent + counts(f).dropped + counts(f).failed + counts(f).waiting,
			2);
	if (!failed)
		assert_int_equal(counts(f).sent, 2);
	teardown(f);
	return failed;
}

/* Without memory spans are lost and counted, nothing else. */
static void no_memory(void **state)
{
	int64_t live;
	uint64_t n = 1;

	(void)poor(state, 0); /* what the world keeps, it has now */
	live = sn__mem_live();
	while (poor(state, n)) {
		assert_int_equal(sn__mem_live(), live);
		n++;
	}
	assert_in_range(n, 10, 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(one_batch, world_sim, world_close),
			cmocka_unit_test_setup_teardown(one_batch, world_uv, world_close),
			cmocka_unit_test_setup_teardown(overflow, world_sim, world_close),
			cmocka_unit_test_setup_teardown(partly_taken, world_sim, world_close),
			cmocka_unit_test_setup_teardown(refused, world_sim, world_close),
			cmocka_unit_test_setup_teardown(flush, world_sim, world_close),
			cmocka_unit_test_setup_teardown(nowhere, world_sim, world_close),
			cmocka_unit_test_setup_teardown(
					destination_changes, world_sim, world_close),
			cmocka_unit_test_setup_teardown(no_memory, world_sim, world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
