/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A driver in a module, database/memory: texts by key, kept by the instance. As a third party would
 * write it: sinew/driver.h, libc, and nothing of libsinew.
 *
 *	Put {"key": "k", ...}   keeps the whole object     Get {"key": "k"}   gives it back
 *	Drop {"key": "k"}       forgets it                 Count {}           {"count": n}
 */

#include <sinew/driver.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	struct entry *next;
	size_t size;
	char key[64];
	char text[];
};

struct store {
	struct sn_driver_host *host;
	struct entry *entries;
	struct call *calls;
	struct sn_driver_task close_task;
	void (*done)(void *arg);
	void *arg;
	int closing;
};

struct call {
	struct sn_driver_task task; /* first */
	struct sn_driver_call *pub;
	struct store *store;
	struct call *next;
	int code;
};

enum { GET, PUT, DROP, COUNT };

static int memory_open(void *instance, struct sn_driver_open *how)
{
	struct store *s = instance;

	if (strstr(how->config, "\"full\"") != NULL) {
		(void)snprintf(how->error, sizeof how->error, "the memory is full");
		return SN_E_INVALID;
	}
	s->host = how->host;
	s->host->log(s->host, 3, "a memory is open");
	return 0;
}

/* The value of "key", which must be a plain text. */
static int read_key(const char *params, char *out, size_t size)
{
	const char *p = strstr(params, "\"key\"");
	size_t n;

	p = p != NULL ? strchr(p + 5, ':') : NULL;
	p = p != NULL ? strchr(p, '"') : NULL;
	n = p != NULL ? strcspn(p + 1, "\"\\") : 0;
	if (n == 0 || n >= size)
		return -1;
	memcpy(out, p + 1, n);
	out[n] = '\0';
	return 0;
}

static struct entry **find(struct store *s, const char *key)
{
	struct entry **at = &s->entries;

	while (*at != NULL && strcmp((*at)->key, key) != 0)
		at = &(*at)->next;
	return at;
}

static void drop(struct entry **at)
{
	struct entry *gone = *at;

	if (gone == NULL)
		return;
	*at = gone->next;
	free(gone);
}

static void refuse(struct sn_driver_call *pub, const char *type)
{
	pub->outcome.verdict = SN_DRIVER_REJECTED;
	pub->outcome.sent = SN_DRIVER_SENT_YES;
	pub->outcome.code = SN_E_REJECTED;
	(void)snprintf(pub->type, sizeof pub->type, "%s", type);
}

static void put(struct store *s, struct sn_driver_call *pub, const char *key)
{
	struct entry *e = malloc(sizeof *e + pub->params_size);

	if (e == NULL) {
		refuse(pub, "OutOfMemory");
		return;
	}
	drop(find(s, key));
	(void)snprintf(e->key, sizeof e->key, "%s", key);
	e->size = pub->params_size;
	memcpy(e->text, pub->params, pub->params_size);
	e->next = s->entries;
	s->entries = e;
}

static void answer(struct store *s, struct sn_driver_call *pub, char *count, size_t size)
{
	unsigned what = pub->operation->flags;
	struct entry **at;
	char key[64];
	int n = 0;

	pub->outcome.sent = SN_DRIVER_SENT_YES;
	if (what == COUNT) {
		for (struct entry *e = s->entries; e != NULL; e = e->next)
			n++;
		pub->result_size = (size_t)snprintf(count, size, "{\"count\":%d}", n);
		pub->result = count;
	} else if (read_key(pub->params, key, sizeof key) < 0) {
		refuse(pub, "NoKey");
	} else if (what == PUT) {
		put(s, pub, key);
	} else {
		at = find(s, key);
		if (what == DROP) {
			drop(at);
		} else if (*at == NULL) {
			refuse(pub, "NotFound");
		} else {
			pub->result = (*at)->text;
			pub->result_size = (*at)->size;
		}
	}
}

static void close_check(struct store *s)
{
	if (s->closing && s->calls == NULL)
		s->host->defer(s->host, &s->close_task);
}

static void due(struct sn_driver_task *task)
{
	struct call *c = (struct call *)(void *)task, **at;
	struct sn_driver_call *pub = c->pub;
	struct store *s = c->store;
	char count[32];

	for (at = &s->calls; *at != c; at = &(*at)->next)
		;
	*at = c->next;
	if (c->code != 0) {
		pub->outcome.verdict = SN_DRIVER_REJECTED;
		pub->outcome.code = c->code;
	} else {
		answer(s, pub, count, sizeof count);
	}
	close_check(s);
	pub->done(pub);
}

static int memory_start(void *instance, struct sn_driver_call *pub)
{
	struct store *s = instance;
	struct call *c = pub->state;

	if (s->closing)
		return SN_E_CLOSED;
	c->task.fn = due;
	c->pub = pub;
	c->store = s;
	c->next = s->calls;
	s->calls = c;
	s->host->defer(s->host, &c->task);
	return 0;
}

static void memory_cancel(void *instance, struct sn_driver_call *pub, int code)
{
	(void)instance;
	((struct call *)pub->state)->code = code;
}

static void closed(struct sn_driver_task *task)
{
	struct store *s = (struct store *)(void *)((char *)task -
			offsetof(struct store, close_task));

	s->done(s->arg);
}

static void memory_close(void *instance, void (*done)(void *arg), void *arg)
{
	struct store *s = instance;

	s->closing = 1;
	s->done = done;
	s->arg = arg;
	s->close_task.fn = closed;
	for (struct call *c = s->calls; c != NULL; c = c->next)
		c->code = SN_E_CLOSED;
	close_check(s);
}

static void memory_finish(void *instance)
{
	struct store *s = instance;

	while (s->entries != NULL)
		drop(&s->entries);
}

static const struct sn_driver_operation operations[] = {
		{"Get", SN_DRIVER_SAFE, GET},
		{"Put", SN_DRIVER_IDEMPOTENT, PUT},
		{"Drop", SN_DRIVER_IDEMPOTENT, DROP},
		{"Count", SN_DRIVER_SAFE, COUNT},
		{NULL, SN_DRIVER_SAFE, 0},
};

static const struct sn_driver_calls calls = {
		.size = sizeof(calls),
		.operations = operations,
		.state_size = sizeof(struct call),
		.start = memory_start,
		.cancel = memory_cancel,
};

struct options {
	int64_t limit;
};
static const struct sn_option options[] = {
		{.name = "limit",
				.kind = SN_OPTION_INT,
				.offset = offsetof(struct options, limit),
				.def = "1000",
				.min = 1,
				.max = 1000000,
				.unit = "entries",
				.help = "Entries that are kept at most."},
		{0},
};

#ifndef MODULE_ABI
#define MODULE_ABI SN_DRIVER_ABI
#endif
#ifndef MODULE_SIZE
#define MODULE_SIZE sizeof(struct sn_driver)
#endif
#ifndef MODULE_NAME
#define MODULE_NAME "memory"
#endif
#ifndef MODULE_SYMBOL
#define MODULE_SYMBOL sn_driver_database_memory
#endif
#ifndef MODULE_FINISH
#define MODULE_FINISH memory_finish
#endif

SN_API extern const struct sn_driver MODULE_SYMBOL;
const struct sn_driver MODULE_SYMBOL = {
		.abi = MODULE_ABI,
		.size = MODULE_SIZE,
		.name = MODULE_NAME,
		.topic = SN_TOPIC_DATABASE,
		.summary = "Texts in memory, for tests",
		.options = options,
		.options_size = sizeof(struct options),
		.state_size = sizeof(struct store),
		.open = memory_open,
		.close = memory_close,
		.finish = MODULE_FINISH,
		.calls = &calls,
};
