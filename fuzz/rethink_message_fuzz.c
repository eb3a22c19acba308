/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Up to a NUL a message of the registry connector, behind it what the registry replies. Whatever they
 * are: a request that is sound, an answer that is JSON on one line, and for every message an answer
 * unless it is a response itself.
 */

#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"
#include "dialect/rethink/message.h"
#include "proto/http.h"
#include "proto/json_pull.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool right)
{
	if (!right)
		abort();
}

static void check_request(const struct sn_rethink_plan *plan, const struct sn_buf *url,
		const struct sn_buf *body)
{
	must(url->len > 0 && sn__http_target_valid(sn__buf_str(url)));
	must(sn__buf_data(url)[url->len] == '\0');
	must(plan->method == SN_RETHINK_PUT || body->len == 0);
	if (plan->method == SN_RETHINK_PUT)
		must(sn__json_check_wide(sn__buf_str(body), NULL) == 0 &&
				sn__buf_data(body)[body->len] == '\0');
}

static void check_answer(const struct sn_buf *out)
{
	must(sn__json_check_wide(sn__buf_str(out), NULL) == 0);
	must(memchr(sn__buf_data(out), '\n', out->len) == NULL);
	must(sn__buf_data(out)[out->len] == '\0');
}

static int on_change(struct sn_str url, struct sn_str status, void *arg)
{
	struct sn_buf out;

	sn__buf_init(&out, 1 << 20);
	must(sn__rethink_notification(1, SN_STR("d"), url, status, &out) == 0);
	check_answer(&out);
	sn__buf_finish(&out);
	return 0;
}

static void replies(struct sn_rethink_plan *plan, const struct sn_rethink_style *style,
		struct sn_str text, struct sn_arena *arena)
{
	static const unsigned statuses[] = {200, 408, 404, 500};
	struct sn_rethink_words hyperties;
	struct sn_buf out, found;

	sn__buf_init(&out, 16 << 20);
	sn__buf_init(&found, 16 << 20);
	for (size_t i = 0; i < SN_COUNT(statuses); i++) {
		struct sn_rethink_reply reply = {.status = statuses[i], .body = text};

		sn__buf_clear(&out);
		must(sn__rethink_answer(plan, style, &reply, arena, &out) == 0);
		check_answer(&out);
		(void)!sn__rethink_changes(&reply, arena, on_change, NULL);
		(void)sn__rethink_update_told(plan, &reply, arena);
		(void)!sn__rethink_owner_objects(plan, &reply, arena, &found);
		(void)!sn__rethink_owner_hyperties(plan, &reply, arena, &hyperties);
	}
	if (found.len > 0) {
		must(sn__buf_append(&found, "}", 1) == 0);
		must(sn__json_check_wide(sn__buf_str(&found), NULL) == 0);
	}
	sn__buf_finish(&out);
	sn__buf_finish(&found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data, *nul = size > 0 ? memchr(text, '\0', size) : NULL;
	size_t n = nul != NULL ? (size_t)(nul - text) : size;
	struct sn_str message = {text, n}, reply = {"{}", 2};
	struct sn_rethink_style style = {.value = (enum sn_rethink_value)(size % 3),
			.type = SN_RETHINK_TYPE_MIRROR,
			.domain = size % 2 == 0 ? SN_STR("d") : SN_STR("")};
	struct sn_rethink_plan plan;
	struct sn_arena arena;
	struct sn_buf url, body, out;

	if (nul != NULL)
		reply = (struct sn_str){nul + 1, size - n - 1};
	sn__arena_init(&arena, 2048, SN_RETHINK_ARENA_MAX);
	sn__buf_init(&url, 16 * SN_RETHINK_PATH_MAX);
	sn__buf_init(&body, 2 * SN_RETHINK_MESSAGE_MAX);
	sn__buf_init(&out, 16 << 20);
	must(sn__rethink_plan(message, &style, &arena, &url, &body, &plan) == 0);
	if (plan.kind == SN_RETHINK_ANSWER) {
		must(url.len == 0 && plan.code >= 400);
		must(sn__rethink_answer(&plan, &style, NULL, &arena, &out) == 0);
		check_answer(&out);
	} else if (plan.kind != SN_RETHINK_SILENT) {
		check_request(&plan, &url, &body);
		replies(&plan, &style, reply, &arena);
	}
	sn__buf_finish(&url);
	sn__buf_finish(&body);
	sn__buf_finish(&out);
	sn__arena_finish(&arena);
	return 0;
}
