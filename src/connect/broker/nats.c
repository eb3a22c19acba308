/* SPDX-License-Identifier: Apache-2.0 */

/* The driver broker/nats: opening, the connection, what the library's threads do, the end. */

#include "connect/broker/nats.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define WRITE_DEADLINE_MS 5000 /* a server that takes nothing for so long is none */
#define PINGS_OUT 2

static void connected(struct sn_crew_job *job);

/* ---- words ---- */

bool nats__subject_valid(const char *subject, bool wild)
{
	size_t token = 0;

	if (subject == NULL || subject[0] == '\0')
		return false;
	for (const char *p = subject;; p++) {
		unsigned char c = (unsigned char)*p;

		if (c == '.' || c == '\0') {
			if (token == 0)
				return false;
			if (token == 1 && (p[-1] == '*' || p[-1] == '>') &&
					(!wild || (p[-1] == '>' && c != '\0')))
				return false;
			token = 0;
			if (c == '\0')
				return p - subject < 4000;
			continue;
		}
		if (c <= ' ' || c == 127)
			return false;
		token++;
	}
}

static int code_of(natsStatus status, enum sn_driver_verdict *ret_verdict)
{
	*ret_verdict = SN_DRIVER_FAILED;
	switch (status) {
	case NATS_OK:
		*ret_verdict = SN_DRIVER_OK;
		return 0;
	case NATS_CONNECTION_CLOSED:
	case NATS_CONNECTION_DISCONNECTED:
	case NATS_NOT_YET_CONNECTED:
	case NATS_NO_SERVER:
	case NATS_INSUFFICIENT_BUFFER:
	case NATS_STALE_CONNECTION:
		*ret_verdict = SN_DRIVER_UNAVAILABLE;
		return SN_E_CONNECT;
	case NATS_NO_RESPONDERS:
		*ret_verdict = SN_DRIVER_UNAVAILABLE;
		return SN_E_NO_PEER;
	case NATS_CONNECTION_AUTH_FAILED:
	case NATS_NOT_PERMITTED:
		*ret_verdict = SN_DRIVER_REJECTED;
		return SN_E_REJECTED;
	case NATS_MAX_PAYLOAD:
		*ret_verdict = SN_DRIVER_REJECTED;
		return SN_E_LIMIT;
	case NATS_INVALID_ARG:
	case NATS_INVALID_SUBJECT:
		*ret_verdict = SN_DRIVER_REJECTED;
		return SN_E_INVALID;
	case NATS_NO_SERVER_SUPPORT:
		*ret_verdict = SN_DRIVER_REJECTED;
		return SN_E_NOTSUP;
	case NATS_TIMEOUT:
		return SN_E_TIMEOUT;
	case NATS_NO_MEMORY:
		return SN_E_NOMEM;
	case NATS_SSL_ERROR:
		return SN_E_TLS;
	default:
		return SN_E_IO;
	}
}

void nats__outcome(struct sn_driver_outcome *o, natsStatus status, enum sn_driver_sent sent,
		const char *detail)
{
	enum sn_driver_verdict verdict;
	int code = code_of(status, &verdict);

	if (detail == NULL)
		detail = status == NATS_OK ? "" : natsStatus_GetText(status);
	sn__crew_outcome(o, verdict, sent, code, (int)status, detail);
}

/* ---- feeds: what the library delivers to ---- */

struct nats_feed *nats__feed_create(struct nats_instance *inst, const char *subject,
		const char *group, void (*handle)(struct nats_item *item), void *owner)
{
	size_t n = strlen(subject) + 1, m = group != NULL ? strlen(group) + 1 : 0;
	struct nats_feed *feed;

	if (n < NATS_INBOX_MAX)
		n = NATS_INBOX_MAX;
	feed = nats_alloc(inst, sizeof(*feed) + n + m);
	if (feed == NULL)
		return NULL;
	feed->inst = inst;
	feed->handle = handle;
	feed->owner = owner;
	feed->id = inst->feed_id++;
	atomic_init(&feed->refs, 1);
	feed->inbox = subject[0] == '\0';
	if (!feed->inbox)
		(void)snprintf(feed->subject, n, "%s", subject);
	else
		(void)snprintf(feed->subject, n, "%s.%u.>", inst->inbox, feed->id);
	if (group != NULL) {
		feed->group = feed->subject + n;
		(void)snprintf(feed->subject + n, m, "%s", group);
	}
	inst->n_feeds++;
	return feed;
}

static void feed_gone(struct sn_crew_job *job)
{
	struct nats_feed *feed = SN_CONTAINER_OF(job, struct nats_feed, job);
	struct nats_instance *inst = feed->inst;

	inst->n_feeds--;
	nats_free(inst, feed);
	nats__close_check(inst);
}

/* Any thread. */
static void feed_unref(struct nats_feed *feed)
{
	if (atomic_fetch_sub(&feed->refs, 1) == 1)
		sn__crew_to_loop(&feed->inst->crew, &feed->job, feed_gone);
}

static void feed_destroy(struct nats_feed *feed)
{
	if (feed->link.next != NULL)
		sn_list_remove(&feed->link);
	natsSubscription_Destroy(feed->ns);
	feed->ns = NULL;
	feed_unref(feed);
}

/*
 * The library's reading thread may be in the midst of a message for a subscription that is taken back, and
 * holds no reference to it (libnats 3.4). It is done with that when it has read something that came later: the
 * answer to a flush, one of which there is with each new subscription. Else the end of the connection.
 */
static void feed_remove(struct sn_crew_job *job)
{
	struct nats_feed *feed = SN_CONTAINER_OF(job, struct nats_feed, crew_job);

	if (feed->ns == NULL) {
		feed_destroy(feed);
		return;
	}
	(void)natsSubscription_Unsubscribe(feed->ns);
	sn_list_remove(&feed->link);
	sn_list_push_back(&feed->inst->gone, &feed->link);
}

static void destroy_gone(struct nats_instance *inst)
{
	while (!sn_list_empty(&inst->gone))
		feed_destroy(SN_CONTAINER_OF(inst->gone.next, struct nats_feed, link));
}

natsStatus nats__flush(struct nats_instance *inst)
{
	natsStatus s = natsConnection_FlushTimeout(
			inst->conn->nc, (int64_t)inst->o->connect_timeout_ms);

	if (s == NATS_OK)
		destroy_gone(inst);
	return s;
}

void nats__feed_drop(struct nats_feed *feed)
{
	struct nats_instance *inst = feed->inst;

	feed->owner = NULL;
	if (inst->crew.running) {
		sn__crew_to_thread(&inst->crew, &feed->crew_job, feed_remove);
	} else { /* nobody else has heard of it */
		inst->n_feeds--;
		nats_free(inst, feed);
	}
}

void nats__item_count_down(struct nats_item *item)
{
	atomic_fetch_sub(&item->feed->queued, 1);
	atomic_fetch_sub(&item->feed->bytes, item->size);
}

void nats__item_free(struct nats_item *item)
{
	natsMsg_Destroy(item->msg);
	nats_free(item->inst, item->headers);
	nats_free(item->inst, item);
}

static void item_run(struct sn_crew_job *job)
{
	struct nats_item *item = SN_CONTAINER_OF(job, struct nats_item, job);

	item->feed->handle(item);
}

/* A thread of the library's. */
static void on_message(natsConnection *nc, natsSubscription *ns, natsMsg *msg, void *closure)
{
	struct nats_feed *feed = closure;
	struct nats_instance *inst = feed->inst;
	struct nats_item *item = NULL;
	size_t size = sizeof(*item) + (size_t)natsMsg_GetDataLength(msg);

	if (atomic_load(&feed->queued) < (unsigned long)inst->o->max_pending &&
			atomic_load(&feed->bytes) < inst->o->max_pending_bytes)
		item = nats_alloc(inst, sizeof(*item));
	if (item == NULL) {
		atomic_fetch_add(&feed->dropped, 1);
		natsMsg_Destroy(msg);
		return;
	}
	atomic_fetch_add(&feed->queued, 1);
	atomic_fetch_add(&feed->bytes, size);
	item->feed = feed;
	item->inst = inst;
	item->msg = msg;
	item->size = size;
	sn__crew_to_loop(&inst->crew, &item->job, item_run);
}

/* A thread of the library's: it does not know the feed any more. */
static void on_complete(void *closure)
{
	feed_unref(closure);
}

natsStatus nats__feed_subscribe(struct nats_feed *feed)
{
	struct nats_instance *inst = feed->inst;
	natsConnection *nc = inst->conn != NULL ? inst->conn->nc : NULL;
	natsStatus s;

	if (feed->link.next == NULL)
		sn_list_push_back(&inst->feeds, &feed->link);
	if (nc == NULL || feed->ns != NULL)
		return nc == NULL ? NATS_CONNECTION_CLOSED : NATS_OK;
	atomic_fetch_add(&feed->refs, 1);
	if (feed->group != NULL)
		s = natsConnection_QueueSubscribe(
				&feed->ns, nc, feed->subject, feed->group, on_message, feed);
	else
		s = natsConnection_Subscribe(&feed->ns, nc, feed->subject, on_message, feed);
	if (s != NATS_OK) {
		feed->ns = NULL;
		atomic_fetch_sub(&feed->refs, 1);
		return s;
	}
	(void)natsSubscription_SetPendingLimits(feed->ns, -1, -1); /* ours is counted */
	s = natsSubscription_SetOnCompleteCB(feed->ns, on_complete, feed);
	return s;
}

/* ---- the connection: the crew's thread ---- */

static natsStatus set_tls(natsOptions *no, const struct nats_options *o)
{
	bool on = o->tls.on || o->tls.ca != NULL || o->tls.cert != NULL;
	natsStatus s = NATS_OK;

	for (size_t i = 0; i < o->url.n; i++)
		on = on || strncmp(o->url.items[i], "tls://", 6) == 0;
	if (!on)
		return NATS_OK;
	s = natsOptions_SetSecure(no, true);
	if (s == NATS_OK && o->tls.ca != NULL)
		s = natsOptions_LoadCATrustedCertificates(no, o->tls.ca);
	if (s == NATS_OK && o->tls.cert != NULL)
		s = natsOptions_LoadCertificatesChain(
				no, o->tls.cert, o->tls.key != NULL ? o->tls.key : o->tls.cert);
	if (s == NATS_OK && o->tls.server_name != NULL)
		s = natsOptions_SetExpectedHostname(no, o->tls.server_name);
	if (s == NATS_OK && !o->tls.verify)
		s = natsOptions_SkipServerVerification(no, true);
	return s;
}

/* What a server has against us, on its way to the loop. */
struct refusal {
	struct sn_crew_job job;
	struct nats_instance *inst;
	char text[NATS_WHY_MAX];
};

static void refused(struct sn_crew_job *job)
{
	struct refusal *ref = SN_CONTAINER_OF(job, struct refusal, job);
	struct nats_instance *inst = ref->inst;
	char line[NATS_WHY_MAX + 32];

	(void)snprintf(line, sizeof(line), "nats: %s", ref->text);
	inst->host->log(inst->host, 1, line);
	nats__subs_refused(inst, ref->text);
	nats_free(inst, ref); /* on_closed() comes after it: nothing is over yet */
}

/* A thread of the library's. The connection is there until on_closed(). The words are this thread's:
 * those of the connection may be of a later error already. */
static void on_error(natsConnection *nc, natsSubscription *ns, natsStatus err, void *closure)
{
	struct nats_conn *conn = closure;
	const char *text = nats_GetLastError(NULL);
	struct refusal *ref;

	if (err != NATS_NOT_PERMITTED)
		return;
	ref = nats_alloc(conn->inst, sizeof(*ref));
	if (ref == NULL)
		return;
	ref->inst = conn->inst;
	(void)snprintf(ref->text, sizeof(ref->text), "%s", text != NULL ? text : "not permitted");
	sn__crew_to_loop(&conn->inst->crew, &ref->job, refused);
}

static void conn_closed(struct sn_crew_job *job);

/* A thread of the library's; exactly once for a connection that was made. */
static void on_closed(natsConnection *nc, void *closure)
{
	struct nats_conn *conn = closure;
	const char *text = NULL;

	conn->status = natsConnection_GetLastError(nc, &text);
	(void)snprintf(conn->why, sizeof(conn->why), "%s",
			text != NULL && text[0] != '\0' ? text : "connection lost");
	sn__crew_to_loop(&conn->inst->crew, &conn->job, conn_closed);
}

static natsStatus set_options(natsOptions *no, struct nats_conn *conn)
{
	const struct nats_options *o = conn->inst->o;
	natsStatus s = natsOptions_SetServers(
			no, (const char **)(void *)o->url.items, (int)o->url.n);

	if (s == NATS_OK)
		s = natsOptions_SetNoRandomize(no, true);
	if (s == NATS_OK)
		s = natsOptions_SetAllowReconnect(no, false);
	if (s == NATS_OK)
		s = natsOptions_SetTimeout(no, (int64_t)o->connect_timeout_ms);
	if (s == NATS_OK)
		s = natsOptions_SetPingInterval(no, (int64_t)o->ping_interval_ms);
	if (s == NATS_OK)
		s = natsOptions_SetMaxPingsOut(no, PINGS_OUT);
	if (s == NATS_OK)
		s = natsOptions_SetWriteDeadline(no, WRITE_DEADLINE_MS);
	if (s == NATS_OK)
		s = natsOptions_SetSendAsap(no, true);
	if (s == NATS_OK)
		s = natsOptions_UseGlobalMessageDelivery(no, true);
	if (s == NATS_OK)
		s = natsOptions_SetName(no, o->name);
	if (s == NATS_OK && o->user != NULL)
		s = natsOptions_SetUserInfo(no, o->user, o->password != NULL ? o->password : "");
	if (s == NATS_OK && o->token != NULL)
		s = natsOptions_SetToken(no, o->token);
	if (s == NATS_OK && o->creds != NULL)
		s = natsOptions_SetUserCredentialsFromFiles(no, o->creds, NULL);
	if (s == NATS_OK)
		s = natsOptions_SetClosedCB(no, on_closed, conn);
	if (s == NATS_OK)
		s = natsOptions_SetErrorHandler(no, on_error, conn);
	return s == NATS_OK ? set_tls(no, o) : s;
}

static void conn_words(struct nats_conn *conn, const char *what)
{
	const char *text = nats_GetLastError(NULL);

	if (text == NULL || text[0] == '\0')
		text = natsStatus_GetText(conn->status);
	(void)snprintf(conn->why, sizeof(conn->why), "%s%s%s", what, what[0] != '\0' ? ": " : "",
			text);
}

static void crew_connect(struct sn_crew_job *job)
{
	struct nats_conn *conn = SN_CONTAINER_OF(job, struct nats_conn, job);
	struct nats_instance *inst = conn->inst;
	natsOptions *no = NULL;

	conn->status = natsOptions_Create(&no);
	if (conn->status == NATS_OK)
		conn->status = set_options(no, conn);
	if (conn->status == NATS_OK)
		conn->status = natsConnection_Connect(&conn->nc, no);
	if (conn->status != NATS_OK)
		conn_words(conn, "");
	natsOptions_Destroy(no);
	if (conn->status == NATS_OK) {
		inst->conn = conn;
		(void)natsConnection_JetStream(&conn->js, conn->nc, NULL);
		(void)natsConnection_GetConnectedUrl(conn->nc, conn->url, sizeof(conn->url));
		SN_LIST_FOREACH (pos, &inst->feeds)
			(void)nats__feed_subscribe(SN_CONTAINER_OF(pos, struct nats_feed, link));
		/* Whatever fails now ends the connection as well: on_closed(). */
		(void)nats__flush(inst);
	}
	/* Not the connection's job: on_closed() may be using that already. */
	sn__crew_to_loop(&inst->crew, &inst->drop_job, connected);
}

static void crew_freed(struct sn_crew_job *job);

static void crew_drop(struct sn_crew_job *job)
{
	struct nats_conn *conn = SN_CONTAINER_OF(job, struct nats_conn, job);
	struct nats_instance *inst = conn->inst;

	SN_LIST_FOREACH (pos, &inst->feeds) {
		struct nats_feed *feed = SN_CONTAINER_OF(pos, struct nats_feed, link);

		natsSubscription_Destroy(feed->ns);
		feed->ns = NULL;
	}
	destroy_gone(inst);
	jsCtx_Destroy(conn->js);
	natsConnection_Destroy(conn->nc);
	inst->conn = NULL;
	sn__crew_to_loop(&inst->crew, &conn->job, crew_freed);
}

static void crew_disconnect(struct sn_crew_job *job)
{
	struct nats_instance *inst = SN_CONTAINER_OF(job, struct nats_instance, close_job);

	if (inst->conn != NULL)
		natsConnection_Close(inst->conn->nc); /* on_closed() follows */
}

static void crew_main(struct sn_crew *crew)
{
	while (sn__crew_work(crew))
		sn__crew_wait(crew, -1);
	nats_ReleaseThreadMemory();
}

/* ---- the connection: the loop's thread ---- */

static void tell(struct nats_instance *inst, bool up)
{
	if (inst->watch != NULL)
		inst->watch->changed(inst->watch, up, inst->why);
}

static void retry(struct sn_driver_task *task)
{
	struct nats_instance *inst = SN_CONTAINER_OF(task, struct nats_instance, timer);

	inst->state = NATS_IDLE;
	nats__connect(inst);
}

static void wait_for_next(struct nats_instance *inst)
{
	uint64_t pause = inst->pause_ms;

	if (inst->closing) {
		inst->state = NATS_IDLE;
		nats__close_check(inst);
		return;
	}
	inst->pause_ms = SN_MIN(2 * inst->pause_ms, inst->o->reconnect_max_ms);
	/* Not all clients of a server at the same time: up to a quarter off. */
	pause -= inst->host->now_ns(inst->host) / 1000 % (pause / 4 + 1);
	inst->state = NATS_WAITING;
	inst->timer.fn = retry;
	inst->host->after(inst->host, &inst->timer, pause);
}

static void connected(struct sn_crew_job *job)
{
	struct nats_instance *inst = SN_CONTAINER_OF(job, struct nats_instance, drop_job);
	struct nats_conn *conn = inst->loop_conn;
	bool up = conn->nc != NULL;
	bool news = up || !inst->attempted || strcmp(inst->why, conn->why) != 0;

	inst->attempted = true; /* conn->why is on_closed()'s when it is up */
	(void)snprintf(inst->why, sizeof(inst->why), "%s", up ? conn->url : conn->why);
	if (!up) {
		nats_free(inst, conn);
		inst->loop_conn = NULL;
		wait_for_next(inst);
		if (news)
			tell(inst, false);
		nats__ops_down(inst);
		return;
	}
	inst->state = NATS_UP;
	inst->pause_ms = inst->o->reconnect_min_ms;
	tell(inst, true);
	nats__ops_up(inst);
	nats__subs_up(inst);
	nats__close_check(inst);
}

/* A connection that was made has ended. */
static void conn_closed(struct sn_crew_job *job)
{
	struct nats_conn *conn = SN_CONTAINER_OF(job, struct nats_conn, job);
	struct nats_instance *inst = conn->inst;

	if (inst->state == NATS_CONNECTING) { /* so early: again, behind connected() */
		sn__crew_to_loop(&inst->crew, &conn->job, conn_closed);
		return;
	}
	inst->state = NATS_DROPPING;
	(void)snprintf(inst->why, sizeof(inst->why), "%s", conn->why);
	sn__crew_to_thread(&inst->crew, &conn->job, crew_drop);
	nats__ops_down(inst);
	nats__subs_down(inst);
	tell(inst, false);
}

static void crew_freed(struct sn_crew_job *job)
{
	struct nats_conn *conn = SN_CONTAINER_OF(job, struct nats_conn, job);
	struct nats_instance *inst = conn->inst;

	nats_free(inst, conn);
	inst->loop_conn = NULL;
	wait_for_next(inst);
}

void nats__connect(struct nats_instance *inst)
{
	struct nats_conn *conn;

	if (inst->state != NATS_IDLE || inst->closing)
		return;
	conn = nats_alloc(inst, sizeof(*conn));
	if (conn == NULL || sn__crew_start(&inst->crew) < 0) { /* in a while, perhaps */
		nats_free(inst, conn);
		wait_for_next(inst);
		return;
	}
	conn->inst = inst;
	inst->loop_conn = conn;
	inst->state = NATS_CONNECTING;
	sn__crew_to_thread(&inst->crew, &conn->job, crew_connect);
}

static void first_value(struct sn_crew_job *job)
{
	struct nats_instance *inst = SN_CONTAINER_OF(job, struct nats_instance, watch_job);

	if (inst->state == NATS_UP || inst->attempted)
		inst->watch->changed(inst->watch, inst->state == NATS_UP, inst->why);
	else
		inst->watch->changed(inst->watch, false, "");
	inst->n_jobs--;
	nats__close_check(inst);
}

static void nats_watch(void *instance, struct sn_driver_watch *watch)
{
	struct nats_instance *inst = instance;

	if (inst->closing)
		return;
	inst->watch = watch;
	inst->n_jobs++;
	sn__crew_to_loop(&inst->crew, &inst->watch_job, first_value);
	nats__connect(inst);
}

/* ---- opening and closing ---- */

static bool url_valid(const char *url)
{
	const char *host = strstr(url, "://");

	if (host != NULL && strncmp(url, "nats://", 7) != 0 && strncmp(url, "tls://", 6) != 0)
		return false;
	host = host != NULL ? host + 3 : url;
	return host[0] != '\0' && host[0] != ':' && host[0] != '/' &&
			strpbrk(host, " \t\n") == NULL;
}

static int refuse(struct sn_driver_open *how, const char *why)
{
	(void)snprintf(how->error, sizeof(how->error), "%s", why);
	return SN_E_INVALID;
}

static int check(struct sn_driver_open *how, const struct nats_options *o)
{
	if (o == NULL || o->url.n == 0)
		return refuse(how, "url: there must be one at least");
	for (size_t i = 0; i < o->url.n; i++) {
		if (!url_valid(o->url.items[i]))
			return refuse(how, "url: nats://HOST[:PORT] or tls://HOST[:PORT]");
	}
	if ((o->user != NULL) + (o->token != NULL) + (o->creds != NULL) > 1)
		return refuse(how, "only one of user, token and creds");
	if (o->tls.key != NULL && o->tls.cert == NULL)
		return refuse(how, "tls.key: without tls.cert");
	if (!nats__subject_valid(o->stream.name, false) || strchr(o->stream.name, '.') != NULL)
		return refuse(how, "stream.name: letters, digits, '-' and '_'");
	for (size_t i = 0; i < o->stream.subjects.n; i++) {
		if (!nats__subject_valid(o->stream.subjects.items[i], true))
			return refuse(how, "stream.subjects: not a subject");
	}
	return 0;
}

static int nats_open(void *instance, struct sn_driver_open *how)
{
	struct nats_instance *inst = instance;
	int r = check(how, how->options);
	uint64_t id[2];

	if (r < 0)
		return r;
	inst->host = how->host;
	inst->o = how->options;
	inst->pause_ms = inst->o->reconnect_min_ms;
	sn_list_init(&inst->feeds);
	sn_list_init(&inst->gone);
	sn_list_init(&inst->subs);
	sn_list_init(&inst->ops);
	if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id))
		return refuse(how, "no random numbers");
	(void)snprintf(inst->inbox, sizeof(inst->inbox), "_INBOX.%016llx%08llx",
			(unsigned long long)id[0], (unsigned long long)(id[1] & 0xffffffff));
	r = sn__crew_open(&inst->crew, inst->host, crew_main);
	if (r < 0) {
		(void)snprintf(how->error, sizeof(how->error), "no descriptor for its thread");
		return r;
	}
	inst->replies = nats__feed_create(inst, "", NULL, nats__on_reply, inst);
	if (inst->replies == NULL) {
		sn__crew_finish(&inst->crew);
		return SN_E_NOMEM;
	}
	sn_list_push_back(&inst->feeds, &inst->replies->link);
	return 0;
}

static void close_done(struct sn_crew_job *job)
{
	struct nats_instance *inst = SN_CONTAINER_OF(job, struct nats_instance, close_job);

	inst->done(inst->arg);
}

/* The steps of the end, each once; whatever goes calls it again. */
void nats__close_check(struct nats_instance *inst)
{
	if (!inst->closing || inst->stopping || !sn_list_empty(&inst->ops) ||
			!sn_list_empty(&inst->subs) || inst->n_jobs > 0)
		return;
	if (inst->replies != NULL) {
		struct nats_feed *feed = inst->replies;

		inst->replies = NULL;
		nats__feed_drop(feed);
	}
	if (inst->state == NATS_WAITING) {
		inst->host->undo(inst->host, &inst->timer);
		inst->state = NATS_IDLE;
	}
	if (inst->state == NATS_UP) {
		inst->state = NATS_DROPPING; /* conn_closed() is still to come */
		sn__crew_to_thread(&inst->crew, &inst->close_job, crew_disconnect);
	}
	if (inst->state != NATS_IDLE || inst->n_feeds > 0)
		return;
	inst->stopping = true;
	sn__crew_stop(&inst->crew);
	sn__crew_to_loop(&inst->crew, &inst->close_job, close_done);
}

static void nats_close(void *instance, void (*done)(void *arg), void *arg)
{
	struct nats_instance *inst = instance;

	inst->closing = true;
	inst->done = done;
	inst->arg = arg;
	nats__ops_close(inst);
	nats__subs_close(inst);
	nats__close_check(inst);
}

static void nats_finish(void *instance)
{
	struct nats_instance *inst = instance;

	sn__crew_finish(&inst->crew);
	nats_free(inst, inst->slots);
}

static const struct sn_driver_broker functions = {
		.size = sizeof(functions),
		.watch = nats_watch,
		.publish = nats__publish,
		.publish_cancel = nats__publish_cancel,
		.request = nats__request,
		.request_cancel = nats__request_cancel,
		.subscribe = nats__subscribe,
		.credit = nats__credit,
		.answer = nats__answer,
		.unsubscribe = nats__unsubscribe,
};

SN_API extern const struct sn_driver sn_driver_broker_nats;
const struct sn_driver sn_driver_broker_nats = {
		.abi = SN_DRIVER_ABI,
		.size = sizeof(struct sn_driver),
		.name = "nats",
		.topic = SN_TOPIC_BROKER,
		.summary = "NATS and JetStream",
		.capabilities = SN_DRIVER_BY_OPTIONS,
		.options = nats__options,
		.options_size = sizeof(struct nats_options),
		.state_size = sizeof(struct nats_instance),
		.open = nats_open,
		.close = nats_close,
		.finish = nats_finish,
		.ops = &functions,
};
