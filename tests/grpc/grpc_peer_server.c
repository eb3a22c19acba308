/* SPDX-License-Identifier: Apache-2.0 */
#include "grpc_peer.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRACE_MS 20000

struct server {
	struct sn_runtime *rt;
	struct sn_grpc_server *server;
	struct sn_grpc_server_options opts;
};

struct item {
	size_t size;
	uint32_t delay_ms;
	bool gzip;
};

/* What is under way for one call. */
struct work {
	struct sn_grpc_exchange *x; /* NULL: over */
	struct server *server;
	const char *name;
	unsigned refs; /* the exchange, a timer, a call to the next server */
	struct item *items;
	size_t n_items, next;
	bool collect;     /* answers begin when the client has ended its side */
	bool timer, full; /* what is waited for */
	bool input_ended, finished;
	int64_t sum;
	bool forwarded;
	struct sn_call_id forward;
};

static void unref(struct work *w)
{
	if (--w->refs > 0)
		return;
	free(w->items);
	free(w);
}

static void on_close(struct sn_grpc_exchange *x, int status, void *arg)
{
	struct work *w = arg;

	w->x = NULL;
	if (status == SN_E_CANCELLED || status == SN_E_DEADLINE)
		peer_say("cancelled %s", w->name);
	else if (status != 0)
		peer_say("closed %s %s", w->name, sn_code_name(status));
	if (w->forwarded)
		sn_grpc_cancel(w->server->rt, w->forward);
	unref(w);
}

static void must(int r)
{
	if (r < 0)
		peer_die(sn_strerror(r), NULL);
}

static void trailer(struct work *w, const char *name, const void *value, size_t size)
{
	must(sn_grpc_exchange_add_trailer(w->x, &(struct sn_grpc_metadata){name, value, size}));
}

/* What every method does: metadata comes back. */
static struct work *begin(struct sn_grpc_exchange *x, struct server *server)
{
	struct sn_context context = SN_CONTEXT_INIT;
	struct work *w = calloc(1, sizeof(*w));
	const char *name = strrchr(sn_grpc_exchange_method(x), '/') + 1;
	const void *value;
	char left[32];
	size_t size;
	int n;

	if (w == NULL)
		peer_die("out of memory", NULL);
	*w = (struct work){.x = x, .server = server, .refs = 1};
	for (const struct sn_grpc_method *m = server->opts.services[0]->methods; m->name != NULL;
			m++)
		if (strcmp(m->name, name) == 0)
			w->name = m->name;
	*sn_grpc_exchange_slot(x) = w;
	sn_grpc_exchange_on_close(x, on_close, w);
	value = sn_grpc_exchange_header(x, TEST_INITIAL, &size);
	if (value != NULL)
		must(sn_grpc_exchange_add_header(
				x, &(struct sn_grpc_metadata){TEST_INITIAL, value, size}));
	value = sn_grpc_exchange_header(x, TEST_TRAILING, &size);
	if (value != NULL)
		trailer(w, TEST_TRAILING, value, size);
	if (sn_grpc_exchange_header(x, "x-test-time-left", NULL) != NULL &&
			sn_grpc_exchange_header(x, "x-test-forward", NULL) == NULL) {
		sn_grpc_exchange_context(x, &context);
		n = context.deadline_ms == 0
				? snprintf(left, sizeof(left), "none")
				: snprintf(left, sizeof(left), "%llu",
						  (unsigned long long)context.deadline_ms);
		trailer(w, "x-test-time-left", left, (size_t)n);
	}
	return w;
}

/* ---- one request, one response ---- */

static void empty_call(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	Grpc__Testing__Empty empty = GRPC__TESTING__EMPTY__INIT;

	(void)begin(x, arg);
	sn_grpc_exchange_reply(x, &empty.base);
}

static void on_forwarded(const struct sn_grpc_answer *answer, const struct sn_error *err, void *arg)
{
	struct work *w = arg;
	Grpc__Testing__SimpleResponse response = GRPC__TESTING__SIMPLE_RESPONSE__INIT;
	const void *value;
	size_t size;

	w->forwarded = false;
	if (w->x == NULL) {
		peer_say("forwarded %d", sn_grpc_error_code(err));
	} else if (err != NULL) {
		sn_grpc_exchange_finish(w->x, sn_grpc_error_code(err), sn_error_text(err), NULL, 0);
	} else {
		value = sn_grpc_answer_trailer(answer, "x-test-time-left", &size);
		if (value != NULL)
			trailer(w, "x-test-time-left", value, size);
		sn_grpc_exchange_reply(w->x, &response.base);
	}
	unref(w);
}

/* Ask the next server, for the same reason: with the deadline that is left. */
static void forward(struct work *w, const Grpc__Testing__SimpleRequest *request)
{
	static const char *const passed[] = {"x-test-time-left", "x-test-hang"};
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	struct sn_context context = SN_CONTEXT_INIT;
	struct sn_grpc_metadata metadata[2];
	struct sn_error *err = NULL;

	sn_grpc_exchange_context(w->x, &context);
	opts.context = &context;
	opts.metadata = metadata;
	for (size_t i = 0; i < 2; i++)
		if (sn_grpc_exchange_header(w->x, passed[i], NULL) != NULL)
			metadata[opts.n_metadata++] = (struct sn_grpc_metadata){passed[i], "?", 1};
	if (sn_grpc_call(w->server->rt, "service", "next", "grpc", "/" TEST_SERVICE "/UnaryCall",
			    &request->base, &opts, on_forwarded, w, &w->forward, &err) < 0)
		peer_die("forward", err);
	w->forwarded = true;
	w->refs++;
}

static void unary_call(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const Grpc__Testing__SimpleRequest *r = request;
	Grpc__Testing__SimpleResponse response = GRPC__TESTING__SIMPLE_RESPONSE__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;
	struct work *w = begin(x, arg);
	const void *details;
	size_t size;

	details = sn_grpc_exchange_header(x, "x-test-details-bin", &size);
	if (sn_grpc_exchange_header(x, "x-test-forward", NULL) != NULL) {
		forward(w, r);
	} else if (sn_grpc_exchange_header(x, "x-test-hang", NULL) != NULL) {
		peer_say("hangs");
	} else if (details != NULL) {
		sn_grpc_exchange_finish(x, SN_GRPC_NOT_FOUND, "with details", details, size);
	} else if (r->response_status != NULL && r->response_status->code != 0) {
		sn_grpc_exchange_finish(
				x, r->response_status->code, r->response_status->message, NULL, 0);
	} else {
		payload.body = peer_zeros((size_t)r->response_size);
		response.payload = &payload;
		sn_grpc_exchange_gzip(
				x, r->response_compressed != NULL && r->response_compressed->value);
		sn_grpc_exchange_reply(x, &response.base);
	}
}

/* ---- many responses ---- */

static void pump(struct work *w);

static void on_timer(struct sn_runtime *rt, void *arg)
{
	struct work *w = arg;

	w->timer = false;
	if (w->x != NULL) {
		w->items[w->next].delay_ms = 0;
		pump(w);
	}
	unref(w);
}

static void on_drain(struct sn_grpc_exchange *x, void *arg)
{
	struct work *w = arg;

	w->full = false;
	pump(w);
	sn_grpc_exchange_pause(x, w->full || w->timer);
}

static bool send_one(struct work *w, const struct item *item)
{
	Grpc__Testing__StreamingOutputCallResponse response =
			GRPC__TESTING__STREAMING_OUTPUT_CALL_RESPONSE__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;
	int r;

	payload.body = peer_zeros(item->size);
	response.payload = &payload;
	sn_grpc_exchange_gzip(w->x, item->gzip);
	r = sn_grpc_exchange_send(w->x, &response.base, NULL, 0);
	w->full = r == SN_E_AGAIN;
	if (r < 0 && r != SN_E_AGAIN && r != SN_E_RESET)
		peer_die(sn_strerror(r), NULL);
	return r == 0 || w->full;
}

/* Send what is due. */
static void pump(struct work *w)
{
	if (w->finished || (w->collect && !w->input_ended))
		return;
	while (w->next < w->n_items && !w->full && !w->timer) {
		struct item *item = &w->items[w->next];

		if (item->delay_ms > 0) {
			must(sn_after(w->server->rt, item->delay_ms, on_timer, w));
			w->timer = true;
			w->refs++;
			return;
		}
		w->next++;
		if (!send_one(w, item))
			return;
	}
	if (w->next == w->n_items && w->input_ended && !w->full && !w->timer) {
		w->finished = true;
		sn_grpc_exchange_finish(w->x, SN_GRPC_OK, NULL, NULL, 0);
	}
}

static void take(struct work *w, const Grpc__Testing__StreamingOutputCallRequest *r)
{
	struct item *items = realloc(
			w->items, (w->n_items + r->n_response_parameters + 1) * sizeof(*items));

	if (items == NULL)
		peer_die("out of memory", NULL);
	w->items = items;
	for (size_t i = 0; i < r->n_response_parameters; i++) {
		const Grpc__Testing__ResponseParameters *p = r->response_parameters[i];

		w->items[w->n_items++] = (struct item){
				.size = (size_t)p->size,
				.delay_ms = ((uint32_t)p->interval_us + 999) / 1000,
				.gzip = p->compressed != NULL && p->compressed->value,
		};
	}
	if (r->response_status != NULL && r->response_status->code != 0 && !w->finished) {
		w->finished = true;
		sn_grpc_exchange_finish(w->x, r->response_status->code, r->response_status->message,
				NULL, 0);
	}
}

static void streaming_output_call(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	struct work *w = begin(x, arg);

	sn_grpc_exchange_on_drain(x, on_drain, w);
	w->input_ended = true;
	take(w, request);
	pump(w);
}

static void duplex_call(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	struct work *w = begin(x, arg);

	sn_grpc_exchange_on_drain(x, on_drain, w);
	w->collect = strcmp(w->name, "HalfDuplexCall") == 0;
	if (!w->collect)
		must(sn_grpc_exchange_send_header(x));
}

static void duplex_message(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	struct work *w = *sn_grpc_exchange_slot(x);

	if (request != NULL)
		take(w, request);
	else
		w->input_ended = true;
	pump(w);
	if (w->full || w->timer)
		sn_grpc_exchange_pause(x, true);
}

/* ---- many requests ---- */

static void streaming_input_call(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	(void)begin(x, arg);
}

static void streaming_input_message(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	struct work *w = *sn_grpc_exchange_slot(x);
	const Grpc__Testing__StreamingInputCallRequest *r = request;
	Grpc__Testing__StreamingInputCallResponse response =
			GRPC__TESTING__STREAMING_INPUT_CALL_RESPONSE__INIT;

	if (r != NULL) {
		w->sum += r->payload != NULL ? (int64_t)r->payload->body.len : 0;
		return;
	}
	response.aggregated_payload_size = (int32_t)w->sum;
	sn_grpc_exchange_reply(x, &response.base);
}

/* ---- the program ---- */

static const struct sn_grpc_method methods[] = {
		{"EmptyCall", &grpc__testing__empty__descriptor, empty_call, NULL, false, false},
		{"UnaryCall", &grpc__testing__simple_request__descriptor, unary_call, NULL, false,
				false},
		{"StreamingOutputCall", &grpc__testing__streaming_output_call_request__descriptor,
				streaming_output_call, NULL, false, true},
		{"StreamingInputCall", &grpc__testing__streaming_input_call_request__descriptor,
				streaming_input_call, streaming_input_message, true, false},
		{"FullDuplexCall", &grpc__testing__streaming_output_call_request__descriptor,
				duplex_call, duplex_message, true, true},
		{"HalfDuplexCall", &grpc__testing__streaming_output_call_request__descriptor,
				duplex_call, duplex_message, true, true},
		{NULL},
};

static void *read_file(const char *path, size_t *ret_size)
{
	FILE *f = fopen(path, "re");
	char *data = malloc(1 << 20);

	if (f == NULL || data == NULL)
		peer_die(path, NULL);
	*ret_size = fread(data, 1, 1 << 20, f);
	(void)fclose(f);
	return data;
}

static void start(struct server *s)
{
	struct sn_error *err = NULL;
	int r = sn_grpc_server_open(s->rt, &s->opts, &s->server, &err);

	/* Again on the same port: the one before is just being closed. */
	for (int i = 0; i < 5000 && r == SN_E_EXISTS; i++) {
		sn_error_destroy(err);
		err = NULL;
		(void)poll(NULL, 0, 1);
		r = sn_grpc_server_open(s->rt, &s->opts, &s->server, &err);
	}
	if (r < 0)
		peer_die("listen", err);
	peer_say("port %u", (unsigned)sn_grpc_server_port(s->server));
}

struct serving {
	struct server *server;
	char name[256];
	bool serving;
};

static void set_serving(struct sn_runtime *rt, void *arg)
{
	struct serving *s = arg;

	must(sn_grpc_server_set_serving(s->server->server, s->name, s->serving));
	free(s);
	peer_say("done");
}

static void command(struct server *s, const char *line)
{
	static char again[64];
	struct serving *serving;
	int on = 0;

	if (strcmp(line, "restart") == 0) {
		(void)snprintf(again, sizeof(again), "127.0.0.1:%u",
				(unsigned)sn_grpc_server_port(s->server));
		s->opts.listen = again;
		sn_grpc_server_close(s->server, GRACE_MS);
		start(s);
		return;
	}
	serving = calloc(1, sizeof(*serving));
	if (serving == NULL || sscanf(line, "serving %255s %d", serving->name, &on) != 2)
		peer_die(line, NULL);
	serving->server = s;
	serving->serving = on != 0;
	must(sn_post(s->rt, set_serving, serving));
}

int peer_serve(const struct peer_options *opts)
{
	struct sn_grpc_service service = {.size = sizeof(service),
			.name = TEST_SERVICE,
			.methods = methods,
			.n_methods = sizeof(methods) / sizeof(methods[0]) - 1};
	const struct sn_grpc_service *services[] = {&service, NULL};
	struct server s = {.opts = {.size = sizeof(s.opts),
					   .listen = opts->address,
					   .tls_cert = opts->cert,
					   .tls_key = opts->key,
					   .tls_ca = opts->ca,
					   .services = services,
					   .keep_alive_ms = opts->ping_ms}};
	struct peer_options plain = {0};
	void *descriptors = NULL;
	char line[512];

	if (opts->descriptors != NULL)
		descriptors = read_file(opts->descriptors, &service.descriptors_size);
	service.descriptors = descriptors;
	service.arg = &s;
	s.rt = peer_runtime("next", opts->next, &plain);
	start(&s);
	while (peer_line(line, sizeof(line)) != NULL)
		command(&s, line);
	sn_grpc_server_close(s.server, 0);
	must(sn_close(s.rt, NULL, NULL));
	free(descriptors);
	return 0;
}
