/* SPDX-License-Identifier: Apache-2.0 */
#include "app/admin_client.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/session.h"
#include "base/json.h"
#include "base/mem.h"
#include "io/http.h"
#include "mesh/config.h"
#include "proto/url.h"

#define ANSWER_MAX (64u << 20)

struct sn_admin_client {
	const struct sn_cli *cli;
	struct sn_loop *loop;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	struct sn_http_req req;
	struct sn_timer timer;
	struct sn_buf body;
	char *authorization; /* NULL: no token */
	char address[SN_ADDR_TEXT_MAX];
	int failed; /* while reading the body */
	bool over, pool_gone;
};

/* ---- where it is ---- */

/* @dir/sinew, when it is a folder we may write to, or can be made one (private). */
static char *folder_in(const char *dir)
{
	char *path;

	if (dir == NULL || dir[0] != '/')
		return NULL;
	path = sn__asprintf("%s/sinew", dir);
	if (path != NULL && access(path, W_OK) != 0 && mkdir(path, 0700) != 0) {
		sn__free(path);
		return NULL;
	}
	return path;
}

int sn__admin_default(const struct sn_cli *cli, const char *name, char **ret_listen)
{
	SN_AUTO_FREE char *dir = folder_in(getenv("XDG_RUNTIME_DIR"));
	int r = 0;

	if (dir == NULL)
		dir = folder_in("/run");
	if (dir == NULL)
		r = sn__session_record_dir(cli, &dir, NULL);
	if (r < 0)
		return r;
	*ret_listen = sn__asprintf("unix:%s/%s.sock", dir, name);
	return *ret_listen != NULL ? 0 : SN_E_NOMEM;
}

/* The socket called @name in @dir and @folder; NULL: there is none. */
static char *socket_in(const char *dir, const char *folder, const char *name)
{
	char *listen = dir != NULL ? sn__asprintf("unix:%s%s/%s.sock", dir, folder, name) : NULL;

	if (listen != NULL && access(listen + strlen("unix:"), F_OK) == 0)
		return listen;
	sn__free(listen);
	return NULL;
}

/* Where a running one listens by default: the service manager's and the user's have not the same
 * environment, so all places are looked at. */
static int find_default(const struct sn_cli *cli, const char *name, char **ret_listen)
{
	SN_AUTO_FREE char *state = NULL;

	*ret_listen = socket_in(getenv("XDG_RUNTIME_DIR"), "/sinew", name);
	if (*ret_listen == NULL)
		*ret_listen = socket_in("/run", "/sinew", name);
	if (*ret_listen == NULL && sn__session_record_dir(cli, &state, NULL) == 0)
		*ret_listen = socket_in(state, "", name);
	return *ret_listen != NULL ? 0 : sn__admin_default(cli, name, ret_listen);
}

/* The address as text, and the token that the file gives. The caller frees both. */
static int find(const struct sn_cli *cli, char **ret_listen, char **ret_token)
{
	const char *path = sn__session_config(cli);
	struct sn_config *config = NULL;
	int r = 0;

	*ret_listen = *ret_token = NULL;
	if (path != NULL && sn__config_load(path, &config, NULL, NULL) < 0)
		config = NULL; /* the address may be given all the same */
	if (config != NULL && config->admin.token != NULL)
		*ret_token = sn__strdup(config->admin.token);
	if (cli->opt[SN_OPT_ADMIN] != NULL)
		*ret_listen = sn__strdup(cli->opt[SN_OPT_ADMIN]);
	else if (config != NULL && config->admin.address != NULL)
		*ret_listen = sn__strdup(config->admin.address);
	else
		r = find_default(cli, config != NULL ? config->name : "sinew", ret_listen);
	sn__config_destroy(config);
	return r == 0 && *ret_listen == NULL ? SN_E_NOMEM : r;
}

static int dial(struct sn_admin_client *c, const char *listen, struct sn_error *err)
{
	struct sn_http_dest_options opts = {.idle_ms = 60000};
	struct sn_addr addr;
	int r = sn__addr_parse_listen(sn_str_from(listen), &addr, err);

	if (r == 0)
		r = sn__loop_uv_open(NULL, &c->loop, err);
	if (r < 0)
		return r;
	(void)sn__addr_text(&addr, c->address);
	r = sn__http_pool_create(c->loop, NULL, &c->pool);
	opts.addr = &addr;
	if (r == 0)
		r = sn__http_dest_create(c->pool, &opts, &c->dest);
	return r < 0 ? sn__error_set(err, r, "%s", sn_strerror(r)) : 0;
}

/* As the connector goes there for its WebSocket (src/dialect/open.c). */
static int dial_agent(struct sn_admin_client *c, const char *url_text,
		const struct sn_config_tls *from /* may be NULL */)
{
	struct sn_http_dest_options opts = {.idle_ms = 60000};
	struct sn_tls_options tls = {.alpn = "http/1.1"};
	char host[SN_URL_HOST_MAX + 1], authority[SN_URL_HOST_MAX + 16];
	struct sn_url url;
	int r = sn__url_parse(sn_str_from(url_text), &url, NULL);

	if (r == 0)
		r = sn__loop_uv_open(NULL, &c->loop, NULL);
	if (r == 0)
		r = sn__http_pool_create(c->loop, NULL, &c->pool);
	if (r < 0)
		return r;
	(void)snprintf(host, sizeof host, "%.*s", (int)url.host.len, url.host.ptr);
	(void)snprintf(authority, sizeof authority, "%.*s", (int)url.authority.len,
			url.authority.ptr);
	opts.host = host;
	opts.port = url.port;
	opts.host_header = authority;
	if (from != NULL) {
		tls.ca = from->ca;
		tls.cert = from->cert;
		tls.key = from->key;
		tls.server_name = from->server_name;
		tls.no_verify = !from->verify;
	}
	if (url.secure)
		r = sn__tls_create(c->loop, &tls, false, &opts.tls);
	if (r == 0)
		r = sn__http_dest_create(c->pool, &opts, &c->dest);
	sn__tls_unref(opts.tls);
	return r;
}

int sn__admin_client_agent(const struct sn_cli *cli, struct sn_admin_client **ret_client)
{
	struct sn_admin_client *c = sn__calloc(1, sizeof(*c));
	const char *token = getenv("SINEW_AGENT_TOKEN");
	char url[SN_SESSION_AGENT_MAX];
	struct sn_config *config;
	int r;

	if (c == NULL)
		return SN_E_NOMEM;
	c->cli = cli;
	sn__buf_init(&c->body, ANSWER_MAX);
	config = sn__session_agent(cli, url, sizeof url);
	if (config != NULL && config->agent.token != NULL)
		token = config->agent.token;
	r = dial_agent(c, url, config != NULL ? &config->agent.tls : NULL);
	if (r == 0 && token != NULL && token[0] != '\0') {
		c->authorization = sn__asprintf("Bearer %s", token);
		r = c->authorization != NULL ? 0 : SN_E_NOMEM;
	}
	sn__config_destroy(config);
	if (r < 0) {
		sn__admin_client_close(c);
		return r;
	}
	*ret_client = c;
	return 0;
}

int sn__admin_client_open(const struct sn_cli *cli, struct sn_admin_client **ret_client)
{
	struct sn_admin_client *c = sn__calloc(1, sizeof(*c));
	SN_AUTO_FREE char *listen = NULL, *token = NULL;
	struct sn_error err = {.code = 0};
	int r = c != NULL ? find(cli, &listen, &token) : SN_E_NOMEM;

	if (r < 0) {
		sn__cli_say(cli, "no admin address: %s", sn_strerror(r));
		sn__free(c);
		return SN_EXIT_FAILED;
	}
	c->cli = cli;
	sn__buf_init(&c->body, ANSWER_MAX);
	r = dial(c, listen, &err);
	if (r == 0 && token != NULL) {
		c->authorization = sn__asprintf("Bearer %s", token);
		r = c->authorization != NULL ? 0 : sn__error_set(&err, SN_E_NOMEM, "out of memory");
	}
	if (r < 0) {
		sn__cli_say(cli, "--admin: %s", sn_error_text(&err));
		sn__admin_client_close(c);
		return r == SN_E_INVALID || r == SN_E_PARSE ? SN_EXIT_USAGE : SN_EXIT_FAILED;
	}
	*ret_client = c;
	return 0;
}

static void on_pool_gone(void *arg)
{
	((struct sn_admin_client *)arg)->pool_gone = true;
}

void sn__admin_client_close(struct sn_admin_client *c)
{
	if (c == NULL)
		return;
	sn__http_dest_unref(c->dest);
	if (c->pool != NULL)
		sn__http_pool_close(c->pool, on_pool_gone, c);
	while (c->pool != NULL && !c->pool_gone)
		(void)sn__loop_run(c->loop, SN_RUN_ONCE);
	if (c->loop != NULL)
		sn__loop_close(c->loop, NULL, NULL);
	sn__buf_finish(&c->body);
	sn__free(c->authorization);
	sn__free(c);
}

/* ---- requests ---- */

static void on_data(struct sn_http_req *req, struct sn_str data)
{
	struct sn_admin_client *c = SN_CONTAINER_OF(req, struct sn_admin_client, req);

	if (c->failed == 0)
		c->failed = sn__buf_append_str(&c->body, data);
}

static void on_done(struct sn_http_req *req)
{
	SN_CONTAINER_OF(req, struct sn_admin_client, req)->over = true;
}

static void on_timeout(struct sn_timer *t)
{
	struct sn_admin_client *c = SN_CONTAINER_OF(t, struct sn_admin_client, timer);

	sn__http_cancel(&c->req, SN_E_TIMEOUT);
}

static const struct sn_http_req_ops req_ops = {.on_data = on_data, .on_done = on_done};

static int exchange(struct sn_admin_client *c, const char *method, const char *target,
		const char *body, struct sn_error *err)
{
	const struct sn_http_header header = {
			SN_STR("Authorization"), sn_str_from(c->authorization)};
	int r;

	sn__buf_clear(&c->body);
	c->over = false;
	c->failed = 0;
	c->req = (struct sn_http_req){
			.ops = &req_ops,
			.method = sn_str_from(method),
			.target = sn_str_from(target),
			.headers = &header,
			.n_headers = c->authorization != NULL,
			.body = sn_str_from(body),
	};
	r = sn__http_start(c->dest, &c->req, err);
	if (r < 0)
		return r;
	sn__timer_start(c->loop, &c->timer, sn_ms_to_ns(c->cli->timeout_ms), on_timeout);
	while (!c->over)
		(void)sn__loop_run(c->loop, SN_RUN_ONCE);
	sn__timer_stop(c->loop, &c->timer);
	if (c->req.result.code == 0 && c->failed == 0)
		return 0;
	return sn__error_set(err, c->failed != 0 ? c->failed : c->req.result.code,
			"no sinew answers on %s: %s", c->address, c->req.result.detail);
}

int sn__admin_client_get(struct sn_admin_client *c, const char *target, unsigned *ret_status,
		struct sn_buf *text, struct sn_error *err)
{
	int r = exchange(c, "GET", target, NULL, err);

	if (r == 0)
		r = sn__buf_append_str(text, sn__buf_str(&c->body));
	if (r == 0)
		*ret_status = c->req.result.status;
	return r;
}

/* What a script is told of a refusal. */
static int exit_of_status(unsigned status)
{
	switch (status) {
	case 400:
	case 405:
		return SN_EXIT_USAGE;
	case 401:
	case 403:
		return SN_EXIT_REJECTED;
	case 404:
		return SN_EXIT_NO_PEER;
	default:
		return SN_EXIT_FAILED;
	}
}

int sn__admin_client_call(struct sn_admin_client *c, const char *method, const char *target,
		const char *body, json_t **ret_doc)
{
	SN_AUTO_JSON json_t *doc = NULL;
	struct sn_error err;
	const char *detail;
	int r = exchange(c, method, target, body, &err);

	if (r == SN_E_TIMEOUT) {
		sn__cli_say(c->cli, "%s does not answer", c->address);
		return SN_EXIT_DEADLINE;
	}
	if (r < 0) {
		sn__cli_say(c->cli, "%s", sn_error_text(&err));
		return SN_EXIT_FAILED;
	}
	r = sn__json_parse(sn__buf_str(&c->body), ANSWER_MAX, &doc, &err);
	if (c->req.result.status >= 400) {
		detail = r == 0 ? sn__json_str(sn__json_get(doc, "detail")) : NULL;
		sn__cli_say(c->cli, "%s",
				detail != NULL ? detail : sn__http_reason(c->req.result.status));
		return exit_of_status(c->req.result.status);
	}
	if (r < 0) {
		sn__cli_say(c->cli, "%s answers what is no JSON: %s", c->address,
				sn_error_text(&err));
		return SN_EXIT_FAILED;
	}
	if (ret_doc != NULL)
		*ret_doc = SN_TAKE(doc);
	return SN_EXIT_DONE;
}

/* ---- targets ---- */

static int put_part(struct sn_str part, struct sn_buf *out)
{
	int r = sn__buf_puts(out, "/");

	return r < 0 ? r : sn__percent_encode(part, out);
}

/* "KIND/NAME[/ENDPOINT]", which stands in one argument. */
static int put_whole(const char *text, struct sn_buf *out)
{
	int r = 0;

	while (r == 0) {
		size_t n = strcspn(text, "/");

		r = put_part((struct sn_str){text, n}, out);
		if (text[n] == '\0')
			break;
		text += n + 1;
	}
	return r;
}

int sn__admin_target(
		const struct sn_cli *cli, unsigned first, struct sn_buf *out, const char **ret_peer)
{
	const char *const *args = cli->args + first;
	unsigned n = cli->n_args - first, used = 2;
	bool whole = n > 0 && strchr(args[0], '/') != NULL, plain;
	int r = 0;

	if (whole) {
		used = 1;
		r = put_whole(args[0], out);
	} else if (n >= 2) {
		plain = strcmp(args[0], "database") == 0 || strcmp(args[0], "queue") == 0;
		used = !plain && n > 2 ? 3 : 2;
	}
	if (n < used || n > used + 1)
		return SN_E_INVALID;
	for (unsigned i = 0; !whole && r == 0 && i < used; i++)
		r = put_part(sn_str_from(args[i]), out);
	*ret_peer = n > used ? args[used] : NULL;
	return r;
}
