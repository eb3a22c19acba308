/* SPDX-License-Identifier: Apache-2.0 */
/* microhome-packets.json: every entry, against the codec. What a node answers to the invalid ones is
 * in src/dialect/microhome/server_test.c. */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"
#include "proto/jsonrpc.h"
#include "proto/microhome.h"

static json_t *all;

static int load(void **state)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/tests/vectors/microhome-packets.json",
			getenv("SINEW_SOURCE_ROOT"));
	all = json_load_file(path, 0, NULL);
	return all != NULL ? 0 : -1;
}

static int unload(void **state)
{
	json_decref(all);
	return 0;
}

static void add_hex(struct sn_buf *out, const char *hex)
{
	for (size_t i = 0; hex[i] != '\0'; i += 2) {
		uint64_t byte;
		char c;

		assert_int_equal(sn__parse_hex_u64((struct sn_str){hex + i, 2}, 255, &byte), 0);
		c = (char)byte;
		assert_int_equal(sn__buf_append(out, &c, 1), 0);
	}
}

static const char *text_of(const json_t *of, const char *name)
{
	return sn__json_str(sn__json_get(of, name));
}

/* "prefix", count times "char", "suffix". */
static void add_filled(
		struct sn_buf *out, const char *prefix, const char *c, size_t n, const char *suffix)
{
	assert_int_equal(sn__buf_puts(out, prefix), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(sn__buf_puts(out, c), 0);
	assert_int_equal(sn__buf_puts(out, suffix), 0);
}

/* pkt-34 gives its payload as a template with an empty text to be filled. */
static void add_template(struct sn_buf *out, const json_t *entry)
{
	const json_t *fill = sn__json_get(entry, "fill");
	const char *text = text_of(entry, "payload_template"), *hole = strstr(text, "\"\"");

	assert_non_null(hole);
	add_hex(out, text_of(entry, "header_hex"));
	assert_int_equal(sn__buf_append(out, text, (size_t)(hole - text) + 1), 0);
	add_filled(out, "", text_of(fill, "char"),
			(size_t)json_integer_value(sn__json_get(fill, "count")), hole + 1);
}

static void same_text(struct sn_str text, const json_t *expected)
{
	const char *s = sn__json_str(expected);

	if (s == NULL)
		assert_null(text.ptr);
	else
		assert_true(sn_str_eq(text, sn_str_from(s)));
}

static void same_json(struct sn_str text, json_t *expected /* may be NULL */)
{
	SN_AUTO_JSON json_t *json = NULL;

	if (expected == NULL) {
		assert_null(text.ptr);
		return;
	}
	assert_int_equal(sn__json_parse(text, SIZE_MAX, &json, NULL), 0);
	assert_true(sn__json_equal(json, expected));
}

static void check_decoded(const struct sn_microhome_packet *p, const json_t *entry)
{
	const json_t *decoded = sn__json_get(entry, "decoded"),
		     *payload = sn__json_get(decoded, "payload");
	enum sn_microhome_fault fault;
	struct sn_microhome_event e;
	struct sn_buf scratch;

	sn__buf_init(&scratch, SN_MICROHOME_PAYLOAD_MAX * 2);
	assert_int_equal(p->payload.len, json_integer_value(sn__json_get(decoded, "size")));
	assert_int_equal(p->version, json_integer_value(sn__json_get(decoded, "version")));
	assert_int_equal(p->status, json_integer_value(sn__json_get(decoded, "status")));
	fault = sn__microhome_read(p, false, &scratch, &e);
	assert_int_equal(fault, p->status == 1 ? SN_MICROHOME_FINE : SN_MICROHOME_E_STATUS);
	if (payload != NULL) {
		same_json(p->payload, (json_t *)payload);
		same_text(e.id, sn__json_get(payload, "id"));
		same_text(e.timestamp, sn__json_get(payload, "timestamp"));
		same_text(e.source, sn__json_get(payload, "source"));
		same_text(e.type, sn__json_get(payload, "type"));
		same_json(e.data, sn__json_get(payload, "data"));
		same_json(e.error, sn__json_get(payload, "error"));
	}
	sn__buf_finish(&scratch);
}

static void check_bytes(const struct sn_buf *made, struct sn_str wanted)
{
	assert_int_equal(made->len, wanted.len);
	assert_memory_equal(sn__buf_data(made), wanted.ptr, wanted.len);
}

/* By members, when it has those of an event and no others. */
static void check_written(const struct sn_microhome_packet *p, struct sn_str wanted)
{
	struct sn_microhome_event e;
	struct sn_buf scratch, out;
	struct sn_microhome_send send;

	sn__buf_init(&scratch, SN_MICROHOME_PAYLOAD_MAX * 2);
	sn__buf_init(&out, SN_MICROHOME_PACKET_MAX * 8);
	(void)sn__microhome_read(p, false, &scratch, &e);
	send = (struct sn_microhome_send){e.id, e.timestamp, e.source, e.type, e.data, e.error,
			{NULL, 0}, p->version, p->status};
	assert_string_equal(sn__microhome_fault_name(sn__microhome_write(&send, &out)), "FINE");
	check_bytes(&out, wanted);
	sn__buf_finish(&out);
	sn__buf_finish(&scratch);
}

static void check_encoded(
		const struct sn_microhome_packet *p, const json_t *entry, struct sn_str wanted)
{
	json_t *payload = sn__json_get(sn__json_get(entry, "decoded"), "payload");
	struct sn_buf json, out;

	sn__buf_init(&json, SIZE_MAX);
	sn__buf_init(&out, SIZE_MAX);
	if (payload == NULL) /* the template */
		assert_int_equal(sn__buf_append_str(&json, p->payload), 0);
	else if (json_is_real(payload)) /* sent as a text */
		assert_int_equal(sn__json_quote(p->payload, &json), 0);
	else
		assert_int_equal(sn__json_dump(payload, &json), 0);
	assert_string_equal(sn__microhome_fault_name(sn__microhome_write_payload(
					    p->version, p->status, sn__buf_str(&json), &out)),
			"FINE");
	check_bytes(&out, wanted);
	if (p->version == 2 && sn__json_get(payload, "priority") == NULL)
		check_written(p, wanted);
	sn__buf_finish(&out);
	sn__buf_finish(&json);
}

static void valid(void **state)
{
	json_t *list = sn__json_get(all, "valid"), *entry;
	size_t i;

	assert_int_equal(json_array_size(list), 34);
	json_array_foreach(list, i, entry)
	{
		struct sn_microhome_packet p;
		struct sn_buf bytes;

		sn__buf_init(&bytes, SIZE_MAX);
		if (text_of(entry, "hex") != NULL)
			add_hex(&bytes, text_of(entry, "hex"));
		else
			add_template(&bytes, entry);
		for (size_t n = 0; n < bytes.len; n++)
			assert_int_equal(
					sn__microhome_next((struct sn_str){sn__buf_data(&bytes), n},
							&p),
					0);
		assert_int_equal(sn__microhome_next(sn__buf_str(&bytes), &p), bytes.len);
		check_decoded(&p, entry);
		if (json_is_true(sn__json_get(entry, "encode")))
			check_encoded(&p, entry, sn__buf_str(&bytes));
		sn__buf_finish(&bytes);
	}
}

/* FINE is null, an end inside a package E_TRUNCATED. */
static const char *outcome(struct sn_str bytes, bool strict)
{
	enum sn_microhome_fault fault;
	struct sn_microhome_packet p;
	struct sn_microhome_event e;
	struct sn_buf scratch;

	if (sn__microhome_next(bytes, &p) == 0)
		return bytes.len > 0 ? "E_TRUNCATED" : NULL;
	sn__buf_init(&scratch, SN_MICROHOME_PAYLOAD_MAX * 2);
	fault = sn__microhome_read(&p, strict, &scratch, &e);
	sn__buf_finish(&scratch);
	return fault == SN_MICROHOME_FINE ? NULL : sn__microhome_fault_name(fault);
}

static void same_outcome(const char *got, const char *wanted)
{
	assert_string_equal(got != NULL ? got : "null", wanted != NULL ? wanted : "null");
}

static void invalid(void **state)
{
	json_t *list = sn__json_get(all, "invalid"), *entry;
	size_t i;

	assert_int_equal(json_array_size(list), 24);
	json_array_foreach(list, i, entry)
	{
		const json_t *strict = sn__json_get(entry, "strict");
		const char *text = text_of(sn__json_get(entry, "reply"), "error");
		struct sn_buf bytes;

		sn__buf_init(&bytes, SIZE_MAX);
		add_hex(&bytes, text_of(entry, "hex"));
		same_outcome(outcome(sn__buf_str(&bytes), false), text_of(entry, "error"));
		if (strict != NULL)
			same_outcome(outcome(sn__buf_str(&bytes), true), text_of(strict, "error"));
		for (unsigned f = 1; text != NULL && f < SN_MICROHOME_E_NOMEM; f++)
			if (strcmp(sn__microhome_fault_name(f), text_of(entry, "error")) == 0 &&
					f != SN_MICROHOME_E_TYPE_1)
				assert_string_equal(sn__microhome_fault_text(f), text);
		sn__buf_finish(&bytes);
	}
}

static void sender_payload(const json_t *payload, struct sn_buf *out)
{
	const json_t *filled = sn__json_get(payload, "$text_of");
	struct sn_buf text;

	if (filled == NULL) {
		char *any = json_dumps(payload, JSON_COMPACT | JSON_ENCODE_ANY);

		assert_int_equal(sn__buf_puts(out, any), 0);
		free(any);
		return;
	}
	sn__buf_init(&text, SIZE_MAX);
	add_filled(&text, text_of(filled, "prefix"), text_of(filled, "char"),
			(size_t)json_integer_value(sn__json_get(filled, "count")),
			text_of(filled, "suffix"));
	assert_int_equal(sn__json_quote(sn__buf_str(&text), out), 0);
	sn__buf_finish(&text);
}

static void sender(void **state)
{
	json_t *list = sn__json_get(all, "sender"), *entry;
	size_t i;

	assert_int_equal(json_array_size(list), 16);
	json_array_foreach(list, i, entry)
	{
		const json_t *status = sn__json_get(entry, "status");
		const char *text = text_of(entry, "text");
		enum sn_microhome_fault fault;
		struct sn_buf json, out;

		sn__buf_init(&json, SIZE_MAX);
		sn__buf_init(&out, SIZE_MAX);
		sender_payload(sn__json_get(entry, "payload"), &json);
		fault = sn__microhome_write_payload(
				(unsigned)json_integer_value(sn__json_get(entry, "version")),
				status != NULL ? (unsigned)json_integer_value(status) : 1,
				sn__buf_str(&json), &out);
		assert_string_equal(sn__microhome_fault_name(fault), text_of(entry, "error"));
		if (strcmp(text, "$text") != 0)
			assert_string_equal(sn__microhome_fault_text(fault), text);
		assert_true(sn__microhome_fault_text(fault)[0] != '\0');
		assert_int_equal(out.len, 0);
		sn__buf_finish(&out);
		sn__buf_finish(&json);
	}
}

/* Takes what is complete; checks it against what is still expected. */
static size_t take(struct sn_buf *bytes, const json_t *wanted, size_t at)
{
	struct sn_microhome_packet p;
	struct sn_microhome_event e;
	struct sn_buf scratch;
	size_t n;

	sn__buf_init(&scratch, SN_MICROHOME_PAYLOAD_MAX * 2);
	while ((n = sn__microhome_next(sn__buf_str(bytes), &p)) > 0) {
		enum sn_microhome_fault fault = sn__microhome_read(&p, false, &scratch, &e);
		const char *name = sn__json_str(json_array_get(wanted, at++));

		if (fault != SN_MICROHOME_FINE)
			assert_string_equal(sn__microhome_fault_name(fault), name);
		else if (name == NULL)
			assert_null(e.type.ptr);
		else
			assert_true(sn_str_eq(e.type, sn_str_from(name)));
		sn__buf_consume(bytes, n);
	}
	sn__buf_finish(&scratch);
	return at;
}

static void streams(void **state)
{
	json_t *list = sn__json_get(all, "streams"), *entry, *chunk;
	size_t i, k;

	assert_int_equal(json_array_size(list), 9);
	json_array_foreach(list, i, entry)
	{
		const json_t *wanted = sn__json_get(entry, "packets");
		struct sn_buf bytes;
		size_t at = 0;

		sn__buf_init(&bytes, SN_MICROHOME_PACKET_MAX);
		json_array_foreach(sn__json_get(entry, "chunks_hex"), k, chunk)
		{
			add_hex(&bytes, sn__json_str(chunk));
			at = take(&bytes, wanted, at);
		}
		assert_int_equal(at, json_array_size(wanted));
		assert_int_equal(bytes.len, 0);
		sn__buf_finish(&bytes);
	}
}

static void detection(void **state)
{
	static const char *const kinds[] = {"undecided", "packet", "jsonrpc", "reject"};
	json_t *list = sn__json_get(all, "detection"), *entry;
	size_t i;

	assert_int_equal(json_array_size(list), 14);
	json_array_foreach(list, i, entry)
	{
		struct sn_buf bytes;

		sn__buf_init(&bytes, SIZE_MAX);
		add_hex(&bytes, text_of(entry, "hex"));
		assert_string_equal(kinds[sn__microhome_detect(sn__buf_str(&bytes))],
				text_of(entry, "kind"));
		sn__buf_finish(&bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(valid),
			cmocka_unit_test(invalid),
			cmocka_unit_test(sender),
			cmocka_unit_test(streams),
			cmocka_unit_test(detection),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
