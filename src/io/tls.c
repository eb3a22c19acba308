/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS as a stream over a stream. OpenSSL reads and writes through a BIO of ours that sits on the
 * inner stream itself, so that records are decrypted where they were read.
 *
 * Writing never blocks as OpenSSL sees it: what the inner stream does not take waits in ts->out,
 * and the owner gets SN_E_AGAIN before the next record is made. So OpenSSL never asks for the same
 * write again (its owner may have changed his mind), a read never waits for a write, and bytes once
 * taken are delivered: a stream that is closed with something in ts->out lingers up to two seconds.
 * When the inner stream stops taking bytes, reading goes on, for the peer may have said why.
 *
 * The end: close_notify is the end of the stream (0); without it the connection was cut, by
 * accident or by somebody on the way, and the read fails with SN_E_EOF.
 *
 * "Readable" is level-triggered although a record may wait inside OpenSSL, where the loop cannot see
 * it: then a task says so.
 */
#include <openssl/err.h>
#include <stdio.h>

#include "base/mem.h"
#include "io/tls_impl.h"

#define LINGER_NS (2 * SN_NS_PER_S)
#define OUT_MAX (1u << 20) /* a peer that demands answers (key updates) and reads none */
#define RECORDS_A_WRITE 4

static const struct sn_stream_ops tls_ops;

static struct sn_tls_stream *ts_of(struct sn_stream *s)
{
	return SN_CONTAINER_OF(s, struct sn_tls_stream, base);
}

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *out, int size)
{
	struct sn_tls_stream *ts = BIO_get_data(bio);
	ssize_t n = ts->starting ? SN_E_AGAIN : sn__stream_read(ts->inner, out, (size_t)size);

	BIO_clear_retry_flags(bio);
	if (n == SN_E_AGAIN) {
		BIO_set_retry_read(bio);
		return -1;
	}
	if (n < 0)
		ts->inner_error = (int)n;
	if (n == 0)
		ts->inner_eof = true;
	return (int)SN_MAX(n, (ssize_t)-1);
}

static int bio_write(BIO *bio, const char *data, int size)
{
	struct sn_tls_stream *ts = BIO_get_data(bio);
	struct sn_str vec = {data, (size_t)size};
	ssize_t n = 0;

	BIO_clear_retry_flags(bio);
	if (ts->write_error != 0)
		return size; /* nobody is there any more; what he said may still be read */
	if (ts->out.len == 0 && !ts->corked) {
		n = sn__stream_write(ts->inner, &vec, 1);
		if (n == SN_E_RESET) {
			ts->write_error = (int)n;
			return size;
		}
		if (n < 0 && n != SN_E_AGAIN) {
			ts->inner_error = (int)n;
			return -1;
		}
		n = SN_MAX(n, 0);
	}
	if (n < size && sn__buf_append(&ts->out, data + n, (size_t)(size - n)) < 0) {
		ts->no_memory = true;
		return -1;
	}
	return size;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	return cmd == BIO_CTRL_FLUSH || cmd == BIO_CTRL_DUP ? 1 : 0;
}

static int bio_attach(struct sn_tls_stream *ts)
{
	struct sn_tls *tls = ts->tls;
	BIO *bio;

	if (tls->bio == NULL) {
		tls->bio = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "sinew stream");
		if (tls->bio == NULL)
			return SN_E_NOMEM;
		(void)BIO_meth_set_read(tls->bio, bio_read);
		(void)BIO_meth_set_write(tls->bio, bio_write);
		(void)BIO_meth_set_ctrl(tls->bio, bio_ctrl);
	}
	bio = BIO_new(tls->bio);
	if (bio == NULL)
		return SN_E_NOMEM;
	BIO_set_data(bio, ts);
	BIO_set_init(bio, 1);
	SSL_set_bio(ts->ssl, bio, bio);
	return 0;
}

/* ---- what the inner stream is asked for ---- */

static void on_task(struct sn_task *task);

static void flush(struct sn_tls_stream *ts)
{
	struct sn_str vec;
	ssize_t n;

	while (ts->out.len > 0 && ts->write_error == 0) {
		vec = sn__buf_str(&ts->out);
		n = sn__stream_write(ts->inner, &vec, 1);
		if (n == SN_E_AGAIN)
			return;
		if (n < 0) {
			ts->write_error = (int)n;
			break;
		}
		sn__buf_consume(&ts->out, (size_t)n);
	}
	sn__buf_clear(&ts->out);
	sn__buf_release_if_empty(&ts->out);
	if (ts->ending && ts->write_error == 0)
		(void)sn__stream_shutdown(ts->inner);
	ts->ending = false;
}

static void apply(struct sn_tls_stream *ts)
{
	unsigned events = ts->open ? ts->wanted : SN_READABLE;
	bool ended = ts->failed || ts->at_eof;

	if (ts->gone || (ts->failed && !ts->open))
		return;
	if (ended)
		events &= ~SN_READABLE; /* there is more to tell, but not from there */
	if (ts->out.len > 0)
		events |= SN_WRITABLE;
	sn__stream_want(ts->inner, events);
	if (ts->open && ts->wanted & SN_READABLE &&
			(ended || (!ts->drained && SSL_has_pending(ts->ssl))))
		sn__loop_defer(ts->base.loop, &ts->task, on_task);
}

/* ---- failure ---- */

/* Keeps why; the code for the caller. */
static int fail(struct sn_tls_stream *ts)
{
	const struct sn_error *inner = sn__stream_error(ts->inner);
	char text[TLS_WHY_MAX + 64];
	int reason = 0;

	if (ts->no_memory) {
		ERR_clear_error();
		return sn__stream_fail(
				&ts->base, SN_E_NOMEM, 0, "TLS: %s", sn_strerror(SN_E_NOMEM));
	}
	if (ts->inner_error != 0) {
		ERR_clear_error();
		return sn__stream_fail(&ts->base, ts->inner_error,
				inner != NULL ? inner->foreign : 0, "%s",
				inner != NULL ? inner->text : sn_strerror(ts->inner_error));
	}
	if (ts->inner_eof) {
		ERR_clear_error();
		return sn__stream_fail(&ts->base, SN_E_EOF, 0,
				ts->open ? "TLS connection cut off (no close_notify)"
					 : "connection closed during the TLS handshake");
	}
	sn__tls_explain(ts, text, sizeof text, &reason);
	return sn__stream_fail(&ts->base, SN_E_TLS, reason, "%s", text);
}

/* ---- the handshake ---- */

static void handshake(struct sn_tls_stream *ts)
{
	const unsigned char *alpn;
	unsigned n;
	int r;

	ERR_clear_error();
	flush(ts);
	r = SSL_do_handshake(ts->ssl);
	if (r == 1) {
		ts->open = true;
		SSL_get0_alpn_selected(ts->ssl, &alpn, &n);
		if (n > 0 && n < sizeof ts->alpn)
			memcpy(ts->alpn, alpn, n);
		return;
	}
	if (SSL_get_error(ts->ssl, r) == SSL_ERROR_WANT_READ && !ts->no_memory)
		return;
	ts->failed = true;
	ts->code = fail(ts);
	/* The alert that says why is in ts->out or gone already. */
	sn__stream_want(ts->inner, 0);
}

static void leave(struct sn_tls_stream *ts);

static void tell(struct sn_tls_stream *ts, unsigned events)
{
	if (!ts->gone && events != 0)
		ts->base.fn(&ts->base, events, ts->base.arg);
}

static void on_task(struct sn_task *task)
{
	struct sn_tls_stream *ts = SN_CONTAINER_OF(task, struct sn_tls_stream, task);

	ts->entered++;
	if (!ts->open)
		tell(ts, SN_STREAM_FAILED);
	else if (ts->wanted & SN_READABLE)
		tell(ts, SN_READABLE);
	apply(ts);
	leave(ts);
}

static void free_stream(struct sn_tls_stream *ts)
{
	/* Without this OpenSSL takes the session of a connection that did not end in good order
	 * for a broken one, and never resumes it. */
	if (ts->ssl != NULL)
		SSL_set_shutdown(ts->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(ts->ssl);
	sn__tls_unref(ts->tls);
	sn__buf_finish(&ts->out);
	sn__stream_error_finish(&ts->base);
	sn__free(ts->name);
	sn__free(ts);
}

static void leave(struct sn_tls_stream *ts)
{
	if (--ts->entered == 0 && ts->gone && !ts->lingering)
		free_stream(ts);
}

static void linger_end(struct sn_tls_stream *ts)
{
	sn__timer_stop(ts->base.loop, &ts->timer);
	sn__stream_close(ts->inner, ts->out.len > 0);
	ts->lingering = false;
	ts->entered++;
	leave(ts);
}

static void on_linger_timeout(struct sn_timer *t)
{
	linger_end(SN_CONTAINER_OF(t, struct sn_tls_stream, timer));
}

static void on_inner(struct sn_stream *s, unsigned events, void *arg)
{
	struct sn_tls_stream *ts = arg;
	unsigned tells = 0;

	ts->entered++;
	if (ts->lingering) {
		flush(ts);
		if (ts->out.len == 0)
			linger_end(ts);
		leave(ts);
		return;
	}
	if (!ts->open) {
		handshake(ts);
		tells = ts->failed ? SN_STREAM_FAILED : ts->open ? SN_STREAM_CONNECTED : 0;
	} else {
		if (events & SN_WRITABLE)
			flush(ts);
		if (events & SN_WRITABLE && ts->out.len == 0)
			tells |= ts->wanted & SN_WRITABLE;
		if (events & SN_READABLE) {
			ts->drained = false;
			tells |= ts->wanted & SN_READABLE;
		}
	}
	tell(ts, tells);
	apply(ts);
	leave(ts);
}

/* ---- the stream's table ---- */

static ssize_t tls_read(struct sn_stream *s, void *out, size_t n)
{
	struct sn_tls_stream *ts = ts_of(s);
	size_t got, total = 0;

	if (ts->failed || !ts->open)
		return ts->failed ? ts->code : SN_E_AGAIN;
	ERR_clear_error();
	while (total < n && !ts->at_eof) {
		int e, r = SSL_read_ex(ts->ssl, (char *)out + total, n - total, &got);

		if (r == 1) {
			total += got;
			continue;
		}
		e = SSL_get_error(ts->ssl, r);
		if (e == SSL_ERROR_WANT_READ && ts->out.len < OUT_MAX) {
			ts->drained = true;
			break;
		}
		if (e == SSL_ERROR_ZERO_RETURN) {
			ts->at_eof = true;
			break;
		}
		ts->failed = true;
		ts->code = fail(ts);
		break;
	}
	/* What came before the end is given first; the end stays. */
	if (ts->failed || ts->at_eof)
		apply(ts);
	if (total > 0)
		return (ssize_t)total;
	if (ts->failed)
		return ts->code;
	return ts->at_eof ? 0 : SN_E_AGAIN;
}

/* One record from the pieces at *@i, from *@off on. */
static struct sn_str gather(struct sn_tls *tls, const struct sn_str *vec, unsigned n_vec,
		unsigned *i, size_t *off)
{
	size_t n = 0;

	if (n_vec - *i == 1 || vec[*i].len - *off >= TLS_PIECE) {
		struct sn_str one = {vec[*i].ptr + *off, SN_MIN(vec[*i].len - *off, TLS_PIECE)};

		*off += one.len;
		if (*off == vec[*i].len) {
			++*i;
			*off = 0;
		}
		return one;
	}
	while (*i < n_vec && n < TLS_PIECE) {
		size_t part = SN_MIN(vec[*i].len - *off, TLS_PIECE - n);

		if (part > 0)
			memcpy(tls->scratch + n, vec[*i].ptr + *off, part);
		n += part;
		*off += part;
		if (*off == vec[*i].len) {
			++*i;
			*off = 0;
		}
	}
	return (struct sn_str){tls->scratch, n};
}

static ssize_t tls_write(struct sn_stream *s, const struct sn_str *vec, unsigned n_vec)
{
	struct sn_tls_stream *ts = ts_of(s);
	size_t total = 0, off = 0, all = 0, done;
	unsigned i = 0;

	if (ts->failed || !ts->open)
		return ts->failed ? ts->code : SN_E_AGAIN;
	flush(ts);
	if (ts->out.len > 0)
		return SN_E_AGAIN;
	for (unsigned k = 0; k < n_vec; k++)
		all += vec[k].len;
	ts->corked = all > TLS_PIECE;
	ERR_clear_error();
	for (int k = 0; k < RECORDS_A_WRITE && i < n_vec && ts->write_error == 0; k++) {
		struct sn_str record = gather(ts->tls, vec, n_vec, &i, &off);

		if (record.len == 0)
			continue;
		if (SSL_write_ex(ts->ssl, record.ptr, record.len, &done) != 1) {
			ts->corked = false;
			ts->failed = true;
			return ts->code = fail(ts);
		}
		assert(done == record.len); /* the BIO takes everything */
		total += done;
	}
	if (ts->corked) {
		ts->corked = false;
		flush(ts);
	}
	if (ts->write_error != 0)
		return ts->write_error; /* no failure of the stream yet: it can be read */
	if (ts->out.len > 0)
		apply(ts);
	return (ssize_t)total;
}

static void tls_want(struct sn_stream *s, unsigned events)
{
	struct sn_tls_stream *ts = ts_of(s);

	ts->wanted = events;
	apply(ts);
}

static void send_close_notify(struct sn_tls_stream *ts)
{
	if (!ts->open || ts->failed || ts->write_error != 0)
		return;
	ERR_clear_error();
	(void)SSL_shutdown(ts->ssl);
	ERR_clear_error();
}

static int tls_shutdown(struct sn_stream *s)
{
	struct sn_tls_stream *ts = ts_of(s);

	send_close_notify(ts);
	ts->ending = true;
	flush(ts);
	apply(ts);
	return ts->write_error;
}

static void tls_close(struct sn_stream *s, bool reset)
{
	struct sn_tls_stream *ts = ts_of(s);

	assert(!ts->gone);
	sn__loop_undefer(s->loop, &ts->task);
	if (!reset)
		send_close_notify(ts);
	flush(ts);
	ts->gone = true;
	if (!reset && ts->out.len > 0) {
		ts->lingering = true;
		sn__stream_want(ts->inner, SN_WRITABLE);
		sn__timer_start(s->loop, &ts->timer, LINGER_NS, on_linger_timeout);
		return;
	}
	sn__stream_close(ts->inner, reset);
	ts->entered++;
	leave(ts);
}

static const struct sn_stream_ops tls_ops = {
		.read = tls_read,
		.write = tls_write,
		.want = tls_want,
		.shutdown = tls_shutdown,
		.close = tls_close,
};

/* ---- opening ---- */

static int stream_create(struct sn_tls *tls, struct sn_stream *inner, sn_stream_fn *fn, void *arg,
		struct sn_tls_stream **ret_ts)
{
	struct sn_tls_stream *ts;

	if (tls->scratch == NULL)
		tls->scratch = sn__malloc(TLS_PIECE);
	ts = tls->scratch != NULL ? sn__calloc(1, sizeof *ts) : NULL;
	if (ts == NULL)
		return SN_E_NOMEM;
	ts->base = (struct sn_stream){.ops = &tls_ops,
			.loop = inner->loop,
			.fn = fn,
			.arg = arg,
			.peer = inner->peer,
			.is_tls = true};
	ts->inner = inner;
	ts->tls = sn__tls_ref(tls);
	sn__buf_init(&ts->out, 2 * OUT_MAX);
	ts->ssl = SSL_new(tls->ctx);
	if (ts->ssl == NULL || bio_attach(ts) < 0) {
		ERR_clear_error();
		ts->inner = NULL;
		free_stream(ts);
		return SN_E_NOMEM;
	}
	SSL_set_app_data(ts->ssl, ts);
	*ret_ts = ts;
	return 0;
}

/* Not what the context offers, but @alpn. */
static int offer_only(struct sn_tls_stream *ts, const char *alpn)
{
	unsigned char wire[32];
	size_t n = strlen(alpn);

	if (ts->tls->alpn == NULL)
		return 0;
	assert(n < sizeof wire);
	wire[0] = (unsigned char)n;
	memcpy(wire + 1, alpn, n);
	return SSL_set_alpn_protos(ts->ssl, wire, (unsigned)n + 1) == 0 ? 0 : SN_E_NOMEM;
}

int sn__tls_client(struct sn_tls *tls, struct sn_stream *inner, const char *server_name,
		sn_stream_fn *fn, void *arg, struct sn_stream **ret_stream, struct sn_error *err)
{
	return sn__tls_client_only(tls, NULL, inner, server_name, fn, arg, ret_stream, err);
}

int sn__tls_client_only(struct sn_tls *tls, const char *alpn, struct sn_stream *inner,
		const char *server_name, sn_stream_fn *fn, void *arg, struct sn_stream **ret_stream,
		struct sn_error *err)
{
	struct sn_tls_stream *ts;
	int r = sn__tls_context(tls, err);

	if (r < 0)
		return r;
	r = stream_create(tls, inner, fn, arg, &ts);
	if (r < 0)
		return sn__error_set(err, r, "TLS: %s", sn_strerror(r));
	r = alpn != NULL ? offer_only(ts, alpn) : 0;
	if (r == 0)
		r = sn__tls_expect(ts, server_name);
	if (r < 0) {
		free_stream(ts);
		return sn__error_set(err, r, "TLS: the server's name: %s", sn_strerror(r));
	}
	SSL_set_connect_state(ts->ssl);
	sn_stream_set_owner(inner, on_inner, ts);
	/* The first flight leaves now. A quick server has answered it before this function returns:
	 * but being connected must be told later, so nothing is read yet. */
	ts->starting = true;
	handshake(ts);
	ts->starting = false;
	if (ts->failed)
		sn__loop_defer(inner->loop, &ts->task, on_task);
	apply(ts);
	*ret_stream = &ts->base;
	return 0;
}

int sn__tls_server(struct sn_tls *tls, struct sn_stream *inner, sn_stream_fn *fn, void *arg,
		struct sn_stream **ret_stream, struct sn_error *err)
{
	struct sn_tls_stream *ts;
	int r = sn__tls_context(tls, err);

	if (r < 0)
		return r;
	r = stream_create(tls, inner, fn, arg, &ts);
	if (r < 0)
		return sn__error_set(err, r, "TLS: %s", sn_strerror(r));
	SSL_set_accept_state(ts->ssl);
	sn_stream_set_owner(inner, on_inner, ts);
	apply(ts);
	*ret_stream = &ts->base;
	return 0;
}

const char *sn__tls_alpn(const struct sn_stream *s)
{
	return s->ops == &tls_ops ? SN_CONTAINER_OF(s, struct sn_tls_stream, base)->alpn : "";
}

bool sn__tls_was_resumed(const struct sn_stream *s)
{
	return s->ops == &tls_ops &&
			SSL_session_reused(SN_CONTAINER_OF(s, struct sn_tls_stream, base)->ssl) ==
			1;
}

bool sn__tls_has_client_cert(const struct sn_stream *s)
{
	const struct sn_tls_stream *ts = SN_CONTAINER_OF(s, const struct sn_tls_stream, base);

	return s->ops == &tls_ops && ts->tls->server &&
			SSL_get0_peer_certificate(ts->ssl) != NULL &&
			SSL_get_verify_result(ts->ssl) == X509_V_OK;
}
