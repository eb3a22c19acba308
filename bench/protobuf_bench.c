/* SPDX-License-Identifier: Apache-2.0 */
/* What the check before protobuf-c costs, and JSON by a schema. */
#include <stdio.h>

#include <protobuf-c/protobuf-c.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/time.h"
#include "proto/generated/messages.pb-c.h"
#include "proto/generated/struct.pb-c.h"
#include "proto/generated/wire3.pb-c.h"
#include "proto/protobuf.h"
#include "proto/protobuf_json.h"

static void print(const char *name, const char *what, double value, const char *unit)
{
	(void)printf("{\"name\": \"protobuf/%s-%s\", \"value\": %.2f, \"unit\": \"%s\"}\n", name,
			what, value, unit);
}

static double ns_of(uint64_t begin, unsigned rounds)
{
	return (double)(sn__clock_mono_ns() - begin) / rounds;
}

static void *plain_alloc(void *unused, size_t size)
{
	return sn__malloc(size);
}

static void plain_free(void *unused, void *p)
{
	sn__free(p);
}

/* Check alone, protobuf-c alone with the same allocator, both; and the way back. */
static void bench_type(const char *name, const ProtobufCMessageDescriptor *type, struct sn_str in,
		unsigned n)
{
	ProtobufCAllocator allocator = {plain_alloc, plain_free, NULL};
	ProtobufCMessage *m = NULL;
	uint64_t begin = sn__clock_mono_ns();
	double check, alone;
	struct sn_buf out;
	int r = 0;

	for (unsigned i = 0; i < n && r == 0; i++)
		r = sn__protobuf_check(type, in, NULL);
	check = ns_of(begin, n);
	begin = sn__clock_mono_ns();
	for (unsigned i = 0; i < n; i++) {
		m = protobuf_c_message_unpack(type, &allocator, in.len, (const uint8_t *)in.ptr);
		protobuf_c_message_free_unpacked(m, &allocator);
	}
	alone = ns_of(begin, n);
	print(name, "bytes", (double)in.len, "bytes");
	print(name, "check", check, "ns");
	print(name, "protobuf-c", alone, "ns");
	print(name, "check-of-protobuf-c", check / alone, "ratio");
	begin = sn__clock_mono_ns();
	for (unsigned i = 0; i < n && r == 0; i++) {
		r = sn__protobuf_unpack(type, in, &m, NULL);
		if (r == 0 && i + 1 < n)
			sn__protobuf_free(m);
	}
	print(name, "unpack", ns_of(begin, n), "ns");
	if (r < 0)
		return;
	sn__buf_init(&out, (size_t)64 << 20);
	begin = sn__clock_mono_ns();
	for (unsigned i = 0; i < n && r == 0; i++) {
		sn__buf_clear(&out);
		r = sn__protobuf_pack(m, &out);
	}
	print(name, "pack", ns_of(begin, n), "ns");
	sn__protobuf_free(m);
	sn__buf_finish(&out);
}

static int fill_all(struct sn_buf *b)
{
	int r = 0;

	for (uint32_t i = 1; i <= 6 && r == 0; i++)
		r = sn__protobuf_put_varint(b, i, 100 * i);
	if (r == 0)
		r = sn__protobuf_put_bytes(b, 15, SN_STR("a string of some length"));
	for (unsigned i = 0; i < 10 && r == 0; i++)
		r = sn__protobuf_put_bytes(b, 29, SN_STR("\x08\x07\x12\x04name"));
	for (unsigned i = 0; i < 3 && r == 0; i++)
		r = sn__protobuf_put_bytes(b, 31, SN_STR("\x0a\x03key\x10\x07"));
	return r;
}

static void bench_json(void)
{
	enum { N = 20000 };
	struct sn_schema *schema = NULL;
	const struct sn_schema_message *type;
	static char set[1 << 17];
	FILE *f = fopen(PROTO_SETS "/json3.desc", "rb");
	size_t n = f != NULL ? fread(set, 1, sizeof set, f) : 0;
	struct sn_buf wire, text;
	json_t *json = NULL;
	uint64_t begin;
	int r = sn__schema_create(&schema);

	begin = sn__clock_mono_ns();
	if (r == 0)
		r = sn__schema_add_set(schema, (struct sn_str){set, n}, NULL);
	print("schema", "of-8-files", ns_of(begin, 1) / 1000, "us");
	type = r == 0 ? sn__schema_message(schema, SN_STR("sinew.json3.Lists")) : NULL;
	sn__buf_init(&wire, 1 << 20);
	sn__buf_init(&text, 1 << 20);
	for (unsigned i = 0; i < 10 && r == 0; i++)
		r = sn__protobuf_put_bytes(&wire, 9, SN_STR("\x08\x07\x12\x04name"));
	begin = sn__clock_mono_ns();
	for (int i = 0; i < N && r == 0 && type != NULL; i++) {
		sn__buf_clear(&text);
		r = sn__protobuf_to_json(schema, type, sn__buf_str(&wire), &text, NULL);
	}
	print("json", "10-submessages-to", ns_of(begin, N), "ns");
	if (r == 0)
		r = sn__json_parse(sn__buf_str(&text), 1 << 20, &json, NULL);
	begin = sn__clock_mono_ns();
	for (int i = 0; i < N && r == 0 && type != NULL; i++) {
		sn__buf_clear(&wire);
		r = sn__protobuf_from_json(schema, type, json, &wire, NULL);
	}
	print("json", "10-submessages-from", ns_of(begin, N), "ns");
	json_decref(json);
	sn__buf_finish(&wire);
	sn__buf_finish(&text);
	sn__schema_destroy(schema);
	if (f != NULL)
		(void)fclose(f);
}

int main(void)
{
	struct sn_buf b, large;
	char *space;
	int r;

	sn__buf_init(&b, (size_t)16 << 20);
	sn__buf_init(&large, (size_t)16 << 20);
	bench_type("empty", &grpc__testing__simple_request__descriptor, SN_STR(""), 1000000);
	bench_type("small", &grpc__testing__simple_request__descriptor,
			SN_STR("\x10\xe8\x07\x1a\x09\x12\x07payload"), 500000);
	r = fill_all(&b);
	bench_type("mixed", &sinew__wire3__all__descriptor, sn__buf_str(&b), 100000);
	sn__buf_clear(&b);
	/* A megabyte of bytes; of packed numbers. */
	if (r == 0)
		r = sn__buf_reserve(&large, 1 << 20, &space);
	if (r == 0) {
		memset(space, 1, 1 << 20);
		sn__buf_commit(&large, 1 << 20);
		r = sn__protobuf_put_bytes(&b, 16, sn__buf_str(&large));
	}
	bench_type("megabyte", &sinew__wire3__all__descriptor, sn__buf_str(&b), 300);
	sn__buf_clear(&b);
	if (r == 0)
		r = sn__protobuf_put_bytes(&b, 21, sn__buf_str(&large));
	bench_type("packed", &sinew__wire3__all__descriptor, sn__buf_str(&b), 100);
	sn__buf_clear(&b);
	memset((char *)sn__buf_data(&large), 'x', large.len);
	if (r == 0)
		r = sn__protobuf_put_bytes(&b, 15, sn__buf_str(&large));
	bench_type("text", &sinew__wire3__all__descriptor, sn__buf_str(&b), 300);
	sn__buf_finish(&b);
	sn__buf_finish(&large);
	bench_json();
	return r < 0 ? 1 : 0;
}
