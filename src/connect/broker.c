/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/broker.h"

#include <string.h>

#include "base/arena.h"
#include "base/mem.h"
#include "base/option.h"
#include "io/loop.h"

#define TEXTS_MAX ((size_t)1 << 20) /* of one section */

struct instance {
	struct sn_broker pub;
	struct sn_connect_host host;
	struct sn_driver_open how;
	struct sn_arena arena; /* the section and the options read from it */
	struct sn_task task;
	void (*done)(void *arg);
	void *arg;
};

/* ---- the section ---- */

static int find_driver(const struct sn_yaml_node *section, const struct sn_broker_reading *how,
		const struct sn_driver **ret_driver, struct sn_problems *problems)
{
	const struct sn_yaml_node *type = sn__yaml_get(section, "type");
	struct sn_place place = type != NULL ? type->place : section->place;
	struct sn_str name = sn_str_from(how->type);
	const struct sn_driver *d;
	struct sn_error err;
	int r;

	if (section->kind != SN_YAML_MAP)
		return sn__problem(problems, section->place,
				"a broker is a map with its type, e.g. {type: nats}, not %s",
				sn__yaml_kind_name(section));
	if (type != NULL)
		name = type->kind == SN_YAML_SCALAR ? type->text : SN_STR("");
	if (name.len == 0)
		return sn__problem(problems, place,
				"type: the name of a broker driver is missing, e.g. nats or mqtt");
	r = sn__driver_find(SN_TOPIC_BROKER, name, &d, &err);
	if (r < 0) {
		(void)sn__problem(problems, place, "type: %s", err.text);
		return r == SN_E_NOMEM ? r : SN_E_INVALID;
	}
	if (d->ops == NULL)
		return sn__problem(problems, place,
				"type: broker %s takes native calls only, it cannot publish or "
				"subscribe",
				d->name);
	*ret_driver = d;
	return 0;
}

static bool is_other(struct sn_str key, const struct sn_broker_reading *how)
{
	for (const char *const *o = how->others; o != NULL && *o != NULL; o++) {
		if (sn_str_eq(key, sn_str_from(*o)))
			return true;
	}
	return false;
}

static bool is_drivers(struct sn_str key, const struct sn_broker_reading *how)
{
	return !sn_str_eq(key, SN_STR("type")) && !is_other(key, how);
}

/* A copy; of the keys at the top those that are @wanted (NULL: all). NULL: no memory. */
static struct sn_yaml_node *copy(struct sn_arena *arena, const struct sn_yaml_node *from,
		bool (*wanted)(struct sn_str key, const struct sn_broker_reading *how),
		const struct sn_broker_reading *how)
{
	struct sn_yaml_node *node = sn__arena_zalloc(arena, sizeof(*node));
	struct sn_yaml_item **end;

	if (node == NULL)
		return NULL;
	*node = *from;
	node->items = NULL;
	end = &node->items;
	if (from->kind == SN_YAML_SCALAR) {
		node->text.ptr = sn__arena_strdup(arena, from->text);
		return node->text.ptr != NULL ? node : NULL;
	}
	SN_YAML_FOREACH(pos, from)
	{
		struct sn_yaml_item *item;

		if (wanted != NULL && !wanted(pos->key, how)) {
			node->count--;
			continue;
		}
		item = sn__arena_zalloc(arena, sizeof(*item));
		if (item == NULL)
			return NULL;
		*item = *pos;
		item->next = NULL;
		item->key.ptr = sn__arena_strdup(arena, pos->key);
		item->value = copy(arena, pos->value, NULL, NULL);
		if (item->key.ptr == NULL || item->value == NULL)
			return NULL;
		*end = item;
		end = &item->next;
	}
	return node;
}

static const struct sn_option no_options[] = {{0}};

static int read_options(const struct sn_driver *d, const struct sn_yaml_node *section,
		const struct sn_broker_reading *how, struct sn_arena *arena, void **ret_options,
		struct sn_problems *problems)
{
	const struct sn_option *table = d->options != NULL ? d->options : no_options;
	void *options = sn__arena_zalloc(arena, SN_MAX(d->options_size, 1u));
	struct sn_yaml_node *own = copy(arena, section, is_drivers, how);
	int r = options != NULL && own != NULL
			? sn__options_read(table, own, options, arena, problems)
			: SN_E_NOMEM;

	if (r == 0)
		*ret_options = options;
	return r;
}

int sn__broker_read_others(const struct sn_yaml_node *section, const struct sn_broker_reading *how,
		const struct sn_option *table, struct sn_arena *arena, void *ret_options,
		struct sn_problems *problems)
{
	struct sn_yaml_node *others = copy(arena, section, is_other, how);

	if (others == NULL)
		return SN_E_NOMEM;
	return sn__options_read(table, others, ret_options, arena, problems);
}

int sn__broker_check_as(const struct sn_yaml_node *section, const struct sn_broker_reading *how,
		struct sn_problems *problems)
{
	const struct sn_driver *d;
	struct sn_arena arena;
	void *options;
	int r = find_driver(section, how, &d, problems);

	if (r < 0)
		return r;
	sn__arena_init(&arena, 1024, TEXTS_MAX);
	r = read_options(d, section, how, &arena, &options, problems);
	sn__arena_finish(&arena);
	return r;
}

/* ---- opening ---- */

static void instance_free(struct instance *inst)
{
	sn__free(inst->pub.state);
	sn__arena_finish(&inst->arena);
	sn__free(inst);
}

static int start(struct instance *inst, struct sn_place place, struct sn_problems *problems)
{
	int r;

	inst->pub.state = sn__calloc(1, SN_MAX(inst->pub.driver->state_size, 1u));
	if (inst->pub.state == NULL)
		return SN_E_NOMEM;
	inst->how.size = sizeof(inst->how);
	inst->how.host = &inst->host.pub;
	inst->how.resource = "";
	r = inst->pub.driver->open(inst->pub.state, &inst->how);
	inst->how.error[sizeof(inst->how.error) - 1] = '\0';
	if (r < 0 && r != SN_E_NOMEM)
		(void)sn__problem(problems, place, "broker %s: %s", inst->pub.driver->name,
				inst->how.error[0] != '\0' ? inst->how.error : sn_strerror(r));
	return r;
}

int sn__broker_open_as(const struct sn_connect_host *host, const struct sn_yaml_node *section,
		const struct sn_broker_reading *how, struct sn_problems *problems,
		struct sn_broker **ret_broker)
{
	const struct sn_driver *d;
	struct instance *inst;
	void *options = NULL;
	int r = find_driver(section, how, &d, problems);

	if (r < 0)
		return r;
	inst = sn__calloc(1, sizeof(*inst));
	if (inst == NULL)
		return SN_E_NOMEM;
	sn__arena_init(&inst->arena, 1024, TEXTS_MAX);
	inst->pub.driver = d;
	inst->pub.ops = d->ops;
	inst->host = *host;
	sn__connect_host_init(&inst->host);
	r = read_options(d, section, how, &inst->arena, &options, problems);
	inst->how.options = options;
	if (r == 0)
		r = start(inst, section->place, problems);
	if (r < 0) {
		instance_free(inst);
		return r;
	}
	*ret_broker = &inst->pub;
	return 0;
}

int sn__broker_open_text(const struct sn_connect_host *host, struct sn_str text,
		struct sn_broker **ret_broker, struct sn_error *err)
{
	struct sn_problems problems;
	struct sn_yaml yaml;
	int r = sn__yaml_parse(&yaml, NULL, text, err);

	if (r < 0)
		return r;
	sn__problems_init(&problems, NULL);
	r = sn__broker_open(host, yaml.root, &problems, ret_broker);
	if (r < 0) {
		(void)sn__error_set(err, r, "%s", sn_strerror(r));
		(void)sn__problems_to_error(&problems, r, err);
	}
	sn__problems_finish(&problems);
	sn__yaml_finish(&yaml);
	return r;
}

/* ---- the end ---- */

static void finish(struct sn_task *task)
{
	struct instance *inst = SN_CONTAINER_OF(task, struct instance, task);
	void (*done)(void *arg) = inst->done;
	void *arg = inst->arg;

	inst->pub.driver->finish(inst->pub.state);
	instance_free(inst);
	done(arg);
}

static void closed(void *arg)
{
	struct instance *inst = arg;

	sn__loop_defer(inst->host.loop, &inst->task, finish);
}

void sn__broker_close(struct sn_broker *broker, void (*done)(void *arg), void *arg)
{
	struct instance *inst = SN_CONTAINER_OF(broker, struct instance, pub);

	inst->done = done;
	inst->arg = arg;
	inst->pub.driver->close(inst->pub.state, closed, inst);
}
