/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_MICROHOME_RAW_TEST_H
#define SN_SRC_DIALECT_MICROHOME_RAW_TEST_H

/* Internal, tests only: a peer that sends bytes and keeps what comes. */

#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "dialect/microhome/node.h"
#include "io/stream.h"
#include "io/world_test.h"

struct raw {
	struct sn_loop *loop;
	struct sn_stream *stream;
	struct sn_buf out, in;
	size_t chunk; /* bytes a write; 0: all */
	bool half_close;
	bool up, ended, failed;
};

static inline void raw_write(struct raw *p)
{
	while (p->out.len > 0) {
		struct sn_str bytes = sn__buf_str(&p->out);
		ssize_t n;

		if (p->chunk > 0 && bytes.len > p->chunk)
			bytes.len = p->chunk;
		n = sn__stream_write(p->stream, &bytes, 1);
		if (n == SN_E_AGAIN)
			break;
		if (n < 0) {
			p->ended = true;
			return;
		}
		sn__buf_consume(&p->out, (size_t)n);
		if (p->chunk > 0)
			break; /* the rest in another turn */
	}
	if (p->out.len == 0 && p->half_close) {
		p->half_close = false;
		(void)sn__stream_shutdown(p->stream);
	}
	sn__stream_want(p->stream, SN_READABLE | (p->out.len > 0 ? SN_WRITABLE : 0));
}

static inline void raw_event(struct sn_stream *s, unsigned events, void *arg)
{
	struct raw *p = arg;
	char bytes[4096];
	ssize_t n;

	if (events & SN_STREAM_FAILED) {
		p->failed = p->ended = true;
		return;
	}
	if (events & SN_STREAM_CONNECTED)
		p->up = true;
	while ((events & SN_READABLE) &&
			(n = sn__stream_read(s, bytes, sizeof(bytes))) != SN_E_AGAIN) {
		if (n <= 0) {
			p->ended = true;
			sn__stream_want(s, 0);
			return;
		}
		assert_int_equal(sn__buf_append(&p->in, bytes, (size_t)n), 0);
	}
	raw_write(p);
}

static inline void raw_open(struct raw *p, struct sn_loop *loop, const struct sn_addr *to)
{
	*p = (struct raw){.loop = loop};
	sn__buf_init(&p->out, (size_t)64 << 20);
	sn__buf_init(&p->in, (size_t)64 << 20);
	assert_int_equal(sn__stream_connect(loop, to, raw_event, p, &p->stream, NULL), 0);
}

static inline void raw_send(struct raw *p, const void *bytes, size_t n)
{
	assert_int_equal(sn__buf_append(&p->out, bytes, n), 0);
	if (p->up && !p->ended)
		raw_write(p);
}

static inline void raw_close(struct raw *p)
{
	sn__stream_close(p->stream, false);
	sn__buf_finish(&p->out);
	sn__buf_finish(&p->in);
}

static inline void raw_hex(struct raw *p, const char *hex)
{
	for (size_t i = 0; hex[i] != '\0'; i += 2) {
		uint64_t byte;
		char c;

		assert_int_equal(sn__parse_hex_u64((struct sn_str){hex + i, 2}, 255, &byte), 0);
		c = (char)byte;
		assert_int_equal(sn__buf_append(&p->out, &c, 1), 0);
	}
}

/* A package of version 2 with this payload. */
static inline void raw_package(struct raw *p, const char *payload)
{
	size_t n = strlen(payload);
	char head[5] = {(char)(n >> 8), (char)n, 0, 2, 1};

	assert_int_equal(sn__buf_append(&p->out, head, 5), 0);
	raw_send(p, payload, n);
}

/* The next package that came, as {version, status, payload without id and timestamp}; NULL: none. */
static inline json_t *raw_reply(struct raw *p)
{
	struct sn_microhome_packet packet;
	size_t n = sn__microhome_next(sn__buf_str(&p->in), &packet);
	json_t *payload, *all;

	if (n == 0)
		return NULL;
	assert_int_equal(sn__json_parse(packet.payload, SIZE_MAX, &payload, NULL), 0);
	assert_int_equal(strlen(sn__json_str(sn__json_get(payload, "id"))), SN_MICROHOME_UUID);
	assert_int_equal(strlen(sn__json_str(sn__json_get(payload, "timestamp"))),
			SN_MICROHOME_TIMESTAMP);
	(void)json_object_del(payload, "id");
	(void)json_object_del(payload, "timestamp");
	all = json_pack("{s:i,s:i,s:o}", "version", packet.version, "status", packet.status,
			"payload", payload);
	assert_non_null(all);
	sn__buf_consume(&p->in, n);
	return all;
}

/* The next package is this one. */
static inline void raw_expect(struct raw *p, int version, int status, const char *payload)
{
	SN_AUTO_JSON json_t *got = raw_reply(p), *wanted = json_loads(payload, 0, NULL);

	assert_non_null(got);
	assert_non_null(wanted);
	assert_int_equal(json_integer_value(sn__json_get(got, "version")), version);
	assert_int_equal(json_integer_value(sn__json_get(got, "status")), status);
	if (!sn__json_equal(sn__json_get(got, "payload"), wanted)) {
		SN_AUTO_FREE char *text = sn__json_text(got);

		print_error("got %s, wanted %s\n", text, payload);
		fail();
	}
}

#endif
