/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/admin_api.h"

#include "base/json.h"
#include "base/mem.h"
#include "mesh/admin_impl.h"
#include "mesh/metrics.h"

#define METRICS_MAX (64u << 20) /* bytes of one rendering */

/* ---- answers ---- */

/* What 405 must say beside its text (RFC 9110). */
static const char *allowed(const struct sn_exchange *x)
{
	const char *path = sn_exchange_path(x);

	if (strncmp(path, "/breakers", 9) == 0)
		return "GET, HEAD, PUT";
	return strncmp(path, "/drain", 6) == 0 ? "POST" : "GET, HEAD";
}

void sn__admin_text(struct sn_exchange *x, unsigned status, const char *type, struct sn_str text)
{
	const struct sn_header headers[] = {
			status == 401 ? (struct sn_header){"WWW-Authenticate", "Bearer"}
				      : (struct sn_header){"Allow", allowed(x)},
			{"Content-Type", type},
			{"Cache-Control", "no-store"},
			{"X-Content-Type-Options", "nosniff"},
			/* the console is the only thing that is shown: its own style and script */
			{"Content-Security-Policy",
					"default-src 'none'; connect-src 'self'; "
					"style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
					"frame-ancestors 'none'"},
	};

	unsigned skip = status != 401 && status != 405; /* the first one */

	if (sn_exchange_respond(x, status, headers + skip, SN_COUNT(headers) - skip, text.ptr,
			    text.len) < 0)
		sn_exchange_abort(x);
}

static void answer_problem(struct sn_exchange *x, unsigned status, const char *detail)
{
	struct sn_buf out;
	int r;

	sn__buf_init(&out, SN_ADMIN_BODY_MAX);
	r = sn__buf_printf(&out,
			"{\"title\":\"%s\",\"status\":%u,\"detail\":", sn__http_reason(status),
			status);
	if (r == 0)
		r = sn__json_quote(sn_str_from(detail), &out);
	if (r == 0)
		r = sn__buf_puts(&out, "}");
	sn__admin_text(x, status, "application/problem+json",
			r == 0 ? sn__buf_str(&out) : SN_STR("{}"));
	sn__buf_finish(&out);
}

void sn__admin_json(struct sn_exchange *x, unsigned status, json_t *doc)
{
	char *text = doc != NULL ? sn__json_text(doc) : NULL;

	json_decref(doc);
	if (text == NULL)
		answer_problem(x, 500, "out of memory");
	else
		sn__admin_text(x, status, "application/json", sn_str_from(text));
	sn__free(text);
}

static unsigned status_of(int code)
{
	switch (code) {
	case SN_E_NOT_FOUND:
		return 404;
	case SN_E_NOTSUP:
		return 405;
	case SN_E_INVALID:
	case SN_E_PARSE:
	case SN_E_LIMIT:
		return 400;
	case SN_E_CLOSED:
		return 503;
	default:
		return 500;
	}
}

void sn__admin_error(struct sn_exchange *x, int code, const struct sn_error *err)
{
	answer_problem(x, status_of(code), err != NULL ? sn_error_text(err) : sn_strerror(code));
}

/* ---- health ---- */

static void get_healthz(struct sn_admin *a, struct sn_exchange *x)
{
	sn__admin_json(x, 200, json_pack("{s:s, s:s}", "status", "ok", "name", a->name));
}

static void get_readyz(struct sn_admin *a, struct sn_exchange *x)
{
	json_t *missing = a->rt->draining ? json_pack("[s]", "draining") : json_array();
	char text[SN_PART_MISSING_MAX];
	int r = missing == NULL ? -1 : 0;
	bool ready;

	SN_LIST_FOREACH (pos, &a->rt->dialects) {
		struct sn_dialect_part *part = SN_CONTAINER_OF(pos, struct sn_dialect_part, link);

		if (r == 0 && part->ops->missing != NULL && part->ops->missing(part, text))
			r = json_array_append_new(missing, json_string(text));
	}
	SN_LIST_FOREACH (pos, &a->rt->servers) {
		struct sn_hosted *hosted = SN_CONTAINER_OF(pos, struct sn_hosted, link);

		if (r == 0 && hosted->missing != NULL && hosted->missing(hosted, text))
			r = json_array_append_new(missing, json_string(text));
	}
	if (r != 0) {
		json_decref(missing);
		sn__admin_error(x, SN_E_NOMEM, NULL);
		return;
	}
	ready = json_array_size(missing) == 0;
	sn__admin_json(x, ready ? 200 : 503,
			json_pack("{s:b, s:o}", "ready", ready, "missing", missing));
}

static void get_metrics(struct sn_admin *a, struct sn_exchange *x)
{
	struct sn_buf out;
	int r;

	sn__buf_init(&out, METRICS_MAX);
	r = sn__metrics_render(a->rt->metrics, &out);
	if (r < 0)
		sn__admin_error(x, r, NULL);
	else
		sn__admin_text(x, 200, "text/plain; version=0.0.4; charset=utf-8",
				sn__buf_str(&out));
	sn__buf_finish(&out);
}

/* ---- the file ---- */

static void get_config(
		struct sn_admin *a, struct sn_exchange *x, const struct sn_admin_request *req)
{
	const char *text = req->origin ? a->origins : a->config;

	sn__admin_text(x, 200, "application/json", text != NULL ? sn_str_from(text) : SN_STR("{}"));
}

/* ---- what changes something ---- */

static void on_force(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	struct sn_admin *a = arg;
	struct sn_admin_request req;
	struct sn_error err;
	int r;

	if (status < 0)
		return; /* answered, or nobody is there */
	r = sn__admin_request_parse(sn_exchange_method(x), sn_exchange_path(x),
			sn_exchange_query(x), &req, &err);
	if (r == 0)
		r = sn__admin_force(a, &req, (struct sn_str){body, size}, &err);
	if (r < 0)
		sn__admin_error(x, r, &err);
	else
		sn__admin_json(x, 200, json_pack("{s:b}", "done", true));
}

static void begin_drain(struct sn_exchange *x, int status, void *arg)
{
	struct sn_admin *a = arg;

	sn__runtime_drain(a->rt);
}

/* Behind its answer: what follows may be our end. */
static void post_drain(struct sn_admin *a, struct sn_exchange *x)
{
	if (a->rt->on_drain == NULL) {
		answer_problem(x, 501, "this program ends by other means than /drain");
		return;
	}
	sn_exchange_on_close(x, begin_drain, a);
	sn__admin_json(x, 202, json_pack("{s:b}", "draining", true));
}

/* ---- routes ---- */

static bool reads(const struct sn_exchange *x)
{
	const char *method = sn_exchange_method(x);

	return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

/* Why a request is not allowed, as a status; 0: it is. */
static unsigned refused(const struct sn_admin *a, struct sn_exchange *x, const char **ret_detail)
{
	if (a->local ? a->token == NULL || reads(x) : a->loopback && reads(x))
		return 0;
	*ret_detail = "this needs \"Authorization: Bearer TOKEN\"";
	if (a->token != NULL)
		return sn__bearer_fits(x, a->token) ? 0 : 401;
	*ret_detail = "over TCP nothing is changed without a token: set listen.admin.token, or listen "
		      "on a Unix socket";
	return 403;
}

static void answer(struct sn_admin *a, struct sn_exchange *x, const struct sn_admin_request *req)
{
	switch (req->what) {
	case SN_ADMIN_CONSOLE:
		sn__admin_text(x, 200, "text/html; charset=utf-8", sn_str_from(sn__admin_console));
		break;
	case SN_ADMIN_HEALTH:
		get_healthz(a, x);
		break;
	case SN_ADMIN_READY:
		get_readyz(a, x);
		break;
	case SN_ADMIN_METRICS:
		get_metrics(a, x);
		break;
	case SN_ADMIN_PEERS:
		sn__admin_get_peers(a, x, req);
		break;
	case SN_ADMIN_POLICIES:
		sn__admin_get_policies(a, x, req);
		break;
	case SN_ADMIN_BREAKERS:
		sn__admin_get_breakers(a, x, req);
		break;
	case SN_ADMIN_FORCE:
		if (sn_exchange_read_all(x, SN_ADMIN_BODY_MAX, on_force, a) < 0)
			sn_exchange_abort(x);
		break;
	case SN_ADMIN_TARGETS:
		sn__admin_get_targets(a, x, req);
		break;
	case SN_ADMIN_WHY:
		sn__admin_get_why(a, x, req);
		break;
	case SN_ADMIN_CONFIG:
		get_config(a, x, req);
		break;
	case SN_ADMIN_DRAIN:
		post_drain(a, x);
		break;
	}
}

void sn__admin_route_add(struct sn_runtime *rt, struct sn_admin_route *route)
{
	sn_list_push_back(&rt->admin_routes, &route->link);
}

static struct sn_admin_route *find_route(const struct sn_runtime *rt, const struct sn_exchange *x)
{
	const char *path = sn_exchange_path(x);

	SN_LIST_FOREACH (pos, &rt->admin_routes) {
		struct sn_admin_route *route = SN_CONTAINER_OF(pos, struct sn_admin_route, link);
		size_t n = strlen(route->path);

		if (strncmp(path, route->path, n) == 0 && (path[n] == '\0' || path[n] == '/'))
			return route;
	}
	return NULL;
}

static void handle(struct sn_exchange *x, void *arg)
{
	struct sn_admin *a = arg;
	struct sn_admin_route *route = find_route(a->rt, x);
	struct sn_admin_request req;
	const char *detail;
	struct sn_error err;
	unsigned status = refused(a, x, &detail);
	int r;

	if (status != 0) {
		answer_problem(x, status, detail);
		return;
	}
	if (route != NULL) {
		if (reads(x))
			route->handle(route, x);
		else
			answer_problem(x, 405, "this is only looked at: GET");
		return;
	}
	r = sn__admin_request_parse(sn_exchange_method(x), sn_exchange_path(x),
			sn_exchange_query(x), &req, &err);
	if (r < 0)
		sn__admin_error(x, r, &err);
	else
		answer(a, x, &req);
}

/* ---- the whole ---- */

static void secret_free(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	sn__free(text);
}

static void admin_free(struct sn_hosted *hosted)
{
	struct sn_admin *a = SN_CONTAINER_OF(hosted, struct sn_admin, hosted);

	sn__free(a->config);
	sn__free(a->origins);
	secret_free(a->token);
	sn__free(a->name);
	sn__free(a);
}

struct listening {
	struct sn_hosting how;
	const struct sn_admin_options *opts;
};

/* @doc without its secrets; NULL: none. */
static int redacted(const json_t *doc, char **ret_text)
{
	json_t *shown = NULL;
	int r;

	if (doc == NULL)
		return 0;
	r = sn__json_redact(doc, &shown);
	if (r < 0)
		return r;
	*ret_text = sn__json_text(shown);
	json_decref(shown);
	return *ret_text != NULL ? 0 : SN_E_NOMEM;
}

static int admin_fill(struct sn_admin *a, const struct sn_admin_options *opts)
{
	int r;

	a->name = sn__strdup(opts->name != NULL ? opts->name : "sinew");
	if (opts->token != NULL)
		a->token = sn__strdup(opts->token);
	if (a->name == NULL || (opts->token != NULL && a->token == NULL))
		return SN_E_NOMEM;
	r = redacted(opts->config, &a->config);
	if (r == 0 && opts->origins != NULL) {
		a->origins = sn__json_text(opts->origins);
		r = a->origins != NULL ? 0 : SN_E_NOMEM;
	}
	return r;
}

static int admin_make(struct sn_hosting *how, struct sn_hosted **ret_hosted, struct sn_error *err)
{
	struct listening *l = SN_CONTAINER_OF(how, struct listening, how);
	struct sn_admin *a;

	if (l->opts->token == NULL && !sn__addr_is_loopback(&how->config.addr))
		return sn__error_set(err, SN_E_INVALID,
				"%s is not loopback: the admin API needs a token there",
				l->opts->listen);
	a = sn__calloc(1, sizeof(*a));
	if (a == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	if (admin_fill(a, l->opts) < 0) {
		admin_free(&a->hosted);
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	}
	a->rt = how->rt;
	a->loopback = sn__addr_is_loopback(&how->config.addr);
	a->local = how->config.addr.u.sa.sa_family == AF_UNIX;
	a->hosted.free = admin_free;
	a->hosted.stays = true;
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
	l.how.config.hosts = opts->hosts;
	l.how.config.max_body = SN_ADMIN_BODY_MAX;
	l.how.config.listen.same_user = true;
	return sn__hosted_open(rt, &l.how, &hosted, err);
}
