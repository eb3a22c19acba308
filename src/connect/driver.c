/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/driver.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/option.h"
#include "connect/module.h"
#include "connect/sql_calls.h"

/* The built-in drivers: a declaration (const struct sn_driver sn__driver_TOPIC_TYPE, defined in
 * TOPIC/TYPE.c) and a line each, by topic and name. */
extern const struct sn_driver sn__driver_broker_kinesis;
extern const struct sn_driver sn__driver_database_dynamodb;
extern const struct sn_driver sn__driver_database_sqlite;
static const struct sn_driver *const builtin[] = {
		&sn__driver_database_dynamodb,
		&sn__driver_database_sqlite,
		&sn__driver_broker_kinesis,
		NULL,
};

static const struct sn_driver *const *extra; /* of tests */

/* ---- topics ---- */

static const char *const topic_names[] = {
		[SN_TOPIC_DATABASE] = "database",
		[SN_TOPIC_BROKER] = "broker",
		[SN_TOPIC_DATA] = "data",
		[SN_TOPIC_META] = "meta",
};

const char *sn__topic_name(enum sn_topic topic)
{
	return topic_names[topic];
}

int sn__topic_find(struct sn_str name, enum sn_topic *ret_topic)
{
	for (size_t i = 0; i < SN_COUNT(topic_names); i++) {
		if (!sn_str_eq(name, sn_str_from(topic_names[i])))
			continue;
		*ret_topic = (enum sn_topic)i;
		return 0;
	}
	return SN_E_NOT_FOUND;
}

/* ---- checking a table ---- */

static bool is_word(const char *name)
{
	size_t n = name != NULL ? strlen(name) : 0;

	for (size_t i = 0; i < n; i++) {
		if (strchr("abcdefghijklmnopqrstuvwxyz0123456789-", name[i]) == NULL)
			return false;
	}
	return n > 0 && n <= SN_DRIVER_NAME_MAX;
}

static int check_operations(const struct sn_driver *d, struct sn_error *err)
{
	const struct sn_driver_operation *ops = d->calls->operations;

	if (d->calls->size != sizeof(*d->calls))
		return sn__error_set(err, SN_E_INVALID, "its table of calls has %zu bytes, not %zu",
				d->calls->size, sizeof(*d->calls));
	if (ops == NULL || d->calls->start == NULL || d->calls->cancel == NULL)
		return sn__error_set(err, SN_E_INVALID,
				"its table of calls lacks operations, start or cancel");
	for (size_t i = 0; ops[i].name != NULL; i++) {
		if (ops[i].name[0] == '\0' || ops[i].safety > SN_DRIVER_UNSAFE)
			return sn__error_set(
					err, SN_E_INVALID, "its operation %zu is malformed", i);
		for (size_t k = 0; k < i; k++) {
			if (strcmp(ops[i].name, ops[k].name) == 0)
				return sn__error_set(err, SN_E_INVALID,
						"its operation %s is there twice", ops[i].name);
		}
	}
	return 0;
}

static int check_broker(const struct sn_driver_broker *b, struct sn_error *err)
{
	if (b->size != sizeof(*b))
		return sn__error_set(err, SN_E_INVALID,
				"its table of a broker has %zu bytes, not %zu: build it anew",
				b->size, sizeof(*b));
	if (b->watch == NULL || b->publish == NULL || b->publish_cancel == NULL ||
			b->subscribe == NULL || b->credit == NULL || b->answer == NULL ||
			b->unsubscribe == NULL ||
			(b->request == NULL) != (b->request_cancel == NULL))
		return sn__error_set(err, SN_E_INVALID, "its table of a broker lacks functions");
	return 0;
}

static int check_units(const struct sn_driver *d, struct sn_error *err)
{
	const struct sn_database_ops *ops = d->ops;

	if (ops->size != sizeof(*ops) || ops->submit == NULL || ops->cancel == NULL)
		return sn__error_set(err, SN_E_INVALID,
				"its functions of the topic database have %zu bytes, not %zu, or are "
				"not whole",
				ops->size, sizeof(*ops));
	return 0;
}

/* What must fit before anything else of the table may be looked at. */
int sn__driver_check_abi(const struct sn_driver *d, struct sn_error *err)
{
	if (d->abi != SN_DRIVER_ABI)
		return sn__error_set(err, SN_E_INVALID,
				"it was made for driver ABI %u, this is ABI %u: build it anew",
				d->abi, SN_DRIVER_ABI);
	if (d->size != sizeof(*d))
		return sn__error_set(err, SN_E_INVALID,
				"its driver table has %u bytes, not %zu: build it anew", d->size,
				sizeof(*d));
	return 0;
}

int sn__driver_check(const struct sn_driver *d, struct sn_error *err)
{
	int r = sn__driver_check_abi(d, err);

	if (r < 0)
		return r;
	if (!is_word(d->name) || (size_t)d->topic >= SN_COUNT(topic_names) || d->summary == NULL)
		return sn__error_set(err, SN_E_INVALID, "it has no proper name, topic or summary");
	if (d->open == NULL || d->close == NULL || d->finish == NULL)
		return sn__error_set(err, SN_E_INVALID, "it lacks open, close or finish");
	if (d->options != NULL)
		r = sn__options_check(d->options, err);
	if (r == 0 && d->calls != NULL)
		r = check_operations(d, err);
	if (r == 0 && d->topic == SN_TOPIC_BROKER && d->ops != NULL)
		r = check_broker(d->ops, err);
	if (r == 0 && d->topic == SN_TOPIC_DATABASE && d->ops != NULL)
		r = check_units(d, err);
	return r;
}

/* ---- looking up ---- */

const struct sn_driver *const *sn__drivers_builtin(void)
{
	return builtin;
}

void sn__drivers_each(sn_driver_each_fn *fn, void *arg)
{
	for (const struct sn_driver *const *d = builtin; *d != NULL; d++)
		fn(*d, NULL, arg);
	sn__modules_each(fn, arg);
}

void sn__drivers_add_for_tests(const struct sn_driver *const *drivers)
{
	extra = drivers;
}

static const struct sn_driver *look_in(
		const struct sn_driver *const *list, enum sn_topic topic, struct sn_str type)
{
	for (; list != NULL && *list != NULL; list++) {
		if ((*list)->topic == topic && sn_str_eq(sn_str_from((*list)->name), type))
			return *list;
	}
	return NULL;
}

#define NAMES_MAX 64

struct names {
	enum sn_topic topic;
	const char *names[NAMES_MAX + 1]; /* ends with NULL */
	size_t n;
};

static void add_name(const struct sn_driver *d, const struct sn_error *err, void *arg)
{
	struct names *names = arg;

	(void)err;
	if (d != NULL && d->topic == names->topic && names->n < NAMES_MAX)
		names->names[names->n++] = d->name;
}

/* One sentence for a type that nobody has: a slip, or a module that is not installed. */
static int unknown_type(enum sn_topic topic, const char *type, struct sn_error *err)
{
	struct names known = {.topic = topic};
	const char *near;

	sn__drivers_each(add_name, &known);
	near = sn__nearest(type, known.names);
	if (near != NULL)
		return sn__error_set(err, SN_E_NOT_FOUND,
				"no %s driver is called %s: did you mean %s?", topic_names[topic],
				type, near);
	return sn__error_set(err, SN_E_NOT_FOUND,
			"no %s driver is called %s: none is built in, and %s has no sinew-%s-%s.so",
			topic_names[topic], type, sn__module_places(), topic_names[topic], type);
}

int sn__driver_find(enum sn_topic topic, struct sn_str type, const struct sn_driver **ret_driver,
		struct sn_error *err)
{
	const struct sn_driver *d = look_in(builtin, topic, type);
	char name[SN_DRIVER_NAME_MAX + 1];
	int r;

	if (d == NULL)
		d = look_in(extra, topic, type);
	if (d != NULL) {
		*ret_driver = d;
		return 0;
	}
	(void)snprintf(name, sizeof(name), "%.*s", (int)SN_MIN(type.len, SN_DRIVER_NAME_MAX),
			type.len > 0 ? type.ptr : "");
	/* What is no word is no part of a file's name either. */
	if (!is_word(name) || type.len > SN_DRIVER_NAME_MAX)
		return sn__error_set(err, SN_E_NOT_FOUND, "no %s driver is called \"%s\"",
				topic_names[topic], name);
	r = sn__module_find(topic, name, ret_driver, err);
	return r == SN_E_NOT_FOUND ? unknown_type(topic, name, err) : r;
}

const struct sn_driver_calls *sn__driver_calls(const struct sn_driver *d)
{
	if (d->calls != NULL)
		return d->calls;
	return d->topic == SN_TOPIC_DATABASE && d->ops != NULL ? &sn__sql_calls : NULL;
}

int sn__driver_operation(const struct sn_driver *d, struct sn_str name,
		const struct sn_driver_operation **ret_operation, struct sn_error *err)
{
	const struct sn_driver_calls *calls = sn__driver_calls(d);
	const struct sn_driver_operation *op = calls != NULL ? calls->operations : NULL;
	const char *names[256], *near;
	char word[128];
	size_t n = 0;

	if (op == NULL)
		return sn__error_set(err, SN_E_NOTSUP, "%s/%s has no native calls",
				topic_names[d->topic], d->name);
	for (; op->name != NULL; op++) {
		if (sn_str_eq(sn_str_from(op->name), name)) {
			*ret_operation = op;
			return 0;
		}
		if (n < SN_COUNT(names) - 1)
			names[n++] = op->name;
	}
	names[n] = NULL;
	(void)snprintf(word, sizeof(word), "%.*s", (int)SN_MIN(name.len, sizeof(word) - 1),
			name.len > 0 ? name.ptr : "");
	near = sn__nearest(word, names);
	return sn__error_set(err, SN_E_INVALID, "%s has no operation %s%s%s%s", d->name, word,
			near != NULL ? ": did you mean " : "", near != NULL ? near : "",
			near != NULL ? "?" : "");
}
