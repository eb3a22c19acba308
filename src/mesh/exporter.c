/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/exporter.h"

#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"

#define SPAN_MAX (16u << 10) /* text of one span; a longer one is dropped */
#define ANSWER_MAX 4096      /* of a collector; what is longer is not looked at */
#define BATCH_BYTES ((size_t)SN_EXPORTER_BATCH_MAX * SPAN_MAX)

struct waiting {
	struct sn_list link;
	size_t len;
	char text[];
};

struct sn_exporter {
	struct sn_loop *loop;
	enum sn_exporter_form form;
	char *service;
	struct sn_http_dest *dest;
	char *path;
	struct sn_list queue; /* waiting.link, oldest first */
	unsigned n_queue;
	struct sn_buf span;   /* the one being written */
	struct sn_buf batch;  /* the one being sent */
	struct sn_buf answer; /* its beginning: a collector may take a part only */
	unsigned n_batch;
	struct sn_http_req req;
	struct sn_http_header header;
	struct sn_timer timer;   /* the next batch */
	struct sn_timer timeout; /* of the request, and of the last one while closing */
	struct sn_task task;
	struct sn_exporter_counts counts;
	sn_exporter_warn_fn *warn; /* may be NULL */
	void *warn_arg;
	bool sending, closing;
	bool ailing; /* the latest batch was not taken */
	void (*done)(void *arg);
	void *done_arg;
};

static void send_batch(struct sn_exporter *e);

int sn__exporter_create(const struct sn_exporter_options *opts, struct sn_exporter **ret_exporter)
{
	struct sn_exporter *e = sn__calloc(1, sizeof(*e));

	if (e == NULL)
		return SN_E_NOMEM;
	e->service = sn__strndup(opts->service.ptr, opts->service.len);
	if (e->service == NULL) {
		sn__free(e);
		return SN_E_NOMEM;
	}
	e->loop = opts->loop;
	e->form = opts->form;
	e->warn = opts->warn;
	e->warn_arg = opts->warn_arg;
	e->header.name = SN_STR("Content-Type");
	e->header.value = SN_STR("application/json");
	sn_list_init(&e->queue);
	sn__buf_init(&e->span, SPAN_MAX);
	sn__buf_init(&e->batch, BATCH_BYTES);
	sn__buf_init(&e->answer, ANSWER_MAX);
	*ret_exporter = e;
	return 0;
}

static void drop_oldest(struct sn_exporter *e)
{
	struct waiting *w = SN_CONTAINER_OF(sn_list_pop_front(&e->queue), struct waiting, link);

	e->n_queue--;
	e->counts.dropped++;
	sn__free(w);
}

int sn__exporter_set_dest(struct sn_exporter *e, struct sn_http_dest *dest, const char *path)
{
	char *copy = NULL;

	if (dest != NULL) {
		copy = sn__strdup(path);
		if (copy == NULL)
			return SN_E_NOMEM;
		sn__http_dest_ref(dest);
	}
	/* A request on its way keeps its destination; its path it has written. */
	sn__http_dest_unref(e->dest);
	sn__free(e->path);
	e->dest = dest;
	e->path = copy;
	return 0;
}

static void on_interval(struct sn_timer *t)
{
	send_batch(SN_CONTAINER_OF(t, struct sn_exporter, timer));
}

void sn__exporter_add(struct sn_exporter *e, const struct sn_span *span)
{
	struct waiting *w;
	int r;

	if (e->dest == NULL || e->closing) {
		e->counts.dropped++;
		return;
	}
	sn__buf_clear(&e->span);
	r = e->form == SN_EXPORT_ZIPKIN ? sn__span_zipkin(span, &e->span)
					: sn__span_otlp(span, &e->span);
	w = r == 0 ? sn__malloc(sizeof(*w) + e->span.len) : NULL;
	if (w == NULL) {
		e->counts.dropped++;
		return;
	}
	w->len = e->span.len;
	memcpy(w->text, sn__buf_data(&e->span), w->len);
	if (e->n_queue >= SN_EXPORTER_QUEUE_MAX)
		drop_oldest(e);
	sn_list_push_back(&e->queue, &w->link);
	e->n_queue++;
	if (!sn_timer_armed(&e->timer))
		sn__timer_start(e->loop, &e->timer, sn_ms_to_ns(SN_EXPORTER_INTERVAL_MS),
				on_interval);
	if (e->n_queue >= SN_EXPORTER_BATCH_MAX && !e->sending)
		send_batch(e);
}

void sn__exporter_counts(const struct sn_exporter *e, struct sn_exporter_counts *ret_counts)
{
	*ret_counts = e->counts;
	ret_counts->waiting = e->n_queue + e->n_batch;
}

/* ---- batches ---- */

static int batch_begin(struct sn_exporter *e)
{
	sn__buf_clear(&e->batch);
	return e->form == SN_EXPORT_ZIPKIN
			? sn__buf_puts(&e->batch, "[")
			: sn__span_otlp_begin(sn_str_from(e->service), &e->batch);
}

static int batch_end(struct sn_exporter *e)
{
	return e->form == SN_EXPORT_ZIPKIN ? sn__buf_puts(&e->batch, "]")
					   : sn__span_otlp_end(&e->batch);
}

/* Move what waits into the batch, as much as one may hold. */
static int batch_fill(struct sn_exporter *e)
{
	int r = batch_begin(e);

	e->n_batch = 0;
	while (r == 0 && e->n_batch < SN_EXPORTER_BATCH_MAX && !sn_list_empty(&e->queue)) {
		struct waiting *w = SN_CONTAINER_OF(e->queue.next, struct waiting, link);

		if (e->n_batch > 0)
			r = sn__buf_puts(&e->batch, ",");
		if (r == 0)
			r = sn__buf_append(&e->batch, w->text, w->len);
		if (r < 0)
			break;
		sn_list_remove(&w->link);
		sn__free(w);
		e->n_queue--;
		e->n_batch++;
	}
	return r < 0 ? r : batch_end(e);
}

static void exporter_free(struct sn_exporter *e)
{
	while (!sn_list_empty(&e->queue))
		drop_oldest(e);
	sn__timer_stop(e->loop, &e->timer);
	sn__timer_stop(e->loop, &e->timeout);
	sn__http_dest_unref(e->dest);
	sn__buf_finish(&e->span);
	sn__buf_finish(&e->batch);
	sn__buf_finish(&e->answer);
	sn__free(e->path);
	sn__free(e->service);
	sn__free(e);
}

void sn__exporter_discard(struct sn_exporter *e)
{
	exporter_free(e);
}

static void on_closed(struct sn_task *task)
{
	struct sn_exporter *e = SN_CONTAINER_OF(task, struct sn_exporter, task);
	void (*done)(void *arg) = e->done;
	void *arg = e->done_arg;

	exporter_free(e);
	if (done != NULL)
		done(arg);
}

/* OTLP: {"partialSuccess": {"rejectedSpans": N}}, N also as text. */
static unsigned n_rejected(struct sn_exporter *e)
{
	SN_AUTO_JSON json_t *doc = NULL;
	const json_t *n;
	uint64_t text = 0;

	if (e->form != SN_EXPORT_OTLP || e->answer.len == 0 ||
			sn__json_parse(sn__buf_str(&e->answer), ANSWER_MAX, &doc, NULL) < 0)
		return 0;
	n = sn__json_get(sn__json_get(doc, "partialSuccess"), "rejectedSpans");
	if (json_is_string(n))
		(void)!sn__parse_u64(sn_str_from(json_string_value(n)), e->n_batch, &text);
	else if (json_is_integer(n) && json_integer_value(n) > 0)
		text = (uint64_t)json_integer_value(n);
	return (unsigned)SN_MIN(text, (uint64_t)e->n_batch);
}

static void batch_over(struct sn_exporter *e, bool taken)
{
	unsigned rejected = taken ? n_rejected(e) : e->n_batch;

	e->counts.sent += e->n_batch - rejected;
	e->counts.failed += rejected;
	e->n_batch = 0;
	sn__buf_finish(&e->answer);
	if (e->batch.cap > 4 * SPAN_MAX)
		sn__buf_finish(&e->batch);
}

/* Once for each change, however many batches are lost. */
static void tell(struct sn_exporter *e, bool taken)
{
	const struct sn_http_result *res = &e->req.result;
	const char *name = e->form == SN_EXPORT_ZIPKIN ? "Zipkin" : "OTLP";
	char text[192];

	if (e->warn == NULL || e->ailing == !taken)
		return;
	e->ailing = !taken;
	if (taken)
		(void)snprintf(text, sizeof(text), "the %s collector takes spans again", name);
	else if (res->code == 0)
		(void)snprintf(text, sizeof(text), "spans are lost: the %s collector answers %u",
				name, res->status);
	else
		(void)snprintf(text, sizeof(text), "spans are lost: the %s collector: %s", name,
				res->detail[0] != '\0' ? res->detail : sn_strerror(res->code));
	e->warn(text, e->warn_arg);
}

static void on_done(struct sn_http_req *req)
{
	struct sn_exporter *e = SN_CONTAINER_OF(req, struct sn_exporter, req);
	bool taken = req->result.code == 0 && req->result.status / 100 == 2;

	e->sending = false;
	if (!e->closing) /* else it bounds all that is left */
		sn__timer_stop(e->loop, &e->timeout);
	batch_over(e, taken);
	tell(e, taken);
	if (e->closing && (sn_list_empty(&e->queue) || req->result.code != 0))
		sn__loop_defer(e->loop, &e->task, on_closed);
	else if (e->closing || e->n_queue >= SN_EXPORTER_BATCH_MAX)
		send_batch(e);
	else if (e->n_queue > 0 && !sn_timer_armed(&e->timer))
		sn__timer_start(e->loop, &e->timer, sn_ms_to_ns(SN_EXPORTER_INTERVAL_MS),
				on_interval);
}

static void on_data(struct sn_http_req *req, struct sn_str data)
{
	struct sn_exporter *e = SN_CONTAINER_OF(req, struct sn_exporter, req);

	/* What does not fit is not looked at: it is no short sentence of JSON then. */
	if (e->form == SN_EXPORT_OTLP)
		(void)!sn__buf_append_str(&e->answer, data);
}

static const struct sn_http_req_ops req_ops = {.on_data = on_data, .on_done = on_done};

static void on_timeout(struct sn_timer *t)
{
	struct sn_exporter *e = SN_CONTAINER_OF(t, struct sn_exporter, timeout);

	sn__http_cancel(&e->req, SN_E_TIMEOUT);
}

static void send_batch(struct sn_exporter *e)
{
	uint32_t ms = e->closing ? SN_EXPORTER_FLUSH_MS : SN_EXPORTER_TIMEOUT_MS;
	int r;

	if (e->sending || (e->n_queue == 0 && !e->closing))
		return;
	r = e->n_queue > 0 && e->dest != NULL ? batch_fill(e) : SN_E_STATE;
	if (r == 0) {
		e->req = (struct sn_http_req){
				.ops = &req_ops,
				.method = SN_STR("POST"),
				.target = sn_str_from(e->path),
				.headers = &e->header,
				.n_headers = 1,
				.body = sn__buf_str(&e->batch),
		};
		r = sn__http_start(e->dest, &e->req, NULL);
	}
	if (r == 0) {
		e->sending = true;
		if (!sn_timer_armed(&e->timeout))
			sn__timer_start(e->loop, &e->timeout, sn_ms_to_ns(ms), on_timeout);
		return;
	}
	batch_over(e, false);
	while (e->n_queue > 0) /* nowhere to go, or no memory: not kept for later */
		drop_oldest(e);
	if (e->closing)
		sn__loop_defer(e->loop, &e->task, on_closed);
}

void sn__exporter_close(struct sn_exporter *e, void (*done)(void *arg), void *arg)
{
	e->closing = true;
	e->done = done;
	e->done_arg = arg;
	sn__timer_stop(e->loop, &e->timer);
	if (e->sending) /* what is on its way may end, for no longer than the flush */
		sn__timer_start(e->loop, &e->timeout, sn_ms_to_ns(SN_EXPORTER_FLUSH_MS),
				on_timeout);
	else
		send_batch(e);
}
