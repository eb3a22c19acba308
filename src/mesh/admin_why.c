/* SPDX-License-Identifier: Apache-2.0 */
/* The stories of calls, over the admin API. */
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "mesh/admin_impl.h"
#include "mesh/call.h"
#include "mesh/recorder.h"

#define ANSWER_MAX (4u << 20)

/* ---- as JSON: by hand, because texts may be cut inside a character ---- */

static int put_text(struct sn_buf *out, const char *name, const char *value)
{
	int r = sn__buf_printf(out, "\"%s\":", name);

	return r == 0 ? sn__json_quote(sn_str_from(value), out) : r;
}

static int put_texts(struct sn_buf *out, const char *const pairs[][2], size_t n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		r = put_text(out, pairs[i][0], pairs[i][1]);
		if (r == 0)
			r = sn__buf_puts(out, ",");
	}
	return r;
}

static int put_attempt(struct sn_buf *out, const struct sn_attempt *at)
{
	const char *const texts[][2] = {
			{"peer", at->peer},
			{"phase", sn__phase_name(at->phase)},
			{"code", sn_code_name(at->code)},
			{"detail", at->detail},
			{"decision", at->decision},
	};
	int r = sn__buf_puts(out, "{");

	if (r == 0)
		r = put_texts(out, texts, SN_COUNT(texts));
	if (r == 0)
		r = sn__buf_printf(out, "\"foreign\":%d,\"start_ms\":%.3f,\"duration_ms\":%.3f}",
				at->foreign, (double)at->start_ns / 1e6,
				(double)at->duration_ns / 1e6);
	return r;
}

static int put_record(struct sn_buf *out, const struct sn_record *rec)
{
	char id[SN_CALL_ID_SIZE];
	const char *const texts[][2] = {
			{"id", id},
			{"target", rec->target},
			{"what", rec->what},
			{"peer", rec->peer},
			{"code", sn_code_name(rec->code)},
			{"text", rec->text},
	};
	int r = sn__buf_puts(out, "{");

	sn__call_id_text(rec->id, id);
	if (r == 0)
		r = put_texts(out, texts, SN_COUNT(texts));
	if (r == 0)
		r = sn__buf_printf(out,
				"\"made\":%u,\"wall_ms\":%llu,\"duration_ms\":%.3f,"
				"\"attempts\":[",
				rec->attempts, (unsigned long long)(rec->wall_ns / 1000000),
				(double)rec->duration_ns / 1e6);
	for (uint32_t i = 0; r == 0 && i < rec->n_attempts; i++) {
		r = i > 0 ? sn__buf_puts(out, ",") : 0;
		if (r == 0)
			r = put_attempt(out, &rec->attempts_kept[i]);
	}
	return r == 0 ? sn__buf_puts(out, "]}") : r;
}

/* ---- answers ---- */

struct listing {
	const struct sn_admin_request *req;
	struct sn_buf out;
	unsigned n;
	int r;
};

static int put_one(struct listing *l, const struct sn_record *rec)
{
	return l->req->text ? sn__record_print(rec, &l->out) : put_record(&l->out, rec);
}

static bool add_record(const struct sn_record *rec, void *arg)
{
	struct listing *l = arg;

	if (l->req->failed && rec->code == 0)
		return true;
	if (l->n++ > 0)
		l->r = sn__buf_puts(&l->out, l->req->text ? "\n" : ",");
	if (l->r == 0)
		l->r = put_one(l, rec);
	return l->r == 0 && l->n < l->req->limit;
}

static void answer(struct sn_exchange *x, struct listing *l)
{
	if (l->r < 0)
		sn__admin_error(x, l->r, NULL);
	else
		sn__admin_text(x, 200,
				l->req->text ? "text/plain; charset=utf-8" : "application/json",
				sn__buf_str(&l->out));
	sn__buf_finish(&l->out);
}

static void listed(struct sn_admin *a, struct sn_exchange *x, struct listing *l)
{
	bool json = !l->req->text;

	if (json)
		l->r = sn__buf_puts(&l->out, "[");
	if (l->r == 0)
		sn__recorder_each(a->rt->recorder, add_record, l);
	if (json && l->r == 0)
		l->r = sn__buf_puts(&l->out, "]");
	answer(x, l);
}

static bool first_record(const struct sn_record *rec, void *arg)
{
	struct sn_record **found = arg;

	if (*found == NULL)
		return false;
	**found = *rec;
	*found = NULL;
	return false;
}

/* The call with the id, or the newest story. */
static int find(struct sn_admin *a, const struct sn_admin_request *req, struct sn_record *ret_rec,
		struct sn_error *err)
{
	struct sn_record *place = ret_rec;

	if (!req->last)
		return sn__recorder_find(a->rt->recorder, req->id, ret_rec, err);
	sn__recorder_each(a->rt->recorder, first_record, &place);
	return place == NULL ? 0 : sn__error_set(err, SN_E_NOT_FOUND, "no call is recorded");
}

void sn__admin_get_why(
		struct sn_admin *a, struct sn_exchange *x, const struct sn_admin_request *req)
{
	struct listing l = {.req = req};
	SN_AUTO_FREE struct sn_record *rec = NULL;
	struct sn_error err;
	int r;

	sn__buf_init(&l.out, ANSWER_MAX);
	if (req->id == 0 && !req->last) {
		listed(a, x, &l);
		return;
	}
	rec = sn__malloc(sizeof(*rec));
	r = rec != NULL ? find(a, req, rec, &err)
			: sn__error_set(&err, SN_E_NOMEM, "out of memory");
	if (r < 0) {
		sn__admin_error(x, r, &err);
		return;
	}
	l.r = put_one(&l, rec);
	answer(x, &l);
}
