/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors, and a message by what they say: two bytes are the length of the set, behind it comes
 * the message, which is read as each type of the set. */
#include <stdio.h>

#include "base/mem.h"
#include "proto/protobuf.h"
#include "proto/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct sn_schema *schema, struct sn_str full_name, struct sn_str message)
{
	const struct sn_schema_message *m = sn__schema_message(schema, full_name);
	struct sn_error err = {0};
	SN_AUTO_JSON json_t *json = NULL;
	struct sn_buf out;
	int r;

	sn__buf_init(&out, 1 << 20);
	r = sn__schema_describe(schema, full_name, &out);
	assert(r == 0 || r == SN_E_LIMIT || r == SN_E_NOT_FOUND);
	sn__buf_clear(&out);
	if (m != NULL && sn__protobuf_to_json(schema, m, message, &out, &err) == 0 &&
			sn__json_parse(sn__buf_str(&out), 1 << 20, &json, NULL) == 0) {
		sn__buf_clear(&out);
		r = sn__protobuf_from_json(schema, m, json, &out, &err);
		assert(r == 0 || err.text[0] != '\0');
	}
	sn__buf_finish(&out);
}

/* Every type on the first level of the file. */
static void use_file(const struct sn_schema *schema, struct sn_str file, struct sn_str message)
{
	struct sn_str package = SN_STR("");
	struct sn_protobuf_field f, g;
	struct sn_str in = file;
	char name[1200];

	while (sn__protobuf_next(&in, &f) > 0) {
		if (f.number == 2)
			package = f.bytes;
	}
	for (in = file; sn__protobuf_next(&in, &f) > 0;) {
		struct sn_str type = f.bytes;

		while ((f.number == 4 || f.number == 5 || f.number == 6) &&
				f.wire == SN_PROTOBUF_LEN && sn__protobuf_next(&type, &g) > 0) {
			if (g.number != 1 || g.bytes.len > 512)
				continue;
			(void)snprintf(name, sizeof name, "%.*s%s%.*s", (int)package.len,
					package.ptr, package.len > 0 ? "." : "", (int)g.bytes.len,
					g.bytes.ptr);
			use(schema, sn_str_from(name), message);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_schema *schema = NULL;
	struct sn_str set, message;
	struct sn_error err = {0};
	struct sn_protobuf_field f;
	size_t n;
	int r;

	if (size < 2)
		return 0;
	n = SN_MIN((size_t)(data[0] << 8 | data[1]), size - 2);
	set = (struct sn_str){(const char *)data + 2, n};
	message = (struct sn_str){(const char *)data + 2 + n, size - 2 - n};
	r = sn__schema_create(&schema);
	assert(r == 0);
	r = sn__schema_add_set(schema, set, &err);
	if (r < 0)
		assert(err.text[0] != '\0');
	while (r == 0 && sn__protobuf_next(&set, &f) > 0) {
		if (f.number == 1 && f.wire == SN_PROTOBUF_LEN)
			use_file(schema, f.bytes, message);
	}
	sn__schema_destroy(schema);
	return 0;
}
