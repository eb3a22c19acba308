/* SPDX-License-Identifier: Apache-2.0 */
#include "app/agent_targets.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"
#include "hub/source.h"
#include "io/addr.h"
#include "io/resolve.h"

struct sn_targets {
	struct sn_targets_env env;
	struct sn_checks *checks;
	struct sn_map sources; /* key -> struct source */
	unsigned n_kubes;      /* that were ever made */
	char *resolver;        /* as it was selected; NULL: not yet */
	struct sn_task tell;
};

/* A source, shared by the targets and plans that name it. */
struct source {
	struct sn_targets *targets;
	struct sn_hub_source *src;
	unsigned refs;
	uint64_t version;  /* of instances */
	json_t *instances; /* name -> {"port", "address", "weight"}; NULL: it has not answered yet */
	bool failed;       /* once at least */
	const char *text;  /* in key, as the mesh file has it */
	char key[];
};

/* An endpoint. */
struct target {
	char *key;            /* its path */
	const json_t *spec;   /* of the mesh file; the plan has a reference */
	struct source **from; /* room for all that the spec names */
	size_t n_from;
	uint64_t seen;                 /* versions of the sources that `all` was made of */
	json_t *all;                   /* identity -> peer; NULL: nothing is known yet */
	struct sn_check_group *checks; /* NULL: they are not checked */
	uint64_t seen_checks;          /* its version that `served` was made of */
	json_t *served;                /* those of `all` that are not out; NULL: not named */
};

struct sn_target_plan {
	struct sn_targets *targets;
	json_t *specs;
	struct target *list;
	size_t n;
	struct sn_map by_key;     /* struct target */
	struct sn_hub_kube *kube; /* shared by plans that want the same; NULL: nobody needs it */
	json_t *kube_settings;    /* that it was made with */
	unsigned kube_id;
	char *resolver; /* to be selected */
};

/* ---- sources ---- */

static void on_tell(struct sn_task *task)
{
	struct sn_targets *t = SN_CONTAINER_OF(task, struct sn_targets, tell);

	t->env.changed(t->env.arg);
}

static json_t *place_of(const struct sn_hub_instance *one)
{
	SN_AUTO_JSON json_t *place = json_object();

	if (place == NULL || json_object_set_new(place, "port", json_integer(one->port)) < 0 ||
			json_object_set_new(place, "address", json_string(one->address)) < 0)
		return NULL;
	if (one->weight != SN_HUB_SOURCE_WEIGHT_NONE &&
			json_object_set_new(place, "weight", json_integer(one->weight)) < 0)
		return NULL;
	return SN_TAKE(place);
}

static bool is_place_of(const json_t *place, const struct sn_hub_instance *one)
{
	const json_t *weight = json_object_get(place, "weight");
	json_int_t is = weight != NULL ? json_integer_value(weight) : SN_HUB_SOURCE_WEIGHT_NONE;

	return is == one->weight &&
			json_integer_value(json_object_get(place, "port")) == one->port &&
			strcmp(json_string_value(json_object_get(place, "address")),
					one->address) == 0;
}

/* The instances of a source as what each of them adds to a peer. Those that are as they were @before are
 * the same objects: of thousands a few change at a time, and further down nobody looks at the rest. */
static json_t *places_of(const struct sn_hub_instance *list, size_t n, json_t *before)
{
	SN_AUTO_JSON json_t *all = json_object();
	void *at = json_object_iter(before); /* in order of names, as the list is */

	for (size_t i = 0; i < n; i++) {
		json_t *place = NULL;
		int order = -1;

		while (at != NULL && (order = strcmp(json_object_iter_key(at), list[i].name)) < 0)
			at = json_object_iter_next(before, at);
		if (at != NULL && order == 0 && is_place_of(json_object_iter_value(at), &list[i]))
			place = json_incref(json_object_iter_value(at));
		else
			place = place_of(&list[i]);
		if (place == NULL || json_object_set_new(all, list[i].name, place) < 0)
			return NULL;
	}
	return SN_TAKE(all);
}

static void on_changed(void *arg, const struct sn_hub_instance *list, size_t n)
{
	struct source *s = arg;
	json_t *places = places_of(list, n, s->instances);

	if (places == NULL) {
		sn_agent_say(&s->targets->env.log, "error",
				"%s: out of memory: a change is not served", s->text);
		return;
	}
	json_decref(s->instances);
	s->instances = places;
	s->version++;
	sn__loop_defer(s->targets->env.loop, &s->targets->tell, on_tell);
}

static void on_state(void *arg, const struct sn_error *err)
{
	struct source *s = arg;

	if (err == NULL) {
		sn_agent_say(&s->targets->env.log, "info", "%s: it answers again", s->text);
		return;
	}
	sn_agent_say(&s->targets->env.log, "warning", "%s: %s%s", s->text, sn_error_text(err),
			s->instances != NULL ? "; its last known instances stay" : "");
	if (!s->failed && s->instances == NULL) { /* what the others know is waited for no more */
		s->version++;
		sn__loop_defer(s->targets->env.loop, &s->targets->tell, on_tell);
	}
	s->failed = true;
}

static void source_unref(struct source *s)
{
	if (--s->refs > 0)
		return;
	(void)sn__map_remove(&s->targets->sources, sn_str_from(s->key));
	sn_hub_source_close(s->src);
	json_decref(s->instances);
	sn__free(s);
}

/* What a pod finds in its file system and environment:
 * https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/ */
#define POD_FILES "/var/run/secrets/kubernetes.io/serviceaccount"

/* "https://HOST:PORT" of the API server as a pod is told; NULL: this is none, or no memory. */
static char *pod_server(struct sn_error *err)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST");
	const char *port = getenv("KUBERNETES_SERVICE_PORT");
	bool v6 = host != NULL && strchr(host, ':') != NULL;

	(void)sn__error_set(err, SN_E_INVALID,
			"this is no pod (KUBERNETES_SERVICE_HOST and _PORT are not set): the mesh file "
			"needs `kubernetes: {server: https://HOST:PORT}`");
	if (host == NULL || port == NULL || host[0] == '\0')
		return NULL;
	return sn__asprintf("https://%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

/* The way to the API server that @mesh names: that of the former plan, or another. */
static int use_kube(struct sn_target_plan *plan, const struct sn_meshfile *mesh,
		const struct sn_target_plan *former, struct sn_error *err)
{
	json_t *settings = sn__json_get(mesh->sources, "kubernetes"), *before;
	struct sn_hub_kube_options opts = {.server = sn__json_str(sn__json_get(settings, "server")),
			.ca = sn__json_str(sn__json_get(settings, "ca")),
			.token_file = sn__json_str(sn__json_get(settings, "token_file")),
			.insecure = json_is_true(sn__json_get(settings, "insecure"))};
	SN_AUTO_FREE char *server = NULL;
	int r;

	before = former != NULL ? former->kube_settings : NULL;
	if (plan->kube != NULL)
		return 0;
	if (former != NULL && former->kube != NULL &&
			(settings == before ||
					(settings != NULL && before != NULL &&
							sn__json_equal(settings, before)))) {
		plan->kube = sn__hub_kube_ref(former->kube);
		plan->kube_id = former->kube_id;
	} else {
		if (opts.server == NULL) {
			opts.server = server = pod_server(err);
			if (server == NULL)
				return SN_E_INVALID;
			opts.ca = opts.ca != NULL || opts.insecure ? opts.ca : POD_FILES "/ca.crt";
			opts.token_file = opts.token_file != NULL ? opts.token_file
								  : POD_FILES "/token";
		}
		r = sn__hub_kube_create(plan->targets->env.loop, &opts, &plan->kube, err);
		if (r < 0)
			return r;
		plan->kube_id = ++plan->targets->n_kubes;
	}
	plan->kube_settings = json_incref(settings);
	return 0;
}

static int source_open(struct sn_target_plan *plan, const struct sn_meshfile *mesh,
		const struct sn_target_plan *former, const char *text, struct source **ret_source,
		struct sn_error *err)
{
	struct sn_targets *t = plan->targets;
	struct sn_hub_source_url url;
	SN_AUTO_FREE char *key = NULL;
	struct sn_hub_source_events events = {.changed = on_changed, .state = on_state};
	struct source *s;
	int r = sn__hub_source_parse(sn_str_from(text), &url, err);

	if (r == 0 && url.kind == SN_HUB_SOURCE_KUBE)
		r = use_kube(plan, mesh, former, err);
	if (r < 0)
		return sn__error_prefix(err, "%s", text);
	/* Another API server is another source. */
	key = sn__asprintf("%u %s", url.kind == SN_HUB_SOURCE_KUBE ? plan->kube_id : 0, text);
	if (key == NULL)
		return SN_E_NOMEM;
	s = sn__map_get(&t->sources, sn_str_from(key));
	if (s != NULL) {
		s->refs++;
		*ret_source = s;
		return 0;
	}
	s = sn__calloc(1, sizeof *s + strlen(key) + 1);
	if (s == NULL)
		return SN_E_NOMEM;
	memcpy(s->key, key, strlen(key) + 1);
	s->text = strchr(s->key, ' ') + 1;
	s->targets = t;
	s->refs = 1;
	events.arg = s;
	r = sn__map_add(&t->sources, sn_str_from(s->key), s);
	if (r == 0)
		r = url.kind == SN_HUB_SOURCE_KUBE
				? sn__hub_kube_open(plan->kube, &url, &events, &s->src)
				: sn__hub_dns_open(t->env.loop, &url, &events, &s->src);
	if (r < 0) {
		source_unref(s);
		return r;
	}
	*ret_source = s;
	return 0;
}

int sn__targets_open(const struct sn_targets_env *env, struct sn_targets **ret_targets)
{
	struct sn_targets *t = sn__calloc(1, sizeof *t);
	const struct sn_checks_env checks = {.loop = env->loop,
			.changed = env->changed,
			.arg = env->arg,
			.log = env->log};

	if (t == NULL)
		return SN_E_NOMEM;
	if (sn__checks_open(&checks, &t->checks) < 0) {
		sn__free(t);
		return SN_E_NOMEM;
	}
	t->env = *env;
	sn__map_init(&t->sources);
	*ret_targets = t;
	return 0;
}

void sn__targets_close(struct sn_targets *t)
{
	if (t == NULL)
		return;
	sn__loop_undefer(t->env.loop, &t->tell);
	sn__checks_close(t->checks);
	sn__free(t->resolver);
	sn__map_finish(&t->sources);
	sn__free(t);
}

void sn__targets_counts(const struct sn_targets *t, struct sn_hub_health_counts *ret_counts)
{
	sn__checks_counts(t->checks, ret_counts);
}

/* ---- plans ---- */

static char *path_key(const json_t *spec)
{
	return sn__json_text(json_object_get(spec, "path"));
}

static int target_init(struct sn_target_plan *plan, const struct sn_meshfile *mesh,
		const struct sn_target_plan *former, const json_t *spec, struct target *t,
		struct sn_error *err)
{
	const json_t *from = json_object_get(spec, "from"), *text;
	json_t *check = json_object_get(spec, "check");
	size_t i;
	int r;

	t->spec = spec;
	t->key = path_key(spec);
	t->from = sn__calloc(json_array_size(from) + 1, sizeof t->from[0]);
	if (t->key == NULL || t->from == NULL)
		return SN_E_NOMEM;
	json_array_foreach(from, i, text)
	{
		r = source_open(plan, mesh, former, json_string_value(text), &t->from[t->n_from],
				err);
		if (r < 0)
			return r;
		t->n_from++;
	}
	t->seen = t->seen_checks = UINT64_MAX;
	if (check != NULL) {
		r = sn__check_group_create(plan->targets->checks, check, &t->checks, err);
		if (r < 0)
			return sn__error_prefix(err, "check");
	}
	return sn__map_add(&plan->by_key, sn_str_from(t->key), t);
}

void sn__target_plan_destroy(struct sn_target_plan *plan)
{
	if (plan == NULL)
		return;
	for (size_t i = 0; i < plan->n; i++) {
		struct target *t = &plan->list[i];

		while (t->n_from > 0)
			source_unref(t->from[--t->n_from]);
		sn__free(t->from);
		sn__free(t->key);
		sn__check_group_destroy(t->checks);
		json_decref(t->all);
		json_decref(t->served);
	}
	sn__map_finish(&plan->by_key);
	sn__hub_kube_unref(plan->kube);
	json_decref(plan->kube_settings);
	sn__free(plan->resolver);
	json_decref(plan->specs);
	sn__free(plan->list);
	sn__free(plan);
}

/* What is known of an endpoint goes on until its sources have answered, and who of it is unwell. */
static int carry(const struct target *was, struct target *t)
{
	t->all = json_incref(was->all);
	t->served = json_incref(was->served);
	return t->checks != NULL && t->all != NULL ? sn__check_group_set(t->checks, t->all) : 0;
}

static int fill(struct sn_target_plan *plan, const struct sn_meshfile *mesh,
		const struct sn_target_plan *former, struct sn_error *err)
{
	const json_t *spec;
	size_t i;

	json_array_foreach(mesh->targets, i, spec)
	{
		struct target *t = &plan->list[plan->n++], *was;
		int r = target_init(plan, mesh, former, spec, t, err);

		if (r < 0)
			return r;
		was = former != NULL ? sn__map_get(&former->by_key, sn_str_from(t->key)) : NULL;
		if (was != NULL && carry(was, t) < 0)
			return SN_E_NOMEM;
	}
	return 0;
}

static int name_resolver(
		struct sn_target_plan *plan, const struct sn_meshfile *mesh, struct sn_error *err)
{
	const char *name = sn__json_str(sn__json_get(mesh->sources, "resolver"));

	if (name != NULL && strlen(name) > SN_RESOLVER_SERVERS_MAX)
		return sn__error_set(err, SN_E_INVALID,
				"resolver: expected at most %u bytes, found `%.40s...`",
				SN_RESOLVER_SERVERS_MAX, name);
	plan->resolver = sn__asprintf(
			"ares%s%s", name != NULL ? ":" : "", name != NULL ? name : "");
	return plan->resolver != NULL ? 0 : SN_E_NOMEM;
}

int sn__targets_plan(struct sn_targets *targets, const struct sn_meshfile *mesh,
		const struct sn_target_plan *former, struct sn_target_plan **ret_plan,
		struct sn_error *err)
{
	struct sn_target_plan *plan = sn__calloc(1, sizeof *plan);
	int r = SN_E_NOMEM;

	if (plan == NULL)
		return sn__error_set(err, r, "%s", sn_strerror(r));
	plan->targets = targets;
	plan->specs = json_incref(mesh->targets);
	sn__map_init(&plan->by_key);
	plan->list = sn__calloc(json_array_size(mesh->targets) + 1, sizeof plan->list[0]);
	(void)sn__error_set(err, r, "%s", sn_strerror(r));
	if (plan->list != NULL)
		r = fill(plan, mesh, former, err);
	if (r == 0)
		r = name_resolver(plan, mesh, err);
	if (r < 0) {
		sn__target_plan_destroy(plan);
		return r;
	}
	*ret_plan = plan;
	return 0;
}

void sn__target_plan_use(struct sn_target_plan *plan)
{
	struct sn_targets *t = plan->targets;

	if (t->resolver != NULL && strcmp(plan->resolver, t->resolver) == 0)
		return; /* its questions and answers go on */
	(void)!sn__resolver_select(t->env.loop, plan->resolver); /* it is short enough */
	sn__free(t->resolver);
	t->resolver = SN_TAKE(plan->resolver);
}

/* ---- what is served ---- */

/* Another name for an instance whose own one is taken (pods of two clusters). */
static const char *second_name(const json_t *place, char *out, size_t size)
{
	const char *address = json_string_value(json_object_get(place, "address"));
	json_int_t port = json_integer_value(json_object_get(place, "port"));

	return sn__host_port_text(address, (unsigned)port, out, size);
}

/* What was made before, of which all but a few come again in the same order. */
struct former {
	json_t *peers; /* NULL: nothing */
	void *next;    /* of them */
};

/* The peer that was made of @place under @name; NULL: it has to be made. */
static json_t *former_peer(struct former *f, const char *name, const json_t *place)
{
	json_t *peer;

	if (f->next == NULL || strcmp(json_object_iter_key(f->next), name) != 0)
		f->next = json_object_iter_at(f->peers, name);
	if (f->next == NULL)
		return NULL;
	peer = json_object_iter_value(f->next);
	f->next = json_object_iter_next(f->peers, f->next);
	/* The members of a place are only its own, and those of the peers made of it. */
	return json_object_get(peer, "address") == json_object_get(place, "address") ? peer : NULL;
}

/* @alone: no name can be taken. */
static int add_instance(const struct target *t, const char *name, json_t *place, bool alone,
		struct former *former, json_t *all)
{
	char other[SN_ADDR_TEXT_MAX];
	json_t *peer;

	if (!alone && json_object_get(all, name) != NULL) {
		name = second_name(place, other, sizeof other);
		if (json_object_get(all, name) != NULL)
			return 0; /* named twice: it is the same */
	}
	peer = former_peer(former, name, place);
	if (peer != NULL)
		return json_object_set(all, name, peer) < 0 ? SN_E_NOMEM : 0;
	peer = sn__json_copy(json_object_get(t->spec, "peer"));
	if (peer == NULL || json_object_set_new(all, name, peer) < 0 ||
			json_object_update(peer, place) < 0)
		return SN_E_NOMEM;
	return 0;
}

/* All there is: what the mesh file says itself (@fixed), then what each source says. */
static json_t *all_instances(const struct target *t, const json_t *fixed)
{
	json_t *all = fixed != NULL ? sn__json_copy(fixed) : json_object();
	/* What was carried over is of another spec. */
	struct former former = {.peers = t->seen != UINT64_MAX ? t->all : NULL};
	const char *name;
	json_t *place;

	for (size_t i = 0; i < t->n_from && all != NULL; i++) {
		bool alone = json_object_size(all) == 0;

		json_object_foreach(t->from[i]->instances, name, place)
		{
			if (add_instance(t, name, place, alone, &former, all) == 0)
				continue;
			json_decref(all);
			return NULL;
		}
	}
	return all;
}

/* Whether something is to be said of @t: before all of its sources have answered or failed it would be
 * a part, and the rest would blink. */
static bool is_known(const struct target *t, const json_t *fixed)
{
	bool answered = t->n_from == 0 || json_object_size(fixed) > 0;

	for (size_t i = 0; i < t->n_from; i++) {
		if (t->from[i]->instances == NULL && !t->from[i]->failed)
			return false;
		answered = answered || t->from[i]->instances != NULL;
	}
	return answered;
}

static int find_all(struct target *t, const json_t *fixed)
{
	uint64_t versions = 0;
	json_t *all;

	for (size_t i = 0; i < t->n_from; i++)
		versions += t->from[i]->version;
	if (versions == t->seen || !is_known(t, fixed))
		return 0;
	all = all_instances(t, fixed);
	if (all == NULL)
		return SN_E_NOMEM;
	if (t->checks != NULL && sn__check_group_set(t->checks, all) < 0) {
		json_decref(all);
		return SN_E_NOMEM;
	}
	json_decref(t->all);
	t->all = all;
	t->seen = versions;
	t->seen_checks = UINT64_MAX;
	return 0;
}

/* What is served for @t, anew when something has changed: its instances. */
static int recompute(struct target *t, const json_t *fixed)
{
	uint64_t checked;
	json_t *served;

	if (find_all(t, fixed) < 0)
		return SN_E_NOMEM;
	if (t->all == NULL)
		return 0;
	checked = t->checks != NULL ? sn__check_group_version(t->checks) : 0;
	if (checked == t->seen_checks)
		return 0;
	served = t->checks != NULL ? sn__check_group_served(t->checks, t->all)
				   : json_incref(t->all);
	if (served == NULL)
		return SN_E_NOMEM;
	json_decref(t->served);
	t->served = served;
	t->seen_checks = checked;
	return 0;
}

/* The member @key of @object, which may still be that of @original: then a copy of it. */
static json_t *own(json_t *object, const json_t *original, const char *key)
{
	json_t *member = json_object_get(object, key);
	json_t *copy;

	if (member != json_object_get(original, key))
		return member;
	copy = sn__json_copy(member);
	return copy != NULL && json_object_set_new(object, key, copy) == 0 ? copy : NULL;
}

/* Serve @t in @peers, a copy of @original. */
static int put(struct target *t, json_t *peers, const json_t *original)
{
	const json_t *path = json_object_get(t->spec, "path");
	size_t last = json_array_size(path) - 1;
	const json_t *fixed = original;
	const char *key = NULL;

	for (size_t i = 0; i <= last; i++) {
		key = json_string_value(json_array_get(path, i));
		if (i < last) {
			peers = own(peers, fixed, key);
			if (peers == NULL)
				return SN_E_NOMEM;
		}
		fixed = json_object_get(fixed, key);
	}
	if (recompute(t, fixed) < 0)
		return SN_E_NOMEM;
	if (t->served == NULL)
		return json_object_del(peers, key) == 0 ? 0 : SN_E_NOMEM;
	return json_object_set(peers, key, t->served) == 0 ? 0 : SN_E_NOMEM;
}

int sn__target_plan_checks(const struct sn_target_plan *plan,
		int (*fn)(const char *target, const struct sn_check_group *group, void *arg),
		void *arg)
{
	int r = 0;

	for (size_t i = 0; plan != NULL && r >= 0 && i < plan->n; i++) {
		const struct target *t = &plan->list[i];

		if (t->checks != NULL)
			r = fn(sn__json_str(sn__json_get(t->spec, "target")), t->checks, arg);
	}
	return SN_MIN(r, 0);
}

static json_t *with_peers(const json_t *sections, json_t *peers)
{
	json_t *copy = sn__json_copy(sections);

	if (copy != NULL && json_object_set(copy, "peers", peers) == 0)
		return copy;
	json_decref(copy);
	return NULL;
}

int sn__targets_merge(struct sn_target_plan *plan, const struct sn_meshfile *mesh,
		json_t **ret_common, json_t **ret_tasks)
{
	json_t *original = sn__json_get(mesh->common, "peers"), *sections;
	SN_AUTO_JSON json_t *common = NULL, *tasks = NULL, *peers = NULL;
	const char *id;

	if (plan == NULL || plan->n == 0) {
		*ret_common = json_incref(mesh->common);
		*ret_tasks = json_incref(mesh->tasks);
		return 0;
	}
	peers = sn__json_copy(original);
	for (size_t i = 0; i < plan->n && peers != NULL; i++)
		if (put(&plan->list[i], peers, original) < 0)
			return SN_E_NOMEM;
	common = peers != NULL ? with_peers(mesh->common, peers) : NULL;
	tasks = json_object();
	json_object_foreach(mesh->tasks, id, sections)
	{
		if (tasks == NULL || peers == NULL ||
				json_object_set_new(tasks, id, with_peers(sections, peers)) < 0)
			return SN_E_NOMEM;
	}
	if (common == NULL || tasks == NULL)
		return SN_E_NOMEM;
	*ret_common = SN_TAKE(common);
	*ret_tasks = SN_TAKE(tasks);
	return 0;
}
