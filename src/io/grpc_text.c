/* SPDX-License-Identifier: Apache-2.0 */
/* What gRPC says in headers: codes, status, time-outs, metadata. */
#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/time.h"
#include "io/grpc.h"

/* ---- codes ---- */

const char *sn_grpc_code_name(int code)
{
	static const char *const names[] = {"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT",
			"DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
			"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
			"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"};

	return code >= 0 && (size_t)code < SN_COUNT(names) ? names[code] : "UNKNOWN";
}

int sn__grpc_code_of_http(unsigned status)
{
	switch (status) {
	case 400:
		return SN_GRPC_INTERNAL;
	case 401:
		return SN_GRPC_UNAUTHENTICATED;
	case 403:
		return SN_GRPC_PERMISSION_DENIED;
	case 404:
		return SN_GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return SN_GRPC_UNAVAILABLE;
	default:
		return SN_GRPC_UNKNOWN;
	}
}

int sn__grpc_code_of_h2(int h2_error)
{
	switch (h2_error) {
	case -1:
	case 7: /* REFUSED_STREAM */
		return SN_GRPC_UNAVAILABLE;
	case 8: /* CANCEL */
		return SN_GRPC_CANCELLED;
	case 11: /* ENHANCE_YOUR_CALM */
		return SN_GRPC_RESOURCE_EXHAUSTED;
	case 12: /* INADEQUATE_SECURITY */
		return SN_GRPC_PERMISSION_DENIED;
	default:
		return h2_error >= 0 && h2_error <= 13 ? SN_GRPC_INTERNAL : SN_GRPC_UNKNOWN;
	}
}

int sn__grpc_code_of_result(int code)
{
	switch (code) {
	case 0:
		return SN_GRPC_OK;
	case SN_E_NOMEM:
	case SN_E_LIMIT:
	case SN_E_OVERLOAD:
		return SN_GRPC_RESOURCE_EXHAUSTED;
	case SN_E_CLOSED:
	case SN_E_CANCELLED:
		return SN_GRPC_CANCELLED;
	case SN_E_TIMEOUT:
	case SN_E_DEADLINE:
		return SN_GRPC_DEADLINE_EXCEEDED;
	case SN_E_NO_PEER:
	case SN_E_BREAKER:
	case SN_E_RESOLVE:
	case SN_E_CONNECT:
	case SN_E_TLS:
	case SN_E_RESET:
	case SN_E_EOF:
	case SN_E_IO:
		return SN_GRPC_UNAVAILABLE;
	case SN_E_INVALID:
	case SN_E_STATE:
	case SN_E_PROTOCOL:
	case SN_E_PARSE:
		return SN_GRPC_INTERNAL;
	case SN_E_NOTSUP:
		return SN_GRPC_UNIMPLEMENTED;
	case SN_E_REJECTED:
		return SN_GRPC_PERMISSION_DENIED;
	default:
		return SN_GRPC_UNKNOWN;
	}
}

/* ---- grpc-message ---- */

int sn__grpc_percent_encode(struct sn_str text, struct sn_buf *out)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = text.len;
	char *at;
	int r;

	for (size_t i = 0; i < text.len; i++)
		if (text.ptr[i] < ' ' || text.ptr[i] > '~' || text.ptr[i] == '%')
			n += 2;
	r = sn__buf_reserve(out, n, &at);
	if (r < 0)
		return r;
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];

		if (c >= ' ' && c <= '~' && c != '%') {
			*at++ = (char)c;
			continue;
		}
		*at++ = '%';
		*at++ = hex[c >> 4];
		*at++ = hex[c & 15];
	}
	sn__buf_commit(out, n);
	return 0;
}

/* Bytes written to @out, which has room for all of @text. */
static size_t percent_decode(struct sn_str text, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < text.len; i++) {
		uint64_t byte;

		if (text.ptr[i] == '%' && text.len - i > 2 &&
				sn__parse_hex_u64((struct sn_str){text.ptr + i + 1, 2}, 255,
						&byte) == 0) {
			out[n++] = (char)byte;
			i += 2;
		} else {
			out[n++] = text.ptr[i]; /* not ours to refuse */
		}
	}
	return n;
}

int sn__grpc_percent_decode(struct sn_str text, struct sn_buf *out)
{
	char *space;
	int r = sn__buf_reserve(out, text.len, &space);

	if (r == 0 && text.len > 0)
		sn__buf_commit(out, percent_decode(text, space));
	return r;
}

/* ---- status ---- */

void sn__grpc_status_finish(struct sn_grpc_status *s)
{
	sn__free(s->text);
	sn__free(s->details.block);
	*s = (struct sn_grpc_status){0};
}

/* The last entry called @name: a proxy's own comes before that of whoever it asked. */
static const struct sn_str *find(
		const struct sn_http_header *headers, unsigned n, struct sn_str name)
{
	while (n-- > 0)
		if (sn__str_ieq(headers[n].name, name))
			return &headers[n].value;
	return NULL;
}

static char *decoded(struct sn_str text)
{
	char *out = sn__malloc(text.len + 1);

	if (out != NULL)
		out[percent_decode(text, out)] = '\0';
	return out;
}

static char *absent_text(unsigned http_status)
{
	const char *reason = sn__http_reason(http_status);

	if (http_status == 200)
		return sn__strdup("the answer has no grpc-status");
	return sn__asprintf("the answer has HTTP status %u%s%s%s", http_status,
			reason[0] != '\0' ? " (" : "", reason, reason[0] != '\0' ? ")" : "");
}

/* Code and text. */
static int read_code(struct sn_grpc_status *s, unsigned http_status,
		const struct sn_http_header *headers, unsigned n)
{
	const struct sn_str *code = find(headers, n, SN_STR("grpc-status"));
	const struct sn_str *text = find(headers, n, SN_STR("grpc-message"));
	uint64_t value;

	if (code == NULL) {
		s->code = http_status == 200 ? SN_GRPC_UNKNOWN : sn__grpc_code_of_http(http_status);
		s->text = absent_text(http_status);
		return s->text != NULL ? 0 : SN_E_NOMEM;
	}
	s->code = SN_GRPC_UNKNOWN;
	if (sn__parse_u64(*code, INT32_MAX, &value) == 0 && value <= SN_GRPC_UNAUTHENTICATED) {
		s->code = (int)value;
	} else if (text == NULL || text->len == 0) {
		s->text = sn__asprintf("the answer has the unknown grpc-status \"%.*s\"",
				(int)SN_MIN(code->len, 40), code->ptr);
		return s->text != NULL ? 0 : SN_E_NOMEM;
	}
	if (text != NULL && text->len > 0) {
		s->text = decoded(*text);
		if (s->text == NULL)
			return SN_E_NOMEM;
	}
	return 0;
}

int sn__grpc_status_read(struct sn_grpc_status *s, unsigned http_status,
		const struct sn_http_header *headers, unsigned n)
{
	static const struct sn_str details_name = {"grpc-status-details-bin", 23};
	const struct sn_str *details = find(headers, n, details_name);
	int r;

	*s = (struct sn_grpc_status){0};
	sn__buf_init(&s->details, SIZE_MAX / 2);
	r = read_code(s, http_status, headers, n);
	if (r == 0 && details != NULL && s->code != SN_GRPC_OK)
		r = sn__grpc_value_read(details_name, *details, &s->details);
	if (r == SN_E_PARSE)
		r = 0; /* the code counts, not its decoration */
	if (r < 0)
		sn__grpc_status_finish(s);
	return r;
}

/* ---- grpc-timeout ---- */

static const struct unit {
	char letter;
	uint64_t ns;
} units[] = {
		{'n', 1},
		{'u', 1000},
		{'m', SN_NS_PER_MS},
		{'S', SN_NS_PER_S},
		{'M', 60 * SN_NS_PER_S},
		{'H', 3600 * SN_NS_PER_S},
};

void sn__grpc_timeout_write(uint64_t ns, char out[SN_GRPC_TIMEOUT_TEXT])
{
	size_t i = 0;

	ns = SN_MAX(ns, 1u);
	while (ns / units[i].ns > 99999999)
		i++; /* hours always fit: 2^64 ns are 5 million */
	(void)snprintf(out, SN_GRPC_TIMEOUT_TEXT, "%" PRIu64 "%c", ns / units[i].ns,
			units[i].letter);
}

int sn__grpc_timeout_read(struct sn_str text, uint64_t *ret_ns)
{
	uint64_t value;

	if (text.len < 2 || text.len > 9 ||
			sn__parse_u64((struct sn_str){text.ptr, text.len - 1}, 99999999, &value) <
					0)
		return SN_E_PARSE;
	for (size_t i = 0; i < SN_COUNT(units); i++) {
		if (units[i].letter != text.ptr[text.len - 1])
			continue;
		/* Hours can be more than 2^64 ns. */
		*ret_ns = value > UINT64_MAX / units[i].ns ? UINT64_MAX : value * units[i].ns;
		return 0;
	}
	return SN_E_PARSE;
}

/* ---- metadata ---- */

bool sn__grpc_is_bin(struct sn_str name)
{
	return name.len >= 4 &&
			sn__str_ieq((struct sn_str){name.ptr + name.len - 4, 4}, SN_STR("-bin"));
}

bool sn__grpc_is_content_type(struct sn_str value)
{
	static const struct sn_str type = {"application/grpc", 16};

	if (value.len < type.len || !sn__str_ieq((struct sn_str){value.ptr, type.len}, type))
		return false;
	return value.len == type.len || value.ptr[type.len] == '+' || value.ptr[type.len] == ';' ||
			value.ptr[type.len] == ' ';
}

bool sn__grpc_accepts_gzip(struct sn_str list)
{
	size_t at = 0;

	while (at < list.len) {
		const char *comma = memchr(list.ptr + at, ',', list.len - at);
		size_t end = comma != NULL ? (size_t)(comma - list.ptr) : list.len;
		size_t next = end + 1;

		while (at < end && list.ptr[at] == ' ')
			at++;
		while (end > at && list.ptr[end - 1] == ' ')
			end--;
		if (sn__str_ieq((struct sn_str){list.ptr + at, end - at}, SN_STR("gzip")))
			return true;
		at = next;
	}
	return false;
}

static bool name_reserved(struct sn_str name)
{
	static const char *const names[] = {"connection", "content-length", "content-type", "host",
			"keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade",
			"user-agent", NULL};

	if (name.len >= 5 && memcmp(name.ptr, "grpc-", 5) == 0)
		/* What a method may say itself: when to try again (gRFC A6). */
		return !sn_str_eq(name, SN_STR("grpc-retry-pushback-ms"));
	for (size_t i = 0; names[i] != NULL; i++)
		if (sn_str_eq(name, sn_str_from(names[i])))
			return true;
	return false;
}

bool sn__grpc_metadata_valid(const struct sn_grpc_metadata *entry)
{
	struct sn_str name = sn_str_from(entry->name);
	const unsigned char *value = entry->value;

	if (name.len == 0 || name_reserved(name) || (value == NULL && entry->size > 0))
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
				    c == '.'))
			return false;
	}
	if (sn__grpc_is_bin(name))
		return true;
	for (size_t i = 0; i < entry->size; i++)
		if (value[i] < ' ' || value[i] > '~')
			return false;
	return true;
}

static int base64_encode(const unsigned char *in, size_t n, struct sn_buf *out)
{
	static const char digits[] =
			"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t size = n / 3 * 4 + (n % 3 > 0 ? n % 3 + 1 : 0), i = 0;
	char *at;
	int r = sn__buf_reserve(out, size, &at);

	if (r < 0)
		return r;
	for (; n - i >= 3; i += 3) {
		*at++ = digits[in[i] >> 2];
		*at++ = digits[(in[i] & 3) << 4 | in[i + 1] >> 4];
		*at++ = digits[(in[i + 1] & 15) << 2 | in[i + 2] >> 6];
		*at++ = digits[in[i + 2] & 63];
	}
	if (n - i > 0) {
		unsigned second = n - i > 1 ? in[i + 1] : 0;

		*at++ = digits[in[i] >> 2];
		*at++ = digits[(in[i] & 3u) << 4 | second >> 4];
		if (n - i > 1)
			*at++ = digits[(second & 15) << 2];
	}
	sn__buf_commit(out, size);
	return 0;
}

static int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static int base64_decode(struct sn_str in, struct sn_buf *out)
{
	size_t before = out->len, padding = 0;
	unsigned bits = 0, n_bits = 0;
	char *at;
	int r;

	while (padding < 2 && in.len > 0 && in.ptr[in.len - 1] == '=') {
		in.len--;
		padding++;
	}
	if (in.len % 4 == 1 || (padding > 0 && (in.len + padding) % 4 != 0))
		return SN_E_PARSE;
	r = sn__buf_reserve(out, in.len / 4 * 3 + 2, &at);
	if (r < 0)
		return r;
	for (size_t i = 0; i < in.len; i++) {
		int digit = base64_digit(in.ptr[i]);

		if (digit < 0) {
			sn__buf_truncate(out, before);
			return SN_E_PARSE;
		}
		bits = bits << 6 | (unsigned)digit;
		n_bits += 6;
		if (n_bits >= 8) {
			n_bits -= 8;
			*at++ = (char)(bits >> n_bits);
			sn__buf_commit(out, 1);
		}
	}
	return 0;
}

int sn__grpc_value_write(const struct sn_grpc_metadata *entry, struct sn_buf *out)
{
	if (sn__grpc_is_bin(sn_str_from(entry->name)))
		return base64_encode(entry->value, entry->size, out);
	return sn__buf_append(out, entry->value, entry->size);
}

int sn__grpc_value_read(struct sn_str name, struct sn_str value, struct sn_buf *out)
{
	const char *comma;

	if (!sn__grpc_is_bin(name))
		return sn__buf_append_str(out, value);
	comma = value.len > 0 ? memchr(value.ptr, ',', value.len) : NULL;
	if (comma != NULL)
		value.len = (size_t)(comma - value.ptr);
	while (value.len > 0 && value.ptr[value.len - 1] == ' ')
		value.len--;
	return base64_decode(value, out);
}
