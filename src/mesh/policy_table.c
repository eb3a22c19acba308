/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/policy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

static const char *const balance_words[] = {
		"default", "random", "round-robin", "least-request", "peak-ewma", "first", NULL};
static const char *const jitter_words[] = {"none", "full", NULL};
/* In the order of the bits of enum sn_retry_on. */
static const char *const retry_on_words[] = {
		"connect", "reset", "timeout", "502", "503", "504", "5xx", "unavailable", NULL};

#define WEEK_MS 604800000.0
#define MANY 1000000000.0
#define AT(field) offsetof(struct sn_policy, field)
#define MS(name, field, def, berlioz, min, help) \
	{ \
		name, SN_POLICY_MS, AT(field), def, berlioz, min, WEEK_MS, NULL, help \
	}
#define COUNT(name, field, def, berlioz, min, max, help) \
	{ \
		name, SN_POLICY_COUNT, AT(field), def, berlioz, min, max, NULL, help \
	}
#define NUMBER(name, field, def, berlioz, min, max, help) \
	{ \
		name, SN_POLICY_NUMBER, AT(field), def, berlioz, min, max, NULL, help \
	}
#define BOOL(name, field, def, berlioz, help) \
	{ \
		name, SN_POLICY_BOOL, AT(field), def, berlioz, 0, 0, NULL, help \
	}
#define TEXT(name, field, def, help) \
	{ \
		name, SN_POLICY_TEXT, AT(field), def, NULL, 0, 0, NULL, help \
	}
#define BYTES(name, field, def, max, help) \
	{ \
		name, SN_POLICY_BYTES, AT(field), def, NULL, 0, max, NULL, help \
	}
#define WORD(name, kind, field, def, berlioz, words, help) \
	{ \
		name, kind, AT(field), def, berlioz, 0, 0, words, help \
	}

/* clang-format off */
const struct sn_policy_def sn__policy_defs[] = {
	MS("timeout", timeout, "5000", NULL, 1,
		"One attempt, from picking a peer to the end of the answer (of a streamed one: its head); never more than what is left of the deadline."),
	MS("deadline", deadline, "15000", "0", 0,
		"The whole call with all attempts and waits; 0: none."),
	MS("connect-timeout", connect_timeout, "1000", NULL, 1,
		"TCP and TLS, all addresses of the name; a part of timeout."),
	MS("idle-timeout", idle_timeout, "30000", NULL, 1,
		"The longest silence inside a streamed answer or a session."),
	MS("open-timeout", open_timeout, "5000", NULL, 1,
		"Opening a session (tunnel, subscription, long stream)."),
	COUNT("retry-count", retry_count, "3", NULL, 0, 1000,
		"Attempts in all; 0 counts as 1."),
	MS("retry-initial-delay", retry_initial_delay, "500", NULL, 0,
		"The wait after the first failed attempt."),
	NUMBER("retry-delay-multiplier", retry_delay_multiplier, "2", NULL, 0, 1000,
		"Growth of the wait from one attempt to the next."),
	MS("retry-max-delay", retry_max_delay, "5000", NULL, 0,
		"No wait is longer, unless the peer asked for it."),
	WORD("retry-jitter", SN_POLICY_ENUM, retry_jitter, "\"full\"", "\"none\"", jitter_words,
		"full: each wait is drawn between 0 and its length."),
	WORD("retry-on", SN_POLICY_SET, retry_on,
		"[\"connect\", \"reset\", \"timeout\", \"502\", \"503\", \"504\", \"unavailable\"]",
		"[\"connect\", \"reset\", \"timeout\", \"5xx\", \"unavailable\"]", retry_on_words,
		"What is retried. A 429 is, when it says how long to wait; another 4xx never."),
	BOOL("retry-unsafe", retry_unsafe, "false", "true",
		"Retry POST and PATCH without an idempotency key too, although a byte of the request may have arrived."),
	BOOL("retry-count-first", retry_count_first, "false", "true",
		"Count the first connection failure at each peer too; else it is retried at once at another peer, at most three times a call."),
	NUMBER("retry-budget", retry_budget, "0.2", NULL, 0, 1000,
		"Retries allowed, as a share of the target's calls of the last 10 seconds."),
	NUMBER("retry-budget-min", retry_budget_min, "3", "10", 0, 1000000,
		"Retries a second allowed on top, for targets with few calls."),
	BYTES("retry-buffer", retry_buffer, "65536", 1073741824.0,
		"How much of a streamed request body is kept so that it can be sent again."),
	BOOL("no-peer-retry", no_peer_retry, "false", "true",
		"No peer counts as a failed attempt and is retried."),
	MS("no-peer-wait", no_peer_wait, "3000", "0", 0,
		"How long a call waits for the first peer of its target."),
	WORD("balance", SN_POLICY_ENUM, balance, "\"default\"", NULL, balance_words,
		"How a peer is picked. default: first for databases and queues; else random for Berlioz calls and peak-ewma for others."),
	BOOL("breaker", breaker, "true", NULL,
		"Leave out peers that fail. false also ignores their wish to be left alone (Retry-After)."),
	COUNT("breaker-min-requests", breaker_min_requests, "20", NULL, 1, MANY,
		"Attempts within 10 seconds before the success ratio counts."),
	NUMBER("breaker-success-ratio", breaker_success_ratio, "0.5", NULL, 0, 1,
		"A smaller share of successes opens the breaker."),
	COUNT("breaker-consecutive-failures", breaker_consecutive_failures, "7", NULL, 1, MANY,
		"So many failures in a row open it, too."),
	MS("breaker-open", breaker_open, "1000", NULL, 1,
		"How long it stays open the first time; doubles each time it opens again, plus up to half at random."),
	MS("breaker-max-open", breaker_max_open, "60000", NULL, 1,
		"The longest time it stays open, before the random part."),
	COUNT("max-inflight", max_inflight, "1024", NULL, 1, MANY,
		"Attempts and sessions of the target at one time."),
	COUNT("max-pending", max_pending, "1024", NULL, 0, MANY,
		"Calls that may wait, in order, for one of those or for a first peer."),
	COUNT("pool-max", pool_max, "64", NULL, 1, 65535,
		"Connections to one peer."),
	MS("pool-idle", pool_idle, "4000", NULL, 0,
		"An unused connection is closed after this time."),
	COUNT("pool-streams", pool_streams, "100", NULL, 1, 65535,
		"Calls at once on one HTTP/2 connection; the peer may allow fewer."),
	MS("keep-alive", keep_alive, "0", NULL, 0,
		"HTTP/2: a peer from which nothing came for so long while calls are open is asked for a sign of life (PING); 0: never."),
	MS("keep-alive-timeout", keep_alive_timeout, "20000", NULL, 1,
		"How long it may take to give it before the connection is given up."),
	BYTES("max-response", max_response, "16777216", 1099511627776.0,
		"The largest answer that is collected in memory."),
	TEXT("host-header", host_header, "null",
		"Host header to send; unset: the peer's address and port."),
	TEXT("tls-ca", tls_ca, "null", "File with the certificate authorities to trust; unset: the system's."),
	TEXT("tls-cert", tls_cert, "null", "File with our own certificate."),
	TEXT("tls-key", tls_key, "null", "File with its key."),
	TEXT("tls-key-password", tls_key_password, "null", "What that key is encrypted with."),
	TEXT("tls-server-name", tls_server_name, "null",
		"Name that a peer's certificate must have; unset: the peer's address."),
	BOOL("tls-verify", tls_verify, "true", NULL, "Verify the peer's certificate."),
	BOOL("enable-zipkin", enable_zipkin, "false", NULL, "Trace the calls; B3 headers go out."),
	TEXT("zipkin-service-id", zipkin_service_id, "null",
		"The collector's target, e.g. cluster://trace-spans. Read at the root only."),
	TEXT("zipkin-endpoint", zipkin_endpoint, "\"\"",
		"The collector's URL, used when zipkin-service-id is unset. Read at the root only."),
	BOOL("zipkin-sleep-span", zipkin_sleep_span, "false", NULL,
		"Record each wait as a span of its own."),
	BOOL("call-id-header", call_id_header, "false", NULL,
		"Send the call's id (sinew-call-id) to third parties too."),
	COUNT("why-sample", why_sample, "100", NULL, 0, MANY,
		"The flight recorder keeps one ordinary call in so many; 0: none."),
	MS("why-slow", why_slow, "1000", NULL, 0,
		"A call slower than this is recorded with its story; 0: however slow, only when something failed."),
	{.name = NULL},
};
/* clang-format on */

const struct sn_policy_def *sn__policy_def(const char *name)
{
	for (const struct sn_policy_def *d = sn__policy_defs; d->name != NULL; d++) {
		if (strcmp(d->name, name) == 0)
			return d;
	}
	return NULL;
}

const char *sn__policy_nearest(const char *name)
{
	const char *names[SN_COUNT(sn__policy_defs)];

	for (size_t i = 0; i < SN_COUNT(sn__policy_defs); i++)
		names[i] = sn__policy_defs[i].name; /* the last is NULL */
	return sn__nearest(name, names);
}

static const char *unit_of(const struct sn_policy_def *def)
{
	switch (def->kind) {
	case SN_POLICY_MS:
		return "ms";
	case SN_POLICY_BYTES:
		return "bytes";
	default:
		return "";
	}
}

static const char *const kind_names[] = {[SN_POLICY_MS] = "time",
		[SN_POLICY_COUNT] = "count",
		[SN_POLICY_NUMBER] = "number",
		[SN_POLICY_BOOL] = "bool",
		[SN_POLICY_TEXT] = "text",
		[SN_POLICY_BYTES] = "size",
		[SN_POLICY_ENUM] = "word",
		[SN_POLICY_SET] = "words"};

static int word_index(const struct sn_policy_def *def, struct sn_str word)
{
	for (int i = 0; def->words[i] != NULL; i++) {
		if (sn_str_eq(word, sn_str_from(def->words[i])))
			return i;
	}
	return -1;
}

static struct sn_str text_of(const json_t *value)
{
	return (struct sn_str){json_string_value(value), json_string_length(value)};
}

/* "one of a, b, c" into @out. */
static void words_text(const struct sn_policy_def *def, char *out, size_t size)
{
	size_t at = 0;

	out[0] = '\0';
	for (int i = 0; def->words[i] != NULL && at < size; i++) {
		int n = snprintf(out + at, size - at, "%s%s", i > 0 ? ", " : "", def->words[i]);

		at += n > 0 ? (size_t)n : 0;
	}
}

static int expected(const struct sn_policy_def *def, struct sn_error *err)
{
	static const char *const texts[] = {
			[SN_POLICY_MS] = "a time such as 250ms, 5s or a number of milliseconds",
			[SN_POLICY_COUNT] = "a whole number",
			[SN_POLICY_NUMBER] = "a number",
			[SN_POLICY_BOOL] = "true or false",
			[SN_POLICY_TEXT] = "a text",
			[SN_POLICY_BYTES] = "a size such as 64KiB or a number of bytes",
			[SN_POLICY_ENUM] = "one of ",
			[SN_POLICY_SET] = "a list of "};
	char words[160] = "";

	if (def->words != NULL)
		words_text(def, words, sizeof words);
	return sn__error_set(
			err, SN_E_INVALID, "%s: expected %s%s", def->name, texts[def->kind], words);
}

/* A number from a text with a unit; -1: none. */
static double number_from_text(const struct sn_policy_def *def, struct sn_str text)
{
	uint64_t v;

	if (def->kind == SN_POLICY_MS && sn__parse_duration_ms(text, &v) == 0)
		return (double)v;
	if (def->kind == SN_POLICY_BYTES && sn__parse_size(text, &v) == 0)
		return (double)v;
	if (def->kind == SN_POLICY_NUMBER && text.len > 1 && text.ptr[text.len - 1] == '%' &&
			sn__parse_u64((struct sn_str){text.ptr, text.len - 1}, 100000, &v) == 0)
		return (double)v / 100;
	return -1;
}

static int check_number(const struct sn_policy_def *def, const json_t *value, json_t **ret_value,
		struct sn_error *err)
{
	double v = -1;

	if (json_is_number(value))
		v = json_number_value(value);
	else if (json_is_string(value))
		v = number_from_text(def, text_of(value));
	else
		return expected(def, err);
	if (json_is_string(value) && v < 0)
		return expected(def, err);
	if (v < def->min || v > def->max)
		return sn__error_set(err, SN_E_INVALID, "%s: must be between %.15g and %.15g%s%s",
				def->name, def->min, def->max, unit_of(def)[0] != '\0' ? " " : "",
				unit_of(def));
	if (def->kind != SN_POLICY_NUMBER && v != floor(v))
		return expected(def, err);
	*ret_value = v == floor(v) && fabs(v) < 9e15 ? json_integer((json_int_t)v) : json_real(v);
	return *ret_value != NULL ? 0 : sn__error_set(err, SN_E_NOMEM, "out of memory");
}

/* A list, or one text with commas, into a list of known words. */
static int check_set(const struct sn_policy_def *def, const json_t *value, json_t **ret_value,
		struct sn_error *err)
{
	json_t *list, *item;
	size_t i;
	int r = 0;

	if (!json_is_array(value))
		return expected(def, err);
	list = json_array();
	if (list == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	json_array_foreach(value, i, item)
	{
		char digits[24] = "";
		struct sn_str word = {digits, 0};

		if (json_is_integer(item)) /* YAML reads 503 as a number */
			word.len = (size_t)snprintf(digits, sizeof digits, "%lld",
					(long long)json_integer_value(item));
		else if (json_is_string(item))
			word = text_of(item);
		if (word_index(def, word) < 0)
			r = expected(def, err);
		else if (json_array_append_new(list, json_stringn(word.ptr, word.len)) != 0)
			r = sn__error_set(err, SN_E_NOMEM, "out of memory");
		if (r != 0)
			break;
	}
	if (r != 0)
		json_decref(list);
	else
		*ret_value = list;
	return r;
}

int sn__policy_check(const struct sn_policy_def *def, const json_t *value, json_t **ret_value,
		struct sn_error *err)
{
	switch (def->kind) {
	case SN_POLICY_MS:
	case SN_POLICY_COUNT:
	case SN_POLICY_NUMBER:
	case SN_POLICY_BYTES:
		return check_number(def, value, ret_value, err);
	case SN_POLICY_SET:
		return check_set(def, value, ret_value, err);
	case SN_POLICY_BOOL:
		if (!json_is_boolean(value))
			return expected(def, err);
		break;
	case SN_POLICY_ENUM:
		if (!json_is_string(value) || word_index(def, text_of(value)) < 0)
			return expected(def, err);
		break;
	case SN_POLICY_TEXT:
		if (!json_is_string(value))
			return expected(def, err);
		break;
	}
	*ret_value = json_incref((json_t *)(uintptr_t)value);
	return 0;
}

/* The bits of a list; false: a word nobody knows. */
static bool set_bits(const struct sn_policy_def *def, const json_t *list, uint32_t *ret_bits)
{
	const json_t *item;
	uint32_t bits = 0;
	size_t i;

	if (!json_is_array(list))
		return false;
	json_array_foreach(list, i, item)
	{
		int w = json_is_string(item) ? word_index(def, text_of(item)) : -1;

		if (w < 0)
			return false;
		bits |= UINT32_C(1) << w;
	}
	*ret_bits = bits;
	return true;
}

/* Cannot be an unsigned cast of something out of range: @v is clamped by the caller. */
static void store_number(const struct sn_policy_def *def, double v, void *field)
{
	if (def->kind == SN_POLICY_NUMBER)
		*(double *)field = v;
	else if (def->kind == SN_POLICY_BYTES)
		*(uint64_t *)field = (uint64_t)v;
	else
		*(uint32_t *)field = (uint32_t)(v + 0.5);
}

enum sn_policy_stored sn__policy_store(
		const struct sn_policy_def *def, const json_t *value, struct sn_policy *policy)
{
	void *field = (char *)policy + def->offset;
	double v;
	int w;

	switch (def->kind) {
	case SN_POLICY_MS:
	case SN_POLICY_COUNT:
	case SN_POLICY_NUMBER:
	case SN_POLICY_BYTES:
		if (!json_is_number(value))
			return SN_POLICY_WRONG_TYPE;
		v = json_number_value(value);
		store_number(def, SN_MIN(SN_MAX(v, def->min), def->max), field);
		return v < def->min || v > def->max ? SN_POLICY_CLAMPED : SN_POLICY_STORED;
	case SN_POLICY_BOOL:
		if (!json_is_boolean(value))
			return SN_POLICY_WRONG_TYPE;
		*(bool *)field = json_is_true(value);
		return SN_POLICY_STORED;
	case SN_POLICY_TEXT:
		if (!json_is_string(value))
			return SN_POLICY_WRONG_TYPE;
		*(const char **)field = json_string_value(value);
		return SN_POLICY_STORED;
	case SN_POLICY_ENUM:
		w = json_is_string(value) ? word_index(def, text_of(value)) : -1;
		if (w < 0)
			return SN_POLICY_WRONG_TYPE;
		*(uint32_t *)field = (uint32_t)w;
		return SN_POLICY_STORED;
	case SN_POLICY_SET:
		return set_bits(def, value, field) ? SN_POLICY_STORED : SN_POLICY_WRONG_TYPE;
	}
	return SN_POLICY_WRONG_TYPE;
}

size_t sn__policy_field_size(const struct sn_policy_def *def)
{
	switch (def->kind) {
	case SN_POLICY_NUMBER:
		return sizeof(double);
	case SN_POLICY_BYTES:
		return sizeof(uint64_t);
	case SN_POLICY_BOOL:
		return sizeof(bool);
	case SN_POLICY_TEXT:
		return sizeof(const char *);
	default:
		return sizeof(uint32_t);
	}
}

static int doc_row(const struct sn_policy_def *d, struct sn_buf *out)
{
	char words[160] = "", limits[64] = "";
	int r;

	if (d->words != NULL)
		words_text(d, words, sizeof words);
	else if (d->max > 0)
		(void)snprintf(limits, sizeof limits, "%.15g to %.15g", d->min, d->max);
	r = sn__buf_printf(out, "| `%s` | %s | `%s` | %s%s%s | %s | %s |\n", d->name,
			kind_names[d->kind], d->def, d->def_berlioz != NULL ? "`" : "",
			d->def_berlioz != NULL ? d->def_berlioz : "",
			d->def_berlioz != NULL ? "`" : "", d->words != NULL ? words : limits,
			d->help);
	return r;
}

int sn__policy_doc(struct sn_buf *out)
{
	int r = sn__buf_puts(out,
			"# Policies\n\n"
			"Made from the table in `src/mesh/policy_table.c` by its unit test, which compares (and\n"
			"writes this page when `SINEW_UPDATE` is set). Times are milliseconds, sizes bytes; a file\n"
			"may also say `5s`, `64KiB`, `20%`.\n"
			"The column *Berlioz* gives the default of calls through `sn_request` and the other calls of\n"
			"the Berlioz connector where it differs. A value is looked up from the most specific node of\n"
			"the policy tree to the root; one of the wrong type is logged and the default is used; a\n"
			"number out of its limits is logged and moved to the nearest limit.\n\n"
			"| Name | Kind | Default | Berlioz | Limits | Meaning |\n"
			"| --- | --- | --- | --- | --- | --- |\n");

	for (const struct sn_policy_def *d = sn__policy_defs; r == 0 && d->name != NULL; d++)
		r = doc_row(d, out);
	return r;
}
