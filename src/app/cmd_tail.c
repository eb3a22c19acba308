/* SPDX-License-Identifier: Apache-2.0 */
/* sinew queue NAME tail */
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include <sinew/queue.h>
#include "app/session.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/time.h"
#include "proto/protobuf_known.h"

#define LINE_MAX_BYTES ((size_t)16 << 20) /* of a record as JSON; the service's limit is 1 MiB */

/* Written on the library's thread. */
struct tail {
	struct sn_cli *cli;
	struct sn_buf line;
	atomic_bool over; /* it ended by itself, or stdout is gone */
	struct sn_error *err;
	char trouble[160]; /* the beginning of what was said last */
};

static int put_data(const struct sn_queue_message *m, struct sn_buf *b)
{
	struct sn_str data = {m->data, m->data_size};
	int r;

	if (sn__utf8_valid(data)) {
		r = sn__buf_puts(b, "\"data\":");
		return r < 0 ? r : sn__json_quote(data, b);
	}
	r = sn__buf_puts(b, "\"base64\":\"");
	if (r == 0)
		r = sn__protobuf_base64_text(data, b);
	return r < 0 ? r : sn__buf_puts(b, "\"");
}

static int put_member(const char *name, const char *text, struct sn_buf *b)
{
	int r = sn__buf_printf(b, "\"%s\":", name);

	if (r == 0)
		r = sn__json_quote(sn_str_from(text), b);
	return r < 0 ? r : sn__buf_puts(b, ",");
}

static int put_record(const char *shard, const struct sn_queue_message *m, struct sn_buf *b)
{
	int r = sn__buf_puts(b, "{");

	if (r == 0)
		r = put_member("shard", shard, b);
	if (r == 0)
		r = put_member("sequence", m->sequence, b);
	if (r == 0)
		r = put_member("key", m->partition_key, b);
	if (r == 0)
		r = sn__buf_printf(b, "\"arrival\":%llu,", (unsigned long long)m->arrival_ms);
	if (r == 0)
		r = put_data(m, b);
	return r < 0 ? r : sn__buf_puts(b, "}\n");
}

static void on_batch(struct sn_queue_batch *batch, void *arg)
{
	size_t n = sn_queue_batch_count(batch);
	struct tail *t = arg;

	t->trouble[0] = '\0';
	for (size_t i = 0; i < n && !atomic_load(&t->over); i++) {
		struct sn_queue_message m;

		sn__buf_clear(&t->line);
		if (sn_queue_batch_at(batch, i, &m) < 0 ||
				put_record(sn_queue_batch_shard(batch), &m, &t->line) < 0 ||
				fwrite(sn__buf_data(&t->line), 1, t->line.len, stdout) !=
						t->line.len)
			atomic_store(&t->over, true);
	}
	if (fflush(stdout) != 0)
		atomic_store(&t->over, true);
	sn_queue_batch_answer(batch, n);
}

static void on_trouble(const char *shard, const struct sn_error *err, void *arg)
{
	struct tail *t = arg;
	const char *text = sn_error_text(err);

	/* Once, for who wonders why nothing comes; -v: each time. */
	if (t->cli->opt[SN_OPT_VERBOSE] == NULL &&
			strncmp(text, t->trouble, sizeof(t->trouble) - 1) == 0)
		return;
	(void)snprintf(t->trouble, sizeof(t->trouble), "%s", text);
	sn__cli_say(t->cli, "%s%s%s; trying again", shard, shard[0] != '\0' ? ": " : "", text);
}

static void on_end(const struct sn_error *err, void *arg)
{
	struct tail *t = arg;

	if (err != NULL && sn_error_code(err) != SN_E_CLOSED && sn_error_copy(err, &t->err) < 0)
		t->err = NULL;
	atomic_store(&t->over, true);
}

/* A duration back from now, or a time of the calendar. */
static bool read_time(const char *text, uint64_t *ret_ms)
{
	uint64_t ago_ms, now_ms;
	struct timespec now;
	int64_t seconds;
	int32_t nanos;

	if (sn__parse_duration_ms(sn_str_from(text), &ago_ms) == 0) {
		(void)clock_gettime(CLOCK_REALTIME, &now);
		now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / SN_NS_PER_MS;
		*ret_ms = ago_ms < now_ms ? now_ms - ago_ms : 0;
		return true;
	}
	if (sn__protobuf_timestamp_parse(sn_str_from(text), &seconds, &nanos) < 0 || seconds < 0)
		return false;
	*ret_ms = (uint64_t)seconds * 1000 + (uint64_t)nanos / SN_NS_PER_MS;
	return true;
}

static bool read_from(struct sn_cli *cli, struct sn_queue_consumer_options *o)
{
	const char *from = cli->opt[SN_OPT_FROM];

	o->shard = cli->opt[SN_OPT_SHARD];
	o->from = SN_QUEUE_LATEST;
	if (from == NULL || strcmp(from, "latest") == 0)
		return true;
	o->from = SN_QUEUE_TRIM_HORIZON;
	if (strcmp(from, "trim-horizon") == 0 || strcmp(from, "oldest") == 0)
		return true;
	o->from = SN_QUEUE_AT_TIMESTAMP;
	if (read_time(from, &o->timestamp_ms))
		return true;
	sn__cli_say(cli,
			"--from is trim-horizon, latest, a duration like 10m or a time like "
			"2026-01-31T12:00:00Z, not `%s`",
			from);
	return false;
}

int sn__queue_tail(struct sn_cli *cli, struct sn_runtime *rt)
{
	struct sn_queue_consumer_options o = SN_QUEUE_CONSUMER_INIT;
	struct sn_queue_consumer *consumer = NULL;
	struct tail t = {.cli = cli};
	struct sn_error *err = NULL;
	int r;

	if (!read_from(cli, &o)) {
		sn__session_close(rt);
		return SN_EXIT_USAGE;
	}
	o.on_batch = on_batch;
	o.on_trouble = on_trouble;
	o.on_end = on_end;
	o.arg = &t;
	sn__buf_init(&t.line, LINE_MAX_BYTES);
	sn__session_block_signals();
	r = sn_queue_consume(rt, cli->args[0], &o, &consumer, &err);
	if (r < 0) {
		sn__cli_say(cli, "%s", err != NULL ? sn_error_text(err) : sn_strerror(r));
		sn_error_destroy(err);
		sn__session_close(rt);
		return sn__cli_exit_of(r);
	}
	sn__session_await_signal(&t.over);
	/* What it writes to is ours: it must have ended before we leave. */
	sn__session_close(rt);
	r = t.err != NULL ? sn_error_code(t.err) : 0;
	if (t.err != NULL)
		sn__cli_story(cli, t.err);
	sn_error_destroy(t.err);
	sn__buf_finish(&t.line);
	return r < 0 ? sn__cli_exit_of(r) : SN_EXIT_DONE;
}
