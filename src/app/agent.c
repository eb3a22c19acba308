/* SPDX-License-Identifier: Apache-2.0 */
#include "app/agent.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "app/agent_hub.h"
#include "app/agent_store.h"
#include "app/agent_targets.h"
#include "app/meshfile.h"
#include "base/json.h"
#include "base/list.h"
#include "base/mem.h"
#include "io/http_server.h"
#include "io/tls.h"
#include "io/ws.h"
#include "mesh/api.h"

#define CLOSE_GRACE_MS 1000

struct sn_agent {
	struct sn_loop *loop;
	struct sn_http_server *server;
	char *token; /* NULL: none is asked for */
	struct sn_store store;
	struct sn_ws_frame *common_frame; /* complete metadata, encoded once; NULL: out of date */
	bool wire;
	char *mesh;
	struct stat seen;          /* of the mesh file when it was last read */
	struct sn_agent_hub *hub;  /* NULL: none */
	struct sn_meshfile loaded; /* what that file says; NULLs: there is none */
	struct sn_targets *targets;
	struct sn_target_plan *plan; /* what `loaded` asks of others; NULL: nothing */
	json_t *nodes;               /* of the hub: id -> peers; NULL: none */
	struct sn_timer reload;
	bool again; /* the file could not be read at all, which was said: try again */
	void (*say)(const char *level, const char *line, void *arg);
	void *say_arg;
	void (*done)(void *arg);
	void *done_arg;
	unsigned n_clients;
	bool closing, server_closed;
};

/* The sockets of one task. */
struct audience {
	struct sn_list clients;    /* struct client.link */
	struct sn_ws_frame *frame; /* the task's complete metadata; NULL: out of date */
};

struct client {
	struct sn_list link;
	struct sn_agent *agent;
	struct sn_store_task *task;
	struct sn_ws *ws;
};

static void say(struct sn_agent *agent, const char *level, const char *fmt, ...) SN_PRINTF(3, 4);

static void say(struct sn_agent *agent, const char *level, const char *fmt, ...)
{
	char line[640];
	va_list ap;

	if (agent->say == NULL)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	agent->say(level, line, agent->say_arg);
}

static void say_line(const char *level, const char *line, void *arg)
{
	say(arg, level, "%s", line);
}

/* ---- frames ---- */

static int frame_of(const json_t *json, struct sn_ws_frame **ret_frame)
{
	SN_AUTO_FREE char *text = sn__json_text(json);

	return text == NULL ? SN_E_NOMEM : sn__ws_frame_create(true, sn_str_from(text), ret_frame);
}

/* The complete metadata of a task as a frame, made at most once a change. */
static int full_frame(
		struct sn_agent *agent, struct sn_store_task *t, struct sn_ws_frame **ret_frame)
{
	struct audience *a = t->user;
	struct sn_ws_frame **cached = t->sections != NULL ? &a->frame : &agent->common_frame;
	int r = 0;

	if (*cached == NULL)
		r = frame_of(sn__store_view(&agent->store, t), cached);
	if (r == 0)
		*ret_frame = *cached;
	return r;
}

static void send_to(struct client *c, struct sn_ws_frame *frame)
{
	int r = sn__ws_send_frame(c->ws, frame);

	/* A connector that does not read must not cost more memory: it will come back and get the
	 * complete metadata. */
	if (r == SN_E_LIMIT || r == SN_E_NOMEM)
		sn__ws_close(c->ws, 1013, "connector too slow");
}

static void send_to_all(struct sn_list *clients, struct sn_ws_frame *frame)
{
	SN_LIST_FOREACH_SAFE (pos, clients)
		send_to(SN_CONTAINER_OF(pos, struct client, link), frame);
}

/* A section changed: push it to the sockets that see it. */
static void on_changed(
		struct sn_store_task *task, const char *section, const json_t *value, void *arg)
{
	struct sn_agent *agent = arg;
	struct audience *own = task != NULL ? task->user : NULL;
	struct sn_ws_frame **cached = own != NULL ? &own->frame : &agent->common_frame;
	struct sn_ws_frame *frame = NULL;
	json_t *message;

	if (task == NULL || own != NULL) {
		sn__ws_frame_unref(*cached);
		*cached = NULL;
	}
	if (task != NULL && own == NULL)
		return; /* nobody listens */
	message = json_object();
	if (message != NULL && json_object_set(message, section, (json_t *)value) == 0 &&
			frame_of(message, &frame) == 0) {
		if (own != NULL) {
			send_to_all(&own->clients, frame);
		} else {
			const struct sn_map_entry *e;

			for (size_t i = 0; (e = sn__map_next(&agent->store.tasks, &i)) != NULL;) {
				struct sn_store_task *t = e->value;
				struct audience *a = t->user;

				if (t->sections == NULL && a != NULL)
					send_to_all(&a->clients, frame);
			}
		}
	} else {
		say(agent, "error", "out of memory: section %s was not pushed", section);
	}
	sn__ws_frame_unref(frame);
	json_decref(message);
}

/* ---- sockets ---- */

static void audience_leave(struct sn_agent *agent, struct sn_store_task *t)
{
	struct audience *a = t->user;

	if (a == NULL || !sn_list_empty(&a->clients))
		return;
	sn__ws_frame_unref(a->frame);
	sn__free(a);
	t->user = NULL;
	sn__store_drop(&agent->store, t);
}

static void finish_close(struct sn_agent *agent);

static void on_ws_close(struct sn_ws *ws, const struct sn_error *err, void *arg)
{
	struct client *c = arg;
	struct sn_agent *agent = c->agent;

	sn_list_remove(&c->link);
	audience_leave(agent, c->task);
	sn__free(c);
	agent->n_clients--;
	finish_close(agent);
}

/* The original answers any text with the complete metadata. */
static void on_ws_message(struct sn_ws *ws, bool text, struct sn_str data, void *arg)
{
	struct client *c = arg;
	struct sn_ws_frame *frame;

	if (text && full_frame(c->agent, c->task, &frame) == 0)
		send_to(c, frame);
}

static const struct sn_ws_ops ws_ops = {.on_message = on_ws_message, .on_close = on_ws_close};

static int audience_of(struct sn_store_task *t)
{
	struct audience *a = t->user;

	if (a != NULL)
		return 0;
	a = sn__calloc(1, sizeof *a);
	if (a == NULL)
		return SN_E_NOMEM;
	sn_list_init(&a->clients);
	t->user = a;
	return 0;
}

static void respond_text(struct sn_exchange *x, unsigned status, const char *type, const char *text)
{
	const struct sn_header header = {"Content-Type", type};

	if (sn_exchange_respond(x, status, &header, 1, text, strlen(text)) < 0)
		sn_exchange_abort(x);
}

static void respond_error(struct sn_exchange *x, unsigned status, const char *text)
{
	char line[SN_ERROR_TEXT_MAX + 2];

	(void)snprintf(line, sizeof line, "%s\n", text);
	respond_text(x, status, "text/plain; charset=utf-8", line);
}

static int attach(struct sn_agent *agent, struct sn_exchange *x, struct sn_store_task *t,
		struct sn_error *err)
{
	const struct sn_ws_options opts = {.max_message = 64 << 10};
	struct sn_ws_frame *frame;
	struct client *c;
	int r = audience_of(t);

	if (r < 0)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	r = full_frame(agent, t, &frame);
	c = r == 0 ? sn__calloc(1, sizeof *c) : NULL;
	if (c == NULL)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	c->agent = agent;
	c->task = t;
	r = sn__ws_accept(x, &opts, &ws_ops, c, &c->ws, err);
	if (r < 0) {
		sn__free(c);
		return r;
	}
	struct audience *a = t->user;

	sn_list_push_back(&a->clients, &c->link);
	agent->n_clients++;
	send_to(c, frame);
	return 0;
}

static void serve_socket(struct sn_agent *agent, struct sn_exchange *x, struct sn_str id)
{
	struct sn_store_task *t;
	struct sn_error err;
	int r = sn__store_task(&agent->store, id, &t);

	if (r < 0) {
		respond_error(x, 503, sn_strerror(r));
		return;
	}
	r = attach(agent, x, t, &err);
	if (r < 0) {
		audience_leave(agent, t);
		if (r == SN_E_PROTOCOL)
			sn__ws_refuse(x); /* with the version we speak, where that is the matter */
		else
			respond_error(x, 503, err.text);
	}
}

static void serve_plain(struct sn_agent *agent, struct sn_exchange *x, struct sn_str id)
{
	const json_t *view = sn__store_view(&agent->store, sn__store_find(&agent->store, id));
	SN_AUTO_FREE char *text = sn__json_text(view);

	if (text == NULL)
		respond_error(x, 503, sn_strerror(SN_E_NOMEM));
	else
		respond_text(x, 200, "application/json", text);
}

static void on_report(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	struct sn_agent *agent = arg;
	SN_AUTO_JSON json_t *report = NULL;
	struct sn_error err;
	int r = status;

	if (r < 0)
		return; /* answered by the server, or the client is gone */
	r = sn__json_parse((struct sn_str){body, size}, SN_AGENT_REPORT_MAX, &report, &err);
	if (r == 0)
		r = sn__store_report(&agent->store, report, on_changed, agent, &err);
	if (r < 0)
		respond_error(x, r == SN_E_NOMEM ? 503 : r == SN_E_LIMIT ? 413 : 400, err.text);
	else if (sn_exchange_respond(x, 200, NULL, 0, NULL, 0) < 0)
		sn_exchange_abort(x);
}

static bool wants_socket(const struct sn_exchange *x)
{
	const char *upgrade = sn_exchange_header(x, "Upgrade");

	return upgrade != NULL && sn__str_ieq(sn_str_from(upgrade), SN_STR("websocket"));
}

static void refuse_stranger(struct sn_exchange *x)
{
	static const struct sn_header headers[] = {{"Content-Type", "text/plain; charset=utf-8"},
			{"WWW-Authenticate", "Bearer"}};
	static const char text[] = "Authorization: Bearer TOKEN is asked for\n";

	if (sn_exchange_respond(x, 401, headers, SN_COUNT(headers), text, sizeof text - 1) < 0)
		sn_exchange_abort(x);
}

static void handle(struct sn_exchange *x, void *arg)
{
	struct sn_agent *agent = arg;
	const char *method = sn_exchange_method(x);
	const char *path = sn_exchange_path(x);
	struct sn_str id = sn_str_from(path + 1);

	if (agent->token != NULL && !sn__bearer_fits(x, agent->token)) {
		refuse_stranger(x);
	} else if (strcmp(path, "/report") == 0 && strcmp(method, "POST") == 0) {
		if (sn_exchange_read_all(x, SN_AGENT_REPORT_MAX, on_report, agent) < 0)
			sn_exchange_abort(x);
	} else if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
		respond_error(x, 405, "GET /TASK or POST /report");
	} else if (strchr(id.ptr, '/') != NULL || (id.len == 0 && !agent->wire)) {
		respond_error(x, 404, "the agent path must end in the task id: /TASK");
	} else if (wants_socket(x)) {
		serve_socket(agent, x, id);
	} else {
		serve_plain(agent, x, id);
	}
}

/* ---- the mesh file ---- */

static void say_problems(struct sn_agent *agent, const struct sn_problems *problems)
{
	char line[SN_PROBLEM_TEXT_MAX + 300];

	for (uint32_t i = 0; i < problems->n; i++)
		say(agent, problems->list[i].warning ? "warning" : "error", "%s",
				sn__problem_text(problems, &problems->list[i], line, sizeof line));
}

/* No descriptors, no memory, no permission: that passes without the file changing. */
static bool unreadable(int code)
{
	return code == SN_E_IO || code == SN_E_NOMEM;
}

/* @sections with the nodes of the hub among its services, as a new object. They only fit the form that
 * is a tree of kinds. */
static json_t *with_nodes(const struct sn_agent *agent, const json_t *sections)
{
	json_t *out = sections != NULL ? sn__json_copy(sections) : json_object();
	json_t *old = json_object_get(out, "peers");
	json_t *peers = old != NULL ? sn__json_copy(old) : json_object();
	json_t *services = NULL;
	const char *id;
	json_t *value;

	if (out == NULL || peers == NULL || json_object_set_new(out, "peers", peers) < 0)
		goto fail;
	old = json_object_get(peers, "service");
	services = old != NULL ? sn__json_copy(old) : json_object();
	if (services == NULL || json_object_set_new(peers, "service", services) < 0)
		goto fail;
	json_object_foreach(agent->nodes, id, value)
	{
		json_t *endpoints = json_object_get(services, id);

		endpoints = endpoints != NULL ? sn__json_copy(endpoints) : json_object();
		if (endpoints == NULL || json_object_set(endpoints, "default", value) < 0 ||
				json_object_set_new(services, id, endpoints) < 0)
			goto fail;
	}
	return out;
fail:
	json_decref(out);
	return NULL;
}

static bool is_kind_tree(const json_t *sections)
{
	const json_t *peers = sn__json_get(sections, "peers");

	return json_object_size(peers) == 0 || json_object_get(peers, "service") != NULL ||
			json_object_get(peers, "cluster") != NULL ||
			json_object_get(peers, "database") != NULL ||
			json_object_get(peers, "queue") != NULL;
}

/* File, sources and hub together into the store. */
static int serve_all(struct sn_agent *agent)
{
	SN_AUTO_JSON json_t *loaded = NULL, *loaded_tasks = NULL, *common = NULL;
	SN_AUTO_JSON json_t *tasks = json_object();
	const char *id;
	json_t *sections;
	int r = sn__targets_merge(agent->plan, &agent->loaded, &loaded, &loaded_tasks);

	if (r < 0)
		return r;
	if (agent->nodes == NULL || !is_kind_tree(loaded))
		return sn__store_load(&agent->store, loaded, loaded_tasks, on_changed, agent);
	common = with_nodes(agent, loaded);
	json_object_foreach(loaded_tasks, id, sections)
	{
		json_t *one = with_nodes(agent, sections);

		if (one == NULL || tasks == NULL || json_object_set_new(tasks, id, one) < 0)
			return SN_E_NOMEM;
	}
	if (common == NULL || tasks == NULL)
		return SN_E_NOMEM;
	return sn__store_load(&agent->store, common, tasks, on_changed, agent);
}

static void on_targets(void *arg)
{
	struct sn_agent *agent = arg;

	if (serve_all(agent) < 0)
		say(agent, "error", "out of memory: instances of sources are not served");
}

/* Put @mesh in force, or leave all as it is. Takes @mesh. */
static int use_mesh(struct sn_agent *agent, struct sn_meshfile mesh, struct sn_error *err)
{
	struct sn_meshfile before = agent->loaded;
	struct sn_target_plan *plan, *plan_before = agent->plan;
	int r = sn__targets_plan(agent->targets, &mesh, plan_before, &plan, err);

	if (r < 0) {
		sn__meshfile_finish(&mesh);
		return r;
	}
	agent->loaded = mesh;
	agent->plan = plan;
	r = serve_all(agent);
	if (r < 0) {
		(void)sn__error_set(err, r, "%s", sn_strerror(r));
		agent->loaded = before;
		agent->plan = plan_before;
		before = mesh;
		plan_before = plan;
	}
	sn__target_plan_destroy(plan_before);
	sn__meshfile_finish(&before);
	return r;
}

static int load_mesh(struct sn_agent *agent, struct sn_error *err)
{
	struct sn_problems problems;
	struct sn_meshfile mesh;
	int r;

	sn__problems_init(&problems, agent->mesh);
	r = sn__meshfile_load(agent->mesh, &mesh, &problems);
	if (!agent->again || !unreadable(r))
		say_problems(agent, &problems);
	if (r < 0) {
		(void)sn__error_set(err, r, "%s: %s", agent->mesh, sn_strerror(r));
		(void)sn__problems_to_error(&problems, r, err);
	} else {
		r = use_mesh(agent, mesh, err);
		if (r < 0 && (!agent->again || !unreadable(r)))
			say(agent, "error", "%s: %s", agent->mesh, sn_error_text(err));
		if (r == 0)
			agent->wire = agent->loaded.wire;
	}
	sn__problems_finish(&problems);
	return r;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
			a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
			a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
			a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
			a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* A file that is gone for a moment (editors do that) is no change. */
static void on_reload(struct sn_timer *t)
{
	struct sn_agent *agent = SN_CONTAINER_OF(t, struct sn_agent, reload);
	struct sn_error err;
	struct stat now;
	bool changed = stat(agent->mesh, &now) == 0 && !same_file(&now, &agent->seen);

	if (changed || agent->again) {
		int r;

		if (changed)
			agent->seen = now;
		r = load_mesh(agent, &err);
		if (r == 0)
			say(agent, "info", "%s: read again", agent->mesh);
		else if (!agent->again || !unreadable(r))
			say(agent, "error", "%s: not used, the former one stays in force",
					agent->mesh);
		agent->again = unreadable(r);
	}
	sn__timer_start(agent->loop, t, SN_AGENT_RELOAD_MS * SN_NS_PER_MS, on_reload);
}

/* ---- the hub ---- */

static void on_nodes(json_t *nodes, void *arg)
{
	struct sn_agent *agent = arg;
	json_t *before = agent->nodes;

	agent->nodes = json_incref(nodes);
	if (serve_all(agent) == 0) {
		json_decref(before);
		return;
	}
	say(agent, "error", "out of memory: nodes of the hub are not served");
	json_decref(agent->nodes);
	agent->nodes = before;
}

static void on_hub(const char *state, void *arg)
{
	struct sn_agent *agent = arg;

	if (state != NULL)
		say(agent, "warning", "hub: %s; its last known nodes stay", state);
	else
		say(agent, "info", "hub: it answers again");
}

/* ---- opening and closing ---- */

static void agent_free(struct sn_agent *agent)
{
	sn__agent_hub_close(agent->hub);
	sn__target_plan_destroy(agent->plan);
	sn__targets_close(agent->targets);
	sn__meshfile_finish(&agent->loaded);
	json_decref(agent->nodes);
	sn__store_finish(&agent->store);
	sn__ws_frame_unref(agent->common_frame);
	if (agent->token != NULL)
		explicit_bzero(agent->token, strlen(agent->token));
	sn__free(agent->token);
	sn__free(agent->mesh);
	sn__free(agent);
}

static int open_mesh(struct sn_agent *agent, const char *path, struct sn_error *err)
{
	const struct sn_targets_env env = {
			.loop = agent->loop, .changed = on_targets, .say = say_line, .arg = agent};
	int r;

	if (path == NULL)
		return 0;
	agent->mesh = sn__strdup(path);
	if (agent->mesh == NULL || sn__targets_open(&env, &agent->targets) < 0)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	/* Before reading: a change in between is seen as one. */
	(void)stat(path, &agent->seen);
	r = load_mesh(agent, err);
	return r;
}

int sn__agent_check(const struct sn_agent_options *opts, struct sn_error *err)
{
	char text[SN_ADDR_TEXT_MAX];
	bool tls = opts->tls_cert != NULL, known = opts->token != NULL || opts->tls_ca != NULL;

	if ((opts->tls_cert == NULL) != (opts->tls_key == NULL))
		return sn__error_set(err, SN_E_INVALID, "--cert and --key go together");
	if (opts->tls_ca != NULL && !tls)
		return sn__error_set(err, SN_E_INVALID,
				"--ca asks connectors for certificates, which needs --cert and "
				"--key");
	if (sn__addr_is_loopback(&opts->addr) || opts->insecure || (tls && known))
		return 0;
	return sn__error_set(err, SN_E_REJECTED,
			"--listen: %s is not loopback and %s: add %s; or, where all who reach it may "
			"read and report, --insecure",
			sn__addr_text(&opts->addr, text),
			tls ? "anybody could connect" : "nothing is encrypted",
			tls ? "--token FILE or --ca FILE"
					: known
					? "--cert FILE --key FILE"
					: "--cert FILE --key FILE, and --token FILE or --ca FILE");
}

static void on_tls_warning(const struct sn_error *err, void *arg)
{
	say(arg, "warning", "%s", err->text);
}

static int listen_on(
		struct sn_agent *agent, const struct sn_agent_options *opts, struct sn_error *err)
{
	const struct sn_tls_options tls = {.cert = opts->tls_cert,
			.key = opts->tls_key,
			.ca = opts->tls_ca,
			.alpn = "http/1.1", /* a WebSocket has its connection for itself */
			.require_client_cert = opts->tls_ca != NULL};
	/* Off loopback we do not know by which names connectors call us. */
	struct sn_http_server_config config = {.addr = opts->addr,
			.max_body = SN_AGENT_REPORT_MAX,
			.check_origin = true,
			.any_host = !sn__addr_is_loopback(&opts->addr)};
	int r = 0;

	if (opts->tls_cert != NULL) {
		r = sn__tls_create(agent->loop, &tls, true, &config.tls);
		if (r < 0)
			return sn__error_set(err, r, "%s", sn_strerror(r));
		sn__tls_on_warning(config.tls, on_tls_warning, agent);
		r = sn__tls_load(config.tls, err);
	}
	if (r == 0)
		r = sn__http_server_open(agent->loop, &config, handle, agent, &agent->server, err);
	sn__tls_unref(config.tls);
	return r;
}

int sn__agent_open(struct sn_loop *loop, const struct sn_agent_options *opts,
		struct sn_agent **ret_agent, struct sn_error *err)
{
	struct sn_agent *agent;
	int r = sn__agent_check(opts, err);

	if (r < 0)
		return r;
	agent = sn__calloc(1, sizeof *agent);
	if (agent == NULL)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	agent->loop = loop;
	agent->say = opts->say;
	agent->say_arg = opts->say_arg;
	r = sn__store_init(&agent->store);
	if (r == 0 && opts->token != NULL) {
		agent->token = sn__strdup(opts->token);
		r = agent->token != NULL ? 0 : SN_E_NOMEM;
	}
	if (r < 0)
		(void)sn__error_set(err, r, "%s", sn_strerror(r));
	else
		r = open_mesh(agent, opts->mesh, err);
	if (r == 0 && opts->registry != NULL)
		r = sn__agent_hub_open(loop, opts->registry, &opts->registry_security, on_nodes,
				on_hub, agent, &agent->hub, err);
	if (r == 0)
		r = listen_on(agent, opts, err);
	if (r < 0) {
		agent_free(agent);
		return r;
	}
	if (agent->mesh != NULL)
		sn__timer_start(loop, &agent->reload, SN_AGENT_RELOAD_MS * SN_NS_PER_MS, on_reload);
	*ret_agent = agent;
	return 0;
}

const struct sn_addr *sn__agent_addr(const struct sn_agent *agent)
{
	return sn__http_server_addr(agent->server);
}

static void finish_close(struct sn_agent *agent)
{
	void (*done)(void *arg) = agent->done;
	void *arg = agent->done_arg;

	if (!agent->closing || !agent->server_closed || agent->n_clients > 0)
		return;
	agent_free(agent);
	if (done != NULL)
		done(arg);
}

static void on_server_closed(void *arg)
{
	struct sn_agent *agent = arg;

	agent->server_closed = true;
	finish_close(agent);
}

void sn__agent_close(struct sn_agent *agent, void (*done)(void *arg), void *arg)
{
	const struct sn_map_entry *e;

	agent->closing = true;
	agent->done = done;
	agent->done_arg = arg;
	sn__timer_stop(agent->loop, &agent->reload);
	sn__agent_hub_close(agent->hub);
	agent->hub = NULL;
	sn__target_plan_destroy(agent->plan);
	agent->plan = NULL;
	sn__targets_close(agent->targets);
	agent->targets = NULL;
	for (size_t i = 0; (e = sn__map_next(&agent->store.tasks, &i)) != NULL;) {
		struct audience *a = ((struct sn_store_task *)e->value)->user;

		if (a == NULL)
			continue;
		SN_LIST_FOREACH_SAFE (pos, &a->clients)
			sn__ws_close(SN_CONTAINER_OF(pos, struct client, link)->ws, 1001,
					"agent stops");
	}
	sn__http_server_close(agent->server, CLOSE_GRACE_MS, on_server_closed, agent);
}
