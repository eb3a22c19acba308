/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The reader of streams against a simulated service whose shards split, merge and expire while they
 * are read, which throttles, fails, forgets iterators and answers nonsense, and whose reader is slow,
 * answers in part, and is killed and started again from its checkpoints. Every seed: each record of
 * a shard comes in its order without a gap, children after their parents, checkpoints never run
 * ahead of answers, nobody asks too often, and in the end everything was dealt with.
 */

#include "connect/shards_impl.h"
#include "io/seeds_test.h"

#define SHARDS 64
#define RECORDS 400 /* of a shard */
#define MS SN_NS_PER_MS
#define START_MS UINT64_C(1700000000000)

struct shard {
	int parents[2]; /* -1: none */
	bool closed, removed;
	unsigned n;                   /* records */
	uint64_t arrival_ms[RECORDS]; /* at the service */
	/* the present reader's view */
	unsigned answered; /* records, at the front */
	unsigned checkpoint;
	bool ended;    /* its end was checkpointed */
	bool unwanted; /* was closed before a reader of the latest records began */
	bool begun;    /* had an iterator */
	bool busy;     /* a request */
	uint64_t read_ns;
};

struct request {
	struct sn_shard *handle; /* NULL: the list */
	enum sn_shards_kind kind;
	char params[512];
	char operation[32];
	int shard;
	uint64_t due_ns;
	bool used;
};

struct out {
	struct sn_queue_batch *batch;
	struct sn_shard *handle;
	int shard;
	uint64_t due_ns;
	bool used;
};

static struct world {
	struct sn_rng rng, rng_reader;
	uint64_t now_ns;
	struct shard shards[SHARDS];
	int n_shards;
	struct request requests[SN_SHARDS_REQUESTS_MAX + 1];
	struct out outs[SHARDS];
	struct sn_shards *s;
	unsigned n_busy;
	unsigned epoch; /* iterators of other readers are never seen */
	enum sn_queue_from from;
	uint64_t from_ms;
	bool old;      /* knows no ListShards */
	unsigned page; /* shards of a page */
	unsigned bad;  /* of 1000 requests */
	unsigned poor; /* of 1000 calls an allocation fails */
	bool quiet;    /* nothing is put, nothing goes wrong */
	bool listed;   /* the present reader had a whole list */
	bool ended, single;
	bool finishing; /* what there is is to be read */
	char json[1 << 16];
	char checkpoints[SHARDS * 64];
} w;

static unsigned roll(unsigned n)
{
	return (unsigned)sn__rng_below(&w.rng, n);
}

static uint64_t wall_ms(void *arg)
{
	(void)arg;
	return START_MS + w.now_ns / MS;
}

static struct shard *shard_new(int a, int b)
{
	struct shard *sh = &w.shards[w.n_shards++];

	*sh = (struct shard){.parents = {a, b}};
	return sh;
}

/* ---- the service ---- */

static void put(void)
{
	struct shard *sh = &w.shards[roll((unsigned)w.n_shards)];

	if (sh->closed || sh->n == RECORDS)
		return;
	sh->arrival_ms[sh->n++] = wall_ms(NULL);
}

static int open_shard(int not_this)
{
	for (unsigned tries = 0; tries < 20; tries++) {
		int i = (int)roll((unsigned)w.n_shards);

		if (i != not_this && !w.shards[i].closed)
			return i;
	}
	return -1;
}

static void reshard(void)
{
	int a = open_shard(-1), b;

	if (a < 0 || w.n_shards + 2 > SHARDS)
		return;
	w.shards[a].closed = true;
	b = roll(2) == 0 ? open_shard(a) : -1;
	if (b >= 0) {
		w.shards[b].closed = true;
		shard_new(a, b);
	} else {
		shard_new(a, -1);
		shard_new(a, -1);
	}
}

/* Its time is over; only what was read is lost. */
static void expire(void)
{
	int i = (int)roll((unsigned)w.n_shards);
	struct shard *sh = &w.shards[i];

	if (sh->closed && sh->ended && w.listed)
		sh->removed = true;
}

static void live(void)
{
	for (unsigned n = roll(4); n > 0; n--)
		put();
	if (roll(60) == 0)
		reshard();
	if (roll(100) == 0)
		expire();
}

/* ---- its answers ---- */

static const char *after(const char *params, const char *name)
{
	const char *p = strstr(params, name);

	return p != NULL ? p + strlen(name) : NULL;
}

static void list_json(const struct request *r)
{
	const char *token = after(r->params, "\"NextToken\":\"t");
	const char *id = after(r->params, "\"ExclusiveStartShardId\":\"s");
	int i = token != NULL        ? (int)strtoul(token, NULL, 10)
			: id != NULL ? (int)strtoul(id, NULL, 10) + 1
				     : 0;
	unsigned n = 0;
	size_t len = 0;
	const char *comma = "";

	len += (size_t)snprintf(w.json, sizeof w.json, "%s\"Shards\":[",
			w.old ? "{\"StreamDescription\":{\"x\":[]," : "{");
	for (; i < w.n_shards && n < w.page; i++) {
		const struct shard *sh = &w.shards[i];

		if (sh->removed)
			continue;
		len += (size_t)snprintf(w.json + len, sizeof w.json - len, "%s{\"ShardId\":\"s%d\"",
				comma, i);
		for (int k = 0; k < 2; k++)
			if (sh->parents[k] >= 0)
				len += (size_t)snprintf(w.json + len, sizeof w.json - len,
						",\"%s\":\"s%d\"",
						k == 0 ? "ParentShardId" : "AdjacentParentShardId",
						sh->parents[k]);
		len += (size_t)snprintf(w.json + len, sizeof w.json - len,
				",\"SequenceNumberRange\":{\"StartingSequenceNumber\":\"1\"%s}}",
				sh->closed ? ",\"EndingSequenceNumber\":\"9\"" : "");
		comma = ",";
		n++;
	}
	while (i < w.n_shards && w.shards[i].removed)
		i++;
	if (w.old)
		(void)snprintf(w.json + len, sizeof w.json - len, "],\"HasMoreShards\":%s}}",
				i < w.n_shards ? "true" : "false");
	else if (i < w.n_shards)
		(void)snprintf(w.json + len, sizeof w.json - len, "],\"NextToken\":\"t%d\"}", i);
	else
		(void)snprintf(w.json + len, sizeof w.json - len, "]}");
}

/* It has its first whole list, which is not the first that it was sent if it had no memory for that. */
static void reader_listed(void)
{
	w.listed = true;
	for (int k = 0; k < w.n_shards; k++)
		if (w.from == SN_QUEUE_LATEST && w.shards[k].closed)
			w.shards[k].unwanted = true;
}

static unsigned first_at(const struct shard *sh, uint64_t ms)
{
	unsigned i = 0;

	while (i < sh->n && sh->arrival_ms[i] < ms)
		i++;
	return i;
}

static void iterator_json(const struct request *r)
{
	struct shard *sh = &w.shards[r->shard];
	const char *sequence = after(r->params, "\"StartingSequenceNumber\":\"");
	const char *time = after(r->params, "\"Timestamp\":");
	unsigned at = 0;

	if (sequence != NULL) {
		at = (unsigned)strtoul(sequence, NULL, 10) % 1000 + 1;
		assert_int_equal(at, sh->answered);
	} else if (time != NULL) {
		char *end;
		uint64_t ms = strtoull(time, &end, 10) * 1000;

		ms += strtoull(end + 1, NULL, 10);
		at = first_at(sh, ms);
		/* The latest records again, after a lost iterator: rather some too many. */
		if (w.from == SN_QUEUE_LATEST)
			assert_true(sh->begun && at <= sh->answered);
		sh->answered = at;
	} else if (strstr(r->params, "LATEST") != NULL) {
		/* Once, unless there was no memory to keep it. */
		assert_true(w.from == SN_QUEUE_LATEST && (!sh->begun || w.poor > 0));
		/* What follows on a shard that is read is read from its beginning. */
		for (int k = 0; k < 2; k++)
			assert_true(sh->parents[k] < 0 || !w.shards[sh->parents[k]].begun);
		sh->answered = at = sh->n;
	} else {
		assert_int_equal(sh->answered, 0);
	}
	sh->begun = true;
	(void)snprintf(w.json, sizeof w.json, "{\"ShardIterator\":\"i%d-%u-%u\"}", r->shard, at,
			w.epoch);
}

static void records_json(const struct request *r)
{
	struct shard *sh = &w.shards[r->shard];
	const char *it = after(r->params, "\"ShardIterator\":\"i");
	char *end;
	unsigned at, n, limit, more = roll(8);
	size_t len;

	assert_int_equal(strtol(it, &end, 10), r->shard);
	at = (unsigned)strtoul(end + 1, &end, 10);
	assert_int_equal(strtoul(end + 1, NULL, 10), w.epoch);
	limit = (unsigned)strtoul(after(r->params, "\"Limit\":"), NULL, 10);
	n = SN_MIN(SN_MIN(sh->n - at, limit), more);
	len = (size_t)snprintf(w.json, sizeof w.json, "{\"Records\":[");
	for (unsigned i = 0; i < n; i++)
		len += (size_t)snprintf(w.json + len, sizeof w.json - len,
				"%s{\"SequenceNumber\":\"%d%03u\",\"Data\":\"AAEC\","
				"\"PartitionKey\":\"k\",\"ApproximateArrivalTimestamp\":%llu.%03u}",
				i > 0 ? "," : "", r->shard + 1, at + i,
				(unsigned long long)(sh->arrival_ms[at + i] / 1000),
				(unsigned)(sh->arrival_ms[at + i] % 1000));
	len += (size_t)snprintf(w.json + len, sizeof w.json - len, "],\"MillisBehindLatest\":%u",
			at + n < sh->n ? 1000 : 0);
	if (sh->closed && at + n == sh->n && roll(2) == 0) /* not always at once */
		(void)snprintf(w.json + len, sizeof w.json - len,
				roll(2) == 0 ? ",\"NextShardIterator\":null}" : "}");
	else
		(void)snprintf(w.json + len, sizeof w.json - len,
				",\"NextShardIterator\":\"i%d-%u-%u\"}", r->shard, at + n, w.epoch);
}

static bool misfortune(const struct request *r, struct sn_shards_answer *a)
{
	static const char *const types[] = {"ProvisionedThroughputExceededException",
			"LimitExceededException", "InternalFailure", "", ""};

	if (w.quiet || roll(1000) >= w.bad)
		return false;
	a->code = SN_E_REJECTED;
	a->text = "so it is";
	switch (roll(4)) {
	case 0:
		if (r->kind == SN_SHARDS_ITERATOR) {
			a->code = 0;
			return false;
		}
		a->type = r->kind == SN_SHARDS_LIST ? "ExpiredNextTokenException"
						    : "ExpiredIteratorException";
		return true;
	case 1:
		a->code = 0;
		a->json = roll(2) == 0 ? SN_STR("{\"Records\":[{\"SequenceNumber\":1}]}")
				       : SN_STR("{\"Shards\":[{}]");
		return true;
	default:
		a->type = types[roll(SN_COUNT(types))];
		if (a->type[0] == '\0')
			a->code = roll(2) == 0 ? SN_E_RESET : SN_E_TIMEOUT;
		return true;
	}
}

static void serve(struct request *r)
{
	struct sn_shards_answer a = {.type = "", .text = ""};
	struct shard *sh = r->shard >= 0 ? &w.shards[r->shard] : NULL;

	r->used = false;
	w.n_busy--;
	if (sh != NULL)
		sh->busy = false;
	if (misfortune(r, &a)) {
	} else if (w.old && strcmp(r->operation, "ListShards") == 0) {
		a = (struct sn_shards_answer){.code = SN_E_REJECTED,
				.type = "UnknownOperationException",
				.text = ""};
	} else if (sh != NULL && sh->removed) {
		a = (struct sn_shards_answer){.code = SN_E_REJECTED,
				.type = "ResourceNotFoundException",
				.text = "no such shard"};
	} else {
		if (r->kind == SN_SHARDS_LIST)
			list_json(r);
		else if (r->kind == SN_SHARDS_ITERATOR)
			iterator_json(r);
		else
			records_json(r);
		a.json = sn_str_from(w.json);
	}
	if (roll(1000) < w.poor)
		sn__mem_fail_nth(1 + roll(6));
	sn__shards_answer(w.s, r->handle, &a, w.now_ns);
	sn__mem_fail_nth(0);
	if (w.s->listed && !w.listed)
		reader_listed();
}

/* ---- the reader ---- */

static int number_of(const char *id)
{
	assert_int_equal(id[0], 's');
	return (int)strtoul(id + 1, NULL, 10);
}

static void on_request(enum sn_shards_kind kind, const struct sn_shards_todo *todo)
{
	struct request *r = w.requests;

	while (r->used)
		r++;
	assert_true(r < w.requests + SN_COUNT(w.requests));
	*r = (struct request){.handle = todo->shard, .kind = kind, .shard = -1, .used = true};
	w.n_busy++;
	(void)snprintf(r->params, sizeof r->params, "%s", todo->params);
	(void)snprintf(r->operation, sizeof r->operation, "%.*s", (int)todo->operation.len,
			todo->operation.ptr);
	r->due_ns = w.now_ns + (1 + roll(roll(10) == 0 ? 800 : 40)) * MS;
	if (kind != SN_SHARDS_LIST) {
		struct shard *sh;

		r->shard = number_of(todo->id);
		sh = &w.shards[r->shard];
		assert_false(sh->busy);
		sh->busy = true;
		if (kind == SN_SHARDS_READ) {
			assert_true(sh->read_ns == 0 ||
					w.now_ns - sh->read_ns >= SN_SHARDS_READ_NS);
			sh->read_ns = w.now_ns;
		}
	}
}

static void on_batch(const struct sn_shards_todo *todo)
{
	int i = number_of(todo->id);
	struct shard *sh = &w.shards[i];
	struct out *o = w.outs;
	const struct sn_queue_batch *b = todo->batch;

	assert_false(sh->busy);
	assert_string_equal(b->shard, todo->id);
	assert_true(b->done < b->n);
	for (size_t k = b->done; k < b->n; k++) {
		unsigned long seq = strtoul(b->messages[k].sequence, NULL, 10);
		unsigned at = sh->answered + (unsigned)(k - b->done);

		assert_int_equal(seq / 1000, i + 1);
		assert_int_equal(seq % 1000, at); /* no gap, no other order */
		assert_int_equal(b->messages[k].data_size, 3);
		assert_memory_equal(b->messages[k].data, "\0\1\2", 3);
		assert_int_equal(b->messages[k].arrival_ms, sh->arrival_ms[at]);
	}
	for (unsigned k = 0; k < 2; k++) {
		const struct shard *parent = sh->parents[k] >= 0 ? &w.shards[sh->parents[k]] : NULL;

		assert_true(parent == NULL || parent->removed || parent->ended || parent->unwanted);
	}
	while (o->used)
		assert_int_not_equal((o++)->shard, i);
	*o = (struct out){.batch = todo->batch, .handle = todo->shard, .shard = i, .used = true};
	o->due_ns = w.now_ns + roll(roll(5) == 0 ? 4000 : 100) * MS;
}

static void answer(struct out *o)
{
	struct shard *sh = &w.shards[o->shard];
	size_t n = o->batch->n - o->batch->done;
	size_t n_done = !w.quiet && roll(6) == 0 ? roll((unsigned)n + 1) : n;

	o->used = false;
	sh->answered += (unsigned)n_done;
	sn__shards_batch_done(w.s, o->handle, n_done, w.now_ns);
}

static void on_checkpoint(const struct sn_shards_todo *todo)
{
	int i = number_of(todo->id);
	struct shard *sh = &w.shards[i];

	if (strcmp(todo->sequence, SN_QUEUE_SHARD_END) == 0) {
		assert_true(sh->removed || (sh->closed && sh->answered == sh->n));
		sh->ended = true;
		return;
	}
	assert_int_equal(strtoul(todo->sequence, NULL, 10), (i + 1) * 1000 + (int)sh->answered - 1);
	sh->checkpoint = sh->answered;
}

static uint64_t pump(void)
{
	struct sn_shards_todo todo;

	for (;;) {
		enum sn_shards_kind kind;

		if (roll(1000) < w.poor)
			sn__mem_fail_nth(1 + roll(3));
		kind = sn__shards_next(w.s, w.now_ns, &todo);
		sn__mem_fail_nth(0);
		switch (kind) {
		case SN_SHARDS_IDLE:
			return todo.wake_ns;
		case SN_SHARDS_BATCH:
			on_batch(&todo);
			break;
		case SN_SHARDS_CHECKPOINT:
			on_checkpoint(&todo);
			break;
		case SN_SHARDS_TROUBLE:
			assert_true(sn_error_code(todo.error) < 0);
			assert_true(sn_error_text(todo.error)[0] != '\0');
			break;
		case SN_SHARDS_END:
			if (todo.error != NULL)
				fail_msg("ended: %s", sn_error_text(todo.error));
			w.ended = true;
			return SN_NEVER_NS;
		default:
			on_request(kind, &todo);
		}
	}
}

static bool has_known_child(int i)
{
	for (int k = i + 1; k < w.n_shards; k++) {
		const struct shard *sh = &w.shards[k];

		if ((sh->parents[0] == i || sh->parents[1] == i) && !sh->removed &&
				(sh->checkpoint > 0 || sh->ended))
			return true;
	}
	return false;
}

/* From what it left behind. */
static void reader_start(void)
{
	struct sn_shards_options o = {
			.from = w.from,
			.timestamp_ms = w.from_ms,
			.max_records = 1 + roll(20),
			.poll_ms = 200 + roll(1000),
			/* as good as never: nothing may wait for the list */
			.list_ms = roll(2) == 0 ? 1000 + roll(30000) : 86400000,
			.rng = &w.rng_reader,
			.wall_ms = wall_ms,
	};
	size_t len = (size_t)snprintf(w.checkpoints, sizeof w.checkpoints, "{");
	struct sn_error err;

	for (int i = 0; i < w.n_shards; i++) {
		struct shard *sh = &w.shards[i];

		sh->busy = sh->begun = sh->unwanted = false;
		sh->read_ns = 0;
		sh->answered = sh->ended ? sh->n : sh->checkpoint;
		if ((sh->checkpoint == 0 && !sh->ended) || (sh->ended && has_known_child(i)))
			continue; /* a child that has one tells as much */
		len += (size_t)snprintf(w.checkpoints + len, sizeof w.checkpoints - len,
				sh->ended ? "%s\"s%d\":\"SHARD_END\"" : "%s\"s%d\":\"%d%03d\"",
				len > 1 ? "," : "", i, i + 1, (int)sh->checkpoint - 1);
	}
	(void)snprintf(w.checkpoints + len, sizeof w.checkpoints - len, "}");
	o.checkpoints = sn_str_from(w.checkpoints);
	w.epoch++;
	w.listed = false;
	assert_int_equal(sn__shards_create(&o, &w.s, &err), 0);
}

static void reader_kill(void)
{
	sn__shards_destroy(w.s);
	memset(w.requests, 0, sizeof w.requests);
	w.n_busy = 0;
	for (unsigned i = 0; i < SN_COUNT(w.outs); i++) {
		if (w.outs[i].used)
			sn__batch_destroy(w.outs[i].batch);
		w.outs[i].used = false;
	}
}

/* ---- a seed ---- */

static uint64_t next_event(uint64_t wake_ns)
{
	for (unsigned i = 0; i < SN_COUNT(w.requests); i++)
		if (w.requests[i].used)
			wake_ns = SN_MIN(wake_ns, w.requests[i].due_ns);
	for (unsigned i = 0; i < SN_COUNT(w.outs); i++)
		if (w.outs[i].used)
			wake_ns = SN_MIN(wake_ns, w.outs[i].due_ns);
	return wake_ns;
}

static void happen(void)
{
	for (unsigned i = 0; i < SN_COUNT(w.requests); i++)
		if (w.requests[i].used && w.requests[i].due_ns <= w.now_ns)
			serve(&w.requests[i]);
	for (unsigned i = 0; i < SN_COUNT(w.outs); i++)
		if (w.outs[i].used && w.outs[i].due_ns <= w.now_ns)
			answer(&w.outs[i]);
}

static bool all_done(void);

/* @lively: the service is; else until everything is done. */
static void run(uint64_t for_ns, bool lively)
{
	uint64_t end_ns = w.now_ns + for_ns, life_ns = w.now_ns;

	while (!w.ended) {
		uint64_t next = next_event(pump());

		if (lively)
			next = SN_MIN(next, life_ns);
		if (w.ended || (!lively && w.finishing && all_done()))
			break;
		assert_true(next != SN_NEVER_NS); /* else it waits for nothing */
		if (next > end_ns)
			break;
		w.now_ns = SN_MAX(w.now_ns, next);
		if (lively && w.now_ns >= life_ns) {
			live();
			life_ns = w.now_ns + (1 + roll(300)) * MS;
		}
		happen();
	}
	w.now_ns = SN_MAX(w.now_ns, end_ns);
}

static bool all_done(void)
{
	for (int i = 0; i < w.n_shards; i++) {
		const struct shard *sh = &w.shards[i];

		if (sh->removed || sh->unwanted)
			continue;
		if (sh->answered != sh->n || sh->ended != sh->closed)
			return false;
	}
	return true;
}

static void seed_begin(uint64_t seed, bool single)
{
	memset(&w, 0, sizeof w);
	w.single = single;
	w.now_ns = SN_NS_PER_S;
	sn__rng_seed(&w.rng, seed);
	sn__rng_seed(&w.rng_reader, seed + 1);
	w.from = (enum sn_queue_from)roll(3);
	w.old = roll(4) == 0;
	w.page = 1 + roll(6);
	w.bad = roll(2) * roll(200);
	w.poor = roll(4) == 0 ? roll(30) : 0;
	for (unsigned n = 1 + roll(4); n > 0; n--)
		shard_new(-1, -1);
	for (unsigned n = roll(40); n > 0; n--) {
		w.now_ns += roll(200) * MS;
		live();
	}
	w.from_ms = wall_ms(NULL) - roll(3000);
}

static void one(uint64_t seed, bool single)
{
	seed_begin(seed, single);
	reader_start();
	for (unsigned lives = 1 + (w.from == SN_QUEUE_LATEST ? 0 : roll(3)); lives > 0; lives--) {
		run((1 + roll(40)) * SN_NS_PER_S, true);
		if (lives > 1) {
			reader_kill();
			for (unsigned n = roll(10); n > 0; n--)
				live();
			reader_start();
		}
	}
	w.quiet = w.finishing = true;
	run(10000 * SN_NS_PER_S, false);
	w.finishing = false;
	assert_true(all_done());
	sn__shards_stop(w.s);
	run(10 * SN_NS_PER_S, false);
	assert_true(w.ended);
	while (sn__shards_requests(w.s) > 0) {
		w.now_ns += SN_NS_PER_S;
		happen();
	}
	reader_kill();
}

int main(void)
{
	return seeds_main("shards", one);
}
