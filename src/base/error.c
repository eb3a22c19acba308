/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static const struct {
	int code;
	const char *name, *text;
} codes[] = {
		{SN_OK, "OK", "success"},
		{SN_E_INVALID, "INVALID", "invalid argument"},
		{SN_E_NOMEM, "NOMEM", "out of memory"},
		{SN_E_LIMIT, "LIMIT", "limit reached"},
		{SN_E_EXISTS, "EXISTS", "exists already"},
		{SN_E_NOT_FOUND, "NOT_FOUND", "not found"},
		{SN_E_STATE, "STATE", "not possible in this state"},
		{SN_E_AGAIN, "AGAIN", "nothing now, try later"},
		{SN_E_CLOSED, "CLOSED", "closed"},
		{SN_E_CANCELLED, "CANCELLED", "cancelled"},
		{SN_E_TIMEOUT, "TIMEOUT", "timed out"},
		{SN_E_DEADLINE, "DEADLINE", "deadline passed"},
		{SN_E_NO_PEER, "NO_PEER", "no peer found"},
		{SN_E_BREAKER, "BREAKER", "circuit breaker open"},
		{SN_E_OVERLOAD, "OVERLOAD", "too many calls in flight"},
		{SN_E_RESOLVE, "RESOLVE", "name resolution failed"},
		{SN_E_CONNECT, "CONNECT", "cannot connect"},
		{SN_E_TLS, "TLS", "TLS failure"},
		{SN_E_RESET, "RESET", "connection broken"},
		{SN_E_EOF, "EOF", "connection closed early"},
		{SN_E_PROTOCOL, "PROTOCOL", "protocol violation by the peer"},
		{SN_E_STATUS, "STATUS", "failure status"},
		{SN_E_PARSE, "PARSE", "cannot be parsed"},
		{SN_E_IO, "IO", "operating system error"},
		{SN_E_NOTSUP, "NOTSUP", "not supported"},
		{SN_E_DEADLK, "DEADLK", "waiting on the loop's own thread would never end"},
		{SN_E_FORKED, "FORKED", "handle belongs to the parent process"},
		{SN_E_REJECTED, "REJECTED", "rejected"},
};

const char *sn_strerror(int code)
{
	for (size_t i = 0; i < SN_COUNT(codes); i++) {
		if (codes[i].code == code)
			return codes[i].text;
	}
	return "unknown error";
}

const char *sn_code_name(int code)
{
	for (size_t i = 0; i < SN_COUNT(codes); i++) {
		if (codes[i].code == code)
			return codes[i].name;
	}
	return "UNKNOWN";
}

const char *sn_version(void)
{
	return SN_VERSION;
}

const char *sn__phase_name(enum sn_phase phase)
{
	static const char *const names[] = {[SN_PHASE_NONE] = "",
			[SN_PHASE_RESOLVE] = "resolve",
			[SN_PHASE_ADMIT] = "admit",
			[SN_PHASE_CONNECT] = "connect",
			[SN_PHASE_TLS] = "tls",
			[SN_PHASE_WRITE] = "write",
			[SN_PHASE_WAIT] = "wait",
			[SN_PHASE_READ] = "read"};

	return (size_t)phase < SN_COUNT(names) ? names[phase] : "";
}

int sn__error_set(struct sn_error *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL)
		return code;
	/* The attempts are large and n_attempts says how many count: they need no zeroing. */
	err->code = code;
	err->foreign = 0;
	err->retriable = code == SN_E_TIMEOUT || code == SN_E_NO_PEER || code == SN_E_BREAKER ||
			code == SN_E_OVERLOAD || code == SN_E_CONNECT || code == SN_E_RESET ||
			code == SN_E_RESOLVE || code == SN_E_EOF || code == SN_E_AGAIN;
	err->call_id[0] = '\0';
	err->n_attempts = err->n_attempts_all = 0;
	va_start(ap, fmt);
	(void)vsnprintf(err->text, sizeof err->text, fmt, ap);
	va_end(ap);
	return code;
}

int sn__error_prefix(struct sn_error *err, const char *fmt, ...)
{
	char text[SN_ERROR_TEXT_MAX];
	va_list ap;
	int n;

	if (err == NULL)
		return 0;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < sizeof text)
		(void)snprintf(text + n, sizeof text - (size_t)n, ": %s", err->text);
	memcpy(err->text, text, sizeof text);
	return err->code;
}

struct sn_attempt *sn__error_add_attempt(struct sn_error *err)
{
	struct sn_attempt *a;

	err->n_attempts_all++;
	if (err->n_attempts == SN_ERROR_ATTEMPTS_MAX) {
		memmove(&err->attempts[1], &err->attempts[2],
				(SN_ERROR_ATTEMPTS_MAX - 2) * sizeof err->attempts[0]);
		err->n_attempts--;
	}
	a = &err->attempts[err->n_attempts++];
	memset(a, 0, sizeof *a);
	return a;
}

int sn__code_from_errno(int e)
{
	switch (e) {
	case 0:
		return SN_OK;
	case ENOMEM:
		return SN_E_NOMEM;
	case EAGAIN:
		return SN_E_AGAIN;
	case ECONNREFUSED:
	case ENETUNREACH:
	case EHOSTUNREACH:
	case EADDRNOTAVAIL:
	case ENETDOWN:
		return SN_E_CONNECT;
	case ECONNRESET:
	case EPIPE:
	case ECONNABORTED:
	case ENOTCONN:
		return SN_E_RESET;
	case ETIMEDOUT:
		return SN_E_TIMEOUT;
	case EADDRINUSE:
	case EEXIST:
		return SN_E_EXISTS;
	case ENOENT:
		return SN_E_NOT_FOUND;
	case EMFILE:
	case ENFILE:
	case ENOSPC:
		return SN_E_LIMIT;
	case EINVAL:
		return SN_E_INVALID;
	case ECANCELED:
		return SN_E_CANCELLED;
	default:
		return SN_E_IO;
	}
}

int sn_error_code(const struct sn_error *err)
{
	return err->code;
}

const char *sn_error_text(const struct sn_error *err)
{
	return err->text;
}

int sn_error_foreign(const struct sn_error *err)
{
	return err->foreign;
}

bool sn_error_retriable(const struct sn_error *err)
{
	return err->retriable;
}

const char *sn_error_call_id(const struct sn_error *err)
{
	return err->call_id;
}

size_t sn_error_attempts(const struct sn_error *err)
{
	return err->n_attempts;
}

int sn_error_attempt(const struct sn_error *err, size_t index, struct sn_attempt_info *ret_info)
{
	const struct sn_attempt *a;

	if (index >= err->n_attempts)
		return SN_E_INVALID;
	a = &err->attempts[index];
	*ret_info = (struct sn_attempt_info){.peer = a->peer,
			.phase = sn__phase_name(a->phase),
			.code = a->code,
			.foreign = a->foreign,
			.detail = a->detail,
			.start_ns = a->start_ns,
			.duration_ns = a->duration_ns,
			.decision = a->decision};
	return 0;
}

int sn_error_copy(const struct sn_error *err, struct sn_error **ret_copy)
{
	struct sn_error *copy = sn__malloc(sizeof *copy);

	if (copy == NULL)
		return SN_E_NOMEM;
	*copy = *err;
	*ret_copy = copy;
	return 0;
}

void sn__error_give(const struct sn_error *err, struct sn_error **ret_error)
{
	if (err != NULL && ret_error != NULL && sn_error_copy(err, ret_error) < 0)
		*ret_error = NULL;
}

void sn_error_destroy(struct sn_error *err)
{
	sn__free(err);
}
