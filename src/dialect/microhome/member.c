/* SPDX-License-Identifier: Apache-2.0 */
#include "dialect/microhome/member.h"

#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"

/* An event type we have asked the broker for. */
struct topic {
	struct sn_mh_member *m;
	struct sn_list link;
	struct sn_list subs; /* sub.link */
	struct sn_mh_exchange x;
	struct sn_timer retry, tell;
	unsigned tries;
	uint32_t pause_ms;
	bool asking, agreed;
	size_t len;
	char type[];
};
struct sub {
	struct sn_list link;
	sn_mh_handler_fn *fn;
	void *arg;
	sn_mh_told_fn *told; /* NULL: has been */
	void *told_arg;
	bool installed;
};

struct sn_mh_member {
	struct sn_loop *loop;
	struct sn_mh_member_options o;
	enum sn_mh_member_state state;
	struct sn_mh_server *server;
	struct sn_mh_client *client;
	char *id;
	char address[SN_ADDR_TEXT_MAX];
	struct sn_addr broker, registry;
	struct sn_list topics;
	struct sn_mh_exchange x; /* register, unregister */
	struct sn_timer timer;   /* register (again) */
	uint32_t pause_ms;
	bool asking;    /* x is under way */
	bool unsure;    /* a registration may have been made although nobody said so */
	bool known;     /* the registry has our address */
	bool told_down; /* the log has said that the registry does not answer */
	unsigned open;  /* parts that must end before it is gone */
	struct sn_task gone;
	void (*done)(void *arg);
	void *done_arg;
};

static void register_now(struct sn_timer *t);
static void topic_ask(struct topic *t);

/* ---- words ---- */

void sn__mh_explain(const struct sn_mh_exchange *x, char *out, char *ret_reason)
{
	SN_AUTO_JSON json_t *error = NULL;
	const char *message, *reason;

	if (ret_reason != NULL)
		ret_reason[0] = '\0';
	snprintf(out, SN_MH_REASON_MAX, "%s", x->text);
	if (x->status != SN_E_STATUS || x->reply.error.ptr == NULL ||
			sn__json_parse(x->reply.error, SIZE_MAX, &error, NULL) < 0)
		return;
	message = json_is_string(error) ? json_string_value(error)
					: sn__json_str(sn__json_get(error, "message"));
	reason = sn__json_str(sn__json_get(error, "reason"));
	if (reason == NULL)
		reason = sn__json_str(sn__json_get(sn__json_get(error, "data"), "reason"));
	snprintf(out, SN_MH_REASON_MAX, "%s%s%.100s%s%.100s", x->text, message != NULL ? ": " : "",
			message != NULL ? message : "", reason != NULL ? ": " : "",
			reason != NULL ? reason : "");
	if (ret_reason != NULL && reason != NULL)
		snprintf(ret_reason, SN_MH_REASON_MAX, "%s", reason);
}

static void log_line(
		struct sn_mh_member *m, enum sn_log_level level, const char *what, const char *why)
{
	sn__log(m->o.log, level, "node", "%s: %s%s%s", m->id, what, why[0] != '\0' ? ": " : "",
			why);
}

static uint32_t next_pause(struct sn_mh_member *m, uint32_t *pause_ms)
{
	*pause_ms = *pause_ms == 0 ? SN_MH_RETRY_FIRST_MS
				   : SN_MIN(2 * *pause_ms, (uint32_t)SN_MH_RETRY_MAX_MS);
	return *pause_ms + (uint32_t)sn__rng_below(sn__loop_rng(m->loop), *pause_ms / 4 + 1);
}

/* ---- registering ---- */

static void set_state(
		struct sn_mh_member *m, enum sn_mh_member_state state, const struct sn_error *err)
{
	m->state = state;
	if (m->o.changed != NULL)
		m->o.changed(m, state, err, m->o.arg);
}

static void part_gone(void *arg);

static void topics_tell(struct sn_mh_member *m, int status, const char *text);

/* Refused: the seed closes its server and reports. */
static void fail(struct sn_mh_member *m, int status, const char *text)
{
	struct sn_error err;

	sn__error_set(&err, status, "%s", text);
	log_line(m, SN_LOG_ERROR, "not registered", text);
	topics_tell(m, SN_E_CLOSED, "the node is not registered");
	m->open++;
	sn__mh_server_close(SN_TAKE(m->server), 0, part_gone, m);
	set_state(m, SN_MH_FAILED, &err);
}

static void running(struct sn_mh_member *m)
{
	bool first = m->state == SN_MH_STARTING;

	m->known = true;
	m->pause_ms = 0;
	m->told_down = false;
	if (first) {
		log_line(m, SN_LOG_INFO, "registered", m->address);
		set_state(m, SN_MH_RUNNING, NULL);
	}
	SN_LIST_FOREACH (pos, &m->topics)
		topic_ask(SN_CONTAINER_OF(pos, struct topic, link));
	if (m->o.renew_ms != UINT32_MAX)
		sn__timer_start(m->loop, &m->timer, sn_ms_to_ns(m->o.renew_ms), register_now);
}

static void again(struct sn_mh_member *m, const char *why)
{
	char text[SN_MH_REASON_MAX + 64];

	if (!m->told_down) {
		snprintf(text, sizeof(text), "%s; trying again", why);
		log_line(m, SN_LOG_WARNING, "the registry does not answer", text);
		m->told_down = true;
	}
	sn__timer_start(m->loop, &m->timer, sn_ms_to_ns(next_pause(m, &m->pause_ms)), register_now);
}

static void on_registered(struct sn_mh_exchange *x)
{
	struct sn_mh_member *m = SN_CONTAINER_OF(x, struct sn_mh_member, x);
	char text[SN_MH_REASON_MAX], reason[SN_MH_REASON_MAX];
	bool exists;

	m->asking = false;
	sn__mh_explain(x, text, reason);
	exists = strcmp(reason, "Node already exists") == 0;
	if (x->status == 0 && !sn__mh_is_unhandled(&x->reply)) {
		running(m);
	} else if (x->status == 0) {
		fail(m, SN_E_STATUS,
				"the registry's address belongs to something else: " SN_MICROHOME_NO_HANDLER);
	} else if (x->status == SN_E_STATUS && x->reply.status != SN_MICROHOME_FAILED) {
		/* Of an attempt that nobody answered, or of ours before. */
		if (exists && (m->unsure || m->state == SN_MH_RUNNING))
			running(m);
		else if (m->state == SN_MH_RUNNING)
			again(m, text);
		else
			fail(m, SN_E_STATUS, text);
	} else {
		m->unsure |= x->status == SN_E_TIMEOUT || x->status == SN_E_EOF ||
				x->status == SN_E_RESET;
		if (m->o.once && m->state == SN_MH_STARTING)
			fail(m, x->status, text);
		else
			again(m, text);
	}
}

/* {"nodeId": id, "address": address} */
static int register_data(const struct sn_mh_member *m, struct sn_buf *out)
{
	int r = sn__buf_puts(out, "{\"nodeId\":");

	if (r == 0)
		r = sn__json_quote(sn_str_from(m->id), out);
	if (r == 0)
		r = sn__buf_puts(out, ",\"address\":");
	if (r == 0)
		r = sn__json_quote(sn_str_from(m->address), out);
	return r < 0 ? r : sn__buf_puts(out, "}");
}

static void register_now(struct sn_timer *t)
{
	struct sn_mh_member *m = SN_CONTAINER_OF(t, struct sn_mh_member, timer);
	struct sn_mh_send send = {.to = m->registry, .type = SN_STR(SN_MH_REGISTER), .version = 2};
	struct sn_buf data;
	int r;

	sn__buf_init(&data, 8192);
	r = register_data(m, &data);
	send.data = sn__buf_str(&data);
	if (r == 0)
		r = sn__mh_exchange_start(m->client, &m->x, &send, on_registered);
	sn__buf_finish(&data);
	m->asking = r == 0;
	if (r < 0)
		again(m, r == SN_E_NOMEM || m->x.text == NULL ? sn_strerror(r) : m->x.text);
}

/* ---- subscribing ---- */

static void topic_free(struct topic *t)
{
	struct sn_list *pos;

	sn__mh_exchange_cancel(&t->x);
	sn__timer_stop(t->m->loop, &t->retry);
	sn__timer_stop(t->m->loop, &t->tell);
	sn_list_remove(&t->link);
	while ((pos = sn_list_pop_front(&t->subs)) != NULL)
		sn__free(SN_CONTAINER_OF(pos, struct sub, link));
	sn__free(t);
}

/* Everybody who waits is told; the handlers that wait are gone unless it is good news. */
static void topic_tell(struct topic *t, int status, const char *text)
{
	SN_LIST_FOREACH_SAFE (pos, &t->subs) {
		struct sub *sub = SN_CONTAINER_OF(pos, struct sub, link);
		sn_mh_told_fn *told = sub->told;
		void *arg = sub->told_arg;

		if (told == NULL)
			continue;
		sub->told = NULL;
		if (status < 0) {
			sn_list_remove(&sub->link);
			sn__free(sub);
		}
		told(status, text, arg);
	}
}

static void topics_tell(struct sn_mh_member *m, int status, const char *text)
{
	SN_LIST_FOREACH (pos, &m->topics) {
		struct topic *t = SN_CONTAINER_OF(pos, struct topic, link);

		sn__mh_exchange_cancel(&t->x);
		sn__timer_stop(m->loop, &t->retry);
		sn__timer_stop(m->loop, &t->tell);
		t->asking = false;
		topic_tell(t, status, text);
	}
}

/* The broker has agreed: handlers are installed, each with who asked for it told. */
static void topic_agreed(struct topic *t)
{
	struct sn_mh_member *m = t->m;

	t->agreed = true;
	t->tries = 0;
	t->pause_ms = 0;
	SN_LIST_FOREACH_SAFE (pos, &t->subs) {
		struct sub *sub = SN_CONTAINER_OF(pos, struct sub, link);

		if (sub->installed)
			continue;
		if (m->server == NULL ||
				sn__mh_server_on(m->server, (struct sn_str){t->type, t->len},
						sub->fn, sub->arg) < 0) {
			sn_mh_told_fn *told = sub->told;
			void *arg = sub->told_arg;

			sn_list_remove(&sub->link);
			sn__free(sub);
			told(SN_E_NOMEM, "out of memory", arg);
			continue;
		}
		sub->installed = true;
	}
	topic_tell(t, 0, "");
}

static void on_tell(struct sn_timer *timer)
{
	topic_agreed(SN_CONTAINER_OF(timer, struct topic, tell));
}

static void on_retry(struct sn_timer *timer)
{
	topic_ask(SN_CONTAINER_OF(timer, struct topic, retry));
}

static void topic_refused(struct topic *t, int status, const char *text)
{
	log_line(t->m, SN_LOG_WARNING, t->type, text);
	t->agreed = false;
	topic_tell(t, status, text);
	if (sn_list_empty(&t->subs))
		topic_free(t);
}

static void on_subscribed(struct sn_mh_exchange *x)
{
	struct topic *t = SN_CONTAINER_OF(x, struct topic, x);
	struct sn_mh_member *m = t->m;
	char text[SN_MH_REASON_MAX], reason[SN_MH_REASON_MAX];
	bool unknown;

	t->asking = false;
	sn__mh_explain(x, text, reason);
	unknown = strcmp(reason, "Node is not registered") == 0;
	if (x->status == 0 && sn__mh_is_unhandled(&x->reply))
		topic_refused(t, SN_E_NOTSUP, "the broker's address belongs to something else");
	else if (x->status == 0)
		topic_agreed(t);
	else if (unknown && !m->o.original && ++t->tries < SN_MH_SUBSCRIBE_TRIES)
		sn__timer_start(m->loop, &t->retry, sn_ms_to_ns(SN_MH_SUBSCRIBE_PAUSE_MS),
				on_retry);
	else if (x->status == SN_E_STATUS && !t->agreed)
		topic_refused(t, SN_E_STATUS, text);
	else if (x->status != SN_E_STATUS && m->o.once)
		topic_refused(t, x->status, text);
	else if (x->status != SN_E_STATUS)
		sn__timer_start(m->loop, &t->retry, sn_ms_to_ns(next_pause(m, &t->pause_ms)),
				on_retry);
}

static void topic_ask(struct topic *t)
{
	struct sn_mh_member *m = t->m;
	struct sn_mh_send send = {.to = m->broker, .type = SN_STR(SN_MH_SUBSCRIBE)};
	struct sn_buf data;
	int r;

	if (t->asking || m->state != SN_MH_RUNNING || sn_list_empty(&t->subs))
		return;
	sn__timer_stop(m->loop, &t->retry);
	sn__buf_init(&data, 8 * SN_MICROHOME_PAYLOAD_MAX);
	r = sn__buf_puts(&data, "{\"subscribe\":");
	if (r == 0)
		r = sn__json_quote((struct sn_str){t->type, t->len}, &data);
	if (r == 0)
		r = sn__buf_puts(&data, "}");
	send.data = sn__buf_str(&data);
	if (r == 0)
		r = sn__mh_exchange_start(m->client, &t->x, &send, on_subscribed);
	sn__buf_finish(&data);
	t->asking = r == 0;
	if (r < 0)
		sn__timer_start(m->loop, &t->retry, sn_ms_to_ns(next_pause(m, &t->pause_ms)),
				on_retry);
}

static struct topic *topic_find(struct sn_mh_member *m, struct sn_str type)
{
	SN_LIST_FOREACH (pos, &m->topics) {
		struct topic *t = SN_CONTAINER_OF(pos, struct topic, link);

		if (sn_str_eq(type, (struct sn_str){t->type, t->len}))
			return t;
	}
	return NULL;
}

static struct topic *topic_make(struct sn_mh_member *m, struct sn_str type)
{
	struct topic *t = topic_find(m, type);

	if (t != NULL)
		return t;
	t = sn__calloc(1, sizeof(*t) + type.len + 1);
	if (t == NULL)
		return NULL;
	t->m = m;
	t->len = type.len;
	memcpy(t->type, type.ptr, type.len);
	sn_list_init(&t->subs);
	sn_list_push_back(&m->topics, &t->link);
	return t;
}

int sn__mh_member_subscribe(struct sn_mh_member *m, struct sn_str type, sn_mh_handler_fn *fn,
		void *arg, sn_mh_told_fn *told, void *told_arg)
{
	struct sub *sub;
	struct topic *t;

	if (m->o.alone)
		return SN_E_STATE;
	if (m->state == SN_MH_FAILED || m->state == SN_MH_LEAVING)
		return SN_E_CLOSED;
	if (type.len == 0)
		return SN_E_INVALID;
	sub = sn__calloc(1, sizeof(*sub));
	t = sub != NULL ? topic_make(m, type) : NULL;
	if (t == NULL) {
		sn__free(sub);
		return SN_E_NOMEM;
	}
	*sub = (struct sub){.fn = fn, .arg = arg, .told = told, .told_arg = told_arg};
	sn_list_push_back(&t->subs, &sub->link);
	if (t->agreed && !t->asking)
		sn__timer_start(m->loop, &t->tell, 0, on_tell);
	else
		topic_ask(t);
	return 0;
}

int sn__mh_member_forget(struct sn_mh_member *m, struct sn_str type)
{
	struct topic *t = topic_find(m, type);

	if (t == NULL)
		return SN_E_NOT_FOUND;
	SN_LIST_FOREACH (pos, &t->subs) {
		struct sub *sub = SN_CONTAINER_OF(pos, struct sub, link);

		if (sub->installed && m->server != NULL)
			(void)sn__mh_server_off(m->server, type, sub->fn, sub->arg);
	}
	topic_tell(t, SN_E_CANCELLED, "unsubscribed");
	topic_free(t);
	return 0;
}

/* ---- leaving ---- */

static void member_free(struct sn_mh_member *m)
{
	while (!sn_list_empty(&m->topics))
		topic_free(SN_CONTAINER_OF(m->topics.next, struct topic, link));
	sn__timer_stop(m->loop, &m->timer);
	sn__mh_exchange_cancel(&m->x);
	sn__mh_client_destroy(m->client);
	sn__free(m->id);
	sn__free(m);
}

static void on_gone(struct sn_task *task)
{
	struct sn_mh_member *m = SN_CONTAINER_OF(task, struct sn_mh_member, gone);
	void (*done)(void *arg) = m->done;
	void *arg = m->done_arg;

	member_free(m);
	if (done != NULL)
		done(arg);
}

static void part_gone(void *arg)
{
	struct sn_mh_member *m = arg;

	if (--m->open == 0 && m->state == SN_MH_LEAVING)
		sn__loop_defer(m->loop, &m->gone, on_gone);
}

static void stop_listening(struct sn_mh_member *m)
{
	m->open++;
	if (m->server != NULL) {
		m->open++;
		sn__mh_server_close(SN_TAKE(m->server), SN_MH_LEAVE_MS, part_gone, m);
	}
	part_gone(m);
}

static void on_unregistered(struct sn_mh_exchange *x)
{
	struct sn_mh_member *m = SN_CONTAINER_OF(x, struct sn_mh_member, x);
	char text[SN_MH_REASON_MAX];

	sn__mh_explain(x, text, NULL);
	if (x->status < 0)
		log_line(m, SN_LOG_WARNING, "not unregistered", text);
	stop_listening(m);
}

void sn__mh_member_close(struct sn_mh_member *m, void (*done)(void *arg), void *arg)
{
	struct sn_mh_send send = {.to = m->registry, .type = SN_STR(SN_MH_UNREGISTER)};
	bool tell = !m->o.alone && !m->o.original && (m->known || m->unsure || m->asking) &&
			m->state != SN_MH_FAILED;

	assert(m->state != SN_MH_LEAVING);
	m->state = SN_MH_LEAVING;
	m->done = done;
	m->done_arg = arg;
	sn__timer_stop(m->loop, &m->timer);
	sn__mh_exchange_cancel(&m->x);
	topics_tell(m, SN_E_CLOSED, "the node is closed");
	if (!tell || sn__mh_exchange_start(m->client, &m->x, &send, on_unregistered) < 0)
		stop_listening(m);
}

/* ---- opening ---- */

static int addresses(struct sn_mh_member *m, struct sn_error *err)
{
	const struct sn_mh_member_options *o = &m->o;
	int r;

	if (o->alone)
		return 0;
	if (o->broker == NULL)
		return sn__error_set(err, SN_E_INVALID,
				"Service can only be instantiated with 'Event Broker' Address");
	if (o->registry == NULL)
		return sn__error_set(err, SN_E_INVALID,
				"Service can only be instantiated with 'Service Registry' Address");
	r = sn__mh_address(sn_str_from(o->broker), &m->broker, err);
	if (r < 0)
		return sn__error_prefix(err, "broker");
	r = sn__mh_address(sn_str_from(o->registry), &m->registry, err);
	return r < 0 ? sn__error_prefix(err, "registry") : 0;
}

static int advertised(struct sn_mh_member *m, struct sn_error *err)
{
	struct sn_addr addr;
	char text[SN_ADDR_TEXT_MAX];
	int r;

	if (m->o.advertise != NULL) {
		r = sn__mh_address(sn_str_from(m->o.advertise), &addr, err);
		if (r < 0)
			return sn__error_prefix(err, "advertise");
		snprintf(m->address, sizeof(m->address), "%s", m->o.advertise);
		return 0;
	}
	sn__mh_advertised(sn__mh_server_addr(m->server), m->address);
	if (m->o.alone || sn__mh_address(sn_str_from(m->address), &addr, NULL) == 0)
		return 0;
	snprintf(text, sizeof(text), "%s", m->address);
	return sn__error_set(err, SN_E_INVALID,
			"a node that listens on %s cannot register it: nodes know IPv4 addresses "
			"only; add `advertise`",
			text);
}

static int parts_open(struct sn_mh_member *m, struct sn_error *err)
{
	const struct sn_mh_member_options *o = &m->o;
	struct sn_mh_server_options server = {.id = o->id,
			.listen = o->listen,
			.version = o->version,
			.strict = o->strict,
			.no_keep = o->original,
			.old_names = o->old_names,
			.answer_ms = o->answer_ms,
			.security = o->security};
	struct sn_mh_client_options client = {.id = o->id,
			.version = o->version,
			.keep = !o->original,
			.security = o->security};
	int r = addresses(m, err);

	if (r == 0)
		r = sn__mh_security_check(&o->security, &o->listen,
				o->where != NULL ? o->where : "node", err);
	if (r == 0)
		r = sn__mh_client_create(m->loop, &client, &m->client, err);
	if (r == 0)
		r = sn__mh_server_open(m->loop, &server, &m->server, err);
	return r < 0 ? r : advertised(m, err);
}

/* Without anybody to ask it runs in the next turn. */
static void on_alone(struct sn_timer *t)
{
	struct sn_mh_member *m = SN_CONTAINER_OF(t, struct sn_mh_member, timer);

	set_state(m, SN_MH_RUNNING, NULL);
}

int sn__mh_member_open(struct sn_loop *loop, const struct sn_mh_member_options *opts,
		struct sn_mh_member **ret_member, struct sn_error *err)
{
	struct sn_mh_member *m;
	int r;

	if (opts->id == NULL || opts->id[0] == '\0')
		return sn__error_set(err, SN_E_INVALID, "a node needs an id");
	m = sn__calloc(1, sizeof(*m));
	if (m == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	m->loop = loop;
	m->o = *opts;
	if (m->o.renew_ms == 0)
		m->o.renew_ms = m->o.original ? UINT32_MAX : SN_MH_RENEW_MS;
	sn_list_init(&m->topics);
	m->id = sn__strdup(opts->id);
	r = m->id == NULL ? sn__error_set(err, SN_E_NOMEM, "out of memory") : parts_open(m, err);
	if (r < 0) {
		sn__mh_server_discard(m->server);
		member_free(m);
		return r;
	}
	/* Texts of the options are not ours to keep. */
	memset(&m->o.security, 0, sizeof(m->o.security));
	m->o.id = m->id;
	m->o.advertise = m->o.broker = m->o.registry = m->o.where = NULL;
	sn__timer_start(loop, &m->timer, 0, m->o.alone ? on_alone : register_now);
	*ret_member = m;
	return 0;
}

struct sn_mh_server *sn__mh_member_server(struct sn_mh_member *m)
{
	return m->server;
}

struct sn_mh_client *sn__mh_member_client(struct sn_mh_member *m)
{
	return m->client;
}

bool sn__mh_member_broker(const struct sn_mh_member *m, struct sn_addr *ret_addr)
{
	*ret_addr = m->broker;
	return !m->o.alone;
}

const char *sn__mh_member_address(const struct sn_mh_member *m)
{
	return m->address;
}
