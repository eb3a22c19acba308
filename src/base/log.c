/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"

#define MESSAGE_MAX 1024
#define LINE_MAX_BYTES (MESSAGE_MAX * 6 + 160) /* every byte as \u00xx */

static const char *level_name(enum sn_log_level level)
{
	static const char *const names[] = {
			[SN_LOG_ERROR] = "error",
			[SN_LOG_WARNING] = "warning",
			[SN_LOG_INFO] = "info",
			[SN_LOG_DEBUG] = "debug",
	};

	return names[level];
}

void sn__log_init(struct sn_log *log, sn_log_fn *fn, void *arg, enum sn_log_level level,
		enum sn_log_format format)
{
	*log = (struct sn_log){.fn = fn, .arg = arg, .level = level, .format = format};
	(void)pthread_mutex_init(&log->lock, NULL);
}

void sn__log_finish(struct sn_log *log)
{
	(void)pthread_mutex_destroy(&log->lock);
}

/* The message may hold what came from the wire: it must not make lines or terminal sequences of its
 * own. */
static size_t escape(const char *text, bool json, char *out, size_t size)
{
	struct sn_str left = sn_str_from(text);
	size_t n = 0;

	while (left.len > 0) {
		unsigned char c = (unsigned char)left.ptr[0];
		size_t len = sn__utf8_length(left);

		if (len == 0) {
			n += (size_t)(json ? snprintf(out + n, size - n, "\\ufffd")
					   : snprintf(out + n, size - n, "\\x%02x", c));
			len = 1;
		} else if (c < 0x20 || c == 0x7f) {
			n += (size_t)snprintf(out + n, size - n, json ? "\\u%04x" : "\\x%02x", c);
		} else {
			if (json && (c == '"' || c == '\\'))
				out[n++] = '\\';
			memcpy(out + n, left.ptr, len);
			n += len;
		}
		left.ptr += len;
		left.len -= len;
	}
	out[n] = '\0';
	return n;
}

static void stamp(char *out, size_t size)
{
	uint64_t now = sn__clock_wall_ns();
	time_t seconds = (time_t)(now / SN_NS_PER_S);
	struct tm tm;
	size_t n;

	(void)gmtime_r(&seconds, &tm);
	n = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(out + n, size - n, ".%03uZ", (unsigned)(now % SN_NS_PER_S / SN_NS_PER_MS));
}

void sn__log(struct sn_log *log, enum sn_log_level level, const char *area, const char *fmt, ...)
{
	char message[MESSAGE_MAX], line[LINE_MAX_BYTES], time_text[40];
	va_list ap;
	int n;

	if (!sn_log_wants(log, level))
		return;
	va_start(ap, fmt);
	(void)vsnprintf(message, sizeof message, fmt, ap);
	va_end(ap);
	if (log->format != SN_LOG_PLAIN)
		stamp(time_text, sizeof time_text);
	if (log->format == SN_LOG_JSON)
		n = snprintf(line, sizeof line,
				"{\"time\":\"%s\",\"level\":\"%s\",\"area\":\"%s\","
				"\"message\":\"",
				time_text, level_name(level), area);
	else if (log->format == SN_LOG_TEXT)
		n = snprintf(line, sizeof line, "%s %s %s: ", time_text, level_name(level), area);
	else
		n = snprintf(line, sizeof line, "%s: ", area);
	if (n < 0 || n > 150) /* an area is one word */
		return;
	n += (int)escape(message, log->format == SN_LOG_JSON, line + n, sizeof line - (size_t)n);
	if (log->format == SN_LOG_JSON)
		memcpy(line + n, "\"}", 3);
	(void)pthread_mutex_lock(&log->lock);
	log->fn(level, line, log->arg);
	(void)pthread_mutex_unlock(&log->lock);
}
