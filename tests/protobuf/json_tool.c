/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages and JSON for a test: json_tool SET TYPE reads a descriptor set, then lines from its
 * input: "w HEX" (the wire form, answered by JSON) and "j JSON" (answered by the wire form in hex). An
 * answer is "ok TEXT" or "error CODE SENTENCE".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "proto/protobuf_json.h"

static struct sn_schema *schema;
static const struct sn_schema_message *message;

static struct sn_str load(const char *path)
{
	size_t size = (size_t)1 << 20;
	char *data = malloc(size);
	FILE *f = fopen(path, "rb");
	size_t n;

	if (data == NULL || f == NULL) {
		perror(path);
		exit(2);
	}
	n = fread(data, 1, size, f);
	(void)fclose(f);
	return (struct sn_str){data, n};
}

/* In place. */
static struct sn_str from_hex(char *text)
{
	size_t n = strlen(text) / 2;

	for (size_t i = 0; i < n; i++) {
		uint64_t v;

		if (sn__parse_hex_u64((struct sn_str){text + 2 * i, 2}, 255, &v) < 0)
			exit(2);
		text[i] = (char)v;
	}
	return (struct sn_str){text, n};
}

static int to_wire(const char *text, struct sn_buf *out, struct sn_error *err)
{
	SN_AUTO_JSON json_t *json = NULL;
	int r = sn__json_parse(sn_str_from(text), (size_t)64 << 20, &json, err);

	return r < 0 ? r : sn__protobuf_from_json(schema, message, json, out, err);
}

static void answer(char *line)
{
	struct sn_error err = {0};
	struct sn_buf out;
	int r;

	sn__buf_init(&out, (size_t)64 << 20);
	if (line[0] == 'w')
		r = sn__protobuf_to_json(schema, message, from_hex(line + 2), &out, &err);
	else
		r = to_wire(line + 2, &out, &err);
	if (r < 0)
		printf("error %d %s\n", r, err.text);
	else if (line[0] == 'w')
		printf("ok %.*s\n", (int)out.len, sn__buf_data(&out));
	else {
		printf("ok ");
		for (size_t i = 0; i < out.len; i++)
			printf("%02x", (unsigned char)sn__buf_data(&out)[i]);
		printf("\n");
	}
	sn__buf_finish(&out);
}

int main(int argc, char **argv)
{
	struct sn_error err = {0};
	char *line = NULL;
	size_t size = 0;
	struct sn_str set;
	ssize_t n;

	if (argc != 3)
		return 2;
	set = load(argv[1]);
	if (sn__schema_create(&schema) < 0 || sn__schema_add_set(schema, set, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	free((char *)set.ptr);
	message = sn__schema_message(schema, sn_str_from(argv[2]));
	if (message == NULL)
		return 2;
	while ((n = getline(&line, &size, stdin)) > 0) {
		if (line[n - 1] == '\n')
			line[n - 1] = '\0';
		answer(line);
	}
	free(line);
	sn__schema_destroy(schema);
	return sn__mem_live() == 0 ? 0 : 3;
}
