/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_TLS_H
#define SN_SRC_IO_TLS_H

/*
 * Internal. TLS 1.2 and up by OpenSSL, as a stream over a stream. Contexts are made lazily (the
 * first connection pays), shared by all connections with equal options, and re-read their files
 * when these change (certificate reload). Loop thread.
 *
 * A stream that ends without close_notify was cut off: its read fails with SN_E_EOF. A peer that
 * refuses us says so by an alert, which a read returns as SN_E_TLS (in TLS 1.3 after CONNECTED).
 */

#include "io/stream.h"

struct sn_tls_options {
	const char *ca;           /* file of trusted roots; NULL: the system's */
	const char *cert;         /* file: own chain, leaf first; NULL: none (servers need one) */
	const char *key;          /* file: own private key */
	const char *key_password; /* what it is encrypted with; NULL: it is not */
	const char *server_name;  /* expected name or address, and SNI; NULL: the address dialled */
	const char *alpn;         /* comma list in order of wish, e.g. "h2,http/1.1"; NULL: none */
	bool no_verify;           /* clients: accept any certificate */
	bool require_client_cert; /* servers: mutual TLS (needs ca) */
	bool ask_client_cert;     /* servers: verify one that is given (needs ca) */
};

struct sn_tls; /* counted context */
/** Copies @opts; touches no file yet. SN_E_NOMEM. */
SN_MUST_USE int sn__tls_create(struct sn_loop *loop, const struct sn_tls_options *opts, bool server,
		struct sn_tls **ret_tls);
struct sn_tls *sn__tls_ref(struct sn_tls *tls);
void sn__tls_unref(struct sn_tls *tls /* may be NULL */);
/** Whether the files of @opts can be used, as sn__tls_load() says it. Any thread. */
SN_MUST_USE int sn__tls_check(const struct sn_tls_options *opts, bool server, struct sn_error *err);
/** Read the files now, for early errors (`sinew check`, server start). The sentence names the file
 * and OpenSSL's reason. */
SN_MUST_USE int sn__tls_load(struct sn_tls *tls, struct sn_error *err);
/** Files are checked for changes at most once a second, at a handshake; a broken new file keeps the
 * old certificates (reported once through @warn). */
void sn__tls_on_warning(
		struct sn_tls *tls, void (*warn)(const struct sn_error *, void *), void *arg);

/** Wrap @inner, which is connected (taken on success). Client: @server_name as in the options when
 * these have none. CONNECTED or FAILED follows; sessions are resumed per (context, server_name). */
SN_MUST_USE int sn__tls_client(struct sn_tls *tls, struct sn_stream *inner,
		const char *server_name /* may be NULL */, sn_stream_fn *fn, void *arg,
		struct sn_stream **ret_stream, struct sn_error *err);
/** The same, but only @alpn is offered (one protocol; nothing when the options offer none). */
SN_MUST_USE int sn__tls_client_only(struct sn_tls *tls, const char *alpn /* may be NULL: all */,
		struct sn_stream *inner, const char *server_name /* may be NULL */,
		sn_stream_fn *fn, void *arg, struct sn_stream **ret_stream, struct sn_error *err);
SN_MUST_USE int sn__tls_server(struct sn_tls *tls, struct sn_stream *inner, sn_stream_fn *fn,
		void *arg, struct sn_stream **ret_stream, struct sn_error *err);
/** The ALPN protocol agreed on, or "". */
const char *sn__tls_alpn(const struct sn_stream *s);
bool sn__tls_was_resumed(const struct sn_stream *s);
/** Servers: whether the peer has shown a certificate, which was verified then. */
bool sn__tls_has_client_cert(const struct sn_stream *s);

#endif
