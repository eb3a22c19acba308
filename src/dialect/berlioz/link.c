/* SPDX-License-Identifier: Apache-2.0 */
#include "dialect/berlioz/link.h"

#include <stdio.h>

#include "base/mem.h"
#include "io/ws.h"
#include "proto/url.h"

struct sn_link {
	struct sn_loop *loop;
	char *url;
	struct sn_tls *tls;
	char *token; /* NULL: none */
	uint32_t ping_ms;
	size_t message_max;
	void (*message)(struct sn_str text, void *arg);
	void (*log)(enum sn_log_level level, const char *line, void *arg);
	void *arg;
	struct sn_ws *ws;
	struct sn_timer timer;
	bool up, closing;
	char told[160]; /* the reason logged last: the same one is not told every 2 s */
	struct sn_task closed_task;
	void (*done)(void *arg);
	void *done_arg;
};

static void connect_again(struct sn_link *link);

bool sn__link_is_up(const struct sn_link *link)
{
	return link->up;
}

/* ---- log ---- */

static void tell(struct sn_link *link, enum sn_log_level level, const char *what, const char *why)
{
	char line[400];

	snprintf(line, sizeof(line), "%s: %s%s%s", link->url, what, why[0] != '\0' ? ": " : "",
			why);
	link->log(level, line, link->arg);
}

static void tell_down(struct sn_link *link, const struct sn_error *err)
{
	const char *why = sn_error_text(err);
	bool same = !link->up && strncmp(link->told, why, sizeof(link->told) - 1) == 0;
	char text[480];

	if (same)
		return;
	snprintf(link->told, sizeof(link->told), "%s", why);
	if (sn_error_code(err) == SN_E_STATUS && sn_error_foreign(err) == 404) {
		snprintf(text, sizeof(text),
				"%s; the agent path must end in the task id "
				"(ws://HOST:PORT/TASK)",
				why);
		tell(link, SN_LOG_ERROR, "not found", text);
		return;
	}
	if (sn_error_code(err) == SN_E_STATUS && sn_error_foreign(err) == 401)
		snprintf(text, sizeof(text), "%s; %s; trying again every %d s", why,
				link->token != NULL ? "the agent does not know the token"
						    : "the agent asks for a token (agent.token, "
						      "SINEW_AGENT_TOKEN)",
				SN_LINK_RETRY_MS / 1000);
	else
		snprintf(text, sizeof(text), "%s; trying again every %d s", why,
				SN_LINK_RETRY_MS / 1000);
	tell(link, SN_LOG_WARNING, link->up ? "connection lost" : "not connected", text);
}

/* ---- the socket ---- */

static void on_open(struct sn_ws *ws, void *arg)
{
	struct sn_link *link = arg;

	link->up = true;
	link->told[0] = '\0';
	tell(link, SN_LOG_INFO, "connected", "");
}

static void on_message(struct sn_ws *ws, bool text, struct sn_str data, void *arg)
{
	struct sn_link *link = arg;

	if (link->closing)
		return;
	if (!text)
		tell(link, SN_LOG_WARNING, "a binary message was ignored", "");
	else
		link->message(data, link->arg);
}

char *sn__link_take_message(struct sn_link *link)
{
	return sn__ws_take_message(link->ws);
}

static void on_close(struct sn_ws *ws, const struct sn_error *err, void *arg)
{
	struct sn_link *link = arg;

	link->ws = NULL;
	if (link->closing) {
		link->done(link->done_arg);
		return;
	}
	tell_down(link, err);
	link->up = false;
	connect_again(link);
}

static const struct sn_ws_ops ws_ops = {
		.on_open = on_open,
		.on_message = on_message,
		.on_close = on_close,
};

static void connect_now(struct sn_timer *timer)
{
	struct sn_link *link = SN_CONTAINER_OF(timer, struct sn_link, timer);
	struct sn_ws_options opts = {
			.max_message = link->message_max,
			.ping_ms = link->ping_ms,
			.close_timeout_ms = SN_LINK_CLOSE_MS,
			.token = link->token,
	};
	struct sn_error err;

	if (sn__ws_connect(link->loop, link->url, link->tls, &opts, &ws_ops, link, &link->ws,
			    &err) < 0) {
		tell_down(link, &err);
		connect_again(link);
	}
}

static void connect_again(struct sn_link *link)
{
	uint64_t delay_ns = SN_LINK_RETRY_MS * SN_NS_PER_MS;

	delay_ns += sn__rng_below(sn__loop_rng(link->loop), delay_ns / 10 + 1);
	sn__timer_start(link->loop, &link->timer, delay_ns, connect_now);
}

/* ---- life ---- */

/* What may stand in a header as one word. */
static bool is_word(const char *s)
{
	for (const char *p = s; *p != '\0'; p++)
		if (*p < 0x21 || *p > 0x7e)
			return false;
	return *s != '\0';
}

static void link_free(struct sn_link *link)
{
	sn__tls_unref(link->tls);
	if (link->token != NULL)
		explicit_bzero(link->token, strlen(link->token));
	sn__free(link->token);
	sn__free(link->url);
	sn__free(link);
}

int sn__link_create(
		const struct sn_link_options *opts, struct sn_link **ret_link, struct sn_error *err)
{
	struct sn_link *link;
	struct sn_url url;
	int r = sn__url_parse(sn_str_from(opts->url), &url, err);

	if (r < 0)
		return sn__error_prefix(err, "agent \"%.200s\"", opts->url);
	if (!url.websocket)
		return sn__error_set(err, SN_E_INVALID,
				"agent \"%.200s\": must be a WebSocket URL, "
				"ws://HOST:PORT/TASK",
				opts->url);
	if (opts->token != NULL && !is_word(opts->token))
		return sn__error_set(err, SN_E_INVALID,
				"agent.token: a token is made of visible ASCII characters");
	link = sn__calloc(1, sizeof(*link));
	if (link == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	link->loop = opts->loop;
	link->ping_ms = opts->ping_ms;
	link->message_max = opts->message_max != 0 ? opts->message_max : SN_LINK_MESSAGE_MAX;
	link->message = opts->message;
	link->log = opts->log;
	link->arg = opts->arg;
	link->url = sn__strdup(opts->url);
	if (opts->token != NULL)
		link->token = sn__strdup(opts->token);
	if (link->url == NULL || (opts->token != NULL && link->token == NULL)) {
		link_free(link);
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	}
	if (opts->tls != NULL)
		link->tls = sn__tls_ref(opts->tls);
	sn__timer_start(link->loop, &link->timer, 0, connect_now);
	*ret_link = link;
	return 0;
}

static void closed_run(struct sn_task *task)
{
	struct sn_link *link = SN_CONTAINER_OF(task, struct sn_link, closed_task);

	link->done(link->done_arg);
}

void sn__link_close(struct sn_link *link, void (*done)(void *arg), void *arg)
{
	link->closing = true;
	link->done = done;
	link->done_arg = arg;
	sn__timer_stop(link->loop, &link->timer);
	if (link->ws != NULL && link->up) {
		sn__ws_close(link->ws, 1000, NULL);
		return;
	}
	sn__ws_abort(link->ws);
	link->ws = NULL;
	sn__loop_defer(link->loop, &link->closed_task, closed_run);
}

void sn__link_destroy(struct sn_link *link)
{
	if (link == NULL)
		return;
	sn__timer_stop(link->loop, &link->timer);
	sn__ws_abort(link->ws);
	link_free(link);
}
