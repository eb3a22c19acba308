/* SPDX-License-Identifier: Apache-2.0 */
#include "app/agent_store.h"

#include "app/agent.h"
#include "base/json.h"
#include "base/mem.h"

int sn__store_init(struct sn_store *s)
{
	*s = (struct sn_store){.common = json_object(), .file_tasks = json_object()};
	sn__map_init(&s->tasks);
	if (s->common != NULL && s->file_tasks != NULL)
		return 0;
	sn__store_finish(s);
	return SN_E_NOMEM;
}

static void task_free(struct sn_store_task *t)
{
	json_decref(t->sections);
	sn__free(t);
}

void sn__store_finish(struct sn_store *s)
{
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(&s->tasks, &i)) != NULL;)
		task_free(e->value);
	sn__map_finish(&s->tasks);
	json_decref(s->common);
	json_decref(s->file_tasks);
	s->common = s->file_tasks = NULL;
}

json_t *sn__store_view(const struct sn_store *s, const struct sn_store_task *task)
{
	return task != NULL && task->sections != NULL ? task->sections : s->common;
}

struct sn_store_task *sn__store_find(const struct sn_store *s, struct sn_str id)
{
	return sn__map_get(&s->tasks, id);
}

static struct sn_str task_id(const struct sn_store_task *t)
{
	return sn_str_from(t->id);
}

int sn__store_task(struct sn_store *s, struct sn_str id, struct sn_store_task **ret_task)
{
	struct sn_store_task *t = sn__store_find(s, id);
	int r;

	if (t == NULL) {
		if (sn_map_count(&s->tasks) >= SN_AGENT_TASKS_MAX)
			return SN_E_LIMIT;
		t = sn__calloc(1, sizeof *t + id.len + 1);
		if (t == NULL)
			return SN_E_NOMEM;
		memcpy(t->id, id.ptr, id.len);
		r = sn__map_add(&s->tasks, task_id(t), t);
		if (r < 0) {
			sn__free(t);
			return r;
		}
	}
	*ret_task = t;
	return 0;
}

void sn__store_drop(struct sn_store *s, struct sn_store_task *task)
{
	if (task->sections != NULL || task->user != NULL)
		return;
	(void)sn__map_remove(&s->tasks, task_id(task));
	task_free(task);
}

/* ---- comparing ---- */

static bool is_falsy(const json_t *v)
{
	return v == NULL || json_is_null(v) || json_is_false(v) ||
			(json_is_integer(v) && json_integer_value(v) == 0) ||
			(json_is_real(v) && json_real_value(v) == 0.0) ||
			(json_is_string(v) && json_string_length(v) == 0);
}

static bool is_empty(const json_t *v)
{
	return is_falsy(v) || (json_is_object(v) && json_object_size(v) == 0);
}

static bool same_section(const json_t *a, const json_t *b)
{
	return (is_empty(a) && is_empty(b)) || (a != NULL && b != NULL && sn__json_equal(a, b));
}

/* ---- reports ---- */

static int check_item(const json_t *item, size_t index, struct sn_error *err)
{
	const char *id = sn__json_str(sn__json_get(item, "id"));

	if (!json_is_object(item))
		return sn__error_set(err, SN_E_INVALID, "item %zu: expected an object, found %s",
				index, sn__json_kind(item));
	if (id == NULL || id[0] == '\0' || strchr(id, '/') != NULL)
		return sn__error_set(err, SN_E_INVALID,
				"item %zu: `id` must be a task id, a string without `/`", index);
	if (!json_is_object(sn__json_get(item, "metadata")))
		return sn__error_set(err, SN_E_INVALID,
				"item %zu: `metadata` must be an object of sections", index);
	return 0;
}

/* The own sections of the item's task with the item's laid over them. */
static json_t *merged(const struct sn_store *s, const struct sn_store_task *t, json_t *metadata)
{
	json_t *sections = sn__json_copy(sn__store_view(s, t));

	if (sections != NULL && json_object_update(sections, metadata) < 0) {
		json_decref(sections);
		sections = NULL;
	}
	return sections;
}

/* The item's metadata; what equals the item before it is the same object then. NULL: no memory. */
static json_t *interned(const json_t *item, const json_t *last /* may be NULL */)
{
	json_t *out = sn__json_copy(sn__json_get(item, "metadata"));
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)last, name, value)
	{
		const json_t *own = json_object_get(out, name);

		if (own != NULL && sn__json_equal(own, value) &&
				json_object_set(out, name, value) < 0) {
			json_decref(out);
			return NULL;
		}
	}
	return out;
}

static int apply_item(struct sn_store *s, const json_t *item, json_t *metadata,
		sn_store_changed_fn *fn, void *arg)
{
	SN_AUTO_JSON json_t *empty = json_object();
	SN_AUTO_JSON json_t *before = NULL;
	struct sn_store_task *t;
	json_t *sections, *value;
	const char *name;
	int r = sn__store_task(s, sn_str_from(sn__json_str(sn__json_get(item, "id"))), &t);

	if (r < 0)
		return r;
	sections = merged(s, t, metadata);
	if (sections == NULL || empty == NULL) {
		json_decref(sections);
		sn__store_drop(s, t);
		return SN_E_NOMEM;
	}
	before = json_incref(sn__store_view(s, t));
	json_decref(t->sections);
	t->sections = sections;
	json_object_foreach(metadata, name, value)
	{
		if (!same_section(json_object_get(before, name), value))
			fn(t, name, is_falsy(value) ? empty : value, arg);
	}
	return 0;
}

int sn__store_check(const struct sn_store *s, const json_t *report, struct sn_error *err)
{
	const json_t *item;
	size_t i, n_new = 0;
	int r;

	if (!json_is_array(report))
		return sn__error_set(err, SN_E_INVALID,
				"expected an array of {id, metadata}, found %s",
				sn__json_kind(report));
	json_array_foreach(report, i, item)
	{
		r = check_item(item, i, err);
		if (r < 0)
			return r;
		n_new += sn__store_find(s, sn_str_from(sn__json_str(sn__json_get(item, "id")))) ==
				NULL;
	}
	if (n_new > SN_AGENT_TASKS_MAX - sn_map_count(&s->tasks))
		return sn__error_set(err, SN_E_LIMIT, "more than %u tasks", SN_AGENT_TASKS_MAX);
	return 0;
}

int sn__store_report(struct sn_store *s, const json_t *report, sn_store_changed_fn *fn, void *arg,
		struct sn_error *err)
{
	SN_AUTO_JSON json_t *last = NULL;
	const json_t *item;
	size_t i;
	int r = sn__store_check(s, report, err);

	if (r < 0)
		return r;
	json_array_foreach(report, i, item)
	{
		json_t *metadata = interned(item, last);

		json_decref(last);
		last = metadata;
		r = metadata != NULL ? apply_item(s, item, metadata, fn, arg) : SN_E_NOMEM;
		if (r < 0)
			return sn__error_set(err, r, "item %zu: %s", i, sn_strerror(r));
	}
	return 0;
}

bool sn__store_has(const struct sn_store *s, struct sn_str task, const char *section,
		const json_t *value)
{
	const json_t *view = sn__store_view(s, sn__store_find(s, task));

	return same_section(json_object_get(view, section), value);
}

/* ---- a new mesh file ---- */

/* Members that stand @depth levels above a peer map, each cut down to {}. */
static json_t *emptied(const json_t *value, int depth)
{
	json_t *out = json_object();
	const char *key;
	json_t *member;

	if (out == NULL || depth == 0)
		return out;
	json_object_foreach((json_t *)value, key, member)
	{
		json_t *below = emptied(member, depth - 1);

		if (below == NULL || json_object_set_new(out, key, below) < 0) {
			json_decref(out);
			return NULL;
		}
	}
	return out;
}

/* An id's value is endpoint -> identity -> peer when all its members hold only objects. */
static bool has_endpoints(const json_t *value)
{
	const char *key, *inner;
	json_t *member, *peer;

	if (json_object_size(value) == 0)
		return false;
	json_object_foreach((json_t *)value, key, member)
	{
		if (!json_is_object(member))
			return false;
		json_object_foreach(member, inner, peer)
		{
			if (!json_is_object(peer))
				return false;
		}
	}
	return true;
}

static int levels_below(const char *key, const json_t *value)
{
	if (strncmp(key, "service://", 10) == 0 || strncmp(key, "cluster://", 10) == 0)
		return has_endpoints(value) ? 1 : 0;
	if (strcmp(key, "service") == 0 || strcmp(key, "cluster") == 0)
		return 2;
	return strstr(key, "://") != NULL ? 0 : 1;
}

/* Everything of @before that @after lacks is put into @after as an empty map, @depth levels above
 * the peer maps. */
static int bury(const json_t *before, json_t *after, int depth)
{
	const char *key;
	json_t *old, *now, *copy;

	json_object_foreach((json_t *)before, key, old)
	{
		now = json_object_get(after, key);
		if (now == NULL) {
			if (json_object_set_new(after, key, emptied(old, depth)) < 0)
				return SN_E_NOMEM;
		} else if (depth > 0 && json_is_object(now) && json_is_object(old)) {
			copy = sn__json_copy(now);
			if (copy == NULL || json_object_set_new(after, key, copy) < 0)
				return SN_E_NOMEM;
			if (bury(old, copy, depth - 1) < 0)
				return SN_E_NOMEM;
		}
	}
	return 0;
}

/* What connectors must be sent so that targets of @before that are gone lose their peers. */
static json_t *peers_with_graves(const json_t *before, const json_t *after)
{
	json_t *out = json_is_object(after) ? sn__json_copy(after) : json_object();
	const char *key;
	json_t *old, *now, *copy;
	int depth;

	if (out == NULL || !json_is_object(before))
		return out;
	json_object_foreach((json_t *)before, key, old)
	{
		depth = levels_below(key, old);
		now = json_object_get(out, key);
		if (now != NULL && !json_is_object(now))
			continue; /* null: the connector resets the whole of it */
		copy = now == NULL ? emptied(old, depth) : sn__json_copy(now);
		if (copy == NULL || json_object_set_new(out, key, copy) < 0 ||
				(now != NULL && depth > 0 && bury(old, copy, depth - 1) < 0)) {
			json_decref(out);
			return NULL;
		}
	}
	return out;
}

json_t *sn__store_sent(const char *name, const json_t *before, const json_t *after)
{
	if (strcmp(name, "peers") == 0 && (after == NULL || json_is_object(after)))
		return peers_with_graves(before, after);
	return is_falsy(after) ? json_object() : json_incref((json_t *)after);
}

/* What was told last of peers: many tasks have the same ones, and are then told the same object. */
struct told {
	const json_t *before, *after;
	json_t *sent; /* NULL: nothing was to be told */
};

static void tell_section(struct sn_store_task *t, const char *name, const json_t *before,
		const json_t *after, struct told *told, sn_store_changed_fn *fn, void *arg)
{
	bool peers = strcmp(name, "peers") == 0;
	json_t *sent;

	if (peers && told->before == before && told->after == after) {
		if (told->sent != NULL)
			fn(t, name, told->sent, arg);
		return;
	}
	sent = before == after || same_section(before, after) ? NULL
							      : sn__store_sent(name, before, after);
	if (sent != NULL)
		fn(t, name, sent, arg);
	if (peers) {
		json_decref(told->sent);
		*told = (struct told){before, after, sent};
	} else {
		json_decref(sent);
	}
}

/* Tell @t (NULL: all on the common sections) of every section that differs. A notice that finds no
 * memory is lost for sockets now open; it is the one thing that cannot be undone here. */
static void tell_all(struct sn_store_task *t, json_t *before, json_t *after, struct told *told,
		sn_store_changed_fn *fn, void *arg)
{
	const char *name;
	json_t *value;

	json_object_foreach(after, name, value)
			tell_section(t, name, json_object_get(before, name), value, told, fn, arg);
	json_object_foreach(before, name, value)
	{
		if (json_object_get(after, name) == NULL)
			tell_section(t, name, value, NULL, told, fn, arg);
	}
}

/* Sections of a task of its own under a new file: the file's, under what was reported since. */
static json_t *reloaded(const struct sn_store *s, const struct sn_store_task *t, json_t *common,
		json_t *tasks)
{
	json_t *was = json_object_get(s->file_tasks, t->id);
	json_t *now = json_object_get(tasks, t->id);
	json_t *sections = sn__json_copy(now != NULL ? now : common);
	const char *name;
	json_t *value;

	if (was == NULL)
		was = s->common;
	if (sections == NULL)
		return NULL;
	json_object_foreach(t->sections, name, value)
	{
		/* Untouched values are shared with the file's object: identity tells. */
		if (json_object_get(was, name) != value &&
				json_object_set(sections, name, value) < 0) {
			json_decref(sections);
			return NULL;
		}
	}
	return sections;
}

/* Tasks of their own get their new sections in @next. Nothing else is touched. */
static int prepare(struct sn_store *s, json_t *common, json_t *tasks)
{
	const struct sn_map_entry *e;
	const char *id;
	json_t *value;

	json_object_foreach(tasks, id, value)
	{
		struct sn_store_task *t;
		int r = sn__store_task(s, sn_str_from(id), &t);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; (e = sn__map_next(&s->tasks, &i)) != NULL;) {
		struct sn_store_task *t = e->value;
		json_t *own = json_object_get(tasks, t->id);

		if (t->sections == NULL && own == NULL)
			continue;
		t->next = t->sections == NULL ? sn__json_copy(own) : reloaded(s, t, common, tasks);
		if (t->next == NULL)
			return SN_E_NOMEM;
	}
	return 0;
}

static void undo(struct sn_store *s)
{
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(&s->tasks, &i)) != NULL;) {
		struct sn_store_task *t = e->value;

		json_decref(t->next);
		t->next = NULL;
		sn__store_drop(s, t);
	}
}

int sn__store_load(struct sn_store *s, json_t *common, json_t *tasks, sn_store_changed_fn *fn,
		void *arg)
{
	struct told told = {NULL, NULL, NULL};
	const struct sn_map_entry *e;
	json_t *old_common;
	int r = prepare(s, common, tasks);

	if (r < 0) {
		undo(s);
		return r;
	}
	old_common = s->common;
	s->common = json_incref(common);
	json_decref(s->file_tasks);
	s->file_tasks = json_incref(tasks);
	for (size_t i = 0; (e = sn__map_next(&s->tasks, &i)) != NULL;) {
		struct sn_store_task *t = e->value;
		json_t *before = t->sections != NULL ? t->sections : json_incref(old_common);

		if (t->next != NULL) {
			t->sections = SN_TAKE(t->next);
			tell_all(t, before, t->sections, &told, fn, arg);
			json_decref(before);
		} else if (t->sections == NULL) {
			json_decref(before);
		}
	}
	tell_all(NULL, old_common, common, &told, fn, arg);
	json_decref(told.sent);
	json_decref(old_common);
	return 0;
}

int sn__store_forget(struct sn_store *s, struct sn_str task, const char *section,
		sn_store_changed_fn *fn, void *arg)
{
	struct told told = {NULL, NULL, NULL};
	struct sn_store_task *t = sn__store_find(s, task);
	json_t *sections, *before, *file;

	if (t == NULL || t->sections == NULL)
		return 0;
	file = json_object_get(s->file_tasks, t->id);
	file = json_object_get(file != NULL ? file : s->common, section);
	sections = sn__json_copy(t->sections);
	if (sections == NULL || (file != NULL && json_object_set(sections, section, file) < 0)) {
		json_decref(sections);
		return SN_E_NOMEM;
	}
	if (file == NULL)
		(void)json_object_del(sections, section);
	before = t->sections;
	t->sections = sections;
	tell_section(t, section, json_object_get(before, section), file, &told, fn, arg);
	json_decref(told.sent);
	json_decref(before);
	return 0;
}
