/* SPDX-License-Identifier: Apache-2.0 */
/* The wire form to JSON, to the wire form, to JSON: the same text. And JSON to the wire form, which can
 * be read. The first byte chooses the type. */
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"
#include "proto/protobuf_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sn_schema *schema;

static void load(const char *path)
{
	static char data[1 << 18];
	FILE *f = fopen(path, "rb");
	size_t n = f != NULL ? fread(data, 1, sizeof data, f) : 0;

	if (f == NULL || sn__schema_add_set(schema, (struct sn_str){data, n}, NULL) < 0) {
		perror(path);
		exit(1);
	}
	(void)fclose(f);
}

static void drop(void)
{
	sn__schema_destroy(schema);
}

static const struct sn_schema_message *type_of(uint8_t choice)
{
	static const char *const names[] = {"sinew.json3.All", "sinew.json3.Scalars",
			"sinew.json3.Lists", "sinew.json3.Maps", "sinew.json3.Known",
			"sinew.json2.Old"};

	if (schema == NULL) {
		if (sn__schema_create(&schema) < 0)
			exit(1);
		load(PROTO_SETS "/json3.desc");
		load(PROTO_SETS "/json2.desc");
		(void)atexit(drop);
	}
	return sn__schema_message(schema, sn_str_from(names[choice % SN_COUNT(names)]));
}

static void back(const struct sn_schema_message *type, struct sn_str text)
{
	SN_AUTO_JSON json_t *json = NULL;
	struct sn_error err = {0};
	struct sn_buf wire, again;
	int r = sn__json_parse(text, (size_t)64 << 20, &json, NULL);

	/* jansson has no such member names */
	if (r < 0) {
		assert(memmem(text.ptr, text.len, "\\u0000", 6) != NULL);
		return;
	}
	sn__buf_init(&wire, (size_t)64 << 20);
	sn__buf_init(&again, (size_t)64 << 20);
	r = sn__protobuf_from_json(schema, type, json, &wire, &err);
	if (r == 0) {
		r = sn__protobuf_to_json(schema, type, sn__buf_str(&wire), &again, &err);
		assert(r == 0 && sn_str_eq(sn__buf_str(&again), text));
	} else {
		assert(strstr(err.text, "is required") != NULL);
	}
	sn__buf_finish(&wire);
	sn__buf_finish(&again);
}

static void from_text(const struct sn_schema_message *type, struct sn_str text)
{
	SN_AUTO_JSON json_t *json = NULL;
	struct sn_error err = {0};
	struct sn_buf wire, out;
	int r;

	if (sn__json_parse(text, 1 << 20, &json, NULL) < 0)
		return;
	sn__buf_init(&wire, (size_t)64 << 20);
	sn__buf_init(&out, (size_t)64 << 20);
	r = sn__protobuf_from_json(schema, type, json, &wire, &err);
	if (r == 0) {
		r = sn__protobuf_to_json(schema, type, sn__buf_str(&wire), &out, &err);
		assert(r == 0);
	} else {
		assert(err.text[0] != '\0' && wire.len == 0);
	}
	sn__buf_finish(&wire);
	sn__buf_finish(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct sn_schema_message *type;
	struct sn_error err = {0};
	struct sn_buf out;
	struct sn_str in;
	int r;

	if (size == 0)
		return 0;
	type = type_of(data[0]);
	in = (struct sn_str){(const char *)data + 1, size - 1};
	sn__buf_init(&out, (size_t)64 << 20);
	r = sn__protobuf_to_json(schema, type, in, &out, &err);
	if (r == 0)
		back(type, sn__buf_str(&out));
	else
		assert(err.text[0] != '\0' && out.len == 0);
	sn__buf_finish(&out);
	from_text(type, in);
	return 0;
}
