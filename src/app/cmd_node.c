/* SPDX-License-Identifier: Apache-2.0 */
/* sinew node: a node of the µHome mesh whose handlers are programs. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <sinew/node.h>

#include "app/mesh_words.h"
#include "app/session.h"
#include "app/spawn.h"
#include "base/json.h"
#include "base/mem.h"
#include "mesh/runtime.h"
#include "proto/json_pull.h"

#define RUNNING_MAX 32u /* programs at once; further events wait */
#define WAITING_MAX 1000u
#define OUTPUT_MAX (1024u * 1024)

struct nodes;

/* --on TYPE=COMMAND */
struct rule {
	struct nodes *all;
	struct sn_buf type;
	const char *command;
	struct sn_words words;
};

/* An event, until it is answered. */
struct run {
	struct sn_spawn spawn;
	struct sn_list link; /* in running or waiting */
	struct rule *rule;
	struct sn_node_reply *reply;
	char *data, *type, *source, *id, *node;
	struct nodes *all;
};

struct nodes {
	struct sn_cli *cli;
	struct sn_runtime *rt;
	struct sn_node *node;
	struct rule rules[SN_CLI_ON_MAX];
	unsigned n_rules;
	atomic_bool gone;   /* refused by the registry */
	atomic_bool closed; /* the node has taken its leave */
	/* loop thread */
	struct sn_list running, waiting;
	unsigned n_running, n_waiting;
	bool closing;
};

static void start_waiting(struct nodes *all);

/* ---- answers ---- */

static void run_free(struct run *run)
{
	sn_list_remove(&run->link);
	sn_node_reply_release(run->reply);
	sn__free(run->data);
	sn__free(run->type);
	sn__free(run->source);
	sn__free(run->id);
	sn__free(run->node);
	sn__free(run);
}

static void answer_error(struct sn_node_reply *reply, const char *message, struct sn_str reason)
{
	struct sn_buf json;
	int r;

	sn__buf_init(&json, 65536);
	r = sn__buf_puts(&json, "{\"message\":");
	if (r == 0)
		r = sn__json_quote(sn_str_from(message), &json);
	if (r == 0 && reason.len > 0)
		r = sn__buf_puts(&json, ",\"reason\":");
	if (r == 0 && reason.len > 0)
		r = sn__json_quote((struct sn_str){reason.ptr, SN_MIN(reason.len, (size_t)4096)},
				&json);
	if (r == 0)
		r = sn__buf_append(&json, "}", 2);
	(void)sn_node_reply_error(reply, 0, r == 0 ? sn__buf_data(&json) : "\"out of memory\"");
	sn__buf_finish(&json);
}

/* JSON is the answer as it is, other text a message, nothing {}. */
static void answer_output(struct run *run, struct sn_str out)
{
	struct sn_buf json;
	int r = 0;

	sn__buf_init(&json, 8 * OUTPUT_MAX);
	if (out.len > 0 && sn__json_check_wide(out, NULL) == 0)
		r = sn__buf_append_str(&json, out);
	else if (out.len > 0)
		r = sn__json_quote(out, &json);
	if (r == 0)
		r = sn__buf_append(&json, "", 1);
	if (r == 0)
		r = sn_node_reply_send(run->reply, out.len > 0 ? sn__buf_data(&json) : NULL);
	if (r < 0 && r != SN_E_CLOSED)
		sn__cli_say(run->all->cli, "%s: the answer was not sent: %s",
				sn__buf_data(&run->rule->type), sn_strerror(r));
	sn__buf_finish(&json);
}

static void on_ended(struct sn_spawn *spawn)
{
	struct run *run = SN_CONTAINER_OF(spawn, struct run, spawn);
	struct nodes *all = run->all;
	struct sn_str out = sn__buf_str(&spawn->out);
	char text[256];

	while (out.len > 0 && strchr(" \t\r\n", out.ptr[out.len - 1]) != NULL)
		out.len--;
	if (spawn->code == 0 && spawn->exit_status == 0) {
		answer_output(run, out);
	} else {
		if (spawn->code == SN_E_TIMEOUT)
			snprintf(text, sizeof(text), "%.150s took too long", run->rule->command);
		else if (spawn->code == SN_E_LIMIT)
			snprintf(text, sizeof(text), "%.150s printed more than %u bytes",
					run->rule->command, OUTPUT_MAX);
		else if (spawn->signal != 0)
			snprintf(text, sizeof(text), "%.150s was ended by signal %d",
					run->rule->command, spawn->signal);
		else
			snprintf(text, sizeof(text), "%.150s ended with status %d",
					run->rule->command, spawn->exit_status);
		sn__cli_say(all->cli, "%s: %s", sn__buf_data(&run->rule->type), text);
		answer_error(run->reply, text, spawn->code == 0 ? out : (struct sn_str){NULL, 0});
	}
	sn__spawn_stop(spawn);
	all->n_running--;
	run_free(run);
	start_waiting(all);
}

/* ---- events ---- */

static void start(struct run *run)
{
	struct nodes *all = run->all;
	const char *env[] = {run->type, run->source, run->id, run->node, NULL};
	struct sn_spawn_options o = {.argv = run->rule->words.v,
			.env = env,
			.input = sn_str_from(run->data),
			.timeout_ms = all->cli->timeout_ms,
			.max_out = OUTPUT_MAX};
	char text[256];
	int r = sn__spawn_start(all->rt->loop, &run->spawn, &o, on_ended);

	if (r == 0) {
		sn_list_push_back(&all->running, &run->link);
		all->n_running++;
		return;
	}
	snprintf(text, sizeof(text), "%.150s cannot be started: %s", run->rule->words.v[0],
			sn_strerror(r));
	sn__cli_say(all->cli, "%s", text);
	answer_error(run->reply, text, (struct sn_str){NULL, 0});
	run_free(run);
}

static void start_waiting(struct nodes *all)
{
	while (all->n_running < RUNNING_MAX && !sn_list_empty(&all->waiting)) {
		struct run *run = SN_CONTAINER_OF(all->waiting.next, struct run, link);

		sn_list_remove(&run->link);
		all->n_waiting--;
		start(run);
	}
}

static struct run *run_make(
		struct rule *rule, const struct sn_node_event *event, struct sn_node_reply *reply)
{
	struct run *run = sn__calloc(1, sizeof(*run));

	if (run == NULL)
		return NULL;
	sn_list_init(&run->link);
	run->all = rule->all;
	run->rule = rule;
	run->reply = sn_node_reply_keep(reply);
	run->data = sn__strdup(event->data != NULL ? event->data : "");
	run->type = sn__asprintf("SINEW_EVENT_TYPE=%s", event->type);
	run->source = sn__asprintf("SINEW_EVENT_SOURCE=%s", event->source);
	run->id = sn__asprintf("SINEW_EVENT_ID=%s", event->id);
	run->node = sn__asprintf("SINEW_NODE_ID=%s", sn_node_id(rule->all->node));
	if (run->data == NULL || run->type == NULL || run->source == NULL || run->id == NULL ||
			run->node == NULL) {
		run_free(run);
		return NULL;
	}
	return run;
}

static void on_event(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	struct rule *rule = arg;
	struct nodes *all = rule->all;
	struct run *run;

	if (all->closing || all->n_waiting >= WAITING_MAX) {
		answer_error(reply, all->closing ? "the node is closing" : "too many events wait",
				(struct sn_str){NULL, 0});
		return;
	}
	run = run_make(rule, event, reply);
	if (run == NULL) {
		answer_error(reply, "out of memory", (struct sn_str){NULL, 0});
	} else if (all->n_running < RUNNING_MAX) {
		start(run);
	} else {
		sn_list_push_back(&all->waiting, &run->link);
		all->n_waiting++;
	}
}

static void on_subscribed(const struct sn_error *err, void *arg)
{
	struct rule *rule = arg;

	if (err == NULL)
		sn__cli_tell(rule->all->cli, "subscribed to %s", sn__buf_data(&rule->type));
	else if (sn_error_code(err) != SN_E_CLOSED)
		sn__cli_say(rule->all->cli, "not subscribed to %s: %s", sn__buf_data(&rule->type),
				sn_error_text(err));
}

static void on_state(struct sn_node *node, enum sn_node_state state, const struct sn_error *err,
		void *arg)
{
	struct nodes *all = arg;

	if (state == SN_NODE_RUNNING) {
		sn__cli_tell(all->cli, "%s is registered at %s", sn_node_id(node),
				sn_node_address(node));
		return;
	}
	sn__cli_say(all->cli, "%s is not registered: %s", sn_node_id(node),
			err != NULL ? sn_error_text(err) : "refused");
	atomic_store(&all->gone, true);
}

static void on_closed(void *arg)
{
	struct nodes *all = arg;

	atomic_store(&all->closed, true);
}

/* Programs that run may still answer, as long as the node waits for them. */
static void take_leave(struct sn_runtime *rt, void *arg)
{
	struct nodes *all = arg;
	struct sn_list *pos;

	all->closing = true;
	while ((pos = sn_list_pop_front(&all->waiting)) != NULL)
		run_free(SN_CONTAINER_OF(pos, struct run, link));
	all->n_waiting = 0;
	sn_node_close(all->node, on_closed, all);
}

static void stop_all(struct sn_runtime *rt, void *arg)
{
	struct nodes *all = arg;
	struct sn_list *pos;

	while ((pos = all->running.next) != &all->running) {
		struct run *run = SN_CONTAINER_OF(pos, struct run, link);

		sn__spawn_stop(&run->spawn);
		run_free(run);
	}
}

/* ---- the command line ---- */

static int take_rule(struct nodes *all, const char *text)
{
	struct rule *rule = &all->rules[all->n_rules];
	const char *equals = strchr(text, '=');
	SN_AUTO_FREE char *type = NULL;
	int r;

	if (equals == NULL || equals == text || equals[1] == '\0') {
		sn__cli_say(all->cli, "--on %s: expected TYPE=COMMAND, as in lamp.on=./lamp.sh",
				text);
		return SN_EXIT_USAGE;
	}
	type = sn__strndup(text, (size_t)(equals - text));
	*rule = (struct rule){.all = all, .command = equals + 1};
	sn__buf_init(&rule->type, 70000);
	if (type == NULL || sn__mesh_type(all->cli, type, &rule->type) < 0)
		return SN_EXIT_USAGE;
	r = sn__words_split(rule->command, &rule->words);
	if (r < 0) {
		sn__cli_say(all->cli, "--on %s: the command %s", type,
				r == SN_E_LIMIT ? "has too many words"
						: "is empty, or a quote in it does not end");
		sn__buf_finish(&rule->type);
		return SN_EXIT_USAGE;
	}
	all->n_rules++;
	return 0;
}

static int node_open(struct nodes *all, const struct sn_mh_security *sec)
{
	struct sn_cli *cli = all->cli;
	struct sn_node_options o = SN_NODE_OPTIONS_INIT;
	struct sn_error *err = NULL;
	int r;

	o.id = cli->args[0];
	o.listen = cli->opt[SN_OPT_LISTEN];
	o.advertise = cli->opt[SN_OPT_ADVERTISE];
	o.broker = cli->opt[SN_OPT_BROKER] != NULL ? cli->opt[SN_OPT_BROKER] : SN_MESH_BROKER;
	o.registry = cli->opt[SN_OPT_REGISTRY] != NULL ? cli->opt[SN_OPT_REGISTRY]
						       : SN_MESH_REGISTRY;
	o.tls_cert = sec->tls_cert;
	o.tls_key = sec->tls_key;
	o.tls_ca = sec->tls_ca;
	o.token = sec->token;
	o.insecure = true; /* asked before, in the words of the command line */
	o.answer_ms = cli->timeout_ms < UINT32_MAX - 1000 ? cli->timeout_ms + 1000 : UINT32_MAX;
	o.state = on_state;
	o.arg = all;
	r = sn_node_open(all->rt, &o, &all->node, &err);
	if (r < 0) {
		sn__cli_say(cli, "%s", err != NULL ? sn_error_text(err) : sn_strerror(r));
		sn_error_destroy(err);
		return r == SN_E_INVALID ? SN_EXIT_USAGE : SN_EXIT_FAILED;
	}
	sn__cli_tell(cli, "%s listens on %s", o.id, sn_node_address(all->node));
	for (unsigned i = 0; i < all->n_rules; i++) {
		struct rule *rule = &all->rules[i];

		r = sn_node_subscribe(all->node, sn__buf_data(&rule->type), on_event, rule,
				on_subscribed, rule);
		if (r < 0) {
			sn__cli_say(cli, "%s: %s", sn__buf_data(&rule->type), sn_strerror(r));
			return SN_EXIT_FAILED;
		}
	}
	return 0;
}

/* The address of --listen and what protects it, before anything is opened. */
static int check_listen(struct sn_cli *cli, const struct sn_mh_security *sec)
{
	const char *listen = cli->opt[SN_OPT_LISTEN];
	struct sn_addr addr;
	struct sn_error err;
	int r;

	if (listen == NULL) {
		sn__cli_say(cli, "node needs --listen ADDR, e.g. --listen 127.0.0.1:5102");
		return SN_EXIT_USAGE;
	}
	r = sn__addr_parse_listen(sn_str_from(listen), &addr, &err);
	if (r == 0)
		r = sn__mh_security_check(sec, &addr, "", &err);
	if (r < 0)
		sn__cli_say(cli, "--listen: %s", sn_error_text(&err));
	return r < 0 ? SN_EXIT_USAGE : 0;
}

static int serve(struct nodes *all, const struct sn_mh_security *sec)
{
	int r;

	sn__session_block_signals();
	r = sn__session_start_bare(all->cli, NULL, &all->rt);
	if (r != 0)
		return r;
	r = node_open(all, sec);
	if (r == 0) {
		sn__session_await_signal(&all->gone);
		r = atomic_load(&all->gone) ? SN_EXIT_FAILED : 0;
	}
	if (all->node != NULL && sn_post(all->rt, take_leave, all) == 0)
		sn__session_await_signal(&all->closed); /* a second one ends it at once */
	if (sn_post(all->rt, stop_all, all) < 0)
		r = SN_EXIT_FAILED;
	sn__session_close(all->rt);
	return r;
}

int sn__cmd_node(struct sn_cli *cli)
{
	struct nodes all = {.cli = cli};
	struct sn_mh_security sec;
	struct sn_buf token;
	int r;

	sn_list_init(&all.running);
	sn_list_init(&all.waiting);
	sn__buf_init(&token, 65536);
	r = sn__mesh_security(cli, &token, &sec);
	if (r == 0)
		r = check_listen(cli, &sec);
	for (unsigned i = 0; r == 0 && i < cli->n_on; i++)
		r = take_rule(&all, cli->on[i]);
	if (r == 0)
		r = serve(&all, &sec);
	for (unsigned i = 0; i < all.n_rules; i++) {
		sn__words_finish(&all.rules[i].words);
		sn__buf_finish(&all.rules[i].type);
	}
	sn__buf_finish(&token);
	return r;
}
