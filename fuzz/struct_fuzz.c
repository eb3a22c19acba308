/* SPDX-License-Identifier: Apache-2.0 */
/* google.protobuf.Struct to JSON, to Struct, to JSON: the same. And JSON to Struct to JSON. */
#include "base/json.h"
#include "base/mem.h"
#include "proto/protobuf_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void back(const json_t *json)
{
	SN_AUTO_JSON json_t *again = NULL;
	SN_AUTO_FREE char *before = sn__json_text(json);
	SN_AUTO_FREE char *after = NULL;
	struct sn_buf out;
	int r;

	sn__buf_init(&out, (size_t)64 << 20);
	r = sn__protobuf_struct_write(json, &out, NULL);
	assert(r == 0);
	r = sn__protobuf_struct_read(sn__buf_str(&out), &again, NULL);
	assert(r == 0);
	after = sn__json_text(again);
	assert(strcmp(before, after) == 0);
	sn__buf_finish(&out);
}

static void from_text(struct sn_str text)
{
	SN_AUTO_JSON json_t *json = NULL;
	SN_AUTO_JSON json_t *again = NULL;
	struct sn_buf out;

	sn__buf_init(&out, (size_t)64 << 20);
	if (sn__json_parse(text, 1 << 20, &json, NULL) == 0 &&
			sn__protobuf_struct_write(json, &out, NULL) == 0) {
		int r = sn__protobuf_struct_read(sn__buf_str(&out), &again, NULL);

		assert(r == 0 && sn__json_equal(json, again));
	}
	sn__buf_finish(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_str in = {(const char *)data, size};
	SN_AUTO_JSON json_t *json = NULL;
	struct sn_error err = {0};
	int r = sn__protobuf_struct_read(in, &json, &err);

	if (r == 0)
		back(json);
	else
		assert(err.code == r && json == NULL);
	from_text(in);
	return 0;
}
