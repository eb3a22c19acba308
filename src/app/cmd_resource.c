/* SPDX-License-Identifier: Apache-2.0 */
/* sinew database, sinew queue */
#include <stdatomic.h>
#include <string.h>

#include <sinew/resource.h>
#include "app/session.h"
#include "base/buf.h"

#define PARAMS_MAX ((size_t)64 << 20)

/* What is different for the two. */
struct kind {
	const char *name;
	int (*info)(struct sn_runtime *rt, const char *name, char **ret_json);
	int (*all)(struct sn_runtime *rt, const char *name, char **ret_json);
	int (*monitor)(struct sn_runtime *rt, const char *name, sn_value_fn *fn, void *arg,
			struct sn_monitor **ret_monitor);
	int (*call)(struct sn_runtime *rt, const char *name, const char *operation,
			const char *params, const struct sn_resource_options *opts,
			struct sn_result **ret_result, struct sn_error **ret_error);
};

static int refused(const struct sn_cli *cli, const struct kind *kind, int code)
{
	sn__cli_say(cli, "%s %s: %s", kind->name, cli->args[0], sn_strerror(code));
	return sn__cli_exit_of(code);
}

/* ---- info, watch ---- */

static int print_info(struct sn_cli *cli, const struct kind *kind, struct sn_runtime *rt)
{
	char *json;
	int r = kind->info(rt, cli->args[0], &json);
	bool none;

	if (r < 0)
		return refused(cli, kind, r);
	none = strcmp(json, "null") == 0;
	r = sn__put_json(json, cli->opt[SN_OPT_SECRETS] != NULL);
	sn_free(json);
	return r != 0 ? r : none ? SN_EXIT_NO_PEER : SN_EXIT_DONE;
}

struct watch {
	bool show_secrets;
	atomic_bool gone; /* stdout cannot be written to any more */
};

static void on_value(const char *json, void *arg)
{
	struct watch *w = arg;

	if (sn__put_json(json, w->show_secrets) != 0)
		atomic_store(&w->gone, true);
}

/* The monitor prints on the library's thread. */
static int watch_all(struct sn_cli *cli, const struct kind *kind, struct sn_runtime *rt)
{
	struct watch w = {.show_secrets = cli->opt[SN_OPT_SECRETS] != NULL};
	struct sn_monitor *monitor;
	char *json;
	int r;

	sn__session_block_signals();
	r = kind->all(rt, cli->args[0], &json);
	if (r < 0)
		return refused(cli, kind, r);
	if (strcmp(json, "null") == 0) /* the monitor tells nothing of an unknown one */
		on_value(json, &w);
	sn_free(json);
	r = kind->monitor(rt, cli->args[0], on_value, &w, &monitor);
	if (r < 0)
		return refused(cli, kind, r);
	sn__session_await_signal(&w.gone);
	sn_monitor_stop(monitor);
	return SN_EXIT_DONE;
}

/* ---- calls ---- */

/* What services say when they do not know, or do not like, who asks. */
static bool is_about_rights(const char *type)
{
	static const char *const types[] = {"AccessDenied", "UnrecognizedClient",
			"InvalidSignature", "MissingAuthentication", "IncompleteSignature",
			"ExpiredToken", "InvalidClientToken", "NotAuthorized", "OptInRequired",
			NULL};

	for (size_t i = 0; types[i] != NULL; i++) {
		if (strncmp(type, types[i], strlen(types[i])) == 0)
			return true;
	}
	return false;
}

static int exit_of(int code, const struct sn_result *res)
{
	const char *type = res != NULL ? sn_result_error_type(res) : NULL;

	if (type == NULL)
		return sn__cli_exit_of(code);
	return is_about_rights(type) ? SN_EXIT_REJECTED : SN_EXIT_FAILED;
}

static int print_result(const struct sn_cli *cli, const struct sn_result *res)
{
	if (cli->opt[SN_OPT_VERBOSE] != NULL)
		sn__cli_say(cli, "entry %s, %u attempt%s, request %s, call %s",
				sn_result_identity(res), sn_result_attempts(res),
				sn_result_attempts(res) == 1 ? "" : "s", sn_result_request_id(res),
				sn_result_call_id(res));
	return fputs(sn_result_json(res, NULL), stdout) < 0 || putchar('\n') < 0 ||
					fflush(stdout) != 0
			? SN_EXIT_FAILED
			: SN_EXIT_DONE;
}

static int call(struct sn_cli *cli, const struct kind *kind, struct sn_runtime *rt,
		const char *params)
{
	struct sn_resource_options opts = SN_RESOURCE_OPTIONS_INIT;
	struct sn_result *res = NULL;
	struct sn_error *err = NULL;
	int r;

	if (!sn__session_retry(cli, &opts.retry))
		return SN_EXIT_USAGE;
	if (cli->opt[SN_OPT_TIMEOUT] != NULL)
		opts.deadline_ms = cli->timeout_ms;
	r = kind->call(rt, cli->args[0], cli->args[1], params, &opts, &res, &err);
	if (r < 0 && err != NULL)
		sn__cli_story(cli, err);
	else if (r < 0)
		sn__cli_say(cli, "%s", sn_strerror(r));
	if (r < 0 && res != NULL && cli->opt[SN_OPT_VERBOSE] != NULL)
		sn__cli_say(cli, "request %s", sn_result_request_id(res));
	r = r < 0 ? exit_of(r, res) : print_result(cli, res);
	sn_result_destroy(res);
	sn_error_destroy(err);
	return r;
}

static int call_with_input(struct sn_cli *cli, const struct kind *kind, struct sn_runtime *rt)
{
	struct sn_buf params;
	int r = 0;

	sn__buf_init(&params, PARAMS_MAX);
	if (cli->n_args > 2)
		r = sn__session_input(cli, cli->args[2], &params);
	if (r == 0 && params.len > 0 && sn__buf_append(&params, "", 1) < 0)
		r = SN_EXIT_FAILED;
	if (r == 0)
		r = call(cli, kind, rt, params.len > 0 ? sn__buf_data(&params) : NULL);
	sn__buf_finish(&params);
	return r;
}

/* ---- the commands ---- */

static int run(struct sn_cli *cli, const struct kind *kind,
		int (*tail)(struct sn_cli *cli, struct sn_runtime *rt) /* may be NULL */)
{
	const char *what = cli->args[1];
	struct sn_runtime *rt;
	int r;

	if (cli->n_args > 2 &&
			(strcmp(what, "info") == 0 || strcmp(what, "watch") == 0 ||
					(strcmp(what, "tail") == 0 && tail != NULL))) {
		sn__cli_say(cli, "%s takes no parameters", what);
		return SN_EXIT_USAGE;
	}
	r = sn__session_open(cli, &rt);
	if (r != 0)
		return r;
	if (strcmp(what, "info") == 0)
		r = print_info(cli, kind, rt);
	else if (strcmp(what, "watch") == 0)
		r = watch_all(cli, kind, rt);
	else if (strcmp(what, "tail") == 0 && tail != NULL)
		return tail(cli, rt); /* closes the session itself */
	else
		r = call_with_input(cli, kind, rt);
	sn__session_close(rt);
	return r;
}

int sn__cmd_database(struct sn_cli *cli)
{
	static const struct kind kind = {"database", sn_get_database_info, sn_get_databases,
			sn_monitor_databases, sn_database_call_wait};

	return run(cli, &kind, NULL);
}

int sn__cmd_queue(struct sn_cli *cli)
{
	static const struct kind kind = {"queue", sn_get_queue_info, sn_get_queues,
			sn_monitor_queues, sn_queue_call_wait};

	return run(cli, &kind, sn__queue_tail);
}
