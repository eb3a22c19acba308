/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "base/mem.h"
#include "connect/shards_impl.h"
#include "proto/json_pull.h"
#include "proto/json_value.h"

#define PAUSE_MIN_NS (250 * SN_NS_PER_MS)
#define PAUSE_MAX_NS (10 * SN_NS_PER_S)
#define LEFTOVER_MAX_NS (30 * SN_NS_PER_S)
#define LATEST_SLACK_MS 10000 /* by how much our clock may be ahead of the service's */
#define AGAIN_MIN_NS SN_NS_PER_S
#define PARAMS_MAX ((size_t)64 << 10)

/* ---- creating ---- */

static int checkpoint_add(struct sn_shards *s, struct sn_json_pull *in, struct sn_json_string key)
{
	struct sn_json_string value;
	struct sn_str name, text;
	char *copy;
	int r;

	if (sn__json_peek(in) == SN_JSON_NULL)
		return sn__json_null(in);
	r = sn__json_string(in, &value);
	if (r == 0)
		r = sn__json_plain(key, &s->texts, &name);
	if (r == 0)
		r = sn__json_plain(value, &s->texts, &text);
	if (r < 0)
		return r;
	if (text.len > SN_SEQUENCE_MAX)
		return SN_E_PARSE;
	copy = sn__arena_strdup(&s->texts, text);
	name.ptr = sn__arena_strdup(&s->texts, name);
	if (copy == NULL || name.ptr == NULL)
		return SN_E_NOMEM;
	return sn__map_put(&s->checkpoints, name, copy, NULL);
}

static int checkpoints_read(struct sn_shards *s, struct sn_str json, struct sn_error *err)
{
	struct sn_json_string key;
	struct sn_json_pull in;
	int r;

	if (json.len == 0)
		return 0;
	sn__json_begin(&in, json);
	r = sn__json_enter_object(&in);
	while (r == 0 && (r = sn__json_member(&in, &key)) > 0)
		r = checkpoint_add(s, &in, key);
	if (r == 0)
		r = sn__json_finish(&in);
	if (r == SN_E_NOMEM)
		return sn__error_set(err, r, "out of memory");
	if (r < 0)
		return sn__error_set(err, SN_E_INVALID,
				"checkpoints: byte %zu: not {\"shard\": \"sequence number\"}",
				sn_json_offset(&in));
	return 0;
}

int sn__shards_create(const struct sn_shards_options *opts, struct sn_shards **ret_s,
		struct sn_error *err)
{
	struct sn_shards *s = sn__calloc(1, sizeof *s);
	int r;

	if (s == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	s->o = *opts;
	sn_list_init(&s->shards);
	sn__map_init(&s->by_id);
	sn__map_init(&s->checkpoints);
	sn__arena_init(&s->texts, 256, (size_t)64 << 20);
	sn__buf_init(&s->params, PARAMS_MAX);
	sn__shard_list_init(&s->list);
	r = checkpoints_read(s, opts->checkpoints, err);
	if (r == 0 && opts->only != NULL) {
		s->o.only = sn__arena_strdup(&s->texts, sn_str_from(opts->only));
		if (s->o.only == NULL)
			r = sn__error_set(err, SN_E_NOMEM, "out of memory");
	}
	if (r < 0) {
		sn__shards_destroy(s);
		return r;
	}
	s->o.checkpoints = (struct sn_str){NULL, 0};
	*ret_s = s;
	return 0;
}

void sn__shard_free(struct sn_shard *sh)
{
	sn_list_remove(&sh->link);
	sn__free(sh->id);
	sn__free(sh->parents[0]);
	sn__free(sh->parents[1]);
	sn__free(sh->iterator);
	if (sh->state == SN_SHARD_BATCH)
		sn__batch_destroy(sh->batch);
	sn__free(sh);
}

void sn__shards_destroy(struct sn_shards *s)
{
	struct sn_list *link;

	if (s == NULL)
		return;
	while ((link = s->shards.next) != &s->shards)
		sn__shard_free(SN_CONTAINER_OF(link, struct sn_shard, link));
	sn__map_finish(&s->by_id);
	sn__map_finish(&s->checkpoints);
	sn__shard_list_finish(&s->list);
	sn__arena_finish(&s->texts);
	sn__buf_finish(&s->params);
	sn__free(s);
}

/* ---- what goes wrong ---- */

static void problem(
		struct sn_error *err, const char *id, int code, const char *type, const char *text)
{
	sn__error_set(err, code, "%s%s%s%s%s", id, id[0] != '\0' ? ": " : "", type,
			type[0] != '\0' && text[0] != '\0' ? ": " : "", text);
}

/* The first of several counts, and nothing is begun any more. */
void sn__shards_fail(
		struct sn_shards *s, const char *id, int code, const char *type, const char *text)
{
	if (s->error.code == 0)
		problem(&s->error, id, code, type, text);
	s->stopped = true;
}

/* Of several that were not told yet the last counts. */
void sn__shards_trouble(
		struct sn_shards *s, const char *id, int code, const char *type, const char *text)
{
	problem(&s->trouble, id, code, type, text);
	s->trouble.retriable = true;
	(void)snprintf(s->trouble_shard, sizeof s->trouble_shard, "%s", id);
}

uint64_t sn__shards_pause_ns(struct sn_shards *s, unsigned failures)
{
	uint64_t pause = PAUSE_MIN_NS << SN_MIN(failures, 6u);

	pause = SN_MIN(pause, PAUSE_MAX_NS);
	return pause / 2 + sn__rng_below(s->o.rng, pause / 2);
}

static bool one_of(const char *type, const char *const *types)
{
	for (; *types != NULL; types++)
		if (strcmp(type, *types) == 0)
			return true;
	return false;
}

enum sn_shards_verdict sn__shards_verdict(const struct sn_shards_answer *a)
{
	static const char *const expired[] = {
			"ExpiredIteratorException", "ExpiredNextTokenException", NULL};
	static const char *const again[] = {"ProvisionedThroughputExceededException",
			"LimitExceededException", "ResourceInUseException",
			"KMSThrottlingException", "ThrottlingException", "Throttling",
			"RequestLimitExceeded", "InternalFailure", "InternalFailureException",
			"ServiceUnavailable", NULL};
	static const char *const old[] = {
			"UnknownOperationException", "InvalidAction", "NotImplemented", NULL};

	if (one_of(a->type, expired))
		return SN_SHARDS_EXPIRED;
	if (one_of(a->type, again))
		return SN_SHARDS_AGAIN;
	if (one_of(a->type, old))
		return SN_SHARDS_OLD;
	if (strcmp(a->type, "ResourceNotFoundException") == 0)
		return SN_SHARDS_UNKNOWN;
	if (a->code == SN_E_LIMIT)
		return SN_SHARDS_LARGE;
	if (a->code == SN_E_REJECTED || a->code == SN_E_INVALID || a->code == SN_E_NOTSUP)
		return SN_SHARDS_FINAL;
	return SN_SHARDS_AGAIN;
}

/* ---- requests ---- */

static int member_text(struct sn_buf *out, const char *name, const char *text)
{
	int r = sn__buf_printf(out, "%s\"%s\":", out->len > 1 ? "," : "", name);

	return r < 0 ? r : sn__json_quote(sn_str_from(text), out);
}

static int after_params(const struct sn_shard *sh, struct sn_buf *out)
{
	int r = member_text(out, "ShardIteratorType", "AFTER_SEQUENCE_NUMBER");

	return r < 0 ? r : member_text(out, "StartingSequenceNumber", sh->position);
}

static int time_params(uint64_t ms, struct sn_buf *out)
{
	int r = member_text(out, "ShardIteratorType", "AT_TIMESTAMP");

	return r < 0 ? r
		     : sn__buf_printf(out, ",\"Timestamp\":%llu.%03u",
				       (unsigned long long)(ms / 1000), (unsigned)(ms % 1000));
}

static int iterator_params(struct sn_shards *s, struct sn_shard *sh)
{
	struct sn_buf *out = &s->params;
	int r = sn__buf_puts(out, "{");

	if (r == 0)
		r = member_text(out, "ShardId", sh->id);
	if (r < 0)
		return r;
	if (sh->position[0] != '\0')
		r = after_params(sh, out);
	else if (sh->begin == SN_SHARD_AT_TIME)
		r = time_params(s->o.timestamp_ms, out);
	else if (sh->begin == SN_SHARD_AT_LATEST && sh->latest_ms != 0)
		r = time_params(sh->latest_ms, out); /* the first iterator was lost */
	else
		r = member_text(out, "ShardIteratorType",
				sh->begin == SN_SHARD_AT_LATEST ? "LATEST" : "TRIM_HORIZON");
	return r < 0 ? r : sn__buf_puts(out, "}");
}

static int read_params(struct sn_shards *s, struct sn_shard *sh)
{
	int r = sn__buf_puts(&s->params, "{");

	if (r == 0)
		r = member_text(&s->params, "ShardIterator", sh->iterator);
	return r < 0 ? r : sn__buf_printf(&s->params, ",\"Limit\":%u}", (unsigned)sh->limit);
}

static enum sn_shards_kind request(struct sn_shards *s, struct sn_shard *sh, uint64_t now_ns,
		struct sn_shards_todo *todo)
{
	bool reading = sh->state == SN_SHARD_READ;
	int r;

	sn__buf_clear(&s->params);
	r = reading ? read_params(s, sh) : iterator_params(s, sh);
	if (r == 0)
		r = sn__buf_append(&s->params, "", 1);
	if (r < 0) {
		sn__shards_trouble(s, sh->id, r, "", sn_strerror(r));
		sh->due_ns = now_ns + sn__shards_pause_ns(s, sh->failures++);
		return SN_SHARDS_IDLE;
	}
	sh->state = SN_SHARD_BUSY;
	sh->reading = reading;
	sh->asked_ms = s->o.wall_ms(s->o.wall_arg);
	if (reading)
		sh->read_ns = now_ns;
	sn_list_remove(&sh->link); /* the others come first next time */
	sn_list_push_back(&s->shards, &sh->link);
	s->requests++;
	*todo = (struct sn_shards_todo){
			.shard = sh,
			.id = sh->id,
			.operation = reading ? SN_STR("GetRecords") : SN_STR("GetShardIterator"),
			.params = sn__buf_data(&s->params),
	};
	return reading ? SN_SHARDS_READ : SN_SHARDS_ITERATOR;
}

static enum sn_shards_kind list_request(
		struct sn_shards *s, uint64_t now_ns, struct sn_shards_todo *todo)
{
	int r;

	sn__buf_clear(&s->params);
	r = sn__shards_list_params(s);
	if (r < 0) {
		sn__shards_trouble(s, "", r, "", sn_strerror(r));
		s->list_due_ns = now_ns + sn__shards_pause_ns(s, s->list_failures++);
		return SN_SHARDS_IDLE;
	}
	s->listing = true;
	s->list_ns = now_ns;
	s->requests++;
	*todo = (struct sn_shards_todo){
			.id = "",
			.operation = s->describe ? SN_STR("DescribeStream") : SN_STR("ListShards"),
			.params = sn__buf_data(&s->params),
	};
	return SN_SHARDS_LIST;
}

/* ---- what is to be done ---- */

/* Not more than once a second. */
static void list_soon(struct sn_shards *s, uint64_t now_ns)
{
	uint64_t due = s->listed ? SN_MAX(now_ns, s->list_ns + AGAIN_MIN_NS) : now_ns;

	s->list_due_ns = SN_MIN(s->list_due_ns, due);
}

static enum sn_shards_kind tell_checkpoint(struct sn_shards *s, struct sn_shard *sh,
		uint64_t now_ns, struct sn_shards_todo *todo)
{
	bool ended = sh->state == SN_SHARD_ENDED;

	sh->checkpoint = false;
	*todo = (struct sn_shards_todo){
			.shard = sh,
			.id = sh->id,
			.sequence = ended ? SN_QUEUE_SHARD_END : sh->position,
	};
	if (ended) { /* its children come after this was told */
		sn__shards_release(s);
		list_soon(s, now_ns);
	}
	return SN_SHARDS_CHECKPOINT;
}

static enum sn_shards_kind shard_next(struct sn_shards *s, struct sn_shard *sh, uint64_t now_ns,
		struct sn_shards_todo *todo)
{
	bool asks = sh->state == SN_SHARD_ITERATOR || sh->state == SN_SHARD_READ;

	if (sh->checkpoint)
		return tell_checkpoint(s, sh, now_ns, todo);
	if (s->stopped || (!asks && sh->state != SN_SHARD_BATCH))
		return SN_SHARDS_IDLE;
	if (sh->due_ns > now_ns) {
		s->wake_ns = SN_MIN(s->wake_ns, sh->due_ns);
		return SN_SHARDS_IDLE;
	}
	if (asks) /* when all requests are under way the end of one wakes us */
		return s->requests < SN_SHARDS_REQUESTS_MAX ? request(s, sh, now_ns, todo)
							    : SN_SHARDS_IDLE;
	sh->state = SN_SHARD_OUT;
	*todo = (struct sn_shards_todo){.shard = sh, .id = sh->id, .batch = sh->batch};
	return SN_SHARDS_BATCH;
}

/* One round over the shards, and another one when anything was to be done: only a round that found
 * nothing knows when to look again. */
static enum sn_shards_kind pass(struct sn_shards *s, uint64_t now_ns, struct sn_shards_todo *todo)
{
	enum sn_shards_kind kind;

	for (;;) {
		if (s->cursor == NULL) {
			s->cursor = s->shards.next;
			s->wake_ns = SN_NEVER_NS;
			s->found = false;
		}
		while (s->cursor != &s->shards) {
			struct sn_shard *sh = SN_CONTAINER_OF(s->cursor, struct sn_shard, link);

			s->cursor = s->cursor->next;
			kind = shard_next(s, sh, now_ns, todo);
			if (kind != SN_SHARDS_IDLE) {
				s->found = true;
				return kind;
			}
		}
		s->cursor = NULL;
		if (!s->found)
			return SN_SHARDS_IDLE;
	}
}

/* Whether nothing of it is left to come. */
static bool is_over(const struct sn_shards *s)
{
	bool only_ended = false;

	SN_LIST_FOREACH (link, &s->shards) {
		const struct sn_shard *sh = SN_CONTAINER_OF(link, struct sn_shard, link);

		if (sh->state == SN_SHARD_OUT || sh->checkpoint)
			return false;
		only_ended = sh->state == SN_SHARD_ENDED;
	}
	return s->stopped || (s->o.only != NULL && s->listed && only_ended);
}

static enum sn_shards_kind tell_trouble(struct sn_shards *s, struct sn_shards_todo *todo)
{
	s->error_told = s->trouble;
	s->trouble.code = 0;
	*todo = (struct sn_shards_todo){.id = s->trouble_shard, .error = &s->error_told};
	return SN_SHARDS_TROUBLE;
}

enum sn_shards_kind sn__shards_next(
		struct sn_shards *s, uint64_t now_ns, struct sn_shards_todo *ret_todo)
{
	enum sn_shards_kind kind = SN_SHARDS_IDLE;

	*ret_todo = (struct sn_shards_todo){.id = "", .wake_ns = SN_NEVER_NS};
	if (s->ended)
		return SN_SHARDS_IDLE;
	if (s->trouble.code != 0)
		return tell_trouble(s, ret_todo);
	if (!s->stopped && !s->listing && s->list_due_ns <= now_ns)
		kind = list_request(s, now_ns, ret_todo);
	if (kind == SN_SHARDS_IDLE)
		kind = pass(s, now_ns, ret_todo);
	if (kind == SN_SHARDS_IDLE && s->trouble.code != 0)
		return tell_trouble(s, ret_todo);
	if (kind == SN_SHARDS_IDLE && (s->stopped || s->o.only != NULL) && is_over(s)) {
		s->ended = true;
		ret_todo->error = s->error.code != 0 ? &s->error : NULL;
		return SN_SHARDS_END;
	}
	if (kind == SN_SHARDS_IDLE && !s->stopped)
		ret_todo->wake_ns = s->listing ? s->wake_ns : SN_MIN(s->wake_ns, s->list_due_ns);
	return kind;
}

/* ---- what came of it ---- */

static void shard_end(struct sn_shard *sh)
{
	sh->state = SN_SHARD_ENDED;
	sh->ours = true;
	sh->checkpoint = true;
}

static void shard_again(struct sn_shards *s, struct sn_shard *sh, enum sn_shard_state state,
		uint64_t now_ns)
{
	sh->state = state;
	sh->due_ns = SN_MAX(now_ns + sn__shards_pause_ns(s, sh->failures++),
			sh->read_ns + SN_SHARDS_READ_NS);
}

static void iterator_drop(struct sn_shard *sh)
{
	sn__free(sh->iterator);
	sh->iterator = NULL;
}

static void shard_refused(struct sn_shards *s, struct sn_shard *sh,
		const struct sn_shards_answer *a, uint64_t now_ns)
{
	enum sn_shard_state same = sh->reading ? SN_SHARD_READ : SN_SHARD_ITERATOR;

	switch (sn__shards_verdict(a)) {
	case SN_SHARDS_EXPIRED:
		iterator_drop(sh);
		if (sh->failures == 0) { /* the first time nobody has to wait for it */
			sh->failures++;
			sh->state = SN_SHARD_ITERATOR;
			sh->due_ns = now_ns;
			return;
		}
		same = SN_SHARD_ITERATOR;
		break;
	case SN_SHARDS_UNKNOWN: /* the shard, or the stream: the list knows */
		iterator_drop(sh);
		sh->state = SN_SHARD_LOST;
		list_soon(s, now_ns);
		return;
	case SN_SHARDS_LARGE:
		if (!sh->reading || sh->limit == 1)
			break;
		sh->limit = SN_MAX(sh->limit / 2, 1u);
		sh->state = SN_SHARD_READ;
		sh->due_ns = sh->read_ns + SN_SHARDS_READ_NS;
		return;
	case SN_SHARDS_OLD:
	case SN_SHARDS_FINAL:
		sh->state = same;
		sn__shards_fail(s, sh->id, a->code, a->type, a->text);
		return;
	case SN_SHARDS_AGAIN:
		break;
	}
	sn__shards_trouble(s, sh->id, a->code, a->type, a->text);
	shard_again(s, sh, same, now_ns);
}

static void shard_iterator(
		struct sn_shards *s, struct sn_shard *sh, struct sn_str json, uint64_t now_ns)
{
	int r = sn__iterator_parse(json, &sh->iterator);

	if (r < 0) {
		sn__shards_trouble(s, sh->id, r, "", "GetShardIterator was answered with nonsense");
		shard_again(s, sh, SN_SHARD_ITERATOR, now_ns);
		return;
	}
	if (sh->begin == SN_SHARD_AT_LATEST && sh->latest_ms == 0)
		sh->latest_ms = sh->asked_ms - SN_MIN(sh->asked_ms, (uint64_t)LATEST_SLACK_MS);
	sh->state = SN_SHARD_READ;
	sh->due_ns = sh->read_ns != 0 ? sh->read_ns + SN_SHARDS_READ_NS : now_ns;
}

static void shard_records(
		struct sn_shards *s, struct sn_shard *sh, struct sn_str json, uint64_t now_ns)
{
	struct sn_batch_answer answer;
	uint64_t pause = SN_SHARDS_READ_NS;
	int r = sn__batch_parse(json, sh->id, &answer);

	if (r < 0) {
		sn__shards_trouble(s, sh->id, r, "",
				r == SN_E_NOMEM ? "out of memory"
						: "GetRecords was answered with nonsense");
		shard_again(s, sh, SN_SHARD_READ, now_ns);
		return;
	}
	sh->failures = 0;
	iterator_drop(sh);
	sh->iterator = answer.next;
	if (answer.batch == NULL && answer.behind_ms == 0) {
		pause = SN_MAX(sn_ms_to_ns(s->o.poll_ms), pause);
		if (sh->latest_ms != 0)
			sh->latest_ms = sh->asked_ms -
					SN_MIN(sh->asked_ms, (uint64_t)LATEST_SLACK_MS);
	}
	sh->due_ns = sh->read_ns + pause;
	sh->batch = answer.batch;
	if (answer.batch != NULL) {
		sh->read_due_ns = sh->due_ns;
		sh->due_ns = now_ns;
		sh->state = SN_SHARD_BATCH;
	} else if (answer.next != NULL) {
		sh->state = SN_SHARD_READ;
	} else {
		shard_end(sh);
	}
}

void sn__shards_answer(struct sn_shards *s, struct sn_shard *sh, const struct sn_shards_answer *a,
		uint64_t now_ns)
{
	s->requests--;
	if (sh == NULL) {
		s->listing = false;
		if (!s->stopped)
			sn__shards_list_answer(s, a, now_ns);
	} else if (s->stopped) {
		sh->state = sh->reading ? SN_SHARD_READ : SN_SHARD_ITERATOR;
	} else if (a->code < 0) {
		shard_refused(s, sh, a, now_ns);
	} else if (sh->reading) {
		shard_records(s, sh, a->json, now_ns);
	} else {
		shard_iterator(s, sh, a->json, now_ns);
	}
}

void sn__shards_batch_done(struct sn_shards *s, struct sn_shard *sh, size_t n_done, uint64_t now_ns)
{
	struct sn_queue_batch *b = sh->batch;

	n_done = SN_MIN(n_done, b->n - b->done);
	b->done += n_done;
	if (n_done > 0) {
		(void)snprintf(sh->position, sizeof sh->position, "%s",
				b->messages[b->done - 1].sequence);
		sh->latest_ms = 0;
		sh->checkpoint = true;
		sh->leftovers = 0;
	}
	if (b->done < b->n) {
		sh->state = SN_SHARD_BATCH;
		sh->due_ns = now_ns +
				SN_MIN(SN_NS_PER_S << SN_MIN(sh->leftovers, 5u), LEFTOVER_MAX_NS);
		sh->leftovers++;
		return;
	}
	sh->batch = NULL;
	sn__batch_destroy(b);
	sh->state = SN_SHARD_READ;
	sh->due_ns = sh->read_due_ns;
	if (sh->iterator == NULL)
		shard_end(sh);
}

void sn__shards_stop(struct sn_shards *s)
{
	s->stopped = true;
}

unsigned sn__shards_requests(const struct sn_shards *s)
{
	return s->requests;
}
