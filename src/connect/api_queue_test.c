/* SPDX-License-Identifier: Apache-2.0 */

/* Putting records and following a stream over a driver that keeps one shard in memory, also without
 * memory. */

#include <sinew/queue.h>

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/test.h"
#include "connect/broker/kinesis_params.h"
#include "connect/driver.h"

#define KEPT 16

/* ---- the driver ---- */

static struct {
	unsigned n; /* records */
	bool hang;  /* nothing is answered until it is cancelled */
	atomic_uint hanging;
	char json[4096];
} stream;

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

	f->done = done;
	f->arg = arg;
	f->task.fn = closed;
	f->host->defer(f->host, &f->task);
}

static void fake_finish(void *instance)
{
	(void)instance;
}

static void records_json(const char *params)
{
	const char *it = strstr(params, "\"ShardIterator\":\"i");
	unsigned at = (unsigned)strtoul(it + strlen("\"ShardIterator\":\"i"), NULL, 10);
	size_t len = (size_t)snprintf(stream.json, sizeof stream.json, "{\"Records\":[");

	for (unsigned i = at; i < stream.n; i++)
		len += (size_t)snprintf(stream.json + len, sizeof stream.json - len,
				"%s{\"SequenceNumber\":\"%u\",\"Data\":\"AAEC\",\"PartitionKey\":\"k\"}",
				i > at ? "," : "", i + 1);
	(void)snprintf(stream.json + len, sizeof stream.json - len,
			"],\"NextShardIterator\":\"i%u\",\"MillisBehindLatest\":0}", stream.n);
}

/* Every record of the request is kept. */
static void put_json(const char *params)
{
	size_t len = (size_t)snprintf(stream.json, sizeof stream.json, "{\"Records\":[");
	const char *p = params;

	while ((p = strstr(p, "\"Data\"")) != NULL) {
		len += (size_t)snprintf(stream.json + len, sizeof stream.json - len,
				"%s{\"SequenceNumber\":\"%u\",\"ShardId\":\"s\"}",
				p == strstr(params, "\"Data\"") ? "" : ",", ++stream.n);
		p++;
	}
	(void)snprintf(stream.json + len, sizeof stream.json - len, "]}");
}

static void answer(struct sn_driver_task *task)
{
	struct fake_call *c = SN_CONTAINER_OF(task, struct fake_call, task);
	struct sn_driver_call *call = c->call;
	const char *name = call->operation->name;

	call->outcome.sent = SN_DRIVER_SENT_YES;
	if (c->code != 0) {
		call->outcome.verdict = SN_DRIVER_FAILED;
		call->outcome.code = c->code;
	} else if (strcmp(name, "ListShards") == 0) {
		(void)snprintf(stream.json, sizeof stream.json,
				"{\"Shards\":[{\"ShardId\":\"s\"}]}");
	} else if (strcmp(name, "GetShardIterator") == 0) {
		const char *after = strstr(call->params, "\"StartingSequenceNumber\":\"");

		(void)snprintf(stream.json, sizeof stream.json, "{\"ShardIterator\":\"i%u\"}",
				after == NULL ? 0 : (unsigned)strtoul(after + 26, NULL, 10));
	} else if (strcmp(name, "GetRecords") == 0) {
		records_json(call->params);
	} else {
		put_json(call->params);
	}
	call->result = c->code == 0 ? stream.json : NULL;
	call->result_size = c->code == 0 ? strlen(stream.json) : 0;
	call->done(call);
}

static int fake_start(void *instance, struct sn_driver_call *call)
{
	struct sn_driver_host *host = ((struct fake *)instance)->host;
	struct fake_call *c = call->state;

	c->call = call;
	c->task.fn = answer;
	if (stream.hang)
		atomic_fetch_add(&stream.hanging, 1);
	else
		host->defer(host, &c->task);
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
		.operations = sn__kinesis_operations,
		.state_size = sizeof(struct fake_call),
		.start = fake_start,
		.cancel = fake_cancel,
};
static const struct sn_driver fake = {
		.abi = SN_DRIVER_ABI,
		.size = sizeof(struct sn_driver),
		.name = "fake",
		.topic = SN_TOPIC_BROKER,
		.summary = "a stream of one shard in memory",
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

	memset(&stream, 0, sizeof stream);
	opts.mode = mode;
	opts.agent = "";
	opts.config_text =
			"peers: {queue: {jobs: {'1': {name: t, class: queue, subClass: fake}}}}\n";
	sn__drivers_add_for_tests(fakes);
	if (sn_open(&opts, &rt, &err) < 0)
		fail_msg("%s", sn_error_text(err));
	return rt;
}

static void step(struct sn_runtime *rt)
{
	struct pollfd fd = {.fd = sn_runtime_fd(rt), .events = POLLIN};
	int timeout = sn_runtime_timeout(rt);

	(void)poll(&fd, 1, timeout < 0 || timeout > 1000 ? 1000 : timeout);
	assert_int_equal(sn_runtime_step(rt), 0);
}

/* ---- a put and a consumer that are told of here ---- */

static struct seen {
	unsigned puts, batches, ends, checkpoints;
	unsigned records, kept;
	int put_code, end_code;
	struct sn_queue_batch *held[KEPT];
	bool hold;
	char checkpoint[64];
} seen;

static void on_puts(const struct sn_queue_puts *puts, const struct sn_error *err, void *arg)
{
	(void)arg;
	seen.puts++;
	seen.put_code = err != NULL ? sn_error_code(err) : 0;
	if (err == NULL)
		assert_int_equal(sn_queue_puts_failed(puts), 0);
}

static void on_batch(struct sn_queue_batch *batch, void *arg)
{
	struct sn_queue_message m;
	size_t n = sn_queue_batch_count(batch);

	(void)arg;
	seen.batches++;
	assert_string_equal(sn_queue_batch_shard(batch), "s");
	assert_int_equal(sn_queue_batch_behind_ms(batch), 0);
	assert_int_equal(sn_queue_batch_at(batch, n, &m), SN_E_INVALID);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(sn_queue_batch_at(batch, i, &m), 0);
		assert_int_equal(m.data_size, 3);
		assert_int_equal(strtoul(m.sequence, NULL, 10), seen.records + i + 1);
	}
	if (seen.hold && seen.kept < KEPT) {
		seen.held[seen.kept++] = batch;
	} else {
		seen.records += (unsigned)n;
		sn_queue_batch_answer(batch, n);
	}
}

static void on_checkpoint(const char *shard, const char *sequence, void *arg)
{
	(void)arg;
	assert_string_equal(shard, "s");
	seen.checkpoints++;
	(void)snprintf(seen.checkpoint, sizeof seen.checkpoint, "%s", sequence);
}

static void on_end(const struct sn_error *err, void *arg)
{
	(void)arg;
	seen.ends++;
	seen.end_code = err != NULL ? sn_error_code(err) : 0;
}

static int consume(struct sn_runtime *rt, struct sn_queue_consumer **ret_consumer)
{
	struct sn_queue_consumer_options o = SN_QUEUE_CONSUMER_INIT;

	o.on_batch = on_batch;
	o.on_checkpoint = on_checkpoint;
	o.on_end = on_end;
	return sn_queue_consume(rt, "jobs", &o, ret_consumer, NULL);
}

static const struct sn_queue_record three[] = {
		{"\0\1\2", 3, "a", NULL}, {"\0\1\2", 3, "b", NULL}, {"\0\1\2", 3, "c", "7"}};

/* ---- tests ---- */

static void wrong_options(void **state)
{
	struct sn_runtime *rt = open_runtime(SN_MODE_FOREIGN);
	struct sn_queue_consumer_options o = SN_QUEUE_CONSUMER_INIT;
	struct sn_resource_options call = SN_RESOURCE_OPTIONS_INIT;
	struct sn_queue_consumer *c = NULL;
	struct sn_queue_puts *puts = NULL;
	struct sn_error *err = NULL;

	(void)state;
	assert_int_equal(sn_queue_consume(rt, "jobs", &o, &c, &err), SN_E_INVALID);
	assert_non_null(strstr(sn_error_text(err), "on_batch"));
	sn_error_destroy(err);
	o.on_batch = on_batch;
	o.on_end = on_end;
	o.size = 8;
	assert_int_equal(sn_queue_consume(rt, "jobs", &o, &c, NULL), SN_E_INVALID);
	o.size = sizeof o;
	o.from = (enum sn_queue_from)3;
	assert_int_equal(sn_queue_consume(rt, "jobs", &o, &c, NULL), SN_E_INVALID);
	o.from = SN_QUEUE_LATEST;
	o.max_records = 10001;
	assert_int_equal(sn_queue_consume(rt, "jobs", &o, &c, NULL), SN_E_INVALID);
	o.max_records = 1;
	o.poll_ms = 199;
	assert_int_equal(sn_queue_consume(rt, "jobs", &o, &c, NULL), SN_E_INVALID);
	o.poll_ms = 0;
	o.checkpoints = "[]";
	assert_int_equal(sn_queue_consume(rt, "jobs", &o, &c, &err), SN_E_INVALID);
	assert_non_null(strstr(sn_error_text(err), "checkpoints"));
	sn_error_destroy(err);
	o.checkpoints = "{\"s\":7}";
	assert_int_equal(sn_queue_consume(rt, "jobs", &o, &c, NULL), SN_E_INVALID);
	o.checkpoints = NULL;
	assert_int_equal(sn_queue_consume(rt, "", &o, &c, NULL), SN_E_INVALID);
	assert_null(c);
	assert_int_equal(sn_queue_put(rt, "jobs", three, 0, NULL, on_puts, NULL, NULL),
			SN_E_INVALID);
	assert_int_equal(sn_queue_put(rt, "", three, 3, NULL, on_puts, NULL, NULL), SN_E_INVALID);
	call.size = 3;
	assert_int_equal(sn_queue_put(rt, "jobs", three, 3, &call, on_puts, NULL, NULL),
			SN_E_INVALID);
	assert_int_equal(sn_queue_put_wait(rt, "jobs", three, 3, NULL, &puts, NULL), SN_E_DEADLK);
	assert_null(puts);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

static void put_and_wait(void **state)
{
	struct sn_runtime *rt = open_runtime(SN_MODE_THREAD);
	struct sn_queue_puts *puts = NULL;
	struct sn_queue_put_info info;

	(void)state;
	assert_int_equal(sn_queue_put_wait(rt, "jobs", three, 3, NULL, &puts, NULL), 0);
	assert_int_equal(sn_queue_puts_count(puts), 3);
	assert_int_equal(sn_queue_puts_requests(puts), 1);
	assert_int_equal(sn_queue_puts_at(puts, 2, &info), 0);
	assert_string_equal(info.sequence, "3");
	sn_queue_puts_destroy(puts);
	assert_int_equal(sn_queue_put_wait(rt, "jobs", three, 1, NULL, NULL, NULL), 0);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

/* Runs until everything is dealt with, or has failed; the runtime is closed. */
static void story(struct sn_runtime *rt)
{
	struct sn_queue_consumer *c = NULL;
	bool put, follows;

	memset(&seen, 0, sizeof seen);
	put = sn_queue_put(rt, "jobs", three, 3, NULL, on_puts, NULL, NULL) == 0;
	while (put && seen.puts == 0)
		step(rt);
	follows = consume(rt, &c) == 0;
	while (follows && seen.ends == 0 && seen.records < stream.n)
		step(rt);
	if (follows)
		sn_queue_consumer_stop(c, 0);
	while (follows && seen.ends == 0)
		step(rt);
	assert_int_equal(seen.puts, put);
	assert_int_equal(seen.ends, follows);
	assert_int_equal(seen.end_code, 0);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

static void whole(void **state)
{
	(void)state;
	story(open_runtime(SN_MODE_FOREIGN));
	assert_int_equal(seen.put_code, 0);
	assert_int_equal(seen.records, 3);
	assert_string_equal(seen.checkpoint, "3");
}

static void no_memory(void **state)
{
	int64_t live = sn__mem_live();
	bool failed = true;

	(void)state;
	for (unsigned n = 1; failed; n++) {
		struct sn_runtime *rt = open_runtime(SN_MODE_FOREIGN);

		sn__mem_fail_nth(n);
		story(rt);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_int_equal(sn__mem_live(), live);
		assert_true(n < 500);
	}
}

static void part_by_part(void **state)
{
	struct sn_runtime *rt = open_runtime(SN_MODE_FOREIGN);
	struct sn_queue_consumer *c;

	(void)state;
	memset(&seen, 0, sizeof seen);
	stream.n = 3;
	seen.hold = true;
	assert_int_equal(consume(rt, &c), 0);
	while (seen.kept == 0)
		step(rt);
	seen.hold = false;
	seen.records = 2;
	sn_queue_batch_answer(seen.held[0], 2);
	while (seen.batches < 2)
		step(rt);
	assert_int_equal(seen.records, 3);
	sn_queue_consumer_stop(c, 0);
	while (seen.ends == 0)
		step(rt);
	assert_int_equal(seen.end_code, 0);
	assert_string_equal(seen.checkpoint, "3");
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

/* Closed while requests are under way, while batches are out, and before anything began. */
static void closed_at_any_time(void **state)
{
	struct sn_queue_consumer *c;
	struct sn_runtime *rt;

	(void)state;
	for (int when = 0; when < 3; when++) {
		rt = open_runtime(SN_MODE_FOREIGN);
		memset(&seen, 0, sizeof seen);
		stream.n = 3;
		seen.hold = true;
		stream.hang = when == 1;
		assert_int_equal(consume(rt, &c), 0);
		assert_int_equal(sn_queue_put(rt, "jobs", three, 3, NULL, on_puts, NULL, NULL), 0);
		while (when == 1 && stream.hanging < 2)
			step(rt);
		while (when == 2 && seen.kept == 0)
			step(rt);
		assert_int_equal(sn_close(rt, NULL, NULL), 0);
		assert_int_equal(seen.ends, 1);
		assert_int_equal(seen.end_code, SN_E_CLOSED);
		assert_int_equal(seen.puts, 1);
		while (seen.kept > 0) /* still the user's */
			sn_queue_batch_answer(seen.held[--seen.kept], 3);
	}
}

static void drained_in_time(void **state)
{
	struct sn_runtime *rt = open_runtime(SN_MODE_FOREIGN);
	struct sn_queue_consumer *c;

	(void)state;
	memset(&seen, 0, sizeof seen);
	stream.n = 3;
	seen.hold = true;
	assert_int_equal(consume(rt, &c), 0);
	while (seen.kept == 0)
		step(rt);
	sn_queue_consumer_stop(c, 20);
	while (seen.ends == 0)
		step(rt);
	assert_int_equal(seen.end_code, SN_E_TIMEOUT);
	assert_int_equal(seen.checkpoints, 0);
	sn_queue_batch_answer(seen.held[0], 3); /* late */
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	assert_int_equal(seen.checkpoints, 0);
}

/* Batches go to another thread, which answers while the runtime closes. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct sn_queue_batch *batch;
	unsigned given, answered, ends;
	bool over;
} desk = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void on_batch_elsewhere(struct sn_queue_batch *batch, void *arg)
{
	(void)arg;
	pthread_mutex_lock(&desk.lock);
	assert_null(desk.batch); /* one shard, one batch */
	desk.batch = batch;
	desk.given++;
	pthread_cond_broadcast(&desk.changed);
	pthread_mutex_unlock(&desk.lock);
}

static void on_end_elsewhere(const struct sn_error *err, void *arg)
{
	(void)arg;
	(void)err;
	pthread_mutex_lock(&desk.lock);
	desk.ends++;
	pthread_mutex_unlock(&desk.lock);
}

static void *clerk(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&desk.lock);
	while (!desk.over || desk.batch != NULL) {
		struct sn_queue_batch *batch = desk.batch;

		if (batch == NULL) {
			pthread_cond_wait(&desk.changed, &desk.lock);
			continue;
		}
		desk.batch = NULL;
		desk.answered++;
		pthread_cond_broadcast(&desk.changed);
		pthread_mutex_unlock(&desk.lock);
		sn_queue_batch_answer(batch, 3);
		pthread_mutex_lock(&desk.lock);
	}
	pthread_mutex_unlock(&desk.lock);
	return NULL;
}

static void answered_while_closing(void **state)
{
	struct sn_queue_consumer_options o = SN_QUEUE_CONSUMER_INIT;
	int64_t live = sn__mem_live();

	(void)state;
	o.on_batch = on_batch_elsewhere;
	o.on_end = on_end_elsewhere;
	for (unsigned i = 0; i < 30; i++) {
		struct sn_runtime *rt = open_runtime(SN_MODE_THREAD);
		struct sn_queue_consumer *c;
		pthread_t thread;

		stream.n = 3;
		desk.given = desk.answered = desk.ends = 0;
		desk.over = false;
		assert_int_equal(pthread_create(&thread, NULL, clerk, NULL), 0);
		assert_int_equal(sn_queue_consume(rt, "jobs", &o, &c, NULL), 0);
		pthread_mutex_lock(&desk.lock);
		while (i % 3 == 0 ? desk.given == 0 : desk.answered == 0)
			pthread_cond_wait(&desk.changed, &desk.lock);
		pthread_mutex_unlock(&desk.lock);
		if (i % 2 == 0)
			sn_queue_consumer_stop(c, 0);
		assert_int_equal(sn_close(rt, NULL, NULL), 0);
		pthread_mutex_lock(&desk.lock);
		desk.over = true;
		pthread_cond_broadcast(&desk.changed);
		pthread_mutex_unlock(&desk.lock);
		pthread_join(thread, NULL);
		assert_int_equal(desk.answered, desk.given);
		assert_int_equal(desk.ends, 1);
		assert_int_equal(sn__mem_live(), live);
	}
}

static void within_a_deadline(void **state)
{
	struct sn_runtime *rt = open_runtime(SN_MODE_FOREIGN);
	struct sn_context context = SN_CONTEXT_INIT;
	struct sn_resource_options o = SN_RESOURCE_OPTIONS_INIT;

	(void)state;
	memset(&seen, 0, sizeof seen);
	stream.hang = true;
	context.deadline_ms = 30;
	o.context = &context;
	o.deadline_ms = 60000;
	assert_int_equal(sn_queue_put(rt, "jobs", three, 3, &o, on_puts, NULL, NULL), 0);
	while (seen.puts == 0)
		step(rt);
	assert_int_equal(seen.put_code, SN_E_DEADLINE);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(wrong_options),
			cmocka_unit_test(put_and_wait),
			cmocka_unit_test(whole),
			cmocka_unit_test(no_memory),
			cmocka_unit_test(part_by_part),
			cmocka_unit_test(closed_at_any_time),
			cmocka_unit_test(drained_in_time),
			cmocka_unit_test(answered_while_closing),
			cmocka_unit_test(within_a_deadline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
