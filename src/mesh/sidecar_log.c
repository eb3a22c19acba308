/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line for each request through the sidecar (log.access). What could be a secret is not in it: no
 * header, and of the target only the path, as in the flight recorder.
 */
#include <inttypes.h>
#include <time.h>

#include "base/json.h"
#include "base/mem.h"
#include "mesh/sidecar_impl.h"

#define LINE_BYTES_MAX 8192
#define PATH_MAX_SHOWN 1024

static int put_time(struct sn_buf *b, uint64_t wall_ns)
{
	time_t seconds = (time_t)(wall_ns / SN_NS_PER_S);
	char text[32];
	struct tm tm;

	if (gmtime_r(&seconds, &tm) == NULL ||
			strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
		return SN_E_INVALID;
	return sn__buf_printf(b, "{\"time\":\"%s.%03uZ\"", text,
			(unsigned)(wall_ns % SN_NS_PER_S / SN_NS_PER_MS));
}

/* Nothing for an empty text. */
static int put_text(struct sn_buf *b, const char *name, struct sn_str text)
{
	int r;

	if (text.len == 0)
		return 0;
	r = sn__buf_printf(b, ",\"%s\":", name);
	return r < 0 ? r : sn__json_quote(text, b);
}

static int put_line(struct sn_buf *b, const struct sn_sidecar_entry *e, uint64_t wall_ns)
{
	const char *query = memchr(e->path.ptr, '?', e->path.len);
	struct sn_str path = {
			e->path.ptr, query != NULL ? (size_t)(query - e->path.ptr) : e->path.len};
	int r = put_time(b, wall_ns);

	path.len = SN_MIN(path.len, (size_t)PATH_MAX_SHOWN);
	if (r == 0)
		r = put_text(b, "method", e->method);
	if (r == 0)
		r = put_text(b, "target", sn_str_from(e->target));
	if (r == 0)
		r = put_text(b, "path", path);
	if (r == 0)
		r = sn__buf_printf(b,
				",\"status\":%u,\"ms\":%.3f,\"in\":%" PRIu64 ",\"out\":%" PRIu64,
				e->status, (double)e->duration_ns / 1e6, e->n_in, e->n_out);
	if (r == 0 && e->attempts > 0)
		r = sn__buf_printf(b, ",\"attempts\":%u", e->attempts);
	if (r == 0)
		r = put_text(b, "peer", sn_str_from(e->peer));
	if (r == 0)
		r = put_text(b, "call", sn_str_from(e->call));
	if (r == 0 && e->code < 0)
		r = put_text(b, "error", sn_str_from(sn_code_name(e->code)));
	return r < 0 ? r : sn__buf_append(b, "}", 2);
}

void sn__sidecar_tell(struct sn_sidecar *side, const struct sn_sidecar_entry *e)
{
	struct sn_runtime *rt = side->rt;
	bool failed = e->status >= 500 || e->code < 0;
	struct sn_buf line;

	if (rt->access == NULL || rt->access_share <= 0)
		return;
	if (!failed && rt->access_share < 1 &&
			sn__rng_unit(sn__loop_rng(rt->loop)) >= rt->access_share)
		return;
	sn__buf_init(&line, LINE_BYTES_MAX);
	if (put_line(&line, e, sn__loop_wall_ns(rt->loop)) == 0)
		rt->access(SN_LOG_INFO, sn__buf_data(&line), rt->access_arg);
	sn__buf_finish(&line);
}

void sn__sidecar_answered(struct sn_sidecar *side, struct sn_exchange *x, unsigned status)
{
	const struct sn_sidecar_entry e = {
			.method = sn_str_from(sn_exchange_method(x)),
			.path = sn_str_from(sn_exchange_path(x)),
			.target = "",
			.peer = "",
			.call = "",
			.status = status,
	};

	sn__sidecar_tell(side, &e);
}

void sn__sidecar_refuse(
		struct sn_sidecar *side, struct sn_exchange *x, unsigned status, const char *detail)
{
	sn__proxy_refuse(x, status, detail, NULL);
	sn__sidecar_answered(side, x, status);
}
