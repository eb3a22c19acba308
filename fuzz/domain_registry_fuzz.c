/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the domain registry: the input is "TARGET\nBODY". What is read must be JSON again. */
#include <string.h>

#include "base/mem.h"
#include "dialect/rethink/registry.h"
#include "proto/json_pull.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An entry made of what a body says, and of the rest of it an update. */
static void written(enum sn_reg_kind kind, const struct sn_reg_values *v, struct sn_str id)
{
	struct sn_reg_entry e = {.kind = kind, .id = id, .user = id, .v = *v};
	struct sn_buf out;

	sn__buf_init(&out, 64 << 20);
	assert(sn__reg_put_entry(&out, &e) == 0);
	assert(sn__json_check(sn__buf_str(&out), NULL) == 0);
	sn__buf_finish(&out);
}

static void bodies(struct sn_str text, struct sn_str id, struct sn_arena *arena)
{
	for (unsigned i = 0; i < 4; i++) {
		enum sn_reg_kind kind = (enum sn_reg_kind)(i & 1);
		enum sn_reg_body_form form;
		struct sn_reg_values v;
		int r = sn__reg_body(kind, text, i >= 2, arena, &v, &form);

		assert(r == 0 || r == SN_E_INVALID);
		if (r < 0)
			continue;
		for (unsigned m = 0; m < SN_REG_MEMBERS; m++) {
			assert(v.text[m].len == 0 || sn__utf8_valid(v.text[m]));
			assert(v.text[m].len == 0 ||
					memchr(v.text[m].ptr, '\0', v.text[m].len) == NULL);
		}
		written(kind, &v, id);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data, *end = size > 0 ? memchr(text, '\n', size) : NULL;
	struct sn_str target = {text, end != NULL ? (size_t)(end - text) : size}, id = {"x", 1};
	struct sn_str body = {text + target.len, size - target.len};
	struct sn_reg_entry e = {.id = id};
	struct sn_reg_filter f;
	struct sn_arena arena;
	int r;

	if (size == 0 || size > 65536)
		return 0;
	sn__arena_init(&arena, 4096, 64 << 20);
	r = sn__reg_segment(target, &arena, &id);
	assert(r == SN_E_INVALID || (r == 0 && id.len <= SN_REG_ID_MAX));
	(void)sn__reg_email(id);
	e.v.text[SN_REG_RESOURCES] = SN_STR("[\"a\",\"\\\"\",\"\\\\\"]");
	e.v.text[SN_REG_SCHEMES] = SN_STR("[]");
	r = sn__reg_filter(target, &arena, &f);
	assert(r == 0 || r == SN_E_NOT_FOUND || r == SN_E_INVALID);
	if (r == 0)
		(void)sn__reg_matches(&f, &e);
	bodies(body, id, &arena);
	sn__arena_finish(&arena);
	return 0;
}
