/* SPDX-License-Identifier: Apache-2.0 */

/* sn_open(): the core, then the dialects the options ask for. Here, because it must know both. */

#include "dialect/open.h"

#include <stdlib.h>

#include "base/json.h"
#include "connect/connect.h"
#include "base/mem.h"
#include "dialect/berlioz/berlioz.h"
#include "dialect/microhome/nodes.h"
#include "mesh/admin_api.h"
#include "mesh/config.h"
#include "mesh/policy.h"
#include "mesh/relay.h"
#include "mesh/runtime.h"
#include "mesh/sidecar.h"
#include "mesh/tracer.h"

static int options_copy(
		const struct sn_options *opts, struct sn_options *ret_opts, struct sn_error *err)
{
	*ret_opts = (struct sn_options)SN_OPTIONS_INIT;
	if (opts == NULL)
		return 0;
	if (opts->size < offsetof(struct sn_options, config) || opts->size > sizeof(*opts))
		return sn__error_set(err, SN_E_INVALID, "options.size is %zu: use SN_OPTIONS_INIT",
				opts->size);
	memcpy(ret_opts, opts, opts->size);
	if (opts->mode > SN_MODE_FOREIGN)
		return sn__error_set(
				err, SN_E_INVALID, "options.mode has no value %d", (int)opts->mode);
	if ((opts->mode == SN_MODE_UV) != (opts->uv_loop != NULL))
		return sn__error_set(
				err, SN_E_INVALID, "options.uv_loop and SN_MODE_UV go together");
	return 0;
}

/* ---- the file ---- */

static int config_read(
		const struct sn_options *o, struct sn_config **ret_config, struct sn_error *err)
{
	*ret_config = NULL;
	if (o->config != NULL && o->config_text != NULL)
		return sn__error_set(err, SN_E_INVALID,
				"options.config and options.config_text: one of them");
	if (o->config != NULL)
		return sn__config_load(o->config, ret_config, NULL, err);
	if (o->config_text != NULL)
		return sn__config_parse("config_text", sn_str_from(o->config_text), NULL, NULL,
				ret_config, NULL, err);
	return 0;
}

/* The file's `tls` is what the policies at the root say, unless they say it themselves. */
static int tls_policy(json_t *values, const char *name, json_t *value)
{
	if (value == NULL)
		return SN_E_NOMEM;
	if (json_object_get(values, name) != NULL) {
		json_decref(value);
		return 0;
	}
	return json_object_set_new(values, name, value) < 0 ? SN_E_NOMEM : 0;
}

static int tls_policies(const struct sn_config_tls *tls, json_t *values)
{
	int r = 0;

	if (tls->ca != NULL)
		r = tls_policy(values, "tls-ca", json_string(tls->ca));
	if (r == 0 && tls->cert != NULL)
		r = tls_policy(values, "tls-cert", json_string(tls->cert));
	if (r == 0 && tls->key != NULL)
		r = tls_policy(values, "tls-key", json_string(tls->key));
	if (r == 0 && tls->server_name != NULL)
		r = tls_policy(values, "tls-server-name", json_string(tls->server_name));
	if (r == 0 && !tls->verify)
		r = tls_policy(values, "tls-verify", json_false());
	return r;
}

/* The file's tree with its `tls` in the root's values; a new reference. */
static json_t *policy_tree(const struct sn_config *config)
{
	json_t *tree = config->policies != NULL ? sn__json_copy(config->policies) : json_object();
	json_t *old = json_object_get(tree, "values");
	json_t *values = json_is_object(old) ? sn__json_copy(old) : json_object();

	if (tree == NULL || values == NULL || tls_policies(&config->tls, values) < 0 ||
			json_object_set(tree, "values", values) < 0) {
		json_decref(values);
		json_decref(tree);
		return NULL;
	}
	json_decref(values);
	return tree;
}

static int policies_open(
		struct sn_runtime *rt, const struct sn_config *config, struct sn_error *err)
{
	json_t *tree = policy_tree(config);
	int r;

	if (tree == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	r = sn__policies_set(rt->policies, SN_POLICY_FILE, tree, err);
	json_decref(tree);
	return r;
}

static int client_tls(struct sn_runtime *rt, const struct sn_config_tls *from,
		const char *server_name /* may be NULL */, struct sn_tls **ret_tls)
{
	struct sn_tls_options tls = {
			.ca = from->ca,
			.cert = from->cert,
			.key = from->key,
			.server_name = server_name,
			.no_verify = !from->verify,
	};

	return sn__tls_create(rt->loop, &tls, false, ret_tls);
}

/* ---- opening ---- */

/* Whether it asks for something that needs no peers. */
static bool has_section(const struct sn_config *config)
{
	for (size_t i = 0; sn__config_sections[i] != NULL; i++) {
		if (config->sections[i] != NULL && sn__config_sections[i]->open != NULL)
			return true;
	}
	return false;
}

/* On success @rt owns the dialect. */
static int berlioz_open(struct sn_runtime *rt, struct sn_berlioz *berlioz,
		const struct sn_options *o, const struct sn_config *config, struct sn_error *err)
{
	struct sn_berlioz_options b = {.agent = o->agent,
			.state_dir = o->state_dir,
			.agent_token = getenv("SINEW_AGENT_TOKEN")};
	SN_AUTO_FREE char *peers = NULL;
	int r = 0;

	if (config != NULL) {
		b.name = config->name;
		b.config_agent = config->agent.url;
		if (config->agent.token != NULL)
			b.agent_token = config->agent.token;
		b.agent_optional = config->inbound.addr != NULL || has_section(config);
		b.agent_ping_ms = (uint32_t)config->agent.ping_ms;
		b.agent_message_max = (size_t)config->limits.message_bytes;
		b.prune_absent = config->agent.prune_absent;
		if (b.state_dir == NULL)
			b.state_dir = config->state;
		if (config->message != NULL)
			b.peers = peers = sn__json_text(config->message);
		r = config->message != NULL && peers == NULL
				? SN_E_NOMEM
				: client_tls(rt, &config->agent.tls, config->agent.tls.server_name,
						  &b.agent_tls);
		if (r < 0)
			sn__error_set(err, r, "out of memory");
	}
	if (b.agent_token != NULL && b.agent_token[0] == '\0')
		b.agent_token = NULL;
	if (r == 0)
		r = sn__berlioz_attach(berlioz, rt, &b, err);
	sn__tls_unref(b.agent_tls);
	return r;
}

static int sidecar_open(struct sn_runtime *rt, const struct sn_config *config, struct sn_error *err)
{
	const struct sn_sidecar_options opts = {
			.listen = config->sidecar.address,
			.token = config->sidecar.token,
			.hosts = config->sidecar.hosts.items,
			.max_body = config->limits.body_bytes,
			.max_head = (size_t)config->limits.header_bytes,
			.max_connections = (unsigned)config->limits.connections,
			.idle_ms = (uint32_t)config->limits.idle_ms,
	};

	return sn__sidecar_listen(rt, &opts, err);
}

static int inbound_open(struct sn_runtime *rt, const struct sn_config *config, struct sn_error *err)
{
	const struct sn_config_inbound *in = &config->inbound;
	const struct sn_relay_options opts = {
			.listen = in->addr,
			.to = in->to,
			.http2 = in->http2,
			.trust_forwarded = in->trust_forwarded,
			.max_body = in->max_body != 0 ? in->max_body : config->limits.body_bytes,
			.max_inflight = (unsigned)in->max_inflight,
			.max_head = (size_t)config->limits.header_bytes,
			.max_connections = (unsigned)config->limits.connections,
			.idle_ms = (uint32_t)config->limits.idle_ms,
			.timeout_ms = (uint32_t)in->timeout_ms,
			.tls_cert = in->tls.cert,
			.tls_key = in->tls.key,
			.tls_ca = in->tls.ca,
	};

	return sn__relay_listen(rt, &opts, err);
}

/* The agent's URL when something else than the file names it. */
static int agent_origin(json_t *origins, const struct sn_config *config, const char *agent)
{
	const char *env = getenv("BERLIOZ_AGENT_PATH"), *from = "options";
	json_t *one;

	if (agent == NULL && config->agent.url == NULL) {
		agent = env;
		from = "env BERLIOZ_AGENT_PATH";
	}
	if (agent == NULL)
		return 0;
	one = json_pack("{s:s, s:s}", "value", agent, "from", from);
	return one == NULL || json_object_set_new(origins, "agent.url", one) < 0 ? SN_E_NOMEM : 0;
}

int sn__open_admin(struct sn_runtime *rt, const struct sn_config *config, const char *listen,
		const char *agent, struct sn_error *err)
{
	struct sn_admin_options opts = {
			.listen = listen != NULL ? listen : config->admin.address,
			.token = listen != NULL ? NULL : config->admin.token,
			.name = config->name,
			.hosts = config->admin.hosts.items,
			.config = config->whole,
	};
	int r = sn__config_origins(config, &opts.origins);

	if (r == 0)
		r = agent_origin(opts.origins, config, agent);
	if (r < 0)
		(void)sn__error_set(err, r, "out of memory");
	else
		r = sn__admin_listen(rt, &opts, err);
	json_decref(opts.origins);
	return r;
}

static int listen_all(struct sn_runtime *rt, const struct sn_options *o,
		const struct sn_config *config, struct sn_error *err)
{
	int r = 0;

	if (config->admin.address != NULL)
		r = sn__open_admin(rt, config, NULL, o->agent, err);
	if (r == 0 && config->sidecar.address != NULL)
		r = sidecar_open(rt, config, err);
	if (r == 0 && config->inbound.addr != NULL)
		r = inbound_open(rt, config, err);
	for (size_t i = 0; r == 0 && sn__config_sections[i] != NULL; i++) {
		const struct sn_config_section *s = sn__config_sections[i];

		if (config->sections[i] != NULL && s->open != NULL)
			r = s->open(rt, config, config->sections[i], err);
	}
	return r;
}

static int trace_open(struct sn_runtime *rt, const struct sn_config *config, struct sn_error *err)
{
	const struct sn_config_trace *t = &config->trace;
	struct sn_tls *tls;
	int r = client_tls(rt, &config->tls, NULL, &tls);

	if (r < 0)
		return sn__error_set(err, r, "out of memory");
	sn__tracer_set_tls(rt->tracer, tls);
	sn__tls_unref(tls);
	if (t->zipkin != NULL)
		r = sn__tracer_add(rt->tracer, SN_EXPORT_ZIPKIN, t->zipkin, t->sample, err);
	if (r == 0 && t->otlp != NULL)
		r = sn__tracer_add(rt->tracer, SN_EXPORT_OTLP, t->otlp, t->sample, err);
	return r;
}

static int parts_open(struct sn_runtime *rt, struct sn_berlioz *berlioz, const struct sn_options *o,
		const struct sn_config *config, struct sn_error *err)
{
	int r = 0;

	rt->on_drain = o->drain;
	rt->on_drain_arg = o->drain_arg;
	if (config != NULL && config->log.level_given)
		rt->log.level = (enum sn_log_level)config->log.level;
	if (config != NULL) {
		rt->drain_ms = (uint32_t)config->limits.drain_ms;
		rt->access = o->access;
		rt->access_arg = o->access_arg;
		rt->access_share = config->log.access;
		r = policies_open(rt, config, err);
	}
	if (r == 0)
		r = berlioz_open(rt, berlioz, o, config, err);
	if (r < 0)
		sn__berlioz_destroy(berlioz);
	if (r == 0)
		r = sn__connect_attach(rt, err);
	if (r == 0)
		r = sn__nodes_attach(rt, err);
	if (r == 0 && config != NULL)
		r = trace_open(rt, config, err);
	if (r == 0 && config != NULL && !o->no_listen)
		r = listen_all(rt, o, config, err);
	return r < 0 ? r : sn__runtime_start(rt, err);
}

/* Nothing has begun: take it apart, or, where that needs turns of the loop, let it have them. */
static void undo(struct sn_runtime *rt)
{
	bool turns = false;

	SN_LIST_FOREACH (pos, &rt->dialects)
		turns = turns || SN_CONTAINER_OF(pos, struct sn_dialect_part, link)->ops->turns;
	if (turns && atomic_load(&rt->state) == SN_RUNTIME_OPENING &&
			sn__runtime_start(rt, NULL) == 0)
		(void)sn_close(rt, NULL, NULL);
	else
		sn__runtime_destroy(rt);
}

static int runtime_open(const struct sn_options *o, const struct sn_config *config,
		struct sn_runtime **ret_rt, struct sn_error *err)
{
	struct sn_berlioz *berlioz;
	struct sn_runtime *rt;
	int r = sn__berlioz_create(&berlioz, err);

	if (r < 0)
		return r;
	r = sn__runtime_create(o, sn__berlioz_paths, &berlioz->place, &rt, err);
	if (r < 0) {
		sn__berlioz_destroy(berlioz);
		return r;
	}
	r = parts_open(rt, berlioz, o, config, err);
	if (r < 0) {
		undo(rt);
		return r;
	}
	*ret_rt = rt;
	return 0;
}

int sn_open(const struct sn_options *opts, struct sn_runtime **ret_rt, struct sn_error **ret_error)
{
	struct sn_config *config = NULL;
	struct sn_options o;
	struct sn_error err;
	int r = options_copy(opts, &o, &err);

	if (r == 0)
		r = config_read(&o, &config, &err);
	if (r == 0)
		r = runtime_open(&o, config, ret_rt, &err);
	sn__config_destroy(config);
	if (r < 0)
		sn__error_give(&err, ret_error);
	return r;
}
