/* SPDX-License-Identifier: Apache-2.0 */
/* The wire format, and messages between us and protobuf-c. */
#include "proto/protobuf.h"

#include <protobuf-c/protobuf-c.h>

#include "base/mem.h"
#include "base/test.h"
#include "proto/generated/messages.pb-c.h"
#include "proto/generated/struct.pb-c.h"
#include "proto/generated/wire2.pb-c.h"
#include "proto/generated/wire3.pb-c.h"

#define LEAF (&sinew__wire3__leaf__descriptor)
#define ALL (&sinew__wire3__all__descriptor)
#define TREE (&sinew__wire3__tree__descriptor)
#define WIDE (&sinew__wire3__wide__descriptor)
#define OLD (&sinew__wire2__old__descriptor)

/* ---- fields ---- */

static struct sn_protobuf_field only_field(struct sn_str in)
{
	struct sn_protobuf_field f = {0}, none;

	assert_int_equal(sn__protobuf_next(&in, &f), 1);
	assert_int_equal(sn__protobuf_next(&in, &none), 0);
	return f;
}

/* The examples of protobuf.dev, "Encoding". */
static void reads(void **state)
{
	struct sn_protobuf_field f = only_field(SN_STR("\x08\x96\x01"));
	struct sn_str in;
	uint64_t v;

	assert_int_equal(f.number, 1);
	assert_int_equal(f.wire, SN_PROTOBUF_VARINT);
	assert_int_equal(f.value, 150);
	f = only_field(SN_STR("\x12\x07testing"));
	assert_int_equal(f.number, 2);
	assert_true(sn_str_eq(f.bytes, SN_STR("testing")));
	f = only_field(SN_STR("\x1a\x03\x08\x96\x01"));
	assert_int_equal(f.number, 3);
	assert_int_equal(only_field(f.bytes).value, 150);
	f = only_field(SN_STR("\x32\x06\x03\x8e\x02\x9e\xa7\x05"));
	in = f.bytes;
	assert_int_equal(sn__protobuf_varint(&in, &v), 0);
	assert_int_equal(v, 3);
	assert_int_equal(sn__protobuf_varint(&in, &v), 0);
	assert_int_equal(v, 270);
	assert_int_equal(sn__protobuf_varint(&in, &v), 0);
	assert_int_equal(v, 86942);
	assert_int_equal(sn__protobuf_varint(&in, &v), SN_E_PARSE);
	/* -2 as int64 */
	f = only_field(SN_STR("\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
	assert_int_equal((int64_t)f.value, -2);
	f = only_field(SN_STR("\x0d\x01\x02\x03\x84"));
	assert_int_equal(f.wire, SN_PROTOBUF_I32);
	assert_int_equal(f.value, 0x84030201);
	f = only_field(SN_STR("\x09\x01\x02\x03\x04\x05\x06\x07\x88"));
	assert_int_equal(f.wire, SN_PROTOBUF_I64);
	assert_int_equal(f.value, UINT64_C(0x8807060504030201));
	f = only_field(SN_STR("\xf8\xff\xff\xff\x0f\x01"));
	assert_int_equal(f.number, (1 << 29) - 1);
	/* A group of a number, a group and a string */
	f = only_field(SN_STR("\x0b\x08\x01\x13\x14\x1a\x01x\x0c"));
	assert_int_equal(f.wire, SN_PROTOBUF_GROUP);
	assert_true(sn_str_eq(f.bytes, SN_STR("\x08\x01\x13\x14\x1a\x01x")));
	f = only_field(SN_STR("\x0b\x0c"));
	assert_int_equal(f.bytes.len, 0);
}

static void refuses(void **state)
{
	static const struct sn_str bad[] = {
			{"\x08", 1},     /* no value */
			{"\x80", 1},     /* half a tag */
			{"\x00\x00", 2}, /* field 0 */
			{"\x07\x00", 2},
			{"\x06\x00", 2},                     /* wire types 6 and 7 */
			{"\xf8\xff\xff\xff\x1f\x01", 6},     /* number over 2^29 */
			{"\x88\x80\x80\x80\x80\x00\x01", 7}, /* a tag of 6 bytes */
			{"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11}, /* 65 bits */
			{"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 12},
			{"\x0a\x02x", 3},                    /* shorter than it says */
			{"\x0a\xff\xff\xff\xff\x0fx", 7},    /* 4 GiB */
			{"\x0a\x80\x80\x80\x80\x80\x00", 7}, /* a length of 6 bytes */
			{"\x0dxyz", 4},
			{"\x09xyzxyzx", 8}, /* short fixed numbers */
			{"\x0c", 1},        /* an end without a group */
			{"\x0b", 1},
			{"\x0b\x14", 2},         /* no end, another's end */
			{"\x0b\x13\x0c\x14", 4}, /* crossed */
			{"\x0b\x08\x0c", 3},
	};

	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		struct sn_protobuf_field f = {.number = 77};
		struct sn_str in = bad[i];

		if (sn__protobuf_next(&in, &f) != SN_E_PARSE || in.len != bad[i].len ||
				f.number != 77)
			fail_msg("input %zu", i);
	}
}

static void writes_around(void **state)
{
	static const char want[] = "x\x12\x0e\x0a\x00\x96\x01\x04\x03\x02\x01\x01\x00\x00\x00";
	struct sn_buf out;

	sn__buf_init(&out, 20);
	assert_int_equal(sn__buf_puts(&out, "x"), 0);
	assert_int_equal(sn__protobuf_put_around(&out, 1, 1), 0);
	assert_int_equal(sn__protobuf_put_packed(&out, SN_PROTOBUF_VARINT, 150), 0);
	assert_int_equal(sn__protobuf_put_packed(&out, SN_PROTOBUF_I32, 0x01020304), 0);
	assert_int_equal(sn__protobuf_put_packed(&out, SN_PROTOBUF_I64, 1), 0);
	assert_int_equal(out.len, 17);
	sn__buf_truncate(&out, 15);
	assert_int_equal(sn__protobuf_put_around(&out, 2, 1), 0);
	sn__buf_truncate(&out, 16);
	assert_memory_equal(sn__buf_data(&out), want, 16);
	assert_int_equal(sn__protobuf_put_around(&out, 1000, 0), 0);
	assert_int_equal(sn__protobuf_put_around(&out, 1000, 0), SN_E_LIMIT);
	assert_int_equal(out.len, 19);
	sn__buf_finish(&out);
}

static void group_depth(void **state)
{
	char text[2 * (SN_PROTOBUF_DEPTH_MAX + 1)];
	struct sn_protobuf_field f;
	struct sn_str in = {text, 2 * SN_PROTOBUF_DEPTH_MAX};

	memset(text, 0x0b, SN_PROTOBUF_DEPTH_MAX);
	memset(text + SN_PROTOBUF_DEPTH_MAX, 0x0c, SN_PROTOBUF_DEPTH_MAX);
	assert_int_equal(sn__protobuf_next(&in, &f), 1);
	memset(text, 0x0b, SN_PROTOBUF_DEPTH_MAX + 1);
	memset(text + SN_PROTOBUF_DEPTH_MAX + 1, 0x0c, SN_PROTOBUF_DEPTH_MAX + 1);
	in = (struct sn_str){text, sizeof text};
	assert_int_equal(sn__protobuf_next(&in, &f), SN_E_PARSE);
}

static void writes(void **state)
{
	static const char want[] = "\x08\x96\x01"
				   "\xf8\xff\xff\xff\x0f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
				   "\x15\x04\x03\x02\x01"
				   "\x19\x08\x07\x06\x05\x04\x03\x02\x01"
				   "\x22\x07testing"
				   "\x22";
	struct sn_buf out;

	sn__buf_init(&out, 1000);
	assert_int_equal(sn__protobuf_put_varint(&out, 1, 150), 0);
	assert_int_equal(sn__protobuf_put_varint(&out, (1 << 29) - 1, UINT64_MAX), 0);
	assert_int_equal(sn__protobuf_put_i32(&out, 2, 0x01020304), 0);
	assert_int_equal(sn__protobuf_put_i64(&out, 3, UINT64_C(0x0102030405060708)), 0);
	assert_int_equal(sn__protobuf_put_bytes(&out, 4, SN_STR("testing")), 0);
	assert_int_equal(sn__protobuf_put_bytes(&out, 4, (struct sn_str){NULL, 0}), 0);
	assert_int_equal(out.len, sizeof want);
	assert_memory_equal(sn__buf_data(&out), want, sizeof want);
	sn__buf_finish(&out);

	sn__buf_init(&out, 8);
	assert_int_equal(sn__protobuf_put_bytes(&out, 4, SN_STR("testing")), SN_E_LIMIT);
	assert_int_equal(out.len, 0);
	sn__mem_fail_nth(1);
	assert_int_equal(sn__protobuf_put_i32(&out, 4, 1), SN_E_NOMEM);
	sn__mem_fail_nth(0);
	assert_int_equal(out.len, 0);
	sn__buf_finish(&out);

	assert_int_equal(sn_protobuf_zigzag(0), 0);
	assert_int_equal(sn_protobuf_zigzag(1), -1);
	assert_int_equal(sn_protobuf_zigzag(2), 1);
	assert_int_equal(sn_protobuf_zigzag(0xfffffffe), 0x7fffffff);
	assert_int_equal(sn_protobuf_zigzag(0xffffffff), INT32_MIN);
	assert_true(sn_protobuf_zigzag(UINT64_MAX) == INT64_MIN);
	assert_true(sn_protobuf_zigzag(UINT64_MAX - 1) == INT64_MAX);
}

/* ---- messages ---- */

static void roundtrip(void **state)
{
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;
	Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;
	Grpc__Testing__SimpleRequest *back;
	ProtobufCMessage *m = NULL;
	int64_t live = sn__mem_live();
	struct sn_error err;
	struct sn_buf out;

	sn__buf_init(&out, 1 << 20);
	assert_int_equal(sn__buf_puts(&out, "before"), 0);
	payload.body.data = (uint8_t *)"a\0b";
	payload.body.len = 3;
	request.response_size = 314159;
	request.payload = &payload;
	assert_int_equal(sn__protobuf_pack(&request.base, &out), 0);
	sn__buf_consume(&out, 6);
	assert_int_equal(sn__protobuf_unpack(request.base.descriptor, sn__buf_str(&out), &m, &err),
			0);
	back = (Grpc__Testing__SimpleRequest *)m;
	assert_int_equal(back->response_size, 314159);
	assert_int_equal(back->payload->body.len, 3);
	assert_memory_equal(back->payload->body.data, "a\0b", 3);
	sn__protobuf_free(m);
	sn__protobuf_free(NULL);
	sn__buf_finish(&out);
	/* The empty message is a message, of no bytes. */
	assert_int_equal(sn__protobuf_unpack(request.base.descriptor, (struct sn_str){NULL, 0}, &m,
					 NULL),
			0);
	assert_int_equal(sn__protobuf_pack(m, &out), 0);
	assert_int_equal(out.len, 0);
	sn__protobuf_free(m);
	sn__buf_finish(&out);
	assert_int_equal(sn__mem_live(), live);
}

static void pack_limits(void **state)
{
	Sinew__Wire3__Leaf leaf = SINEW__WIRE3__LEAF__INIT;
	struct sn_buf out;

	leaf.name = (char *)"12345678";
	sn__buf_init(&out, 9);
	assert_int_equal(sn__protobuf_pack(&leaf.base, &out), SN_E_LIMIT);
	sn__buf_init(&out, 10);
	sn__mem_fail_nth(1);
	assert_int_equal(sn__protobuf_pack(&leaf.base, &out), SN_E_NOMEM);
	sn__mem_fail_nth(0);
	assert_int_equal(out.len, 0);
	assert_int_equal(sn__protobuf_pack(&leaf.base, &out), 0);
	assert_memory_equal(sn__buf_data(&out),
			"\x12\x08"
			"12345678",
			10);
	sn__buf_finish(&out);
}

static void fails(const ProtobufCMessageDescriptor *type, struct sn_str data, int code,
		const char *sentence)
{
	struct sn_error err = {0};
	ProtobufCMessage *m = NULL;
	int r = sn__protobuf_check(type, data, &err);

	if (r != code || strcmp(err.text, sentence) != 0)
		fail_msg("%d \"%s\" instead of %d \"%s\"", r, err.text, code, sentence);
	assert_int_equal(sn__protobuf_unpack(type, data, &m, NULL), code);
	assert_null(m);
}

static void check_refuses(void **state)
{
	fails(LEAF, SN_STR("\x08"), SN_E_PARSE, "message: not a protobuf message");
	fails(LEAF, SN_STR("\x0a\x01x"), SN_E_PARSE, "field 1: not of the type of this field");
	fails(LEAF, SN_STR("\x10\x01"), SN_E_PARSE, "field 2: not of the type of this field");
	fails(LEAF, SN_STR("\x12\x02\xc3("), SN_E_PARSE, "field 2: a string that is not UTF-8");
	fails(LEAF, SN_STR("\x12\x03x\0y"), SN_E_PARSE,
			"field 2: a string with a byte of zero, at which it would end");
	fails(LEAF, SN_STR("\x23\x24"), SN_E_PARSE, "field 4: groups are not supported");
	fails(ALL, SN_STR("\x8a\x01\x02\x0a\x00"), SN_E_PARSE,
			"field 17.1: not of the type of this field");
	fails(ALL, SN_STR("\x92\x01\x05\x8a\x01\x02\x08"), SN_E_PARSE,
			"message: not a protobuf message");
	fails(ALL, SN_STR("\x92\x01\x05\x8a\x01\x02\x08\x80"), SN_E_PARSE,
			"field 18.17: not a protobuf message");
	fails(ALL, SN_STR("\xaa\x01\x02\x01\x80"), SN_E_PARSE,
			"field 21: packed numbers end in the middle of one");
	fails(ALL, SN_STR("\xca\x01\x05xyzxy"), SN_E_PARSE,
			"field 25: packed numbers end in the middle of one");
	fails(OLD, SN_STR("\x0a\x00"), SN_E_PARSE, "field 536870911: required, and not there");
	/* protobuf-c lets this pass, for the field has a default. */
	fails(OLD, SN_STR("\x32\x02\x08\x01"), SN_E_PARSE, "field 6.3: required, and not there");
	fails(LEAF, (struct sn_str){"", (size_t)INT32_MAX + 1}, SN_E_LIMIT,
			"message: larger than 2 GiB");
}

/* Nested @depth deep in field 1 of a Tree; returns where it begins in @space. */
static struct sn_str nested(char *space, size_t size, size_t depth)
{
	size_t at = size;

	for (size_t i = 0; i < depth; i++) {
		size_t len = size - at;
		char text[8] = {0x0a};
		size_t n = 1;

		for (; len >= 0x80; len >>= 7)
			text[n++] = (char)(len | 0x80);
		text[n++] = (char)len;
		at -= n;
		memcpy(space + at, text, n);
	}
	return (struct sn_str){space + at, size - at};
}

static void depth(void **state)
{
	static char space[100000];
	struct sn_str deep = nested(space, sizeof space, 25000);
	ProtobufCMessage *m = NULL;

	assert_true(deep.len > 74000);
	assert_int_equal(sn__protobuf_check(TREE, deep, NULL), SN_E_LIMIT);
	assert_int_equal(sn__protobuf_unpack(TREE, deep, &m, NULL), SN_E_LIMIT);
	deep = nested(space, sizeof space, SN_PROTOBUF_DEPTH_MAX + 1);
	assert_int_equal(sn__protobuf_check(TREE, deep, NULL), SN_E_LIMIT);
	deep = nested(space, sizeof space, SN_PROTOBUF_DEPTH_MAX);
	assert_int_equal(sn__protobuf_unpack(TREE, deep, &m, NULL), 0);
	sn__protobuf_free(m);
}

/* ---- what protobuf-c takes ---- */

static size_t taken, taken_most;

static void *measured_alloc(void *data, size_t size)
{
	size_t *p = test_malloc(size + 16);

	*p = size;
	taken += size;
	taken_most = SN_MAX(taken_most, taken);
	return (char *)p + 16;
}

static void measured_free(void *data, void *p)
{
	size_t *block = (size_t *)(void *)((char *)p - 16);

	taken -= *block;
	test_free(block);
}

/* The most memory protobuf-c had while it unpacked. */
static size_t measure(const ProtobufCMessageDescriptor *type, struct sn_str data)
{
	ProtobufCAllocator a = {measured_alloc, measured_free, NULL};
	ProtobufCMessage *m;

	taken = taken_most = 0;
	m = protobuf_c_message_unpack(type, &a, data.len, (const uint8_t *)data.ptr);
	assert_non_null(m);
	protobuf_c_message_free_unpacked(m, &a);
	assert_int_equal(taken, 0);
	return taken_most;
}

static void blowup_of(const ProtobufCMessageDescriptor *type, const char *unit, size_t unit_len,
		size_t n, int expected)
{
	struct sn_error err = {0};
	struct sn_buf data;
	int r;

	sn__buf_init(&data, (size_t)64 << 20);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(sn__buf_append(&data, unit, unit_len), 0);
	r = sn__protobuf_check(type, sn__buf_str(&data), &err);
	if (r != expected)
		fail_msg("%zu of %zu bytes: %d %s", n, unit_len, r, err.text);
	if (r == 0)
		assert_true(measure(type, sn__buf_str(&data)) <=
				SN_PROTOBUF_BLOWUP_MIN + SN_PROTOBUF_BLOWUP * data.len);
	else
		assert_non_null(strstr(err.text,
				": the message would take far more memory than it has bytes"));
	sn__buf_finish(&data);
}

static void blowup(void **state)
{
	/* Empty submessages of several hundred bytes each: a few are welcome, a flood is not. */
	blowup_of(WIDE, "\xf2\x01\x00", 3, 1000, 0);
	blowup_of(WIDE, "\xf2\x01\x00", 3, 100000, SN_E_LIMIT);
	/* Unknown fields, unpacked and packed numbers, empty strings: within the measure. */
	blowup_of(LEAF, "\x18\x01", 2, 100000, 0);
	blowup_of(ALL, "\xf0\x01\x01", 3, 100000, 0);
	blowup_of(ALL, "\xba\x01\x04\x01\x01\x01\x01", 7, 100000, 0);
	blowup_of(ALL, "\xda\x01\x00", 3, 100000, 0);
	blowup_of(ALL, "\xe2\x01\x00", 3, 100000, 0);
	blowup_of(ALL, "\xea\x01\x00", 3, 100000, 0);
	blowup_of(ALL, "\xea\x01\x02\x08\x01", 5, 100000, 0);
	/* A list of true, as google.protobuf.ListValue. */
	blowup_of(&google__protobuf__list_value__descriptor, "\x0a\x02\x20\x01", 4, 100000, 0);
}

/* One long list, then the message around it again and again: protobuf-c copies the list each time. */
static void merges(void **state)
{
	struct sn_error err = {0};
	struct sn_buf data, list;

	sn__buf_init(&list, 1 << 20);
	sn__buf_init(&data, 1 << 24);
	for (size_t i = 0; i < 200000; i++)
		assert_int_equal(sn__buf_append(&list, "\x01", 1), 0);
	assert_int_equal(sn__protobuf_put_bytes(&data, 4, sn__buf_str(&list)), 0);
	sn__buf_clear(&list);
	assert_int_equal(sn__protobuf_put_bytes(&list, 1, sn__buf_str(&data)), 0);
	assert_int_equal(sn__protobuf_check(TREE, sn__buf_str(&list), NULL), 0);
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(sn__buf_append(&list, "\x0a\x02\x20\x01", 4), 0);
	assert_int_equal(sn__protobuf_check(TREE, sn__buf_str(&list), &err), SN_E_LIMIT);
	sn__buf_finish(&list);
	sn__buf_finish(&data);
}

/* What protobuf-c loses or refuses by itself. */
static void merged(void **state)
{
	ProtobufCMessage *m = NULL;
	Sinew__Wire3__All *all;
	Sinew__Wire3__Tree *tree;

	/* f_leaf {a: 7}, f_leaf {name: "n"}; f_all {f_all {f_int32: 1}}, f_all {f_all {f_int64: 2}} */
	assert_int_equal(sn__protobuf_unpack(ALL,
					 SN_STR("\x8a\x01\x02\x08\x07\x92\x01\x05\x92\x01\x02\x08"
						"\x01\x8a\x01\x03\x12\x01n\x92\x01\x05\x92\x01\x02"
						"\x10\x02"),
					 &m, NULL),
			0);
	all = (Sinew__Wire3__All *)m;
	assert_int_equal(all->f_leaf->a, 7);
	assert_string_equal(all->f_leaf->name, "n");
	assert_int_equal(all->f_all->f_all->f_int32, 1);
	assert_int_equal(all->f_all->f_all->f_int64, 2);
	sn__protobuf_free(m);
	/* Oneofs that are not set; lists one behind the other, within another list. */
	assert_int_equal(sn__protobuf_unpack(TREE,
					 SN_STR("\x1a\x0a\x0a\x03\x22\x01\x01\x0a\x03\x22\x01\x02"),
					 &m, NULL),
			0);
	tree = (Sinew__Wire3__Tree *)m;
	assert_int_equal(tree->more[0]->left->n_numbers, 2);
	assert_int_equal(tree->more[0]->left->numbers[0], 1);
	assert_int_equal(tree->more[0]->left->numbers[1], 2);
	sn__protobuf_free(m);
}

/* ---- a message with everything ---- */

static void put_all(struct sn_buf *out, bool outer)
{
	struct sn_buf inner;

	for (uint32_t i = 1; i <= 8; i++)
		assert_int_equal(sn__protobuf_put_varint(out, i, i == 7 ? 1 : 100 + i), 0);
	assert_int_equal(sn__protobuf_put_i32(out, 9, 9), 0);
	assert_int_equal(sn__protobuf_put_i64(out, 10, 10), 0);
	assert_int_equal(sn__protobuf_put_i32(out, 11, 11), 0);
	assert_int_equal(sn__protobuf_put_i64(out, 12, 12), 0);
	assert_int_equal(sn__protobuf_put_i32(out, 13, 0x3f000000), 0);
	assert_int_equal(sn__protobuf_put_i64(out, 14, UINT64_C(0x3fe0000000000000)), 0);
	assert_int_equal(sn__protobuf_put_bytes(out, 15, SN_STR("gr\xc3\xbc\xc3\x9f")), 0);
	assert_int_equal(sn__protobuf_put_bytes(out, 16, SN_STR("\0\xff")), 0);
	assert_int_equal(sn__protobuf_put_bytes(out, 17, SN_STR("\x08\x07\x12\x01n")), 0);
	assert_int_equal(sn__protobuf_put_bytes(out, 21, SN_STR("\x01\x02\x96\x01")), 0);
	assert_int_equal(sn__protobuf_put_varint(out, 21, 5), 0);
	assert_int_equal(sn__protobuf_put_bytes(out, 22, SN_STR("\x01\x02")), 0);
	assert_int_equal(sn__protobuf_put_bytes(out, 23, SN_STR("\x01\x00\x01")), 0);
	assert_int_equal(sn__protobuf_put_bytes(out, 25, SN_STR("\1\2\3\4\5\6\7\x08")), 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(sn__protobuf_put_bytes(out, 27, SN_STR("many")), 0);
		assert_int_equal(sn__protobuf_put_bytes(out, 28, SN_STR("b")), 0);
		assert_int_equal(sn__protobuf_put_bytes(out, 29, SN_STR("\x12\x01m")), 0);
		assert_int_equal(sn__protobuf_put_varint(out, 30, i), 0);
	}
	assert_int_equal(sn__protobuf_put_bytes(out, 31, SN_STR("\x0a\x01k\x10\x07")), 0);
	assert_int_equal(sn__protobuf_put_bytes(out, 32, SN_STR("\x08\x05\x12\x02\x08\x01")), 0);
	assert_int_equal(sn__protobuf_put_bytes(out, 42, SN_STR("one")), 0);
	assert_int_equal(sn__protobuf_put_bytes(out, 44, SN_STR("\x12\x01o")), 0);
	assert_int_equal(sn__protobuf_put_bytes(out, 1000, SN_STR("unknown")), 0);
	if (!outer)
		return;
	sn__buf_init(&inner, 10000);
	put_all(&inner, false);
	assert_int_equal(sn__protobuf_put_bytes(out, 18, sn__buf_str(&inner)), 0);
	/* Again: merged. */
	assert_int_equal(sn__protobuf_put_bytes(out, 18, sn__buf_str(&inner)), 0);
	sn__buf_finish(&inner);
}

static void truncated(void **state)
{
	ProtobufCMessage *m = NULL;
	struct sn_buf data, again;
	unsigned good = 0;

	sn__buf_init(&data, 20000);
	sn__buf_init(&again, 20000);
	put_all(&data, true);
	for (size_t n = 0; n <= data.len; n++) {
		char *exact = test_malloc(n + 1); /* so that a read behind the end is seen */

		memcpy(exact, sn__buf_data(&data), n);
		if (sn__protobuf_unpack(ALL, (struct sn_str){exact, n}, &m, NULL) == 0) {
			sn__buf_clear(&again);
			assert_int_equal(sn__protobuf_pack(m, &again), 0);
			sn__protobuf_free(m);
			good++;
		}
		test_free(exact);
	}
	assert_true(good > 100 && good < 120);
	sn__buf_finish(&data);
	sn__buf_finish(&again);
}

static void memory_sweep(void **state)
{
	ProtobufCMessage *m = NULL;
	int64_t live;
	struct sn_buf data;
	unsigned failed = 0;
	int r = SN_E_NOMEM;

	sn__buf_init(&data, 20000);
	put_all(&data, true);
	live = sn__mem_live();
	for (uint64_t nth = 1; r == SN_E_NOMEM; nth++) {
		struct sn_error err = {0};

		sn__mem_fail_nth(nth);
		r = sn__protobuf_unpack(ALL, sn__buf_str(&data), &m, &err);
		if (r == SN_E_NOMEM) {
			assert_true(sn__mem_failed());
			assert_string_equal(err.text, "message: out of memory");
			assert_int_equal(sn__mem_live(), live);
			failed++;
		}
	}
	sn__mem_fail_nth(0);
	assert_int_equal(r, 0);
	assert_true(failed > 200);
	sn__protobuf_free(m);
	assert_int_equal(sn__mem_live(), live);
	sn__buf_finish(&data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(reads),
			cmocka_unit_test(refuses),
			cmocka_unit_test(group_depth),
			cmocka_unit_test(writes),
			cmocka_unit_test(writes_around),
			cmocka_unit_test(roundtrip),
			cmocka_unit_test(pack_limits),
			cmocka_unit_test(check_refuses),
			cmocka_unit_test(depth),
			cmocka_unit_test(blowup),
			cmocka_unit_test(merges),
			cmocka_unit_test(merged),
			cmocka_unit_test(truncated),
			cmocka_unit_test(memory_sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
