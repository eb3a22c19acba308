/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /peers/...: the peers of a target as JSON, and with ?watch a line of it for each change.
 *
 * A watch remembers only that there is something new. Who reads slowly gets what is true when he reads
 * again, not what he has missed; so one line is all that can wait for him.
 */
#include "base/json.h"
#include "base/mem.h"
#include "mesh/sidecar_impl.h"

struct watch {
	struct sn_list link; /* sn_sidecar.watches */
	struct sn_sidecar *side;
	struct sn_exchange *x;
	struct sn_target_monitor monitor;
	uint64_t version; /* of the last line; 0: none, or null */
	bool stale;       /* there may be a newer one */
	bool full;        /* the client has to read first */
};

/* @peers as one line, secrets masked. */
static int put_line(const struct sn_peers *peers /* may be NULL */, struct sn_buf *out)
{
	const char *text = peers != NULL ? sn__peers_json(peers) : "null";
	SN_AUTO_JSON json_t *all = NULL;
	SN_AUTO_JSON json_t *shown = NULL;
	int r;

	if (text == NULL)
		return SN_E_NOMEM;
	if (peers == NULL)
		return sn__buf_puts(out, "null\n");
	r = sn__json_parse(sn_str_from(text), SIZE_MAX, &all, NULL);
	if (r == 0)
		r = sn__json_redact(all, &shown);
	if (r == 0)
		r = sn__json_dump(shown, out);
	return r < 0 ? r : sn__buf_puts(out, "\n");
}

/* ---- watching ---- */

static void watch_write(struct watch *w)
{
	const struct sn_peers *peers = sn__target_peers(w->monitor.target);
	struct sn_buf line;
	int r;

	w->version = peers != NULL ? peers->version : 0;
	sn__buf_init(&line, SIZE_MAX / 2);
	r = put_line(peers, &line);
	if (r == 0)
		r = sn_exchange_write(w->x, sn__buf_data(&line), line.len);
	sn__buf_finish(&line);
	w->stale = false;
	w->full = r == SN_E_AGAIN;
	if (r < 0 && r != SN_E_AGAIN)
		sn_exchange_abort(w->x); /* rather than a change that nobody hears of */
}

/* The first time it may be told what stands in the first line. */
static void on_change(struct sn_target_monitor *m, const struct sn_peers *peers)
{
	struct watch *w = SN_CONTAINER_OF(m, struct watch, monitor);

	w->stale = w->version != (peers != NULL ? peers->version : 0);
	if (w->stale && !w->full)
		watch_write(w);
}

static void on_drain(struct sn_exchange *x, void *arg)
{
	struct watch *w = arg;

	w->full = false;
	if (w->stale)
		watch_write(w);
}

static void on_close(struct sn_exchange *x, int status, void *arg)
{
	struct watch *w = arg;

	sn__target_monitor_stop(&w->monitor);
	sn_list_remove(&w->link);
	w->side->n_watches--;
	sn__free(w);
}

/* The first line is written at once, those of changes follow. */
static void watch_open(struct sn_sidecar *side, struct sn_exchange *x, struct sn_target *target)
{
	static const struct sn_header headers[] = {
			{"Content-Type", "application/x-ndjson"}, {"Cache-Control", "no-store"}};
	struct watch *w;

	if (side->n_watches >= SN_WATCHES_MAX) {
		sn__sidecar_refuse(side, x, 503, "too many watch peers already");
		return;
	}
	w = sn__calloc(1, sizeof(*w));
	if (w == NULL || sn_exchange_start(x, 200, headers, SN_COUNT(headers), -1) < 0) {
		sn__free(w);
		sn__sidecar_refuse(side, x, 500, "out of memory");
		return;
	}
	w->side = side;
	w->x = x;
	side->n_watches++;
	sn_list_push_back(&side->watches, &w->link);
	sn_exchange_on_close(x, on_close, w);
	sn_exchange_on_drain(x, on_drain, w);
	sn__target_monitor_start(target, &w->monitor, on_change);
	sn__sidecar_answered(side, x, 200);
	watch_write(w);
}

void sn__sidecar_unwatch(struct sn_sidecar *side)
{
	SN_LIST_FOREACH (pos, &side->watches) {
		struct watch *w = SN_CONTAINER_OF(pos, struct watch, link);

		sn__target_monitor_stop(&w->monitor);
		w->stale = false;
		if (sn_exchange_end(w->x, NULL, 0) < 0)
			sn_exchange_abort(w->x);
	}
}

/* ---- once ---- */

static void answer(struct sn_sidecar *side, struct sn_exchange *x,
		struct sn_target *target /* may be NULL */)
{
	static const struct sn_header headers[] = {
			{"Content-Type", "application/json"}, {"Cache-Control", "no-store"}};
	struct sn_buf line;
	int r;

	sn__buf_init(&line, SIZE_MAX / 2);
	r = put_line(target != NULL ? sn__target_peers(target) : NULL, &line);
	if (r == 0)
		r = sn_exchange_respond(
				x, 200, headers, SN_COUNT(headers), sn__buf_data(&line), line.len);
	if (r < 0)
		sn__sidecar_refuse(side, x, 500, "out of memory");
	else
		sn__sidecar_answered(side, x, 200);
	sn__buf_finish(&line);
}

void sn__sidecar_peers(struct sn_sidecar *side, struct sn_exchange *x, const char *path)
{
	bool head = strcmp(sn_exchange_method(x), "HEAD") == 0;
	bool watches = sn__query_has(sn_exchange_query(x), "watch") && !head;
	struct sn_target *target = NULL;
	struct sn_error err = {.text = "the peers cannot be read"};
	struct sn_api_target t;
	struct sn_side_place p;
	int r;

	if (!head && strcmp(sn_exchange_method(x), "GET") != 0) {
		sn__sidecar_refuse(side, x, 405, "peers are read with GET");
		return;
	}
	if (!sn__place_read(path, &p) || p.n < 2 || strcmp(p.rest, "/") != 0) {
		sn__sidecar_refuse(side, x, 400, "peers are at /peers/KIND/NAME[/ENDPOINT]");
		return;
	}
	r = sn__sidecar_target(&p, &t, &err);
	/* Only who watches makes a target of a name that nobody has. */
	if (r == 0 && watches)
		r = sn__catalog_target(side->rt->catalog, t.kind, t.name, t.endpoint, &target);
	else if (r == 0)
		r = sn__catalog_look_up(side->rt->catalog, t.kind, t.name, t.endpoint, &target);
	if (r < 0)
		sn__sidecar_refuse(side, x, sn__proxy_status_of(r), err.text);
	else if (watches)
		watch_open(side, x, target);
	else
		answer(side, x, target);
}
