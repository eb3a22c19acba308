/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Events from outside by HTTP: POST /events/TYPE and POST /publish/TYPE on hub.http, POST /publish/TYPE
 * on the sidecar, one handler. It speaks to the broker as any node would, wherever the broker is, under
 * an id of its own that needs no registration.
 */

#include "base/json.h"
#include "base/mem.h"
#include "dialect/microhome/hub_impl.h"
#include "mesh/api.h"
#include "mesh/proxy.h"
#include "mesh/sidecar_impl.h"
#include "proto/json_pull.h"
#include "proto/url.h"

#define DATA_MAX ((size_t)2 * SN_MICROHOME_PAYLOAD_MAX)

/* One event, until the broker has answered and the exchange has ended. */
struct post {
	struct sn_mh_exchange mh;
	struct sn_list link; /* hub->posts, while the broker is asked */
	struct sn_mh_hub *hub;
	struct sn_exchange *x;   /* NULL: it has ended */
	struct sn_sidecar *side; /* NULL: it came to hub.http */
	size_t prefix;           /* bytes of the path before the type */
};

static bool asked(const struct post *p)
{
	return p->link.next != NULL && !sn_list_empty(&p->link);
}

static void release(struct post *p)
{
	if (p->x == NULL && !asked(p))
		sn__free(p);
}

/* ---- answers ---- */

static void refuse(struct post *p, unsigned status, const char *detail)
{
	if (p->side != NULL)
		sn__sidecar_refuse(p->side, p->x, status, detail);
	else
		sn__proxy_refuse(p->x, status, detail, NULL);
}

static void answer_json(struct sn_exchange *x, unsigned status, struct sn_str json)
{
	const struct sn_header headers[] = {
			{"Content-Type", "application/json"}, {"Cache-Control", "no-store"}};

	if (sn_exchange_respond(x, status, headers, SN_COUNT(headers), json.ptr, json.len) < 0)
		sn_exchange_abort(x);
}

static void accepted(struct post *p, const struct sn_mh_event *reply)
{
	if (sn__mh_is_unhandled(reply)) {
		refuse(p, 502, "the broker does not know \xc2\xb5Home.core.publish: it is one of 0.0.1");
		return;
	}
	if (p->side != NULL)
		sn__sidecar_answered(p->side, p->x, 202);
	answer_json(p->x, 202, reply->data.ptr != NULL ? reply->data : SN_STR("{}"));
}

/* The broker said no: in its own words. */
static void rejected(struct post *p, const struct sn_mh_event *reply)
{
	char line[SN_ERROR_TEXT_MAX];
	struct sn_buf scratch;
	struct sn_str reason;
	unsigned status = 502;

	sn__buf_init(&scratch, SN_MICROHOME_PAYLOAD_MAX);
	reason = sn__mh_text(sn__mh_member(reply->error, "reason"), &scratch);
	if (reason.ptr == NULL)
		reason = reply->error.ptr != NULL ? reply->error : SN_STR("no reason");
	if (sn_str_eq(reason, sn_str_from(sn__mh_refusal_text(SN_MH_RESERVED_EVENT))) ||
			sn_str_eq(reason, sn_str_from(sn__mh_refusal_text(SN_MH_TOO_LONG))))
		status = 400;
	else if (sn_str_eq(reason, sn_str_from(sn__mh_refusal_text(SN_MH_TOO_LARGE))))
		status = 413;
	(void)snprintf(line, sizeof(line), "the broker refused: %.*s",
			(int)SN_MIN(reason.len, (size_t)200), reason.ptr);
	refuse(p, status, line);
	sn__buf_finish(&scratch);
}

static void on_reply(struct sn_mh_exchange *mh)
{
	struct post *p = SN_CONTAINER_OF(mh, struct post, mh);

	sn_list_remove(&p->link);
	if (p->x == NULL) {
		release(p);
		return;
	}
	if (mh->status == 0)
		accepted(p, &mh->reply);
	else if (mh->status == SN_E_STATUS)
		rejected(p, &mh->reply);
	else
		refuse(p,
				mh->status == SN_E_TIMEOUT                  ? 504
						: mh->status == SN_E_CLOSED ? 503
									    : 502,
				mh->text);
}

/* ---- the request ---- */

/* {"event": TYPE, "data": BODY} */
static int put_event(struct sn_buf *out, struct sn_str type, struct sn_str data)
{
	int r = sn__buf_puts(out, "{\"event\":");

	if (r == 0)
		r = sn__json_quote(type, out);
	if (r == 0 && data.len > 0)
		r = sn__buf_puts(out, ",\"data\":");
	if (r == 0)
		r = sn__buf_append_str(out, data);
	return r < 0 ? r : sn__buf_puts(out, "}");
}

static int send_event(struct post *p, struct sn_str type, struct sn_str data)
{
	struct sn_mh_send send = {.to = p->hub->broker_at, .type = sn_str_from(SN_MH_PUBLISH)};
	struct sn_buf out;
	int r;

	sn__buf_init(&out, DATA_MAX);
	r = put_event(&out, type, data);
	send.data = sn__buf_str(&out);
	if (r == 0)
		r = sn__mh_exchange_start(p->hub->client, &p->mh, &send, on_reply);
	sn__buf_finish(&out);
	return r;
}

/* What is behind the prefix, decoded, in @out. */
static bool read_type(const struct post *p, char *out, size_t size, struct sn_str *ret_type)
{
	struct sn_str raw = sn_str_from(sn_exchange_path(p->x) + p->prefix);
	size_t n;

	if (raw.len == 0 || sn__percent_decode(raw, out, size, &n) < 0)
		return false;
	*ret_type = (struct sn_str){out, n};
	return n > 0 && sn__utf8_valid(*ret_type) && memchr(out, '\0', n) == NULL;
}

static bool is_reserved(struct sn_str type)
{
	struct sn_str prefix = SN_STR(SN_MH_RESERVED);

	return type.len >= prefix.len && memcmp(type.ptr, prefix.ptr, prefix.len) == 0;
}

static void on_body(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	struct sn_str data = {body, size}, type;
	char space[4 * SN_BUS_TYPE_MAX];
	struct post *p = arg;
	int r;

	if (status < 0)
		return; /* answered by the server, or nobody is there */
	if (p->hub->closing) {
		refuse(p, 503, "the hub is closing");
	} else if (!read_type(p, space, sizeof(space), &type)) {
		refuse(p, 400, "the path names no event type");
	} else if (is_reserved(type)) {
		refuse(p, 400, sn__mh_refusal_text(SN_MH_RESERVED_EVENT));
	} else if (size > 0 && sn__json_check(data, NULL) < 0) {
		refuse(p, 400, "the body is no JSON");
	} else {
		r = send_event(p, type, data);
		if (r == 0)
			sn_list_push_back(&p->hub->posts, &p->link);
		else
			refuse(p, r == SN_E_LIMIT ? 413 : 500,
					r == SN_E_LIMIT ? sn__mh_refusal_text(SN_MH_TOO_LARGE)
							: sn_strerror(r));
	}
}

static void on_close(struct sn_exchange *x, int status, void *arg)
{
	struct post *p = arg;

	p->x = NULL;
	release(p); /* or when the broker has answered: the event is on its way */
}

static void post(struct sn_mh_hub *hub, struct sn_sidecar *side, struct sn_exchange *x,
		size_t prefix)
{
	struct post *p = sn__calloc(1, sizeof(*p));

	if (p == NULL) {
		sn__proxy_refuse(x, 500, "out of memory", NULL);
		return;
	}
	sn_list_init(&p->link);
	p->hub = hub;
	p->side = side;
	p->x = x;
	p->prefix = prefix;
	sn_exchange_on_close(x, on_close, p);
	if (sn_exchange_read_all(x, SN_MICROHOME_PAYLOAD_MAX, on_body, p) < 0)
		sn_exchange_abort(x); /* on_close follows */
}

/* ---- routes ---- */

static void get_nodes(struct sn_mh_hub *hub, struct sn_exchange *x)
{
	struct sn_buf out;
	int r;

	sn__buf_init(&out, 256u << 20);
	r = sn__hub_put_nodes(hub, &out);
	if (r == 0)
		answer_json(x, 200, sn__buf_str(&out));
	else
		sn__proxy_refuse(x, 500, sn_strerror(r), NULL);
	sn__buf_finish(&out);
}

static void not_allowed(struct sn_exchange *x, const char *allow)
{
	const struct sn_header header = {"Allow", allow};

	if (sn_exchange_respond(x, 405, &header, 1, NULL, 0) < 0)
		sn_exchange_abort(x);
}

static void unauthorized(struct sn_exchange *x)
{
	const struct sn_header header = {"WWW-Authenticate", "Bearer"};

	if (sn_exchange_respond(x, 401, &header, 1, NULL, 0) < 0)
		sn_exchange_abort(x);
}

static void handle(struct sn_exchange *x, void *arg)
{
	static const char *const prefixes[] = {"/events/", "/publish/"};
	const char *path = sn_exchange_path(x), *method = sn_exchange_method(x);
	bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
	struct sn_mh_hub *hub = arg;

	if (hub->token != NULL && !sn__bearer_fits(x, hub->token)) {
		unauthorized(x);
		return;
	}
	for (size_t i = 0; i < SN_COUNT(prefixes); i++) {
		size_t n = strlen(prefixes[i]);

		if (strncmp(path, prefixes[i], n) != 0)
			continue;
		if (strcmp(method, "POST") == 0)
			post(hub, NULL, x, n);
		else
			not_allowed(x, "POST");
		return;
	}
	if (strcmp(path, "/nodes") != 0 && strcmp(path, "/health") != 0)
		sn__proxy_refuse(x, 404, "there is POST /events/TYPE, GET /nodes, GET /health",
				NULL);
	else if (!get)
		not_allowed(x, "GET, HEAD");
	else if (path[1] == 'n')
		get_nodes(hub, x);
	else
		answer_json(x, hub->closing ? 503 : 200,
				hub->closing ? SN_STR("{\"healthy\":false}")
					     : SN_STR("{\"healthy\":true}"));
}

static void on_sidecar(
		struct sn_sidecar_route *route, struct sn_sidecar *side, struct sn_exchange *x)
{
	struct sn_mh_hub *hub = SN_CONTAINER_OF(route, struct sn_mh_hub, publish_route);

	if (strcmp(sn_exchange_method(x), "POST") != 0)
		sn__sidecar_refuse(side, x, 405, "an event is published with POST");
	else
		post(hub, side, x, strlen(route->prefix));
}

/* ---- opening and closing ---- */

int sn__hub_http_open(struct sn_mh_hub *hub, const struct sn_hub_section *section, size_t max_head,
		struct sn_error *err)
{
	struct sn_hosting how = {.listen = section->http.listen,
			.tls_cert = section->tls.cert,
			.tls_key = section->tls.key,
			.handler = handle,
			.arg = hub};
	struct sn_hosted *hosted;
	int r;

	hub->publish_route = (struct sn_sidecar_route){.prefix = "/publish/", .handle = on_sidecar};
	sn__sidecar_route_add(hub->part.rt, &hub->publish_route);
	if (how.listen == NULL)
		return 0;
	if (section->token != NULL) {
		hub->token = sn__strdup(section->token);
		if (hub->token == NULL)
			return sn__error_set(err, SN_E_NOMEM, "out of memory");
	}
	how.config.check_origin = true;
	how.config.hosts = section->http.hosts.items;
	how.config.max_head = max_head;
	how.config.max_body = SN_MICROHOME_PAYLOAD_MAX;
	how.config.max_connections = (unsigned)section->max_connections;
	r = sn__hosted_open(hub->part.rt, &how, &hosted, err);
	if (r == 0)
		hub->http = hosted->server;
	return r;
}

void sn__hub_http_close(struct sn_mh_hub *hub)
{
	hub->closing = true;
	while (!sn_list_empty(&hub->posts)) {
		struct post *p = SN_CONTAINER_OF(hub->posts.next, struct post, link);

		sn__mh_exchange_cancel(&p->mh);
		sn_list_remove(&p->link);
		if (p->x != NULL)
			refuse(p, 503, "the hub is closing");
		else
			release(p);
	}
}
