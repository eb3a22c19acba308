/* SPDX-License-Identifier: Apache-2.0 */
/* sinew repl: a µHome mesh by hand, or by a script. */
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sinew/node.h>

#include "app/edit.h"
#include "app/mesh_words.h"
#include "app/repl_line.h"
#include "app/session.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/random.h"
#include "dialect/microhome/member.h"
#include "proto/json_pull.h"

#define SOURCE "\xc2\xb5Home/interface/repl"
#define SUBSCRIPTIONS "\xc2\xb5Home.core.subscriptions"
#define PAGES_MAX 1000u
#define WAIT_MS 3000
#define TYPES_MAX 200u

struct repl {
	struct sn_cli *cli;
	struct sn_runtime *rt;
	struct sn_mh_security security;
	const char *broker, *registry;
	struct sn_node *sender; /* alone: it only asks others */
	struct sn_node *member; /* of `on`; NULL: not yet */
	struct sn_edit *edit;
	struct sn_lines lines;
	unsigned version;
	bool failed, quit;
	char *history;          /* its file; NULL: none */
	char *types[TYPES_MAX]; /* that were named here, for completion */
	unsigned n_types;
};

struct word {
	const char *name, *args, *help;
	unsigned min_args;
	unsigned max_args; /* the last one takes the rest of the line */
	/** False: it failed, and that was said. */
	bool (*run)(struct repl *repl, const char **args, unsigned n);
};
static const struct word words[];

/* ---- exchanges ---- */

static void say_error(struct repl *repl, const char *what, struct sn_error *err, int code)
{
	sn__cli_say(repl->cli, "%s: %s", what,
			err != NULL ? sn_error_text(err) : sn_strerror(code));
	sn_error_destroy(err);
}

static bool is_json(struct repl *repl, const char *text)
{
	size_t at;
	bool is = sn__json_check_wide(sn_str_from(text), &at) == 0;

	if (!is)
		sn__cli_say(repl->cli, "no JSON (at byte %zu): %.40s", at, text);
	return is;
}

/* One exchange. @type is read as the mesh's other commands do. *ret_answer may be NULL after a failure,
 * which was said unless there is an answer. */
static int ask(struct repl *repl, const char *address, const char *type, const char *json, bool rpc,
		struct sn_node_answer **ret_answer)
{
	struct sn_node_send_options o = SN_NODE_SEND_OPTIONS_INIT;
	struct sn_error *err = NULL;
	struct sn_buf name;
	int r;

	*ret_answer = NULL;
	if (json != NULL && !is_json(repl, json))
		return SN_E_PARSE;
	sn__buf_init(&name, 70000);
	if (sn__mesh_type(repl->cli, type, &name) < 0) {
		sn__buf_finish(&name);
		return SN_E_INVALID;
	}
	o.rpc = rpc;
	o.version = repl->version;
	o.timeout_ms = repl->cli->opt[SN_OPT_TIMEOUT] != NULL ? repl->cli->timeout_ms : 0;
	r = sn_node_send_wait(
			repl->sender, address, sn__buf_data(&name), json, &o, ret_answer, &err);
	if (r < 0 && *ret_answer == NULL)
		say_error(repl, address, SN_TAKE(err), r);
	sn_error_destroy(err);
	sn__buf_finish(&name);
	return r;
}

static bool show(struct sn_node_answer *a, int r)
{
	if (a != NULL) {
		(void)puts(sn_node_answer_payload(a));
		(void)fflush(stdout);
	}
	sn_node_answer_destroy(a);
	return r == 0;
}

static bool ask_and_show(struct repl *repl, const char *address, const char *type, const char *json,
		bool rpc)
{
	struct sn_node_answer *a;
	int r = ask(repl, address, type, json, rpc, &a);

	return show(a, r);
}

/* Whether an answer with status 1 says that nobody knows this event. */
static bool is_unknown(const struct sn_node_answer *a)
{
	const char *data = sn_node_answer_data(a);

	return data == NULL || strstr(data, "\"No Handler for Event registered\"") != NULL;
}

/* ---- who is there ---- */

typedef void node_fn(void *arg, const char *id, const char *address);

/* A page; *ret_after: of the next one, NULL: none. */
static int page_read(const char *text, node_fn *fn, void *arg, char **ret_after)
{
	SN_AUTO_JSON json_t *doc = json_loads(text, 0, NULL);
	const json_t *list = json_object_get(doc, "nodes"), *next = json_object_get(doc, "next");
	size_t i;
	json_t *node;

	if (!json_is_array(list))
		return SN_E_PROTOCOL;
	json_array_foreach(list, i, node)
	{
		const char *id = json_string_value(json_object_get(node, "nodeId"));
		const char *address = json_string_value(json_object_get(node, "address"));

		if (id != NULL && address != NULL)
			fn(arg, id, address);
	}
	*ret_after = NULL;
	if (json_is_string(next)) {
		SN_AUTO_JSON json_t *after = json_pack("{s:s}", "after", json_string_value(next));

		*ret_after = after != NULL ? sn__json_text(after) : NULL;
		return *ret_after != NULL ? 0 : SN_E_NOMEM;
	}
	return 0;
}

/* Every node the registry has. What is wrong was said. */
static int each_node(struct repl *repl, node_fn *fn, void *arg)
{
	char *after = sn__strdup("{}");
	int r = after != NULL ? 0 : SN_E_NOMEM;

	for (unsigned i = 0; r == 0 && after != NULL && i < PAGES_MAX; i++) {
		struct sn_node_answer *a;
		SN_AUTO_FREE char *asked = SN_TAKE(after);

		r = ask(repl, repl->registry, SN_MH_NODES, asked, false, &a);
		if (a != NULL && r < 0) {
			sn__cli_say(repl->cli, "the registry refused: %s",
					sn_node_answer_payload(a));
		} else if (r == 0 && is_unknown(a)) {
			sn__cli_say(repl->cli,
					"the registry does not tell its nodes: one of version "
					"0.0.1 has no such event");
			r = SN_E_NOTSUP;
		} else if (r == 0) {
			r = page_read(sn_node_answer_data(a), fn, arg, &after);
			if (r < 0)
				sn__cli_say(repl->cli, "the registry's list is none");
		}
		sn_node_answer_destroy(a);
	}
	sn__free(after);
	return r;
}

struct finding {
	const char *id;
	char address[64];
};

static void find_one(void *arg, const char *id, const char *address)
{
	struct finding *f = arg;

	if (strcmp(id, f->id) == 0)
		snprintf(f->address, sizeof(f->address), "%s", address);
}

/* @text: an address, or the id of a node. False after what is wrong was said. */
static bool find_address(struct repl *repl, const char *text, struct finding *f)
{
	struct sn_addr addr;

	*f = (struct finding){.id = text};
	if (sn__mh_address(sn_str_from(text), &addr, NULL) == 0) {
		snprintf(f->address, sizeof(f->address), "%s", text);
		return true;
	}
	if (each_node(repl, find_one, f) < 0)
		return false;
	if (f->address[0] == '\0')
		sn__cli_say(repl->cli, "no node `%s`: `nodes` lists them; an address is IPv4:PORT",
				text);
	return f->address[0] != '\0';
}

/* ---- words ---- */

static void show_node(void *arg, const char *id, const char *address)
{
	(void)printf("%-21s %s\n", address, id);
}

static bool do_nodes(struct repl *repl, const char **args, unsigned n)
{
	bool ok = each_node(repl, show_node, NULL) == 0;

	(void)fflush(stdout);
	return ok;
}

static bool do_subscriptions(struct repl *repl, const char **args, unsigned n)
{
	struct sn_node_answer *a;
	int r = ask(repl, repl->broker, SUBSCRIPTIONS, NULL, false, &a);

	if (r == 0 && is_unknown(a)) {
		sn__cli_say(repl->cli,
				"the broker does not tell its subscriptions: one of version "
				"0.0.1 has no such event");
		r = SN_E_NOTSUP;
		sn_node_answer_destroy(SN_TAKE(a));
	}
	return show(a, r);
}

static bool do_send(struct repl *repl, const char **args, unsigned n)
{
	struct finding f;

	return find_address(repl, args[0], &f) &&
			ask_and_show(repl, f.address, args[1], n > 2 ? args[2] : NULL, false);
}

static bool do_rpc(struct repl *repl, const char **args, unsigned n)
{
	struct finding f;

	return find_address(repl, args[0], &f) &&
			ask_and_show(repl, f.address, args[1], n > 2 ? args[2] : NULL, true);
}

static bool do_health(struct repl *repl, const char **args, unsigned n)
{
	struct finding f;

	return find_address(repl, args[0], &f) &&
			ask_and_show(repl, f.address, SN_MH_HEALTHCHECK, NULL, false);
}

static bool publish(struct repl *repl, const char *event, const char **args, unsigned n)
{
	struct sn_node_answer *a = NULL;
	struct sn_buf type, json;
	int r = SN_E_INVALID;

	if (n > 1 && !is_json(repl, args[1]))
		return false;

	sn__buf_init(&type, 70000);
	sn__buf_init(&json, (size_t)SN_EDIT_LINE_MAX * 8);
	if (sn__mesh_type(repl->cli, args[0], &type) == 0 &&
			sn__buf_puts(&json, "{\"event\":") == 0 &&
			sn__json_quote(sn_str_from(sn__buf_data(&type)), &json) == 0 &&
			(n < 2 || sn__buf_printf(&json, ",\"data\":%s", args[1]) == 0) &&
			sn__buf_append(&json, "}", 2) == 0)
		r = ask(repl, repl->broker, event, sn__buf_data(&json), false, &a);
	if (r == 0 && is_unknown(a)) {
		sn__cli_say(repl->cli,
				"the broker does not know %s: one of version 0.0.1 takes no events "
				"from others",
				event);
		r = SN_E_NOTSUP;
		sn_node_answer_destroy(SN_TAKE(a));
	}
	sn__buf_finish(&json);
	sn__buf_finish(&type);
	return show(a, r);
}

static bool do_emit(struct repl *repl, const char **args, unsigned n)
{
	return publish(repl, SN_MH_PUBLISH, args, n);
}

static bool do_broadcast(struct repl *repl, const char **args, unsigned n)
{
	return publish(repl, SN_MH_BROADCAST, args, n);
}

/* Loop thread. */
static void on_event(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	struct repl *repl = arg;
	struct sn_buf line;

	sn__buf_init(&line, (size_t)1 << 20);
	if (sn__buf_puts(&line, "{\"type\":") == 0 &&
			sn__json_quote(sn_str_from(event->type), &line) == 0 &&
			sn__buf_puts(&line, ",\"source\":") == 0 &&
			sn__json_quote(sn_str_from(event->source), &line) == 0 &&
			(event->data == NULL ||
					sn__buf_printf(&line, ",\"data\":%s", event->data) == 0) &&
			sn__buf_append(&line, "}", 2) == 0)
		sn__lines_add(SN_LOG_INFO, sn__buf_data(&line), &repl->lines);
	sn__buf_finish(&line);
	(void)sn_node_reply_send(reply, NULL);
}

static bool member_open(struct repl *repl)
{
	struct sn_node_options o = SN_NODE_OPTIONS_INIT;
	const char *listen = repl->cli->opt[SN_OPT_LISTEN];
	struct sn_error *err = NULL;
	unsigned char bytes[4];
	char id[32];
	int r;

	if (sn__random_bytes(bytes, sizeof(bytes)) < 0)
		return false;
	snprintf(id, sizeof(id), "repl-%02x%02x%02x%02x", bytes[0], bytes[1], bytes[2], bytes[3]);
	o.id = id;
	o.listen = listen != NULL ? listen : ":0";
	o.advertise = repl->cli->opt[SN_OPT_ADVERTISE];
	o.broker = repl->broker;
	o.registry = repl->registry;
	o.tls_cert = repl->security.tls_cert;
	o.tls_key = repl->security.tls_key;
	o.tls_ca = repl->security.tls_ca;
	o.token = repl->security.token;
	o.insecure = repl->security.insecure;
	o.once = true;
	r = sn_node_open(repl->rt, &o, &repl->member, &err);
	if (r == 0) {
		r = sn_node_wait_running(repl->member, 2 * repl->cli->timeout_ms, &err);
		if (r < 0) {
			sn_node_close(repl->member, NULL, NULL);
			repl->member = NULL;
		}
	}
	if (r < 0)
		say_error(repl, id, err, r);
	else if (sn__edit_is_terminal(repl->edit))
		sn__cli_tell(repl->cli, "registered as %s at %s", id,
				sn_node_address(repl->member));
	return r == 0;
}

static bool do_on(struct repl *repl, const char **args, unsigned n)
{
	struct sn_error *err = NULL;
	struct sn_buf type;
	int r = SN_E_INVALID;

	if (repl->member == NULL && !member_open(repl))
		return false;
	sn__buf_init(&type, 70000);
	if (sn__mesh_type(repl->cli, args[0], &type) == 0) {
		r = sn_node_subscribe_wait(repl->member, sn__buf_data(&type), on_event, repl,
				repl->cli->timeout_ms, &err);
		if (r < 0)
			say_error(repl, args[0], err, r);
	}
	sn__buf_finish(&type);
	return r == 0;
}

static bool do_wait(struct repl *repl, const char **args, unsigned n)
{
	uint64_t seconds;
	int ms = WAIT_MS;

	if (n > 0) {
		if (sn__parse_u64(sn_str_from(args[0]), 86400, &seconds) < 0) {
			sn__cli_say(repl->cli, "wait takes whole seconds, at most 86400, not `%s`",
					args[0]);
			return false;
		}
		ms = (int)seconds * 1000;
	}
	if (sn__edit_wait(repl->edit, ms))
		return true;
	sn__cli_say(repl->cli, "no event came");
	return false;
}

static bool do_version(struct repl *repl, const char **args, unsigned n)
{
	if (n > 0 && strcmp(args[0], "1") != 0 && strcmp(args[0], "2") != 0) {
		sn__cli_say(repl->cli, "packages have version 1 or 2, not `%s`", args[0]);
		return false;
	}
	if (n > 0)
		repl->version = args[0][0] == '1' ? 1 : 2;
	else
		(void)printf("%u\n", repl->version);
	(void)fflush(stdout);
	return true;
}

static bool do_help(struct repl *repl, const char **args, unsigned n)
{
	for (const struct word *w = words; w->name != NULL; w++) {
		char usage[64];

		snprintf(usage, sizeof(usage), "%s %s", w->name, w->args);
		(void)printf("%-28s %s\n", usage, w->help);
	}
	(void)fflush(stdout);
	return true;
}

static bool do_quit(struct repl *repl, const char **args, unsigned n)
{
	repl->quit = true;
	return true;
}

static const struct word words[] = {
		{"nodes", "", "addresses and ids of all nodes", 0, 0, do_nodes},
		{"subscriptions", "", "who is subscribed to what", 0, 0, do_subscriptions},
		{"send", "NODE TYPE [JSON]", "an event to one node, by id or address", 2, 3,
				do_send},
		{"rpc", "NODE METHOD [JSON]", "a JSON-RPC call to one node", 2, 3, do_rpc},
		{"health", "NODE", "ask a node for its health", 1, 1, do_health},
		{"publish", "TYPE [JSON]", "an event to all who have subscribed", 1, 2, do_emit},
		{"emit", "TYPE [JSON]", "the same", 1, 2, do_emit},
		{"broadcast", "TYPE [JSON]", "an event to every node", 1, 2, do_broadcast},
		{"on", "TYPE", "subscribe, and print what comes", 1, 1, do_on},
		{"watch", "TYPE", "the same", 1, 1, do_on},
		{"wait", "[SECONDS]", "until an event has come (3)", 0, 1, do_wait},
		{"version", "[1|2]", "of the packages that are sent", 0, 1, do_version},
		{"help", "", "this", 0, 0, do_help},
		{"quit", "", "the end", 0, 0, do_quit},
		{NULL, NULL, NULL, 0, 0, NULL},
};

/* ---- lines ---- */

static void remember_type(struct repl *repl, const struct word *w, const char **args, unsigned n)
{
	const char *at = strstr(w->args, "TYPE");
	const char *type = NULL;

	if (at != NULL)
		type = at == w->args ? (n > 0 ? args[0] : NULL) : (n > 1 ? args[1] : NULL);
	if (type == NULL || repl->n_types == TYPES_MAX)
		return;
	for (unsigned i = 0; i < repl->n_types; i++)
		if (strcmp(repl->types[i], type) == 0)
			return;
	repl->types[repl->n_types] = sn__strdup(type);
	repl->n_types += repl->types[repl->n_types] != NULL;
}

static bool run_word(struct repl *repl, const struct word *w, char *rest)
{
	const char *args[SN_REPL_ARGS_MAX];
	int n = sn__repl_args(rest, w->max_args, args);

	if (n < (int)w->min_args) {
		sn__cli_say(repl->cli, "usage: %s %s", w->name, w->args);
		return false;
	}
	remember_type(repl, w, args, (unsigned)n);
	return w->run(repl, args, (unsigned)n);
}

static bool run_line(struct repl *repl, const char *line)
{
	SN_AUTO_FREE char *copy = sn__strdup(line);
	char *rest = copy;
	const char *name = copy != NULL ? sn__repl_word(&rest) : NULL;

	if (name == NULL || name[0] == '#')
		return copy != NULL;
	for (const struct word *w = words; w->name != NULL; w++)
		if (strcmp(w->name, name) == 0)
			return run_word(repl, w, rest);
	sn__cli_say(repl->cli, "no word `%s`: `help` lists them", name);
	return false;
}

/* ---- completion ---- */

struct offering {
	sn_edit_offer_fn *offer;
	void *offered;
};

static void offer_node(void *arg, const char *id, const char *address)
{
	struct offering *o = arg;

	if (strpbrk(id, " \t") == NULL) /* words end there */
		o->offer(o->offered, id);
}

static void offer_types(struct repl *repl, sn_edit_offer_fn *offer, void *offered)
{
	struct sn_node_answer *a = NULL;
	SN_AUTO_JSON json_t *doc = NULL;
	size_t i, k;
	json_t *node, *type;

	for (unsigned t = 0; t < repl->n_types; t++)
		offer(offered, repl->types[t]);
	if (ask(repl, repl->broker, SUBSCRIPTIONS, NULL, false, &a) == 0 &&
			sn_node_answer_data(a) != NULL)
		doc = json_loads(sn_node_answer_data(a), 0, NULL);
	sn_node_answer_destroy(a);
	json_array_foreach(json_object_get(doc, "subscriptions"), i, node)
	{
		const json_t *list = json_object_get(node, "types");

		json_array_foreach(list, k, type)
		{
			if (json_is_string(type))
				offer(offered, json_string_value(type));
		}
	}
}

static void offer_words(void *arg, const char *before, sn_edit_offer_fn *offer, void *offered)
{
	struct repl *repl = arg;
	SN_AUTO_FREE char *copy = sn__strdup(before);
	char *rest = copy;
	const char *name = copy != NULL ? sn__repl_word(&rest) : NULL, *args = NULL;
	struct offering o = {offer, offered};
	unsigned place = 0;

	if (name == NULL) {
		for (const struct word *w = words; copy != NULL && w->name != NULL; w++)
			offer(offered, w->name);
		return;
	}
	while (sn__repl_word(&rest) != NULL)
		place++;
	for (const struct word *w = words; w->name != NULL; w++)
		if (strcmp(w->name, name) == 0)
			args = w->args;
	for (; args != NULL && place > 0; place--) {
		args = strchr(args, ' ');
		args = args != NULL ? args + 1 : NULL;
	}
	if (args != NULL && strncmp(args, "NODE", 4) == 0)
		(void)each_node(repl, offer_node, &o);
	else if (args != NULL && strncmp(args, "TYPE", 4) == 0)
		offer_types(repl, offer, offered);
}

/* ---- the command ---- */

static int sender_open(struct repl *repl)
{
	struct sn_node_options o = SN_NODE_OPTIONS_INIT;
	struct sn_error *err = NULL;
	int r;

	o.id = SOURCE;
	o.listen = ":0";
	o.alone = true;
	o.tls_cert = repl->security.tls_cert;
	o.tls_key = repl->security.tls_key;
	o.tls_ca = repl->security.tls_ca;
	o.token = repl->security.token;
	r = sn_node_open(repl->rt, &o, &repl->sender, &err);
	if (r < 0)
		say_error(repl, "cannot begin", err, r);
	return r < 0 ? SN_EXIT_FAILED : 0;
}

static int read_lines(struct repl *repl)
{
	const char *line;

	if (sn__edit_is_terminal(repl->edit))
		sn__cli_tell(repl->cli, "broker %s, registry %s; `help` lists the words",
				repl->broker, repl->registry);
	while (!repl->quit) {
		int r = sn__edit_line(repl->edit, &line);

		if (r == SN_E_EOF)
			break;
		if (r == SN_E_LIMIT)
			sn__cli_say(repl->cli, "a line has at most %u bytes", SN_EDIT_LINE_MAX);
		else if (r < 0)
			return SN_EXIT_FAILED;
		if (r < 0 || !run_line(repl, line))
			repl->failed = true;
	}
	return repl->failed && !sn__edit_is_terminal(repl->edit) ? SN_EXIT_FAILED : 0;
}

static int run(struct repl *repl)
{
	SN_AUTO_FREE char *dir = NULL;
	struct sn_edit_options o = {.prompt = "sinew> ",
			.lines = &repl->lines,
			.told = repl->lines.told,
			.words = offer_words,
			.arg = repl};
	int r;

	if (isatty(STDIN_FILENO) && sn__session_record_dir(repl->cli, &dir, NULL) == 0)
		o.history = repl->history = sn__asprintf("%s/repl-history", dir);
	if (sn__edit_open(&o, &repl->edit) < 0)
		return SN_EXIT_FAILED;
	r = sender_open(repl);
	if (r == 0)
		r = read_lines(repl);
	return r;
}

int sn__cmd_repl(struct sn_cli *cli)
{
	struct repl repl = {.cli = cli, .version = 2};
	struct sn_buf token;
	int r;

	repl.broker = cli->opt[SN_OPT_BROKER] != NULL ? cli->opt[SN_OPT_BROKER] : SN_MESH_BROKER;
	repl.registry = cli->opt[SN_OPT_REGISTRY] != NULL ? cli->opt[SN_OPT_REGISTRY]
							  : SN_MESH_REGISTRY;
	sn__lines_init(&repl.lines, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	sn__buf_init(&token, 65536);
	r = sn__mesh_security(cli, &token, &repl.security);
	if (r == 0)
		r = sn__session_start_bare(cli, NULL, &repl.rt);
	if (r == 0)
		r = run(&repl);
	sn__session_close(repl.rt); /* unregisters what `on` has registered */
	sn__edit_close(repl.edit);
	sn__free(repl.history);
	for (unsigned i = 0; i < repl.n_types; i++)
		sn__free(repl.types[i]);
	sn__buf_finish(&token);
	if (repl.lines.told >= 0)
		(void)close(repl.lines.told);
	sn__lines_finish(&repl.lines);
	return r;
}
