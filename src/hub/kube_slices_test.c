/* SPDX-License-Identifier: Apache-2.0 */
/* What an API server says of EndpointSlices, piece by piece. */
#include "hub/kube_slices.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/test.h"

#define PORT "\"ports\":[{\"name\":\"http\",\"protocol\":\"TCP\",\"port\":8080}]"
#define SLICE(name, version, family, endpoints, ports) \
	"{\"metadata\":{\"name\":\"" name \
	"\",\"namespace\":\"shop\",\"resourceVersion\":\"" version \
	"\",\"labels\":{\"kubernetes.io/service-name\":\"web\"}},\"addressType\":\"" family \
	"\",\"endpoints\":[" endpoints "]," ports "}"
#define POD(name, address, more) \
	"{\"addresses\":[\"" address "\"]" more \
	",\"targetRef\":{\"kind\":\"Pod\",\"name\":\"" name "\",\"namespace\":\"shop\"}}"
#define READY(b) ",\"conditions\":{\"ready\":" b "}"
#define LIST(version, next, items) \
	"{\"kind\":\"EndpointSliceList\",\"apiVersion\":\"discovery.k8s.io/v1\",\"metadata\":{" \
	"\"resourceVersion\":\"" version "\"" next "},\"items\":[" items "]}"
#define EVENT(type, object) "{\"type\":\"" type "\",\"object\":" object "}\n"

static struct sn_kube_slices *fresh(const char *text)
{
	struct sn_kube_slices *s = test_malloc(sizeof *s);
	struct sn_hub_source_url url;

	assert_int_equal(sn__hub_source_parse(sn_str_from(text), &url, NULL), 0);
	sn__kube_slices_init(s, &url);
	return s;
}

static void done(struct sn_kube_slices *s)
{
	sn__kube_slices_finish(s);
	test_free(s);
}

static void page(struct sn_kube_slices *s, const char *text, bool first)
{
	struct sn_error err;

	if (sn__kube_slices_page(s, sn_str_from(text), first, &err) < 0)
		fail_msg("%s", sn_error_text(&err));
}

static enum sn_kube_change feed(struct sn_kube_slices *s, const char *text)
{
	enum sn_kube_change change;
	struct sn_error err;

	if (sn__kube_slices_feed(s, sn_str_from(text), &change, &err) < 0)
		fail_msg("%s", sn_error_text(&err));
	return change;
}

static void assert_instances(struct sn_kube_slices *s, const char *want)
{
	const struct sn_hub_instance *list;
	char text[2000] = "";
	bool differs;
	size_t at = 0;

	assert_int_equal(sn__kube_slices_instances(s, &differs), 0);
	list = s->list.all;
	for (size_t i = 0; i < s->list.n; i++) {
		at += (size_t)snprintf(text + at, sizeof text - at, "%s=%s:%u ", list[i].name,
				list[i].address, list[i].port);
		assert_int_equal(list[i].weight, SN_HUB_SOURCE_WEIGHT_NONE);
	}
	assert_string_equal(text, want);
	assert_int_equal(sn__kube_slices_instances(s, &differs), 0);
	assert_false(differs);
}

static void lists(void **state)
{
	struct sn_kube_slices *s = fresh("k8s://shop/web:http");

	page(s,
			LIST("10", ",\"continue\":\"abc=\",\"remainingItemCount\":1",
					SLICE("web-1", "7", "IPv4",
							POD("b", "10.0.0.2", READY("true")) "," POD(
									"a", "10.0.0.1", ""),
							PORT)),
			true);
	assert_string_equal(s->next, "abc=");
	assert_instances(s, ""); /* not before the whole of it is there */
	page(s, LIST("10", "", SLICE("web-2", "9", "IPv4", "{\"addresses\":[\"10.0.0.3\"]}", PORT)),
			false);
	assert_string_equal(s->next, "");
	assert_string_equal(s->version, "10");
	assert_instances(s,
			"10.0.0.3:8080=10.0.0.3:8080 a.shop=10.0.0.1:8080 b.shop=10.0.0.2:8080 ");
	/* a list that was begun and begins again */
	page(s,
			LIST("11", ",\"continue\":\"x\"",
					SLICE("web-1", "7", "IPv4", POD("z", "1.1.1.1", ""), PORT)),
			true);
	page(s, LIST("12", "", SLICE("web-3", "12", "IPv4", POD("c", "10.0.0.4", ""), PORT)), true);
	assert_instances(s, "c.shop=10.0.0.4:8080 ");
	/* no service, or none of its pods */
	page(s, "{\"metadata\":{\"resourceVersion\":\"13\"},\"items\":null}", true);
	assert_instances(s, "");
	assert_string_equal(s->problem, "");
	done(s);
}

static void conditions(void **state)
{
	struct sn_kube_slices *s = fresh("k8s://shop/web");

	page(s,
			LIST("1", "",
					SLICE("w", "1", "IPv4",
							POD("nil", "10.0.0.1",
									",\"conditions\":{}") "," POD("null",
									"10.0.0.2",
									READY("null")) "," POD("no",
									"10.0.0.3",
									READY("false")) "," POD("ends",
									"10.0.0.4",
									",\"conditions\":{\"ready\":false,"
									"\"serving\":true,\"terminating\":true}"),
							PORT)),
			true);
	assert_instances(s, "nil.shop=10.0.0.1:8080 null.shop=10.0.0.2:8080 ");
	/* nothing is ready: what ends but serves */
	(void)feed(s,
			EVENT("MODIFIED",
					SLICE("w", "2", "IPv4",
							POD("no", "10.0.0.3", READY("false")) "," POD(
									"ends", "10.0.0.4",
									",\"conditions\":{\"ready\":false,"
									"\"serving\":true,\"terminating\":true}") "," POD("gone",
									"10.0.0.5",
									",\"conditions\":{\"ready\":false,"
									"\"serving\":false,\"terminating\":true}"),
							PORT)));
	assert_instances(s, "ends.shop=10.0.0.4:8080 ");
	done(s);
}

/* Both families, a pod in two slices, addresses that are none, other kinds of slices. */
static void families(void **state)
{
	struct sn_kube_slices *s = fresh("k8s://shop/web:http");

	page(s,
			LIST("1", "",
					SLICE("six", "1", "IPv6",
							POD("a", "2001:db8::1", "") "," POD(
									"c", "2001:db8::3", ""),
							PORT) "," SLICE("four", "1", "IPv4",
							POD("a", "10.0.0.1", "") "," POD(
									"b", "10.0.0.2", ""),
							PORT) "," SLICE("four-2", "1", "IPv4",
							POD("b", "10.0.0.2",
									"") ",{\"addresses\":[]},"
									    "{\"addresses\":[\"10.0.0.9\"],\"targetRef\":{\"kind\":\"VM\",\"name\":\"x\"}}",
							PORT) "," SLICE("names", "1", "FQDN",
							"{\"addresses\":[\"web.example\"]}", PORT)),
			true);
	assert_instances(s,
			"10.0.0.9:8080=10.0.0.9:8080 a.shop=10.0.0.1:8080 b.shop=10.0.0.2:8080 "
			"c.shop=2001:db8::3:8080 ");
	done(s);
}

static void ports(void **state)
{
	static const char two[] = LIST("1", "",
			SLICE("w", "1", "IPv4", POD("a", "10.0.0.1", ""),
					"\"ports\":[{\"name\":\"admin\",\"port\":9000},{\"name\":\"dns\",\"protocol\":"
					"\"UDP\",\"port\":53},{\"name\":\"http\",\"port\":8080},{\"name\":\"all\",\"port\":null}]"));
	static const char unnamed[] = LIST("1", "",
			SLICE("w", "1", "IPv4", POD("a", "10.0.0.1", ""),
					"\"ports\":[{\"port\":9000},{\"name\":\"u\",\"protocol\":\"UDP\",\"port\":1}]"));
	static const char none[] = LIST("1", "", SLICE("w", "1", "IPv4", "", "\"ports\":null"));
	struct sn_kube_slices *s = fresh("k8s://shop/web:http");

	page(s, two, true);
	assert_instances(s, "a.shop=10.0.0.1:8080 ");
	done(s);
	s = fresh("k8s://shop/web");
	page(s, two, true);
	assert_instances(s, "");
	assert_string_equal(s->problem,
			"the service has several ports, of which one must be named: `admin`, `http`");
	page(s, unnamed, true);
	assert_instances(s, "a.shop=10.0.0.1:9000 ");
	assert_string_equal(s->problem, "");
	done(s);
	s = fresh("k8s://shop/web:dns");
	page(s, two, true);
	assert_instances(s, "");
	assert_string_equal(s->problem, "the service has no TCP port `dns`, but `admin`, `http`");
	page(s, none, true);
	assert_instances(s, "");
	assert_string_equal(s->problem, "");
	done(s);
}

static const char watch[] = EVENT("ADDED",
		SLICE("w1", "11", "IPv4", POD("a", "10.0.0.1", ""), PORT)) EVENT("BOOKMARK",
		"{\"metadata\":{\"resourceVersion\":\"15\"},\"endpoints\":null}") "\n" EVENT("ADDED",
		SLICE("w2", "16", "IPv4", POD("b", "10.0.0.2", ""), PORT)) EVENT("MODIFIED",
		SLICE("w1", "17", "IPv4", POD("a", "10.0.0.1", "") "," POD("c", "10.0.0.3", ""),
				PORT))
		EVENT("SOMETHING", "{\"metadata\":{\"resourceVersion\":\"18\"}}") EVENT("DELETED",
				SLICE("w2", "19", "IPv4", POD("b", "10.0.0.2", ""), PORT));

static void watches(void **state)
{
	struct sn_kube_slices *s = fresh("k8s://shop/web:http");
	enum sn_kube_change change;
	struct sn_error err;

	assert_int_equal(feed(s, EVENT("BOOKMARK", "{\"metadata\":{\"resourceVersion\":\"9\"}}")),
			SN_KUBE_SAME);
	assert_string_equal(s->version, "9");
	assert_int_equal(feed(s, watch), SN_KUBE_CHANGED);
	assert_string_equal(s->version, "19");
	assert_instances(s, "a.shop=10.0.0.1:8080 c.shop=10.0.0.3:8080 ");
	assert_int_equal(
			sn__kube_slices_feed(s,
					SN_STR(EVENT("ERROR",
							"{\"kind\":\"Status\",\"code\":410,"
							"\"message\":\"too old resource version: 1 (2)\"}")),
					&change, &err),
			SN_E_CLOSED);
	assert_int_equal(s->status, 410);
	assert_string_equal(sn_error_text(&err), "too old resource version: 1 (2)");
	sn__kube_slices_watch(s);
	assert_int_equal(s->status, 0);
	/* half a line of the watch before is forgotten */
	assert_int_equal(feed(s, "{\"type\":\"ADD"), SN_KUBE_SAME);
	sn__kube_slices_watch(s);
	assert_int_equal(feed(s, EVENT("DELETED", SLICE("w1", "20", "IPv4", "", PORT))),
			SN_KUBE_CHANGED);
	assert_instances(s, "");
	done(s);
}

/* Wherever the stream is cut into two or three pieces, or into single bytes, it says the same. */
static void cut_anywhere(void **state)
{
	size_t all = sizeof watch - 1;

	for (size_t i = 0; i <= all; i++) {
		struct sn_kube_slices *s = fresh("k8s://shop/web:http");
		enum sn_kube_change change;
		size_t second = i + (all - i) / 2;

		for (size_t at = 0; i == 0 && at < all; at++)
			assert_int_equal(sn__kube_slices_feed(s, (struct sn_str){watch + at, 1},
							 &change, NULL),
					0);
		if (i > 0) {
			assert_int_equal(sn__kube_slices_feed(s, (struct sn_str){watch, i}, &change,
							 NULL),
					0);
			assert_int_equal(sn__kube_slices_feed(s,
							 (struct sn_str){watch + i, second - i},
							 &change, NULL),
					0);
			assert_int_equal(sn__kube_slices_feed(s,
							 (struct sn_str){watch + second,
									 all - second},
							 &change, NULL),
					0);
		}
		assert_string_equal(s->version, "19");
		assert_instances(s, "a.shop=10.0.0.1:8080 c.shop=10.0.0.3:8080 ");
		done(s);
	}
}

static void refused(void **state)
{
	static const char *const lines[] = {"x\n", "[]\n", "{}\n", "{\"type\":\"ADDED\"}\n",
			EVENT("ADDED", "{}"), EVENT("ADDED", "{\"metadata\":{\"name\":\"x\"}}"),
			EVENT("BOOKMARK", "{}")};
	static const char *const pages[] = {"", "{}", "[]", "{\"items\":{}}", LIST("", "", ""),
			LIST("1", "", "{}"), "{\"items\":[],\"metadata\":{\"resourceVersion\":1}}"};
	struct sn_kube_slices *s = fresh("k8s://shop/web:http");
	enum sn_kube_change change;
	struct sn_error err;
	char *big = test_malloc(1 << 20);
	int r = 0;

	page(s, LIST("1", "", SLICE("w", "1", "IPv4", POD("a", "10.0.0.1", ""), PORT)), true);
	for (size_t i = 0; i < SN_COUNT(lines); i++) {
		if (sn__kube_slices_feed(s, sn_str_from(lines[i]), &change, &err) != SN_E_PARSE)
			fail_msg("%s", lines[i]);
		sn__kube_slices_watch(s);
	}
	for (size_t i = 0; i < SN_COUNT(pages); i++)
		if (sn__kube_slices_page(s, sn_str_from(pages[i]), true, &err) != SN_E_PARSE)
			fail_msg("%s", pages[i]);
	(void)feed(s, EVENT("DELETED", SLICE("x", "2", "IPv4", "", PORT)));
	assert_instances(s, "a.shop=10.0.0.1:8080 ");
	memset(big, ' ', 1 << 20);
	for (unsigned i = 0; i < 5 && r == 0; i++)
		r = sn__kube_slices_feed(s, (struct sn_str){big, 1 << 20}, &change, &err);
	assert_int_equal(r, SN_E_LIMIT);
	assert_string_equal(sn_error_text(&err), "an event of more than 4 MiB");
	test_free(big);
	done(s);
}

static void limits(void **state)
{
	struct sn_kube_slices *s = fresh("k8s://shop/web:http");
	enum sn_kube_change change;
	struct sn_buf line;
	struct sn_error err;
	bool differs;
	int r = 0;

	sn__buf_init(&line, 8 << 20);
	for (unsigned i = 0; i < SN_HUB_KUBE_SLICES_MAX + 1 && r == 0; i++) {
		sn__buf_clear(&line);
		assert_int_equal(
				sn__buf_printf(&line,
						"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"s%u\","
						"\"resourceVersion\":\"%u\"}," PORT
						",\"endpoints\":[",
						i, i + 1),
				0);
		for (unsigned k = 0; k < 12; k++)
			assert_int_equal(
					sn__buf_printf(&line, "%s{\"addresses\":[\"10.%u.%u.%u\"]}",
							k > 0 ? "," : "", i / 250, i % 250, k),
					0);
		assert_int_equal(sn__buf_puts(&line, "]}}\n"), 0);
		r = sn__kube_slices_feed(s, sn__buf_str(&line), &change, &err);
	}
	assert_int_equal(r, SN_E_LIMIT);
	assert_string_equal(sn_error_text(&err), "more than 1000 slices");
	assert_int_equal(sn__kube_slices_instances(s, &differs), 0);
	assert_int_equal(s->list.n, SN_HUB_SOURCE_INSTANCES_MAX);
	assert_string_equal(s->problem, "12000 instances, of which 10000 are served");
	sn__buf_finish(&line);
	done(s);
}

static void out_of_memory(void **state)
{
	bool failed = true;

	for (uint64_t nth = 1; failed; nth++) {
		struct sn_kube_slices *s = fresh("k8s://shop/web:http");
		enum sn_kube_change change;
		bool differs;
		int r;

		sn__mem_fail_nth(nth);
		r = sn__kube_slices_page(s,
				SN_STR(LIST("1", "",
						SLICE("w", "1", "IPv4", POD("a", "10.0.0.1", ""),
								PORT))),
				true, NULL);
		if (r == 0)
			r = sn__kube_slices_feed(
					s, (struct sn_str){watch, sizeof watch - 1}, &change, NULL);
		if (r == 0)
			r = sn__kube_slices_instances(s, &differs);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_int_equal(r, failed ? SN_E_NOMEM : 0);
		done(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(lists),
			cmocka_unit_test(conditions),
			cmocka_unit_test(families),
			cmocka_unit_test(ports),
			cmocka_unit_test(watches),
			cmocka_unit_test(cut_anywhere),
			cmocka_unit_test(refused),
			cmocka_unit_test(limits),
			cmocka_unit_test(out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
