/* SPDX-License-Identifier: Apache-2.0 */
/* Instances by DNS on the simulated world: what name servers say is a table that changes. */
#include "base/buf.h"
#include "hub/source_test.h"
#include "proto/dns.h"

#define RECORDS_MAX 4

struct entry {
	const char *name;
	unsigned type;
	int status;                       /* SN_E_RESOLVE, SN_E_TIMEOUT */
	unsigned ttl;                     /* of the records, or of nothing */
	const char *records[RECORDS_MAX]; /* bytes of each; their length is by type */
	const char *targets[RECORDS_MAX]; /* SRV: behind them */
};

struct zone {
	struct entry entries[8];
	unsigned n_asked;
	bool malformed;
};

static void put_name(struct sn_buf *out, const char *name)
{
	while (*name != '\0') {
		size_t n = strcspn(name, ".");

		assert_int_equal(sn__buf_printf(out, "%c%.*s", (int)n, (int)n, name), 0);
		name += n + (name[n] == '.');
	}
	assert_int_equal(sn__buf_append(out, "", 1), 0);
}

static void put_record(struct sn_buf *out, const struct entry *e, unsigned i)
{
	const unsigned char head[] = {0xc0, 12, 0, (unsigned char)e->type, 0, 1, 0, 0,
			(unsigned char)(e->ttl >> 8), (unsigned char)e->ttl};
	size_t n = e->type == SN_DNS_A ? 4 : e->type == SN_DNS_AAAA ? 16 : 6;
	struct sn_buf data;

	sn__buf_init(&data, 600);
	assert_int_equal(sn__buf_append(&data, e->records[i], n), 0);
	if (e->type == SN_DNS_SRV)
		put_name(&data, e->targets[i]);
	assert_int_equal(sn__buf_append(out, head, sizeof head), 0);
	assert_int_equal(sn__buf_append(out, (char[]){0, (char)data.len}, 2), 0);
	assert_int_equal(sn__buf_append_str(out, sn__buf_str(&data)), 0);
	sn__buf_finish(&data);
}

static int answer(void *arg, const char *name, unsigned type, struct sn_buf *out)
{
	static const char soa[] = "\0\0\6\0\1\0\0\xff\xff\0\x16\0\0" /* names, then 16 bytes */
				  "\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0";
	struct zone *z = arg;
	const struct entry *found = NULL;
	unsigned n = 0;
	bool exists = false;
	char head[12] = {0, 0, (char)0x81, (char)0x80, 0, 1};

	z->n_asked++;
	for (unsigned i = 0; i < SN_COUNT(z->entries) && z->entries[i].name != NULL; i++) {
		bool same = sn__str_ieq(sn_str_from(z->entries[i].name), sn_str_from(name));

		exists = exists || same;
		if (same && z->entries[i].type == type)
			found = &z->entries[i];
	}
	if (found != NULL && found->status != 0)
		return found->status;
	while (found != NULL && n < RECORDS_MAX && found->records[n] != NULL)
		n++;
	if (!exists)
		head[3] = (char)0x83;
	head[7] = (char)n;
	head[9] = n == 0;
	sn__mem_fail_nth(0); /* the world's own memory does not run out */
	assert_int_equal(sn__buf_append(out, head, sizeof head), 0);
	put_name(out, name);
	assert_int_equal(sn__buf_append(out, (char[]){0, (char)type, 0, 1}, 4), 0);
	for (unsigned i = 0; i < n; i++)
		put_record(out, found, i);
	if (n == 0) { /* for so long */
		unsigned ttl = found != NULL ? found->ttl : 7;

		assert_int_equal(sn__buf_append(out, soa, sizeof soa - 1), 0);
		assert_int_equal(sn__buf_append(out, (char[]){(char)(ttl >> 8), (char)ttl}, 2), 0);
	}
	if (z->malformed)
		sn__buf_truncate(out, out->len - 1);
	return 0;
}

static struct sn_hub_source *open_source(struct world *w, struct heard *h, const char *text)
{
	struct sn_hub_source_events events = heard_events(h);
	struct sn_hub_source_url url;
	struct sn_hub_source *src;

	assert_int_equal(sn__hub_source_parse(sn_str_from(text), &url, NULL), 0);
	assert_int_equal(sn__hub_dns_open(w->a, &url, &events, &src), 0);
	assert_int_equal(h->n_lists + h->n_states, 0);
	return src;
}

static void run_ms(struct world *w, uint64_t ms)
{
	(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + sn_ms_to_ns(ms));
}

static void addresses(void **state)
{
	struct world *w = *state;
	struct heard h = {.n_lists = 0};
	struct zone z = {.entries = {{"web.example", SN_DNS_A, 0, 20, {"\x0a\0\0\2", "\x0a\0\0\1"},
						     {0}},
					 {"web.example", SN_DNS_AAAA, 0, 100,
							 {"\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"},
							 {0}}}};
	struct sn_hub_source *src;

	sn__sim_dns(w->sim, answer, &z);
	src = open_source(w, &h, "dns://web.example.:80");
	run_ms(w, 500);
	assert_string_equal(h.list,
			"10.0.0.1:80=10.0.0.1:80 10.0.0.2:80=10.0.0.2:80 "
			"[2001:db8::1]:80=2001:db8::1:80 ");
	assert_int_equal(z.n_asked, 2);
	/* not before the least TTL, and soon after it */
	run_ms(w, 19000);
	assert_int_equal(z.n_asked, 2);
	z.entries[0].records[1] = NULL;
	run_ms(w, 3000);
	assert_int_equal(z.n_asked, 4);
	assert_string_equal(h.list, "10.0.0.2:80=10.0.0.2:80 [2001:db8::1]:80=2001:db8::1:80 ");
	assert_int_equal(h.n_lists, 2);
	/* the same again is told to nobody */
	run_ms(w, 60000);
	assert_int_equal(h.n_lists, 2);
	/* TTLs out of bounds */
	z.entries[0].ttl = z.entries[1].ttl = 65000;
	run_ms(w, 25000);
	z.n_asked = 0;
	run_ms(w, SN_HUB_DNS_MAX_MS + SN_HUB_DNS_MAX_MS / 10);
	assert_in_range(z.n_asked, 2, 4);
	z.entries[0].ttl = 0;
	run_ms(w, SN_HUB_DNS_MAX_MS + SN_HUB_DNS_MAX_MS / 10);
	z.n_asked = 0;
	run_ms(w, 10 * SN_HUB_DNS_MIN_MS);
	assert_in_range(z.n_asked, 2 * 8, 2 * 10);
	assert_int_equal(h.n_states, 0);
	sn_hub_source_close(src);
}

/* "There is none" empties, everything else keeps. */
static void nothing_and_failure(void **state)
{
	struct world *w = *state;
	struct heard h = {.n_lists = 0};
	struct zone z = {.entries = {{"web.example", SN_DNS_A, 0, 1, {"\x0a\0\0\1"}, {0}}}};
	struct sn_hub_source *src;

	sn__sim_dns(w->sim, answer, &z);
	src = open_source(w, &h, "dns://web.example:80");
	run_ms(w, 500);
	assert_string_equal(h.list, "10.0.0.1:80=10.0.0.1:80 ");
	z.entries[0].status = SN_E_RESOLVE;
	run_ms(w, 3000);
	assert_string_equal(h.state, "A of web.example: the table says so");
	z.entries[0].status = SN_E_TIMEOUT;
	run_ms(w, 60000);
	assert_int_equal(h.n_states, 1);
	assert_int_equal(h.n_lists, 1);
	z.entries[0].status = 0;
	z.malformed = true;
	run_ms(w, 40000);
	assert_int_equal(h.n_states, 1);
	z.malformed = false;
	run_ms(w, 40000);
	assert_int_equal(h.n_states, 2);
	assert_string_equal(h.state, "");
	assert_int_equal(h.n_lists, 1);
	z.entries[0].records[0] = NULL; /* no data */
	run_ms(w, 3000);
	assert_int_equal(h.n_lists, 2);
	assert_string_equal(h.list, "");
	z.entries[0].records[0] = "\x0a\0\0\3";
	run_ms(w, 12000);
	assert_string_equal(h.list, "10.0.0.3:80=10.0.0.3:80 ");
	z.entries[0].name = "other.example"; /* no such name */
	run_ms(w, 12000);
	assert_string_equal(h.list, "");
	assert_int_equal(h.n_states, 2);
	sn_hub_source_close(src);
}

/* One family fails: what the other says counts, and a "none" of one is not "none". */
static void half_an_answer(void **state)
{
	struct world *w = *state;
	struct heard h = {.n_lists = 0};
	struct zone z = {.entries = {{"web.example", SN_DNS_A, SN_E_RESOLVE, 1, {"\x0a\0\0\1"},
					 {0}}}};
	struct sn_hub_source *src;

	sn__sim_dns(w->sim, answer, &z);
	src = open_source(w, &h, "dns://web.example:80");
	run_ms(w, 10000);
	assert_int_equal(h.n_lists, 0);
	assert_int_equal(h.n_states, 1);
	z.entries[1] = (struct entry){"web.example", SN_DNS_AAAA, 0, 1,
			{"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"}, {0}};
	run_ms(w, 40000);
	assert_string_equal(h.list, "[::1]:80=::1:80 ");
	z.entries[0].status = 0;
	z.entries[1].status = SN_E_TIMEOUT;
	run_ms(w, 50000);
	assert_string_equal(h.list, "10.0.0.1:80=10.0.0.1:80 [::1]:80=::1:80 ");
	assert_int_equal(h.n_states, 1);
	sn_hub_source_close(src);
}

static void services(void **state)
{
	struct world *w = *state;
	struct heard h = {.n_lists = 0};
	struct zone z = {.entries = {{"_h._tcp.example", SN_DNS_SRV, 0, 5,
						     {"\0\1\0\5\0\x50", "\0\1\0\0\0\x51",
								     "\0\2\0\1\0\x52"},
						     {"a.example", "b.example", "c.example"}},
					 {"a.example", SN_DNS_A, 0, 60,
							 {"\x0a\0\0\1", "\x0a\0\0\2"}, {0}},
					 {"b.example", SN_DNS_A, 0, 60, {"\x0a\0\0\3"}, {0}},
					 {"c.example", SN_DNS_A, 0, 60, {"\x0a\0\0\4"}, {0}}}};
	struct entry *srv = &z.entries[0];
	struct sn_hub_source *src;

	sn__sim_dns(w->sim, answer, &z);
	src = open_source(w, &h, "srv://_h._tcp.example");
	run_ms(w, 1000);
	assert_string_equal(h.list,
			"10.0.0.1:80=10.0.0.1:80*5 10.0.0.2:80=10.0.0.2:80*5 "
			"10.0.0.3:81=10.0.0.3:81*0 ");
	/* the next group, when the first has gone */
	srv->records[0] = srv->records[1] = srv->records[2];
	srv->targets[0] = "C.example";
	srv->targets[1] = "c.example";
	srv->records[2] = NULL;
	run_ms(w, 8000);
	assert_string_equal(h.list, "10.0.0.4:82=10.0.0.4:82*1 ");
	/* hosts that cannot be found out about: others count, and those that were known */
	srv->records[0] = "\0\1\0\1\0\x50";
	srv->targets[0] = "a.example";
	srv->records[1] = "\0\1\0\1\0\x52";
	z.entries[1].status = z.entries[3].status = SN_E_RESOLVE;
	run_ms(w, 8000);
	assert_string_equal(h.list, "10.0.0.4:82=10.0.0.4:82*1 ");
	assert_non_null(strstr(h.state, ".example: the table says so"));
	/* the service cannot be asked for */
	z.entries[1].status = z.entries[3].status = 0;
	srv->status = SN_E_RESOLVE;
	run_ms(w, 40000);
	assert_string_equal(h.list, "10.0.0.4:82=10.0.0.4:82*1 ");
	srv->status = 0;
	run_ms(w, 40000);
	assert_string_equal(h.state, "");
	assert_string_equal(h.list,
			"10.0.0.1:80=10.0.0.1:80*1 10.0.0.2:80=10.0.0.2:80*1 10.0.0.4:82=10.0.0.4:82*1 ");
	/* the root: decidedly not */
	srv->records[1] = NULL;
	srv->targets[0] = "";
	run_ms(w, 8000);
	assert_string_equal(h.list, "");
	sn_hub_source_close(src);
}

/* A service with many hosts, of which each has many addresses. */
struct many {
	unsigned hosts, addresses;
	size_t told;
	struct heard h;
};

static int answer_many(void *arg, const char *name, unsigned type, struct sn_buf *out)
{
	const struct many *m = arg;
	unsigned n = name[0] == '_' ? m->hosts : type == SN_DNS_A ? m->addresses : 0;
	const char head[] = {0, 0, (char)0x81, (char)0x80, 0, 1, (char)(n >> 8), (char)n, 0, 0, 0,
			0, 0, 0, (char)type, 0, 1};

	assert_int_equal(sn__buf_append(out, head, sizeof head), 0);
	for (unsigned i = 0; i < n; i++) {
		const char record[] = {0, 0, (char)type, 0, 1, 0, 0, 0, 5, 0};
		const char host = (char)((name[0] - 'a') * 26 + name[1] - 'a');
		const char address[] = {4, 10, host, (char)(i >> 8), (char)i};
		const char service[] = {10, 0, 1, 0, 0, 0, 80, 2, (char)('a' + i / 26),
				(char)('a' + i % 26), 0};

		assert_int_equal(sn__buf_append(out, record, sizeof record), 0);
		assert_int_equal(name[0] == '_' ? sn__buf_append(out, service, sizeof service)
						: sn__buf_append(out, address, sizeof address),
				0);
	}
	return 0;
}

static void many_changed(void *arg, const struct sn_hub_instance *list, size_t n)
{
	for (size_t i = 1; i < n; i++)
		assert_true(strcmp(list[i - 1].name, list[i].name) < 0);
	SN_CONTAINER_OF(arg, struct many, h)->told = n;
}

/* What is over a limit is left out, and that is told. */
static void limits(void **state)
{
	struct world *w = *state;
	struct many m = {.hosts = 3, .addresses = 4000};
	struct sn_hub_source_events events = heard_events(&m.h);
	struct sn_hub_source_url url;
	struct sn_hub_source *src;

	sn__sim_dns(w->sim, answer_many, &m);
	assert_int_equal(sn__hub_source_parse(SN_STR("srv://_a._tcp.x"), &url, NULL), 0);
	events.changed = many_changed;
	assert_int_equal(sn__hub_dns_open(w->a, &url, &events, &src), 0);
	run_ms(w, 1000);
	assert_int_equal(m.told, SN_HUB_SOURCE_INSTANCES_MAX);
	assert_string_equal(m.h.state, "12000 instances, of which 10000 are served");
	m.hosts = 2;
	run_ms(w, 7000);
	assert_int_equal(m.told, 8000);
	assert_string_equal(m.h.state, "");
	m.hosts = SN_HUB_DNS_TARGETS_MAX + 1;
	m.addresses = 2;
	run_ms(w, 7000);
	assert_int_equal(m.told, 2 * SN_HUB_DNS_TARGETS_MAX);
	assert_string_equal(m.h.state, "more than 64 hosts: the others are left out");
	m.hosts--;
	run_ms(w, 7000);
	assert_int_equal(m.told, 2 * SN_HUB_DNS_TARGETS_MAX);
	assert_string_equal(m.h.state, "");
	assert_int_equal(m.h.n_states, 4);
	sn_hub_source_close(src);
}

static void closed(void **state)
{
	struct world *w = *state;
	struct heard h = {.n_lists = 0};
	struct zone z = {.entries = {{"_h._tcp.example", SN_DNS_SRV, 0, 1, {"\0\1\0\5\0\x50"},
						     {"a.example"}},
					 {"a.example", SN_DNS_A, 0, 60, {"\x0a\0\0\1"}, {0}}}};
	struct sn_hub_source *src;

	sn__sim_dns(w->sim, answer, &z);
	h.close_me = open_source(w, &h, "srv://_h._tcp.example");
	run_ms(w, 5000);
	assert_int_equal(h.n_lists, 1);
	/* at any moment of a round */
	for (uint64_t ms = 0; ms < 90; ms += 3) {
		h = (struct heard){.n_lists = 0};
		src = open_source(w, &h, "srv://_h._tcp.example");
		run_ms(w, ms);
		sn_hub_source_close(src);
	}
}

static void out_of_memory(void **state)
{
	struct world *w = *state;
	struct sn_hub_source_url url;
	bool failed = true;

	assert_int_equal(sn__hub_source_parse(SN_STR("srv://_h._tcp.example"), &url, NULL), 0);
	for (uint64_t nth = 1; failed; nth++) {
		struct heard h = {.n_lists = 0};
		struct sn_hub_source_events events = heard_events(&h);
		struct zone z = {.entries = {{"_h._tcp.example", SN_DNS_SRV, 0, 1,
							     {"\0\1\0\5\0\x50"}, {"a.example"}},
						 {"a.example", SN_DNS_A, 0, 60, {"\x0a\0\0\1"},
								 {0}}}};
		struct sn_hub_source *src = NULL;
		int r;

		sn__sim_dns(w->sim, answer, &z);
		sn__mem_fail_nth(nth);
		r = sn__hub_dns_open(w->a, &url, &events, &src);
		if (r == 0)
			run_ms(w, 4000);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_true(r == 0 || r == SN_E_NOMEM);
		if (r < 0)
			continue;
		run_ms(w, 10000);
		assert_string_equal(h.list, "10.0.0.1:80=10.0.0.1:80*5 ");
		assert_string_equal(h.state, "");
		sn_hub_source_close(src);
	}
}

static void written(void **state)
{
	static const struct {
		const char *text, *error; /* a part of it; NULL: none */
	} v[] = {
			{"dns://web.example:80", NULL},
			{"dns://web.example.:65535", NULL},
			{"srv://_http._tcp.web.example", NULL},
			{"k8s://shop/web", NULL},
			{"k8s://shop/web:http-2", NULL},
			{"http://web.example", "expected dns://NAME:PORT, srv://"},
			{"", "expected dns://NAME:PORT, srv://"},
			{"dns://web.example",
					"expected dns://NAME:PORT, found `dns://web.example`"},
			{"dns://web.example:0", "expected a port from 1 to 65535"},
			{"dns://web.example:65536", "expected a port"},
			{"dns://:80", "expected a name of letters"},
			{"dns://a..b:80", "expected a name of letters"},
			{"dns://a b:80", "expected a name of letters"},
			{"dns://10.0.0.1:80", "addresses go under `instances`"},
			{"dns://[::1]:80", "addresses go under `instances`"},
			{"srv://http._tcp.web", "expected srv://_SERVICE._PROTO.NAME"},
			{"srv://_http.web", "expected srv://"},
			{"srv://_http", "expected srv://"},
			{"k8s://web", "expected k8s://NAMESPACE/SERVICE[:PORT]"},
			{"k8s://Shop/web", "lower-case"},
			{"k8s://shop/web/x", "lower-case"},
			{"k8s://shop/web:", "lower-case"},
			{"k8s:///web", "lower-case"},
			{"k8s://shop/-web", "lower-case"},
	};
	char text[400] = "dns://";
	struct sn_hub_source_url url;
	struct sn_error err;

	for (size_t i = 0; i < SN_COUNT(v); i++) {
		int r = sn__hub_source_parse(sn_str_from(v[i].text), &url, &err);

		if (r != (v[i].error != NULL ? SN_E_INVALID : 0) ||
				(r < 0 && strstr(sn_error_text(&err), v[i].error) == NULL))
			fail_msg("%s: %d %s", v[i].text, r, r < 0 ? sn_error_text(&err) : "");
	}
	assert_int_equal(sn__hub_source_parse(SN_STR("k8s://shop/web:http"), &url, NULL), 0);
	assert_string_equal(url.space, "shop");
	assert_string_equal(url.service, "web");
	assert_string_equal(url.port_name, "http");
	for (unsigned i = 0; i < 260; i++)
		text[6 + i] = i % 60 == 59 ? '.' : 'a';
	memcpy(text + 6 + 253, ":1", 3);
	assert_int_equal(sn__hub_source_parse(sn_str_from(text), &url, NULL), 0);
	memcpy(text + 6 + 254, ":1", 3);
	text[6 + 253] = 'a';
	assert_int_equal(sn__hub_source_parse(sn_str_from(text), &url, NULL), SN_E_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(written),
			cmocka_unit_test_setup_teardown(addresses, world_sim, world_close),
			cmocka_unit_test_setup_teardown(addresses, world_rough, world_close),
			cmocka_unit_test_setup_teardown(
					nothing_and_failure, world_sim, world_close),
			cmocka_unit_test_setup_teardown(half_an_answer, world_sim, world_close),
			cmocka_unit_test_setup_teardown(services, world_sim, world_close),
			cmocka_unit_test_setup_teardown(services, world_rough, world_close),
			cmocka_unit_test_setup_teardown(limits, world_sim, world_close),
			cmocka_unit_test_setup_teardown(closed, world_rough, world_close),
			cmocka_unit_test_setup_teardown(out_of_memory, world_sim, world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
