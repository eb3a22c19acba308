/* SPDX-License-Identifier: Apache-2.0 */
/* What the admin API tells of the registry and of the mesh: peers, policies, breakers, targets. */
#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "mesh/admin_impl.h"
#include "mesh/call.h"
#include "mesh/target.h"

#define TARGETS_MAX (256u << 20) /* bytes of one listing */

static int target_of(struct sn_admin *a, const struct sn_admin_request *req,
		struct sn_target **ret_target, struct sn_error *err)
{
	struct sn_api_target t;
	int r = sn__api_target(req->kind, req->name, req->endpoint, &t, err);

	if (r == 0)
		r = sn__catalog_look_up(a->rt->catalog, t.kind, t.name, t.endpoint, ret_target);
	if (r == 0 && *ret_target == NULL)
		r = sn__error_set(err, SN_E_NOT_FOUND, "there is no %s %s", req->kind, req->name);
	return r;
}

/* ---- peers ---- */

struct listing {
	json_t *doc;
	int r;
};

static int set_new(json_t *object, const char *key, json_t *value)
{
	return json_object_set_new(object, key, value) < 0 ? SN_E_NOMEM : 0;
}

/* A version's peers, secrets masked. */
static int peers_json(const struct sn_peers *peers, json_t **ret_json)
{
	const char *text = sn__peers_json(peers);
	json_t *all = NULL;
	int r = SN_E_NOMEM;

	/* It was JSON before: only memory can be missing, whatever jansson says. */
	if (text != NULL && sn__json_parse(sn_str_from(text), SIZE_MAX, &all, NULL) == 0)
		r = sn__json_redact(all, ret_json);
	json_decref(all);
	return r;
}

static int add_path(struct sn_str path, const struct sn_peers *value, void *arg)
{
	struct listing *l = arg;
	json_t *peers = NULL;
	char *key = sn__strndup(path.ptr, path.len);
	int r = key != NULL ? peers_json(value, &peers) : SN_E_NOMEM;

	if (r == 0)
		r = set_new(l->doc, key, peers);
	sn__free(key);
	return r;
}

static void all_peers(struct sn_admin *a, struct sn_exchange *x)
{
	struct listing l = {.doc = json_object()};
	int r = l.doc == NULL
			? SN_E_NOMEM
			: sn__catalog_each_path(a->rt->catalog, SN_SECTION_PEERS, add_path, &l);

	if (r == 0) {
		sn__admin_json(x, 200, l.doc);
		return;
	}
	json_decref(l.doc);
	sn__admin_error(x, r, NULL);
}

void sn__admin_get_peers(
		struct sn_admin *a, struct sn_exchange *x, const struct sn_admin_request *req)
{
	struct sn_target *target = NULL;
	const struct sn_peers *peers = NULL;
	struct sn_error err;
	json_t *doc = NULL;
	int r;

	if (req->kind == NULL) {
		all_peers(a, x);
		return;
	}
	r = target_of(a, req, &target, &err);
	if (r == 0)
		peers = sn__target_peers(target);
	if (peers != NULL)
		r = peers_json(peers, &doc);
	if (r < 0)
		sn__admin_error(x, r, r == SN_E_NOMEM ? NULL : &err);
	else
		sn__admin_json(x, 200, doc != NULL ? doc : json_null());
}

/* ---- breakers ---- */

static void add_peer(const struct sn_target *t, const struct sn_peer_stat *s, void *arg)
{
	struct listing *l = arg;
	json_t *peer;

	if (l->r < 0)
		return;
	peer = json_pack("{s:s, s:s, s:s, s:i, s:s, s:i, s:f, s:I, s:I}", "target",
			sn__target_text(t), "peer", s->identity, "address", s->address, "port",
			(int)s->port, "breaker", s->breaker, "inflight", (int)s->inflight,
			"cost_ms", (double)s->cost_ns / 1e6, "calls", (json_int_t)s->calls,
			"failures", (json_int_t)s->failures);
	if (peer == NULL || json_array_append_new(l->doc, peer) < 0)
		l->r = SN_E_NOMEM;
}

void sn__admin_get_breakers(
		struct sn_admin *a, struct sn_exchange *x, const struct sn_admin_request *req)
{
	struct listing l = {.doc = json_array()};
	struct sn_target *target = NULL;
	struct sn_error err;

	if (l.doc == NULL)
		l.r = sn__error_set(&err, SN_E_NOMEM, "out of memory");
	else if (req->kind != NULL)
		l.r = target_of(a, req, &target, &err);
	if (l.r == 0)
		sn__mesh_each_peer(a->rt->mesh, target, add_peer, &l);
	if (l.r == 0) {
		sn__admin_json(x, 200, l.doc);
		return;
	}
	json_decref(l.doc);
	sn__admin_error(x, l.r, l.r == SN_E_NOMEM ? NULL : &err);
}

int sn__admin_force(struct sn_admin *a, const struct sn_admin_request *req, struct sn_str body,
		struct sn_error *err)
{
	static const char *const states[] = {"auto", "open", "close", NULL};
	SN_AUTO_JSON json_t *doc = NULL;
	struct sn_target *target;
	const char *state, *peer;
	int i = 0, r = sn__json_parse(body, SN_ADMIN_BODY_MAX, &doc, err);

	if (r < 0)
		return r;
	state = sn__json_str(sn__json_get(doc, "state"));
	peer = sn__json_str(sn__json_get(doc, "peer"));
	while (state != NULL && states[i] != NULL && strcmp(states[i], state) != 0)
		i++;
	if (state == NULL || states[i] == NULL)
		return sn__error_set(err, SN_E_INVALID, "state must be open, close or auto");
	r = target_of(a, req, &target, err);
	if (r < 0)
		return r;
	r = sn__mesh_breaker_force(a->rt->mesh, target, peer, (enum sn_breaker_force)i);
	if (r == SN_E_NOT_FOUND)
		return sn__error_set(err, r, "%s has no peer %s", sn__target_text(target), peer);
	return r < 0 ? sn__error_set(err, r, "%s", sn_strerror(r)) : 0;
}

/* ---- policies ---- */

/* {name: {"value", ...}} with the values of secret names masked. */
static int mask_values(json_t *doc)
{
	const char *name;
	json_t *entry;

	json_object_foreach(doc, name, entry)
	{
		if (sn__is_secret_name(sn_str_from(name)) &&
				!json_is_null(json_object_get(entry, "value")) &&
				json_object_set_new(entry, "value", json_string("***")) < 0)
			return SN_E_NOMEM;
	}
	return 0;
}

void sn__admin_get_policies(
		struct sn_admin *a, struct sn_exchange *x, const struct sn_admin_request *req)
{
	struct sn_api_target t;
	struct sn_paths paths;
	struct sn_error err;
	json_t *doc = NULL;
	int r;

	if (req->kind != NULL) {
		r = sn__api_target(req->kind, req->name, req->endpoint, &t, &err);
		if (r < 0) {
			sn__admin_error(x, r, &err);
			return;
		}
		sn__policies_paths(a->rt->policies, t.kind, t.name, t.endpoint, &paths);
	}
	r = sn__policies_explain(a->rt->policies, req->kind != NULL ? &paths : NULL,
			SN_DIALECT_BERLIOZ, &doc);
	if (r == 0)
		r = mask_values(doc);
	if (r == 0) {
		sn__admin_json(x, 200, doc);
		return;
	}
	json_decref(doc);
	sn__admin_error(x, r, NULL);
}

/* ---- targets: what `sinew top` shows ---- */

struct breakers {
	int open, half_open;
};

static void count_breaker(const struct sn_target *t, const struct sn_peer_stat *s, void *arg)
{
	struct breakers *b = arg;

	if (strcmp(s->breaker, "half-open") == 0)
		b->half_open++;
	else if (strcmp(s->breaker, "open") == 0 || strcmp(s->breaker, "forced open") == 0)
		b->open++;
}

/* Written by hand: `sinew top` asks every second, and there may be thousands. `buckets`: counts of the
 * buckets of sinew_call_seconds; what is missing to `timed` took longer than the last bound. */
static int put_target(struct sn_buf *out, struct sn_mesh_target *mt)
{
	uint64_t now_ns = sn__loop_now_ns(mt->mesh->loop);
	const struct sn_policy *p = sn_mesh_target_policy(mt, SN_DIALECT_CORE);
	const struct sn_peers *peers = sn__target_peers(mt->target);
	struct sn_target_counts c;
	struct breakers b = {0};
	int r = sn__buf_puts(out, "{\"target\":");

	sn__account_counts(mt, &c);
	sn__mesh_target_each_peer(mt, count_breaker, &b);
	if (r == 0)
		r = sn__json_quote(sn_str_from(sn__target_text(mt->target)), out);
	if (r == 0)
		r = sn__buf_printf(out,
				",\"peers\":%u,\"open\":%d,\"half_open\":%d,\"inflight\":%u,"
				"\"pending\":%u,\"calls\":%" PRIu64 ",\"timed\":%" PRIu64
				",\"failed\":%" PRIu64 ",\"attempts\":%" PRIu64
				",\"retries\":%" PRIu64 ",\"tokens\":%.3f,\"seconds\":%.6f,"
				"\"buckets\":[",
				peers != NULL ? peers->n : 0, b.open, b.half_open, mt->inflight,
				mt->n_pending, c.calls, c.timed, c.failed, c.attempts,
				c.attempts > c.calls ? c.attempts - c.calls : 0,
				sn__budget_tokens(&mt->budget, p->retry_budget, p->retry_budget_min,
						now_ns),
				c.seconds);
	for (unsigned i = 0; r == 0 && i < SN_METRICS_BUCKETS; i++)
		r = sn__buf_printf(out, i > 0 ? ",%" PRIu64 : "%" PRIu64, c.buckets[i]);
	return r == 0 ? sn__buf_puts(out, "]}") : r;
}

static int put_targets(struct sn_admin *a, struct sn_buf *out)
{
	const char *comma = "";
	int r = sn__buf_puts(out, "{\"name\":");

	if (r == 0)
		r = sn__json_quote(sn_str_from(a->name), out);
	if (r == 0)
		r = sn__buf_printf(out, ",\"wall_ms\":%" PRIu64 ",\"targets\":[",
				sn__loop_wall_ns(a->rt->loop) / 1000000);
	SN_LIST_FOREACH (pos, &a->rt->mesh->targets) {
		if (r == 0)
			r = sn__buf_puts(out, comma);
		if (r == 0)
			r = put_target(out, SN_CONTAINER_OF(pos, struct sn_mesh_target, link));
		comma = ",";
	}
	return r == 0 ? sn__buf_puts(out, "]}") : r;
}

void sn__admin_get_targets(
		struct sn_admin *a, struct sn_exchange *x, const struct sn_admin_request *req)
{
	struct sn_buf out;
	int r;

	sn__buf_init(&out, TARGETS_MAX);
	r = put_targets(a, &out);
	if (r == 0)
		sn__admin_text(x, 200, "application/json", sn__buf_str(&out));
	else
		sn__admin_error(x, r, NULL);
	sn__buf_finish(&out);
}
