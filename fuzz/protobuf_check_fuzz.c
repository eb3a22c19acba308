/* SPDX-License-Identifier: Apache-2.0 */
/* What passes the check, protobuf-c unpacks within the memory the check allows; packed and unpacked
 * again it is the same. */
#include <stdlib.h>

#include <protobuf-c/protobuf-c.h>

#include "base/mem.h"
#include "proto/generated/messages.pb-c.h"
#include "proto/generated/struct.pb-c.h"
#include "proto/generated/wire2.pb-c.h"
#include "proto/generated/wire3.pb-c.h"
#include "proto/protobuf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t taken, most;

static void *measured_alloc(void *unused, size_t size)
{
	size_t *p = malloc(size + 16);

	assert(p != NULL);
	*p = size;
	taken += size;
	most = SN_MAX(most, taken);
	return (char *)p + 16;
}

static void measured_free(void *unused, void *p)
{
	size_t *block = (size_t *)(void *)((char *)p - 16);

	taken -= *block;
	free(block);
}

/* protobuf-c alone, which may refuse what comes twice. */
static void measure(const ProtobufCMessageDescriptor *type, struct sn_str in)
{
	ProtobufCAllocator a = {measured_alloc, measured_free, NULL};
	ProtobufCMessage *m;

	taken = most = 0;
	m = protobuf_c_message_unpack(type, &a, in.len, (const uint8_t *)in.ptr);
	assert(most <= SN_PROTOBUF_BLOWUP_MIN + SN_PROTOBUF_BLOWUP * in.len);
	protobuf_c_message_free_unpacked(m, &a);
	assert(taken == 0);
}

static void again(const ProtobufCMessageDescriptor *type, const ProtobufCMessage *m)
{
	ProtobufCMessage *second = NULL;
	struct sn_buf a, b;
	int r;

	sn__buf_init(&a, (size_t)64 << 20);
	sn__buf_init(&b, (size_t)64 << 20);
	r = sn__protobuf_pack(m, &a);
	assert(r == 0);
	r = sn__protobuf_unpack(type, sn__buf_str(&a), &second, NULL);
	assert(r == 0);
	r = sn__protobuf_pack(second, &b);
	assert(r == 0 && sn_str_eq(sn__buf_str(&a), sn__buf_str(&b)));
	sn__protobuf_free(second);
	sn__buf_finish(&a);
	sn__buf_finish(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const ProtobufCMessageDescriptor *const types[] = {
			&sinew__wire3__all__descriptor,
			&sinew__wire3__tree__descriptor,
			&sinew__wire3__wide__descriptor,
			&sinew__wire3__nothing__descriptor,
			&sinew__wire2__old__descriptor,
			&google__protobuf__struct__descriptor,
			&grpc__testing__simple_request__descriptor,
	};
	const ProtobufCMessageDescriptor *type;
	ProtobufCMessage *m = NULL;
	struct sn_error err = {0};
	struct sn_str in;
	int r;

	if (size == 0)
		return 0;
	type = types[data[0] % SN_COUNT(types)];
	in = (struct sn_str){(const char *)data + 1, size - 1};
	r = sn__protobuf_check(type, in, &err);
	if (r == 0)
		measure(type, in);
	else
		assert(strncmp(err.text, "field ", 6) == 0 ||
				strncmp(err.text, "message: ", 9) == 0);
	assert(sn__protobuf_unpack(type, in, &m, NULL) == r);
	if (r == 0)
		again(type, m);
	sn__protobuf_free(m);
	return 0;
}
