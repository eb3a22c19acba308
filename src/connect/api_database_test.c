/* SPDX-License-Identifier: Apache-2.0 */

/* Items as plain JSON over a driver that checks what it is asked and answers what it is told. */

#include <sinew/database.h>

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/test.h"
#include "connect/database/dynamodb_params.h"
#include "connect/database/items.h"
#include "connect/driver.h"

/* ---- the driver ---- */

struct step {
	const char *operation, *params; /* what must be asked */
	const char *result;             /* NULL: nothing until it is cancelled */
	const char *type;               /* of a refusal */
};
static struct {
	const struct step *steps;
	unsigned n, at;
	char wrong[2000]; /* the first thing that was not as told */
	atomic_uint hanging;
} script;

static void script_begin(const struct step *steps, unsigned n)
{
	memset(&script, 0, sizeof(script));
	script.steps = steps;
	script.n = n;
}

static void script_end(void)
{
	assert_string_equal(script.wrong, "");
	assert_int_equal(script.at, script.n);
}

struct fake {
	struct sn_driver_host *host;
	struct sn_driver_task task;
	void (*done)(void *arg);
	void *arg;
};
struct fake_call {
	struct sn_driver_call *call;
	struct sn_driver_task task;
	int code;
	const struct step *step;
};

static int fake_open(void *instance, struct sn_driver_open *how)
{
	((struct fake *)instance)->host = how->host;
	return 0;
}

static void closed(struct sn_driver_task *task)
{
	struct fake *f = SN_CONTAINER_OF(task, struct fake, task);

	f->done(f->arg);
}

static void fake_close(void *instance, void (*done)(void *arg), void *arg)
{
	struct fake *f = instance;

	/* No call is open when the pool closes an instance. */
	f->done = done;
	f->arg = arg;
	f->task.fn = closed;
	f->host->defer(f->host, &f->task);
}

static void fake_finish(void *instance)
{
	(void)instance;
}

static void answer(struct sn_driver_task *task)
{
	struct fake_call *c = SN_CONTAINER_OF(task, struct fake_call, task);
	struct sn_driver_call *call = c->call;

	call->outcome.sent = SN_DRIVER_SENT_YES;
	if (c->code != 0) {
		call->outcome.verdict = SN_DRIVER_FAILED;
		call->outcome.code = c->code;
	} else if (c->step != NULL && c->step->type != NULL) {
		call->outcome.verdict = SN_DRIVER_REJECTED;
		call->outcome.code = SN_E_REJECTED;
		call->outcome.foreign = 400;
		snprintf(call->type, sizeof(call->type), "%s", c->step->type);
	}
	call->result = c->step != NULL ? c->step->result : "{}";
	call->result_size = call->result != NULL ? strlen(call->result) : 0;
	call->done(call);
}

static int fake_start(void *instance, struct sn_driver_call *call)
{
	const struct step *s = script.at < script.n ? &script.steps[script.at] : NULL;
	struct fake_call *c = call->state;

	c->call = call;
	c->task.fn = answer;
	c->step = s;
	if (script.wrong[0] == '\0' &&
			(s == NULL || strcmp(s->params, call->params) != 0 ||
					strcmp(s->operation, call->operation->name) != 0))
		snprintf(script.wrong, sizeof(script.wrong), "%s %s instead of %s %s",
				call->operation->name, call->params, s ? s->operation : "nothing",
				s ? s->params : "");
	script.at++;
	if (s != NULL && s->result == NULL && s->type == NULL)
		atomic_fetch_add(&script.hanging, 1);
	else
		((struct fake *)instance)->host->defer(((struct fake *)instance)->host, &c->task);
	return 0;
}

static void fake_cancel(void *instance, struct sn_driver_call *call, int code)
{
	struct sn_driver_host *host = ((struct fake *)instance)->host;
	struct fake_call *c = call->state;

	c->code = code;
	host->undo(host, &c->task);
	host->defer(host, &c->task);
}

static const struct sn_driver_calls fake_calls = {
		.size = sizeof(struct sn_driver_calls),
		.operations = sn__dynamodb_operations,
		.state_size = sizeof(struct fake_call),
		.start = fake_start,
		.cancel = fake_cancel,
};
static const struct sn_driver fake = {
		.abi = SN_DRIVER_ABI,
		.size = sizeof(struct sn_driver),
		.name = "fake",
		.topic = SN_TOPIC_DATABASE,
		.summary = "a driver that answers what it is told",
		.state_size = sizeof(struct fake),
		.open = fake_open,
		.close = fake_close,
		.finish = fake_finish,
		.calls = &fake_calls,
};
static const struct sn_driver *const fakes[] = {&fake, NULL};

static struct sn_runtime *open_runtime(enum sn_mode mode)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_runtime *rt = NULL;
	struct sn_error *err = NULL;

	opts.mode = mode;
	opts.agent = "";
	opts.config_text =
			"peers: {database: {contacts: {'1': {name: t, class: nosql, subClass: fake}}}}\n";
	sn__drivers_add_for_tests(fakes);
	if (sn_open(&opts, &rt, &err) < 0)
		fail_msg("%s", sn_error_text(err));
	return rt;
}

/* ---- blocking ---- */

static void wait_calls(void **state)
{
	static const struct step steps[] = {
			{"PutItem", "{\"Item\":{\"id\":{\"S\":\"a\"},\"n\":{\"N\":\"1.50\"}}}",
					"{}", NULL},
			{"GetItem",
					"{\"Key\":{\"id\":{\"S\":\"a\"}},\"ProjectionExpression\":\"id, #n\","
					"\"ConsistentRead\":true,"
					"\"ExpressionAttributeNames\":{\"#n\":\"n\"}}",
					"{\"ConsumedCapacity\":{},\"Item\":{\"id\":{\"S\":\"a\"},"
					"\"n\":{\"N\":\"1.50\"}}}",
					NULL},
			{"GetItem", "{\"Key\":{\"id\":{\"S\":\"b\"}}}", "{}", NULL},
			{"UpdateItem",
					"{\"Key\":{\"id\":{\"S\":\"a\"}},\"ConditionExpression\":\"n = :o\","
					"\"UpdateExpression\":\"SET n = :n\",\"ReturnValues\":\"ALL_NEW\","
					"\"ExpressionAttributeValues\":{\":n\":{\"N\":\"2\"},"
					"\":o\":{\"N\":\"1.5\"}}}",
					"{\"Attributes\":{\"n\":{\"N\":\"2\"}}}", NULL},
			{"DeleteItem", "{\"Key\":{\"id\":{\"S\":\"a\"}}}", NULL,
					"ConditionalCheckFailedException"},
			{"GetItem", "{\"Key\":{\"id\":{\"S\":\"c\"}}}", "{\"Item\":{\"id\":1}}",
					NULL},
	};
	struct sn_runtime *rt = open_runtime(SN_MODE_THREAD);
	struct sn_item_options o = SN_ITEM_OPTIONS_INIT;
	struct sn_error *err = NULL;
	char *json = NULL;

	(void)state;
	script_begin(steps, SN_COUNT(steps));
	assert_int_equal(sn_database_put_wait(rt, "contacts", "{\"id\":\"a\",\"n\":1.50}", NULL,
					 NULL, NULL),
			0);
	o.consistent = true;
	o.projection = "id, #n";
	o.names = "{\"#n\":\"n\"}";
	assert_int_equal(
			sn_database_get_wait(rt, "contacts", "{\"id\":\"a\"}", &o, &json, NULL), 0);
	assert_string_equal(json, "{\"id\":\"a\",\"n\":1.50}");
	sn_free(json);
	assert_int_equal(sn_database_get_wait(rt, "contacts", "{\"id\":\"b\"}", NULL, &json, NULL),
			0);
	assert_string_equal(json, "null");
	sn_free(json);
	o = (struct sn_item_options)SN_ITEM_OPTIONS_INIT;
	o.update = "SET n = :n";
	o.condition = "n = :o";
	o.values = "{\":n\":2,\":o\":1.5}";
	o.return_values = "ALL_NEW";
	assert_int_equal(sn_database_update_wait(rt, "contacts", "{\"id\":\"a\"}", &o, &json, NULL),
			0);
	assert_string_equal(json, "{\"n\":2}");
	sn_free(json);
	json = NULL;
	assert_int_equal(sn_database_delete_wait(
					 rt, "contacts", "{\"id\":\"a\"}", NULL, &json, &err),
			SN_E_REJECTED);
	assert_non_null(strstr(sn_error_text(err), "ConditionalCheckFailedException"));
	assert_null(json);
	sn_error_destroy(err);
	assert_int_equal(sn_database_get_wait(rt, "contacts", "{\"id\":\"c\"}", NULL, &json, &err),
			SN_E_PROTOCOL);
	assert_non_null(strstr(sn_error_text(err), "GetItem: the answer holds no item"));
	sn_error_destroy(err);
	script_end();
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

static void pages_waited_for(void **state)
{
	static const struct step steps[] = {
			{"Query",
					"{\"IndexName\":\"by-n\",\"KeyConditionExpression\":\"id = :i\","
					"\"FilterExpression\":\"n > :n\",\"ScanIndexForward\":false,"
					"\"ExpressionAttributeValues\":{\":i\":{\"S\":\"a\"},\":n\":{\"N\":\"0\"}},"
					"\"Limit\":2}",
					"{\"Count\":0,\"Items\":[],\"LastEvaluatedKey\":{\"id\":{\"S\":\"k1\"}}}",
					NULL},
			{"Query",
					"{\"IndexName\":\"by-n\",\"KeyConditionExpression\":\"id = :i\","
					"\"FilterExpression\":\"n > :n\",\"ScanIndexForward\":false,"
					"\"ExpressionAttributeValues\":{\":i\":{\"S\":\"a\"},\":n\":{\"N\":\"0\"}},"
					"\"Limit\":2,\"ExclusiveStartKey\":{\"id\":{\"S\":\"k1\"}}}",
					"{\"LastEvaluatedKey\":{\"id\":{\"S\":\"k2\"}},"
					"\"Items\":[{\"id\":{\"S\":\"a\"}},{\"id\":{\"S\":\"b\"}}]}",
					NULL},
			{"Query",
					"{\"IndexName\":\"by-n\",\"KeyConditionExpression\":\"id = :i\","
					"\"FilterExpression\":\"n > :n\",\"ScanIndexForward\":false,"
					"\"ExpressionAttributeValues\":{\":i\":{\"S\":\"a\"},\":n\":{\"N\":\"0\"}},"
					"\"Limit\":2,\"ExclusiveStartKey\":{\"id\":{\"S\":\"k2\"}}}",
					"{\"Items\":[{\"id\":{\"S\":\"c\"}},{\"id\":{\"S\":\"d\"}}],"
					"\"LastEvaluatedKey\":{\"id\":{\"S\":\"k3\"}}}",
					NULL},
			{"Scan", "{\"Limit\":3}",
					"{\"Items\":[{\"id\":{\"S\":\"a\"}}],"
					"\"LastEvaluatedKey\":{\"id\":{\"S\":\"a\"}}}",
					NULL},
			{"Scan", "{\"Limit\":2,\"ExclusiveStartKey\":{\"id\":{\"S\":\"a\"}}}",
					"{\"Items\":[{\"id\":{\"S\":\"b\"}},{\"id\":{\"S\":\"c\"}}],"
					"\"LastEvaluatedKey\":{\"id\":{\"S\":\"c\"}}}",
					NULL},
			{"Scan", "{\"ExclusiveStartKey\":{\"id\":{\"S\":\"c\"}}}", "{\"Count\":0}",
					NULL},
	};
	struct sn_runtime *rt = open_runtime(SN_MODE_THREAD);
	struct sn_item_options o = SN_ITEM_OPTIONS_INIT;
	struct sn_items *items = NULL;
	char *json = NULL, *position = NULL;
	size_t n = 9;

	(void)state;
	script_begin(steps, SN_COUNT(steps));
	o.index = "by-n";
	o.key_condition = "id = :i";
	o.filter = "n > :n";
	o.values = "{\":i\":\"a\",\":n\":0}";
	o.descending = true;
	o.page_size = 2;
	o.limit = 3;
	assert_int_equal(sn_database_query(rt, "contacts", &o, &items, NULL), 0);
	assert_int_equal(sn_items_next_wait(items, &json, &n, NULL), 1);
	assert_string_equal(json, "[]");
	assert_int_equal(n, 0);
	sn_free(json);
	assert_int_equal(sn_items_next_wait(items, &json, &n, NULL), 1);
	assert_string_equal(json, "[{\"id\":\"a\"},{\"id\":\"b\"}]");
	sn_free(json);
	assert_int_equal(sn_items_position(items, &position), 0);
	assert_string_equal(position, "{\"id\":\"k2\"}");
	sn_free(position);
	/* The limit cuts this page; what is left of it has no position. */
	assert_int_equal(sn_items_next_wait(items, &json, NULL, NULL), 1);
	assert_string_equal(json, "[{\"id\":\"c\"}]");
	sn_free(json);
	assert_int_equal(sn_items_position(items, &position), SN_E_STATE);
	assert_int_equal(sn_items_next_wait(items, &json, &n, NULL), 0);
	assert_int_equal(sn_items_next(items, NULL, NULL, NULL), 0);
	sn_items_destroy(items);

	/* Without a filter a page is never larger than what is left, and where it ends can be kept. */
	o = (struct sn_item_options)SN_ITEM_OPTIONS_INIT;
	o.limit = 3;
	o.start = "null";
	assert_int_equal(sn_database_scan(rt, "contacts", &o, &items, NULL), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(sn_items_next_wait(items, &json, &n, NULL), 1);
		sn_free(json);
	}
	assert_int_equal(sn_items_next_wait(items, &json, &n, NULL), 0);
	assert_int_equal(sn_items_position(items, &position), 0);
	sn_items_destroy(items);
	o = (struct sn_item_options)SN_ITEM_OPTIONS_INIT;
	o.start = position;
	assert_int_equal(sn_database_scan(rt, "contacts", &o, &items, NULL), 0);
	sn_free(position);
	assert_int_equal(sn_items_next_wait(items, &json, &n, NULL), 1);
	assert_string_equal(json, "[]");
	sn_free(json);
	assert_int_equal(sn_items_next_wait(items, &json, &n, NULL), 0);
	assert_int_equal(sn_items_position(items, &position), 0);
	assert_string_equal(position, "null");
	sn_free(position);
	script_end();
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	sn_items_destroy(items); /* after the runtime */
}

/* ---- on a loop of the host's ---- */

static void step_until(struct sn_runtime *rt, const unsigned *what, unsigned n)
{
	for (unsigned turns = 0; *what < n; turns++) {
		struct pollfd p = {.fd = sn_runtime_fd(rt), .events = POLLIN};

		if (turns > 100000)
			fail_msg("nothing comes");
		(void)poll(&p, 1,
				sn_runtime_timeout(rt) < 0 ? 100
							   : SN_MIN(sn_runtime_timeout(rt), 100));
		(void)sn_runtime_step(rt);
	}
}

struct told {
	unsigned n;
	int code;
	char json[200], type[100];
	struct sn_items *items;
	unsigned pages, all;
	enum { GO_ON, STOP, DESTROY } then;
};

static void on_item(const char *json, const struct sn_result *res, const struct sn_error *err,
		void *arg)
{
	struct told *t = arg;

	t->n++;
	t->code = err != NULL ? sn_error_code(err) : 0;
	snprintf(t->json, sizeof(t->json), "%s", json != NULL ? json : "none");
	snprintf(t->type, sizeof(t->type), "%s",
			res != NULL && sn_result_error_type(res) != NULL ? sn_result_error_type(res)
									 : "");
}

static void on_page(struct sn_items *items, const char *json, size_t n, const struct sn_error *err,
		void *arg)
{
	struct told *t = arg;

	t->pages++;
	t->all += (unsigned)n;
	t->code = err != NULL ? sn_error_code(err) : 0;
	snprintf(t->json, sizeof(t->json), "%s", json != NULL ? json : "none");
	if (err == NULL && t->then == GO_ON && sn_items_next(items, on_page, arg, NULL) == 1)
		return;
	if (t->then == DESTROY) {
		sn_items_destroy(items);
		t->items = NULL;
	}
	t->n++;
}

static void items_on_a_loop(void **state)
{
	static const struct step steps[] = {
			{"PutItem", "{\"Item\":{\"id\":{\"S\":\"a\"}}}", "{}", NULL},
			{"GetItem", "{\"Key\":{\"id\":{\"S\":\"a\"}}}",
					"{\"Item\":{\"id\":{\"S\":\"a\"}}}", NULL},
			{"UpdateItem", "{\"Key\":{\"id\":{\"S\":\"a\"}},\"UpdateExpression\":\"REMOVE x\"}",
					NULL, "ValidationException"},
			{"DeleteItem", "{\"Key\":{\"id\":{\"S\":\"a\"}}}", "{\"Attributes\":[]}",
					NULL},
			{"GetItem", "{\"Key\":{\"id\":{\"S\":\"b\"}}}", NULL, NULL},
	};
	struct sn_runtime *rt = open_runtime(SN_MODE_FOREIGN);
	struct sn_item_options o = SN_ITEM_OPTIONS_INIT;
	struct told t = {0};
	struct sn_call_id id;

	(void)state;
	script_begin(steps, SN_COUNT(steps));
	assert_int_equal(sn_database_put(rt, "contacts", "{\"id\":\"a\"}", NULL, on_item, &t, NULL,
					 NULL),
			0);
	assert_int_equal(t.n, 0);
	step_until(rt, &t.n, 1);
	assert_string_equal(t.json, "null");
	assert_int_equal(sn_database_get(rt, "contacts", "{\"id\":\"a\"}", NULL, on_item, &t, NULL,
					 NULL),
			0);
	step_until(rt, &t.n, 2);
	assert_string_equal(t.json, "{\"id\":\"a\"}");
	o.update = "REMOVE x";
	assert_int_equal(sn_database_update(rt, "contacts", "{\"id\":\"a\"}", &o, on_item, &t, NULL,
					 NULL),
			0);
	step_until(rt, &t.n, 3);
	assert_int_equal(t.code, SN_E_REJECTED);
	assert_string_equal(t.type, "ValidationException");
	assert_string_equal(t.json, "none");
	assert_int_equal(sn_database_delete(rt, "contacts", "{\"id\":\"a\"}", NULL, on_item, &t,
					 NULL, NULL),
			0);
	step_until(rt, &t.n, 4);
	assert_int_equal(t.code, SN_E_PROTOCOL);
	assert_int_equal(sn_database_get(rt, "contacts", "{\"id\":\"b\"}", NULL, on_item, &t, &id,
					 NULL),
			0);
	while (atomic_load(&script.hanging) == 0)
		(void)sn_runtime_step(rt);
	sn_resource_cancel(rt, id);
	step_until(rt, &t.n, 5);
	assert_int_equal(t.code, SN_E_CANCELLED);
	script_end();
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

#define PAGE(key) \
	"{\"Items\":[{\"id\":{\"S\":\"x\"}}],\"LastEvaluatedKey\":{\"id\":{\"S\":\"" key "\"}}}"

static void pages_on_a_loop(void **state)
{
	static const struct step steps[] = {
			{"Scan", "{}", PAGE("1"), NULL},
			{"Scan", "{\"ExclusiveStartKey\":{\"id\":{\"S\":\"1\"}}}", PAGE("2"), NULL},
			{"Scan", "{\"ExclusiveStartKey\":{\"id\":{\"S\":\"2\"}}}",
					"{\"Items\":[],\"Count\":0}", NULL},
			/* A page that fails is asked for again. */
			{"Scan", "{}", PAGE("1"), NULL},
			{"Scan", "{\"ExclusiveStartKey\":{\"id\":{\"S\":\"1\"}}}", NULL, NULL},
			{"Scan", "{\"ExclusiveStartKey\":{\"id\":{\"S\":\"1\"}}}",
					"{\"Items\":[{\"id\":{\"X\":1}}]}", NULL},
			{"Scan", "{\"ExclusiveStartKey\":{\"id\":{\"S\":\"1\"}}}",
					"{\"Items\":[{\"id\":{\"S\":\"y\"}}]}", NULL},
			/* Destroyed in its own callback, and while a page is under way. */
			{"Scan", "{}", PAGE("1"), NULL},
			{"Scan", "{}", NULL, NULL},
			{"Scan", "{}", NULL, NULL},
	};
	struct sn_runtime *rt = open_runtime(SN_MODE_FOREIGN);
	struct told t = {.then = GO_ON};
	struct sn_error *err = NULL;
	char *position = NULL;

	(void)state;
	script_begin(steps, SN_COUNT(steps));
	assert_int_equal(sn_database_scan(rt, "contacts", NULL, &t.items, NULL), 0);
	assert_int_equal(sn_items_next(t.items, on_page, &t, NULL), 1);
	assert_int_equal(sn_items_next(t.items, on_page, &t, &err), SN_E_STATE);
	assert_string_equal(sn_error_text(err), "a page is under way");
	sn_error_destroy(err);
	assert_int_equal(sn_items_position(t.items, &position), SN_E_STATE);
	step_until(rt, &t.n, 1);
	assert_int_equal(t.pages, 3);
	assert_int_equal(t.all, 2);
	assert_string_equal(t.json, "[]");
	sn_items_destroy(t.items);

	t = (struct told){.then = STOP};
	assert_int_equal(sn_database_scan(rt, "contacts", NULL, &t.items, NULL), 0);
	sn_items_cancel(t.items); /* nothing is under way */
	assert_int_equal(sn_items_next(t.items, on_page, &t, NULL), 1);
	step_until(rt, &t.n, 1);
	assert_int_equal(sn_items_next(t.items, on_page, &t, NULL), 1);
	while (atomic_load(&script.hanging) == 0)
		(void)sn_runtime_step(rt);
	sn_items_cancel(t.items);
	step_until(rt, &t.n, 2);
	assert_int_equal(t.code, SN_E_CANCELLED);
	assert_int_equal(sn_items_next(t.items, on_page, &t, NULL), 1);
	step_until(rt, &t.n, 3);
	assert_int_equal(t.code, SN_E_PROTOCOL);
	assert_int_equal(sn_items_next(t.items, on_page, &t, NULL), 1);
	step_until(rt, &t.n, 4);
	assert_string_equal(t.json, "[{\"id\":\"y\"}]");
	assert_int_equal(sn_items_next(t.items, on_page, &t, NULL), 0);
	sn_items_destroy(t.items);
	sn_items_destroy(NULL);

	t = (struct told){.then = DESTROY};
	assert_int_equal(sn_database_scan(rt, "contacts", NULL, &t.items, NULL), 0);
	assert_int_equal(sn_items_next(t.items, on_page, &t, NULL), 1);
	step_until(rt, &t.n, 1);
	assert_null(t.items);

	t = (struct told){.then = STOP};
	assert_int_equal(sn_database_scan(rt, "contacts", NULL, &t.items, NULL), 0);
	assert_int_equal(sn_items_next(t.items, on_page, &t, NULL), 1);
	while (atomic_load(&script.hanging) == 1)
		(void)sn_runtime_step(rt);
	sn_items_destroy(t.items);
	step_until(rt, &t.n, 1);
	assert_int_equal(t.code, SN_E_CANCELLED);

	/* The runtime closes while a page is under way. */
	t = (struct told){.then = STOP};
	assert_int_equal(sn_database_scan(rt, "contacts", NULL, &t.items, NULL), 0);
	assert_int_equal(sn_items_next(t.items, on_page, &t, NULL), 1);
	while (atomic_load(&script.hanging) == 2)
		(void)sn_runtime_step(rt);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	assert_int_equal(t.n, 1);
	assert_int_equal(t.code, SN_E_CLOSED);
	sn_items_destroy(t.items);
	script_end();
}

/* ---- from other threads ---- */

struct reader {
	struct sn_runtime *rt;
	unsigned seed;
	atomic_uint told; /* pages that ended */
	atomic_uint asked;
	atomic_uint wrong;
};

static void on_any_page(struct sn_items *items, const char *json, size_t n,
		const struct sn_error *err, void *arg)
{
	struct reader *reader = arg;
	int code = err != NULL ? sn_error_code(err) : 0;

	(void)items;
	(void)n;
	if (code != 0 && code != SN_E_CANCELLED && code != SN_E_CLOSED)
		atomic_fetch_add(&reader->wrong, 1);
	if ((json == NULL) != (err != NULL))
		atomic_fetch_add(&reader->wrong, 1);
	atomic_fetch_add(&reader->told, 1);
}

/* Pages asked for, cancelled, looked at and thrown away while the loop is busy with them. */
static void *read_a_lot(void *arg)
{
	struct reader *reader = arg;
	unsigned random = reader->seed;

	for (unsigned i = 0; i < 300; i++) {
		struct sn_items *items = NULL;
		char *position = NULL;

		if (sn_database_scan(reader->rt, "contacts", NULL, &items, NULL) < 0) {
			atomic_fetch_add(&reader->wrong, 1);
			continue;
		}
		for (unsigned k = 0; k < 4; k++) {
			random = random * 1103515245 + 12345;
			if (sn_items_next(items, on_any_page, reader, NULL) == 1)
				atomic_fetch_add(&reader->asked, 1);
			if ((random >> 16 & 3) == 0)
				sn_items_cancel(items);
			if ((random >> 18 & 3) == 0 && sn_items_position(items, &position) == 0)
				sn_free(position);
		}
		sn_items_destroy(items);
	}
	return NULL;
}

static void pages_from_other_threads(void **state)
{
	struct sn_runtime *rt = open_runtime(SN_MODE_THREAD);
	struct reader readers[3];
	pthread_t threads[3];

	(void)state;
	script_begin(NULL, 0); /* every call is one too many: "{}" */
	for (unsigned i = 0; i < 3; i++) {
		memset(&readers[i], 0, sizeof(readers[i]));
		readers[i].rt = rt;
		readers[i].seed = i;
		assert_int_equal(pthread_create(&threads[i], NULL, read_a_lot, &readers[i]), 0);
	}
	for (unsigned i = 0; i < 3; i++)
		(void)pthread_join(threads[i], NULL);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(readers[i].asked >= 300);
		assert_int_equal(readers[i].told, readers[i].asked);
		assert_int_equal(readers[i].wrong, 0);
	}
}

/* ---- what is refused before anything is asked ---- */

static void refused(void **state)
{
	struct sn_item_options small = SN_ITEM_OPTIONS_INIT, get = small, put = small,
			       query = small, names = small, start = small, values = small,
			       bytes = small, paged = small, call = small, sorted = small;
	struct sn_resource_options large = SN_RESOURCE_OPTIONS_INIT;
	const struct {
		const char *json;
		const struct sn_item_options *opts;
		bool put;
		const char *says;
	} v[] = {
			{"[]", NULL, false, "Key must be a JSON object"},
			{"{\"id\":", NULL, false, "Key is no JSON: byte 6"},
			{"{\"id\":{\"$B\":1}}", NULL, true,
					"Item, byte 12: not what a \"$\" member"},
			{"{}", &small, false, "SN_ITEM_OPTIONS_INIT"},
			{"{}", &get, false, "GetItem takes no condition"},
			{"{}", &put, true, "PutItem takes no consistent"},
			{"{}", &query, false, "GetItem takes no filter"},
			{"{}", &sorted, false, "GetItem takes no descending"},
			{"{}", &paged, false, "GetItem takes no start, limit or page_size"},
			{"{}", &names, false, "names are no JSON: byte 0"},
			{"{}", &values, false, "ExpressionAttributeValues must be a JSON object"},
			{"{}", &bytes, false, "ProjectionExpression is not UTF-8"},
	};
	struct sn_runtime *rt = open_runtime(SN_MODE_FOREIGN);
	struct sn_items *items = NULL;
	struct sn_error *err = NULL;

	(void)state;
	script_begin(NULL, 0);
	small.size = 4;
	get.condition = "x";
	put.consistent = true;
	query.filter = "x";
	sorted.descending = true;
	paged.limit = 1;
	names.names = "x";
	values.values = "1";
	bytes.projection = "\xff";
	for (size_t i = 0; i < SN_COUNT(v); i++) {
		int r = v[i].put ? sn_database_put(rt, "contacts", v[i].json, v[i].opts, on_item,
						   NULL, NULL, &err)
				 : sn_database_get(rt, "contacts", v[i].json, v[i].opts, on_item,
						   NULL, NULL, &err);

		assert_int_equal(r, SN_E_INVALID);
		if (strstr(sn_error_text(err), v[i].says) == NULL)
			fail_msg("%s", sn_error_text(err));
		sn_error_destroy(err);
	}
	assert_int_equal(sn_database_update(rt, "contacts", "{}", NULL, on_item, NULL, NULL, NULL),
			SN_E_INVALID);
	assert_int_equal(sn_database_query(rt, "contacts", NULL, &items, &err), SN_E_INVALID);
	assert_string_equal(sn_error_text(err), "a query needs opts.key_condition");
	sn_error_destroy(err);
	start.start = "{\"id\"";
	assert_int_equal(sn_database_scan(rt, "contacts", &start, &items, &err), SN_E_INVALID);
	assert_string_equal(sn_error_text(err), "start is no position: byte 5");
	sn_error_destroy(err);
	large.size = 4000;
	call.call = &large;
	assert_int_equal(sn_database_scan(rt, "contacts", &call, &items, NULL), SN_E_INVALID);
	assert_null(items);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

/* ---- no memory ---- */

static void no_memory(void **state)
{
	static const struct step put = {"PutItem", "{\"Item\":{\"id\":{\"S\":\"a\"}}}", "{}", NULL};
	static const struct step scan = {"Scan", "{\"Limit\":7}", PAGE("1"), NULL};
	int64_t live = sn__mem_live();
	struct sn_runtime *rt = open_runtime(SN_MODE_FOREIGN);
	struct sn_item_options o = SN_ITEM_OPTIONS_INIT;
	struct step steps[400];
	struct told t;

	(void)state;
	for (unsigned kind = 0; kind < 2; kind++) {
		for (size_t i = 0; i < SN_COUNT(steps); i++)
			steps[i] = kind == 0 ? put : scan;
		script_begin(steps, SN_COUNT(steps));
		o.page_size = kind == 0 ? 0 : 7;
		for (unsigned nth = 0;; nth++) {
			struct sn_items *items = NULL;
			bool failed;
			int r;

			t = (struct told){.then = STOP};
			sn__mem_fail_nth(nth);
			if (kind == 0) {
				r = sn_database_put(rt, "contacts", "{\"id\":\"a\"}", NULL, on_item,
						&t, NULL, NULL);
				r = r == 0 ? 1 : r;
			} else {
				r = sn_database_scan(rt, "contacts", &o, &items, NULL);
				if (r == 0)
					r = sn_items_next(items, on_page, &t, NULL);
			}
			if (r == 1)
				step_until(rt, &t.n, 1);
			failed = sn__mem_failed();
			sn__mem_fail_nth(0);
			assert_true(r == 1 || r == SN_E_NOMEM);
			assert_true(r == 1 || t.n == 0);
			if (r == 1)
				assert_true(t.code == 0 || t.code == SN_E_NOMEM);
			sn_items_destroy(items);
			if (nth > 0 && !failed) {
				assert_int_equal(t.code, 0);
				assert_true(nth > 3);
				break;
			}
		}
		assert_string_equal(script.wrong, "");
	}
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	assert_int_equal(sn__mem_live(), live);
}

static void no_memory_in_parts(void **state)
{
	static const char answer_json[] =
			"{\"Items\":[{\"id\":{\"S\":\"x\"}}],\"LastEvaluatedKey\":{}}";
	struct sn_item_options o = SN_ITEM_OPTIONS_INIT;
	int64_t live = sn__mem_live();

	(void)state;
	o.condition = "a = :b";
	o.values = "{\":b\":[1]}";
	o.names = "{\"#c\":\"d\"}";
	for (unsigned nth = 1;; nth++) {
		struct sn_item_page page = {.n = 0};
		struct sn_buf params;
		struct sn_error err;
		bool failed;
		int r, s;

		sn__buf_init(&params, 4096);
		sn__buf_init(&page.json, 4096);
		sn__mem_fail_nth(nth);
		r = sn__item_params(SN_ITEM_PUT,
				"{\"id\":\"0123456789012345678901234567890123456789\"}", &o,
				&params, &err);
		s = sn__item_page(sn_str_from(answer_json), UINT64_MAX, &page);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_true((r == 0 || r == SN_E_NOMEM) && (s == 0 || s == SN_E_NOMEM));
		assert_true(failed == (r < 0 || s < 0));
		sn__buf_finish(&params);
		sn__buf_finish(&page.json);
		assert_int_equal(sn__mem_live(), live);
		if (!failed)
			break;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(wait_calls),
			cmocka_unit_test(pages_waited_for),
			cmocka_unit_test(items_on_a_loop),
			cmocka_unit_test(pages_on_a_loop),
			cmocka_unit_test(pages_from_other_threads),
			cmocka_unit_test(refused),
			cmocka_unit_test(no_memory),
			cmocka_unit_test(no_memory_in_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
