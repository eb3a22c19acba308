/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/microhome.h"

#include "base/mem.h"
#include "base/time.h"
#include "proto/json_pull.h"
#include "proto/json_value.h"

/* ---- faults ---- */

static const struct {
	const char *name, *text;
} faults[] = {
		[SN_MICROHOME_FINE] = {"FINE", ""},
		[SN_MICROHOME_E_UTF8] = {"E_UTF8", "Payload is no valid UTF-8."},
		[SN_MICROHOME_E_JSON] = {"E_JSON", "Payload is no valid JSON string."},
		[SN_MICROHOME_E_TYPE] = {"E_TYPE", "Payload can only be of type object."},
		[SN_MICROHOME_E_TYPE_1] = {"E_TYPE",
				"Payload can only be an array, object or string."},
		[SN_MICROHOME_E_STATUS] = {"E_STATUS", "Error in Message"},
		[SN_MICROHOME_E_VERSION] = {"E_VERSION", "Unsupported protocol version"},
		[SN_MICROHOME_E_FIELDS] = {"E_FIELDS",
				"Payload does not contain every required \xc2\xb5HomeEvent "
				"properties."},
		[SN_MICROHOME_E_TOO_LARGE] = {"E_TOO_LARGE", "Payload is larger than 65535 bytes."},
		[SN_MICROHOME_E_STATUS_RANGE] = {"E_STATUS_RANGE",
				"Status can only be a number from 0 to 255."},
		[SN_MICROHOME_E_NOMEM] = {"E_NOMEM", "out of memory"},
};

const char *sn__microhome_fault_text(enum sn_microhome_fault fault)
{
	return faults[fault].text;
}

const char *sn__microhome_fault_name(enum sn_microhome_fault fault)
{
	return faults[fault].name;
}

/* ---- receiving ---- */

static unsigned be16(const char *p)
{
	return (unsigned)(unsigned char)p[0] << 8 | (unsigned char)p[1];
}

size_t sn__microhome_next(struct sn_str bytes, struct sn_microhome_packet *ret_packet)
{
	size_t size;

	if (bytes.len < SN_MICROHOME_HEADER)
		return 0;
	size = be16(bytes.ptr);
	if (bytes.len - SN_MICROHOME_HEADER < size)
		return 0;
	ret_packet->payload = (struct sn_str){bytes.ptr + SN_MICROHOME_HEADER, size};
	ret_packet->version = (uint16_t)be16(bytes.ptr + 2);
	ret_packet->status = (uint8_t)bytes.ptr[4];
	return SN_MICROHOME_HEADER + size;
}

/* Texts are freed of their escapes once all members are known: of duplicates only the last takes
 * room, so that the payload's size is enough for all. */
struct fields {
	struct sn_json_string id, timestamp, source, type, token;
};

static int read_text(struct sn_json_pull *r, struct sn_json_string *ret_text)
{
	*ret_text = (struct sn_json_string){{NULL, 0}, false};
	if (sn__json_peek(r) != SN_JSON_STRING)
		return sn__json_skip(r, NULL);
	return sn__json_string(r, ret_text);
}

static int read_member(struct sn_json_pull *r, struct sn_json_string key, struct fields *f,
		struct sn_microhome_event *event)
{
	if (sn__json_string_is(key, SN_STR("type")))
		return read_text(r, &f->type);
	if (sn__json_string_is(key, SN_STR("data")))
		return sn__json_skip(r, &event->data);
	if (sn__json_string_is(key, SN_STR("source")))
		return read_text(r, &f->source);
	if (sn__json_string_is(key, SN_STR("id")))
		return read_text(r, &f->id);
	if (sn__json_string_is(key, SN_STR("timestamp")))
		return read_text(r, &f->timestamp);
	if (sn__json_string_is(key, SN_STR("error")))
		return sn__json_skip(r, &event->error);
	if (sn__json_string_is(key, SN_STR("token")))
		return read_text(r, &f->token);
	return sn__json_skip(r, NULL);
}

static int read_object(struct sn_json_pull *r, struct fields *f, struct sn_microhome_event *event)
{
	struct sn_json_string key;
	int more = sn__json_enter_object(r);

	if (more < 0)
		return more;
	while ((more = sn__json_member(r, &key)) > 0) {
		more = read_member(r, key, f, event);
		if (more < 0)
			return more;
	}
	return more;
}

static int keep_texts(const struct fields *f, size_t room, struct sn_buf *scratch,
		struct sn_microhome_event *event)
{
	int r = sn__json_plain_in(f->type, room, scratch, &event->type);

	if (r == 0)
		r = sn__json_plain_in(f->source, room, scratch, &event->source);
	if (r == 0)
		r = sn__json_plain_in(f->id, room, scratch, &event->id);
	if (r == 0)
		r = sn__json_plain_in(f->timestamp, room, scratch, &event->timestamp);
	return r < 0 ? r : sn__json_plain_in(f->token, room, scratch, &event->token);
}

static bool complete(const struct sn_microhome_event *event)
{
	return event->id.len > 0 && event->timestamp.len > 0 && event->source.len > 0 &&
			event->type.len > 0;
}

enum sn_microhome_fault sn__microhome_read(const struct sn_microhome_packet *packet, bool strict,
		struct sn_buf *scratch, struct sn_microhome_event *ret_event)
{
	struct fields f = {0};
	struct sn_json_pull r;
	enum sn_json_type type;
	int rc;

	*ret_event = (struct sn_microhome_event){
			.version = packet->version, .status = packet->status};
	sn__buf_clear(scratch);
	sn__json_begin(&r, packet->payload);
	r.wide = true; /* data is passed on */
	type = sn__json_peek(&r);
	rc = type == SN_JSON_OBJECT ? read_object(&r, &f, ret_event) : sn__json_skip(&r, NULL);
	if (rc == 0)
		rc = sn__json_finish(&r);
	if (rc < 0) {
		bool utf8 = sn__utf8_valid(packet->payload);

		ret_event->data = ret_event->error = (struct sn_str){NULL, 0};
		return utf8 ? SN_MICROHOME_E_JSON : SN_MICROHOME_E_UTF8;
	}
	if (keep_texts(&f, packet->payload.len, scratch, ret_event) < 0)
		return SN_MICROHOME_E_NOMEM;
	if (packet->version != 1 && type != SN_JSON_OBJECT)
		return SN_MICROHOME_E_TYPE;
	if (strict && packet->version != 1 && packet->version != 2)
		return SN_MICROHOME_E_VERSION;
	if (packet->status != SN_MICROHOME_OK)
		return SN_MICROHOME_E_STATUS;
	if (strict && packet->version == 2 && !complete(ret_event))
		return SN_MICROHOME_E_FIELDS;
	return SN_MICROHOME_FINE;
}

/* ---- sending ---- */

static void write_header(char *to, size_t size, unsigned version, unsigned status)
{
	if (version != 1)
		version = SN_MICROHOME_VERSION;
	to[0] = (char)(size >> 8);
	to[1] = (char)(size & 0xff);
	to[2] = (char)(version >> 8);
	to[3] = (char)(version & 0xff);
	to[4] = (char)status;
}

static char *put(char *to, struct sn_str s)
{
	if (s.len > 0)
		memcpy(to, s.ptr, s.len);
	return to + s.len;
}

static char *put_text(char *to, struct sn_str name, struct sn_str text)
{
	to = put(to, name);
	return to + sn__json_quote_to(text, to);
}

static char *put_raw(char *to, struct sn_str name, struct sn_str json)
{
	return json.ptr == NULL ? to : put(put(to, name), json);
}

/* The most the payload can take, or more than the limit. */
static size_t room_for(const struct sn_microhome_send *s)
{
	const size_t names = 96,
		     texts = s->id.len + s->timestamp.len + s->source.len + s->type.len +
			s->token.len;

	if (texts > SN_MICROHOME_PAYLOAD_MAX || s->data.len > SN_MICROHOME_PAYLOAD_MAX ||
			s->error.len > SN_MICROHOME_PAYLOAD_MAX)
		return SIZE_MAX;
	return names + 6 * texts + s->data.len + s->error.len;
}

enum sn_microhome_fault sn__microhome_write(
		const struct sn_microhome_send *send, struct sn_buf *out)
{
	size_t room = room_for(send), size;
	char *to, *p;

	if (send->id.len == 0 || send->timestamp.len == 0 || send->source.len == 0 ||
			send->type.len == 0)
		return SN_MICROHOME_E_FIELDS;
	if (send->status > 255)
		return SN_MICROHOME_E_STATUS_RANGE;
	if (room == SIZE_MAX)
		return SN_MICROHOME_E_TOO_LARGE;
	if (sn__buf_reserve(out, SN_MICROHOME_HEADER + room, &to) < 0)
		return SN_MICROHOME_E_NOMEM;
	p = put_text(to + SN_MICROHOME_HEADER, SN_STR("{\"id\":"), send->id);
	p = put_text(p, SN_STR(",\"timestamp\":"), send->timestamp);
	p = put_text(p, SN_STR(",\"source\":"), send->source);
	p = put_text(p, SN_STR(",\"type\":"), send->type);
	p = put_raw(p, SN_STR(",\"data\":"), send->data);
	p = put_raw(p, SN_STR(",\"error\":"), send->error);
	if (send->token.ptr != NULL)
		p = put_text(p, SN_STR(",\"token\":"), send->token);
	*p++ = '}';
	size = (size_t)(p - to) - SN_MICROHOME_HEADER;
	if (size > SN_MICROHOME_PAYLOAD_MAX)
		return SN_MICROHOME_E_TOO_LARGE;
	write_header(to, size, send->version, send->status);
	sn__buf_commit(out, SN_MICROHOME_HEADER + size);
	return SN_MICROHOME_FINE;
}

/* A JavaScript value that counts as false: none, null, false, 0, "". */
static int read_filled(struct sn_json_pull *r, bool *ret_filled)
{
	struct sn_str raw;
	enum sn_json_type type = sn__json_peek(r);
	int rc = sn__json_skip(r, &raw);

	if (rc < 0)
		return rc;
	*ret_filled = type != SN_JSON_NULL && type != SN_JSON_FALSE &&
			!(type == SN_JSON_STRING && raw.len == 2) &&
			!(type == SN_JSON_NUMBER && sn__json_number_eq(raw, SN_STR("0")));
	return 0;
}

static enum sn_microhome_fault check_members(struct sn_str json)
{
	static const struct sn_str names[] = {
			{"source", 6}, {"id", 2}, {"timestamp", 9}, {"type", 4}};
	bool filled[SN_COUNT(names)] = {false}, unused;
	struct sn_json_string key;
	struct sn_json_pull r;
	int more;

	sn__json_begin_checked(&r, json);
	r.wide = true;
	more = sn__json_enter_object(&r);
	while (more >= 0 && (more = sn__json_member(&r, &key)) > 0) {
		bool *of = &unused;

		for (size_t i = 0; i < SN_COUNT(names); i++)
			if (sn__json_string_is(key, names[i]))
				of = &filled[i];
		more = read_filled(&r, of);
	}
	return more == 0 && filled[0] && filled[1] && filled[2] && filled[3]
			? SN_MICROHOME_FINE
			: SN_MICROHOME_E_FIELDS;
}

/* The text inside @json, when that is JSON itself. */
static enum sn_microhome_fault write_text(unsigned status, struct sn_str json, struct sn_buf *out)
{
	struct sn_json_string s;
	struct sn_json_pull r;
	size_t n, size_error;
	char *to;

	sn__json_begin_checked(&r, json);
	r.wide = true;
	if (sn__json_string(&r, &s) < 0)
		return SN_MICROHOME_E_JSON;
	if (sn__buf_reserve(out, SN_MICROHOME_HEADER + s.raw.len, &to) < 0)
		return SN_MICROHOME_E_NOMEM;
	n = sn__json_unescape(s, to + SN_MICROHOME_HEADER);
	if (sn__json_check_wide((struct sn_str){to + SN_MICROHOME_HEADER, n}, &size_error) < 0)
		return SN_MICROHOME_E_JSON;
	if (n > SN_MICROHOME_PAYLOAD_MAX)
		return SN_MICROHOME_E_TOO_LARGE;
	write_header(to, n, 1, status);
	sn__buf_commit(out, SN_MICROHOME_HEADER + n);
	return SN_MICROHOME_FINE;
}

enum sn_microhome_fault sn__microhome_write_payload(
		unsigned version, unsigned status, struct sn_str json, struct sn_buf *out)
{
	enum sn_microhome_fault fault;
	struct sn_json_pull r;
	enum sn_json_type type;
	char *to;

	if (status > 255)
		return SN_MICROHOME_E_STATUS_RANGE;
	if (sn__json_check_wide(json, NULL) < 0)
		return sn__utf8_valid(json) ? SN_MICROHOME_E_JSON : SN_MICROHOME_E_UTF8;
	sn__json_begin_checked(&r, json);
	type = sn__json_peek(&r);
	if (version == 1 && type == SN_JSON_STRING)
		return write_text(status, json, out);
	if (version == 1 && type != SN_JSON_OBJECT && type != SN_JSON_ARRAY)
		return SN_MICROHOME_E_TYPE_1;
	if (version != 1 && type != SN_JSON_OBJECT)
		return SN_MICROHOME_E_TYPE;
	fault = version != 1 ? check_members(json) : SN_MICROHOME_FINE;
	if (fault != SN_MICROHOME_FINE)
		return fault;
	if (json.len > SN_MICROHOME_PAYLOAD_MAX)
		return SN_MICROHOME_E_TOO_LARGE;
	if (sn__buf_reserve(out, SN_MICROHOME_HEADER + json.len, &to) < 0)
		return SN_MICROHOME_E_NOMEM;
	write_header(to, json.len, version, status);
	memcpy(to + SN_MICROHOME_HEADER, json.ptr, json.len);
	sn__buf_commit(out, SN_MICROHOME_HEADER + json.len);
	return SN_MICROHOME_FINE;
}

/* ---- ids ---- */

static void uuid_text(const uint8_t b[16], char out[SN_MICROHOME_UUID])
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*out++ = '-';
		*out++ = digits[b[i] >> 4];
		*out++ = digits[b[i] & 15];
	}
}

/* The value of a digit; with bit 8 set: none. */
static unsigned hex_digit(unsigned char c)
{
	static const uint8_t values[] = {
			['0'] = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ['a'] = 11, 12, 13, 14, 15, 16};

	return c < sizeof(values) ? (unsigned)values[c] - 1 : 256;
}

static bool uuid_bytes(struct sn_str text, uint8_t out[16])
{
	static const uint8_t places[16] = {
			0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};
	const unsigned char *p = (const unsigned char *)text.ptr;
	unsigned wrong = 0;

	if (text.len != SN_MICROHOME_UUID || p[8] != '-' || p[13] != '-' || p[18] != '-' ||
			p[23] != '-')
		return false;
	for (unsigned i = 0; i < 16; i++) {
		unsigned high = hex_digit(p[places[i]]), low = hex_digit(p[places[i] + 1]);

		wrong |= high | low;
		out[i] = (uint8_t)(high << 4 | (low & 15));
	}
	return wrong < 16 && out[6] >> 4 == 4 && out[8] >> 6 == 2;
}

static void uuid_random(struct sn_rng *rng, uint8_t b[16])
{
	uint64_t high = sn__rng_u64(rng), low = sn__rng_u64(rng);

	memcpy(b, &high, 8);
	memcpy(b + 8, &low, 8);
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
}

void sn__microhome_uuid(struct sn_rng *rng, char out[SN_MICROHOME_UUID])
{
	uint8_t b[16];

	uuid_random(rng, b);
	uuid_text(b, out);
}

/* FNV-1a with a last mixing: the same on every machine, and known to whoever reads the page. */
static uint32_t mark_of(const uint8_t b[12], const uint8_t *request /* may be NULL */)
{
	uint64_t h = UINT64_C(0xe321b2c85faa885f); /* of "sinew keeps" */

	for (size_t i = 0; i < 12; i++)
		h = (h ^ b[i]) * UINT64_C(0x100000001b3);
	for (size_t i = 0; request != NULL && i < 16; i++)
		h = (h ^ request[i]) * UINT64_C(0x100000001b3);
	h ^= h >> 32;
	h *= UINT64_C(0xd6e8feb86659fd93);
	return (uint32_t)(h >> 32);
}

static bool put_mark(uint8_t b[16], struct sn_str request, uint8_t out[4])
{
	uint8_t asked[16];
	uint32_t mark;

	if (request.ptr != NULL && !uuid_bytes(request, asked))
		return false;
	mark = mark_of(b, request.ptr != NULL ? asked : NULL);
	for (unsigned i = 0; i < 4; i++)
		out[i] = (uint8_t)(mark >> (24 - 8 * i));
	return true;
}

void sn__microhome_uuid_marked(
		struct sn_rng *rng, struct sn_str request, char out[SN_MICROHOME_UUID])
{
	uint8_t b[16];

	uuid_random(rng, b);
	(void)put_mark(b, request, b + 12);
	uuid_text(b, out);
}

bool sn__microhome_is_marked(struct sn_str id, struct sn_str request)
{
	uint8_t b[16], mark[4];

	return uuid_bytes(id, b) && put_mark(b, request, mark) && memcmp(b + 12, mark, 4) == 0;
}

/* ---- time ---- */

static char *put_digits(char *to, unsigned value, unsigned n)
{
	for (unsigned i = n; i-- > 0; value /= 10)
		to[i] = (char)('0' + value % 10);
	return to + n;
}

void sn__microhome_timestamp(uint64_t wall_ns, char out[SN_MICROHOME_TIMESTAMP])
{
	/* Civil date from days, counted from 1 March of year 0 (proleptic Gregorian). */
	uint64_t ms = wall_ns / SN_NS_PER_MS, days = ms / 86400000 + 719468;
	unsigned of_day = (unsigned)(ms % 86400000);
	uint64_t era = days / 146097;
	unsigned doe = (unsigned)(days % 146097);
	unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
	unsigned day = doy - (153 * mp + 2) / 5 + 1, month = mp < 10 ? mp + 3 : mp - 9;
	unsigned year = (unsigned)(era * 400 + yoe) + (month <= 2);
	char *p = put_digits(out, year, 4);

	*p++ = '-';
	p = put_digits(p, month, 2);
	*p++ = '-';
	p = put_digits(p, day, 2);
	*p++ = 'T';
	p = put_digits(p, of_day / 3600000, 2);
	*p++ = ':';
	p = put_digits(p, of_day / 60000 % 60, 2);
	*p++ = ':';
	p = put_digits(p, of_day / 1000 % 60, 2);
	*p++ = '.';
	p = put_digits(p, of_day % 1000, 3);
	*p = 'Z';
}

/* ---- framing ---- */

enum sn_microhome_framing sn__microhome_detect(struct sn_str bytes)
{
	if (bytes.len < 3)
		return SN_MICROHOME_UNDECIDED;
	if (bytes.ptr[2] == '\0')
		return SN_MICROHOME_PACKAGES;
	for (size_t i = 0; i < bytes.len; i++) {
		char c = bytes.ptr[i];

		if (c == '{' || c == '[')
			return SN_MICROHOME_JSONRPC;
		if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
			return SN_MICROHOME_NEITHER;
	}
	return SN_MICROHOME_UNDECIDED;
}
