/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC services on an HTTP server: the table, and how a call comes in. See grpc_server_impl.h. */
#include "io/grpc_server.h"

#include <stdio.h>

#include "base/mem.h"
#include "io/grpc_server_impl.h"
#include "proto/protobuf.h"

#define POOL_MAX 128
#define KEEP_BLOCK (16u << 10) /* a buffer of the pool with a greater block gives it back */

/* ---- the table ---- */

int sn__grpc_services_create(struct sn_loop *loop, const struct sn_grpc_services_options *opts,
		struct sn_grpc_services **ret_services)
{
	struct sn_grpc_services *services = sn__calloc(1, sizeof(*services));

	if (services == NULL)
		return SN_E_NOMEM;
	services->loop = loop;
	if (opts != NULL)
		services->opts = *opts;
	sn_list_init(&services->served);
	sn_list_init(&services->open);
	sn_list_init(&services->pool);
	sn__map_init(&services->methods);
	sn__buf_init(&services->frame, SIZE_MAX / 2);
	*ret_services = services;
	return 0;
}

static void served_free(struct grpc_served *served)
{
	for (size_t i = 0; i < served->n_methods; i++) /* its service may be gone */
		sn__free(served->methods[i].path);
	sn__free(served->methods);
	sn__free(served);
}

static void exchange_free(struct sn_grpc_exchange *gx);

void sn__grpc_services_destroy(struct sn_grpc_services *services)
{
	struct sn_list *node;

	if (services == NULL)
		return;
	/* What a handler has never ended. */
	while ((node = sn_list_pop_front(&services->open)) != NULL)
		exchange_free(SN_CONTAINER_OF(node, struct sn_grpc_exchange, link));
	while ((node = sn_list_pop_front(&services->pool)) != NULL)
		exchange_free(SN_CONTAINER_OF(node, struct sn_grpc_exchange, link));
	while ((node = sn_list_pop_front(&services->served)) != NULL)
		served_free(SN_CONTAINER_OF(node, struct grpc_served, link));
	sn__map_finish(&services->methods);
	sn__buf_finish(&services->frame);
	sn__free(services);
}

static bool name_valid(const char *name)
{
	return name != NULL && name[0] != '\0' && strpbrk(name, "/ ?#%") == NULL;
}

static int check_service(const struct sn_grpc_service *s, struct sn_error *err)
{
	if (s->size < sizeof(*s))
		return sn__error_set(err, SN_E_INVALID, "the service's size is not set");
	if (!name_valid(s->name))
		return sn__error_set(err, SN_E_INVALID, "the service has no valid name");
	for (size_t i = 0; i < s->n_methods; i++) {
		const struct sn_grpc_method *m = &s->methods[i];

		if (!name_valid(m->name))
			return sn__error_set(err, SN_E_INVALID,
					"service %s: method %zu has no valid name", s->name, i);
		if (m->start == NULL || (m->client_streams && m->message == NULL))
			return sn__error_set(err, SN_E_INVALID,
					"service %s: method %s lacks its function \"%s\"", s->name,
					m->name, m->start == NULL ? "start" : "message");
		for (size_t k = 0; k < i; k++)
			if (strcmp(s->methods[k].name, m->name) == 0)
				return sn__error_set(err, SN_E_INVALID,
						"service %s: two methods are called %s", s->name,
						m->name);
	}
	return 0;
}

static const struct grpc_served *find_service(
		const struct sn_grpc_services *services, struct sn_str name)
{
	SN_LIST_FOREACH (node, &services->served) {
		const struct grpc_served *served = SN_CONTAINER_OF(node, struct grpc_served, link);

		if (sn_str_eq(sn_str_from(served->service->name), name))
			return served;
	}
	return NULL;
}

static struct grpc_served *served_new(const struct sn_grpc_service *service)
{
	struct grpc_served *served = sn__calloc(1, sizeof(*served));

	if (served == NULL)
		return NULL;
	served->service = service;
	served->methods = sn__calloc(SN_MAX(service->n_methods, 1u), sizeof(*served->methods));
	if (served->methods == NULL) {
		sn__free(served);
		return NULL;
	}
	served->n_methods = service->n_methods;
	for (size_t i = 0; i < service->n_methods; i++) {
		struct grpc_method *m = &served->methods[i];

		m->service = service;
		m->method = &service->methods[i];
		m->path = sn__asprintf("/%s/%s", service->name, m->method->name);
		if (m->path == NULL) {
			served_free(served);
			return NULL;
		}
	}
	return served;
}

int sn__grpc_services_add(struct sn_grpc_services *services, const struct sn_grpc_service *service,
		struct sn_error *err)
{
	size_t n = sn_map_count(&services->methods) + service->n_methods;
	struct grpc_served *served;
	int r = check_service(service, err);

	if (r < 0)
		return r;
	if (find_service(services, sn_str_from(service->name)) != NULL)
		return sn__error_set(err, SN_E_EXISTS, "two services are called %s", service->name);
	r = n > 0 ? sn__map_reserve(&services->methods, n) : 0;
	served = r == 0 ? served_new(service) : NULL;
	if (served == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	for (size_t i = 0; i < service->n_methods; i++) {
		r = sn__map_add(&services->methods, sn_str_from(served->methods[i].path),
				&served->methods[i]);
		assert(r == 0);
	}
	sn_list_push_back(&services->served, &served->link);
	return 0;
}

const struct sn_grpc_service *sn__grpc_services_at(
		const struct sn_grpc_services *services, size_t index)
{
	SN_LIST_FOREACH (node, &services->served)
		if (index-- == 0)
			return SN_CONTAINER_OF(node, struct grpc_served, link)->service;
	return NULL;
}

/* ---- the pool ---- */

static void exchange_free(struct sn_grpc_exchange *gx)
{
	sn__grpc_reader_finish(&gx->reader);
	sn__buf_finish(&gx->kept);
	sn__buf_finish(&gx->bytes);
	sn__buf_finish(&gx->headers);
	sn__buf_finish(&gx->trailers);
	while (gx->decoded != NULL) {
		struct grpc_decoded *d = gx->decoded;

		gx->decoded = d->next;
		sn__free(d);
	}
	sn__loop_undefer(gx->services->loop, &gx->task);
	sn__timer_stop(gx->services->loop, &gx->timer);
	sn__free(gx);
}

static struct sn_grpc_exchange *exchange_get(struct sn_grpc_services *services)
{
	struct sn_list *node = sn_list_pop_front(&services->pool);
	struct sn_grpc_exchange *gx;

	if (node != NULL) {
		services->n_pool--;
		gx = SN_CONTAINER_OF(node, struct sn_grpc_exchange, link);
	} else {
		gx = sn__calloc(1, sizeof(*gx));
		if (gx == NULL)
			return NULL;
		gx->services = services;
		sn__grpc_reader_init(&gx->reader, services->opts.max_message);
		sn__buf_init(&gx->kept, SIZE_MAX / 2);
		sn__buf_init(&gx->bytes, SIZE_MAX / 2);
		sn__buf_init(&gx->headers, SIZE_MAX / 2);
		sn__buf_init(&gx->trailers, SIZE_MAX / 2);
	}
	sn_list_push_back(&services->open, &gx->link);
	return gx;
}

static void tidy(struct sn_buf *b)
{
	sn__buf_clear(b);
	if (b->cap > KEEP_BLOCK)
		sn__buf_finish(b);
}

static void exchange_put(struct sn_grpc_exchange *gx)
{
	struct sn_grpc_services *services = gx->services;

	sn_list_remove(&gx->link);
	if (services->n_pool >= POOL_MAX || gx->decoded != NULL) {
		exchange_free(gx);
		return;
	}
	sn__loop_undefer(services->loop, &gx->task);
	sn__timer_stop(services->loop, &gx->timer);
	sn__grpc_reader_reset(&gx->reader, services->opts.max_message);
	tidy(&gx->kept);
	tidy(&gx->bytes);
	tidy(&gx->headers);
	tidy(&gx->trailers);
	*gx = (struct sn_grpc_exchange){
			.services = services,
			.reader = gx->reader,
			.kept = gx->kept,
			.bytes = gx->bytes,
			.headers = gx->headers,
			.trailers = gx->trailers,
	};
	sn_list_push_front(&services->pool, &gx->link);
	services->n_pool++;
}

/* ---- the end ---- */

/* Nothing more can be done for this call: tell its user, and let it go when nobody holds it. It may
 * be gone afterwards. */
static void over(struct sn_grpc_exchange *gx, int status)
{
	sn_grpc_exchange_close_fn *fn = gx->on_close;

	if (!gx->over)
		gx->status = status;
	gx->over = true;
	if (fn != NULL && gx->begun && !gx->told) {
		gx->told = true;
		fn(gx, gx->status, gx->on_close_arg);
	}
	if (gx->x == NULL && (gx->told || gx->user_ended || !gx->begun))
		exchange_put(gx);
}

/* End it in the client's eyes, because of the client. */
static void refuse(struct sn_grpc_exchange *gx, int code, const char *text, int status)
{
	if (gx->ended)
		return;
	sn__grpc_exchange_end(gx, code, sn_str_from(text), (struct sn_str){NULL, 0});
	over(gx, status);
}

static void on_deadline(struct sn_timer *t)
{
	struct sn_grpc_exchange *gx = SN_CONTAINER_OF(t, struct sn_grpc_exchange, timer);

	refuse(gx, SN_GRPC_DEADLINE_EXCEEDED, "the call's deadline has passed", SN_E_DEADLINE);
}

static void on_http_close(struct sn_exchange *x, int status, void *arg)
{
	struct sn_grpc_exchange *gx = arg;

	gx->x = NULL;
	sn__timer_stop(gx->services->loop, &gx->timer);
	if (status == 0 && !gx->ended)
		status = SN_E_PROTOCOL; /* the HTTP server has answered itself */
	else if (status == SN_E_RESET || status == SN_E_TIMEOUT)
		status = SN_E_CANCELLED;
	over(gx, status);
}

static void on_http_drain(struct sn_exchange *x, void *arg)
{
	struct sn_grpc_exchange *gx = arg;

	if (!gx->drain_due || gx->ended || gx->over)
		return;
	gx->drain_due = false;
	if (gx->on_drain != NULL)
		gx->on_drain(gx, gx->on_drain_arg);
}

/* ---- messages in ---- */

static void start(struct sn_grpc_exchange *gx)
{
	const struct sn_grpc_method *m = gx->method->method;
	struct sn_grpc_bytes bytes = {gx->request.ptr, gx->request.len};
	struct ProtobufCMessage *message;
	struct sn_error err;
	char text[SN_ERROR_TEXT_MAX + 64];
	int r;

	if (m->request == NULL) {
		gx->begun = true;
		m->start(gx, &bytes, gx->method->service->arg);
		return;
	}
	r = sn__protobuf_unpack(m->request, gx->request, &message, &err);
	if (r < 0) {
		(void)snprintf(text, sizeof(text), "the request cannot be read: %s",
				r == SN_E_NOMEM ? sn_strerror(r) : err.text);
		refuse(gx, r == SN_E_NOMEM ? SN_GRPC_RESOURCE_EXHAUSTED : SN_GRPC_INTERNAL, text,
				SN_E_PROTOCOL);
		return;
	}
	gx->begun = true;
	m->start(gx, message, gx->method->service->arg);
	sn__protobuf_free(message);
}

static void stream_message(struct sn_grpc_exchange *gx, struct sn_str data)
{
	const struct sn_grpc_method *m = gx->method->method;
	struct sn_grpc_bytes bytes = {data.ptr, data.len};
	struct ProtobufCMessage *message;
	struct sn_error err;
	char text[SN_ERROR_TEXT_MAX + 64];
	int r;

	if (m->request == NULL) {
		m->message(gx, &bytes, gx->method->service->arg);
		return;
	}
	r = sn__protobuf_unpack(m->request, data, &message, &err);
	if (r < 0) {
		(void)snprintf(text, sizeof(text), "a message cannot be read: %s",
				r == SN_E_NOMEM ? sn_strerror(r) : err.text);
		refuse(gx, r == SN_E_NOMEM ? SN_GRPC_RESOURCE_EXHAUSTED : SN_GRPC_INTERNAL, text,
				SN_E_PROTOCOL);
		return;
	}
	m->message(gx, message, gx->method->service->arg);
	sn__protobuf_free(message);
}

/* The one message of a method that takes one, which has to wait for the end of the request. */
static void take_request(struct sn_grpc_exchange *gx, struct sn_str in)
{
	struct sn_str message = gx->reader.message;
	bool borrowed = message.len > 0 && message.ptr >= in.ptr && message.ptr < in.ptr + in.len;

	gx->request = message; /* the reader keeps it until more comes, and nothing may come */
	if (!borrowed)
		return;
	if (sn__buf_append_str(&gx->bytes, message) < 0)
		refuse(gx, SN_GRPC_RESOURCE_EXHAUSTED, sn_strerror(SN_E_NOMEM), SN_E_NOMEM);
	else
		gx->request = sn__buf_str(&gx->bytes);
}

/* Bytes of @in used: all of them unless the user paused or ended it. */
static size_t feed(struct sn_grpc_exchange *gx, struct sn_str in)
{
	bool streams = gx->method->method->client_streams;
	size_t at = 0, used;

	while (!gx->ended && !gx->over && !gx->paused) {
		struct sn_str left = {in.ptr + at, in.len - at};
		enum sn_grpc_event e;

		if (!streams && gx->n_in > 0) {
			if (left.len > 0)
				refuse(gx, SN_GRPC_UNIMPLEMENTED,
						"the request has more than one message",
						SN_E_PROTOCOL);
			break;
		}
		e = sn__grpc_reader_next(&gx->reader, left, &used);
		at += used;
		if (e == SN_GRPC_MORE)
			break;
		if (e == SN_GRPC_ERROR) {
			refuse(gx, gx->reader.code, gx->reader.reason, SN_E_PROTOCOL);
			break;
		}
		gx->n_in++;
		if (streams)
			stream_message(gx, gx->reader.message);
		else
			take_request(gx, in);
	}
	return at;
}

/* The client has ended its side and everything before was told. */
static void at_end(struct sn_grpc_exchange *gx)
{
	const struct sn_grpc_method *m = gx->method->method;

	if (gx->ended || gx->over)
		return;
	if (!sn__grpc_reader_at_rest(&gx->reader))
		refuse(gx, SN_GRPC_INTERNAL, "the request ended inside a message", SN_E_PROTOCOL);
	else if (m->client_streams)
		m->message(gx, NULL, gx->method->service->arg);
	else if (gx->n_in == 0)
		refuse(gx, SN_GRPC_UNIMPLEMENTED, "the request has no message", SN_E_PROTOCOL);
	else
		start(gx);
}

static void on_body(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	struct sn_grpc_exchange *gx = arg;
	struct sn_str in = {body, size};
	size_t used = 0;

	if (status < 0 || gx->ended || gx->over)
		return; /* on_http_close follows */
	if (size == 0) {
		gx->eof = true;
		if (!gx->paused && gx->kept.len == 0)
			at_end(gx);
		return;
	}
	if (gx->kept.len == 0)
		used = feed(gx, in);
	if (gx->ended || gx->over || used == size)
		return;
	if (sn__buf_append(&gx->kept, in.ptr + used, size - used) < 0)
		refuse(gx, SN_GRPC_RESOURCE_EXHAUSTED, sn_strerror(SN_E_NOMEM), SN_E_NOMEM);
}

static void on_task(struct sn_task *task)
{
	struct sn_grpc_exchange *gx = SN_CONTAINER_OF(task, struct sn_grpc_exchange, task);
	size_t used;

	if (gx->over) {
		over(gx, gx->status); /* somebody has asked meanwhile, or ended it */
		return;
	}
	if (gx->paused || gx->ended)
		return;
	if (gx->kept.len > 0) {
		used = feed(gx, sn__buf_str(&gx->kept));
		sn__buf_consume(&gx->kept, used);
		if (gx->paused || gx->ended || gx->over)
			return;
	}
	tidy(&gx->kept);
	if (gx->eof)
		at_end(gx);
	else if (gx->x != NULL)
		sn_exchange_pause(gx->x, false);
}

void sn__grpc_exchange_kick(struct sn_grpc_exchange *gx)
{
	sn__loop_defer(gx->services->loop, &gx->task, on_task);
}

/* ---- heads ---- */

struct call_head {
	struct sn_str content_type, encoding, accept_encoding, timeout;
	uint64_t timeout_ns; /* SN_NEVER_NS: none */
};

static void read_head(const struct sn_http_head *head, struct call_head *h)
{
	*h = (struct call_head){.timeout_ns = SN_NEVER_NS};
	for (unsigned i = 0; i < head->n_headers; i++) {
		struct sn_str name = head->headers[i].name;
		struct sn_str value = head->headers[i].value;

		if (name.len == 12 && sn__str_ieq(name, SN_STR("content-type")))
			h->content_type = value;
		else if (name.len == 13 && sn__str_ieq(name, SN_STR("grpc-encoding")))
			h->encoding = value;
		else if (name.len == 20 && sn__str_ieq(name, SN_STR("grpc-accept-encoding")))
			h->accept_encoding = value;
		else if (name.len == 12 && sn__str_ieq(name, SN_STR("grpc-timeout")))
			h->timeout = value;
	}
}

/* A status before there is a call. */
static void refuse_head(struct sn_exchange *x, int code, const char *text, bool encodings)
{
	char code_text[4];
	struct sn_header headers[4] = {
			{"content-type", "application/grpc"}, {"grpc-status", code_text}};
	size_t n = 2;
	struct sn_buf b;

	(void)snprintf(code_text, sizeof(code_text), "%d", code);
	sn__buf_init(&b, SIZE_MAX / 2);
	if (sn__grpc_percent_encode(sn_str_from(text), &b) == 0 && sn__buf_append(&b, "", 1) == 0)
		headers[n++] = (struct sn_header){"grpc-message", sn__buf_data(&b)};
	if (encodings)
		headers[n++] = (struct sn_header){"grpc-accept-encoding", "identity,gzip"};
	if (sn_exchange_respond(x, 200, headers, n, NULL, 0) < 0)
		sn_exchange_abort(x);
	sn__buf_finish(&b);
}

static void refuse_http(struct sn_exchange *x, unsigned status, const struct sn_header *header,
		const char *text)
{
	if (sn_exchange_respond(x, status, header, 1, text, strlen(text)) < 0)
		sn_exchange_abort(x);
}

/* As the gRPC servers of other languages put it. */
static void refuse_method(const struct sn_grpc_services *services, struct sn_exchange *x)
{
	const char *path = sn_exchange_path(x), *slash = strrchr(path, '/');
	struct sn_str service = {path + 1, slash > path ? (size_t)(slash - path - 1) : 0};
	char text[300];

	if (service.len == 0)
		(void)snprintf(text, sizeof(text), "malformed method name: \"%.200s\"", path);
	else if (find_service(services, service) == NULL)
		(void)snprintf(text, sizeof(text), "unknown service %.*s",
				(int)SN_MIN(service.len, 200), service.ptr);
	else
		(void)snprintf(text, sizeof(text), "unknown method %.100s for service %.*s",
				slash + 1, (int)SN_MIN(service.len, 100), service.ptr);
	refuse_head(x, SN_GRPC_UNIMPLEMENTED, text, false);
}

/* Whether the call cannot even begin; it is answered then. */
static bool head_refused(struct sn_exchange *x, struct call_head *h)
{
	char text[160];

	if (h->timeout.ptr != NULL && sn__grpc_timeout_read(h->timeout, &h->timeout_ns) < 0) {
		(void)snprintf(text, sizeof(text), "malformed grpc-timeout: \"%.*s\"",
				(int)SN_MIN(h->timeout.len, 40), h->timeout.ptr);
		refuse_head(x, SN_GRPC_INTERNAL, text, false);
	} else if (h->encoding.len > 0 && !sn__str_ieq(h->encoding, SN_STR("identity")) &&
			!sn__str_ieq(h->encoding, SN_STR("gzip"))) {
		(void)snprintf(text, sizeof(text), "grpc-encoding \"%.*s\" is not supported",
				(int)SN_MIN(h->encoding.len, 40), h->encoding.ptr);
		refuse_head(x, SN_GRPC_UNIMPLEMENTED, text, true);
	} else if (h->timeout_ns == 0) {
		refuse_head(x, SN_GRPC_DEADLINE_EXCEEDED, "the call's deadline has passed", false);
	} else {
		return false;
	}
	return true;
}

static void begin(struct sn_grpc_services *services, struct sn_exchange *x,
		const struct grpc_method *method, const struct call_head *h)
{
	struct sn_grpc_exchange *gx = exchange_get(services);

	sn__exchange_endless(x);
	if (gx == NULL || sn_exchange_read(x, on_body, gx) < 0) {
		if (gx != NULL)
			exchange_put(gx);
		refuse_head(x, SN_GRPC_RESOURCE_EXHAUSTED, sn_strerror(SN_E_NOMEM), false);
		return;
	}
	gx->x = x;
	gx->method = method;
	gx->reader.gzip = h->encoding.len == 4;
	gx->accepts_gzip = sn__grpc_accepts_gzip(h->accept_encoding);
	sn_exchange_on_close(x, on_http_close, gx);
	sn_exchange_on_drain(x, on_http_drain, gx);
	if (h->timeout_ns < SN_NEVER_NS) {
		gx->deadline_ns = sn_time_add(sn__loop_now_ns(services->loop), h->timeout_ns);
		sn__timer_start(services->loop, &gx->timer, h->timeout_ns, on_deadline);
	}
	if (!method->method->client_streams)
		return;
	gx->begun = true;
	method->method->start(gx, NULL, method->service->arg);
}

void sn__grpc_handle(struct sn_exchange *x, void *arg)
{
	static const struct sn_header plain = {"content-type", "text/plain"};
	static const struct sn_header allow = {"allow", "POST"};
	struct sn_grpc_services *services = arg;
	const struct sn_http_head *head = sn__exchange_head(x);
	const struct grpc_method *method;
	struct call_head h;

	read_head(head, &h);
	if (!sn__grpc_is_content_type(h.content_type)) {
		if (services->opts.http != NULL)
			services->opts.http(x, services->opts.http_arg);
		else
			refuse_http(x, 415, &plain,
					"this server speaks gRPC: content-type application/grpc\n");
		return;
	}
	if (!sn_str_eq(head->method, SN_STR("POST"))) {
		refuse_http(x, 405, &allow, "gRPC calls are POST requests\n");
		return;
	}
	method = sn__map_get(&services->methods, sn_str_from(sn_exchange_path(x)));
	if (method == NULL) {
		refuse_method(services, x);
		return;
	}
	if (!head_refused(x, &h))
		begin(services, x, method, &h);
}
