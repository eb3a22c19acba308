/* SPDX-License-Identifier: Apache-2.0 */
/* The stores of the hub in memory and in a file: registrations a second, and the time from opening to
 * the first answer with everything in it. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "connect/driver.h"
#include "hub/store.h"

#define NODES 100000u
#define AT_ONCE 1000u

struct slot {
	struct sn_hub_op op; /* first */
	char key[32];
};

static const char value[] =
		"{\"id\":\"node\",\"address\":\"192.168.1.20:5102\",\"protocol\":\"1\",\"owner\":\"h\"}";
static struct sn_connect_host host;
static struct sn_hub_store *store;
static unsigned begun, ended, entries;
static char path[64];

static void must(bool right, const char *what)
{
	if (right)
		return;
	(void)fprintf(stderr, "hub_store_bench: %s\n", what);
	abort();
}

static void report(const char *engine, const char *what, double v, const char *unit)
{
	printf("{\"name\":\"hub store %s: %s\",\"value\":%.1f,\"unit\":\"%s\",\"want\":\"\"}\n",
			engine, what, v, unit);
	(void)fflush(stdout);
}

static void put(struct slot *s);

static void on_put(struct sn_hub_op *op, int code)
{
	must(code == 0, sn_error_text(&op->err));
	ended++;
	if (begun < NODES)
		put((struct slot *)op);
}

static void put(struct slot *s)
{
	(void)snprintf(s->key, sizeof s->key, "/nodes/node-%06u", begun++);
	s->op = (struct sn_hub_op){.kind = SN_HUB_PUT,
			.key = sn_str_from(s->key),
			.value = sn_str_from(value),
			.if_revision = 0,
			.done = on_put};
	sn_hub_submit(store, &s->op);
}

static void on_entry(struct sn_hub_op *op, const struct sn_hub_entry *e)
{
	entries++;
}

static void on_range(struct sn_hub_op *op, int code)
{
	must(code == 0, sn_error_text(&op->err));
	ended++;
}

static void on_closed(void *arg)
{
	*(bool *)arg = true;
}

static void shut(void)
{
	bool closed = false;

	store->ops->close(store, on_closed, &closed);
	while (!closed)
		(void)sn__loop_run(host.loop, SN_RUN_ONCE);
}

static void open_store(const char *engine)
{
	struct sn_error err;

	if (strcmp(engine, "memory") == 0)
		must(sn__hub_memory_open(host.loop, &store) == 0, "open");
	else
		must(sn__hub_sqlite_open(&host, path, &store, &err) == 0, "open");
}

static double seconds_since(uint64_t start_ns)
{
	return (double)(sn__clock_mono_ns() - start_ns) / 1e9;
}

static void range_all(void)
{
	struct sn_hub_op op = {.kind = SN_HUB_RANGE,
			.key = SN_STR("/nodes/"),
			.entry = on_entry,
			.done = on_range};

	entries = ended = 0;
	sn_hub_submit(store, &op);
	while (ended == 0)
		(void)sn__loop_run(host.loop, SN_RUN_ONCE);
	must(entries == NODES, "entries");
}

static void measure(const char *engine)
{
	struct slot *slots = calloc(AT_ONCE, sizeof *slots);
	struct stat st;
	uint64_t start;

	open_store(engine);
	begun = ended = 0;
	start = sn__clock_mono_ns();
	for (unsigned i = 0; i < AT_ONCE; i++)
		put(&slots[i]);
	while (ended < NODES)
		(void)sn__loop_run(host.loop, SN_RUN_ONCE);
	report(engine, "registrations, 1000 at once", NODES / seconds_since(start), "1/s");
	free(slots);
	if (strcmp(engine, "memory") != 0) {
		shut();
		must(stat(path, &st) == 0, "stat");
		report(engine, "bytes a node in the file", (double)st.st_size / NODES, "bytes");
		start = sn__clock_mono_ns();
		open_store(engine);
		range_all();
		report(engine, "opened, to the whole of 100,000 nodes", seconds_since(start) * 1e3,
				"ms");
	}
	shut();
}

int main(void)
{
	char folder[] = "./hub-store-XXXXXX", command[64];
	struct sn_error err;

	must(mkdtemp(folder) != NULL, "no folder");
	(void)snprintf(path, sizeof path, "%s/hub.db", folder);
	must(sn__loop_uv_open(NULL, &host.loop, &err) == 0, "loop");
	measure("memory");
	measure("sqlite");
	sn__loop_close(host.loop, NULL, NULL);
	(void)snprintf(command, sizeof command, "rm -r %s", folder);
	must(system(command) == 0, "rm");
	return 0;
}
