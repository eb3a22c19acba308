/* SPDX-License-Identifier: Apache-2.0 */
/* The client's cases that are made of unary calls, and the program. */
#include "grpc_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METHOD(name) "/" TEST_SERVICE "/" name

/* A call and what came of it; the answer is the caller's. */
struct outcome {
	int code;
	char text[512];
	struct sn_grpc_answer *answer; /* NULL: none */
};

static struct outcome unary(struct client *c, const char *method, const ProtobufCMessage *request,
		const struct sn_grpc_options *opts)
{
	struct outcome o = {0};
	struct sn_error *err = NULL;
	int r = sn_grpc_call_wait(
			c->rt, "service", "peer", "grpc", method, request, opts, &o.answer, &err);

	NEED(c, (r == 0) == (err == NULL));
	NEED(c, (r == SN_E_STATUS) == (r < 0 && o.answer != NULL));
	o.code = sn_grpc_error_code(err);
	(void)snprintf(o.text, sizeof(o.text), "%s",
			o.answer != NULL              ? sn_grpc_answer_text(o.answer)
					: err != NULL ? sn_error_text(err)
						      : "");
	if (o.answer != NULL)
		NEED(c, sn_grpc_answer_code(o.answer) == o.code);
	sn_error_destroy(err);
	return o;
}

/* The call has to end with @code; true when it did. */
static bool expect(struct client *c, struct outcome *o, int code)
{
	if (o->code == code)
		return true;
	if (c->failure[0] == '\0')
		(void)snprintf(c->failure, sizeof(c->failure), "%s instead of %s: %s",
				sn_grpc_code_name(o->code), sn_grpc_code_name(code), o->text);
	return false;
}

static void done(struct outcome *o)
{
	sn_grpc_answer_destroy(o->answer);
	o->answer = NULL;
}

static void empty_unary(struct client *c)
{
	Grpc__Testing__Empty empty = GRPC__TESTING__EMPTY__INIT;
	struct outcome o = unary(c, METHOD("EmptyCall"), &empty.base, NULL);
	size_t size = 1;

	if (expect(c, &o, SN_GRPC_OK))
		NEED(c, sn_grpc_answer_bytes(o.answer, &size) != NULL && size == 0);
	done(&o);
}

struct ask {
	Grpc__Testing__SimpleRequest m;
	Grpc__Testing__Payload payload;
	Grpc__Testing__BoolValue expect_compressed, response_compressed;
	Grpc__Testing__EchoStatus status;
};

static void ask_init(struct ask *a, size_t response, size_t body)
{
	*a = (struct ask){GRPC__TESTING__SIMPLE_REQUEST__INIT, GRPC__TESTING__PAYLOAD__INIT,
			GRPC__TESTING__BOOL_VALUE__INIT, GRPC__TESTING__BOOL_VALUE__INIT,
			GRPC__TESTING__ECHO_STATUS__INIT};
	a->m.response_size = (int32_t)response;
	a->payload.body = peer_zeros(body);
	a->m.payload = &a->payload;
}

/* The length of the response's body, all zeros; -1: something else. */
static int64_t body_size(const struct sn_grpc_answer *answer)
{
	Grpc__Testing__SimpleResponse *response;
	ProtobufCMessage *m;
	int64_t size = 0;

	if (answer == NULL ||
			sn_grpc_answer_unpack(answer, &grpc__testing__simple_response__descriptor,
					&m) < 0)
		return -1;
	response = (Grpc__Testing__SimpleResponse *)m;
	if (response->payload != NULL) {
		size = (int64_t)response->payload->body.len;
		if (size > 0 &&
				memcmp(response->payload->body.data, peer_zeros((size_t)size).data,
						(size_t)size) != 0)
			size = -1;
	}
	sn_grpc_message_free(m);
	return size;
}

static void large(struct client *c, struct ask *a, const struct sn_grpc_options *opts)
{
	struct outcome o = unary(c, METHOD("UnaryCall"), &a->m.base, opts);

	if (expect(c, &o, SN_GRPC_OK))
		NEED(c, body_size(o.answer) == a->m.response_size);
	done(&o);
}

static void large_unary(struct client *c)
{
	struct ask a;

	ask_init(&a, 314159, 271828);
	large(c, &a, NULL);
}

static void client_compressed_unary(struct client *c)
{
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	struct ask a;

	ask_init(&a, 314159, 271828);
	a.m.expect_compressed = &a.expect_compressed;
	a.expect_compressed.value = true;
	opts.gzip = true;
	large(c, &a, &opts);
	a.expect_compressed.value = false;
	large(c, &a, NULL);
}

static void server_compressed_unary(struct client *c)
{
	struct ask a;

	ask_init(&a, 314159, 271828);
	a.m.response_compressed = &a.response_compressed;
	a.response_compressed.value = true;
	large(c, &a, NULL);
	a.response_compressed.value = false;
	large(c, &a, NULL);
}

static bool same(const void *a, size_t n_a, const void *b, size_t n_b)
{
	return a != NULL && n_a == n_b && (n_a == 0 || memcmp(a, b, n_a) == 0);
}

static void metadata(struct client *c, const char *initial, const void *trailing, size_t size)
{
	const struct sn_grpc_metadata entries[] = {
			{TEST_INITIAL, initial, strlen(initial)}, {TEST_TRAILING, trailing, size}};
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	struct step step = {.sizes = {314159}, .n_sizes = 1, .body = 271828};
	struct ask a;
	struct outcome o;
	struct talk *t;
	const void *value;
	size_t n = 0;

	opts.metadata = entries;
	opts.n_metadata = 2;
	ask_init(&a, 314159, 271828);
	o = unary(c, METHOD("UnaryCall"), &a.m.base, &opts);
	if (expect(c, &o, SN_GRPC_OK)) {
		value = sn_grpc_answer_header(o.answer, TEST_INITIAL, &n);
		NEED(c, same(value, n, initial, strlen(initial)));
		value = sn_grpc_answer_trailer(o.answer, TEST_TRAILING, &n);
		NEED(c, same(value, n, trailing, size));
		NEED(c, sn_grpc_answer_header(o.answer, TEST_TRAILING, NULL) == NULL);
		NEED(c, sn_grpc_answer_trailer(o.answer, TEST_INITIAL, NULL) == NULL);
	}
	done(&o);
	t = talk_open(c, TALK_OUT, METHOD("FullDuplexCall"), &opts);
	talk_send(t, &step);
	talk_end(t);
	NEED(c, talk_wait_end(t) == SN_GRPC_OK && t->n_got == 1 && t->got[0] == 314159);
	NEED(c, strcmp(t->initial, initial) == 0);
	NEED(c, same(t->trailing, t->trailing_size, trailing, size));
	talk_free(t);
}

static void custom_metadata(struct client *c)
{
	metadata(c, "test_initial_metadata_value", "\xab\xab\xab", 3);
}

static void binary_metadata(struct client *c)
{
	static const size_t sizes[] = {0, 1, 2, 3, 4, 256};
	uint8_t bytes[256];

	for (size_t i = 0; i < 256; i++)
		bytes[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		metadata(c, "initial", bytes, sizes[i]);
}

static void large_metadata(struct client *c)
{
	char text[7001];

	memset(text, 'm', 7000);
	text[7000] = '\0';
	metadata(c, text, "bbbbbbbbbb", 10);
}

static void status_of(struct client *c, int code, const char *text)
{
	struct ask a;
	struct outcome o;

	ask_init(&a, 0, 0);
	a.m.response_status = &a.status;
	a.status.code = code;
	a.status.message = (char *)(uintptr_t)text;
	o = unary(c, METHOD("UnaryCall"), &a.m.base, NULL);
	if (expect(c, &o, code))
		NEED(c, o.answer != NULL && strcmp(o.text, text) == 0);
	done(&o);
}

static void status(struct client *c, const char *text)
{
	struct talk *t;

	status_of(c, SN_GRPC_UNKNOWN, text);
	t = talk_open(c, TALK_OUT, METHOD("FullDuplexCall"), NULL);
	talk_send(t, &(struct step){.status_text = text});
	talk_end(t);
	NEED(c, talk_wait_end(t) == SN_GRPC_UNKNOWN);
	NEED(c, strcmp(t->text, text) == 0);
	talk_free(t);
}

static void status_code_and_message(struct client *c)
{
	status(c, "test status message");
}

static void special_status_message(struct client *c)
{
	status(c,
			"\t\ntest with whitespace\r\nand Unicode BMP \xe2\x98\xba and non-BMP "
			"\xf0\x9f\x98\x88\t\n");
}

static void every_status(struct client *c)
{
	for (int code = 1; code <= 16; code++)
		status_of(c, code, sn_grpc_code_name(code));
}

static void unimplemented(struct client *c, const char *method)
{
	Grpc__Testing__Empty empty = GRPC__TESTING__EMPTY__INIT;
	struct outcome o = unary(c, method, &empty.base, NULL);

	(void)expect(c, &o, SN_GRPC_UNIMPLEMENTED);
	done(&o);
}

static void unimplemented_method(struct client *c)
{
	unimplemented(c, METHOD("UnimplementedCall"));
}

static void unimplemented_service(struct client *c)
{
	unimplemented(c, "/grpc.testing.UnimplementedService/UnimplementedCall");
}

/* ---- more than the description ---- */

static const struct sn_grpc_metadata hang = {"x-test-hang", "1", 1};

static void deadline_exceeded(struct client *c)
{
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	struct ask a;
	struct outcome o;

	opts.metadata = &hang;
	opts.n_metadata = 1;
	opts.deadline_ms = 300;
	ask_init(&a, 0, 0);
	o = unary(c, METHOD("UnaryCall"), &a.m.base, &opts);
	(void)expect(c, &o, SN_GRPC_DEADLINE_EXCEEDED);
	done(&o);
}

struct ended {
	bool yet;
	int code;
};

static void on_ended(const struct sn_grpc_answer *answer, const struct sn_error *err, void *arg)
{
	struct ended *e = arg;

	client_lock();
	e->yet = true;
	e->code = sn_grpc_error_code(err);
	client_changed();
	client_unlock();
}

/* A unary call that is not answered; "end" cancels it. */
static void cancel_hanging(struct client *c)
{
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	struct sn_error *err = NULL;
	struct sn_call_id id;
	struct ended end = {0};
	struct ask a;
	char line[64];

	opts.metadata = &hang;
	opts.n_metadata = 1;
	ask_init(&a, 0, 0);
	if (sn_grpc_call(c->rt, "service", "peer", "grpc", METHOD("UnaryCall"), &a.m.base, &opts,
			    on_ended, &end, &id, &err) < 0)
		peer_die("call", err);
	peer_say("at hanging");
	NEED(c, peer_line(line, sizeof(line)) != NULL && strcmp(line, "end") == 0);
	sn_grpc_cancel(c->rt, id);
	client_lock();
	while (!end.yet)
		client_wait();
	client_unlock();
	NEED(c, end.code == SN_GRPC_CANCELLED);
}

static void deadline_passed_on(struct client *c)
{
	static const struct sn_grpc_metadata entry = {"x-test-time-left", "?", 1};
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	struct ask a;
	struct outcome o;
	const char *value;
	char text[32] = "";
	unsigned long left;
	size_t n;

	opts.metadata = &entry;
	opts.n_metadata = 1;
	opts.deadline_ms = 9000;
	ask_init(&a, 0, 0);
	o = unary(c, METHOD("UnaryCall"), &a.m.base, &opts);
	if (expect(c, &o, SN_GRPC_OK)) {
		value = sn_grpc_answer_trailer(o.answer, "x-test-time-left", &n);
		if (NEED(c, value != NULL && n < sizeof(text)))
			memcpy(text, value, n);
		left = strtoul(text, NULL, 10);
		NEED(c, left > 4000 && left <= 9000);
	}
	done(&o);
}

static void big_message(struct client *c)
{
	struct ask a;

	ask_init(&a, TEST_LIMIT - 64, TEST_LIMIT - 64);
	large(c, &a, NULL);
}

static void too_large(struct client *c, size_t response, size_t body)
{
	struct ask a;
	struct outcome o;

	ask_init(&a, response, body);
	o = unary(c, METHOD("UnaryCall"), &a.m.base, NULL);
	(void)expect(c, &o, SN_GRPC_RESOURCE_EXHAUSTED);
	done(&o);
	empty_unary(c);
}

static void request_too_large(struct client *c)
{
	too_large(c, 1, TEST_LIMIT);
}

static void response_too_large(struct client *c)
{
	too_large(c, TEST_LIMIT, 1);
}

/* Small on the wire, too large behind it, either way. */
static void compressed_too_large(struct client *c)
{
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	struct ask a;
	struct outcome o;

	ask_init(&a, 1, TEST_LIMIT);
	opts.gzip = true;
	o = unary(c, METHOD("UnaryCall"), &a.m.base, &opts);
	(void)expect(c, &o, SN_GRPC_RESOURCE_EXHAUSTED);
	done(&o);
	ask_init(&a, TEST_LIMIT, 1);
	a.m.response_compressed = &a.response_compressed;
	a.response_compressed.value = true;
	o = unary(c, METHOD("UnaryCall"), &a.m.base, NULL);
	(void)expect(c, &o, SN_GRPC_RESOURCE_EXHAUSTED);
	done(&o);
	empty_unary(c);
}

struct many {
	struct client *c;
	unsigned left;
};

static void on_one_of_many(
		const struct sn_grpc_answer *answer, const struct sn_error *err, void *arg)
{
	struct many *m = arg;
	int64_t size = body_size(answer);

	client_lock();
	if (!NEED(m->c, err == NULL))
		(void)snprintf(m->c->failure, sizeof(m->c->failure), "%s", sn_error_text(err));
	NEED(m->c, size >= 1000 && size < 1500);
	m->left--;
	client_changed();
	client_unlock();
}

static void concurrent_unary(struct client *c)
{
	struct many m = {c, 500};
	struct sn_error *err = NULL;
	struct ask a;

	for (unsigned i = 0; i < 500; i++) {
		ask_init(&a, 1000 + i, i);
		if (sn_grpc_call(c->rt, "service", "peer", "grpc", METHOD("UnaryCall"), &a.m.base,
				    NULL, on_one_of_many, &m, NULL, &err) < 0)
			peer_die("call", err);
	}
	client_lock();
	while (m.left > 0)
		client_wait();
	client_unlock();
}

static void error_details(struct client *c)
{
	/* google.rpc.Status: code 5, message "with details", one Any */
	static const char bytes[] = "\x08\x05\x12\x0cwith details\x1a\x0a\x0a\x03"
				    "a/b\x12\x03\x08\x96\x01";
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	const struct sn_grpc_metadata entry = {"x-test-details-bin", bytes, sizeof(bytes) - 1};
	struct ask a;
	struct outcome o;
	struct talk *t;
	const void *details;
	size_t n = 0;

	opts.metadata = &entry;
	opts.n_metadata = 1;
	ask_init(&a, 0, 0);
	o = unary(c, METHOD("UnaryCall"), &a.m.base, &opts);
	if (expect(c, &o, SN_GRPC_NOT_FOUND) && NEED(c, o.answer != NULL)) {
		NEED(c, strcmp(o.text, "with details") == 0);
		details = sn_grpc_answer_details(o.answer, &n);
		NEED(c, same(details, n, bytes, sizeof(bytes) - 1));
	}
	done(&o);
	/* The same method, asked as a stream. */
	t = talk_open(c, TALK_OUT, METHOD("UnaryCall"), &opts);
	talk_send(t, &(struct step){0});
	talk_end(t);
	NEED(c, talk_wait_end(t) == SN_GRPC_NOT_FOUND && strcmp(t->text, "with details") == 0);
	NEED(c, same(t->details, t->details_size, bytes, sizeof(bytes) - 1));
	talk_free(t);
}

static void check_health(struct client *c, const char *service, int code)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	struct outcome o;
	ProtobufCMessage *m;

	request.service = (char *)(uintptr_t)service;
	o = unary(c, "/grpc.health.v1.Health/Check", &request.base, NULL);
	if (expect(c, &o, code) && code == SN_GRPC_OK &&
			NEED(c,
					sn_grpc_answer_unpack(o.answer,
							&grpc__health__v1__health_check_response__descriptor,
							&m) == 0)) {
		NEED(c, ((Grpc__Health__V1__HealthCheckResponse *)m)->status == 1); /* SERVING */
		sn_grpc_message_free(m);
	}
	done(&o);
}

static void health_check(struct client *c)
{
	check_health(c, "", SN_GRPC_OK);
	check_health(c, TEST_SERVICE, SN_GRPC_OK);
	check_health(c, "nobody", SN_GRPC_NOT_FOUND);
}

static void unavailable(struct client *c)
{
	Grpc__Testing__Empty empty = GRPC__TESTING__EMPTY__INIT;
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	struct outcome o;

	opts.retry = SN_RETRY_NONE;
	o = unary(c, METHOD("EmptyCall"), &empty.base, &opts);
	(void)expect(c, &o, SN_GRPC_UNAVAILABLE);
	done(&o);
}

/* Eight calls at a time until "end", and ten more each; none may fail. */
struct chain {
	struct client *c;
	struct ask ask;
	unsigned left;
};
static struct {
	unsigned calls, running;
	bool stop;
} chains; /* under the client's lock */

static void next_call(struct chain *chain);

static void on_next(const struct sn_grpc_answer *answer, const struct sn_error *err, void *arg)
{
	struct chain *chain = arg;
	bool more;

	client_lock();
	if (err != NULL && chain->c->failure[0] == '\0')
		(void)snprintf(chain->c->failure, sizeof(chain->c->failure), "%s",
				sn_error_text(err));
	if (chains.stop)
		chain->left--;
	chains.calls++;
	more = chain->left > 0 && err == NULL;
	if (!more)
		chains.running--;
	client_changed();
	client_unlock();
	if (more)
		next_call(chain);
}

static void next_call(struct chain *chain)
{
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	struct sn_error *err = NULL;

	opts.idempotent = true;
	if (sn_grpc_call(chain->c->rt, "service", "peer", "grpc", METHOD("UnaryCall"),
			    &chain->ask.m.base, &opts, on_next, chain, NULL, &err) < 0)
		peer_die("call", err);
}

static void calls_all_the_time(struct client *c)
{
	struct chain all[8];
	char line[64];

	chains.calls = 0;
	chains.running = 8;
	chains.stop = false;
	for (size_t i = 0; i < 8; i++) {
		all[i].c = c;
		all[i].left = 10;
		ask_init(&all[i].ask, 100, 100);
		next_call(&all[i]);
	}
	client_lock();
	while (chains.calls < 20 && chains.running > 0)
		client_wait();
	client_unlock();
	peer_say("at running");
	NEED(c, peer_line(line, sizeof(line)) != NULL && strcmp(line, "end") == 0);
	client_lock();
	chains.stop = true;
	while (chains.running > 0)
		client_wait();
	client_unlock();
}

static const struct client_case unary_cases[] = {
		{"big_message", big_message},
		{"binary_metadata", binary_metadata},
		{"calls_all_the_time", calls_all_the_time},
		{"cancel_hanging", cancel_hanging},
		{"client_compressed_unary", client_compressed_unary},
		{"compressed_too_large", compressed_too_large},
		{"concurrent_unary", concurrent_unary},
		{"custom_metadata", custom_metadata},
		{"deadline_exceeded", deadline_exceeded},
		{"deadline_passed_on", deadline_passed_on},
		{"empty_unary", empty_unary},
		{"error_details", error_details},
		{"every_status", every_status},
		{"health_check", health_check},
		{"large_metadata", large_metadata},
		{"large_unary", large_unary},
		{"request_too_large", request_too_large},
		{"response_too_large", response_too_large},
		{"server_compressed_unary", server_compressed_unary},
		{"special_status_message", special_status_message},
		{"status_code_and_message", status_code_and_message},
		{"unavailable", unavailable},
		{"unimplemented_method", unimplemented_method},
		{"unimplemented_service", unimplemented_service},
		{NULL, NULL},
};

static case_fn *find(const struct client_case *cases, const char *name)
{
	while (cases->name != NULL && strcmp(cases->name, name) != 0)
		cases++;
	return cases->fn;
}

int peer_client(const struct peer_options *opts)
{
	struct client c = {0};
	case_fn *fn;
	char name[128];

	c.rt = peer_runtime("peer", opts->address, opts);
	while (peer_line(name, sizeof(name)) != NULL) {
		fn = find(unary_cases, name);
		if (fn == NULL)
			fn = find(client_stream_cases, name);
		c.failure[0] = '\0';
		if (NEED(&c, fn != NULL))
			fn(&c);
		for (char *p = c.failure; *p != '\0'; p++)
			if (*p == '\n' || *p == '\r')
				*p = ' ';
		if (c.failure[0] == '\0')
			peer_say("ok %s", name);
		else
			peer_say("FAILED %s %s", name, c.failure);
	}
	if (sn_close(c.rt, NULL, NULL) < 0)
		peer_die("close", NULL);
	return 0;
}
