/* SPDX-License-Identifier: Apache-2.0 */
#include "app/agent_status.h"

#include <string.h>
#include <time.h>

#include "app/agent_checks.h"
#include "base/json.h"
#include "base/mem.h"
#include "mesh/metrics.h"

#define ANSWER_MAX (256u << 20) /* bytes */

static void respond(struct sn_exchange *x, unsigned status, const char *type, struct sn_str text)
{
	const struct sn_header header = {"Content-Type", type};

	if (sn_exchange_respond(x, status, &header, 1, text.ptr, text.len) < 0)
		sn_exchange_abort(x);
}

static void refuse(struct sn_exchange *x, unsigned status, const char *text)
{
	respond(x, status, "text/plain; charset=utf-8", sn_str_from(text));
}

/* ---- who is out ---- */

struct list {
	struct sn_loop *loop;
	json_t *json;
	const char *target;
};

static int list_unwell(const struct sn_check_unwell *u, void *arg)
{
	struct list *l = arg;
	uint64_t seconds = (sn__loop_now_ns(l->loop) - u->since_ns) / SN_NS_PER_S;
	time_t at = (time_t)(sn__loop_wall_ns(l->loop) / SN_NS_PER_S - seconds);
	bool text = sn__utf8_valid(sn_str_from(u->why)); /* others have words in it */
	char since[32] = "";
	struct tm tm;
	json_t *one;

	if (gmtime_r(&at, &tm) != NULL)
		(void)strftime(since, sizeof since, "%Y-%m-%dT%H:%M:%SZ", &tm);
	one = json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:b}", "target", l->target, "identity",
			u->identity, "address", u->address, "since", since, "seconds",
			(json_int_t)seconds, "why", text ? u->why : "(no UTF-8)", "served",
			(int)u->served);
	return one != NULL && json_array_append_new(l->json, one) == 0 ? 0 : SN_E_NOMEM;
}

static int list_group(const char *target, const struct sn_check_group *group, void *arg)
{
	struct list *l = arg;

	l->target = target;
	return sn__check_group_unwell(group, list_unwell, l);
}

static void checks(struct sn_exchange *x, const struct sn_agent_status *status)
{
	SN_AUTO_JSON json_t *json = json_array();
	struct list l = {.loop = status->loop, .json = json};
	SN_AUTO_FREE char *text = NULL;

	if (json != NULL && sn__target_plan_checks(status->plan, list_group, &l) == 0)
		text = sn__json_text(json);
	if (text == NULL)
		refuse(x, 503, "out of memory\n");
	else
		respond(x, 200, "application/json", sn_str_from(text));
}

/* ---- metrics ---- */

static int set(struct sn_family *f, const char *one, const char *two, uint64_t value)
{
	const char *const values[] = {one, two, NULL};
	struct sn_series *series = sn__metrics_series(f, values);

	sn_gauge_set(series, (double)value);
	sn_counter_add(series, value);
	return 0;
}

static int count_group(const char *target, const struct sn_check_group *group, void *arg)
{
	size_t n, unwell;

	sn__check_group_counts(group, &n, &unwell);
	(void)set(arg, target, "well", n - unwell);
	return set(arg, target, "unwell", unwell);
}

static int measure(const struct sn_agent_status *status, struct sn_metrics *m, struct sn_buf *out)
{
	static const char *const none[] = {NULL}, *const by_result[] = {"result", NULL};
	static const char *const by_target[] = {"target", "state", NULL};
	struct sn_hub_health_counts counts = {0};
	struct sn_family *connectors, *instances, *done;
	int r = sn__metrics_family(m, "sinew_agent_connectors", "Connectors that are connected.",
			SN_GAUGE, none, &connectors);

	if (r == 0)
		r = sn__metrics_family(m, "sinew_agent_instances",
				"Instances of endpoints that are checked.", SN_GAUGE, by_target,
				&instances);
	if (r == 0)
		r = sn__metrics_family(m, "sinew_agent_checks_total",
				"Checks of instances by how they ended.", SN_COUNTER, by_result,
				&done);
	if (r < 0)
		return r;
	if (status->targets != NULL)
		sn__targets_counts(status->targets, &counts);
	(void)set(connectors, NULL, NULL, status->connectors);
	(void)set(done, "well", NULL, counts.checks - counts.failed);
	(void)set(done, "failed", NULL, counts.failed);
	(void)set(done, "unjudged", NULL, counts.unjudged);
	r = sn__target_plan_checks(status->plan, count_group, instances);
	return r < 0 ? r : sn__metrics_render(m, out);
}

static void metrics(struct sn_exchange *x, const struct sn_agent_status *status)
{
	struct sn_metrics *m = NULL;
	struct sn_buf out;
	int r = sn__metrics_create(0, &m);

	sn__buf_init(&out, ANSWER_MAX);
	if (r == 0)
		r = measure(status, m, &out);
	if (r < 0)
		refuse(x, 503, "out of memory\n");
	else
		respond(x, 200, "text/plain; version=0.0.4; charset=utf-8", sn__buf_str(&out));
	sn__buf_finish(&out);
	sn__metrics_destroy(m);
}

void sn__agent_status(struct sn_exchange *x, const struct sn_agent_status *status)
{
	const char *path = sn_exchange_path(x);

	if (strcmp(path, SN_AGENT_STATUS "checks") == 0)
		checks(x, status);
	else if (strcmp(path, SN_AGENT_STATUS "metrics") == 0)
		metrics(x, status);
	else
		refuse(x, 404, "/-/checks or /-/metrics\n");
}
