/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS against itself through a relay that cuts, splits and stalls what is on the wire, on real
 * sockets and simulated ones; tls_foreign_test.c has OpenSSL's own programs at the other end.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "io/sim.h"
#include "io/tls.h"
#include "io/tls_cert.h"

#define ROUNDS 200000

static bool on_sim;

/* One end of a connection: says @say, hears until the end. */
struct end {
	struct world *w;
	struct sn_stream *s;
	const char *say;
	size_t n_say, said;
	struct sn_buf heard;
	size_t hear; /* closes after so many bytes; 0: at the end of the stream */
	bool close_after_say;
	unsigned n_connected, n_failed;
	int status; /* 1: open; 0: ended well; else the code */
	char text[300];
	char alpn[32];
	bool resumed;
};

/* Between the two: takes at most @piece bytes a turn, gives up after @cut bytes to the client. */
struct relay {
	struct world *w;
	struct sn_listener *listener;
	struct sn_addr addr;
	struct sn_stream *a, *b; /* to the client, to the server */
	bool b_up;
	size_t piece, passed;
	size_t cut;
	bool stall; /* instead of cutting: nothing moves any more */
	bool done;
};

struct world {
	int64_t mem; /* before */
	struct sn_sim *sim;
	struct sn_loop *loop, *server_loop;
	struct sn_tls *client_tls, *server_tls;
	struct sn_listener *listener;
	struct sn_addr addr;
	struct end client, server;
	struct relay relay;
	const char *server_name;
};

static void turn(struct world *w)
{
	if (w->sim != NULL)
		(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + SN_NS_PER_MS);
	else
		(void)sn__loop_run(w->loop, SN_RUN_ONCE);
}

/* ---- an end ---- */

static void end_over(struct end *e, int status, bool reset)
{
	const struct sn_error *err = sn__stream_error(e->s);

	if (err != NULL)
		(void)snprintf(e->text, sizeof e->text, "%s", err->text);
	e->status = status;
	sn__stream_close(e->s, reset);
	e->s = NULL;
}

static void end_write(struct end *e)
{
	while (e->said < e->n_say) {
		/* In two pieces, so that they are joined. */
		size_t half = (e->n_say - e->said + 1) / 2;
		struct sn_str vec[2] = {{e->say + e->said, half},
				{e->say + e->said + half, e->n_say - e->said - half}};
		ssize_t n = sn__stream_write(e->s, vec, 2);

		if (n == SN_E_AGAIN)
			return;
		if (n < 0) {
			/* What the peer had to say about it comes by reading. */
			e->said = e->n_say;
			break;
		}
		assert_true(n > 0);
		e->said += (size_t)n;
	}
	if (e->close_after_say)
		end_over(e, 0, false);
}

static void end_event(struct sn_stream *s, unsigned events, void *arg)
{
	struct end *e = arg;
	char buf[5000];
	ssize_t n;

	assert_ptr_equal(s, e->s);
	if (events & SN_STREAM_FAILED) {
		e->n_failed++;
		assert_non_null(sn__stream_error(s));
		end_over(e, sn__stream_error(s)->code, false);
		return;
	}
	if (events & SN_STREAM_CONNECTED) {
		assert_int_equal(++e->n_connected, 1);
		(void)snprintf(e->alpn, sizeof e->alpn, "%s", sn__tls_alpn(s));
		e->resumed = sn__tls_was_resumed(s);
		end_write(e);
	} else if (events & SN_WRITABLE) {
		end_write(e);
	}
	if (e->s != NULL && events & SN_READABLE) {
		/* Not all that is there: the rest must be announced again. */
		n = sn__stream_read(s, buf, sizeof buf);
		if (n > 0) {
			assert_int_equal(sn__buf_append(&e->heard, buf, (size_t)n), 0);
			if (e->hear != 0 && e->heard.len >= e->hear)
				end_over(e, 0, false);
		} else if (n != SN_E_AGAIN) {
			end_over(e, (int)n, false);
		}
	}
	if (e->s != NULL)
		sn__stream_want(e->s, SN_READABLE | (e->said < e->n_say ? SN_WRITABLE : 0));
}

static void end_init(struct end *e, struct world *w)
{
	memset(e, 0, sizeof *e);
	e->w = w;
	e->status = 1;
	sn__buf_init(&e->heard, 64 << 20);
}

static void on_accept(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	struct world *w = arg;

	assert_null(w->server.s);
	assert_int_equal(
			sn__tls_server(w->server_tls, s, end_event, &w->server, &w->server.s, NULL),
			0);
}

static void on_client_tcp(struct sn_stream *s, unsigned events, void *arg)
{
	struct world *w = arg;

	assert_true(events & SN_STREAM_CONNECTED);
	assert_int_equal(sn__tls_client(w->client_tls, s, w->server_name, end_event, &w->client,
					 &w->client.s, NULL),
			0);
	assert_int_equal(w->client.n_connected, 0);
}

/* ---- the relay ---- */

static void relay_close(struct relay *r)
{
	sn__stream_close(r->a, false);
	sn__stream_close(r->b, false);
	r->a = r->b = NULL;
	r->done = true;
}

static void relay_event(struct sn_stream *s, unsigned events, void *arg)
{
	struct relay *r = arg;
	struct sn_stream *to = s == r->a ? r->b : r->a;
	char buf[65536];
	struct sn_str vec = {buf, 0};
	size_t max = r->piece != 0 ? r->piece : 4096;
	ssize_t n;

	if (events & SN_STREAM_CONNECTED) {
		sn__stream_want(r->a, SN_READABLE);
		sn__stream_want(r->b, SN_READABLE);
		return;
	}
	if (to == r->a && r->cut != 0)
		max = SN_MIN(max, r->cut - r->passed);
	if (max == 0) {
		if (!r->stall) {
			relay_close(r);
			return;
		}
		r->done = true;
		sn__stream_want(r->a, 0);
		sn__stream_want(r->b, 0);
		return;
	}
	n = sn__stream_read(s, buf, max);
	if (n == SN_E_AGAIN)
		return;
	if (n <= 0) {
		relay_close(r);
		return;
	}
	vec.len = (size_t)n;
	/* So little is under way here that it always fits. */
	if (sn__stream_write(to, &vec, 1) != n) {
		relay_close(r);
		return;
	}
	if (to == r->a)
		r->passed += (size_t)n;
}

static void relay_accept(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	struct relay *r = arg;

	r->a = s;
	sn_stream_set_owner(s, relay_event, r);
	assert_int_equal(sn__stream_connect(r->w->loop, &r->w->addr, relay_event, r, &r->b, NULL),
			0);
}

/* ---- the world ---- */

static struct sn_tls_options server_opts(const char *name)
{
	static char cert[256], key[256];
	char file[64];

	(void)snprintf(file, sizeof file, "%s.pem", name);
	(void)snprintf(cert, sizeof cert, "%s", cert_path(file));
	(void)snprintf(file, sizeof file, "%s.key", name);
	(void)snprintf(key, sizeof key, "%s", cert_path(file));
	return (struct sn_tls_options){.cert = cert, .key = key};
}

static void world_open(struct world *w, const struct sn_tls_options *client,
		const struct sn_tls_options *server)
{
	struct sn_addr any;

	memset(w, 0, sizeof *w);
	w->mem = sn__mem_live();
	if (on_sim) {
		assert_int_equal(sn__sim_create(&(struct sn_sim_options){.seed = 7}, &w->sim), 0);
		assert_int_equal(sn__sim_loop(w->sim, &w->loop), 0);
		assert_int_equal(sn__sim_loop(w->sim, &w->server_loop), 0);
	} else {
		assert_int_equal(sn__loop_uv_open(NULL, &w->loop, NULL), 0);
		w->server_loop = w->loop;
	}
	assert_int_equal(sn__tls_create(w->loop, client, false, &w->client_tls), 0);
	assert_int_equal(sn__tls_create(w->server_loop, server, true, &w->server_tls), 0);
	assert_int_equal(sn__addr_from_literal(SN_STR("127.0.0.1"), 0, &any), 0);
	assert_int_equal(sn__listen(w->server_loop, &any, NULL, on_accept, w, &w->listener, NULL),
			0);
	w->addr = *sn__listener_addr(w->listener);
	w->relay.w = w;
	assert_int_equal(sn__listen(w->loop, &any, NULL, relay_accept, &w->relay,
					 &w->relay.listener, NULL),
			0);
	w->relay.addr = *sn__listener_addr(w->relay.listener);
	w->server_name = "a.test";
	end_init(&w->client, w);
	end_init(&w->server, w);
}

static void connect_to(struct world *w, const struct sn_addr *addr)
{
	struct sn_stream *s;

	assert_int_equal(sn__stream_connect(w->loop, addr, on_client_tcp, w, &s, NULL), 0);
}

static void both_over(struct world *w)
{
	for (int i = 0; w->client.status == 1 || w->server.status == 1; i++) {
		assert_true(i < ROUNDS);
		turn(w);
	}
}

static void again(struct world *w)
{
	sn__buf_finish(&w->client.heard);
	sn__buf_finish(&w->server.heard);
	end_init(&w->client, w);
	end_init(&w->server, w);
}

static void world_close(struct world *w)
{
	again(w);
	sn__stream_close(w->relay.a, true);
	sn__stream_close(w->relay.b, true);
	sn__listener_close(w->listener);
	sn__listener_close(w->relay.listener);
	sn__tls_unref(w->client_tls);
	sn__tls_unref(w->server_tls);
	if (w->sim != NULL)
		(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + 5 * SN_NS_PER_S);
	sn__loop_close(w->loop, NULL, NULL);
	if (w->sim != NULL) {
		sn__loop_close(w->server_loop, NULL, NULL);
		sn__sim_destroy(w->sim);
	}
	assert_int_equal(sn__mem_live(), w->mem);
}

static void say(struct end *e, const char *data, size_t n)
{
	e->say = data;
	e->n_say = n;
}

/* Question and answer; the client closes. */
static void talk(struct world *w, const struct sn_addr *addr)
{
	again(w);
	say(&w->client, "ping", 4);
	say(&w->server, "pong!", 5);
	w->client.hear = 5;
	connect_to(w, addr);
	both_over(w);
}

static struct sn_tls_options client_opts(void)
{
	static char ca[256];

	(void)snprintf(ca, sizeof ca, "%s", cert_path("ca.pem"));
	return (struct sn_tls_options){.ca = ca};
}

/* ---- tests ---- */

static void talks_and_resumes(void **state)
{
	struct sn_tls_options c = client_opts(), s = server_opts("good");
	struct world w;

	c.alpn = "h2,http/1.1";
	s.alpn = "http/1.1";
	world_open(&w, &c, &s);
	for (int i = 0; i < 3; i++) {
		if (i == 2)
			w.server_name = NULL; /* by address: another session */
		talk(&w, &w.addr);
		assert_int_equal(w.client.status, 0);
		assert_int_equal(w.server.status, 0); /* close_notify came */
		assert_true(sn_str_eq(sn__buf_str(&w.client.heard), SN_STR("pong!")));
		assert_true(sn_str_eq(sn__buf_str(&w.server.heard), SN_STR("ping")));
		assert_string_equal(w.client.alpn, "http/1.1");
		assert_string_equal(w.server.alpn, "http/1.1");
		assert_int_equal(w.client.resumed, i == 1);
		assert_int_equal(w.server.resumed, i == 1);
	}
	world_close(&w);
}

/* A wire without any delay: what one end writes has been answered when write() returns. */
struct instant {
	struct sn_stream base;
	struct instant *other;
	struct sn_buf in;
	bool is_server, closed;
};

static ssize_t instant_read(struct sn_stream *s, void *out, size_t n)
{
	struct instant *i = SN_CONTAINER_OF(s, struct instant, base);

	n = SN_MIN(n, i->in.len);
	if (n == 0)
		return SN_E_AGAIN;
	memcpy(out, sn__buf_data(&i->in), n);
	sn__buf_consume(&i->in, n);
	return (ssize_t)n;
}

static ssize_t instant_write(struct sn_stream *s, const struct sn_str *vec, unsigned n_vec)
{
	struct instant *i = SN_CONTAINER_OF(s, struct instant, base);

	assert_int_equal(n_vec, 1);
	assert_int_equal(sn__buf_append_str(&i->other->in, vec[0]), 0);
	if (i->other->is_server && !i->other->closed)
		i->other->base.fn(&i->other->base, SN_READABLE, i->other->base.arg);
	return (ssize_t)vec[0].len;
}

static void instant_want(struct sn_stream *s, unsigned events)
{
}

static int instant_shutdown(struct sn_stream *s)
{
	return 0;
}

static void instant_close(struct sn_stream *s, bool reset)
{
	SN_CONTAINER_OF(s, struct instant, base)->closed = true;
}

/* Connected is told later even when the peer's whole handshake is there before we return. */
static void quick_server(void **state)
{
	static const struct sn_stream_ops ops = {.read = instant_read,
			.write = instant_write,
			.want = instant_want,
			.shutdown = instant_shutdown,
			.close = instant_close};
	struct sn_tls_options c = client_opts(), s = server_opts("good");
	struct instant ends[2];
	struct world w;

	world_open(&w, &c, &s);
	for (int i = 0; i < 2; i++) {
		ends[i] = (struct instant){.base = {.ops = &ops,
							   .loop = i == 0 ? w.loop : w.server_loop,
							   .peer = w.addr},
				.other = &ends[1 - i],
				.is_server = i == 1};
		sn__buf_init(&ends[i].in, 1 << 20);
	}
	assert_int_equal(sn__tls_server(w.server_tls, &ends[1].base, end_event, &w.server,
					 &w.server.s, NULL),
			0);
	assert_int_equal(sn__tls_client(w.client_tls, &ends[0].base, "a.test", end_event, &w.client,
					 &w.client.s, NULL),
			0);
	assert_true(ends[0].in.len > 0); /* the answer is there */
	assert_int_equal(w.client.n_connected, 0);
	ends[0].base.fn(&ends[0].base, SN_READABLE, ends[0].base.arg);
	assert_int_equal(w.client.n_connected, 1);
	assert_int_equal(w.server.n_connected, 1);
	end_over(&w.client, 0, false);
	assert_null(w.server.s); /* has heard the end already */
	assert_int_equal(w.server.status, 0);
	sn__buf_finish(&ends[0].in);
	sn__buf_finish(&ends[1].in);
	world_close(&w);
}

static void alpn_without_overlap(void **state)
{
	struct sn_tls_options c = client_opts(), s = server_opts("good");
	struct world w;

	c.alpn = "h2";
	s.alpn = "http/1.1";
	world_open(&w, &c, &s);
	talk(&w, &w.addr);
	assert_int_equal(w.client.status, SN_E_TLS);
	assert_non_null(strstr(w.client.text, "no application protocol"));
	world_close(&w);
}

static const struct refusal {
	const char *server, *server_name, *client_text, *server_text;
} refusals[] = {
		{"expired", "a.test", "certificate has expired (on 20", "certificate expired"},
		{"early", "a.test", "certificate is not yet valid (before 20", NULL},
		{"good", "b.test", "hostname mismatch: it is for a.test and others, not for b.test",
				"certificate"},
		{"named", NULL, "IP address mismatch: it is for a.test, not for 127.0.0.1",
				"certificate"},
		{"unknown", "a.test", "unknown CA \"Other CA\"", "unknown CA"},
		{"self", "a.test", "self-signed certificate", "unknown CA"},
};

static void refused(void **state)
{
	for (size_t i = 0; i < SN_COUNT(refusals); i++) {
		const struct refusal *f = &refusals[i];
		struct sn_tls_options c = client_opts(), s = server_opts(f->server);
		struct world w;

		world_open(&w, &c, &s);
		w.server_name = f->server_name;
		talk(&w, &w.addr);
		assert_int_equal(w.client.status, SN_E_TLS);
		assert_int_equal(w.client.n_connected, 0);
		if (strstr(w.client.text, f->client_text) == NULL)
			fail_msg("%s: %s", f->server, w.client.text);
		/* The server is told by an alert, which it puts into words. */
		assert_int_equal(w.server.status, SN_E_TLS);
		if (f->server_text != NULL && strstr(w.server.text, f->server_text) == NULL)
			fail_msg("%s: %s", f->server, w.server.text);
		world_close(&w);
	}
}

static void unverified(void **state)
{
	struct sn_tls_options c = {.no_verify = true}, s = server_opts("expired");
	struct world w;

	world_open(&w, &c, &s);
	w.server_name = "who.cares";
	talk(&w, &w.addr);
	assert_int_equal(w.client.status, 0);
	world_close(&w);
}

static void mutual(void **state)
{
	static const struct {
		const char *client, *server_text;
		bool good;
	} cases[] = {
			{"client", NULL, true},
			{NULL, "did not return a certificate", false},
			{"stranger", "unknown CA \"Other CA\"", false},
			{"expired", "certificate has expired", false},
	};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct sn_tls_options c = client_opts(), s = server_opts("good");
		char cert[256], key[256], file[64];
		struct world w;

		if (cases[i].client != NULL) {
			(void)snprintf(file, sizeof file, "%s.pem", cases[i].client);
			(void)snprintf(cert, sizeof cert, "%s", cert_path(file));
			(void)snprintf(file, sizeof file, "%s.key", cases[i].client);
			(void)snprintf(key, sizeof key, "%s", cert_path(file));
			c.cert = cert;
			c.key = key;
		}
		s.ca = c.ca;
		s.require_client_cert = true;
		world_open(&w, &c, &s);
		for (int k = 0; k < 2; k++) { /* also resumed */
			talk(&w, &w.addr);
			assert_int_equal(w.client.status, cases[i].good ? 0 : SN_E_TLS);
			assert_int_equal(w.server.status, cases[i].good ? 0 : SN_E_TLS);
			assert_int_equal(w.client.resumed, cases[i].good && k == 1);
		}
		if (!cases[i].good) {
			assert_non_null(strstr(w.server.text, cases[i].server_text));
			assert_non_null(strstr(w.client.text, "the peer sent alert"));
		}
		world_close(&w);
	}
}

static void bad_files(void **state)
{
	struct sn_tls_options c = {.ca = "/nonexistent/ca.pem"}, s = server_opts("good");
	struct sn_error err;
	struct world w;

	world_open(&w, &c, &s);
	assert_int_equal(sn__tls_load(w.client_tls, &err), SN_E_TLS);
	assert_non_null(strstr(err.text, "/nonexistent/ca.pem: No such file"));
	sn__tls_unref(w.server_tls);
	s.key = cert_path("client.key");
	assert_int_equal(sn__tls_create(w.loop, &s, true, &w.server_tls), 0);
	assert_int_equal(sn__tls_load(w.server_tls, &err), SN_E_TLS);
	assert_non_null(strstr(err.text, "client.key: key values mismatch"));
	sn__tls_unref(w.server_tls);
	s.cert = NULL;
	assert_int_equal(sn__tls_create(w.loop, &s, true, &w.server_tls), 0);
	assert_int_equal(sn__tls_load(w.server_tls, &err), SN_E_INVALID);
	world_close(&w);
}

static void count_warning(const struct sn_error *err, void *arg)
{
	assert_non_null(strstr(err->text, "live.pem"));
	++*(int *)arg;
}

static void let_time_pass(struct world *w)
{
	(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + 2 * SN_NS_PER_S);
}

static void reloaded(void **state)
{
	struct cert other_name = cert_make("other", "DNS:b.test", NULL, -CERT_DAY, CERT_DAY);
	struct sn_tls_options c = {.no_verify = false, .ca = NULL}, s = server_opts("live");
	struct cert first = cert_make("first", "DNS:a.test", NULL, -CERT_DAY, CERT_DAY);
	char live[256];
	struct world w;
	int warnings = 0;
	FILE *f;

	if (!on_sim) { /* needs the clock in its hands */
		cert_free(&first);
		cert_free(&other_name);
		return;
	}
	cert_save(&first, "live");
	(void)snprintf(live, sizeof live, "%s", cert_path("live.pem"));
	c.ca = live; /* both sides have the file, and both must see it change */
	world_open(&w, &c, &s);
	sn__tls_on_warning(w.server_tls, count_warning, &warnings);
	sn__tls_on_warning(w.client_tls, count_warning, &warnings);
	talk(&w, &w.addr);
	assert_int_equal(w.client.status, 0);
	cert_save(&other_name, "live");
	w.server_name = "b.test";
	let_time_pass(&w);
	talk(&w, &w.addr);
	assert_int_equal(w.client.status, 0);
	assert_false(w.client.resumed);
	f = fopen(live, "we");
	assert_non_null(f);
	assert_true(fputs("rubbish", f) >= 0);
	assert_int_equal(fclose(f), 0);
	for (int i = 0; i < 3; i++) {
		let_time_pass(&w);
		talk(&w, &w.addr);
		assert_int_equal(w.client.status, 0);
		assert_int_equal(w.client.resumed, true);
		assert_int_equal(warnings, 2); /* each side once */
	}
	world_close(&w);
	cert_free(&first);
	cert_free(&other_name);
}

/* Cut after every byte: an error on the way, never an orderly end, and no data invented. */
static void cut_everywhere(void **state)
{
	struct sn_tls_options c = client_opts(), s = server_opts("good");
	size_t total = 2;
	int whole = 0;
	struct world w;

	world_open(&w, &c, &s);
	for (size_t cut = 0; cut < total; cut += cut < 600 || cut + 120 > total ? 1 : 7) {
		again(&w);
		w.relay.cut = cut;
		w.relay.passed = 0;
		say(&w.client, "ping", 4);
		say(&w.server, "pong!", 5);
		w.server.close_after_say = true;
		sn__tls_unref(w.client_tls); /* no session from the last time */
		assert_int_equal(sn__tls_create(w.loop, &c, false, &w.client_tls), 0);
		connect_to(&w, &w.relay.addr);
		both_over(&w);
		if (cut == 0) { /* not cut: how much there is */
			total = w.relay.passed;
			assert_int_equal(w.client.status, 0);
			assert_true(sn_str_eq(sn__buf_str(&w.client.heard), SN_STR("pong!")));
			continue;
		}
		if (w.relay.passed < cut || (w.client.status == 0 && cut + 10 > total)) {
			whole++; /* signatures differ in length */
			continue;
		}
		assert_int_equal(w.client.status, SN_E_EOF);
		assert_true(w.client.n_connected == 0 ||
				strstr(w.client.text, "close_notify") != NULL);
		assert_true(w.client.heard.len == 0 || w.client.heard.len == 5);
	}
	assert_true(total > 600 && whole < 8);
	world_close(&w);
}

static void split_everywhere(void **state)
{
	struct sn_tls_options c = client_opts(), s = server_opts("good");
	struct world w;

	world_open(&w, &c, &s);
	for (size_t piece = 1; piece < 8; piece++) {
		w.relay.piece = piece;
		talk(&w, &w.relay.addr);
		assert_int_equal(w.client.status, 0);
		assert_true(sn_str_eq(sn__buf_str(&w.client.heard), SN_STR("pong!")));
		assert_true(sn_str_eq(sn__buf_str(&w.server.heard), SN_STR("ping")));
	}
	world_close(&w);
}

/* A relay that stops: nothing happens, nothing spins, and closing works. */
static void stalled(void **state)
{
	struct sn_tls_options c = client_opts(), s = server_opts("good");

	for (size_t cut = 1; cut < 1200; cut += 100) {
		struct world w;

		world_open(&w, &c, &s);
		w.relay.cut = cut;
		w.relay.stall = true;
		say(&w.client, "ping", 4);
		connect_to(&w, &w.relay.addr);
		for (int i = 0; !w.relay.done; i++) {
			assert_true(i < ROUNDS);
			if (cut >= 700 && w.client.n_connected > 0 && w.server.n_connected > 0)
				break; /* less was needed */
			turn(&w);
		}
		if (w.sim != NULL) {
			uint64_t before = sn__loop_turn(w.loop);

			(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + 10 * SN_NS_PER_S);
			assert_true(sn__loop_turn(w.loop) - before < 100);
		}
		assert_int_equal(w.client.status, 1);
		end_over(&w.client, 0, false);
		if (w.server.s != NULL)
			end_over(&w.server, 0, true);
		sn__stream_close(w.relay.a, false);
		sn__stream_close(w.relay.b, false);
		w.relay.a = w.relay.b = NULL;
		world_close(&w);
	}
}

/* Megabytes both ways at once over a network that takes and gives little pieces. */
static void large(void **state)
{
	struct sn_tls_options c = client_opts(), s = server_opts("good");
	size_t size = 3 << 20;
	char *a = sn__malloc(size), *b = sn__malloc(size);
	struct world w;

	for (size_t i = 0; i < size; i++) {
		a[i] = (char)(i * 7 + i / 251);
		b[i] = (char)(i * 13 + i / 241);
	}
	world_open(&w, &c, &s);
	if (on_sim)
		sn__sim_set(w.sim,
				&(struct sn_sim_options){.latency_min_ns = 10000,
						.latency_max_ns = 900000,
						.partial_write = 300,
						.partial_read = 300,
						.window = 20000});
	say(&w.client, a, size);
	say(&w.server, b, size);
	w.client.hear = size;
	connect_to(&w, &w.addr);
	for (int i = 0; w.client.status == 1 || w.server.heard.len < size; i++) {
		assert_true(i < ROUNDS);
		turn(&w);
	}
	assert_true(sn_str_eq(sn__buf_str(&w.client.heard), (struct sn_str){b, size}));
	assert_true(sn_str_eq(sn__buf_str(&w.server.heard), (struct sn_str){a, size}));
	both_over(&w);
	world_close(&w);
	sn__free(a);
	sn__free(b);
}

/* Bytes once taken are delivered although the writer has closed. */
static void closed_with_bytes(void **state)
{
	struct sn_tls_options c = client_opts(), s = server_opts("good");
	size_t size = 200000;
	char *b = sn__malloc(size);
	struct world w;

	memset(b, 'b', size);
	world_open(&w, &c, &s);
	if (on_sim)
		sn__sim_set(w.sim,
				&(struct sn_sim_options){.latency_min_ns = 1000,
						.latency_max_ns = 1000,
						.window = 3000});
	say(&w.server, b, size);
	w.server.close_after_say = true;
	connect_to(&w, &w.addr);
	both_over(&w);
	assert_int_equal(w.client.status, 0);
	assert_int_equal(w.client.heard.len, size);
	world_close(&w);
	sn__free(b);
}

static void memory_sweep(void **state)
{
	struct sn_tls_options c = client_opts(), s = server_opts("good");
	bool failed = true;

	for (uint64_t nth = 1; failed; nth++) {
		struct sn_tls *tls = NULL;
		struct sn_stream *inner, *out = NULL;
		struct world w;
		int r;

		world_open(&w, &c, &s);
		assert_int_equal(sn__stream_connect(w.loop, &w.addr, end_event, &w.client, &inner,
						 NULL),
				0);
		sn__mem_fail_nth(nth);
		r = sn__tls_create(w.loop, &c, false, &tls);
		if (r == 0)
			r = sn__tls_client(tls, inner, "a.test", end_event, &w.client, &out, NULL);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		/* The simulated network needs memory to write, which the handshake tells later. */
		assert_true(r == (failed ? SN_E_NOMEM : 0) || (r == 0 && on_sim));
		if (r < 0)
			sn__stream_close(inner, true); /* was not taken */
		else
			sn__stream_close(out, true);
		sn__tls_unref(tls);
		for (int i = 0; i < 20; i++)
			(void)(w.sim != NULL ? sn__sim_run(w.sim,
							       sn__sim_now_ns(w.sim) + SN_NS_PER_MS)
					     : sn__loop_run(w.loop, SN_RUN_NOWAIT));
		if (w.server.s != NULL)
			end_over(&w.server, 0, true);
		world_close(&w);
	}
}

static int set_sim(void **state)
{
	on_sim = true;
	return 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
			cmocka_unit_test(talks_and_resumes),
			cmocka_unit_test(quick_server),
			cmocka_unit_test(alpn_without_overlap),
			cmocka_unit_test(refused),
			cmocka_unit_test(unverified),
			cmocka_unit_test(mutual),
			cmocka_unit_test(bad_files),
			cmocka_unit_test(reloaded),
			cmocka_unit_test(cut_everywhere),
			cmocka_unit_test(split_everywhere),
			cmocka_unit_test(stalled),
			cmocka_unit_test(large),
			cmocka_unit_test(closed_with_bytes),
			cmocka_unit_test(memory_sweep),
	};
	int failed;

	failed = cmocka_run_group_tests_name("real", tests, cert_make_all, NULL);
	failed += cmocka_run_group_tests_name("simulated", tests, set_sim, cert_remove_all);
	return failed;
}
