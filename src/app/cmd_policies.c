/* SPDX-License-Identifier: Apache-2.0 */
/* sinew policies */
#include <jansson.h>

#include "app/admin_client.h"
#include "app/session.h"
#include "base/json.h"
#include "mesh/policy.h"
#include "mesh/runtime.h"

#define VALUE_MAX 4096
#define PATH_MAX_BYTES 4096

/* name, value, where it comes from: three columns. */
static void print_line(const char *name, const json_t *entry)
{
	const char *from = json_string_value(json_object_get(entry, "from"));
	const char *source = json_string_value(json_object_get(entry, "source"));
	char value[VALUE_MAX];
	size_t n = json_dumpb(json_object_get(entry, "value"), value, sizeof value,
			JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));

	if (n == 0 || n > sizeof value)
		n = (size_t)snprintf(value, sizeof value, "(%zu bytes)", n);
	(void)printf("%-28s %-16.*s %s%s%s%s\n", name, (int)n, value,
			from != NULL ? from : "default", source != NULL ? " (" : "",
			source != NULL ? source : "", source != NULL ? ")" : "");
}

static void print_doc(const json_t *doc)
{
	const json_t *entry;
	const char *name;

	json_object_foreach((json_t *)(uintptr_t)doc, name, entry) print_line(name, entry);
}

static int print_all(const struct sn_cli *cli, struct sn_runtime *rt)
{
	struct sn_paths paths;
	json_t *doc;
	int r;

	if (cli->n_args > 0)
		sn__policies_paths(rt->policies, sn_str_from(cli->args[0]),
				sn_str_from(cli->args[1]), sn_str_from(cli->args[2]), &paths);
	r = sn__policies_explain(
			rt->policies, cli->n_args > 0 ? &paths : NULL, SN_DIALECT_BERLIOZ, &doc);
	if (r != 0) {
		sn__cli_say(cli, "%s", sn_strerror(r));
		return sn__cli_exit_of(r);
	}
	print_doc(doc);
	json_decref(doc);
	return SN_EXIT_DONE;
}

/* Of the sinew that --admin names. */
static int print_running(struct sn_cli *cli)
{
	SN_AUTO_JSON json_t *doc = NULL;
	struct sn_admin_client *client;
	const char *peer = NULL;
	struct sn_buf path;
	int r;

	sn__buf_init(&path, PATH_MAX_BYTES);
	r = sn__buf_puts(&path, "/policies");
	if (r == 0 && cli->n_args > 0)
		r = sn__admin_target(cli, 0, &path, &peer);
	if (r == 0)
		r = sn__buf_append(&path, "", 1);
	if (r < 0 || peer != NULL) {
		sn__cli_say(cli, "policies: a target is KIND NAME [ENDPOINT]");
		sn__buf_finish(&path);
		return SN_EXIT_USAGE;
	}
	r = sn__admin_client_open(cli, &client);
	if (r == 0) {
		r = sn__admin_client_call(client, "GET", sn__buf_data(&path), NULL, &doc);
		sn__admin_client_close(client);
	}
	sn__buf_finish(&path);
	if (r == 0)
		print_doc(doc);
	return r;
}

int sn__cmd_policies(struct sn_cli *cli)
{
	struct sn_runtime *rt;
	int r;

	if (cli->opt[SN_OPT_ADMIN] != NULL)
		return print_running(cli);
	if (cli->n_args == 1) {
		sn__cli_say(cli, "policies: a target is KIND NAME [ENDPOINT]");
		return SN_EXIT_USAGE;
	}
	r = sn__session_open(cli, &rt);
	if (r != 0)
		return r;
	r = print_all(cli, rt);
	sn__session_close(rt);
	return r;
}
