/* SPDX-License-Identifier: Apache-2.0 */
#include "app/session.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "mesh/catalog.h"
#include "mesh/config.h"
#include "mesh/runtime.h"

#define LINE_MAX_BYTES 1100

/* What the library says: shown with -v and -vv; the latest warning is kept for the sentence about an
 * agent that never came. */
struct session_log {
	const struct sn_cli *cli;
	enum sn_log_level shown;
	pthread_mutex_t lock;
	char latest[LINE_MAX_BYTES];
};

static void log_line(enum sn_log_level level, const char *line, void *arg)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	struct session_log *log = arg;

	if (level <= SN_LOG_WARNING) {
		(void)pthread_mutex_lock(&log->lock);
		(void)snprintf(log->latest, sizeof log->latest, "%s", line);
		(void)pthread_mutex_unlock(&log->lock);
	}
	if (level <= log->shown)
		sn__cli_log(log->cli, names[level], line);
}

static void log_init(struct session_log *log, const struct sn_cli *cli)
{
	const char *v = cli->opt[SN_OPT_VERBOSE];

	log->cli = cli;
	log->shown = v == NULL ? SN_LOG_ERROR : v[0] == '\0' ? SN_LOG_INFO : SN_LOG_DEBUG;
	log->latest[0] = '\0';
}

/* --config, $SINEW_CONFIG, or sinew.yaml when there is one; NULL: none. */
const char *sn__session_config(const struct sn_cli *cli)
{
	const char *path = cli->opt[SN_OPT_CONFIG];

	if (path == NULL)
		path = getenv("SINEW_CONFIG");
	if (path != NULL)
		return path[0] != '\0' ? path : NULL;
	return access("sinew.yaml", F_OK) == 0 ? "sinew.yaml" : NULL;
}

/* A literal "${" must be written so; what is given on is read once more. */
static int put_escaped(struct sn_buf *out, struct sn_str text)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < text.len; i++) {
		if (text.ptr[i] == '$' && i + 1 < text.len && text.ptr[i + 1] == '{')
			r = sn__buf_puts(out, "$");
		if (r == 0)
			r = sn__buf_append(out, text.ptr + i, 1);
	}
	return r;
}

/* Members of @over into @to; maps are merged, unless what is there is none. */
static int merge(json_t *to, json_t *over)
{
	const char *key;
	json_t *value;

	json_object_foreach(over, key, value)
	{
		json_t *old = json_object_get(to, key);
		int r = json_is_object(value) && json_is_object(old)
				? merge(old, value)
				: json_object_set(to, key, value);

		if (r < 0)
			return SN_E_NOMEM;
	}
	return 0;
}

/* The file's section with @over put into it. */
static int merged(json_t *file, const char *name, json_t *over)
{
	json_t *section = json_object_get(file, name);

	if (json_is_object(section))
		return merge(section, over);
	return json_object_set(file, name, over) < 0 ? SN_E_NOMEM : 0;
}

int sn__session_with(struct sn_cli *cli, const char *name, json_t *over, char **ret_text)
{
	const char *path = sn__session_config(cli);
	SN_AUTO_JSON json_t *file = NULL;
	SN_AUTO_FREE char *text = NULL;
	struct sn_config *config = NULL;
	struct sn_error err;
	struct sn_buf out;
	int r = 0;

	if (path != NULL && sn__config_load(path, &config, NULL, &err) < 0) {
		sn__cli_say(cli, "%s", sn_error_text(&err));
		return SN_EXIT_USAGE;
	}
	file = config != NULL && json_is_object(config->whole) ? json_deep_copy(config->whole)
							       : json_object();
	sn__config_destroy(config);
	/* A name of its own: beside a `sinew run` there is another admin socket. */
	if (file == NULL || merged(file, name, over) < 0 ||
			(json_object_get(file, "name") == NULL &&
					json_object_set_new(file, "name", json_string(name)) < 0) ||
			(text = sn__json_text(file)) == NULL)
		r = SN_E_NOMEM;
	sn__buf_init(&out, SN_CONFIG_SIZE_MAX);
	if (r == 0)
		r = put_escaped(&out, sn_str_from(text));
	if (r == 0) {
		*ret_text = sn__strndup(sn__buf_data(&out), out.len);
		r = *ret_text != NULL ? 0 : SN_E_NOMEM;
	}
	sn__buf_finish(&out);
	if (r < 0)
		sn__cli_say(cli, "%s", sn_strerror(r));
	return r < 0 ? SN_EXIT_FAILED : 0;
}

/* mkdir -p, private. On failure @path ends with what could not be made. */
static int make_folders(char *path)
{
	for (char *p = path + 1;; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(path, 0700) != 0 && errno != EEXIST)
			return SN_E_IO;
		*p = c;
		if (c == '\0')
			return 0;
	}
}

int sn__session_record_dir(const struct sn_cli *cli, char **ret_dir, struct sn_error *err)
{
	const char *state = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	char *dir;

	if (cli->opt[SN_OPT_STATE] != NULL)
		dir = sn__strdup(cli->opt[SN_OPT_STATE]);
	else if (state != NULL && state[0] == '/')
		dir = sn__asprintf("%s/sinew", state);
	else if (home != NULL && home[0] == '/')
		dir = sn__asprintf("%s/.local/state/sinew", home);
	else
		return sn__error_set(err, SN_E_NOT_FOUND,
				"no state directory: neither --state nor XDG_STATE_HOME nor HOME says "
				"where");
	if (dir == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	if (make_folders(dir) != 0) {
		(void)sn__error_set(err, SN_E_IO, "state directory %s: %s", dir, strerror(errno));
		sn__free(dir);
		return SN_E_IO;
	}
	*ret_dir = dir;
	return 0;
}

struct sn_config *sn__session_agent(const struct sn_cli *cli, char *out, size_t size)
{
	const char *path = sn__session_config(cli), *url = cli->opt[SN_OPT_AGENT];
	struct sn_config *config = NULL;
	int r = SN_E_NOT_FOUND;

	if (cli->config_text != NULL)
		r = sn__config_parse("file", sn_str_from(cli->config_text), NULL, NULL, &config,
				NULL, NULL);
	else if (path != NULL)
		r = sn__config_load(path, &config, NULL, NULL);
	if (r < 0)
		config = NULL;
	if (url == NULL && config != NULL)
		url = config->agent.url;
	if (url == NULL)
		url = getenv("BERLIOZ_AGENT_PATH");
	(void)snprintf(out, size, "%s", url != NULL ? url : "");
	return config;
}

static int open_failed(const struct sn_cli *cli, int code, struct sn_error *err)
{
	sn__cli_say(cli, "%s", err != NULL ? sn_error_text(err) : sn_strerror(code));
	sn_error_destroy(err);
	return code == SN_E_NOMEM || code == SN_E_IO ? SN_EXIT_FAILED : SN_EXIT_USAGE;
}

/* Outlives the runtime of the one session a process has. */
static struct session_log session_log = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* @agent: room for SN_SESSION_AGENT_MAX bytes, gets the agent's URL for messages. */
static int open_runtime(struct sn_cli *cli, struct sn_options opts, bool server, char *agent,
		struct sn_runtime **ret_rt)
{
	const char *source = getenv("BERLIOZ_METADATA_SOURCE");
	SN_AUTO_FREE char *record_dir = NULL;
	struct sn_error *err = NULL;
	struct sn_error state;
	int r;

	/* Without such a place a command has no `sinew why`, and nothing else is missing. */
	if (sn__session_record_dir(cli, &record_dir, &state) == 0)
		opts.record_dir = record_dir;
	else if (server)
		sn__cli_tell(cli, "%s; calls leave no story, stores need a path of their own",
				sn_error_text(&state));
	opts.config_text = cli->config_text;
	opts.config = cli->config_text == NULL ? sn__session_config(cli) : NULL;
	opts.agent = cli->opt[SN_OPT_AGENT];
	log_init(&session_log, cli);
	opts.log = log_line;
	opts.log_arg = &session_log;
	opts.log_level = SN_MAX(session_log.shown, SN_LOG_WARNING);
	/* What warns of a server is for whoever runs it, and its file may ask for more or less. */
	if (server && session_log.shown == SN_LOG_ERROR)
		session_log.shown = SN_LOG_DEBUG;
	sn__config_destroy(sn__session_agent(cli, agent, SN_SESSION_AGENT_MAX));
	if (agent[0] == '\0' && source == NULL && server && opts.no_listen)
		opts.agent = ""; /* it serves something of its own */
	else if (opts.config == NULL && opts.config_text == NULL && agent[0] == '\0' &&
			source == NULL) {
		sn__cli_say(cli,
				"no agent: give --agent URL, set BERLIOZ_AGENT_PATH, or write a "
				"sinew.yaml (ws://HOST:PORT/TASK)");
		return SN_EXIT_USAGE;
	}
	r = sn_open(&opts, ret_rt, &err);
	return r != 0 ? open_failed(cli, r, err) : 0;
}

int sn__session_start(struct sn_cli *cli, const struct sn_options *opts, struct sn_runtime **ret_rt)
{
	static const struct sn_options none = SN_OPTIONS_INIT;
	char agent[SN_SESSION_AGENT_MAX];

	return open_runtime(cli, opts != NULL ? *opts : none, true, agent, ret_rt);
}

int sn__session_start_bare(
		struct sn_cli *cli, const struct sn_options *opts, struct sn_runtime **ret_rt)
{
	struct sn_options bare = SN_OPTIONS_INIT;

	if (opts != NULL)
		bare = *opts;
	bare.no_listen = true;
	return sn__session_start(cli, &bare, ret_rt);
}

int sn__session_open(struct sn_cli *cli, struct sn_runtime **ret_rt)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	char agent[SN_SESSION_AGENT_MAX];
	struct sn_runtime *rt;
	int r;

	opts.no_listen = true;
	r = open_runtime(cli, opts, false, agent, &rt);
	if (r != 0)
		return r;
	r = sn_wait_ready(rt, cli->timeout_ms);
	if (r != 0) {
		(void)sn_close(rt, NULL, NULL);
		sn__cli_say(cli, "no message from the agent %s within %u ms%s%s", agent,
				cli->timeout_ms, session_log.latest[0] != '\0' ? "; " : "",
				session_log.latest);
		return SN_EXIT_FAILED;
	}
	*ret_rt = rt;
	return 0;
}

#define HINTS_MAX 1000

struct hints {
	struct sn_arena arena;
	const char *names[HINTS_MAX + 1]; /* ends with NULL */
	size_t n;
};

/* ["service","app","client"] as it is typed; names that need escapes are not typed by mistake. */
static int add_hint(struct sn_str path, const struct sn_peers *value, void *arg)
{
	struct hints *h = arg;
	char *name = sn__arena_zalloc(&h->arena, path.len + 1), *to = name;

	(void)value;
	if (name == NULL || h->n == HINTS_MAX || memchr(path.ptr, '\\', path.len) != NULL)
		return 0;
	for (size_t i = 0; i < path.len; i++)
		if (strchr("[]\"", path.ptr[i]) == NULL)
			*to++ = path.ptr[i] == ',' ? ' ' : path.ptr[i];
	h->names[h->n++] = name;
	return 0;
}

void sn__session_hint(const struct sn_cli *cli, struct sn_runtime *rt)
{
	struct hints h = {.n = 0};
	SN_AUTO_FREE char *asked = NULL;
	const char *near = NULL;

	sn__arena_init(&h.arena, 4096, 1 << 20);
	if (sn__catalog_each_path(rt->catalog, SN_SECTION_PEERS, add_hint, &h) == 0)
		asked = sn__asprintf("%s %s%s%s", cli->args[0], cli->args[1],
				cli->n_args > 2 ? " " : "", cli->n_args > 2 ? cli->args[2] : "");
	if (asked != NULL)
		near = sn__nearest(asked, h.names);
	if (near != NULL && strcmp(near, asked) != 0)
		sn__cli_say(cli, "nobody serves %s; did you mean %s?", asked, near);
	else if (near == NULL && asked != NULL && h.n == 0)
		sn__cli_say(cli, "nobody serves %s: no peers are known at all", asked);
	else if (near == NULL && asked != NULL)
		sn__cli_say(cli, "nobody serves %s; %zu other target%s known, such as %s", asked,
				h.n, h.n == 1 ? " is" : "s are", h.names[0]);
	sn__arena_finish(&h.arena);
}

void sn__session_close(struct sn_runtime *rt)
{
	if (rt != NULL)
		(void)sn_close(rt, NULL, NULL);
}

/* ---- JSON out ---- */

/* The text is passed on as it came (numbers keep their digits), so no document is made of it. The
 * library has parsed it before: it is well-formed. */

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
	return p + strspn(p, " \t\r\n");
}

/* Behind the value that begins at @p. */
static const char *value_end(const char *p)
{
	size_t depth = 0;

	do {
		if (*p == '"') {
			p = string_end(p);
		} else if (*p == '{' || *p == '[') {
			depth++;
			p++;
		} else if (*p == '}' || *p == ']') {
			depth--;
			p++;
		} else if (depth == 0) {
			return p + strcspn(p, ",}] \t\r\n");
		} else {
			p++;
		}
	} while (depth > 0 && *p != '\0');
	return p;
}

/* The member's name and colon at @p, and "***" for its value if that must not be seen. */
static const char *put_member(const char *p, const char *end)
{
	(void)fwrite(p, 1, (size_t)(end - p), stdout);
	(void)putchar(':');
	p = skip_space(skip_space(end) + 1);
	if (strncmp(p, "null", 4) == 0)
		return p;
	(void)fputs("\"***\"", stdout);
	return value_end(p);
}

int sn__put_json(const char *json, bool show_secrets)
{
	for (const char *p = skip_space(json); *p != '\0'; p = skip_space(p)) {
		const char *end;

		if (*p != '"') {
			(void)putchar(*p++);
			continue;
		}
		end = string_end(p);
		if (!show_secrets && *skip_space(end) == ':' &&
				sn__is_secret_name((struct sn_str){p + 1, (size_t)(end - p) - 2})) {
			p = put_member(p, end);
			continue;
		}
		(void)fwrite(p, 1, (size_t)(end - p), stdout);
		p = end;
	}
	(void)putchar('\n');
	return fflush(stdout) == 0 ? SN_EXIT_DONE : SN_EXIT_FAILED;
}

/* ---- what goes in ---- */

static int read_file(const struct sn_cli *cli, const char *path, struct sn_buf *out)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
	char piece[65536];
	size_t n;
	int r = 0;

	if (f == NULL) {
		sn__cli_say(cli, "cannot read %s: %m", path);
		return SN_EXIT_FAILED;
	}
	while (r == 0 && (n = fread(piece, 1, sizeof piece, f)) > 0)
		r = sn__buf_append(out, piece, n);
	if (r == 0 && ferror(f))
		r = SN_E_IO;
	if (r != 0)
		sn__cli_say(cli, "cannot read %s: %s", path, sn_strerror(r));
	if (f != stdin)
		(void)fclose(f);
	return r != 0 ? SN_EXIT_FAILED : 0;
}

int sn__session_input(const struct sn_cli *cli, const char *spec, struct sn_buf *out)
{
	if (strcmp(spec, "-") == 0)
		return read_file(cli, spec, out);
	if (spec[0] == '@')
		return read_file(cli, spec + 1, out);
	return sn__buf_append(out, spec, strlen(spec)) != 0 ? SN_EXIT_FAILED : 0;
}

bool sn__session_retry(const struct sn_cli *cli, enum sn_retry *ret_retry)
{
	static const char *const words[] = {
			[SN_RETRY_SAFE] = "safe", [SN_RETRY_ALL] = "all", [SN_RETRY_NONE] = "none"};
	const char *word = cli->opt[SN_OPT_RETRY];

	*ret_retry = SN_RETRY_POLICY;
	if (word == NULL)
		return true;
	for (int i = SN_RETRY_SAFE; i <= SN_RETRY_NONE; i++) {
		if (strcmp(word, words[i]) != 0)
			continue;
		*ret_retry = (enum sn_retry)i;
		return true;
	}
	sn__cli_say(cli, "--retry is safe, all or none, not `%s`", word);
	return false;
}

/* ---- signals ---- */

static void ending_signals(sigset_t *set)
{
	(void)sigemptyset(set);
	(void)sigaddset(set, SIGINT);
	(void)sigaddset(set, SIGTERM);
	(void)sigaddset(set, SIGHUP);
}

void sn__session_block_signals(void)
{
	sigset_t set;

	ending_signals(&set);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
}

void sn__session_await_signal(const atomic_bool *gone)
{
	const struct timespec tick = {.tv_nsec = 200000000};
	sigset_t set;

	ending_signals(&set);
	while (!atomic_load(gone) && sigtimedwait(&set, NULL, &tick) < 0 &&
			(errno == EAGAIN || errno == EINTR))
		;
}
