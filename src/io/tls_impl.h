/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_TLS_IMPL_H
#define SN_SRC_IO_TLS_IMPL_H

/* Internal to TLS: what tls_context.c (files, contexts, sessions, why a certificate was refused) and
 * tls.c (the stream) share. Loop thread. */

#include <openssl/ssl.h>

#include "base/buf.h"
#include "base/list.h"
#include "io/tls.h"

#define TLS_PIECE 16384 /* the most plain text in a record */
#define TLS_WHY_MAX 200

struct sn_tls_file {
	char *path; /* may be NULL */
	int64_t mtime_ns, size;
	uint64_t inode;
};

struct sn_tls {
	struct sn_loop *loop;
	unsigned refs;
	bool server, verify, insist; /* insist: on a client's certificate */
	struct sn_tls_file ca, cert, key;
	char *key_password;  /* may be NULL */
	char *server_name;   /* may be NULL */
	unsigned char *alpn; /* as on the wire; NULL: none */
	unsigned alpn_size;
	SSL_CTX *ctx; /* made at the first use */
	uint64_t checked_ns;
	BIO_METHOD *bio;
	char *scratch;           /* TLS_PIECE bytes: pieces of a write become one record */
	struct sn_list sessions; /* latest first */
	unsigned n_sessions;
	void (*warn)(const struct sn_error *err, void *arg);
	void *warn_arg;
};

struct sn_tls_stream {
	struct sn_stream base;
	struct sn_stream *inner;
	struct sn_tls *tls;
	SSL *ssl;
	char *name; /* whom the certificate must name; sessions are kept under it; may be NULL */
	struct sn_buf out; /* records that @inner did not take yet */
	struct sn_task task;
	struct sn_timer timer; /* the end of lingering */
	unsigned entered;
	unsigned wanted;
	bool starting; /* the first flight: nothing is read yet */
	bool open, failed, gone, lingering;
	bool corked;  /* several records: one write */
	bool drained; /* SSL holds no whole record */
	bool at_eof, inner_eof, no_memory, ending;
	int write_error; /* of @inner: reading may go on */
	int inner_error;
	int code; /* with `failed` */
	char alpn[32];
	char why[TLS_WHY_MAX]; /* the certificate was refused */
};

/* ---- tls_context.c ---- */

/** The context, made or made anew when files have changed. */
SN_MUST_USE int sn__tls_context(struct sn_tls *tls, struct sn_error *err);
/** What the error queue says, as a clause, and the reason's number. Empties the queue. */
void sn__tls_explain(const struct sn_tls_stream *ts, char *out, size_t size, int *ret_reason);
/** Whom to expect, and a session kept for it. SN_E_INVALID, SN_E_NOMEM. */
SN_MUST_USE int sn__tls_expect(struct sn_tls_stream *ts, const char *server_name /* may be NULL */);

#endif
