/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/span.h"

#include <inttypes.h>
#include <stdio.h>

#include <sinew/base.h>
#include "base/json.h"
#include "base/mem.h"
#include "base/time.h"

/* The writer keeps its first failure; later pieces do nothing. */
struct writer {
	struct sn_buf *out;
	int r;
};

static void put(struct writer *w, const char *text)
{
	if (w->r == 0)
		w->r = sn__buf_puts(w->out, text);
}

static void put_quoted(struct writer *w, struct sn_str s)
{
	if (w->r == 0)
		w->r = sn__json_quote(s, w->out);
}

static void put_number(struct writer *w, uint64_t n)
{
	if (w->r == 0)
		w->r = sn__buf_printf(w->out, "%" PRIu64, n);
}

/* ,"key":"value" */
static void put_text(struct writer *w, const char *key, struct sn_str value)
{
	put(w, ",\"");
	put(w, key);
	put(w, "\":");
	put_quoted(w, value);
}

static int writer_end(struct writer *w, size_t before)
{
	if (w->r < 0)
		sn__buf_truncate(w->out, before);
	return w->r;
}

static void put_id(struct writer *w, uint64_t id)
{
	if (w->r == 0)
		w->r = sn__buf_printf(w->out, "%016" PRIx64, id);
}

/* ---- Zipkin ---- */

/* Names of services and spans are lower case there. */
static void put_lower(struct writer *w, struct sn_str s)
{
	size_t before = w->out->len;

	put_quoted(w, s);
	/* Escapes are lower case as they are: \n, \u00e9. */
	for (size_t i = before; w->r == 0 && i < w->out->len; i++) {
		char *c = w->out->block + w->out->head + i;

		*c = (char)sn_ascii_lower((unsigned char)*c);
	}
}

static void zipkin_endpoint(
		struct writer *w, const char *key, struct sn_str service, struct sn_str ipv4)
{
	put(w, ",\"");
	put(w, key);
	put(w, "\":{\"serviceName\":");
	put_lower(w, service);
	if (ipv4.len > 0)
		put_text(w, "ipv4", ipv4);
	put(w, "}");
}

static void zipkin_tags(struct writer *w, const struct sn_span *span)
{
	const char *comma = "";

	if (span->n_tags == 0 && span->error.len == 0)
		return;
	put(w, ",\"tags\":{");
	for (unsigned i = 0; i < span->n_tags; i++) {
		put(w, comma);
		put_quoted(w, sn_str_from(span->tags[i].key));
		put(w, ":");
		put_quoted(w, span->tags[i].value);
		comma = ",";
	}
	if (span->error.len > 0) {
		put(w, comma);
		put(w, "\"error\":");
		put_quoted(w, span->error);
	}
	put(w, "}");
}

static void zipkin_notes(struct writer *w, const struct sn_span *span)
{
	if (span->n_notes == 0)
		return;
	put(w, ",\"annotations\":[");
	for (unsigned i = 0; i < span->n_notes; i++) {
		put(w, i > 0 ? ",{\"timestamp\":" : "{\"timestamp\":");
		put_number(w, span->notes[i].wall_ns / 1000);
		put_text(w, "value", span->notes[i].text);
		put(w, "}");
	}
	put(w, "]");
}

int sn__span_zipkin(const struct sn_span *span, struct sn_buf *out)
{
	struct writer w = {out, 0};
	size_t before = out->len;

	put(&w, "{\"traceId\":\"");
	if (span->trace_id[0] != 0)
		put_id(&w, span->trace_id[0]);
	put_id(&w, span->trace_id[1]);
	if (span->parent_id != 0) {
		put(&w, "\",\"parentId\":\"");
		put_id(&w, span->parent_id);
	}
	put(&w, "\",\"id\":\"");
	put_id(&w, span->id);
	put(&w, "\",\"name\":");
	put_lower(&w, span->name);
	if (span->kind != SN_SPAN_LOCAL)
		put(&w,
				span->kind == SN_SPAN_CLIENT ? ",\"kind\":\"CLIENT\""
							     : ",\"kind\":\"SERVER\"");
	if (span->wall_ns != 0) {
		put(&w, ",\"timestamp\":");
		put_number(&w, span->wall_ns / 1000);
		put(&w, ",\"duration\":");
		put_number(&w, SN_MAX(span->duration_ns / 1000, (uint64_t)1));
	}
	if (span->local.len > 0)
		zipkin_endpoint(&w, "localEndpoint", span->local, span->ipv4);
	if (span->remote.len > 0)
		zipkin_endpoint(&w, "remoteEndpoint", span->remote, (struct sn_str){NULL, 0});
	zipkin_notes(&w, span);
	zipkin_tags(&w, span);
	if (span->shared)
		put(&w, ",\"shared\":true");
	if (span->debug)
		put(&w, ",\"debug\":true");
	put(&w, "}");
	return writer_end(&w, before);
}

/* ---- OTLP ---- */

struct otlp_name {
	const char *zipkin, *otlp;
	bool number;
};

static const struct otlp_name otlp_names[] = {
		{"http.method", "http.request.method", false},
		{"http.status_code", "http.response.status_code", true},
		{"http.url", "url.full", false},
		{"http.path", "url.path", false},
		{"grpc.status_code", "rpc.grpc.status_code", true},
};

static void otlp_attribute(
		struct writer *w, const char **comma, const char *key, struct sn_str value)
{
	const struct otlp_name *known = NULL;
	uint64_t number;

	for (size_t i = 0; i < SN_COUNT(otlp_names) && known == NULL; i++)
		if (strcmp(otlp_names[i].zipkin, key) == 0)
			known = &otlp_names[i];
	put(w, *comma);
	*comma = ",";
	put(w, "{\"key\":");
	put_quoted(w, sn_str_from(known != NULL ? known->otlp : key));
	if (known != NULL && known->number && sn__parse_u64(value, INT64_MAX, &number) == 0) {
		put(w, ",\"value\":{\"intValue\":");
		put_quoted(w, value); /* 64-bit integers are text in this JSON */
	} else {
		put(w, ",\"value\":{\"stringValue\":");
		put_quoted(w, value);
	}
	put(w, "}}");
}

static void otlp_events(struct writer *w, const struct sn_span *span)
{
	put(w, ",\"events\":[");
	for (unsigned i = 0; i < span->n_notes; i++) {
		put(w, i > 0 ? ",{\"timeUnixNano\":\"" : "{\"timeUnixNano\":\"");
		put_number(w, span->notes[i].wall_ns);
		put(w, "\",\"name\":");
		put_quoted(w, span->notes[i].text);
		put(w, "}");
	}
	put(w, "]");
}

int sn__span_otlp(const struct sn_span *span, struct sn_buf *out)
{
	static const char *const kinds[] = {"1", "3", "2"};
	struct writer w = {out, 0};
	size_t before = out->len;
	const char *comma = "";

	put(&w, "{\"traceId\":\"");
	put_id(&w, span->trace_id[0]);
	put_id(&w, span->trace_id[1]);
	put(&w, "\",\"spanId\":\"");
	put_id(&w, span->id);
	if (span->parent_id != 0) {
		put(&w, "\",\"parentSpanId\":\"");
		put_id(&w, span->parent_id);
	}
	put(&w, "\",\"name\":");
	put_quoted(&w, span->name);
	put(&w, ",\"kind\":");
	put(&w, kinds[span->kind]);
	put(&w, ",\"startTimeUnixNano\":\"");
	put_number(&w, span->wall_ns);
	put(&w, "\",\"endTimeUnixNano\":\"");
	put_number(&w, span->wall_ns + span->duration_ns);
	put(&w, "\",\"attributes\":[");
	for (unsigned i = 0; i < span->n_tags; i++)
		otlp_attribute(&w, &comma, span->tags[i].key, span->tags[i].value);
	if (span->remote.len > 0)
		otlp_attribute(&w, &comma, "peer.service", span->remote);
	put(&w, "]");
	if (span->n_notes > 0)
		otlp_events(&w, span);
	if (span->error.len > 0) {
		put(&w, ",\"status\":{\"code\":2");
		put_text(&w, "message", span->error);
		put(&w, "}");
	}
	put(&w, "}");
	return writer_end(&w, before);
}

int sn__span_otlp_begin(struct sn_str service, struct sn_buf *out)
{
	struct writer w = {out, 0};
	size_t before = out->len;

	put(&w,
			"{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\","
			"\"value\":{\"stringValue\":");
	put_quoted(&w, service);
	put(&w, "}}]},\"scopeSpans\":[{\"scope\":{\"name\":\"sinew\"");
	put_text(&w, "version", sn_str_from(sn_version()));
	put(&w, "},\"spans\":[");
	return writer_end(&w, before);
}

int sn__span_otlp_end(struct sn_buf *out)
{
	return sn__buf_puts(out, "]}]}]}");
}
