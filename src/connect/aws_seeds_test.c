/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random requests to a service with another clock, which verifies signatures, withdraws credentials
 * and is wrong at random, over a network that is bad at random; the credentials come from a container
 * that is no better. Each request completes exactly once; what completes well was done once by the
 * service and says so; what was "not sent" was not done; none is refused for the clock, nor sent more
 * often than the clock and the credentials explain; nothing leaks, however early all is closed.
 */
#include "connect/aws_world_test.h"
#include "io/seeds_test.h"
#include "proto/aws_answer.h"

#define N 40
#define LIMIT_NS (200 * SN_NS_PER_S)

struct call {
	struct ask ask;
	struct sn_timer start, stop;
	char body[48];
	unsigned seen, executed; /* by the service */
	bool started, stopped;
};

static struct {
	struct aws_world w;
	struct script container;
	struct sn_sigv4 signer;
	struct call calls[N];
	struct sn_timer closer;
	int64_t ahead_s;     /* the service's clock */
	unsigned generation; /* of the credentials given out */
	unsigned valid_from; /* older ones have expired */
	int pending;
	bool closing;
} s;

static unsigned below(unsigned n)
{
	return (unsigned)sn__rng_below(sn__sim_rng(s.w.sim), n);
}

static int64_t wall_s(void)
{
	return (int64_t)(sn__loop_wall_ns(s.w.server) / SN_NS_PER_S);
}

enum form { FORM_ISO, FORM_HTTP };

static void put_date(enum form form, int64_t at_s, char out[40])
{
	time_t t = (time_t)at_s;
	struct tm tm;

	gmtime_r(&t, &tm);
	if (form == FORM_ISO)
		strftime(out, 40, "%Y-%m-%dT%H:%M:%SZ", &tm);
	else
		strftime(out, 40, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

/* ---- the container ---- */

static const struct step *give(struct script *sc, struct sn_str request)
{
	static char answer[600];
	static struct step step;
	char body[300], date[40];

	step = (struct step){.answer = answer};
	switch (below(12)) {
	case 0:
		step = (struct step){.then = below(2) == 0 ? THEN_CLOSE : THEN_RESET};
		return &step;
	case 1:
		step = (struct step){.then = THEN_STALL};
		return &step;
	case 2:
		step.answer = "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n";
		return &step;
	default:
		break;
	}
	put_date(FORM_ISO, wall_s() + s.ahead_s + 5 + below(600), date);
	(void)snprintf(body, sizeof body,
			"{\"AccessKeyId\":\"K%u\",\"SecretAccessKey\":\"S%u\",\"Token\":\"T\","
			"\"Expiration\":\"%s\"}",
			s.generation, s.generation, date);
	s.generation++;
	(void)snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
			strlen(body), body);
	step.piece = below(3) == 0 ? 20 : 0;
	return &step;
}

/* ---- the service ---- */

struct arrived {
	struct sn_http_header h[8];
	struct sn_sigv4_request req;
	struct sn_str authorization, date, body;
};

static void take_header(struct arrived *a, struct sn_str name, struct sn_str value)
{
	if (sn_str_eq(name, SN_STR("Authorization"))) {
		a->authorization = value;
	} else if (!sn_str_eq(name, SN_STR("Content-Length"))) {
		assert_true(a->req.n_headers < SN_COUNT(a->h));
		a->h[a->req.n_headers++] = (struct sn_http_header){name, value};
	}
	if (sn_str_eq(name, SN_STR("X-Amz-Date")))
		a->date = value;
}

static void take_apart(struct sn_str text, struct arrived *a)
{
	const char *at = text.ptr, *end = text.ptr + text.len, *eol;

	*a = (struct arrived){
			.req = {.method = SN_STR("POST"), .path = SN_STR("/"), .headers = NULL}};
	a->req.headers = a->h;
	while ((eol = memmem(at, (size_t)(end - at), "\r\n", 2)) != at) {
		const char *colon = memmem(at, (size_t)(eol - at), ": ", 2);

		assert_non_null(eol);
		if (colon != NULL)
			take_header(a, (struct sn_str){at, (size_t)(colon - at)},
					(struct sn_str){colon + 2, (size_t)(eol - colon) - 2});
		at = eol + 2;
	}
	a->body = (struct sn_str){at + 2, (size_t)(end - at) - 2};
}

/* Number of the credentials it was signed with; the signature is right. */
static unsigned verify(struct arrived *a)
{
	struct sn_sigv4_key key;
	struct sn_buf out;
	char date[SN_SIGV4_DATE], id[16], secret[16];
	unsigned n = 0;

	for (const char *p = a->authorization.ptr + strlen("AWS4-HMAC-SHA256 Credential=K");
			*p != '/'; p++)
		n = n * 10 + (unsigned)(*p - '0');
	(void)snprintf(id, sizeof id, "K%u", n);
	(void)snprintf(secret, sizeof secret, "S%u", n);
	(void)snprintf(date, sizeof date, "%.*s", (int)a->date.len, a->date.ptr);
	sn__buf_init(&out, 4096);
	assert_int_equal(sn__sigv4_hash(&s.signer, a->body, a->req.payload), 0);
	assert_int_equal(sn__sigv4_key(&s.signer, sn_str_from(secret), a->date, SN_STR("r"),
					 SN_STR("dynamodb"), &key),
			0);
	assert_int_equal(sn__sigv4_authorization(
					 &s.signer, &key, sn_str_from(id), date, &a->req, &out),
			0);
	assert_true(sn_str_eq(sn__buf_str(&out), a->authorization));
	sn__buf_finish(&out);
	return n;
}

/* An error, or with status 200 an answer with its checksum. */
static const struct step *reply(unsigned status, const char *body, bool right_crc)
{
	static char answer[800];
	static struct step step;
	char date[40];

	put_date(FORM_HTTP, wall_s() + s.ahead_s, date);
	(void)snprintf(answer, sizeof answer,
			"HTTP/1.1 %u X\r\nDate: %s\r\nx-amz-crc32: %u\r\nContent-Length: %zu\r\n\r\n%s",
			status, date, sn__aws_crc32(sn_str_from(body)) + (right_crc ? 0u : 1u),
			strlen(body), body);
	step = (struct step){.answer = answer,
			.piece = below(4) == 0 ? below(60) + 5 : 0,
			.then = below(8) == 0 ? THEN_CLOSE : THEN_KEEP};
	return &step;
}

static bool clock_differs(struct sn_str date)
{
	int64_t now_s = wall_s() + s.ahead_s;
	char early[SN_SIGV4_DATE], late[SN_SIGV4_DATE];

	sn__sigv4_date((uint64_t)(now_s - 300) * SN_NS_PER_S, early);
	sn__sigv4_date((uint64_t)(now_s + 300) * SN_NS_PER_S, late);
	return memcmp(date.ptr, early, date.len) < 0 || memcmp(date.ptr, late, date.len) > 0;
}

static const struct step *misbehave(struct call *c, bool done)
{
	static struct step step;
	static const char *const refusals[] = {
			"{\"__type\":\"x#ProvisionedThroughputExceededException\"}",
			"{\"__type\":\"x#ThrottlingException\"}",
			"{\"__type\":\"x#ValidationException\",\"message\":\"m\"}"};

	if (!done && below(2) == 0)
		return reply(400, refusals[below(3)], true);
	if (!done && below(2) == 0)
		return reply(below(2) == 0 ? 500 : 503, "<html>", true);
	c->executed += !done;
	if (below(3) == 0)
		return reply(200, c->body, false);
	step = (struct step){.then = below(3) == 0      ? THEN_STALL
					: below(2) == 0 ? THEN_RESET
							: THEN_CLOSE};
	return &step;
}

static const struct step *answer(struct script *sc, struct sn_str request)
{
	struct arrived a;
	struct call *c;
	unsigned n, id = 0;

	take_apart(request, &a);
	n = verify(&a);
	for (const char *p = a.body.ptr + strlen("{\"id\":"); *p != '}'; p++)
		id = id * 10 + (unsigned)(*p - '0');
	assert_true(id < N);
	c = &s.calls[id];
	c->seen++;
	if (clock_differs(a.date))
		return reply(400,
				"{\"__type\":\"x#InvalidSignatureException\",\"message\":"
				"\"Signature expired: a\"}",
				true);
	if (n < s.valid_from)
		return reply(400, "{\"__type\":\"x#ExpiredTokenException\"}", true);
	if (below(15) == 0)
		s.valid_from = s.generation;
	if (below(4) == 0)
		return misbehave(c, false);
	c->executed++;
	return reply(200, c->body, true);
}

/* ---- the requests ---- */

static void close_all(void)
{
	if (s.closing)
		return;
	s.closing = true;
	sn__aws_close(s.w.aws, on_flag, &s.w.aws_gone);
}

static void judge(struct call *c)
{
	const struct sn_outcome *o = &c->ask.req.outcome;

	if (o->class == SN_OUTCOME_OK) {
		assert_true(sn_str_eq(sn__buf_str(&c->ask.req.answer), sn_str_from(c->body)));
		assert_int_equal(c->executed, 1);
	} else if (o->sent == SN_SENT_NO) {
		assert_int_equal(c->executed, 0);
	}
	if (o->class == SN_OUTCOME_THROTTLED)
		assert_int_equal(o->sent, SN_SENT_NO);
	if (!s.closing)
		assert_string_not_equal(c->ask.req.type, "InvalidSignatureException");
	assert_true(c->seen <= 3);
	assert_true(o->class == SN_OUTCOME_OK || o->code < 0);
}

static void on_over(struct ask *ask)
{
	struct call *c = SN_CONTAINER_OF(ask, struct call, ask);

	assert_true(c->started);
	judge(c);
	ask_finish(ask);
	sn__timer_stop(s.w.client, &c->stop);
	s.pending--;
	if (below(400) == 0)
		close_all();
}

static void on_stop(struct sn_timer *t)
{
	struct call *c = SN_CONTAINER_OF(t, struct call, stop);

	sn__aws_cancel(&c->ask.req, SN_E_TIMEOUT);
	assert_false(c->ask.done);
}

static void on_start(struct sn_timer *t)
{
	struct call *c = SN_CONTAINER_OF(t, struct call, start);
	int r;

	if (s.closing) {
		s.pending--;
		return;
	}
	ask_init(&c->ask, "PutItem", c->body);
	c->ask.then = on_over;
	r = sn__aws_start(s.w.aws, &c->ask.req, NULL);
	assert_int_equal(r, 0);
	assert_false(c->ask.done);
	c->started = true;
	sn__timer_start(s.w.client, &c->stop, (below(3) == 0 ? below(3000) : 60000) * SN_NS_PER_MS,
			on_stop);
}

static void on_closer(struct sn_timer *t)
{
	close_all();
}

static void one(uint64_t seed, bool single)
{
	static const struct step unused = {NULL, THEN_STALL};
	struct sn_sim_options net = {0};
	uint64_t end_ns;

	memset(&s, 0, sizeof s);
	(void)clear_vars(NULL);
	set_var("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9000/");
	world_open_seed(&s.w, seed, &unused, 1);
	script_open_at(&s.container, s.w.server, "127.0.0.1", 9000, &unused, 1);
	assert_int_equal(sn__sigv4_init(&s.signer), 0);
	s.w.script.choose = answer;
	s.container.choose = give;
	s.ahead_s = below(3) == 0 ? (int64_t)below(200000) - 100000 : 0;
	net.latency_max_ns = below(2) * below(100) * SN_NS_PER_MS;
	net.partial_read = net.partial_write = below(2) * 300;
	net.reset = below(3) == 0 ? below(30) : 0;
	net.refuse = below(3) == 0 ? below(100) : 0;
	sn__sim_set(s.w.sim, &net);
	assert_int_equal(
			world_aws(&s.w, "{\"region\":\"r\",\"endpoint\":\"http://127.0.0.1:8000\"}",
					NULL),
			0);
	for (unsigned i = 0; i < N; i++) {
		struct call *c = &s.calls[i];

		(void)snprintf(c->body, sizeof c->body, "{\"id\":%u}", i);
		sn__timer_start(s.w.client, &c->start, below(60000) * SN_NS_PER_MS, on_start);
	}
	s.pending = N;
	if (below(4) == 0)
		sn__timer_start(s.w.client, &s.closer, below(60000) * SN_NS_PER_MS, on_closer);
	end_ns = sn__sim_now_ns(s.w.sim) + LIMIT_NS;
	while (s.pending > 0) {
		assert_true(sn__sim_now_ns(s.w.sim) < end_ns);
		(void)sn__sim_run(s.w.sim, sn__sim_now_ns(s.w.sim) + 10 * SN_NS_PER_MS);
	}
	for (unsigned i = 0; i < N; i++)
		assert_true(s.calls[i].started == s.calls[i].ask.done);
	sn__timer_stop(s.w.client, &s.closer);
	if (s.closing) {
		turn_until(&s.w, &s.w.aws_gone);
		s.w.aws = NULL;
	}
	sn__sigv4_finish(&s.signer);
	script_finish(&s.container);
	world_close(&s.w);
}

int main(void)
{
	return seeds_main("aws", one);
}
