/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credentials of the container (ECS, EKS: one GET) or of the instance (EC2, version 2 of its service:
 * a PUT for a session, a GET for the role's name, a GET for the credentials). The session's token
 * keeps what can make a service fetch any URL from reading them, so version 1 is not tried.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/yaml.h" /* sn__file_read() */
#include "connect/aws_impl.h"
#include "io/addr.h"
#include "proto/aws_answer.h"

#define STEP_TIMEOUT_NS (5 * SN_NS_PER_S)
#define BODY_MAX 65536u
#define ECS "http://169.254.170.2"
#define ROLES "/latest/meta-data/iam/security-credentials/"

enum step { STEP_CONTAINER, STEP_SESSION, STEP_ROLE, STEP_CREDENTIALS };

static int refuse(struct sn_aws_metadata *m, int code, const char *fmt, ...) SN_PRINTF(3, 4);
static int refuse(struct sn_aws_metadata *m, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(m->why, sizeof(m->why), fmt, ap);
	va_end(ap);
	return code;
}

/* ---- how it ends ---- */

static void settle(struct sn_aws_metadata *m)
{
	explicit_bzero(m->token, sizeof(m->token));
	if (m->body.block != NULL)
		explicit_bzero(m->body.block, m->body.cap);
	sn__buf_finish(&m->body);
	sn__http_dest_unref(SN_TAKE(m->dest));
	sn__tls_unref(SN_TAKE(m->own_tls));
	m->busy = false;
}

static void on_failed(struct sn_task *task)
{
	struct sn_aws_metadata *m = SN_CONTAINER_OF(task, struct sn_aws_metadata, task);

	settle(m);
	m->done(m, NULL, m->code);
}

static void fail(struct sn_aws_metadata *m, int code)
{
	m->code = m->stopped ? SN_E_CLOSED : code;
	sn__loop_defer(m->loop, &m->task, on_failed);
}

static const char *asked(const struct sn_aws_metadata *m)
{
	return m->step == STEP_CONTAINER ? "the container" : "the instance's metadata";
}

/* ---- one request ---- */

static void on_timeout(struct sn_timer *t)
{
	struct sn_aws_metadata *m = SN_CONTAINER_OF(t, struct sn_aws_metadata, timer);

	sn__http_cancel(&m->http, SN_E_TIMEOUT);
}

static void on_head(struct sn_http_req *http, const struct sn_http_head *head)
{
	SN_CONTAINER_OF(http, struct sn_aws_metadata, http)->status = head->status;
}

static void on_data(struct sn_http_req *http, struct sn_str data)
{
	struct sn_aws_metadata *m = SN_CONTAINER_OF(http, struct sn_aws_metadata, http);
	int r = sn__buf_append_str(&m->body, data);

	if (r < 0)
		sn__http_cancel(http, r);
}

static int send_step(struct sn_aws_metadata *m);

static int take_session(struct sn_aws_metadata *m)
{
	struct sn_str token = sn__buf_str(&m->body);

	if (token.len == 0 || token.len >= sizeof(m->token) ||
			!sn__http_header_valid(SN_STR("x"), token))
		return refuse(m, SN_E_PROTOCOL, "%s at %s gave no token", asked(m), m->base);
	memcpy(m->token, token.ptr, token.len);
	m->token[token.len] = '\0';
	m->step = STEP_ROLE;
	(void)snprintf(m->path, sizeof(m->path), ROLES);
	return 0;
}

static bool role_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			(c != '\0' && strchr("+=,.@_-", c) != NULL);
}

static int take_role(struct sn_aws_metadata *m)
{
	struct sn_str role = sn__buf_str(&m->body);
	size_t n = 0;

	while (n < role.len && role_char(role.ptr[n]))
		n++;
	/* Only the first line counts. */
	if (n == 0 || n > 128 || (n < role.len && role.ptr[n] != '\n' && role.ptr[n] != '\r'))
		return refuse(m, SN_E_PROTOCOL, "%s at %s gave no name of a role", asked(m),
				m->base);
	m->step = STEP_CREDENTIALS;
	(void)snprintf(m->path, sizeof(m->path), ROLES "%.*s", (int)n, role.ptr);
	return 0;
}

static int take_document(struct sn_aws_metadata *m, struct sn_aws_creds **ret_creds)
{
	struct sn_aws_document doc;
	struct sn_error err;
	struct sn_str body = sn__buf_str(&m->body);
	int r = sn__aws_document_read((char *)(uintptr_t)body.ptr, body.len, &doc, &err);

	if (r < 0)
		return refuse(m, r, "%s at %s: %.64s", asked(m), m->base, err.text);
	r = sn__aws_creds_create(doc.id, doc.secret, doc.token, doc.expires_s, ret_creds);
	if (r < 0 && r != SN_E_NOMEM)
		return refuse(m, r, "%s at %s: what came are no credentials", asked(m), m->base);
	return r;
}

/* The answer's meaning: 0 goes on, 1 is the end. */
static int take_answer(struct sn_aws_metadata *m, struct sn_aws_creds **ret_creds)
{
	const struct sn_http_result *res = &m->http.result;
	int r;

	if (res->code < 0)
		return refuse(m, res->code, "%s at %s (%.60s)", asked(m), m->base,
				res->code == SN_E_TIMEOUT || res->detail[0] == '\0'
						? sn_strerror(res->code)
						: res->detail);
	if (m->status != 200)
		return refuse(m, SN_E_STATUS, "%s at %s (status %u)", asked(m), m->base, m->status);
	switch ((enum step)m->step) {
	case STEP_SESSION:
		return take_session(m);
	case STEP_ROLE:
		return take_role(m);
	default:
		r = take_document(m, ret_creds);
		return r < 0 ? r : 1;
	}
}

static void on_done(struct sn_http_req *http)
{
	struct sn_aws_metadata *m = SN_CONTAINER_OF(http, struct sn_aws_metadata, http);
	struct sn_aws_creds *creds = NULL;
	int r;

	sn__timer_stop(m->loop, &m->timer);
	/* A kept connection that the server had closed; whatever is asked may be asked twice. */
	if (http->result.code < 0 && http->result.reused && http->result.status == 0 &&
			http->result.code != SN_E_TIMEOUT && !m->stopped)
		r = 0;
	else
		r = m->stopped ? SN_E_CLOSED : take_answer(m, &creds);
	if (r == 0)
		r = send_step(m);
	if (r < 0)
		fail(m, r);
	if (r != 1)
		return;
	settle(m);
	m->done(m, creds, 0);
}

static const struct sn_http_req_ops http_ops = {
		.on_head = on_head,
		.on_data = on_data,
		.on_done = on_done,
};

static int send_step(struct sn_aws_metadata *m)
{
	static const struct sn_http_header ttl = {
			SN_STR("X-aws-ec2-metadata-token-ttl-seconds"), SN_STR("21600")};
	bool session = m->step == STEP_SESSION;
	struct sn_error err;
	int r;

	m->headers[0] = session
			? ttl
			: (struct sn_http_header){m->step == STEP_CONTAINER
							  ? SN_STR("Authorization")
							  : SN_STR("X-aws-ec2-metadata-token"),
					  sn_str_from(m->token)};
	m->http = (struct sn_http_req){
			.ops = &http_ops,
			.method = session ? SN_STR("PUT") : SN_STR("GET"),
			.target = sn_str_from(m->path),
			.headers = m->headers,
			.n_headers = session || m->token[0] != '\0' ? 1 : 0,
	};
	m->status = 0;
	sn__buf_clear(&m->body);
	r = sn__http_start(m->dest, &m->http, &err);
	if (r < 0)
		return refuse(m, r, "%s at %s (%.60s)", asked(m), m->base, err.text);
	sn__timer_start(m->loop, &m->timer, STEP_TIMEOUT_NS, on_timeout);
	return 0;
}

/* ---- whom to ask ---- */

/* What listens there is of this machine, or of the service that runs it. */
static bool host_is_near(struct sn_str host)
{
	static const char *const near[] = {"169.254.170.2", "169.254.170.23", "fd00:ec2::23"};
	struct sn_addr addr, known;

	if (sn__str_ieq(host, SN_STR("localhost")))
		return true;
	if (sn__addr_from_literal(host, 0, &addr) < 0)
		return false;
	for (size_t i = 0; i < SN_COUNT(near); i++) {
		if (sn__addr_from_literal(sn_str_from(near[i]), 0, &known) == 0 &&
				known.len == addr.len && memcmp(&known.u, &addr.u, addr.len) == 0)
			return true;
	}
	return sn__addr_is_loopback(&addr);
}

static int set_url(struct sn_aws_metadata *m, const char *text, const char *variable)
{
	struct sn_tls_options tls = {.ca = sn__aws_env(m->env, "AWS_CA_BUNDLE")};
	struct sn_http_dest_options to = {0};
	char host[SN_URL_HOST_MAX + 1];
	struct sn_error err;
	struct sn_url url;
	int r = sn__url_parse(sn_str_from(text), &url, &err);

	if (r < 0 || url.websocket || url.target.len >= sizeof(m->path))
		return refuse(m, SN_E_INVALID, "%s (no URL that can be asked)", variable);
	(void)snprintf(m->base, sizeof(m->base), "%.*s", (int)(url.target.ptr - text), text);
	if (m->step == STEP_CONTAINER)
		(void)snprintf(m->path, sizeof(m->path), "%s%.*s",
				url.target.len > 0 && *url.target.ptr == '/' ? "" : "/",
				(int)url.target.len, url.target.ptr);
	if (m->step == STEP_CONTAINER && !url.secure && !host_is_near(url.host))
		return refuse(m, SN_E_INVALID,
				"%s (%s: plain http only to this machine, ECS or EKS)", variable,
				m->base);
	(void)snprintf(host, sizeof(host), "%.*s", (int)url.host.len, url.host.ptr);
	to.host = host;
	to.port = url.port;
	if (url.secure && m->tls == NULL) {
		r = sn__tls_create(m->loop, &tls, false, &m->own_tls);
		if (r < 0)
			return r;
	}
	to.tls = !url.secure ? NULL : m->tls != NULL ? m->tls : m->own_tls;
	return sn__http_dest_create(m->pool, &to, &m->dest);
}

/* The token in a file changes: it is read anew each time. */
static int set_token(struct sn_aws_metadata *m)
{
	static const char variable[] = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
	const char *file = sn__aws_env(m->env, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *said = sn__aws_env(m->env, variable);
	struct sn_str token = sn_str_from(said);
	char *text = NULL;
	int r = 0;

	if (file != NULL) {
		r = sn__file_read(file, sizeof(m->token), &text, &token.len, NULL);
		if (r < 0)
			return r == SN_E_NOMEM
					? r
					: refuse(m, SN_E_INVALID,
							  "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE (%s)",
							  sn_strerror(r));
		token.ptr = text;
		while (token.len > 0 && strchr("\r\n \t", token.ptr[token.len - 1]) != NULL)
			token.len--;
	}
	if (token.len >= sizeof(m->token) || !sn__http_header_valid(SN_STR("x"), token))
		r = refuse(m, SN_E_INVALID, "%s%s (not a token)", variable,
				file != NULL ? "_FILE" : "");
	else if (token.len > 0)
		memcpy(m->token, token.ptr, token.len);
	if (text != NULL)
		explicit_bzero(text, token.len);
	sn__free(text);
	return r;
}

static int choose_container(struct sn_aws_metadata *m, const char *relative, const char *full)
{
	char url[sizeof(m->path)];
	int r;

	m->step = STEP_CONTAINER;
	if (relative != NULL &&
			(*relative != '/' ||
					snprintf(url, sizeof(url), ECS "%s", relative) >=
							(int)sizeof(url)))
		return refuse(m, SN_E_INVALID,
				"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI (not a path, or too long)");
	r = set_token(m);
	if (r < 0)
		return r;
	return relative != NULL ? set_url(m, url, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
				: set_url(m, full, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
}

static int choose_instance(struct sn_aws_metadata *m)
{
	const char *disabled = sn__aws_env(m->env, "AWS_EC2_METADATA_DISABLED");
	const char *url = sn__aws_env(m->env, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
	const char *mode = sn__aws_env(m->env, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");

	m->step = STEP_SESSION;
	if (disabled != NULL && strcasecmp(disabled, "true") == 0)
		return refuse(m, SN_E_NOT_FOUND,
				"no AWS_CONTAINER_CREDENTIALS_*, and AWS_EC2_METADATA_DISABLED");
	if (url == NULL)
		url = mode != NULL && strcasecmp(mode, "IPv6") == 0 ? "http://[fd00:ec2::254]"
								    : "http://169.254.169.254";
	(void)snprintf(m->path, sizeof(m->path), "/latest/api/token");
	return set_url(m, url, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
}

int sn__aws_metadata_start(struct sn_aws_metadata *m)
{
	const char *relative = sn__aws_env(m->env, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = sn__aws_env(m->env, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
	int r;

	assert(!m->busy);
	m->why[0] = '\0';
	m->stopped = false;
	memset(m->token, 0, sizeof(m->token));
	sn__buf_init(&m->body, BODY_MAX);
	r = relative != NULL || full != NULL ? choose_container(m, relative, full)
					     : choose_instance(m);
	if (r == 0)
		r = send_step(m);
	if (r < 0)
		settle(m);
	else
		m->busy = true;
	return r;
}

void sn__aws_metadata_stop(struct sn_aws_metadata *m)
{
	if (!m->busy || m->stopped)
		return;
	m->stopped = true;
	m->code = SN_E_CLOSED;
	/* When its task is queued, or it has just ended, this does nothing. */
	if (!sn_task_queued(&m->task))
		sn__http_cancel(&m->http, SN_E_CLOSED);
}
