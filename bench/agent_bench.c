/* SPDX-License-Identifier: Apache-2.0 */
/* A full message of 100,000 peers over the wire, from an agent in another thread: how long a turn of
 * the connector's loop gets while it is received, read and published. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/mem.h"
#include "dialect/berlioz/link.h"
#include "dialect/berlioz/metadata.h"
#include "io/http_server.h"
#include "io/ws.h"

#define TARGETS 1000u
#define EACH 100u
#define ROUNDS 9

/* ---- the agent ---- */

struct agent {
	struct sn_loop *loop;
	struct sn_http_server *http;
	struct sn_ws *ws;
	struct sn_addr addr;
	struct sn_str text;
	struct sn_task stop;
	pthread_t thread;
};

static void must(bool right, const char *what)
{
	if (right)
		return;
	(void)fprintf(stderr, "agent_bench: %s\n", what);
	abort();
}

static void on_agent_message(struct sn_ws *ws, bool text, struct sn_str data, void *arg)
{
}

static void on_agent_close(struct sn_ws *ws, const struct sn_error *err, void *arg)
{
	((struct agent *)arg)->ws = NULL;
}

static const struct sn_ws_ops agent_ops = {
		.on_message = on_agent_message, .on_close = on_agent_close};

static void on_request(struct sn_exchange *x, void *arg)
{
	struct agent *a = arg;
	struct sn_error err;

	must(sn__ws_accept(x, NULL, &agent_ops, a, &a->ws, &err) == 0, "accept");
	must(sn__ws_send(a->ws, true, a->text) == 0, "send");
}

static void *agent_thread(void *arg)
{
	struct agent *a = arg;

	sn__loop_adopt(a->loop);
	(void)sn__loop_run(a->loop, SN_RUN_DEFAULT);
	return NULL;
}

static void http_closed(void *arg)
{
	sn__loop_stop(((struct agent *)arg)->loop);
}

static void agent_stop(struct sn_task *task)
{
	struct agent *a = SN_CONTAINER_OF(task, struct agent, stop);

	sn__ws_abort(a->ws);
	sn__http_server_close(a->http, 0, http_closed, a);
}

static void message(struct sn_buf *b)
{
	sn__buf_init(b, (size_t)64 << 20);
	must(sn__buf_puts(b, "{\"peers\":{") == 0, "memory");
	for (unsigned t = 0; t < TARGETS; t++) {
		must(sn__buf_printf(b, "%s\"service://shop-core-s%u-rest\":{", t > 0 ? "," : "",
				     t) == 0,
				"memory");
		for (unsigned i = 0; i < EACH; i++)
			must(sn__buf_printf(b,
					     "%s\"%u\":{\"protocol\":\"http\",\"networkProtocol\":"
					     "\"tcp\",\"port\":%u,\"address\":\"10.0.%u.%u\"}",
					     i > 0 ? "," : "", i + 1, 7000 + i, t & 255, i) == 0,
					"memory");
		must(sn__buf_puts(b, "}") == 0, "memory");
	}
	must(sn__buf_puts(b, "}}") == 0, "memory");
}

/* ---- the connector ---- */

struct connector {
	struct sn_loop *loop;
	struct sn_own_place place;
	struct sn_catalog *cat;
	struct sn_metadata *md;
	struct sn_link *link;
	struct sn_hook hook;
	uint64_t longest_ns;
	long preempted;
	bool done, closed;
};

static const char *own_place(const char *name, void *arg)
{
	return strcmp(name, "BERLIOZ_CLUSTER") == 0           ? "shop"
			: strcmp(name, "BERLIOZ_SECTOR") == 0 ? "core"
							      : NULL;
}

/* A turn during which the kernel gave the processor to somebody else says nothing about us. */
static void turn_ended(struct sn_hook *hook)
{
	struct connector *c = SN_CONTAINER_OF(hook, struct connector, hook);
	uint64_t ns = sn__loop_clock_ns(c->loop) - sn__loop_now_ns(c->loop);
	struct rusage usage;

	must(getrusage(RUSAGE_THREAD, &usage) == 0, "getrusage");
	if (usage.ru_nivcsw == c->preempted)
		c->longest_ns = SN_MAX(c->longest_ns, ns);
	c->preempted = usage.ru_nivcsw;
}

static void applied(struct sn_metadata *md, uint32_t changes, void *arg)
{
	struct connector *c = arg;

	must(changes == TARGETS, "changes");
	c->done = true;
}

static void link_message(struct sn_str text, void *arg)
{
	struct connector *c = arg;

	must(sn__metadata_message_take(c->md, sn__link_take_message(c->link), text.len) == 0,
			"message"); /* as berlioz.c does */
}

static void link_log(enum sn_log_level level, const char *line, void *arg)
{
}

static void link_closed(void *arg)
{
	((struct connector *)arg)->closed = true;
}

static double one_round(const struct agent *a, double *ret_ms)
{
	struct connector c = {NULL};
	struct sn_metadata_options opts = {.applied = applied, .arg = &c};
	struct sn_link_options link = {.message = link_message, .log = link_log, .arg = &c};
	uint64_t begin;
	char url[64];

	(void)snprintf(url, sizeof(url), "ws://127.0.0.1:%u/task", sn__addr_port(&a->addr));
	must(sn__loop_uv_open(NULL, &c.loop, NULL) == 0, "loop");
	must(sn__place_init(&c.place, own_place, NULL) == 0, "place");
	must(sn__catalog_create(c.loop, sn__berlioz_paths, &c.place, &c.cat) == 0, "catalog");
	opts.loop = link.loop = c.loop;
	opts.catalog = c.cat;
	link.url = url;
	must(sn__metadata_create(&opts, &c.md) == 0, "metadata");
	must(sn__link_create(&link, &c.link, NULL) == 0, "link");
	sn__loop_hook_add(c.loop, &c.hook, turn_ended);
	begin = sn__clock_mono_ns();
	while (!c.done)
		(void)sn__loop_run(c.loop, SN_RUN_ONCE);
	*ret_ms = (double)(sn__clock_mono_ns() - begin) / 1e6;
	sn__loop_hook_remove(c.loop, &c.hook);
	sn__link_close(c.link, link_closed, &c);
	while (!c.closed)
		(void)sn__loop_run(c.loop, SN_RUN_ONCE);
	sn__link_destroy(c.link);
	sn__metadata_destroy(c.md);
	sn__catalog_destroy(c.cat);
	sn__loop_close(c.loop, NULL, NULL);
	sn__place_finish(&c.place);
	return (double)c.longest_ns / 1e6;
}

int main(void)
{
	struct sn_http_server_config config = {0};
	double longest = 0, all = 1e9;
	struct agent a = {NULL};
	struct sn_buf text;

	message(&text);
	a.text = sn__buf_str(&text);
	must(sn__addr_parse_listen(SN_STR("127.0.0.1:0"), &config.addr, NULL) == 0, "address");
	must(sn__loop_uv_open(NULL, &a.loop, NULL) == 0, "loop");
	must(sn__http_server_open(a.loop, &config, on_request, &a, &a.http, NULL) == 0, "server");
	a.addr = *sn__http_server_addr(a.http);
	must(pthread_create(&a.thread, NULL, agent_thread, &a) == 0, "thread");
	for (int i = 0; i < ROUNDS; i++) {
		double ms, turn = one_round(&a, &ms);

		longest = SN_MAX(longest, turn);
		all = SN_MIN(all, ms);
	}
	printf("{\"name\":\"agent: %zu bytes, connected to applied\",\"value\":%.2f,\"unit\":\"ms\","
	       "\"want\":\"\"}\n",
			a.text.len, all);
	printf("{\"name\":\"agent: longest turn meanwhile\",\"value\":%.3f,\"unit\":\"ms\","
	       "\"want\":\"<= 1\"}\n",
			longest);
	sn__loop_post(a.loop, &a.stop, agent_stop);
	must(pthread_join(a.thread, NULL) == 0, "join");
	sn__loop_adopt(a.loop);
	sn__loop_close(a.loop, NULL, NULL);
	sn__buf_finish(&text);
	return 0;
}
