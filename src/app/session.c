/* SPDX-License-Identifier: Apache-2.0 */
#include "app/session.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/str.h"

#define MEMBER_NAME_MAX 128

void sn__session_log(enum sn_log_level level, const char *line, void *arg)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};

	sn__cli_log(arg, names[level], line);
}

enum sn_log_level sn__session_log_level(const struct sn_cli *cli, enum sn_log_level usual)
{
	const char *v = cli->opt[SN_OPT_VERBOSE];

	if (v == NULL)
		return usual;
	return v[0] == '\0' ? SN_LOG_INFO : SN_LOG_DEBUG;
}

const char *sn__session_config(const struct sn_cli *cli)
{
	const char *path = cli->opt[SN_OPT_CONFIG];

	if (path == NULL)
		path = getenv("SINEW_CONFIG");
	if (path != NULL)
		return path[0] != '\0' ? path : NULL;
	return access("sinew.yaml", F_OK) == 0 ? "sinew.yaml" : NULL;
}

/* The agent as the command line, the file and the environment name it, in this order. */
static const char *agent_of(const struct sn_cli *cli)
{
	const char *url = cli->opt[SN_OPT_AGENT];

	return url != NULL ? url : getenv("BERLIOZ_AGENT_PATH");
}

static int open_failed(const struct sn_cli *cli, int code, struct sn_error *err)
{
	sn__cli_say(cli, "%s", err != NULL ? sn_error_text(err) : sn_strerror(code));
	sn_error_destroy(err);
	return code == SN_E_NOMEM || code == SN_E_IO ? SN_EXIT_FAILED : SN_EXIT_USAGE;
}

int sn__session_open(struct sn_cli *cli, struct sn_runtime **ret_rt)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	const char *source = getenv("BERLIOZ_METADATA_SOURCE");
	struct sn_error *err = NULL;
	struct sn_runtime *rt;
	int r;

	opts.config = sn__session_config(cli);
	opts.agent = cli->opt[SN_OPT_AGENT];
	opts.log = sn__session_log;
	opts.log_arg = cli;
	opts.log_level = sn__session_log_level(cli, SN_LOG_ERROR);
	if (opts.config == NULL && agent_of(cli) == NULL && source == NULL) {
		sn__cli_say(cli,
				"no agent: give --agent URL, set BERLIOZ_AGENT_PATH, or write a "
				"sinew.yaml (ws://HOST:PORT/TASK)");
		return SN_EXIT_USAGE;
	}
	r = sn_open(&opts, &rt, &err);
	if (r != 0)
		return open_failed(cli, r, err);
	r = sn_wait_ready(rt, cli->timeout_ms);
	if (r != 0) {
		sn__cli_say(cli, "no message from the agent %s within %u ms",
				agent_of(cli) != NULL ? agent_of(cli) : "", cli->timeout_ms);
		(void)sn_close(rt, NULL, NULL);
		return SN_EXIT_FAILED;
	}
	*ret_rt = rt;
	return 0;
}

void sn__session_close(struct sn_runtime *rt)
{
	if (rt != NULL)
		(void)sn_close(rt, NULL, NULL);
}

/* ---- JSON out ---- */

static bool is_secret_name(const char *name, size_t n)
{
	static const char *const words[] = {"SECRET", "KEY", "TOKEN", "PASSWORD"};

	for (size_t w = 0; w < sizeof words / sizeof words[0]; w++) {
		size_t len = strlen(words[w]);

		for (size_t i = 0; i + len <= n; i++) {
			if (strncasecmp(name + i, words[w], len) == 0)
				return true;
		}
	}
	return false;
}

/* The end of the string that begins at @p (its opening quote): behind the closing one. */
static const char *string_end(const char *p)
{
	for (p++; *p != '\0' && *p != '"'; p++) {
		if (*p == '\\' && p[1] != '\0')
			p++;
	}
	return *p == '"' ? p + 1 : p;
}

static const char *skip_space(const char *p)
{
	while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')
		p++;
	return p;
}

int sn__put_json(const char *json, bool show_secrets)
{
	bool masked = false; /* the next string is the value of a secret member */

	for (const char *p = skip_space(json); *p != '\0'; p = skip_space(p)) {
		const char *end;
		bool is_name;

		if (*p != '"') {
			masked = masked && *p == ':';
			(void)putchar(*p++);
			continue;
		}
		end = string_end(p);
		is_name = *skip_space(end) == ':';
		if (masked && !is_name)
			(void)fputs("\"***\"", stdout);
		else
			(void)fwrite(p, 1, (size_t)(end - p), stdout);
		masked = is_name && !show_secrets && is_secret_name(p, (size_t)(end - p));
		p = end;
	}
	(void)putchar('\n');
	return fflush(stdout) == 0 ? SN_EXIT_DONE : SN_EXIT_FAILED;
}
