/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/admin_api.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "mesh/api.h"
#include "mesh/call.h"
#include "mesh/target.h"
#include "proto/url.h"

#define METRICS_MAX (64u << 20) /* bytes of one rendering */
#define BODY_MAX (64u << 10)    /* of a request that changes something */
#define STORIES_MAX 100         /* in one listing */

struct sn_admin {
	struct sn_hosted hosted;
	struct sn_runtime *rt;
	char *name, *token;
	bool token_for_reads;
	json_t *config; /* redacted */
};

/* ---- answers ---- */

static void answer_text(
		struct sn_exchange *x, unsigned status, const char *type, struct sn_str text)
{
	const struct sn_header headers[] = {{"Content-Type", type}, {"Cache-Control", "no-store"}};

	if (sn_exchange_respond(x, status, headers, SN_COUNT(headers), text.ptr, text.len) < 0)
		sn_exchange_abort(x);
}

/* Takes the reference; NULL: out of memory. */
static void answer_json(struct sn_exchange *x, unsigned status, json_t *doc)
{
	char *text = doc != NULL ? sn__json_text(doc) : NULL;

	json_decref(doc);
	if (text == NULL)
		answer_text(x, 500, "text/plain", SN_STR("out of memory\n"));
	else
		answer_text(x, status, "application/json", sn_str_from(text));
	sn__free(text);
}

/* RFC 9457. */
static void answer_problem(struct sn_exchange *x, unsigned status, const char *detail)
{
	json_t *doc = json_pack("{s:s, s:i, s:s}", "title", sn__http_reason(status), "status",
			(int)status, "detail", detail);
	char *text = doc != NULL ? sn__json_text(doc) : NULL;

	json_decref(doc);
	answer_text(x, status, "application/problem+json",
			text != NULL ? sn_str_from(text) : SN_STR("{}"));
	sn__free(text);
}

static unsigned status_of(int code)
{
	switch (code) {
	case SN_E_NOT_FOUND:
		return 404;
	case SN_E_INVALID:
	case SN_E_PARSE:
		return 400;
	case SN_E_CLOSED:
		return 503;
	default:
		return 500;
	}
}

static void answer_error(struct sn_exchange *x, int code, const struct sn_error *err)
{
	answer_problem(x, status_of(code), err != NULL ? sn_error_text(err) : sn_strerror(code));
}

/* ---- targets in paths: /peers/KIND/NAME[/ENDPOINT] ---- */

struct target_path {
	char text[SN_NAME_MAX + 1];
	const char *kind, *name, *endpoint; /* NULL: not given */
};

/* The parts behind @prefix. SN_E_NOT_FOUND: there are none; SN_E_INVALID. */
static int target_path(const char *path, const char *prefix, struct target_path *ret)
{
	const char **parts[] = {&ret->kind, &ret->name, &ret->endpoint};
	const char *rest = path + strlen(prefix);
	char *at;
	size_t n;

	ret->kind = ret->name = ret->endpoint = NULL;
	if (*rest == '\0' || strcmp(rest, "/") == 0)
		return SN_E_NOT_FOUND;
	if (strlen(rest) > SN_NAME_MAX)
		return SN_E_INVALID;
	(void)snprintf(ret->text, sizeof(ret->text), "%s", rest + 1);
	at = ret->text;
	for (unsigned i = 0; at != NULL; i++) {
		char *slash = strchr(at, '/');

		if (i >= SN_COUNT(parts) || *at == '\0')
			return SN_E_INVALID;
		if (slash != NULL)
			*slash++ = '\0';
		if (sn__percent_decode(sn_str_from(at), at, strlen(at), &n) < 0)
			return SN_E_INVALID;
		at[n] = '\0';
		*parts[i] = at;
		at = slash;
	}
	return ret->name != NULL ? 0 : SN_E_INVALID;
}

static int target_of(struct sn_admin *a, const struct target_path *p, struct sn_target **ret_target,
		struct sn_error *err)
{
	struct sn_api_target t;
	int r = sn__api_target(p->kind, p->name, p->endpoint, &t, err);

	if (r == 0)
		r = sn__catalog_look_up(a->rt->catalog, t.kind, t.name, t.endpoint, ret_target);
	if (r == 0 && *ret_target == NULL)
		r = sn__error_set(err, SN_E_NOT_FOUND, "there is no %s %s", p->kind, p->name);
	return r;
}

/* ---- health ---- */

static void get_healthz(struct sn_admin *a, struct sn_exchange *x)
{
	answer_json(x, 200, json_pack("{s:s, s:s}", "status", "ok", "name", a->name));
}

static void get_readyz(struct sn_admin *a, struct sn_exchange *x)
{
	json_t *missing = json_array();
	bool ready;

	SN_LIST_FOREACH (pos, &a->rt->dialects) {
		struct sn_dialect_part *part = SN_CONTAINER_OF(pos, struct sn_dialect_part, link);
		char text[SN_PART_MISSING_MAX];

		if (part->ops->missing != NULL && part->ops->missing(part, text) &&
				json_array_append_new(missing, json_string(text)) < 0) {
			json_decref(missing);
			missing = NULL;
		}
	}
	if (missing == NULL) {
		answer_error(x, SN_E_NOMEM, NULL);
		return;
	}
	ready = json_array_size(missing) == 0;
	answer_json(x, ready ? 200 : 503,
			json_pack("{s:b, s:o}", "ready", ready, "missing", missing));
}

static void get_metrics(struct sn_admin *a, struct sn_exchange *x)
{
	struct sn_buf out;
	int r;

	sn__buf_init(&out, METRICS_MAX);
	r = sn__metrics_render(a->rt->metrics, &out);
	if (r < 0)
		answer_error(x, r, NULL);
	else
		answer_text(x, 200, "text/plain; version=0.0.4; charset=utf-8", sn__buf_str(&out));
	sn__buf_finish(&out);
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
	int r = text != NULL ? sn__json_parse(sn_str_from(text), SIZE_MAX, &all, NULL) : SN_E_NOMEM;

	if (r == 0)
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

static void get_peers(struct sn_admin *a, struct sn_exchange *x)
{
	struct listing l = {.doc = json_object()};
	struct sn_target *target = NULL;
	const struct sn_peers *peers;
	struct target_path p;
	struct sn_error err;
	json_t *doc = NULL;
	int r = target_path(sn_exchange_path(x), "/peers", &p);

	if (r == SN_E_NOT_FOUND) {
		r = l.doc == NULL ? SN_E_NOMEM
				  : sn__catalog_each_path(
						    a->rt->catalog, SN_SECTION_PEERS, add_path, &l);
		if (r == 0)
			answer_json(x, 200, json_incref(l.doc));
		else
			answer_error(x, r, NULL);
		json_decref(l.doc);
		return;
	}
	json_decref(l.doc);
	if (r < 0) {
		answer_problem(x, 400, "a target is /peers/KIND/NAME[/ENDPOINT]");
		return;
	}
	r = target_of(a, &p, &target, &err);
	peers = r == 0 ? sn__target_peers(target) : NULL;
	if (r == 0 && peers != NULL)
		r = peers_json(peers, &doc);
	if (r < 0)
		answer_error(x, r, r == SN_E_NOMEM ? NULL : &err);
	else
		answer_json(x, 200, doc != NULL ? doc : json_null());
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

static void get_breakers(struct sn_admin *a, struct sn_exchange *x)
{
	struct listing l = {.doc = json_array()};

	if (l.doc == NULL)
		l.r = SN_E_NOMEM;
	else
		sn__mesh_each_peer(a->rt->mesh, NULL, add_peer, &l);
	if (l.r < 0) {
		json_decref(l.doc);
		answer_error(x, l.r, NULL);
		return;
	}
	answer_json(x, 200, l.doc);
}

/* {"state": "open|close|auto", "peer": "IDENTITY"} */
static int force_breaker(struct sn_admin *a, const struct target_path *p, struct sn_str body,
		struct sn_error *err)
{
	static const char *const states[] = {"auto", "open", "close", NULL};
	SN_AUTO_JSON json_t *doc = NULL;
	struct sn_target *target;
	const char *state, *peer;
	int i = 0, r = sn__json_parse(body, BODY_MAX, &doc, err);

	if (r < 0)
		return r;
	state = sn__json_str(sn__json_get(doc, "state"));
	peer = sn__json_str(sn__json_get(doc, "peer"));
	while (state != NULL && states[i] != NULL && strcmp(states[i], state) != 0)
		i++;
	if (state == NULL || states[i] == NULL)
		return sn__error_set(err, SN_E_INVALID, "state must be open, close or auto");
	r = target_of(a, p, &target, err);
	if (r < 0)
		return r;
	r = sn__mesh_breaker_force(a->rt->mesh, target, peer, (enum sn_breaker_force)i);
	if (r == SN_E_NOT_FOUND)
		return sn__error_set(err, r, "%s has no peer %s", sn__target_text(target), peer);
	return r < 0 ? sn__error_set(err, r, "%s", sn_strerror(r)) : 0;
}

static void put_breaker(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	struct sn_admin *a = arg;
	struct target_path p;
	struct sn_error err;
	int r;

	if (status < 0)
		return; /* answered, or nobody is there */
	if (target_path(sn_exchange_path(x), "/breakers", &p) < 0) {
		answer_problem(x, 400, "a target is /breakers/KIND/NAME[/ENDPOINT]");
		return;
	}
	r = force_breaker(a, &p, (struct sn_str){body, size}, &err);
	if (r < 0)
		answer_error(x, r, &err);
	else
		answer_json(x, 200, json_pack("{s:b}", "done", true));
}

static void read_breaker(struct sn_admin *a, struct sn_exchange *x)
{
	if (sn_exchange_read_all(x, BODY_MAX, put_breaker, a) < 0)
		sn_exchange_abort(x);
}

/* ---- policies ---- */

static void get_policies(struct sn_admin *a, struct sn_exchange *x)
{
	struct target_path p;
	struct sn_api_target t;
	struct sn_paths paths;
	struct sn_error err;
	json_t *doc = NULL;
	int r = target_path(sn_exchange_path(x), "/policies", &p);
	bool root = r == SN_E_NOT_FOUND;

	if (r == SN_E_INVALID) {
		answer_problem(x, 400, "a target is /policies/KIND/NAME[/ENDPOINT]");
		return;
	}
	if (!root) {
		r = sn__api_target(p.kind, p.name, p.endpoint, &t, &err);
		if (r < 0) {
			answer_error(x, r, &err);
			return;
		}
		sn__policies_paths(a->rt->policies, t.kind, t.name, t.endpoint, &paths);
	}
	r = sn__policies_explain(a->rt->policies, root ? NULL : &paths, SN_DIALECT_BERLIOZ, &doc);
	if (r < 0)
		answer_error(x, r, NULL);
	else
		answer_json(x, 200, doc);
}

/* ---- targets: what `sinew top` shows ---- */

/* Calls by duration: counts of the buckets of sinew_call_seconds, and one for all beyond. */
static json_t *buckets_json(const struct sn_target_counts *c)
{
	json_t *list = json_array();

	for (unsigned i = 0; list != NULL && i < SN_METRICS_BUCKETS; i++) {
		if (json_array_append_new(list, json_integer((json_int_t)c->buckets[i])) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *target_json(struct sn_mesh_target *mt)
{
	uint64_t now_ns = sn__loop_now_ns(mt->mesh->loop);
	const struct sn_policy *p = sn_mesh_target_policy(mt, SN_DIALECT_CORE);
	const struct sn_peers *peers = sn__target_peers(mt->target);
	struct sn_target_counts c;

	sn__account_counts(mt, &c);
	return json_pack("{s:s, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:f, s:f, s:o}", "target",
			sn__target_text(mt->target), "peers", peers != NULL ? (int)peers->n : 0,
			"barred", (int)mt->n_barred, "inflight", (int)mt->inflight, "pending",
			(int)mt->n_pending, "calls", (json_int_t)c.calls, "failed",
			(json_int_t)c.failed, "attempts", (json_int_t)c.attempts, "retries",
			(json_int_t)(c.attempts > c.calls ? c.attempts - c.calls : 0), "tokens",
			sn__budget_tokens(
					&mt->budget, p->retry_budget, p->retry_budget_min, now_ns),
			"seconds", c.seconds, "buckets", buckets_json(&c));
}

static int add_target(json_t *list, struct sn_mesh_target *mt)
{
	json_t *one = target_json(mt);

	return one == NULL || json_array_append_new(list, one) < 0 ? SN_E_NOMEM : 0;
}

static void get_targets(struct sn_admin *a, struct sn_exchange *x)
{
	json_t *list = json_array();
	int r = list != NULL ? 0 : SN_E_NOMEM;

	SN_LIST_FOREACH (pos, &a->rt->mesh->targets) {
		if (r == 0)
			r = add_target(list, SN_CONTAINER_OF(pos, struct sn_mesh_target, link));
	}
	if (r < 0) {
		json_decref(list);
		answer_error(x, r, NULL);
		return;
	}
	answer_json(x, 200,
			json_pack("{s:s, s:I, s:o}", "name", a->name, "wall_ms",
					(json_int_t)(sn__loop_wall_ns(a->rt->loop) / 1000000),
					"targets", list));
}

/* ---- why ---- */

static json_t *attempts_json(const struct sn_record *rec)
{
	json_t *list = json_array();

	for (uint32_t i = 0; list != NULL && i < rec->n_attempts; i++) {
		const struct sn_attempt *at = &rec->attempts_kept[i];
		json_t *one = json_pack("{s:s, s:s, s:s, s:i, s:s, s:f, s:f, s:s}", "peer",
				at->peer, "phase", sn__phase_name(at->phase), "code",
				sn_code_name(at->code), "foreign", at->foreign, "detail",
				at->detail, "start_ms", (double)at->start_ns / 1e6, "duration_ms",
				(double)at->duration_ns / 1e6, "decision", at->decision);

		if (one == NULL || json_array_append_new(list, one) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *record_json(const struct sn_record *rec)
{
	char id[SN_CALL_ID_SIZE];
	json_t *attempts = attempts_json(rec);

	if (attempts == NULL)
		return NULL;
	sn__call_id_text(rec->id, id);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:I, s:f, s:o}", "id", id, "target",
			rec->target, "what", rec->what, "peer", rec->peer, "code",
			sn_code_name(rec->code), "text", rec->text, "made", (int)rec->attempts,
			"wall_ms", (json_int_t)(rec->wall_ns / 1000000), "duration_ms",
			(double)rec->duration_ns / 1e6, "attempts", attempts);
}

static bool add_record(const struct sn_record *rec, void *arg)
{
	struct listing *l = arg;
	json_t *one = record_json(rec);

	if (one == NULL || json_array_append_new(l->doc, one) < 0)
		l->r = SN_E_NOMEM;
	return l->r == 0 && json_array_size(l->doc) < STORIES_MAX;
}

/* "?text": as `sinew why` prints it. */
static void answer_record(struct sn_exchange *x, const struct sn_record *rec)
{
	struct sn_buf out;

	if (strcmp(sn_exchange_query(x), "text") != 0) {
		answer_json(x, 200, record_json(rec));
		return;
	}
	sn__buf_init(&out, BODY_MAX);
	if (sn__record_print(rec, &out) < 0)
		answer_error(x, SN_E_NOMEM, NULL);
	else
		answer_text(x, 200, "text/plain; charset=utf-8", sn__buf_str(&out));
	sn__buf_finish(&out);
}

static void get_why(struct sn_admin *a, struct sn_exchange *x)
{
	const char *rest = sn_exchange_path(x) + strlen("/why");
	SN_AUTO_FREE struct sn_record *rec = NULL;
	struct listing l = {0};
	struct sn_error err;
	uint64_t id;
	int r;

	if (*rest == '\0' || strcmp(rest, "/") == 0) {
		l.doc = json_array();
		if (l.doc == NULL)
			l.r = SN_E_NOMEM;
		else
			sn__recorder_each(a->rt->recorder, add_record, &l);
		if (l.r == 0)
			answer_json(x, 200, json_incref(l.doc));
		else
			answer_error(x, l.r, NULL);
		json_decref(l.doc);
		return;
	}
	if (sn__call_id_parse(sn_str_from(rest + 1), &id) < 0) {
		answer_problem(x, 400, "a call id has 16 hexadecimal digits");
		return;
	}
	rec = sn__malloc(sizeof(*rec));
	if (rec == NULL) {
		answer_error(x, SN_E_NOMEM, NULL);
		return;
	}
	r = sn__recorder_find(a->rt->recorder, id, rec, &err);
	if (r < 0)
		answer_error(x, r, &err);
	else
		answer_record(x, rec);
}

static void get_config(struct sn_admin *a, struct sn_exchange *x)
{
	answer_json(x, 200, a->config != NULL ? json_incref(a->config) : json_object());
}

/* ---- routes ---- */

struct route {
	const char *method, *path;
	bool below; /* also what stands below the path */
	void (*fn)(struct sn_admin *a, struct sn_exchange *x);
};

static const struct route routes[] = {
		{"GET", "/healthz", false, get_healthz},
		{"GET", "/readyz", false, get_readyz},
		{"GET", "/metrics", false, get_metrics},
		{"GET", "/peers", true, get_peers},
		{"GET", "/policies", true, get_policies},
		{"GET", "/breakers", false, get_breakers},
		{"PUT", "/breakers", true, read_breaker},
		{"GET", "/targets", false, get_targets},
		{"GET", "/why", true, get_why},
		{"GET", "/config", false, get_config},
};

static bool route_fits(const struct route *r, const char *path)
{
	size_t n = strlen(r->path);

	return strncmp(r->path, path, n) == 0 && (path[n] == '\0' || (r->below && path[n] == '/'));
}

static void handle(struct sn_exchange *x, void *arg)
{
	struct sn_admin *a = arg;
	const char *method = sn_exchange_method(x);
	bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
	bool known = false;

	if (a->token != NULL && (!reads || a->token_for_reads) && !sn__bearer_fits(x, a->token)) {
		answer_problem(x, 401, "this needs \"Authorization: Bearer TOKEN\"");
		return;
	}
	for (size_t i = 0; i < SN_COUNT(routes); i++) {
		if (!route_fits(&routes[i], sn_exchange_path(x)))
			continue;
		known = true;
		if (strcmp(routes[i].method, reads ? "GET" : method) == 0) {
			routes[i].fn(a, x);
			return;
		}
	}
	answer_problem(x, known ? 405 : 404, known ? "no such method here" : "no such route");
}

/* ---- the whole ---- */

static void admin_free(struct sn_hosted *hosted)
{
	struct sn_admin *a = SN_CONTAINER_OF(hosted, struct sn_admin, hosted);

	json_decref(a->config);
	if (a->token != NULL)
		explicit_bzero(a->token, strlen(a->token));
	sn__free(a->token);
	sn__free(a->name);
	sn__free(a);
}

struct listening {
	struct sn_hosting how;
	const struct sn_admin_options *opts;
};

static int admin_fill(struct sn_admin *a, const struct sn_admin_options *opts)
{
	a->name = sn__strdup(opts->name != NULL ? opts->name : "sinew");
	if (opts->token != NULL)
		a->token = sn__strdup(opts->token);
	if (a->name == NULL || (opts->token != NULL && a->token == NULL))
		return SN_E_NOMEM;
	return opts->config != NULL ? sn__json_redact(opts->config, &a->config) : 0;
}

static int admin_make(struct sn_hosting *how, struct sn_hosted **ret_hosted, struct sn_error *err)
{
	struct listening *l = SN_CONTAINER_OF(how, struct listening, how);
	struct sn_admin *a = sn__calloc(1, sizeof(*a));

	if (a == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	if (admin_fill(a, l->opts) < 0) {
		admin_free(&a->hosted);
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	}
	a->rt = how->rt;
	a->token_for_reads = !sn__addr_is_loopback(&how->config.addr);
	a->hosted.free = admin_free;
	how->arg = a;
	*ret_hosted = &a->hosted;
	return 0;
}

int sn__admin_listen(
		struct sn_runtime *rt, const struct sn_admin_options *opts, struct sn_error *err)
{
	struct listening l = {
			.how = {.listen = opts->listen, .handler = handle, .make = admin_make},
			.opts = opts,
	};
	struct sn_hosted *hosted;

	l.how.config.check_origin = true;
	l.how.config.max_body = BODY_MAX;
	return sn__hosted_open(rt, &l.how, &hosted, err);
}
