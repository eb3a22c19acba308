/* SPDX-License-Identifier: Apache-2.0 */
/* Read, write, read again: the same value; a redacted copy shows no secret. */
#include "base/json.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_redacted(const json_t *json)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)json, key, value)
	{
		if (sn__is_secret_name(sn_str_from(key)))
			assert(json_is_null(value) || strcmp(json_string_value(value), "***") == 0);
		else
			check_redacted(value);
	}
	for (size_t i = 0; i < json_array_size(json); i++)
		check_redacted(json_array_get(json, i));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_str text = {(const char *)data, size};
	SN_AUTO_JSON json_t *json = NULL;
	SN_AUTO_JSON json_t *again = NULL;
	SN_AUTO_JSON json_t *copy = NULL;
	SN_AUTO_FREE char *out = NULL;
	struct sn_error err = {0};
	struct sn_buf quoted;
	int r = sn__json_parse(text, 1 << 20, &json, &err);

	if (r < 0) {
		assert(err.text[0] >= '1' && err.text[0] <= '9');
	} else {
		out = sn__json_text(json);
		r = sn__json_parse(sn_str_from(out), 8 << 20, &again, NULL);
		assert(r == 0 && sn__json_equal(json, again));
		r = sn__json_redact(json, &copy);
		assert(r == 0);
		check_redacted(copy);
	}
	sn__buf_init(&quoted, 16 << 20);
	r = sn__json_quote(text, &quoted);
	json_decref(again);
	again = NULL;
	assert(r == 0 && sn__json_parse(sn__buf_str(&quoted), 16 << 20, &again, NULL) == 0);
	sn__buf_finish(&quoted);
	return 0;
}
