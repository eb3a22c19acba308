/* SPDX-License-Identifier: Apache-2.0 */
#include "dialect/microhome/server_impl.h"

#include "base/mem.h"

/* ---- connections ---- */

static void server_closed(struct sn_task *task);

static void conn_free(struct mh_conn *c)
{
	struct sn_mh_server *server = c->server;

	sn__buf_finish(&c->in);
	sn__buf_finish(&c->out);
	sn__loop_undefer(server->loop, &c->resume);
	sn_list_remove(&c->link);
	sn__free(c);
	if (server->closing && sn_list_empty(&server->conns))
		sn__loop_defer(server->loop, &server->closed, server_closed);
}

void sn__mh_conn_close(struct mh_conn *c, bool reset)
{
	if (!c->dead) {
		c->dead = true;
		c->server->stats.connections--;
		c->server->stats.kept -= c->kept;
		sn__timer_stop(c->server->loop, &c->timer);
		sn__stream_close(c->stream, reset);
		SN_LIST_FOREACH_SAFE (pos, &c->replies)
			sn__mh_reply_orphan(SN_CONTAINER_OF(pos, struct sn_mh_reply, link));
	}
	if (c->busy == 0)
		conn_free(c);
}

static bool blocked(const struct mh_conn *c)
{
	if (c->dead || c->last || c->server->closing || c->out.len > MH_OUT_HIGH)
		return true;
	return c->kept ? c->pending >= MH_KEPT_PENDING_MAX : c->pending > 0;
}

bool sn__mh_token_fits(const struct sn_mh_server *server, struct sn_str token)
{
	const char *wanted = server->token;
	unsigned char differs = 0;
	size_t n;

	if (wanted == NULL)
		return true;
	n = strlen(wanted);
	if (token.len != n)
		return false;
	for (size_t i = 0; i < n; i++)
		differs |= (unsigned char)(token.ptr[i] ^ wanted[i]);
	return differs == 0;
}

/* ---- limits in time ---- */

static uint64_t due_ns(const struct mh_conn *c)
{
	const struct sn_mh_server_options *o = &c->server->o;
	uint64_t partial = sn_time_add(c->since_ns, sn_ms_to_ns(o->partial_ms));

	if (!c->up || c->out.len > 0)
		return partial;
	if (c->pending > 0)
		return sn_time_add(c->since_ns, sn_ms_to_ns(o->answer_ms));
	if (c->in.len > 0)
		return SN_MIN(partial, sn_time_add(c->begun_ns, sn_ms_to_ns(o->package_ms)));
	return sn_time_add(c->since_ns, sn_ms_to_ns(c->kept ? o->keep_idle_ms : o->idle_ms));
}

static void on_timer(struct sn_timer *t);
static void go_on(struct mh_conn *c);

/* Two bytes cannot be told from the size of a package, until no third comes: then they are JSON. */
static bool decide_short(struct mh_conn *c)
{
	if (c->framing != SN_MICROHOME_UNDECIDED || c->in.len != 2 ||
			(memcmp(sn__buf_data(&c->in), "{}", 2) != 0 &&
					memcmp(sn__buf_data(&c->in), "[]", 2) != 0))
		return false;
	c->framing = SN_MICROHOME_JSONRPC;
	return true;
}

/* The timer is set anew only when it would come too late: moving bytes cost nothing. */
static void arm(struct mh_conn *c)
{
	uint64_t due = due_ns(c), now = sn__loop_now_ns(c->server->loop);

	if (!sn_timer_armed(&c->timer) || c->timer.due_ns > due)
		sn__timer_start(c->server->loop, &c->timer, sn_time_until(now, due), on_timer);
}

static void on_timer(struct sn_timer *t)
{
	struct mh_conn *c = SN_CONTAINER_OF(t, struct mh_conn, timer);

	if (sn__loop_now_ns(c->server->loop) < due_ns(c)) {
		arm(c);
		return;
	}
	if (decide_short(c)) {
		c->since_ns = sn__loop_now_ns(c->server->loop);
		go_on(c);
		return;
	}
	c->server->stats.late++;
	sn__mh_conn_close(c, c->out.len > 0);
}

/* ---- bytes ---- */

static size_t serve_packages(struct mh_conn *c, struct sn_str bytes)
{
	struct sn_microhome_packet p;
	size_t used = 0, n;

	while (!blocked(c)) {
		n = sn__microhome_next((struct sn_str){bytes.ptr + used, bytes.len - used}, &p);
		if (n == 0)
			break;
		used += n;
		sn__mh_serve_package(c, &p);
	}
	return used;
}

static size_t serve_values(struct mh_conn *c, struct sn_str bytes)
{
	struct sn_str value;
	size_t used = 0, n;
	int r;

	while (!blocked(c)) {
		r = sn__jsonrpc_next(&c->split, (struct sn_str){bytes.ptr + used, bytes.len - used},
				c->server->o.max_value, &value, &n);
		if (r == 0)
			break;
		if (r < 0) {
			c->server->stats.protocol_errors++;
			sn__mh_rpc_fault(c,
					r == SN_E_LIMIT ? SN_JSONRPC_INVALID_REQUEST
							: SN_JSONRPC_PARSE_ERROR);
			return bytes.len;
		}
		used += n;
		sn__mh_serve_value(c, value);
	}
	/* White space alone is nothing that has begun. */
	if (sn_jsonrpc_between(&c->split) && c->split.scanned == bytes.len - used) {
		c->split.scanned = 0;
		used = bytes.len;
	}
	return used;
}

/* Serve what is complete in @bytes, the connection's next; returns how many were used. */
static size_t serve(struct mh_conn *c, struct sn_str bytes)
{
	if (c->framing == SN_MICROHOME_UNDECIDED)
		c->framing = sn__microhome_detect(bytes);
	switch (c->framing) {
	case SN_MICROHOME_PACKAGES:
		return serve_packages(c, bytes);
	case SN_MICROHOME_JSONRPC:
		return serve_values(c, bytes);
	case SN_MICROHOME_NEITHER:
		c->server->stats.protocol_errors++;
		c->last = true;
		return bytes.len;
	default:
		return 0;
	}
}

static void keep_rest(struct mh_conn *c, struct sn_str rest)
{
	if (rest.len == 0 || c->dead || c->last)
		return;
	if (c->in.len == 0)
		c->begun_ns = sn__loop_now_ns(c->server->loop);
	if (sn__buf_append_str(&c->in, rest) < 0)
		sn__mh_conn_close(c, true); /* busy: freed later */
}

static void take(struct mh_conn *c, struct sn_str bytes)
{
	size_t used;

	if (c->in.len == 0) {
		used = serve(c, bytes);
		keep_rest(c, (struct sn_str){bytes.ptr + used, bytes.len - used});
		return;
	}
	keep_rest(c, bytes);
	if (c->dead)
		return;
	used = serve(c, sn__buf_str(&c->in));
	if (used > 0) {
		c->begun_ns = sn__loop_now_ns(c->server->loop);
		sn__buf_consume(&c->in, SN_MIN(used, c->in.len));
	}
}

/* The peer sends no more. What has begun is dropped, what is being answered is answered. */
static void at_end(struct mh_conn *c)
{
	c->eof = true;
	(void)decide_short(c);
}

static size_t in_limit(const struct mh_conn *c)
{
	return c->framing == SN_MICROHOME_JSONRPC ? c->server->o.max_value
						  : SN_MICROHOME_PACKET_MAX;
}

/* False: the connection is dead. */
static bool read_some(struct mh_conn *c)
{
	char *chunk = c->server->chunk;

	for (unsigned i = 0; i < 4 && !c->eof && !c->last; i++) {
		ssize_t n;

		if (blocked(c) && c->in.len >= in_limit(c))
			break;
		n = sn__stream_read(c->stream, chunk, MH_CHUNK);
		if (n == SN_E_AGAIN)
			break;
		if (n < 0 && n != SN_E_EOF) {
			sn__mh_conn_close(c, true);
			return false;
		}
		if (n <= 0) {
			at_end(c);
			break;
		}
		c->since_ns = sn__loop_now_ns(c->server->loop);
		take(c, (struct sn_str){chunk, (size_t)n});
		if (c->dead)
			return false;
		if ((size_t)n < MH_CHUNK) /* that was all: no call to hear so */
			break;
	}
	return true;
}

static bool write_some(struct mh_conn *c)
{
	while (c->out.len > 0) {
		struct sn_str bytes = sn__buf_str(&c->out);
		ssize_t n = sn__stream_write(c->stream, &bytes, 1);

		if (n == SN_E_AGAIN)
			return true;
		if (n < 0) {
			sn__mh_conn_close(c, true);
			return false;
		}
		c->since_ns = sn__loop_now_ns(c->server->loop);
		sn__buf_consume(&c->out, (size_t)n);
	}
	return true;
}

/* What waited in `in` while the connection was blocked. */
static void serve_waiting(struct mh_conn *c)
{
	size_t before, used;

	do {
		before = c->in.len;
		if (before > 0 && !blocked(c) && c->framing != SN_MICROHOME_UNDECIDED) {
			used = serve(c, sn__buf_str(&c->in));
			sn__buf_consume(&c->in, SN_MIN(used, c->in.len));
		}
	} while (!c->dead && c->in.len > 0 && c->in.len < before && write_some(c));
}

static void go_on(struct mh_conn *c)
{
	unsigned want;

	c->busy++;
	if (!c->dead && write_some(c))
		serve_waiting(c);
	if (!c->dead)
		(void)write_some(c);
	c->busy--;
	if (c->dead ||
			((c->eof || c->last || c->server->closing) && c->pending == 0 &&
					c->out.len == 0)) {
		sn__mh_conn_close(c, false);
		return;
	}
	want = c->out.len > 0 ? SN_WRITABLE : 0;
	if (!c->eof && !c->last && (!blocked(c) || c->in.len < in_limit(c)))
		want |= SN_READABLE;
	sn__stream_want(c->stream, want);
	sn__buf_release_if_empty(&c->in);
	sn__buf_release_if_empty(&c->out);
	arm(c);
}

static void on_resume(struct sn_task *task)
{
	go_on(SN_CONTAINER_OF(task, struct mh_conn, resume));
}

void sn__mh_conn_later(struct mh_conn *c)
{
	if (c->busy > 0)
		return; /* who is on the stack does it */
	if (c->dead)
		conn_free(c);
	else if (!sn_task_queued(&c->resume))
		sn__loop_defer(c->server->loop, &c->resume, on_resume);
}

void sn__mh_conn_flush(struct mh_conn *c)
{
	if (!c->kept && !c->dead) {
		c->busy++;
		(void)write_some(c);
		c->busy--;
	}
	sn__mh_conn_later(c);
}

static void on_stream(struct sn_stream *s, unsigned events, void *arg)
{
	struct mh_conn *c = arg;

	if (events & SN_STREAM_FAILED) {
		sn__mh_conn_close(c, true);
		return;
	}
	if (events & SN_STREAM_CONNECTED)
		c->up = true;
	c->busy++;
	if (c->up && (events & SN_READABLE))
		(void)read_some(c);
	c->busy--;
	go_on(c);
}

/* ---- accepting ---- */

static int conn_open(struct sn_mh_server *server, struct sn_stream *stream)
{
	struct mh_conn *c = sn__calloc(1, sizeof(*c));
	int r = 0;

	if (c == NULL)
		return SN_E_NOMEM;
	c->server = server;
	c->stream = stream;
	c->up = server->tls == NULL;
	c->since_ns = sn__loop_now_ns(server->loop);
	sn_list_init(&c->replies);
	sn__buf_init(&c->in,
			SN_MAX((size_t)SN_MICROHOME_PACKET_MAX, server->o.max_value) + MH_CHUNK);
	sn__buf_init(&c->out, MH_OUT_MAX);
	if (server->tls != NULL)
		r = sn__tls_server(server->tls, stream, on_stream, c, &c->stream, NULL);
	else
		sn_stream_set_owner(stream, on_stream, c);
	if (r < 0) {
		sn__free(c);
		return r;
	}
	server->stats.connections++;
	sn_list_push_back(&server->conns, &c->link);
	sn__stream_want(c->stream, SN_READABLE);
	arm(c);
	return 0;
}

static void on_accept(struct sn_listener *l, struct sn_stream *stream, void *arg)
{
	struct sn_mh_server *server = arg;

	server->stats.accepted++;
	if (server->stats.connections >= server->o.max_connections ||
			conn_open(server, stream) < 0) {
		server->stats.refused++;
		sn__stream_close(stream, true);
	}
}

/* ---- opening ---- */

#define DEFAULT(value, otherwise) \
	do { \
		if ((value) == 0) \
			(value) = (otherwise); \
	} while (0)

static void defaults(struct sn_mh_server_options *o)
{
	DEFAULT(o->version, SN_MICROHOME_VERSION);
	DEFAULT(o->max_connections, 4096);
	DEFAULT(o->max_value, SN_MH_VALUE_MAX);
	DEFAULT(o->partial_ms, SN_MH_PARTIAL_MS);
	DEFAULT(o->package_ms, 30000);
	DEFAULT(o->idle_ms, SN_MH_IDLE_MS);
	DEFAULT(o->keep_idle_ms, 60000);
	DEFAULT(o->answer_ms, 30000);
}

static int tls_open(struct sn_mh_server *server, struct sn_error *err)
{
	const struct sn_mh_security *sec = &server->o.security;
	struct sn_tls_options opts = {.ca = sec->tls_ca,
			.cert = sec->tls_cert,
			.key = sec->tls_key,
			.require_client_cert = sec->tls_ca != NULL};
	int r;

	if (sec->tls_cert == NULL)
		return 0;
	r = sn__tls_create(server->loop, &opts, true, &server->tls);
	return r < 0 ? sn__error_set(err, r, "out of memory") : sn__tls_load(server->tls, err);
}

static void server_free(struct sn_mh_server *server)
{
	sn__listener_close(server->listener);
	sn__tls_unref(server->tls);
	sn__mh_slots_finish(&server->events);
	sn__mh_slots_finish(&server->methods);
	sn__mh_replies_free(server);
	sn__buf_finish(&server->scratch);
	sn__buf_finish(&server->compose);
	sn__free(server->id);
	sn__free(server->token);
	sn__free(server);
}

static int fill(struct sn_mh_server *server, struct sn_error *err)
{
	const struct sn_mh_server_options *o = &server->o;
	int r;

	server->id = sn__strdup(o->id);
	if (o->security.token != NULL)
		server->token = sn__strdup(o->security.token);
	if (server->id == NULL || (o->security.token != NULL && server->token == NULL) ||
			sn__mh_add_built_in(server) < 0)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	r = tls_open(server, err);
	if (r == 0)
		r = sn__listen(server->loop, &o->listen, NULL, on_accept, server, &server->listener,
				err);
	return r;
}

int sn__mh_server_open(struct sn_loop *loop, const struct sn_mh_server_options *opts,
		struct sn_mh_server **ret_server, struct sn_error *err)
{
	struct sn_mh_server *server;
	int r;

	if (opts->id == NULL || opts->id[0] == '\0' || strlen(opts->id) > SN_MH_ID_MAX)
		return sn__error_set(err, SN_E_INVALID,
				"the id of a node is a text of 1 to %u bytes", SN_MH_ID_MAX);
	server = sn__calloc(1, sizeof(*server));
	if (server == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	server->loop = loop;
	server->o = *opts;
	defaults(&server->o);
	sn__map_init(&server->events);
	sn__map_init(&server->methods);
	sn_list_init(&server->conns);
	sn_list_init(&server->spare);
	sn__buf_init(&server->scratch, 2 * server->o.max_value + 2 * SN_MICROHOME_PACKET_MAX);
	sn__buf_init(&server->compose, MH_OUT_MAX);
	r = fill(server, err);
	if (r < 0) {
		server_free(server);
		return r;
	}
	server->addr = *sn__listener_addr(server->listener);
	server->o.id = server->id;
	memset(&server->o.security, 0, sizeof(server->o.security)); /* not ours to keep */
	*ret_server = server;
	return 0;
}

const struct sn_addr *sn__mh_server_addr(const struct sn_mh_server *server)
{
	return &server->addr;
}

void sn__mh_server_stats(const struct sn_mh_server *server, struct sn_mh_server_stats *ret_stats)
{
	*ret_stats = server->stats;
}

/* ---- closing ---- */

static void server_closed(struct sn_task *task)
{
	struct sn_mh_server *server = SN_CONTAINER_OF(task, struct sn_mh_server, closed);
	void (*done)(void *arg) = server->done;
	void *arg = server->done_arg;

	sn__timer_stop(server->loop, &server->grace);
	server_free(server);
	if (done != NULL)
		done(arg);
}

static void close_all(struct sn_mh_server *server)
{
	SN_LIST_FOREACH_SAFE (pos, &server->conns) {
		struct mh_conn *c = SN_CONTAINER_OF(pos, struct mh_conn, link);

		if (!c->dead)
			sn__mh_conn_close(c, false);
	}
}

static void on_grace(struct sn_timer *t)
{
	close_all(SN_CONTAINER_OF(t, struct sn_mh_server, grace));
}

void sn__mh_server_close(
		struct sn_mh_server *server, uint32_t grace_ms, void (*done)(void *arg), void *arg)
{
	assert(!server->closing);
	server->closing = true;
	server->done = done;
	server->done_arg = arg;
	sn__listener_close(SN_TAKE(server->listener));
	if (sn_list_empty(&server->conns)) {
		sn__loop_defer(server->loop, &server->closed, server_closed);
		return;
	}
	if (grace_ms == 0) {
		close_all(server);
		return;
	}
	sn__timer_start(server->loop, &server->grace, sn_ms_to_ns(grace_ms), on_grace);
	SN_LIST_FOREACH_SAFE (pos, &server->conns) {
		struct mh_conn *c = SN_CONTAINER_OF(pos, struct mh_conn, link);

		if (!c->dead && c->pending == 0 && c->out.len == 0 && c->busy == 0)
			sn__mh_conn_close(c, false);
	}
}

void sn__mh_server_discard(struct sn_mh_server *server)
{
	if (server == NULL)
		return;
	assert(server->dispatching == 0);
	sn__timer_stop(server->loop, &server->grace);
	server->closing = false; /* nobody is told */
	close_all(server);
	sn__loop_undefer(server->loop, &server->closed);
	server_free(server);
}
