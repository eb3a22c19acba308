/* SPDX-License-Identifier: Apache-2.0 */
/* The story of a call as lines for a person: what `sinew why` prints. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/time.h"
#include "mesh/recorder.h"

#define BAR_COLUMNS 30
#define PEER_COLUMNS_MAX 40

int sn__call_id_parse(struct sn_str text, uint64_t *ret_id)
{
	return text.len == 16 ? sn__parse_hex_u64(text, UINT64_MAX, ret_id) : SN_E_PARSE;
}

static double ms(uint64_t ns)
{
	return (double)ns / (double)SN_NS_PER_MS;
}

/* ---- the time line ---- */

struct line {
	const struct sn_record *rec;
	struct sn_buf *out;
	uint64_t span_ns; /* what the bar is as long as */
	int peer_columns;
};

static uint64_t end_of(const struct sn_attempt *a)
{
	return a->start_ns + a->duration_ns;
}

/* |   ####      | of what lasts from @start_ns to @end_ns; at least one mark. */
static void draw(const struct line *l, char mark, uint64_t start_ns, uint64_t end_ns,
		char bar[BAR_COLUMNS + 1])
{
	double scale = (double)BAR_COLUMNS / (double)l->span_ns;
	unsigned from = (unsigned)((double)SN_MIN(start_ns, l->span_ns) * scale);
	unsigned to = (unsigned)((double)SN_MIN(end_ns, l->span_ns) * scale + 0.5);

	from = SN_MIN(from, BAR_COLUMNS - 1u);
	to = SN_MIN(SN_MAX(to, from + 1), (unsigned)BAR_COLUMNS);
	memset(bar, ' ', BAR_COLUMNS);
	memset(bar + from, mark, to - from);
	bar[BAR_COLUMNS] = '\0';
}

static int print_attempt(const struct line *l, const struct sn_attempt *a, unsigned number)
{
	const char *phase = sn__phase_name(a->phase);
	char bar[BAR_COLUMNS + 1], foreign[32] = "";

	draw(l, '#', a->start_ns, end_of(a), bar);
	if (a->foreign != 0)
		(void)snprintf(foreign, sizeof foreign, " %d", a->foreign);
	return sn__buf_printf(l->out, "%3u |%s| %9.1f %9.1f ms  %-*s  %s%s%s [%s%s]%s%s\n", number,
			bar, ms(a->start_ns), ms(a->duration_ns), l->peer_columns,
			a->peer[0] != '\0' ? a->peer : "-", phase, phase[0] != '\0' ? ": " : "",
			a->detail, sn_code_name(a->code), foreign,
			a->decision[0] != '\0' ? " -> " : "", a->decision);
}

/* What passed between two attempts, or behind the last one. */
static int print_wait(const struct line *l, uint64_t from_ns, uint64_t to_ns, const char *what)
{
	char bar[BAR_COLUMNS + 1];

	if (to_ns < from_ns + SN_NS_PER_MS / 10)
		return 0;
	draw(l, '.', from_ns, to_ns, bar);
	return sn__buf_printf(l->out, "    |%s| %9.1f %9.1f ms  %s\n", bar, ms(from_ns),
			ms(to_ns - from_ns), what);
}

/* When there were more than are kept, the first and the last ones are. */
static int print_attempts(const struct line *l)
{
	const struct sn_record *rec = l->rec;
	uint32_t n = rec->n_attempts, lost = 0;
	uint64_t before_ns = 0;
	int r = 0;

	if (n == SN_ERROR_ATTEMPTS_MAX && rec->attempts > n)
		lost = rec->attempts - n;
	for (uint32_t i = 0; r == 0 && i < n; i++) {
		const struct sn_attempt *a = &rec->attempts_kept[i];
		char what[48] = "waited";

		if (i == 1 && lost > 0)
			(void)snprintf(what, sizeof what, "%u attempts that are not kept", lost);
		r = print_wait(l, before_ns, a->start_ns, what);
		if (r == 0)
			r = print_attempt(l, a, i + 1 + (i > 0 ? lost : 0));
		before_ns = end_of(a);
	}
	if (r == 0 && n > 0)
		r = print_wait(l, before_ns, rec->duration_ns,
				rec->code == 0 ? "until the answer" : "waited");
	return r;
}

/* ---- the whole ---- */

static int print_head(const struct sn_record *rec, struct sn_buf *out)
{
	time_t t = (time_t)(rec->wall_ns / SN_NS_PER_S);
	char when[32] = "";
	struct tm tm;
	int r;

	if (gmtime_r(&t, &tm) != NULL)
		(void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
	r = sn__buf_printf(out, "call %016llx  %s.%03uZ  %s%s%s\n", (unsigned long long)rec->id,
			when, (unsigned)(rec->wall_ns % SN_NS_PER_S / SN_NS_PER_MS), rec->target,
			rec->what[0] != '\0' ? "  " : "", rec->what);
	if (r == 0 && rec->code == 0)
		r = sn__buf_printf(out, "answered by %s after %.1f ms, %u attempt%s\n", rec->peer,
				ms(rec->duration_ns), rec->attempts, rec->attempts == 1 ? "" : "s");
	else if (r == 0)
		r = sn__buf_printf(out, "failed after %.1f ms [%s]: %s\n", ms(rec->duration_ns),
				sn_code_name(rec->code), rec->text);
	return r;
}

/* Texts come from peers and from files: what a terminal would obey is not passed on. */
static void disarm(struct sn_buf *out, size_t from)
{
	char *text = out->block + out->head;

	for (size_t i = from; i < out->len; i++) {
		unsigned char c = (unsigned char)text[i];

		if ((c < 0x20 && c != '\n') || c == 0x7f)
			text[i] = '?';
	}
}

int sn__record_print(const struct sn_record *rec, struct sn_buf *out)
{
	struct line l = {.rec = rec, .out = out, .span_ns = SN_MAX(rec->duration_ns, (uint64_t)1)};
	size_t before = out->len;
	int r;

	for (uint32_t i = 0; i < rec->n_attempts; i++) {
		const struct sn_attempt *a = &rec->attempts_kept[i];

		l.span_ns = SN_MAX(l.span_ns, end_of(a));
		l.peer_columns = SN_MAX(l.peer_columns, (int)strlen(a->peer));
	}
	l.peer_columns = SN_MIN(l.peer_columns, PEER_COLUMNS_MAX);
	r = print_head(rec, out);
	if (r == 0)
		r = print_attempts(&l);
	if (r < 0)
		sn__buf_truncate(out, before);
	else
		disarm(out, before);
	return r;
}
