/* SPDX-License-Identifier: Apache-2.0 */
#include "app/agent.h"

#include <stdio.h>
#include <sys/stat.h>

#include "app/agent_fan.h"
#include "app/agent_hub.h"
#include "app/agent_share.h"
#include "app/agent_status.h"
#include "app/agent_store.h"
#include "app/agent_targets.h"
#include "app/meshfile.h"
#include "base/json.h"
#include "base/mem.h"
#include "io/http_server.h"
#include "io/tls.h"
#include "mesh/api.h"

#define CLOSE_GRACE_MS 1000

enum nodes_from { NODES_HUB, NODES_STORE, NODES_FROM };

struct sn_agent {
	struct sn_loop *loop;
	struct sn_http_server *server;
	char *token; /* NULL: none is asked for */
	struct sn_store store;
	struct sn_fan fan;
	char *mesh;
	struct stat seen;          /* of the mesh file when it was last read */
	struct sn_agent_hub *hub;  /* NULL: none */
	struct sn_meshfile loaded; /* what that file says; NULLs: there is none */
	struct sn_targets *targets;
	struct sn_target_plan *plan;       /* what `loaded` asks of others; NULL: nothing */
	json_t *nodes[NODES_FROM];         /* id -> peers; NULL: none */
	struct sn_hub_store *store_shared; /* NULL: none */
	struct sn_agent_share *share;      /* of it */
	struct sn_timer reload;
	bool again; /* the file could not be read at all, which was said: try again */
	struct sn_agent_log log;
	void (*done)(void *arg);
	void *done_arg;
	bool closing, server_closed;
};

static void finish_close(struct sn_agent *agent);

static void fan_left(void *arg)
{
	finish_close(arg);
}

/* ---- answering ---- */

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

static void serve_socket(struct sn_agent *agent, struct sn_exchange *x, struct sn_str id)
{
	struct sn_store_task *t;
	struct sn_error err;
	int r = sn__store_task(&agent->store, id, &t);

	if (r < 0) {
		respond_error(x, 503, sn_strerror(r));
		return;
	}
	r = sn__fan_attach(&agent->fan, x, t, &err);
	if (r == SN_E_PROTOCOL)
		sn__ws_refuse(x); /* with the version we speak, where that is the matter */
	else if (r < 0 && r != SN_E_RESET)
		respond_error(x, 503, err.text);
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

/* A report on its way into the shared store. */
struct stored {
	struct sn_exchange *x; /* NULL: who reported is gone */
};

static void reporter_gone(struct sn_exchange *x, int status, void *arg)
{
	((struct stored *)arg)->x = NULL;
}

static void on_stored(int code, const struct sn_error *err, void *arg)
{
	struct stored *st = arg;
	char line[SN_ERROR_TEXT_MAX + 80];

	if (st->x != NULL)
		sn_exchange_on_close(st->x, NULL, NULL);
	if (st->x != NULL && code < 0) {
		(void)snprintf(line, sizeof line,
				"the shared store did not take it, or not all of it: %s",
				err->text);
		respond_error(st->x, 503, line);
	} else if (st->x != NULL && sn_exchange_respond(st->x, 200, NULL, 0, NULL, 0) < 0) {
		sn_exchange_abort(st->x);
	}
	sn__free(st);
}

/* Whatever differs from what all agents know. */
static int put_sections(struct sn_agent *agent, const json_t *report, struct sn_agent_puts *puts,
		struct sn_error *err)
{
	SN_AUTO_JSON json_t *seen = json_object(); /* tasks of the items before */
	const char *id, *name;
	json_t *item, *value;
	size_t i;
	int r = seen != NULL ? 0 : sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));

	json_array_foreach(report, i, item)
	{
		bool again;

		id = sn__json_str(sn__json_get(item, "id"));
		again = json_object_get(seen, id) != NULL; /* then the last item wins */
		if (r == 0 && !again && json_object_set_new(seen, id, json_true()) < 0)
			r = sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
		json_object_foreach(sn__json_get(item, "metadata"), name, value)
		{
			if (r == 0 &&
					!(!again && sn__agent_share_has(agent->share, id, name) &&
							sn__store_has(&agent->store,
									sn_str_from(id), name,
									value)))
				r = sn__agent_puts_add(puts, id, name, value, err);
		}
	}
	return r;
}

static int share_report(struct sn_agent *agent, struct sn_exchange *x, const json_t *report,
		struct sn_error *err)
{
	const char *away = sn__agent_share_away(agent->share);
	struct sn_agent_puts *puts = NULL;
	struct stored *st;
	int r = sn__store_check(&agent->store, report, err);

	if (r < 0)
		return r;
	if (away != NULL || !sn__agent_share_ready(agent->share))
		return sn__error_set(err, SN_E_CONNECT, "the shared store is away: %s",
				away != NULL ? away : "it has not been read yet");
	st = sn__calloc(1, sizeof *st);
	r = st != NULL ? sn__agent_puts_create(agent->share, on_stored, st, &puts) : SN_E_NOMEM;
	r = r < 0 ? sn__error_set(err, r, "%s", sn_strerror(r))
		  : put_sections(agent, report, puts, err);
	if (r < 0) {
		sn__agent_puts_destroy(puts);
		sn__free(st);
		return r;
	}
	st->x = x;
	sn_exchange_on_close(x, reporter_gone, st);
	sn__agent_puts_start(puts);
	return 0;
}

static unsigned status_of(int code)
{
	switch (code) {
	case SN_E_NOMEM:
	case SN_E_CONNECT:
		return 503;
	case SN_E_LIMIT:
		return 413;
	default:
		return 400;
	}
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
	if (r == 0 && agent->share != NULL)
		r = share_report(agent, x, report, &err);
	else if (r == 0)
		r = sn__store_report(&agent->store, report, sn__fan_changed, &agent->fan, &err);
	if (r < 0)
		respond_error(x, status_of(r), err.text);
	else if (agent->share == NULL && sn_exchange_respond(x, 200, NULL, 0, NULL, 0) < 0)
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
	} else if (strncmp(path, SN_AGENT_STATUS, strlen(SN_AGENT_STATUS)) == 0) {
		const struct sn_agent_status status = {.loop = agent->loop,
				.targets = agent->targets,
				.plan = agent->plan,
				.connectors = agent->fan.n_clients};

		sn__agent_status(x, &status);
	} else if (strchr(id.ptr, '/') != NULL || (id.len == 0 && !agent->loaded.wire)) {
		respond_error(x, 404, "the agent path must end in the task id: /TASK");
	} else if (agent->share != NULL && !sn__agent_share_ready(agent->share)) {
		respond_error(x, 503, "the shared store has not been read yet");
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
		sn_agent_say(&agent->log, problems->list[i].warning ? "warning" : "error", "%s",
				sn__problem_text(problems, &problems->list[i], line, sizeof line));
}

/* No descriptors, no memory, no permission: that passes without the file changing. */
static bool unreadable(int code)
{
	return code == SN_E_IO || code == SN_E_NOMEM;
}

/* @were with the nodes of hubs among its services, as a new object. They only fit the form that is
 * a tree of kinds. */
static json_t *peers_with_nodes(const struct sn_agent *agent, const json_t *were)
{
	json_t *peers = were != NULL ? sn__json_copy(were) : json_object();
	json_t *old = json_object_get(peers, "service");
	json_t *services = NULL;
	const char *id;
	json_t *value;

	if (peers == NULL)
		return NULL;
	services = old != NULL ? sn__json_copy(old) : json_object();
	if (services == NULL || json_object_set_new(peers, "service", services) < 0)
		goto fail;
	for (unsigned i = 0; i < NODES_FROM; i++) {
		json_object_foreach(agent->nodes[i], id, value)
		{
			json_t *endpoints = json_object_get(services, id);

			endpoints = endpoints != NULL ? sn__json_copy(endpoints) : json_object();
			if (endpoints == NULL || json_object_set(endpoints, "default", value) < 0 ||
					json_object_set_new(services, id, endpoints) < 0)
				goto fail;
		}
	}
	return peers;
fail:
	json_decref(peers);
	return NULL;
}

/* Tasks mostly have the same peers: they go on having one object of them. */
struct nodes_memo {
	const json_t *were;
	json_t *peers; /* NULL: none yet */
};

/* @sections with the nodes of the hub among its peers, as a new object. */
static json_t *with_nodes(
		const struct sn_agent *agent, const json_t *sections, struct nodes_memo *memo)
{
	json_t *out = sections != NULL ? sn__json_copy(sections) : json_object();
	const json_t *were = json_object_get(out, "peers");

	if (out != NULL && (memo->peers == NULL || memo->were != were)) {
		json_decref(memo->peers);
		memo->were = were;
		memo->peers = peers_with_nodes(agent, were);
	}
	if (out != NULL && memo->peers != NULL && json_object_set(out, "peers", memo->peers) == 0)
		return out;
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
	struct nodes_memo memo = {NULL, NULL};
	const char *id;
	json_t *sections;
	int r = sn__targets_merge(agent->plan, &agent->loaded, &loaded, &loaded_tasks);

	if (r < 0)
		return r;
	if ((agent->nodes[NODES_HUB] == NULL && agent->nodes[NODES_STORE] == NULL) ||
			!is_kind_tree(loaded))
		return sn__store_load(
				&agent->store, loaded, loaded_tasks, sn__fan_changed, &agent->fan);
	common = with_nodes(agent, loaded, &memo);
	json_object_foreach(loaded_tasks, id, sections)
	{
		json_t *one = with_nodes(agent, sections, &memo);

		if (one == NULL || tasks == NULL || json_object_set_new(tasks, id, one) < 0)
			r = SN_E_NOMEM;
	}
	json_decref(memo.peers);
	if (r < 0 || common == NULL || tasks == NULL)
		return SN_E_NOMEM;
	return sn__store_load(&agent->store, common, tasks, sn__fan_changed, &agent->fan);
}

static void on_targets(void *arg)
{
	struct sn_agent *agent = arg;

	if (serve_all(agent) < 0)
		sn_agent_say(&agent->log, "error",
				"out of memory: instances of sources are not served");
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
	} else {
		sn__target_plan_use(plan);
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
			sn_agent_say(&agent->log, "error", "%s: %s", agent->mesh,
					sn_error_text(err));
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
			sn_agent_say(&agent->log, "info", "%s: read again", agent->mesh);
		else if (!agent->again || !unreadable(r))
			sn_agent_say(&agent->log, "error",
					"%s: not used, the former one stays in force", agent->mesh);
		agent->again = unreadable(r);
	}
	sn__timer_start(agent->loop, t, SN_AGENT_RELOAD_MS * SN_NS_PER_MS, on_reload);
}

/* ---- the hub ---- */

static void use_nodes(struct sn_agent *agent, enum nodes_from from, json_t *nodes)
{
	json_t *before = agent->nodes[from];

	agent->nodes[from] = json_incref(nodes);
	if (serve_all(agent) == 0) {
		json_decref(before);
		return;
	}
	sn_agent_say(&agent->log, "error", "out of memory: nodes of the hub are not served");
	json_decref(agent->nodes[from]);
	agent->nodes[from] = before;
}

static void on_nodes(json_t *nodes, void *arg)
{
	use_nodes(arg, NODES_HUB, nodes);
}

static void on_hub(const char *state, void *arg)
{
	struct sn_agent *agent = arg;

	if (state != NULL)
		sn_agent_say(&agent->log, "warning", "hub: %s; its last known nodes stay", state);
	else
		sn_agent_say(&agent->log, "info", "hub: it answers again");
}

/* ---- what agents have in common ---- */

static int on_section(const char *task, const char *section, json_t *value, void *arg)
{
	struct sn_agent *agent = arg;
	SN_AUTO_JSON json_t *report = NULL;
	struct sn_error err;
	int r;

	if (value == NULL)
		return sn__store_forget(&agent->store, sn_str_from(task), section, sn__fan_changed,
				&agent->fan);
	report = json_pack("[{s:s, s:{s:O}}]", "id", task, "metadata", section, value);
	r = report == NULL ? SN_E_NOMEM
			   : sn__store_report(&agent->store, report, sn__fan_changed, &agent->fan,
					     &err);
	if (r == SN_E_NOMEM)
		return r;
	if (r < 0)
		sn_agent_say(&agent->log, "warning",
				"what the shared store has of task %.100s is not served: %s", task,
				err.text);
	return 0;
}

static void on_shared_nodes(json_t *nodes, void *arg)
{
	struct sn_agent *agent = arg;

	if (agent->nodes[NODES_STORE] != NULL || json_object_size(nodes) > 0)
		use_nodes(agent, NODES_STORE, nodes);
}

static void on_share_ready(void *arg)
{
	struct sn_agent *agent = arg;

	sn_agent_say(&agent->log, "info", "the shared store has been read");
}

static void on_share_state(const char *why, void *arg)
{
	struct sn_agent *agent = arg;

	if (why != NULL)
		sn_agent_say(&agent->log, "warning",
				"the shared store is away: %s; the last known state stays", why);
	else
		sn_agent_say(&agent->log, "info", "the shared store answers again");
}

static const struct sn_agent_share_ops share_ops = {.section = on_section,
		.nodes = on_shared_nodes,
		.ready = on_share_ready,
		.state = on_share_state};

static void on_share_closed(void *arg)
{
	struct sn_agent *agent = arg;

	agent->share = NULL;
	finish_close(agent);
}

static void on_store_closed(void *arg)
{
	struct sn_agent *agent = arg;

	agent->store_shared = NULL;
	finish_close(agent);
}

/* ---- opening and closing ---- */

static void agent_free(struct sn_agent *agent)
{
	sn__agent_hub_close(agent->hub);
	sn__target_plan_destroy(agent->plan);
	sn__targets_close(agent->targets);
	sn__meshfile_finish(&agent->loaded);
	for (unsigned i = 0; i < NODES_FROM; i++)
		json_decref(agent->nodes[i]);
	sn__store_finish(&agent->store);
	if (agent->fan.loop != NULL)
		sn__fan_finish(&agent->fan);
	if (agent->token != NULL)
		explicit_bzero(agent->token, strlen(agent->token));
	sn__free(agent->token);
	sn__free(agent->mesh);
	sn__free(agent);
}

static int open_mesh(struct sn_agent *agent, const char *path, struct sn_error *err)
{
	const struct sn_targets_env env = {.loop = agent->loop,
			.changed = on_targets,
			.arg = agent,
			.log = agent->log};

	if (path == NULL)
		return 0;
	agent->mesh = sn__strdup(path);
	if (agent->mesh == NULL || sn__targets_open(&env, &agent->targets) < 0)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	/* Before reading: a change in between is seen as one. */
	(void)stat(path, &agent->seen);
	return load_mesh(agent, err);
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
	struct sn_agent *agent = arg;

	sn_agent_say(&agent->log, "warning", "%s", err->text);
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
	agent->log = opts->log;
	agent->fan = (struct sn_fan){.loop = loop,
			.store = &agent->store,
			.left = fan_left,
			.arg = agent,
			.log = opts->log};
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
	if (r == 0 && opts->shared != NULL &&
			sn__agent_share_open(opts->shared, &share_ops, agent, &agent->log,
					&agent->share) < 0) {
		sn__http_server_discard(agent->server);
		r = sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	}
	if (r < 0) {
		agent_free(agent);
		return r;
	}
	agent->store_shared = opts->shared;
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

	if (!agent->closing || !agent->server_closed || agent->fan.n_clients > 0 ||
			agent->share != NULL || agent->store_shared != NULL)
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
	if (agent->share != NULL) {
		sn__agent_share_close(agent->share, on_share_closed, agent);
		agent->store_shared->ops->close(agent->store_shared, on_store_closed, agent);
	}
	sn__fan_close(&agent->fan, 1001, "agent stops");
	sn__http_server_close(agent->server, CLOSE_GRACE_MS, on_server_closed, agent);
}
