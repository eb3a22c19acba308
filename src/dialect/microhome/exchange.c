/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exchanges: one package there, one back. As the seed has it each has a connection of its own, which
 * ends after the reply. When both sides are ours (their ids are marked, docs/microhome.md) it is kept
 * instead, and later exchanges with that address share it: many under way, replies in any order, each
 * names its request by its mark.
 */
#include "dialect/microhome/node.h"

#include <stdio.h>

#include "base/map.h"
#include "base/mem.h"
#include "io/stream.h"
#include "io/tls.h"

#define CHUNK 65536u
#define OUT_MAX (8u * 1024 * 1024) /* unsent on one connection */

struct sn_mh_client {
	struct sn_loop *loop;
	struct sn_mh_client_options o;
	char *id, *token, *server_name;
	struct sn_tls *tls;
	struct sn_list links;   /* sn_mh_link.all */
	struct sn_list waiting; /* sn_mh_exchange.link, for a place among those that connect */
	unsigned n_own;         /* connections that are not kept */
	struct sn_map kept;     /* address -> sn_mh_link */
	struct sn_buf scratch;
	struct sn_mh_client_stats stats;
	bool closing;
	char text[120]; /* what the latest exchange to fail says */
	char chunk[CHUNK];
};

/* A connection. */
struct sn_mh_link {
	struct sn_mh_client *client;
	struct sn_stream *stream;
	struct sn_list all;
	struct sn_list under_way; /* sn_mh_exchange.link, oldest first */
	unsigned n_under_way;
	struct sn_buf in, out;
	struct sn_jsonrpc_split split;
	struct sn_timer idle;
	struct sn_timer late; /* kept: the one of all that is under way */
	struct sn_task flush;
	uint64_t sent;     /* bytes that have left `out` */
	uint64_t heard_ns; /* the last reply */
	uint64_t used_ns;  /* the last exchange's start or end */
	char key[6];       /* address and port: key in client->kept */
	unsigned busy;
	bool kept, up, dead, tls_begun;
};

static void link_stream(struct sn_stream *s, unsigned events, void *arg);
static void start_waiting(struct sn_mh_client *client);
static void on_timeout(struct sn_timer *t);

/* ---- links ---- */

static void link_free(struct sn_mh_link *l)
{
	sn__buf_finish(&l->in);
	sn__buf_finish(&l->out);
	sn__free(l);
}

/* What is under way on it must have been ended. Never by a reset: a node of the original ends when its
 * socket fails, also one whose handler has only not answered yet. */
static void link_close(struct sn_mh_link *l)
{
	struct sn_mh_client *client = l->client;

	if (!l->dead) {
		l->dead = true;
		sn__stream_close(l->stream, false);
		sn__timer_stop(client->loop, &l->idle);
		sn__timer_stop(client->loop, &l->late);
		sn__loop_undefer(client->loop, &l->flush);
		sn_list_remove(&l->all);
		if (l->kept) {
			(void)sn__map_remove(
					&client->kept, (struct sn_str){l->key, sizeof(l->key)});
			client->stats.kept--;
		} else {
			client->n_own--;
			start_waiting(client);
		}
	}
	if (l->busy == 0)
		link_free(l);
}

/* ---- the end of an exchange ---- */

static void leave(struct sn_mh_exchange *x)
{
	struct sn_mh_client *client = x->client;

	if (x->on != NULL) {
		x->on->n_under_way--;
		x->on->used_ns = sn__loop_now_ns(client->loop);
		x->on = NULL;
		client->stats.under_way--;
	} else {
		client->stats.waiting--;
	}
	sn_list_remove(&x->link);
	sn__timer_stop(client->loop, &x->timer);
	sn__buf_finish(&x->out);
}

static void say(struct sn_mh_exchange *x, const char *text)
{
	struct sn_mh_client *client = x->client;

	x->text = "";
	if (text[0] == '\0')
		return;
	if (text != client->text)
		(void)snprintf(client->text, sizeof(client->text), "%s", text);
	x->text = client->text;
}

static void complete(struct sn_mh_exchange *x, int status, const char *text)
{
	leave(x);
	x->status = status;
	say(x, text);
	x->fn(x);
}

/* Nothing of it has left, so that nobody can have got it: once, it may go on another connection. */
static bool start_again(struct sn_mh_exchange *x)
{
	struct sn_mh_client *client = x->client;
	struct sn_mh_link *l = x->on;

	if (!l->kept || x->again || x->in_order || x->at < l->sent || client->closing ||
			sn__buf_append(&x->out, sn__buf_data(&l->out) + (x->at - l->sent), x->len) <
					0)
		return false;
	x->again = true;
	x->on = NULL;
	l->n_under_way--;
	client->stats.under_way--;
	sn_list_remove(&x->link);
	sn_list_push_back(&client->waiting, &x->link);
	client->stats.waiting++;
	sn__timer_start(client->loop, &x->timer,
			sn_time_until(sn__loop_now_ns(client->loop), x->due_ns), on_timeout);
	return true;
}

/* Everything on @l ends or is started again, then @l ends. */
static void link_fail(struct sn_mh_link *l, int status, const char *text)
{
	struct sn_list *pos;
	char copy[sizeof(((struct sn_mh_client *)0)->text)];

	snprintf(copy, sizeof(copy), "%s", text);
	l->busy++;
	if (l->kept) /* the next ones find another */
		(void)sn__map_remove(&l->client->kept, (struct sn_str){l->key, sizeof(l->key)});
	while (!l->dead && (pos = l->under_way.next) != &l->under_way) {
		struct sn_mh_exchange *x = SN_CONTAINER_OF(pos, struct sn_mh_exchange, link);

		if (!start_again(x))
			complete(x, status, copy);
	}
	start_waiting(l->client);
	l->busy--;
	link_close(l);
}

static void fail_by_stream(struct sn_mh_link *l, int code)
{
	const struct sn_error *e = sn__stream_error(l->stream);

	if (code == SN_E_EOF || code == 0)
		link_fail(l, SN_E_EOF, "the connection ended without a reply");
	else
		link_fail(l, code, e != NULL && e->text[0] != '\0' ? e->text : sn_strerror(code));
}

/* ---- time ---- */

/* On a connection of its own, or waiting for one. */
static void on_timeout(struct sn_timer *t)
{
	struct sn_mh_exchange *x = SN_CONTAINER_OF(t, struct sn_mh_exchange, timer);
	struct sn_mh_link *l = x->on;

	if (l != NULL)
		l->busy++;
	complete(x, SN_E_TIMEOUT, "Request timed out");
	if (l == NULL)
		return;
	l->busy--;
	link_close(l);
}

static void on_late(struct sn_timer *t);

/* Replies that come in time cost nothing: a timer that rings early is set anew. */
static void arm_late(struct sn_mh_link *l, uint64_t due_ns)
{
	if (!sn_timer_armed(&l->late) || l->late.due_ns > due_ns)
		sn__timer_start(l->client->loop, &l->late,
				sn_time_until(sn__loop_now_ns(l->client->loop), due_ns), on_late);
}

static struct sn_mh_exchange *find_late(
		const struct sn_mh_link *l, uint64_t now_ns, uint64_t *ret_next_ns)
{
	*ret_next_ns = SN_NEVER_NS;
	SN_LIST_FOREACH (pos, &l->under_way) {
		struct sn_mh_exchange *x = SN_CONTAINER_OF(pos, struct sn_mh_exchange, link);

		if (x->due_ns <= now_ns)
			return x;
		*ret_next_ns = SN_MIN(*ret_next_ns, x->due_ns);
	}
	return NULL;
}

static void on_late(struct sn_timer *t)
{
	struct sn_mh_link *l = SN_CONTAINER_OF(t, struct sn_mh_link, late);
	uint64_t now = sn__loop_now_ns(l->client->loop), next,
		 heard_by = sn_time_add(l->heard_ns, sn_ms_to_ns(l->client->o.timeout_ms));
	struct sn_mh_exchange *x;
	bool late = false;

	l->busy++;
	while (!l->dead && (x = find_late(l, now, &next)) != NULL) {
		complete(x, SN_E_TIMEOUT, "Request timed out");
		late = true;
	}
	l->busy--;
	if (l->dead)
		link_close(l);
	else if (late && heard_by <= now) /* nobody is there any more */
		link_fail(l, SN_E_TIMEOUT, "Request timed out");
	else if (next != SN_NEVER_NS)
		arm_late(l, next);
}

static void on_idle(struct sn_timer *t)
{
	struct sn_mh_link *l = SN_CONTAINER_OF(t, struct sn_mh_link, idle);
	uint64_t now = sn__loop_now_ns(l->client->loop),
		 due = sn_time_add(l->used_ns, sn_ms_to_ns(l->client->o.keep_idle_ms));

	if (l->n_under_way == 0 && now >= due)
		link_close(l);
	else
		sn__timer_start(l->client->loop, &l->idle,
				l->n_under_way > 0 ? sn_ms_to_ns(l->client->o.keep_idle_ms)
						   : sn_time_until(now, due),
				on_idle);
}

/* ---- replies ---- */

static void deliver(
		struct sn_mh_exchange *x, struct sn_str payload, const struct sn_mh_event *reply)
{
	bool good = reply->status == SN_MICROHOME_OK;

	x->reply = *reply;
	x->payload = payload;
	complete(x, good ? 0 : SN_E_STATUS, good ? "" : "Response isn't successful");
}

static struct sn_mh_exchange *find(struct sn_mh_link *l, struct sn_str id, bool *ret_marked)
{
	*ret_marked = false;
	SN_LIST_FOREACH (pos, &l->under_way) {
		struct sn_mh_exchange *x = SN_CONTAINER_OF(pos, struct sn_mh_exchange, link);

		if (x->marked &&
				sn__microhome_is_marked(
						id, (struct sn_str){x->id, sizeof(x->id)})) {
			*ret_marked = true;
			return x;
		}
	}
	if (l->kept || sn_list_empty(&l->under_way))
		return NULL; /* of one that gave up */
	return SN_CONTAINER_OF(l->under_way.next, struct sn_mh_exchange, link);
}

/* The other marks its ids as we do: others may use this connection. */
static void keep_link(struct sn_mh_link *l)
{
	struct sn_mh_client *client = l->client;
	struct sn_str key = {l->key, sizeof(l->key)};

	if (!client->o.keep || client->closing || client->stats.kept >= client->o.max_kept ||
			sn__map_add(&client->kept, key, l) < 0)
		return;
	l->kept = true;
	client->stats.kept++;
	client->n_own--;
	sn__timer_start(client->loop, &l->idle, sn_ms_to_ns(client->o.keep_idle_ms), on_idle);
	start_waiting(client);
}

/* Of a reply to a `brief` one only id and status are looked at. Our own write the id first. */
static bool take_brief(struct sn_mh_link *l, const struct sn_microhome_packet *p)
{
	const struct sn_str begin = SN_STR(SN_MICROHOME_ID_FIRST);
	const struct sn_str id = {p->payload.ptr + begin.len, SN_MICROHOME_UUID};
	const struct sn_mh_event reply = {.version = p->version, .status = p->status};
	struct sn_mh_exchange *x;
	bool marked;

	if (p->payload.len < begin.len + id.len ||
			memcmp(p->payload.ptr, begin.ptr, begin.len) != 0)
		return false;
	x = find(l, id, &marked);
	if (x == NULL || !x->brief)
		return false;
	l->heard_ns = sn__loop_now_ns(l->client->loop);
	x->kept = true;
	deliver(x, p->payload, &reply);
	return true;
}

static void take_package(struct sn_mh_link *l, const struct sn_microhome_packet *p)
{
	struct sn_microhome_event e;
	enum sn_microhome_fault fault = sn__microhome_read(p, false, &l->client->scratch, &e);
	struct sn_mh_event reply = {.type = e.type,
			.source = e.source,
			.id = e.id,
			.timestamp = e.timestamp,
			.data = e.data,
			.error = e.error,
			.version = e.version,
			.status = e.status};
	struct sn_mh_exchange *x;
	bool marked;

	l->heard_ns = sn__loop_now_ns(l->client->loop);
	if (fault != SN_MICROHOME_FINE && fault != SN_MICROHOME_E_STATUS) {
		link_fail(l, fault == SN_MICROHOME_E_NOMEM ? SN_E_NOMEM : SN_E_PROTOCOL,
				sn__microhome_fault_text(fault));
		return;
	}
	x = find(l, e.id, &marked);
	if (x == NULL)
		return;
	if (marked && !l->kept)
		keep_link(l);
	x->kept = marked;
	deliver(x, p->payload, &reply);
}

static void take_value(struct sn_mh_link *l, struct sn_str value)
{
	struct sn_mh_exchange *x = SN_CONTAINER_OF(l->under_way.next, struct sn_mh_exchange, link);
	struct sn_mh_event reply = {.status = SN_MICROHOME_OK, .rpc = true};
	struct sn_jsonrpc_message m;
	int r = sn__jsonrpc_read(value, &l->client->scratch, &m);

	if (r < 0 || (m.kind != SN_JSONRPC_RESULT && m.kind != SN_JSONRPC_ERROR)) {
		link_fail(l, r == SN_E_NOMEM ? r : SN_E_PROTOCOL, "no JSON-RPC response");
		return;
	}
	if (m.kind == SN_JSONRPC_RESULT) {
		reply.data = m.result;
	} else {
		reply.status = SN_MICROHOME_FAILED;
		reply.error = m.error;
	}
	deliver(x, value, &reply);
}

/* Take one reply of @bytes: bytes used, 0: more must come. */
static size_t take_one(struct sn_mh_link *l, struct sn_str bytes)
{
	const struct sn_mh_exchange *x = SN_CONTAINER_OF(
			l->under_way.next, struct sn_mh_exchange, link);
	struct sn_microhome_packet p;
	struct sn_str value;
	size_t n;
	int r;

	if (l->kept || !x->rpc) {
		n = sn__microhome_next(bytes, &p);
		if (n > 0 && !(l->kept && take_brief(l, &p)))
			take_package(l, &p);
		return n;
	}
	r = sn__jsonrpc_next(&l->split, bytes, SN_MH_VALUE_MAX, &value, &n);
	if (r == 0)
		return 0;
	if (r < 0)
		link_fail(l, SN_E_PROTOCOL, "no JSON-RPC response");
	else
		take_value(l, value);
	return r < 0 ? bytes.len : n;
}

static bool link_live(const struct sn_mh_link *l)
{
	return !l->dead && (l->kept || !sn_list_empty(&l->under_way));
}

static void take(struct sn_mh_link *l, struct sn_str bytes)
{
	bool stored = l->in.len > 0;
	size_t used = 0, n = 1;

	if (stored) {
		if (sn__buf_append_str(&l->in, bytes) < 0) {
			link_fail(l, SN_E_NOMEM, "out of memory");
			return;
		}
		bytes = sn__buf_str(&l->in);
	}
	while (n > 0 && used < bytes.len && link_live(l)) {
		n = take_one(l, (struct sn_str){bytes.ptr + used, bytes.len - used});
		used += n;
	}
	if (!link_live(l))
		return;
	if (stored)
		sn__buf_consume(&l->in, used);
	else if (used < bytes.len && sn__buf_append(&l->in, bytes.ptr + used, bytes.len - used) < 0)
		link_fail(l, SN_E_NOMEM, "out of memory");
}

static void link_read(struct sn_mh_link *l)
{
	for (unsigned i = 0; i < 4 && link_live(l); i++) {
		ssize_t n = sn__stream_read(l->stream, l->client->chunk, CHUNK);

		if (n == SN_E_AGAIN)
			return;
		if (n <= 0) {
			fail_by_stream(l, (int)n);
			return;
		}
		take(l, (struct sn_str){l->client->chunk, (size_t)n});
		if ((size_t)n < CHUNK)
			return;
	}
}

/* ---- writing ---- */

/* False: the link has failed. */
static bool link_write(struct sn_mh_link *l)
{
	while (l->out.len > 0) {
		struct sn_str bytes = sn__buf_str(&l->out);
		ssize_t n = sn__stream_write(l->stream, &bytes, 1);

		if (n == SN_E_AGAIN)
			break;
		if (n < 0) {
			fail_by_stream(l, (int)n);
			return false;
		}
		sn__buf_consume(&l->out, (size_t)n);
		l->sent += (size_t)n;
	}
	return true;
}

/* A notification is over when it is written. */
static void finish_notify(struct sn_mh_link *l)
{
	struct sn_mh_exchange *x;

	if (l->kept || l->out.len > 0 || sn_list_empty(&l->under_way))
		return;
	x = SN_CONTAINER_OF(l->under_way.next, struct sn_mh_exchange, link);
	if (x->notify) {
		x->reply = (struct sn_mh_event){.rpc = true, .status = SN_MICROHOME_OK};
		complete(x, 0, "");
	}
}

/* With @l busy: write, say what is waited for; a link of its own exchange ends with that. */
static void link_go_on(struct sn_mh_link *l)
{
	bool writing = l->up && !l->dead;

	if (writing && link_write(l))
		finish_notify(l);
	l->busy--;
	if (!link_live(l)) {
		link_close(l);
		return;
	}
	if (l->up)
		sn__stream_want(l->stream, SN_READABLE | (l->out.len > 0 ? SN_WRITABLE : 0));
	sn__buf_release_if_empty(&l->in);
}

static int begin_tls(struct sn_mh_link *l)
{
	struct sn_mh_client *client = l->client;
	char host[SN_ADDR_TEXT_MAX];
	struct sn_stream *wrapped;
	int r;

	r = sn__tls_client(client->tls, l->stream,
			client->server_name != NULL ? client->server_name
						    : sn__addr_host(&l->stream->peer, host),
			link_stream, l, &wrapped, NULL);
	if (r < 0)
		return r;
	l->stream = wrapped;
	l->tls_begun = true;
	return 0;
}

static void on_connected(struct sn_mh_link *l)
{
	struct sn_mh_exchange *x = SN_CONTAINER_OF(l->under_way.next, struct sn_mh_exchange, link);

	if (l->client->tls != NULL && !l->tls_begun) {
		if (begin_tls(l) < 0)
			link_fail(l, SN_E_NOMEM, "out of memory");
		return;
	}
	l->up = true;
	l->out = x->out; /* taken; it was empty */
	sn__buf_init(&x->out, l->out.max);
}

static void link_stream(struct sn_stream *s, unsigned events, void *arg)
{
	struct sn_mh_link *l = arg;

	l->busy++;
	if (events & SN_STREAM_FAILED) {
		const struct sn_error *e = sn__stream_error(s);

		fail_by_stream(l, e != NULL ? e->code : SN_E_NOMEM);
	} else if (events & SN_STREAM_CONNECTED) {
		on_connected(l);
	}
	if (!l->dead && l->up && (events & SN_READABLE))
		link_read(l);
	link_go_on(l);
}

static void on_flush(struct sn_task *task)
{
	struct sn_mh_link *l = SN_CONTAINER_OF(task, struct sn_mh_link, flush);

	l->busy++;
	link_go_on(l);
}

/* ---- starting ---- */

static void link_key(const struct sockaddr_in *addr, char key[6])
{
	memcpy(key, &addr->sin_addr, 4);
	memcpy(key + 4, &addr->sin_port, 2);
}

static void go_on_link(struct sn_mh_exchange *x, struct sn_mh_link *l)
{
	x->on = l;
	sn_list_push_back(&l->under_way, &x->link);
	l->n_under_way++;
	l->used_ns = sn__loop_now_ns(x->client->loop);
	x->client->stats.under_way++;
}

/* A connection for @x. */
static int connect_own(struct sn_mh_exchange *x, struct sn_error *err)
{
	struct sn_mh_client *client = x->client;
	struct sn_mh_link *l = sn__calloc(1, sizeof(*l));
	const struct sn_addr to = {.len = sizeof(x->to), .u.in = x->to};
	int r;

	if (l == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	l->client = client;
	sn_list_init(&l->under_way);
	sn_list_init(&l->all);
	sn__buf_init(&l->out, OUT_MAX);
	sn__buf_init(&l->in, SN_MAX(SN_MICROHOME_PACKET_MAX, SN_MH_VALUE_MAX) + CHUNK);
	link_key(&x->to, l->key);
	r = sn__stream_connect(client->loop, &to, link_stream, l, &l->stream, err);
	if (r < 0) {
		sn__free(l);
		return r;
	}
	client->n_own++;
	sn_list_push_back(&client->links, &l->all);
	go_on_link(x, l);
	return 0;
}

/* Places have become free. */
static void start_waiting(struct sn_mh_client *client)
{
	while (!client->closing && client->n_own < client->o.max_connecting &&
			!sn_list_empty(&client->waiting)) {
		struct sn_mh_exchange *x = SN_CONTAINER_OF(
				client->waiting.next, struct sn_mh_exchange, link);
		struct sn_error err;
		int r;

		sn_list_remove(&x->link);
		r = connect_own(x, &err);
		if (r < 0) {
			complete(x, r, err.text);
			continue;
		}
		client->stats.waiting--;
	}
}

static int fault_code(enum sn_microhome_fault fault)
{
	return fault == SN_MICROHOME_FINE                   ? 0
			: fault == SN_MICROHOME_E_TOO_LARGE ? SN_E_LIMIT
			: fault == SN_MICROHOME_E_NOMEM     ? SN_E_NOMEM
							    : SN_E_INVALID;
}

static enum sn_microhome_fault write_package(const struct sn_mh_client *client, struct sn_str id,
		const struct sn_mh_send *send, struct sn_buf *out)
{
	char at[SN_MICROHOME_TIMESTAMP];
	const struct sn_microhome_send s = {.id = id,
			.timestamp = {at, sizeof(at)},
			.source = send->source.ptr != NULL ? send->source : sn_str_from(client->id),
			.type = send->type,
			.data = send->data,
			.token = sn_str_from(client->token),
			.version = send->version != 0 ? send->version : client->o.version,
			.status = SN_MICROHOME_OK};

	sn__microhome_timestamp(sn__loop_wall_ns(client->loop), at);
	return sn__microhome_write(&s, out);
}

int sn__mh_package_make(const struct sn_mh_client *client, const struct sn_mh_send *send,
		struct sn_buf *out)
{
	char id[SN_MICROHOME_UUID];

	memset(id, '0', sizeof(id)); /* its place */
	return fault_code(write_package(client, (struct sn_str){id, sizeof(id)}, send, out));
}

static int copy_package(struct sn_str made, const char id[SN_MICROHOME_UUID], struct sn_buf *out)
{
	char *to;
	int r = sn__buf_reserve(out, made.len, &to);

	if (r < 0)
		return r;
	memcpy(to, made.ptr, made.len);
	memcpy(to + SN_MICROHOME_HEADER + sizeof(SN_MICROHOME_ID_FIRST) - 1, id, SN_MICROHOME_UUID);
	sn__buf_commit(out, made.len);
	return 0;
}

static int encode(struct sn_mh_exchange *x, const struct sn_mh_send *send, struct sn_buf *out)
{
	struct sn_mh_client *client = x->client;
	const struct sn_str none = {NULL, 0}, id = {x->id, sizeof(x->id)};
	char quoted[SN_MICROHOME_UUID + 2];
	enum sn_microhome_fault fault;

	if (send->rpc) {
		quoted[0] = quoted[sizeof(quoted) - 1] = '"';
		memcpy(quoted + 1, x->id, sizeof(x->id));
		return sn__jsonrpc_write_request(
				send->notify ? none : (struct sn_str){quoted, sizeof(quoted)},
				send->type, send->data, sn_str_from(client->token), out);
	}
	if (send->made.len > 0)
		return copy_package(send->made, x->id, out);
	fault = write_package(client, id, send, out);
	if (fault != SN_MICROHOME_FINE)
		say(x, sn__microhome_fault_text(fault));
	return fault_code(fault);
}

static int start_kept(struct sn_mh_exchange *x, const struct sn_mh_send *send, struct sn_mh_link *l)
{
	size_t before = l->out.len;
	int r = encode(x, send, &l->out);

	if (r < 0)
		return r;
	x->at = l->sent + before;
	x->len = l->out.len - before;
	arm_late(l, x->due_ns);
	go_on_link(x, l);
	x->client->stats.reused++;
	if (!sn_task_queued(&l->flush)) /* one write for all of this turn */
		sn__loop_defer(x->client->loop, &l->flush, on_flush);
	return 0;
}

static int start_own(struct sn_mh_exchange *x, const struct sn_mh_send *send)
{
	struct sn_mh_client *client = x->client;
	struct sn_error err;
	int r;

	r = encode(x, send, &x->out);
	if (r == 0 && client->n_own >= client->o.max_connecting) {
		sn_list_push_back(&client->waiting, &x->link);
		client->stats.waiting++;
	} else if (r == 0) {
		r = connect_own(x, &err);
		if (r < 0)
			say(x, err.text);
	}
	if (r < 0)
		sn__buf_finish(&x->out);
	else
		sn__timer_start(client->loop, &x->timer,
				sn_time_until(sn__loop_now_ns(client->loop), x->due_ns),
				on_timeout);
	return r;
}

int sn__mh_exchange_start(struct sn_mh_client *client, struct sn_mh_exchange *x,
		const struct sn_mh_send *send, sn_mh_exchange_fn *fn)
{
	const struct sn_str none = {NULL, 0};
	struct sn_mh_link *l;
	char key[6];
	int r;

	assert(x->on == NULL && (x->link.next == NULL || sn_list_empty(&x->link)));
	*x = (struct sn_mh_exchange){.client = client,
			.fn = fn,
			.text = "",
			.to = send->to.u.in,
			.rpc = send->rpc,
			.notify = send->rpc && send->notify,
			.brief = send->brief && !send->rpc,
			.in_order = send->in_order,
			.marked = client->o.keep && !send->rpc};
	sn_list_init(&x->link);
	sn__buf_init(&x->out, OUT_MAX);
	if (client->closing)
		return SN_E_CLOSED;
	if (send->to.u.sa.sa_family != AF_INET) {
		say(x, "Only IPv4 is supported by sendPackage");
		return SN_E_INVALID;
	}
	if (x->marked)
		sn__microhome_uuid_marked(sn__loop_rng(client->loop), none, x->id);
	else
		sn__microhome_uuid(sn__loop_rng(client->loop), x->id);
	x->due_ns = sn_time_add(sn__loop_now_ns(client->loop),
			sn_ms_to_ns(send->timeout_ms != 0 ? send->timeout_ms
							  : client->o.timeout_ms));
	link_key(&x->to, key);
	l = x->marked ? sn__map_get(&client->kept, (struct sn_str){key, sizeof(key)}) : NULL;
	if (l != NULL && l->n_under_way < client->o.window)
		r = start_kept(x, send, l);
	else
		r = start_own(x, send);
	if (r < 0) {
		if (x->text[0] == '\0')
			say(x, sn_strerror(r));
		return r;
	}
	client->stats.exchanges++;
	return 0;
}

void sn__mh_exchange_cancel(struct sn_mh_exchange *x)
{
	struct sn_mh_link *l = x->on;

	if (x->client == NULL || x->link.next == NULL || sn_list_empty(&x->link))
		return;
	leave(x);
	if (l != NULL && !l->kept)
		link_close(l);
}

bool sn__mh_exchange_has_left(const struct sn_mh_exchange *x)
{
	return x->on != NULL && x->on->up && x->on->out.len == 0;
}

bool sn__mh_is_unhandled(const struct sn_mh_event *reply)
{
	return reply->status == SN_MICROHOME_OK && reply->data.ptr != NULL &&
			memmem(reply->data.ptr, reply->data.len, "\"" SN_MICROHOME_NO_HANDLER "\"",
					sizeof(SN_MICROHOME_NO_HANDLER) + 1) != NULL &&
			sn_str_eq(reply->type, SN_STR(SN_MICROHOME_RESPONSE));
}

/* ---- the client ---- */

static int client_fill(struct sn_mh_client *client, struct sn_error *err)
{
	const struct sn_mh_security *sec = &client->o.security;
	struct sn_tls_options tls = {.ca = sec->tls_ca, .cert = sec->tls_cert, .key = sec->tls_key};
	int r = 0;

	client->id = sn__strdup(client->o.id);
	if (sec->token != NULL)
		client->token = sn__strdup(sec->token);
	if (sec->server_name != NULL)
		client->server_name = sn__strdup(sec->server_name);
	if (client->id == NULL || (sec->token != NULL && client->token == NULL) ||
			(sec->server_name != NULL && client->server_name == NULL))
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	if (sec->tls_ca == NULL && sec->tls_cert == NULL)
		return 0;
	r = sn__tls_create(client->loop, &tls, false, &client->tls);
	return r < 0 ? sn__error_set(err, r, "out of memory") : sn__tls_load(client->tls, err);
}

static void client_free(struct sn_mh_client *client)
{
	sn__tls_unref(client->tls);
	sn__map_finish(&client->kept);
	sn__buf_finish(&client->scratch);
	sn__free(client->id);
	sn__free(client->token);
	sn__free(client->server_name);
	sn__free(client);
}

#define DEFAULT(value, otherwise) \
	do { \
		if ((value) == 0) \
			(value) = (otherwise); \
	} while (0)

int sn__mh_client_create(struct sn_loop *loop, const struct sn_mh_client_options *opts,
		struct sn_mh_client **ret_client, struct sn_error *err)
{
	struct sn_mh_client *client;
	int r;

	if (opts->id == NULL || opts->id[0] == '\0' || strlen(opts->id) > SN_MH_ID_MAX)
		return sn__error_set(err, SN_E_INVALID,
				"the id of a node is a text of 1 to %u bytes", SN_MH_ID_MAX);
	client = sn__calloc(1, sizeof(*client));
	if (client == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	client->loop = loop;
	client->o = *opts;
	DEFAULT(client->o.version, SN_MICROHOME_VERSION);
	DEFAULT(client->o.timeout_ms, SN_MH_TIMEOUT_MS);
	DEFAULT(client->o.max_kept, 1024);
	DEFAULT(client->o.keep_idle_ms, 20000);
	DEFAULT(client->o.max_connecting, 1024);
	DEFAULT(client->o.window, 64);
	sn_list_init(&client->links);
	sn_list_init(&client->waiting);
	sn__map_init(&client->kept);
	sn__buf_init(&client->scratch, 2 * SN_MH_VALUE_MAX + 2 * SN_MICROHOME_PACKET_MAX);
	r = client_fill(client, err);
	memset(&client->o.security, 0, sizeof(client->o.security));
	client->o.id = client->id;
	if (r < 0) {
		client_free(client);
		return r;
	}
	*ret_client = client;
	return 0;
}

void sn__mh_client_destroy(struct sn_mh_client *client)
{
	struct sn_list *pos;

	if (client == NULL)
		return;
	client->closing = true;
	while ((pos = client->waiting.next) != &client->waiting)
		complete(SN_CONTAINER_OF(pos, struct sn_mh_exchange, link), SN_E_CLOSED, "closed");
	while ((pos = client->links.next) != &client->links) {
		struct sn_mh_link *l = SN_CONTAINER_OF(pos, struct sn_mh_link, all);

		if (sn_list_empty(&l->under_way))
			link_close(l);
		else
			link_fail(l, SN_E_CLOSED, "closed");
	}
	client_free(client);
}

void sn__mh_client_stats(const struct sn_mh_client *client, struct sn_mh_client_stats *ret_stats)
{
	*ret_stats = client->stats;
}
