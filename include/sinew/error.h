/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_ERROR_H
#define SN_ERROR_H

/* Stability: stable. What went wrong, with its story. */

#include <sinew/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * An error: a code, one sentence, and for a call the attempts that led to it. Immutable. An error
 * passed to a callback is borrowed for the time of the callback (sn_error_copy() keeps it); one
 * that a function returned through ret_error belongs to the caller, who ends it with
 * sn_error_destroy(). Any thread may read it.
 */
struct sn_error;

/** One attempt of a failed call. Pointers live as long as the error. */
struct sn_attempt_info {
	const char *peer;   /* "identity address:port", or "" when none was picked */
	const char *phase;  /* resolve, admit, connect, tls, write, wait, read */
	int code;           /* SN_E_ code */
	int foreign;        /* errno, HTTP status or the like; 0 when there is none */
	const char *detail; /* one clause, e.g. "connection refused" */
	uint64_t start_ns;  /* since the call began */
	uint64_t duration_ns;
	const char *decision; /* what was decided next, e.g. "retry in 500 ms", "give up: budget" */
};

SN_API int sn_error_code(const struct sn_error *err);
/** One sentence for a person, e.g. "service basket/rest: 3 attempts failed; last: ...". */
SN_API const char *sn_error_text(const struct sn_error *err);
/** errno, HTTP status, TLS alert or the like of the last failure; 0 when there is none. */
SN_API int sn_error_foreign(const struct sn_error *err);
/** Whether the same call may succeed later without any change. */
SN_API bool sn_error_retriable(const struct sn_error *err);
/** The call's id for `sinew why`; "" when the error is not about a call. */
SN_API const char *sn_error_call_id(const struct sn_error *err);
/** Attempts kept (the first and the latest; at most 16). */
SN_API size_t sn_error_attempts(const struct sn_error *err);
/** Attempt @index, below sn_error_attempts(). SN_E_INVALID otherwise. */
SN_API SN_MUST_USE int sn_error_attempt(
		const struct sn_error *err, size_t index, struct sn_attempt_info *ret_info);
/** SN_E_NOMEM. */
SN_API SN_MUST_USE int sn_error_copy(const struct sn_error *err, struct sn_error **ret_copy);
SN_API void sn_error_destroy(struct sn_error *err /* may be NULL */);

#ifdef __cplusplus
}
#endif
#endif /* SN_ERROR_H */
