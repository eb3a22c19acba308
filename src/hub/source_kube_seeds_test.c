/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slices that change at random, an API server that fails at random and cuts its answers anywhere, a
 * network that is bad at random. Every list that is told is what there was at one moment, no list is
 * older than the one before, and in the end the list is what there is.
 */
#include "hub/source_test.h"
#include "io/http_script.h"
#include "io/seeds_test.h"

#define SLICES 4u
#define PODS 8u
#define VERSIONS 400u
#define ABSENT UINT16_MAX
#define BAD_S 60
#define GOOD_S 200

static struct {
	struct sn_sim *sim;
	struct sn_loop *client, *server;
	struct script script;
	struct sn_hub_kube *kube;
	struct sn_hub_source *src;
	struct sn_timer timer;
	uint16_t at[VERSIONS][SLICES]; /* the pods of each slice */
	unsigned version, oldest;
	unsigned told; /* the version that was told last */
	unsigned n_told;
	bool bad;
	char answer[1 << 16];
	size_t n;
	struct step step;
} w;

static unsigned below(unsigned n)
{
	return (unsigned)sn__rng_below(sn__sim_rng(w.sim), n);
}

static bool chance(unsigned of_1000)
{
	return w.bad && below(1000) < of_1000;
}

/* ---- what there is ---- */

static unsigned pods_at(unsigned version)
{
	unsigned all = 0;

	for (unsigned i = 0; i < SLICES; i++)
		all |= w.at[version][i] == ABSENT ? 0 : w.at[version][i];
	return all;
}

static void change(struct sn_timer *t)
{
	uint16_t *slice;

	if (w.version + 1 < VERSIONS && w.bad) {
		memcpy(w.at[w.version + 1], w.at[w.version], sizeof w.at[0]);
		slice = &w.at[++w.version][below(SLICES)];
		*slice = *slice != ABSENT && below(4) == 0 ? ABSENT
							   : (uint16_t)(below(1 << PODS) & ~1u);
		if (below(20) == 0)
			w.oldest = w.version;
	}
	sn__timer_start(w.server, t, sn_ms_to_ns(1 + below(1500)), change);
}

/* ---- the API server ---- */

static void put(const char *fmt, ...) SN_PRINTF(1, 2);

static void put(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	w.n += (size_t)vsnprintf(w.answer + w.n, sizeof w.answer - w.n, fmt, ap);
	va_end(ap);
	assert_true(w.n < sizeof w.answer);
}

static void put_slice(unsigned version, unsigned i, unsigned pods)
{
	bool first = true;

	put("{\"metadata\":{\"name\":\"web-%u\",\"namespace\":\"shop\",\"resourceVersion\":\"%u\"},"
	    "\"addressType\":\"IPv4\",\"ports\":[{\"name\":\"http\",\"port\":8080}],\"endpoints\":[",
			i, version);
	for (unsigned p = 0; pods != ABSENT && p < PODS; p++) {
		if ((pods >> p & 1) == 0 && p != 0)
			continue;
		/* pod 0 is never ready */
		put("%s{\"addresses\":[\"10.0.0.%u\"],\"conditions\":{\"ready\":%s},\"targetRef\":{"
		    "\"kind\":\"Pod\",\"name\":\"p%u\"}}",
				first ? "" : ",", p, p == 0 ? "false" : "true", p);
		first = false;
	}
	put("]}");
}

static void put_event(unsigned version)
{
	for (unsigned i = 0; i < SLICES; i++) {
		unsigned was = w.at[version - 1][i], is = w.at[version][i];

		if (was == is)
			continue;
		put("{\"type\":\"%s\",\"object\":",
				is == ABSENT                    ? "DELETED"
						: was == ABSENT ? "ADDED"
								: "MODIFIED");
		put_slice(version, i, is == ABSENT ? was : is);
		put("}\n");
		return;
	}
	put("{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"%u\"}}}\n",
			version);
}

static void answer_status(unsigned status)
{
	static const char body[] = "{\"kind\":\"Status\",\"message\":\"as told\"}";

	w.n = 0;
	put("HTTP/1.1 %u X\r\nContent-Length: %zu\r\n\r\n%s", status, sizeof body - 1, body);
}

static unsigned number_after(struct sn_str request, const char *key, unsigned otherwise)
{
	const char *p = memmem(request.ptr, request.len, key, strlen(key));
	unsigned n = 0;

	if (p == NULL)
		return otherwise;
	for (p += strlen(key); *p >= '0' && *p <= '9'; p++)
		n = n * 10 + (unsigned)(*p - '0');
	return n;
}

/* Pages of one or two slices, whatever was asked for; `continue` is VERSION then a digit. */
static void answer_list(struct sn_str request)
{
	unsigned token = number_after(request, "continue=", UINT32_MAX);
	unsigned version = token == UINT32_MAX ? w.version : token / 10;
	unsigned i = token == UINT32_MAX ? 0 : token % 10, end = i + 1 + below(SLICES);
	char body[8192];
	bool first = true;

	if (version < w.oldest) {
		answer_status(410);
		return;
	}
	w.n = 0;
	put("{\"items\":[");
	for (; i < SLICES && i < end; i++) {
		if (w.at[version][i] == ABSENT)
			continue;
		put("%s", first ? "" : ",");
		put_slice(version, i, w.at[version][i]);
		first = false;
	}
	put("],\"metadata\":{\"resourceVersion\":\"%u\"", version);
	if (i < SLICES)
		put(",\"continue\":\"%u\"", version * 10 + i);
	put("}}");
	assert_true(w.n < sizeof body);
	memcpy(body, w.answer, w.n + 1);
	w.n = 0;
	put("HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
}

/* What has happened since, in chunks of any size; then the end of the stream, or silence. */
static void answer_watch(struct sn_str request)
{
	unsigned since = number_after(request, "resourceVersion=", 0);
	static char lines[sizeof w.answer];
	size_t n;

	if (since < w.oldest && below(2) == 0) {
		answer_status(410);
		return;
	}
	w.n = 0;
	if (since < w.oldest || chance(30))
		put("{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":%u}}\n",
				since < w.oldest ? 410 : 500);
	for (unsigned v = since + 1; since >= w.oldest && v <= w.version; v++)
		put_event(v);
	n = w.n;
	memcpy(lines, w.answer, n + 1);
	w.n = 0;
	put("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (size_t at = 0; at < n;) {
		size_t piece = SN_MIN(n - at, (size_t)1 + below(300));

		put("%zx\r\n%.*s\r\n", piece, (int)piece, lines + at);
		at += piece;
	}
	put("0\r\n\r\n");
}

static const struct step *choose(struct script *script, struct sn_str request)
{
	static const unsigned statuses[] = {401, 403, 429, 500, 503, 504};

	if (chance(100))
		answer_status(statuses[below(SN_COUNT(statuses))]);
	else if (memmem(request.ptr, request.len, "watch=true", 10) != NULL)
		answer_watch(request);
	else
		answer_list(request);
	w.step = (struct step){.answer = w.answer, .piece = below(3) == 0 ? 1 + below(200) : 0};
	if (chance(150)) { /* cut anywhere */
		w.answer[below((unsigned)w.n)] = '\0';
		w.step.then = below(2) == 0 ? THEN_CLOSE : THEN_RESET;
	} else if (chance(20)) {
		w.answer[below((unsigned)w.n)] = '\0';
		w.step.then = THEN_STALL;
	}
	return &w.step;
}

/* ---- what is told ---- */

static void on_list(void *arg, const struct sn_hub_instance *list, size_t n)
{
	unsigned pods = 0;

	for (size_t i = 0; i < n; i++) {
		char name[16], address[16];
		unsigned p = (unsigned)(list[i].name[1] - '0');

		assert_in_range(p, 1, PODS - 1);
		(void)snprintf(name, sizeof name, "p%u.shop", p);
		(void)snprintf(address, sizeof address, "10.0.0.%u", p);
		assert_string_equal(list[i].name, name);
		assert_string_equal(list[i].address, address);
		assert_int_equal(list[i].port, 8080);
		assert_int_equal(pods >> p, 0); /* in order */
		pods |= 1u << p;
	}
	while (w.told <= w.version && pods_at(w.told) != pods)
		w.told++;
	if (w.told > w.version)
		fail_msg("there was never %x, or not any more", pods);
	w.n_told++;
}

static void on_state(void *arg, const struct sn_error *err)
{
}

static void one(uint64_t seed, bool single)
{
	struct sn_sim_options net = {.seed = seed,
			.latency_max_ns = seed % 3 == 0 ? 0 : 50 * SN_NS_PER_MS,
			.loss = 20,
			.reset = seed % 2 == 0 ? 10 : 0,
			.partial_write = 300,
			.partial_read = 300,
			.refuse = 50};
	struct sn_hub_source_events events = {.changed = on_list, .state = on_state};
	struct sn_hub_source_url url;
	struct sn_hub_kube_options opts = {.server = w.answer};
	static const struct step none = {.answer = ""};

	memset(&w, 0, sizeof w);
	memset(w.at, 0xff, sizeof w.at);
	assert_int_equal(sn__sim_create(&net, &w.sim), 0);
	assert_int_equal(sn__sim_loop(w.sim, &w.client), 0);
	assert_int_equal(sn__sim_loop(w.sim, &w.server), 0);
	script_open_at(&w.script, w.server, "127.0.0.1", 6443, &none, 1);
	w.script.choose = choose;
	w.bad = true;
	change(&w.timer);
	(void)snprintf(w.answer, sizeof w.answer, "http://127.0.0.1:6443/");
	assert_int_equal(sn__hub_source_parse(SN_STR("k8s://shop/web:http"), &url, NULL), 0);
	assert_int_equal(sn__hub_kube_create(w.client, &opts, &w.kube, NULL), 0);
	assert_int_equal(sn__hub_kube_open(w.kube, &url, &events, &w.src), 0);
	for (unsigned s = 0; s < BAD_S; s++) {
		(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_S);
		if (below(15) == 0)
			sn__sim_break(w.sim, &w.script.addr);
	}
	w.bad = false;
	net = (struct sn_sim_options){.latency_max_ns = SN_NS_PER_MS};
	sn__sim_set(w.sim, &net);
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + GOOD_S * SN_NS_PER_S);
	if (single)
		print_message("%u versions, %u lists told, %u requests\n", w.version, w.n_told,
				w.script.n_requests);
	assert_true(w.n_told > 0);
	assert_int_equal(pods_at(w.told), pods_at(w.version));
	sn_hub_source_close(w.src);
	sn__hub_kube_unref(w.kube);
	sn__timer_stop(w.server, &w.timer);
	script_finish(&w.script);
	(void)sn__sim_run(w.sim, SN_NEVER_NS);
	sn__loop_close(w.client, NULL, NULL);
	sn__loop_close(w.server, NULL, NULL);
	sn__sim_destroy(w.sim);
}

int main(void)
{
	return seeds_main("hub/source_kube", one);
}
