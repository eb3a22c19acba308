/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_ERROR_H
#define SN_SRC_BASE_ERROR_H

/*
 * Internal. struct sn_error is plain memory without pointers of its own, so it lives on stacks and
 * inside operations, is copied by assignment and never allocates. A function that can explain a
 * failure takes `struct sn_error *err` as its last parameter (may be NULL) and sets it when it
 * returns a code below 0.
 */

#include <sinew/error.h>

#define SN_ERROR_TEXT_MAX 384
#define SN_ERROR_ATTEMPTS_MAX 16

enum sn_phase {
	SN_PHASE_NONE,
	SN_PHASE_RESOLVE,
	SN_PHASE_ADMIT,
	SN_PHASE_CONNECT,
	SN_PHASE_TLS,
	SN_PHASE_WRITE,
	SN_PHASE_WAIT,
	SN_PHASE_READ,
};
const char *sn__phase_name(enum sn_phase phase);

struct sn_attempt {
	char peer[96];
	char detail[96];
	char decision[64];
	uint64_t start_ns, duration_ns;
	int code, foreign;
	enum sn_phase phase;
};

struct sn_error {
	int code;
	int foreign;
	bool retriable;
	char call_id[24];
	char text[SN_ERROR_TEXT_MAX];
	uint32_t n_attempts;     /* kept */
	uint32_t n_attempts_all; /* made */
	struct sn_attempt attempts[SN_ERROR_ATTEMPTS_MAX];
};

/** Start over with code and sentence (cut at SN_ERROR_TEXT_MAX). Returns @code. */
int sn__error_set(struct sn_error *err /* may be NULL */, int code, const char *fmt, ...)
		SN_PRINTF(3, 4);
/** For the caller of a public function: *ret_error becomes a copy, NULL when there is no memory for
 * one. Nothing when one of them is NULL. */
void sn__error_give(const struct sn_error *err /* may be NULL */,
		struct sn_error **ret_error /* may be NULL */);
/** Put "prefix: " before the text. Returns the error's code. */
int sn__error_prefix(struct sn_error *err /* may be NULL */, const char *fmt, ...) SN_PRINTF(2, 3);
/** A slot for the next attempt, zeroed; when full the middle ones give way, the first stays. */
struct sn_attempt *sn__error_add_attempt(struct sn_error *err);
/** The code nearest to an errno, e.g. ECONNREFUSED -> SN_E_CONNECT. */
int sn__code_from_errno(int e);

#endif
