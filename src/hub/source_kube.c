/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The endpoints of a Kubernetes service: one list of its slices, then a watch from there on; where the
 * watch cannot go on (410 Gone, or anything that is not understood), a list again. A watch that ends
 * is normal, servers do that every few minutes, and it is asked for again at once; one that ends as soon
 * as it has begun and brings nothing is asked for less and less often. What was told stays in force until
 * something else is known for certain.
 */
#include "hub/source.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/yaml.h"
#include "hub/kube_slices.h"
#include "io/http.h"
#include "proto/url.h"

#define HEAD_TIMEOUT_MS 15000   /* from the question to the head of the answer */
#define LIST_IDLE_MS 30000      /* between the bytes of a list */
#define WATCH_IDLE_MS 120000    /* of a watch: it is asked for anew, though nothing is wrong */
#define SHORT_MS 1000           /* a watch that ends sooner is not asked for again at once */
#define PING_MS 20000           /* HTTP/2 */
#define CONNECTIONS_MAX 1024    /* HTTP/1.1 needs one a watch */
#define TOKEN_MAX (16u << 10)   /* bytes */
#define MESSAGE_MAX (16u << 10) /* of a Status that comes instead of an answer */

struct sn_hub_kube {
	struct sn_loop *loop;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	struct sn_tls *tls; /* NULL: plain */
	unsigned refs;
	char *prefix;     /* of every path, without a slash at its end */
	char *token_file; /* NULL: none */
	char *token;      /* the value of the header; NULL: none yet */
	struct stat seen; /* of token_file when it was read */
};

enum mode { LIST, WATCH };
enum told { TOLD_NOTHING, TOLD_AWAY, TOLD_PROBLEM };

struct source {
	struct sn_hub_source head;
	struct sn_hub_kube *kube;
	struct sn_hub_source_url url;
	struct sn_kube_slices slices;
	struct sn_http_req http;
	struct sn_http_header headers[2];
	struct sn_buf target;
	struct sn_buf body;  /* of a list, or of a refusal */
	char *authorization; /* of this request */
	struct sn_timer timer;
	uint64_t begun_ns;   /* of this request */
	struct sn_error err; /* why it was given up here */
	enum mode mode;
	enum told told;
	unsigned fails; /* in a row, and watches that brought nothing; not counting lists before them */
	unsigned entered;
	unsigned status;
	bool active; /* http */
	bool paging; /* in the midst of a list */
	bool owed;   /* a list that was not told, for it could not be right */
	bool closing;
};

static void on_time(struct sn_timer *timer);

/* ---- the way there ---- */

static int make_tls(struct sn_hub_kube *kube, const struct sn_hub_kube_options *opts,
		struct sn_error *err)
{
	const struct sn_tls_options tls = {
			.ca = opts->ca, .alpn = "h2,http/1.1", .no_verify = opts->insecure};
	int r = sn__tls_create(kube->loop, &tls, false, &kube->tls);

	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	return sn__tls_load(kube->tls, err);
}

static int make_dest(struct sn_hub_kube *kube, const struct sn_url *url)
{
	const struct sn_http_pool_options pool = {.max_per_dest = CONNECTIONS_MAX};
	SN_AUTO_FREE char *host = sn__strndup(url->host.ptr, url->host.len);
	const struct sn_http_dest_options opts = {.host = host,
			.port = url->port,
			.tls = kube->tls,
			.server_name = host,
			.version = kube->tls != NULL ? SN_HTTP_ANY : SN_HTTP_1,
			.ping_ms = PING_MS};
	int r;

	if (host == NULL)
		return SN_E_NOMEM;
	r = sn__http_pool_create(kube->loop, &pool, &kube->pool);
	return r < 0 ? r : sn__http_dest_create(kube->pool, &opts, &kube->dest);
}

static bool is_here(struct sn_str host)
{
	struct sn_addr addr;

	return sn__str_ieq(host, SN_STR("localhost")) ||
			(sn__addr_from_literal(host, 0, &addr) == 0 && sn__addr_is_loopback(&addr));
}

static int check_url(
		const struct sn_hub_kube_options *opts, struct sn_url *url, struct sn_error *err)
{
	int r = sn__url_parse(sn_str_from(opts->server), url, err);

	if (r < 0)
		return sn__error_prefix(err, "server");
	if (url->websocket ||
			(url->target.len > 0 && memchr(url->target.ptr, '?', url->target.len)))
		return sn__error_set(err, SN_E_INVALID,
				"server: expected https://HOST:PORT, found `%s`", opts->server);
	if (!url->secure && !opts->insecure && opts->token_file != NULL && !is_here(url->host))
		return sn__error_set(err, SN_E_INVALID,
				"server: `%s` would carry the token in the clear: use https, or say "
				"`insecure: true`",
				opts->server);
	return 0;
}

int sn__hub_kube_create(struct sn_loop *loop, const struct sn_hub_kube_options *opts,
		struct sn_hub_kube **ret_kube, struct sn_error *err)
{
	struct sn_hub_kube *kube;
	struct sn_url url;
	int r = check_url(opts, &url, err);

	if (r < 0)
		return r == SN_E_NOMEM ? r : SN_E_INVALID;
	kube = sn__calloc(1, sizeof *kube);
	if (kube == NULL)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	kube->loop = loop;
	kube->refs = 1;
	while (url.target.len > 0 && url.target.ptr[url.target.len - 1] == '/')
		url.target.len--;
	kube->prefix = sn__strndup(url.target.len > 0 ? url.target.ptr : "", url.target.len);
	if (opts->token_file != NULL)
		kube->token_file = sn__strdup(opts->token_file);
	if (url.secure)
		r = make_tls(kube, opts, err);
	if (r == 0) {
		r = kube->prefix == NULL || (opts->token_file != NULL && kube->token_file == NULL)
				? SN_E_NOMEM
				: make_dest(kube, &url);
		if (r < 0)
			(void)sn__error_set(err, r, "%s", sn_strerror(r));
	}
	if (r < 0) {
		sn__hub_kube_unref(kube);
		return r == SN_E_NOMEM ? r : SN_E_INVALID;
	}
	*ret_kube = kube;
	return 0;
}

struct sn_hub_kube *sn__hub_kube_ref(struct sn_hub_kube *kube)
{
	kube->refs++;
	return kube;
}

void sn__hub_kube_unref(struct sn_hub_kube *kube)
{
	if (kube == NULL || --kube->refs > 0)
		return;
	sn__http_dest_unref(kube->dest);
	if (kube->pool != NULL)
		sn__http_pool_close(kube->pool, NULL, NULL);
	sn__tls_unref(kube->tls);
	sn__free(kube->prefix);
	sn__free(kube->token_file);
	sn__free(kube->token);
	sn__free(kube);
}

/* The token, read again when its file has changed (they are renewed every hour or so). A file that cannot
 * be read leaves the former one. */
static int refresh_token(struct sn_hub_kube *kube, struct sn_error *err)
{
	SN_AUTO_FREE char *text = NULL;
	char *value;
	struct stat now;
	size_t n;
	int r;

	if (kube->token_file == NULL)
		return 0;
	if (kube->token != NULL &&
			(stat(kube->token_file, &now) < 0 ||
					(now.st_ino == kube->seen.st_ino &&
							now.st_size == kube->seen.st_size &&
							now.st_mtim.tv_sec ==
									kube->seen.st_mtim.tv_sec &&
							now.st_mtim.tv_nsec ==
									kube->seen.st_mtim
											.tv_nsec)))
		return 0;
	if (stat(kube->token_file, &now) < 0)
		now = (struct stat){0};
	r = sn__file_read(kube->token_file, TOKEN_MAX, &text, &n, err);
	while (r == 0 && n > 0 && strchr(" \r\n\t", text[n - 1]) != NULL)
		n--;
	if (r == 0 && (n == 0 || !sn__http_header_valid(SN_STR("x"), (struct sn_str){text, n})))
		r = sn__error_set(err, SN_E_INVALID, "%s holds no token", kube->token_file);
	if (r < 0)
		return kube->token != NULL ? 0 : r;
	value = sn__asprintf("Bearer %.*s", (int)n, text);
	if (value == NULL)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	sn__free(kube->token);
	kube->token = value;
	kube->seen = now;
	return 0;
}

/* ---- telling ---- */

static void leave(struct source *src)
{
	if (--src->entered > 0 || !src->closing || src->active)
		return;
	sn__kube_slices_finish(&src->slices);
	sn__buf_finish(&src->target);
	sn__buf_finish(&src->body);
	sn__free(src->authorization);
	sn__hub_kube_unref(src->kube);
	sn__free(src);
}

static void tell_state(struct source *src, enum told told, const struct sn_error *err)
{
	if (src->closing || src->told == told)
		return;
	src->told = told;
	src->head.events.state(src->head.events.arg, err);
}

/* The server answers; whether with something that can be used is another matter. */
static void tell_fine(struct source *src)
{
	struct sn_error err;

	if (src->slices.problem[0] != '\0') {
		(void)sn__error_set(&err, SN_E_INVALID, "%s", src->slices.problem);
		tell_state(src, TOLD_PROBLEM, &err);
	} else {
		tell_state(src, TOLD_NOTHING, NULL);
	}
}

static int publish(struct source *src)
{
	const struct sn_hub_list *list = &src->slices.list;
	bool differs;
	int r = sn__kube_slices_instances(&src->slices, &differs);

	if (r < 0)
		return sn__error_set(&src->err, r, "%s", sn_strerror(r));
	src->owed = src->owed || differs;
	/* Slices with ports of other names only are a slip of somebody's, not the end of all
	 * instances. */
	if (src->owed && (list->n > 0 || src->slices.problem[0] == '\0')) {
		src->owed = false;
		if (!src->closing)
			src->head.events.changed(src->head.events.arg, list->all, list->n);
	}
	tell_fine(src);
	return 0;
}

static void ask_in(struct source *src, uint64_t delay_ms)
{
	struct sn_rng *rng = sn__loop_rng(src->kube->loop);

	if (src->closing)
		return;
	delay_ms -= delay_ms > 0 ? sn__rng_below(rng, delay_ms / 2 + 1) : 0;
	sn__timer_start(src->kube->loop, &src->timer, sn_ms_to_ns(delay_ms), on_time);
}

/* Less and less often, while nothing comes of it. */
static void ask_later(struct source *src)
{
	uint64_t delay_ms = SN_HUB_KUBE_RETRY_MS;

	for (unsigned i = 0; i < src->fails && delay_ms < SN_HUB_KUBE_RETRY_MAX_MS; i++)
		delay_ms *= 2;
	src->fails++;
	ask_in(src, SN_MIN(delay_ms, (uint64_t)SN_HUB_KUBE_RETRY_MAX_MS));
}

static void fail(struct source *src, const struct sn_error *err)
{
	tell_state(src, TOLD_AWAY, err);
	ask_later(src);
}

/* ---- asking ---- */

static int write_target(struct source *src)
{
	struct sn_buf *out = &src->target;
	uint64_t jitter_s = sn__rng_below(sn__loop_rng(src->kube->loop), SN_HUB_KUBE_WATCH_S / 4);
	int r;

	sn__buf_clear(out);
	r = sn__buf_printf(out,
			"%s/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices"
			"?labelSelector=kubernetes.io%%2Fservice-name%%3D%s",
			src->kube->prefix, src->url.space, src->url.service);
	if (r == 0 && src->mode == LIST)
		r = sn__buf_printf(out, "&limit=%u", SN_HUB_KUBE_PAGE);
	if (r == 0 && src->mode == LIST && src->paging) {
		r = sn__buf_puts(out, "&continue=");
		r = r < 0 ? r : sn__percent_encode(sn_str_from(src->slices.next), out);
	}
	if (r == 0 && src->mode == WATCH) {
		r = sn__buf_printf(out,
				"&watch=true&allowWatchBookmarks=true&timeoutSeconds=%u"
				"&resourceVersion=",
				SN_HUB_KUBE_WATCH_S - (unsigned)jitter_s);
		r = r < 0 ? r : sn__percent_encode(sn_str_from(src->slices.version), out);
	}
	return r;
}

static const struct sn_http_req_ops http_ops;

static int start(struct source *src, struct sn_error *err)
{
	struct sn_hub_kube *kube = src->kube;
	unsigned n = 0;
	int r = refresh_token(kube, err);

	if (r < 0)
		return r;
	r = write_target(src);
	sn__free(src->authorization);
	src->authorization = kube->token != NULL ? sn__strdup(kube->token) : NULL;
	if (r == 0 && kube->token != NULL && src->authorization == NULL)
		r = SN_E_NOMEM;
	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	src->headers[n++] = (struct sn_http_header){SN_STR("Accept"), SN_STR("application/json")};
	if (src->authorization != NULL)
		src->headers[n++] = (struct sn_http_header){
				SN_STR("Authorization"), sn_str_from(src->authorization)};
	src->http = (struct sn_http_req){.ops = &http_ops,
			.method = SN_STR("GET"),
			.target = sn__buf_str(&src->target),
			.headers = src->headers,
			.n_headers = n,
			.idle_timeout_ms = src->mode == WATCH ? WATCH_IDLE_MS : LIST_IDLE_MS};
	src->status = 0;
	src->err = (struct sn_error){.code = 0};
	sn__buf_clear(&src->body);
	sn__kube_slices_watch(&src->slices);
	r = sn__http_start(kube->dest, &src->http, err);
	if (r < 0)
		return r;
	src->active = true;
	src->begun_ns = sn__loop_now_ns(kube->loop);
	sn__timer_start(kube->loop, &src->timer, sn_ms_to_ns(HEAD_TIMEOUT_MS), on_time);
	return 0;
}

/* Time to ask, or to give up waiting. */
static void on_time(struct sn_timer *timer)
{
	struct source *src = SN_CONTAINER_OF(timer, struct source, timer);
	struct sn_error err;

	src->entered++;
	if (src->active)
		sn__http_cancel(&src->http, SN_E_TIMEOUT);
	else if (start(src, &err) < 0)
		fail(src, &err);
	leave(src);
}

/* ---- answers ---- */

static void on_head(struct sn_http_req *http, const struct sn_http_head *head)
{
	struct source *src = SN_CONTAINER_OF(http, struct source, http);

	src->entered++;
	src->status = head->status;
	sn__timer_stop(src->kube->loop, &src->timer);
	if (src->mode == WATCH && head->status == 200)
		tell_fine(src);
	leave(src);
}

static void take_piece(struct source *src, struct sn_str data)
{
	enum sn_kube_change change = SN_KUBE_SAME;
	int r;

	if (src->status == 200 && src->mode == WATCH) {
		r = sn__kube_slices_feed(&src->slices, data, &change, &src->err);
		if (src->slices.moved)
			src->fails = 0;
		if (change == SN_KUBE_CHANGED && publish(src) < 0)
			r = src->err.code;
	} else {
		size_t max = src->status == 200 ? SN_HUB_KUBE_PAGE_MAX : MESSAGE_MAX;

		r = src->body.len + data.len > max ? SN_E_LIMIT
						   : sn__buf_append_str(&src->body, data);
		if (r < 0)
			(void)sn__error_set(&src->err, r, "%s",
					r == SN_E_LIMIT ? "an answer too large" : sn_strerror(r));
	}
	if (r < 0 && !src->closing)
		sn__http_cancel(&src->http, SN_E_CANCELLED);
}

static void on_data(struct sn_http_req *http, struct sn_str data)
{
	struct source *src = SN_CONTAINER_OF(http, struct source, http);

	src->entered++;
	if (!src->closing && src->err.code == 0)
		take_piece(src, data);
	leave(src);
}

/* An answer other than 200: its Status says why. */
static void refused(struct source *src)
{
	SN_AUTO_JSON json_t *status = NULL;
	const char *message = NULL;
	char clean[200];
	struct sn_error err;
	size_t n = 0;

	if (sn__json_parse(sn__buf_str(&src->body), MESSAGE_MAX, &status, NULL) == 0)
		message = sn__json_str(sn__json_get(status, "message"));
	for (; message != NULL && message[n] != '\0' && n < sizeof clean - 1; n++)
		clean[n] = (unsigned char)message[n] < ' ' ? ' ' : message[n];
	clean[n] = '\0';
	(void)sn__error_set(&err, SN_E_PROTOCOL, "the API server answers %u%s%s", src->status,
			n > 0 ? ": " : "", clean);
	if (src->status == 401)
		src->kube->seen = (struct stat){0}; /* whatever the file's time says */
	/* A version that the server does not know (of before a restore) is refused, too: from anew. */
	src->mode = LIST;
	src->paging = false;
	if (src->status == 410)
		ask_later(src);
	else
		fail(src, &err);
}

static void end_of_page(struct source *src)
{
	struct sn_error err;
	int r = sn__kube_slices_page(&src->slices, sn__buf_str(&src->body), !src->paging, &err);

	sn__buf_finish(&src->body);
	if (r == 0 && src->slices.next[0] == '\0') {
		r = publish(src);
		err = src->err;
	}
	if (r < 0) {
		src->paging = false;
		(void)sn__error_prefix(&err, "a list of slices");
		fail(src, &err);
		return;
	}
	src->paging = src->slices.next[0] != '\0';
	src->mode = src->paging ? LIST : WATCH;
	ask_in(src, 0);
}

/* The stream has ended or was ended here. */
static void end_of_watch(struct source *src)
{
	uint64_t lasted_ns = sn__loop_now_ns(src->kube->loop) - src->begun_ns;

	if (src->err.code != 0) {
		src->mode = LIST;
		src->paging = false;
	}
	if (src->err.code != 0 && src->slices.status != 410) {
		(void)sn__error_prefix(&src->err, "a watch of slices");
		fail(src, &src->err);
	} else if (lasted_ns < sn_ms_to_ns(SHORT_MS)) {
		ask_later(src);
	} else {
		src->fails = 0;
		ask_in(src, 0);
	}
}

static void broken(struct source *src)
{
	const struct sn_http_result *result = &src->http.result;
	struct sn_error err = src->err;

	if (err.code == 0)
		(void)sn__error_set(&err, result->code, "the API server does not answer: %s%s%s",
				sn_strerror(result->code), result->detail[0] != '\0' ? ": " : "",
				result->detail);
	fail(src, &err);
}

static void on_done(struct sn_http_req *http)
{
	struct source *src = SN_CONTAINER_OF(http, struct source, http);

	src->entered++;
	src->active = false;
	sn__timer_stop(src->kube->loop, &src->timer);
	if (src->closing)
		;
	else if (src->status != 0 && src->status != 200)
		refused(src);
	else if (src->status == 200 && src->mode == WATCH)
		end_of_watch(src);
	else if (src->status == 200 && http->result.code == 0 && src->err.code == 0)
		end_of_page(src);
	else
		broken(src);
	leave(src);
}

static const struct sn_http_req_ops http_ops = {
		.on_head = on_head, .on_data = on_data, .on_done = on_done};

/* ---- opening and closing ---- */

static void kube_close(struct sn_hub_source *head)
{
	struct source *src = SN_CONTAINER_OF(head, struct source, head);

	src->entered++;
	src->closing = true;
	sn__timer_stop(src->kube->loop, &src->timer);
	if (src->active)
		sn__http_cancel(&src->http, SN_E_CANCELLED);
	leave(src);
}

static const struct sn_hub_source_ops kube_ops = {.close = kube_close};

int sn__hub_kube_open(struct sn_hub_kube *kube, const struct sn_hub_source_url *url,
		const struct sn_hub_source_events *events, struct sn_hub_source **ret_src)
{
	struct source *src = sn__calloc(1, sizeof *src);

	if (src == NULL)
		return SN_E_NOMEM;
	src->head = (struct sn_hub_source){&kube_ops, *events};
	src->kube = sn__hub_kube_ref(kube);
	src->url = *url;
	sn__kube_slices_init(&src->slices, url);
	sn__buf_init(&src->target, 4 * SN_HUB_KUBE_CONTINUE_MAX + SN_URL_MAX);
	sn__buf_init(&src->body, SN_HUB_KUBE_PAGE_MAX);
	ask_in(src, 0);
	*ret_src = &src->head;
	return 0;
}
