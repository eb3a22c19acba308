/* SPDX-License-Identifier: Apache-2.0 */
/* The parts that everything stands on: map, read sections, YAML, JSON. */
#include <stdio.h>

#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rcu.h"
#include "base/time.h"
#include "base/yaml.h"

static void print(const char *name, double value, const char *unit)
{
	(void)printf("{\"name\": \"base/%s\", \"value\": %.1f, \"unit\": \"%s\"}\n", name, value,
			unit);
}

static void bench_map(void)
{
	enum { N = 100000, ROUNDS = 20 };
	static char names[N][40];
	struct sn_map m;
	uint64_t begin;
	size_t found = 0;

	sn__map_init(&m);
	begin = sn__clock_mono_ns();
	for (int i = 0; i < N; i++) {
		(void)snprintf(names[i], sizeof names[i], "service://shop-core-basket%d-rest", i);
		if (sn__map_add(&m, sn_str_from(names[i]), names[i]) < 0)
			return;
	}
	print("map-add", (double)(sn__clock_mono_ns() - begin) / N, "ns");
	begin = sn__clock_mono_ns();
	for (int k = 0; k < ROUNDS; k++) {
		for (int i = 0; i < 1000; i++)
			found += sn__map_get(&m, sn_str_from(names[i])) != NULL;
	}
	print("map-get-1000-hot", (double)(sn__clock_mono_ns() - begin) / (ROUNDS * 1000.0), "ns");
	begin = sn__clock_mono_ns();
	for (int i = 0; i < N; i++)
		found += sn__map_get(&m, sn_str_from(names[(size_t)i * 7919 % N])) != NULL;
	print("map-get-100000", (double)(sn__clock_mono_ns() - begin) / N, "ns");
	if (found != N + ROUNDS * 1000)
		print("map-wrong", (double)found, "entries");
	sn__map_finish(&m);
}

static void bench_rcu(void)
{
	enum { N = 20000000, SYNCS = 100000 };
	uint64_t begin;

	sn__rcu_init();
	sn_rcu_read_lock();
	sn_rcu_read_unlock();
	begin = sn__clock_mono_ns();
	for (int i = 0; i < N; i++) {
		sn_rcu_read_lock();
		sn_rcu_read_unlock();
	}
	print("rcu-section", (double)(sn__clock_mono_ns() - begin) / N, "ns");
	begin = sn__clock_mono_ns();
	for (int i = 0; i < SYNCS; i++)
		(void)sn__rcu_synchronize();
	print("rcu-synchronize-idle", (double)(sn__clock_mono_ns() - begin) / SYNCS, "ns");
}

/* 100,000 peers, as YAML and as JSON. */
static int make_text(struct sn_buf *b, bool yaml)
{
	int r = sn__buf_puts(b, yaml ? "" : "{");

	for (int i = 0; r == 0 && i < 100000; i++) {
		if (yaml)
			r = sn__buf_printf(b,
					"p%d: {protocol: http, port: %d, address: 10.0.0.1}\n", i,
					i);
		else
			r = sn__buf_printf(b,
					"%s\"p%d\":{\"protocol\":\"http\",\"port\":%d,"
					"\"address\":\"10.0.0.1\"}",
					i > 0 ? "," : "", i, i);
	}
	return r < 0 ? r : sn__buf_puts(b, yaml ? "" : "}");
}

static double ms_since(uint64_t begin)
{
	return (double)(sn__clock_mono_ns() - begin) / 1e6;
}

static void bench_text(void)
{
	struct sn_buf b;
	struct sn_yaml yaml;
	json_t *json = NULL, *again = NULL;
	uint64_t begin;
	bool same;

	sn__buf_init(&b, 64 << 20);
	if (make_text(&b, true) < 0)
		return;
	begin = sn__clock_mono_ns();
	if (sn__yaml_parse(&yaml, NULL, sn__buf_str(&b), NULL) < 0)
		return;
	print("yaml-100000-peers", ms_since(begin), "ms");
	print("yaml-tree-bytes-a-peer", (double)yaml.arena.used / 1e5, "bytes");
	begin = sn__clock_mono_ns();
	if (sn__yaml_to_json(yaml.root, &json, NULL) < 0)
		return;
	print("yaml-to-json", ms_since(begin), "ms");
	sn__yaml_finish(&yaml);
	sn__buf_clear(&b);
	if (make_text(&b, false) < 0)
		return;
	begin = sn__clock_mono_ns();
	if (sn__json_parse(sn__buf_str(&b), 64 << 20, &again, NULL) < 0)
		return;
	print("json-parse", ms_since(begin), "ms");
	begin = sn__clock_mono_ns();
	same = sn__json_equal(json, again);
	print(same ? "json-equal" : "json-wrong", ms_since(begin), "ms");
	sn__buf_clear(&b);
	begin = sn__clock_mono_ns();
	if (sn__json_dump(json, &b) == 0)
		print("json-dump", ms_since(begin), "ms");
	json_decref(json);
	json_decref(again);
	sn__buf_finish(&b);
}

int main(void)
{
	bench_map();
	bench_rcu();
	bench_text();
	return 0;
}
