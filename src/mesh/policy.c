/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree. Each set merges the sources into one tree of nodes (children sorted by name, found by
 * bisection) and compiles, for every node that has values and for each dialect, its parent's policy
 * with its own values over it. Nodes without values share their parent's.
 *
 * A target may be known under several paths. Spec: the first path in which a name is found below the
 * root gives its value. Each node therefore keeps a bit set of the names found below the root on the
 * way to it; when more than one path of a target has any, the fields are put together once and kept
 * with the tree.
 *
 * A tree is counted, by the loop thread only, and never changes, except for that list of put-together
 * policies, which only the loop thread touches. Other threads look into it with the mutex, which the
 * loop takes to replace it.
 */
#include "mesh/policy.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/list.h"
#include "base/mem.h"

#define N_DEFS_MAX 64 /* bits of a set */

struct node {
	struct sn_str name;
	struct node **children; /* sorted by name */
	size_t n_children;
	const json_t *values[SN_POLICY_SOURCES]; /* objects or NULL */
	const struct sn_policy *policy[SN_DIALECTS];
	uint64_t below; /* names set on the way, the root's not counted */
};

/* Fields of several paths put together. */
struct combined {
	struct combined *next;
	const struct node *nodes[SN_TARGET_RANKS];
	enum sn_dialect dialect;
	struct sn_policy policy;
};

struct sn_policy_tree {
	unsigned refs;
	struct sn_arena arena;
	json_t *source[SN_POLICY_SOURCES];
	struct node root;
	size_t n_nodes;
	struct combined *combined;
};

struct sn_policies {
	struct sn_policies_options opts;
	pthread_mutex_t lock;        /* tree, for other threads */
	struct sn_policy_tree *tree; /* never NULL */
	uint64_t version;
	size_t n_defs;
	json_t *defaults[SN_DIALECTS][N_DEFS_MAX];
	struct sn_policy base[SN_DIALECTS]; /* the defaults, compiled */
	struct sn_list monitors;            /* sn_policy_monitor.link */
	struct sn_task task;
	struct sn_list *cursor; /* the monitor to be told next */
	bool queued;
};

struct sn_policy_monitor {
	struct sn_list link;
	struct sn_policies *ps;
	sn_policy_monitor_fn *fn;
	void *arg;
	char *name;
	struct sn_paths paths;
	enum sn_dialect dialect;
	json_t *last; /* told last; NULL: nothing yet */
	bool fresh;   /* made in this turn */
};

/* ---- compiling ---- */

struct compile {
	struct sn_policies *ps;
	struct sn_policy_tree *tree;
	bool quiet;
	char where[256]; /* path of the node, for warnings */
};

static void warn_value(struct compile *c, const char *name, const char *what)
{
	char text[512];

	if (c->quiet || c->ps->opts.warn == NULL)
		return;
	(void)snprintf(text, sizeof text, "policies: %s: %s %s",
			c->where[0] != '\0' ? c->where : "root", name, what);
	c->ps->opts.warn(text, c->ps->opts.warn_arg);
}

/* Put one value over @policy. @warn: only once, not for each dialect. */
static void store(struct compile *c, size_t def, const json_t *value, enum sn_dialect dialect,
		struct sn_policy *policy)
{
	const struct sn_policy_def *d = &sn__policy_defs[def];

	switch (sn__policy_store(d, value, policy)) {
	case SN_POLICY_STORED:
		break;
	case SN_POLICY_CLAMPED:
		if (dialect == SN_DIALECT_CORE)
			warn_value(c, d->name, "is out of its limits; the nearest limit is used");
		break;
	case SN_POLICY_WRONG_TYPE:
		memcpy((char *)policy + d->offset, (const char *)&c->ps->base[dialect] + d->offset,
				sn__policy_field_size(d));
		if (dialect == SN_DIALECT_CORE)
			warn_value(c, d->name,
					"has a value of the wrong type; its default is used");
		break;
	}
}

static const json_t *node_value(
		const struct node *n, const char *name, enum sn_policy_source *ret_source)
{
	for (int s = 0; s < SN_POLICY_SOURCES; s++) {
		const json_t *v = n->values[s] != NULL ? json_object_get(n->values[s], name) : NULL;

		if (v != NULL && !json_is_null(v)) {
			*ret_source = (enum sn_policy_source)s;
			return v;
		}
	}
	return NULL;
}

/* The policies of @n from its parent's. SN_E_NOMEM. */
static int compile_values(struct compile *c, const struct node *parent, struct node *n)
{
	enum sn_policy_source source;
	struct sn_policy *p;

	for (int d = 0; d < SN_DIALECTS; d++)
		n->policy[d] = parent != NULL ? parent->policy[d] : &c->ps->base[d];
	n->below = parent != NULL ? parent->below : 0;
	if (n->values[SN_POLICY_FILE] == NULL && n->values[SN_POLICY_AGENT] == NULL &&
			n->values[SN_POLICY_OWN] == NULL)
		return 0;
	p = sn__arena_alloc(&c->tree->arena, SN_DIALECTS * sizeof *p);
	if (p == NULL)
		return SN_E_NOMEM;
	for (int d = 0; d < SN_DIALECTS; d++) {
		p[d] = *n->policy[d];
		n->policy[d] = &p[d];
	}
	for (size_t i = 0; i < c->ps->n_defs; i++) {
		const json_t *v = node_value(n, sn__policy_defs[i].name, &source);

		if (v == NULL)
			continue;
		for (int d = 0; d < SN_DIALECTS; d++)
			store(c, i, v, (enum sn_dialect)d, &p[d]);
		if (parent != NULL)
			n->below |= UINT64_C(1) << i;
	}
	return 0;
}

static const json_t *member(struct compile *c, const json_t *node, const char *name)
{
	const json_t *v = node != NULL ? json_object_get(node, name) : NULL;

	if (v == NULL || json_is_null(v))
		return NULL;
	if (json_is_object(v))
		return v;
	warn_value(c, name, "is not an object and is ignored");
	return NULL;
}

static int by_name(const void *a, const void *b)
{
	const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
	int r = memcmp(x->name.ptr, y->name.ptr, SN_MIN(x->name.len, y->name.len));

	return r != 0 ? r : (x->name.len > y->name.len) - (x->name.len < y->name.len);
}

static int compile_node(struct compile *c, const struct node *parent, struct node *n,
		const json_t *const json[SN_POLICY_SOURCES], unsigned depth);

static int compile_child(struct compile *c, const struct node *parent, struct node *n,
		const char *key, const json_t *const children[SN_POLICY_SOURCES], unsigned depth)
{
	const json_t *json[SN_POLICY_SOURCES];
	size_t at = strlen(c->where);
	int r;

	(void)snprintf(c->where + at, sizeof c->where - at, "%s%s", at > 0 ? "/" : "", key);
	for (int s = 0; s < SN_POLICY_SOURCES; s++)
		json[s] = member(c, children[s], key);
	n->name = sn_str_from(key);
	r = compile_node(c, parent, n, json, depth);
	c->where[at] = '\0';
	return r;
}

/* The union of the sources' children. Keys with the same name meet in the sorted order, but each
 * node is made only once: a later source skips what an earlier one has. */
static int compile_children(struct compile *c, struct node *n,
		const json_t *const children[SN_POLICY_SOURCES], unsigned depth)
{
	size_t max = 0, made = 0;
	struct node *nodes;

	for (int s = 0; s < SN_POLICY_SOURCES; s++)
		max += children[s] != NULL ? json_object_size(children[s]) : 0;
	if (max == 0)
		return 0;
	if (depth >= SN_POLICY_DEPTH_MAX) {
		warn_value(c, "children", "are nested too deeply and ignored");
		return 0;
	}
	if (c->tree->n_nodes + max > SN_POLICY_NODES_MAX)
		return SN_E_LIMIT;
	n->children = sn__arena_alloc(&c->tree->arena, max * sizeof(struct node *));
	nodes = sn__arena_zalloc(&c->tree->arena, max * sizeof *nodes);
	if (n->children == NULL || nodes == NULL)
		return SN_E_NOMEM;
	c->tree->n_nodes += max;
	for (int s = 0; s < SN_POLICY_SOURCES; s++) {
		const char *key;
		json_t *child;

		if (children[s] == NULL)
			continue;
		json_object_foreach((json_t *)(uintptr_t)children[s], key, child)
		{
			int r;

			if (s > 0 && children[0] != NULL &&
					json_object_get(children[0], key) != NULL)
				continue;
			n->children[made] = &nodes[made];
			r = compile_child(c, n, &nodes[made], key, children, depth + 1);
			if (r != 0)
				return r;
			made++;
		}
	}
	n->n_children = made;
	qsort(n->children, made, sizeof(struct node *), by_name);
	return 0;
}

static int compile_node(struct compile *c, const struct node *parent, struct node *n,
		const json_t *const json[SN_POLICY_SOURCES], unsigned depth)
{
	const json_t *children[SN_POLICY_SOURCES];
	int r;

	for (int s = 0; s < SN_POLICY_SOURCES; s++) {
		n->values[s] = member(c, json[s], "values");
		children[s] = member(c, json[s], "children");
	}
	r = compile_values(c, parent, n);
	return r != 0 ? r : compile_children(c, n, children, depth);
}

static void tree_unref(struct sn_policy_tree *tree)
{
	if (--tree->refs > 0)
		return;
	for (int s = 0; s < SN_POLICY_SOURCES; s++)
		json_decref(tree->source[s]);
	sn__arena_finish(&tree->arena);
	sn__free(tree);
}

/* @source: borrowed, NULL for none. */
static int tree_create(struct sn_policies *ps, json_t *const source[SN_POLICY_SOURCES],
		struct sn_policy_tree **ret_tree)
{
	struct compile c = {.ps = ps};
	struct sn_policy_tree *tree = sn__calloc(1, sizeof *tree);
	const json_t *json[SN_POLICY_SOURCES];
	int r;

	if (tree == NULL)
		return SN_E_NOMEM;
	tree->refs = 1;
	sn__arena_init(&tree->arena, 1024, SIZE_MAX);
	for (int s = 0; s < SN_POLICY_SOURCES; s++)
		json[s] = tree->source[s] = json_incref(source[s]);
	c.tree = tree;
	r = compile_node(&c, NULL, &tree->root, json, 0);
	if (r != 0)
		tree_unref(tree);
	else
		*ret_tree = tree;
	return r;
}

/* ---- the object ---- */

static int load_defaults(struct sn_policies *ps)
{
	struct sn_policy *base = ps->base;

	for (size_t i = 0; sn__policy_defs[i].name != NULL; i++) {
		const struct sn_policy_def *d = &sn__policy_defs[i];

		assert(i < N_DEFS_MAX);
		ps->n_defs = i + 1;
		for (int k = 0; k < SN_DIALECTS; k++) {
			bool other = k == SN_DIALECT_BERLIOZ && d->def_berlioz != NULL;
			json_t *v = json_loads(
					other ? d->def_berlioz : d->def, JSON_DECODE_ANY, NULL);

			if (v == NULL)
				return SN_E_NOMEM;
			ps->defaults[k][i] = v;
			if (json_is_null(v)) {
				assert(d->kind == SN_POLICY_TEXT);
				*(const char **)(void *)((char *)&base[k] + d->offset) = "";
			} else if (sn__policy_store(d, v, &base[k]) != SN_POLICY_STORED) {
				assert(!"a default of the table does not fit its kind");
			}
		}
	}
	return 0;
}

int sn__policies_create(const struct sn_policies_options *opts, struct sn_policies **ret_ps)
{
	json_t *none[SN_POLICY_SOURCES] = {NULL};
	struct sn_policies *ps = sn__calloc(1, sizeof *ps);

	if (ps == NULL)
		return SN_E_NOMEM;
	ps->opts = *opts;
	ps->version = 1;
	sn_list_init(&ps->monitors);
	(void)pthread_mutex_init(&ps->lock, NULL);
	if (load_defaults(ps) != 0 || tree_create(ps, none, &ps->tree) != 0) {
		sn__policies_destroy(ps);
		return SN_E_NOMEM;
	}
	*ret_ps = ps;
	return 0;
}

void sn__policies_destroy(struct sn_policies *ps)
{
	if (ps == NULL)
		return;
	assert(sn_list_empty(&ps->monitors));
	if (ps->queued)
		sn__loop_undefer(ps->opts.loop, &ps->task);
	if (ps->tree != NULL)
		tree_unref(ps->tree);
	for (int k = 0; k < SN_DIALECTS; k++) {
		for (size_t i = 0; i < ps->n_defs; i++)
			json_decref(ps->defaults[k][i]);
	}
	(void)pthread_mutex_destroy(&ps->lock);
	sn__free(ps);
}

static void notify(struct sn_task *task);

static void notify_later(struct sn_policies *ps)
{
	if (ps->queued || sn_list_empty(&ps->monitors))
		return;
	ps->queued = true;
	sn__loop_defer(ps->opts.loop, &ps->task, notify);
}

int sn__policies_set(struct sn_policies *ps, enum sn_policy_source source, json_t *tree,
		struct sn_error *err)
{
	json_t *sources[SN_POLICY_SOURCES];
	struct sn_policy_tree *made, *old = ps->tree;
	int r;

	if (json_is_null(tree))
		tree = NULL;
	if (tree != NULL && !json_is_object(tree))
		return sn__error_set(err, SN_E_INVALID, "policies: expected an object");
	memcpy(sources, old->source, sizeof sources);
	sources[source] = tree;
	r = tree_create(ps, sources, &made);
	if (r == SN_E_LIMIT)
		return sn__error_set(err, r, "policies: more than %d nodes", SN_POLICY_NODES_MAX);
	if (r != 0)
		return sn__error_set(err, r, "policies: %s", sn_strerror(r));
	(void)pthread_mutex_lock(&ps->lock);
	ps->tree = made;
	(void)pthread_mutex_unlock(&ps->lock);
	ps->version++;
	tree_unref(old);
	notify_later(ps);
	return 0;
}

/* A copy of @node's children with @child under @name (NULL: without it); a new reference, or NULL. */
static json_t *with_child(const json_t *node, const char *name, json_t *child)
{
	json_t *old = json_object_get(node, "children");
	json_t *children = json_is_object(old) ? sn__json_copy(old) : json_object();
	json_t *copy;

	if (children == NULL)
		return NULL;
	if (child == NULL)
		(void)json_object_del(children, name);
	copy = child == NULL || json_object_set(children, name, child) == 0
			? json_pack("{s:O}", "children", children)
			: NULL;
	json_decref(children);
	return copy;
}

int sn__policies_own(struct sn_policies *ps, const char *kind, const char *name, json_t *values)
{
	const json_t *root = ps->tree->source[SN_POLICY_OWN];
	SN_AUTO_JSON json_t *leaf = NULL, *of_kind = NULL, *tree = NULL;

	if (values != NULL) {
		leaf = json_pack("{s:O}", "values", values);
		if (leaf == NULL)
			return SN_E_NOMEM;
	}
	of_kind = with_child(json_object_get(json_object_get(root, "children"), kind), name, leaf);
	if (of_kind == NULL)
		return SN_E_NOMEM;
	tree = with_child(root, kind, of_kind);
	return tree != NULL ? sn__policies_set(ps, SN_POLICY_OWN, tree, NULL) : SN_E_NOMEM;
}

uint64_t sn__policies_version(const struct sn_policies *ps)
{
	return ps->version;
}

struct sn_policy_tree *sn__policies_hold(struct sn_policies *ps)
{
	ps->tree->refs++;
	return ps->tree;
}

void sn__policies_release(struct sn_policy_tree *tree)
{
	if (tree != NULL)
		tree_unref(tree);
}

/* ---- looking up ---- */

static const struct node *child(const struct node *n, struct sn_str name)
{
	struct node key = {.name = name};
	const struct node *k = &key;
	struct node *const *found;

	if (n->n_children == 0)
		return NULL;
	found = bsearch(&k, n->children, n->n_children, sizeof(struct node *), by_name);
	return found != NULL ? *found : NULL;
}

/* The deepest node that exists on the way. */
static const struct node *deepest(const struct node *n, const struct sn_path *path)
{
	for (unsigned i = 0; i < path->n; i++) {
		const struct node *next = child(n, path->part[i]);

		if (next == NULL)
			break;
		n = next;
	}
	return n;
}

void sn__policies_paths(const struct sn_policies *ps, struct sn_str kind, struct sn_str name,
		struct sn_str endpoint, struct sn_paths *ret_paths)
{
	if (ps->opts.paths != NULL) {
		if (ps->opts.paths(ps->opts.paths_arg, kind, name, endpoint, ret_paths) != 0)
			ret_paths->n = 0;
		return;
	}
	ret_paths->n = 1;
	ret_paths->path[0] = (struct sn_path){.n = 3, .part = {kind, name, endpoint}};
}

/* Field by field: the first path that has it below the root. NULL: out of memory. */
static const struct sn_policy *combine(struct sn_policy_tree *tree,
		const struct node *const nodes[SN_TARGET_RANKS], unsigned n,
		enum sn_dialect dialect)
{
	struct combined *c;
	uint64_t have = nodes[0]->below;

	for (c = tree->combined; c != NULL; c = c->next) {
		if (c->dialect == dialect && memcmp(c->nodes, nodes, sizeof c->nodes) == 0)
			return &c->policy;
	}
	c = sn__arena_zalloc(&tree->arena, sizeof *c);
	if (c == NULL)
		return NULL;
	memcpy(c->nodes, nodes, sizeof c->nodes);
	c->dialect = dialect;
	c->policy = *nodes[0]->policy[dialect];
	for (unsigned p = 1; p < n; p++) {
		uint64_t add = nodes[p]->below & ~have;

		for (size_t i = 0; add != 0; i++, add >>= 1) {
			const struct sn_policy_def *d = &sn__policy_defs[i];

			if ((add & 1) != 0)
				memcpy((char *)&c->policy + d->offset,
						(const char *)nodes[p]->policy[dialect] + d->offset,
						sn__policy_field_size(d));
		}
		have |= nodes[p]->below;
	}
	c->next = tree->combined;
	tree->combined = c;
	return &c->policy;
}

static const struct sn_policy *policy_in(
		struct sn_policy_tree *tree, const struct sn_paths *paths, enum sn_dialect dialect)
{
	const struct node *nodes[SN_TARGET_RANKS] = {NULL};
	const struct sn_policy *p;
	unsigned n = 0;

	for (unsigned i = 0; i < paths->n; i++) {
		const struct node *d = deepest(&tree->root, &paths->path[i]);

		if (d->below != 0)
			nodes[n++] = d;
	}
	if (n == 0)
		return tree->root.policy[dialect];
	p = n > 1 ? combine(tree, nodes, n, dialect) : NULL;
	/* Out of memory: the most specific path alone is the best answer there is. */
	return p != NULL ? p : nodes[0]->policy[dialect];
}

const struct sn_policy *sn__policies_on(
		struct sn_policies *ps, const struct sn_paths *paths, enum sn_dialect dialect)
{
	return policy_in(ps->tree, paths, dialect);
}

const struct sn_policy *sn__policies_of(struct sn_policies *ps, const struct sn_target *t,
		struct sn_policy_cache *cache, enum sn_dialect dialect)
{
	if (cache->version != ps->version) {
		cache->version = ps->version;
		memset(cache->policy, 0, sizeof cache->policy);
	}
	if (cache->policy[dialect] == NULL) {
		struct sn_paths paths;

		sn__policies_paths(ps, sn__target_kind(t), sn__target_name(t),
				sn__target_endpoint(t), &paths);
		cache->policy[dialect] = policy_in(ps->tree, &paths, dialect);
	}
	return cache->policy[dialect];
}

/* Deepest value on one path; @ret_depth counts from the root. */
static const json_t *value_on(const struct node *root, const struct sn_path *path, const char *name,
		struct sn_policy_found *found)
{
	const struct node *n = root;
	const json_t *best = NULL;

	for (unsigned i = 0; i < path->n; i++) {
		enum sn_policy_source source;
		const json_t *v;

		n = child(n, path->part[i]);
		if (n == NULL)
			break;
		v = node_value(n, name, &source);
		if (v != NULL) {
			best = v;
			found->depth = i + 1;
			found->source = source;
		}
	}
	return best;
}

static const json_t *find_value(const struct sn_policy_tree *tree, const struct sn_paths *paths,
		const char *name, struct sn_policy_found *found)
{
	const json_t *v = NULL;

	found->where = SN_POLICY_IN_TREE;
	for (unsigned p = 0; paths != NULL && p < paths->n && v == NULL; p++) {
		found->path = p;
		v = value_on(&tree->root, &paths->path[p], name, found);
	}
	if (v == NULL) {
		found->path = found->depth = 0;
		v = node_value(&tree->root, name, &found->source);
	}
	return v;
}

/* As sn__policies_get() over a held tree. */
static int resolve(struct sn_policies *ps, const struct sn_policy_tree *tree, const char *name,
		const struct sn_paths *paths, enum sn_dialect dialect, json_t **ret_value,
		struct sn_policy_found *found)
{
	const struct sn_policy_def *def = sn__policy_def(name);
	struct sn_policy scratch;
	const json_t *v;

	memset(found, 0, sizeof *found);
	v = find_value(tree, paths, name, found);
	if (v != NULL && def != NULL &&
			sn__policy_store(def, v, &scratch) == SN_POLICY_WRONG_TYPE) {
		found->wrong_type = true;
		v = NULL;
	}
	if (v == NULL && def != NULL)
		v = ps->defaults[dialect][def - sn__policy_defs];
	if (found->wrong_type ||
			(v != NULL && ps->n_defs > 0 && def != NULL &&
					v == ps->defaults[dialect][def - sn__policy_defs]))
		found->where = SN_POLICY_IN_DEFAULT;
	if (v == NULL || json_is_null(v))
		found->where = SN_POLICY_NOWHERE;
	/* A copy: jansson's counts are no safer than plain integers between threads. */
	*ret_value = v != NULL ? json_deep_copy(v) : json_null();
	return *ret_value != NULL ? 0 : SN_E_NOMEM;
}

int sn__policies_get(struct sn_policies *ps, const char *name, const struct sn_paths *paths,
		enum sn_dialect dialect, json_t **ret_value, struct sn_policy_found *ret_found)
{
	struct sn_policy_found found;
	int r;

	(void)pthread_mutex_lock(&ps->lock);
	r = resolve(ps, ps->tree, name, paths, dialect, ret_value, &found);
	(void)pthread_mutex_unlock(&ps->lock);
	if (ret_found != NULL)
		*ret_found = found;
	return r;
}

/* ---- explaining ---- */

static void from_text(const struct sn_paths *paths, const struct sn_policy_found *f, char *out,
		size_t size)
{
	size_t at = 0;

	if (f->where != SN_POLICY_IN_TREE || f->depth == 0) {
		(void)snprintf(out, size, "%s",
				f->where == SN_POLICY_IN_TREE                   ? "root"
						: f->where == SN_POLICY_NOWHERE ? "unset"
						: f->wrong_type
						? "default (the tree's value is of the wrong type)"
						: "default");
		return;
	}
	out[0] = '\0';
	for (unsigned i = 0; i < f->depth && at < size; i++) {
		const struct sn_str *part = &paths->path[f->path].part[i];
		int n = snprintf(out + at, size - at, "%s%.*s", i > 0 ? "/" : "", (int)part->len,
				part->ptr);

		at += n > 0 ? (size_t)n : 0;
	}
}

static int explain_one(struct sn_policies *ps, const struct sn_policy_tree *tree, const char *name,
		const struct sn_paths *paths, enum sn_dialect dialect, json_t *doc)
{
	static const char *const sources[] = {[SN_POLICY_FILE] = "file",
			[SN_POLICY_AGENT] = "agent",
			[SN_POLICY_OWN] = "connector"};
	struct sn_policy_found found;
	json_t *value, *entry;
	char from[1024];
	int r = resolve(ps, tree, name, paths, dialect, &value, &found);

	if (r != 0)
		return r;
	from_text(paths, &found, from, sizeof from);
	entry = json_object();
	/* _new takes the value also when it fails. */
	if (json_object_set_new(entry, "value", value) != 0 ||
			json_object_set_new(entry, "from", json_string(from)) != 0 ||
			(found.where == SN_POLICY_IN_TREE &&
					json_object_set_new(entry, "source",
							json_string(sources[found.source])) != 0)) {
		json_decref(entry);
		return SN_E_NOMEM;
	}
	return json_object_set_new(doc, name, entry) == 0 ? 0 : SN_E_NOMEM;
}

static int explain_free(struct sn_policies *ps, const struct sn_policy_tree *tree,
		const struct node *n, const struct sn_paths *paths, enum sn_dialect dialect,
		json_t *doc)
{
	for (int s = 0; s < SN_POLICY_SOURCES; s++) {
		const char *key;
		json_t *v;

		if (n->values[s] == NULL)
			continue;
		json_object_foreach((json_t *)(uintptr_t)n->values[s], key, v)
		{
			int r;

			if (sn__policy_def(key) != NULL || json_object_get(doc, key) != NULL)
				continue;
			r = explain_one(ps, tree, key, paths, dialect, doc);
			if (r != 0)
				return r;
		}
	}
	return 0;
}

static int explain_all(struct sn_policies *ps, const struct sn_policy_tree *tree,
		const struct sn_paths *paths, enum sn_dialect dialect, json_t *doc)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ps->n_defs; i++)
		r = explain_one(ps, tree, sn__policy_defs[i].name, paths, dialect, doc);
	if (r == 0)
		r = explain_free(ps, tree, &tree->root, paths, dialect, doc);
	for (unsigned p = 0; paths != NULL && p < paths->n; p++) {
		const struct node *n = &tree->root;

		for (unsigned i = 0; r == 0 && i < paths->path[p].n; i++) {
			n = child(n, paths->path[p].part[i]);
			if (n == NULL)
				break;
			r = explain_free(ps, tree, n, paths, dialect, doc);
		}
	}
	return r;
}

int sn__policies_explain(struct sn_policies *ps, const struct sn_paths *paths,
		enum sn_dialect dialect, json_t **ret_doc)
{
	json_t *doc = json_object();
	int r;

	if (doc == NULL)
		return SN_E_NOMEM;
	(void)pthread_mutex_lock(&ps->lock);
	r = explain_all(ps, ps->tree, paths, dialect, doc);
	(void)pthread_mutex_unlock(&ps->lock);
	if (r != 0)
		json_decref(doc);
	else
		*ret_doc = doc;
	return r;
}

/* ---- monitors ---- */

/* JSON knows one kind of number: 5000 and 5000.0 are equal. */
static bool same_value(const json_t *a, const json_t *b)
{
	if (json_is_number(a) && json_is_number(b))
		return json_number_value(a) == json_number_value(b);
	return json_equal(a, b) != 0;
}

static void tell(struct sn_policy_monitor *m)
{
	struct sn_policy_found found;
	sn_policy_monitor_fn *fn = m->fn;
	void *arg = m->arg;
	json_t *v;

	if (resolve(m->ps, m->ps->tree, m->name, &m->paths, m->dialect, &v, &found) != 0)
		return;
	if (m->last != NULL && same_value(m->last, v)) {
		json_decref(v);
		return;
	}
	json_decref(m->last);
	m->last = json_incref(v);
	fn(v, arg); /* may stop m */
	json_decref(v);
}

static void notify(struct sn_task *task)
{
	struct sn_policies *ps = SN_CONTAINER_OF(task, struct sn_policies, task);

	ps->queued = false;
	SN_LIST_FOREACH (l, &ps->monitors)
		SN_CONTAINER_OF(l, struct sn_policy_monitor, link)->fresh = false;
	for (ps->cursor = ps->monitors.next; ps->cursor != &ps->monitors;) {
		struct sn_policy_monitor *m = SN_CONTAINER_OF(
				ps->cursor, struct sn_policy_monitor, link);

		ps->cursor = ps->cursor->next; /* stop() moves it on when that one goes */
		if (m->fresh)
			notify_later(ps);
		else
			tell(m);
	}
	ps->cursor = NULL;
}

static bool copy_paths(struct sn_policy_monitor *m, const struct sn_paths *paths)
{
	size_t at = 0;

	if (paths == NULL)
		return true;
	m->paths.n = paths->n;
	for (unsigned p = 0; p < paths->n; p++) {
		m->paths.path[p].n = paths->path[p].n;
		for (unsigned i = 0; i < paths->path[p].n; i++) {
			struct sn_str s = paths->path[p].part[i];

			if (s.len > sizeof m->paths.text - at)
				return false;
			if (s.len > 0)
				memcpy(m->paths.text + at, s.ptr, s.len);
			m->paths.path[p].part[i] = (struct sn_str){m->paths.text + at, s.len};
			at += s.len;
		}
	}
	return true;
}

int sn__policy_monitor_start(struct sn_policies *ps, const char *name, const struct sn_paths *paths,
		enum sn_dialect dialect, sn_policy_monitor_fn *fn, void *arg,
		struct sn_policy_monitor **ret_monitor)
{
	struct sn_policy_monitor *m = sn__calloc(1, sizeof *m);

	if (m == NULL)
		return SN_E_NOMEM;
	m->name = sn__strdup(name);
	if (m->name == NULL || !copy_paths(m, paths)) {
		int r = m->name == NULL ? SN_E_NOMEM : SN_E_LIMIT;

		sn__free(m->name);
		sn__free(m);
		return r;
	}
	m->ps = ps;
	m->fn = fn;
	m->arg = arg;
	m->dialect = dialect;
	m->fresh = true;
	sn_list_push_back(&ps->monitors, &m->link);
	notify_later(ps);
	*ret_monitor = m;
	return 0;
}

void sn__policy_monitor_stop(struct sn_policy_monitor *m)
{
	if (m == NULL)
		return;
	if (m->ps->cursor == &m->link)
		m->ps->cursor = m->link.next;
	sn_list_remove(&m->link);
	json_decref(m->last);
	sn__free(m->name);
	sn__free(m);
}

/* ---- what follows from policies ---- */

uint64_t sn__policy_backoff_ns(const struct sn_policy *p, unsigned failures, struct sn_rng *rng)
{
	double ms = p->retry_initial_delay;

	for (unsigned i = 1; i < failures && ms < p->retry_max_delay && ms > 0; i++)
		ms *= p->retry_delay_multiplier;
	ms = SN_MIN(ms, (double)p->retry_max_delay);
	if (p->retry_jitter != 0)
		ms *= sn__rng_unit(rng);
	return (uint64_t)(ms * (double)SN_NS_PER_MS + 0.5);
}
