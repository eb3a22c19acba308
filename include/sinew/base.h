/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_BASE_H
#define SN_BASE_H

/*
 * Stability: stable. What every other header of libsinew needs: result codes and the marks on
 * declarations.
 *
 * Conventions of the whole API: an int result is 0 or one of the negative SN_E_ codes below,
 * unless a function says that a positive value is a count. After a failure nothing has changed and
 * out parameters (ret_x) are untouched. Pointers may not be NULL unless the text says so. A call
 * that takes a callback and returns an error never calls the callback.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SN_API __attribute__((visibility("default")))
#define SN_MUST_USE __attribute__((warn_unused_result))
#define SN_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/** Result codes. Values never change; new ones are added at the end. */
enum sn_code {
	SN_OK = 0,
	SN_E_INVALID = -1,   /* an argument or option is malformed */
	SN_E_NOMEM = -2,     /* out of memory */
	SN_E_LIMIT = -3,     /* a named limit was reached */
	SN_E_EXISTS = -4,    /* already there */
	SN_E_NOT_FOUND = -5, /* no such thing */
	SN_E_STATE = -6,     /* not possible in the present state */
	SN_E_AGAIN = -7,     /* nothing now; wait for readiness */
	SN_E_CLOSED = -8,    /* the object was closed meanwhile */
	SN_E_CANCELLED = -9, /* the caller cancelled */
	SN_E_TIMEOUT = -10,  /* one attempt or phase took too long */
	SN_E_DEADLINE = -11, /* the whole operation's deadline has passed */
	SN_E_NO_PEER = -12,  /* the target has no peer */
	SN_E_BREAKER = -13,  /* every peer's breaker is open */
	SN_E_OVERLOAD = -14, /* max-inflight and max-pending are full */
	SN_E_RESOLVE = -15,  /* name resolution failed */
	SN_E_CONNECT = -16,  /* refused or unreachable */
	SN_E_TLS = -17,      /* handshake or certificate */
	SN_E_RESET = -18,    /* the connection broke */
	SN_E_EOF = -19,      /* the peer closed where more was due */
	SN_E_PROTOCOL = -20, /* the peer broke the protocol */
	SN_E_STATUS = -21,   /* the peer answered with a status that counts as failure */
	SN_E_PARSE = -22,    /* text that cannot be read: JSON, YAML, URL, number */
	SN_E_IO = -23,       /* any other operating system error */
	SN_E_NOTSUP = -24,   /* not supported here */
	SN_E_DEADLK = -25,   /* a _wait call on the loop's own thread */
	SN_E_FORKED = -26,   /* the handle was made before fork() */
	SN_E_REJECTED = -27, /* refused by authentication or policy */
};

/**
 * The code's constant text, e.g. "out of memory"; "unknown error" for others. Any thread.
 */
SN_API const char *sn_strerror(int code);

/** The code's name without prefix, e.g. "NOMEM"; "UNKNOWN" for others. Any thread. */
SN_API const char *sn_code_name(int code);

/** Version of the library, e.g. "0.1.0". Any thread. */
SN_API const char *sn_version(void);

#ifdef __cplusplus
}
#endif
#endif /* SN_BASE_H */
