/* SPDX-License-Identifier: Apache-2.0 */
#include "dialect/berlioz/berlioz.h"

#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "mesh/policy.h"

#define LARGE_MESSAGE (64u << 10)

/* ---- what the metadata tells ---- */

static void applied(struct sn_metadata *md, uint32_t changes, void *arg)
{
	struct sn_berlioz *b = arg;

	if (b->heard || sn__metadata_messages(md) <= (b->link != NULL ? b->n_given : 0))
		return;
	b->heard = true;
	sn__runtime_ready(b->head.rt);
}

static void problem(struct sn_metadata *md, const struct sn_error *err, void *arg)
{
	struct sn_berlioz *b = arg;

	sn__log(&b->head.rt->log, SN_LOG_WARNING, "registry", "%s", sn_error_text(err));
}

static void policies_told(struct sn_json_monitor *m, const char *json)
{
	struct sn_berlioz *b = SN_CONTAINER_OF(m, struct sn_berlioz, policies);
	struct sn_runtime *rt = b->head.rt;
	SN_AUTO_JSON json_t *tree = NULL;
	struct sn_error err;
	int r = sn__json_parse(sn_str_from(json), SIZE_MAX, &tree, &err);

	if (r == 0)
		r = sn__policies_set(rt->policies, SN_POLICY_AGENT, tree, &err);
	if (r < 0)
		sn__log(&rt->log, SN_LOG_WARNING, "policies", "those of the agent were ignored: %s",
				sn_error_text(&err));
}

/* ---- what the link tells ---- */

static void link_message(struct sn_str text, void *arg)
{
	struct sn_berlioz *b = arg;
	int r;

	/* Copying many megabytes would stop the loop for milliseconds. */
	if (text.len > LARGE_MESSAGE)
		r = sn__metadata_message_take(b->md, sn__link_take_message(b->link), text.len);
	else
		r = sn__metadata_message(b->md, text);
	if (r < 0)
		sn__log(&b->head.rt->log, SN_LOG_WARNING, "agent",
				"a message of %zu bytes was "
				"ignored: %s",
				text.len, sn_strerror(r));
}

static void link_log(enum sn_log_level level, const char *line, void *arg)
{
	struct sn_berlioz *b = arg;

	sn__log(&b->head.rt->log, level, "agent", "%s", line);
}

/* ---- the dialect ---- */

static void link_closed(void *arg)
{
	sn__runtime_part_closed(((struct sn_berlioz *)arg)->head.rt);
}

static void berlioz_close(struct sn_dialect_part *dialect)
{
	struct sn_berlioz *b = SN_CONTAINER_OF(dialect, struct sn_berlioz, head);

	sn__target_monitor_stop(&b->policies.base);
	sn__zipkin_stop(b->zipkin);
	if (b->link != NULL)
		sn__link_close(b->link, link_closed, b);
	else
		sn__runtime_part_closed(dialect->rt);
}

void sn__berlioz_destroy(struct sn_berlioz *b)
{
	if (b == NULL)
		return;
	sn__target_monitor_stop(&b->policies.base);
	sn__zipkin_destroy(b->zipkin);
	sn__link_destroy(b->link);
	sn__metadata_destroy(b->md);
	sn__place_finish(&b->place);
	sn__free(b);
}

static void berlioz_destroy(struct sn_dialect_part *dialect)
{
	sn__berlioz_destroy(SN_CONTAINER_OF(dialect, struct sn_berlioz, head));
}

static bool berlioz_missing(struct sn_dialect_part *dialect, char out[SN_PART_MISSING_MAX])
{
	const struct sn_berlioz *b = SN_CONTAINER_OF(dialect, struct sn_berlioz, head);

	if (b->heard || b->link == NULL)
		return false;
	(void)snprintf(out, SN_PART_MISSING_MAX, "agent: %s",
			sn__link_is_up(b->link) ? "connected, but it has sent nothing yet"
						: "not connected yet");
	return true;
}

static const struct sn_part_ops berlioz_ops = {
		.name = "berlioz",
		.close = berlioz_close,
		.missing = berlioz_missing,
		.destroy = berlioz_destroy,
};

int sn__berlioz_create(struct sn_berlioz **ret_b, struct sn_error *err)
{
	struct sn_berlioz *b = sn__calloc(1, sizeof(*b));
	int r = b != NULL ? sn__place_init(&b->place, NULL, NULL) : SN_E_NOMEM;

	if (r < 0) {
		sn__free(b);
		return sn__error_set(
				err, r, "the environment variables BERLIOZ_*: %s", sn_strerror(r));
	}
	*ret_b = b;
	return 0;
}

/* The agent's URL; *ret_url NULL: none is wanted. */
static int agent_url(const struct sn_berlioz *b, const struct sn_berlioz_options *opts,
		const char **ret_url, struct sn_error *err)
{
	const char *url = opts->agent != NULL ? opts->agent : opts->config_agent;

	*ret_url = NULL;
	if (b->place.override && opts->agent == NULL) {
		if (b->place.override_text == NULL)
			return sn__error_set(err, SN_E_INVALID,
					"environment variable "
					"BERLIOZ_METADATA_OVERRIDE not set");
		return 0;
	}
	if (url == NULL)
		url = b->place.agent_path;
	if (url == NULL || url[0] == '\0') {
		if (opts->agent == NULL && opts->peers == NULL && !opts->agent_optional)
			return sn__error_set(err, SN_E_INVALID,
					"no agent: environment variable "
					"BERLIOZ_AGENT_PATH not set, and no peers configured");
		return 0;
	}
	*ret_url = url;
	return 0;
}

static int given_message(struct sn_berlioz *b, const char *text)
{
	int r = text != NULL ? sn__metadata_message(b->md, sn_str_from(text)) : 0;

	if (r == 0 && text != NULL)
		b->n_given++;
	return r;
}

static int metadata_open(struct sn_berlioz *b, struct sn_runtime *rt,
		const struct sn_berlioz_options *opts, const char *url)
{
	struct sn_metadata_options md = {
			.loop = rt->loop,
			.catalog = rt->catalog,
			.prune_absent = opts->prune_absent,
			.state_dir = url != NULL ? opts->state_dir : NULL,
			.state_tag = url,
			.applied = applied,
			.problem = problem,
			.arg = b,
	};
	struct sn_path whole = {.n = 0};
	int r = sn__metadata_create(&md, &b->md);

	if (r < 0)
		return r;
	r = sn__json_monitor_start(b->md, SN_SECTION_POLICIES, &whole, &b->policies, policies_told);
	if (r == 0 && b->place.override && opts->agent == NULL)
		r = given_message(b, b->place.override_text);
	return r < 0 ? r : given_message(b, opts->peers);
}

int sn__berlioz_attach(struct sn_berlioz *b, struct sn_runtime *rt,
		const struct sn_berlioz_options *opts, struct sn_error *err)
{
	struct sn_link_options link = {
			.loop = rt->loop,
			.tls = opts->agent_tls,
			.token = opts->agent_token,
			.ping_ms = opts->agent_ping_ms,
			.message_max = opts->agent_message_max,
			.message = link_message,
			.log = link_log,
			.arg = b,
	};
	int r = agent_url(b, opts, &link.url, err);

	if (r < 0)
		return r;
	b->head.rt = rt;
	r = metadata_open(b, rt, opts, link.url);
	if (r < 0)
		return sn__error_set(err, r, "cannot open the registry: %s", sn_strerror(r));
	if (link.url != NULL) {
		r = sn__link_create(&link, &b->link, err);
		if (r < 0)
			return r;
	}
	r = sn__zipkin_create(rt, &b->place, opts->name != NULL ? opts->name : "sinew", &b->zipkin);
	if (r < 0)
		return sn__error_set(err, r, "cannot watch for a collector: %s", sn_strerror(r));
	sn__runtime_attach(rt, &b->head, &berlioz_ops, b->link != NULL || b->n_given > 0);
	return 0;
}

struct sn_berlioz *sn__berlioz_of(const struct sn_runtime *rt)
{
	struct sn_dialect_part *dialect = sn__runtime_dialect(rt, "berlioz");

	return dialect != NULL ? SN_CONTAINER_OF(dialect, struct sn_berlioz, head) : NULL;
}
