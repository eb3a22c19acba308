/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts: options, files and their changes, the client's sessions, and sentences for what OpenSSL
 * refuses. A context whose files have changed is replaced by a new one (connections keep theirs by
 * OpenSSL's own count); its sessions go with it, for they were verified by the old roots.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/mem.h"
#include "io/tls_impl.h"

#define SESSIONS_MAX 256
#define CHECK_EVERY_NS SN_NS_PER_S

struct session {
	struct sn_list link;
	SSL_SESSION *session;
	char name[];
};

/* ---- sessions of clients ---- */

static void session_free(struct sn_tls *tls, struct session *s)
{
	sn_list_remove(&s->link);
	tls->n_sessions--;
	SSL_SESSION_free(s->session);
	sn__free(s);
}

static void sessions_clear(struct sn_tls *tls)
{
	while (!sn_list_empty(&tls->sessions))
		session_free(tls, SN_CONTAINER_OF(tls->sessions.next, struct session, link));
}

static struct session *session_find(struct sn_tls *tls, const char *name)
{
	SN_LIST_FOREACH (pos, &tls->sessions) {
		struct session *s = SN_CONTAINER_OF(pos, struct session, link);

		if (strcmp(s->name, name) == 0)
			return s;
	}
	return NULL;
}

/* OpenSSL calls it for every session that may be resumed; with 1 the reference is ours. */
static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
	struct sn_tls_stream *ts = SSL_get_app_data(ssl);
	struct sn_tls *tls = ts->tls;
	struct session *s;
	size_t n;

	/* A connection of a replaced context must not put back what was cleared. */
	if (ts->name == NULL || ts->gone || SSL_get_SSL_CTX(ssl) != tls->ctx)
		return 0;
	s = session_find(tls, ts->name);
	if (s == NULL) {
		n = strlen(ts->name) + 1;
		s = sn__malloc(sizeof *s + n);
		if (s == NULL)
			return 0;
		memcpy(s->name, ts->name, n);
		s->session = NULL;
		sn_list_init(&s->link);
		if (tls->n_sessions++ == SESSIONS_MAX)
			session_free(tls,
					SN_CONTAINER_OF(tls->sessions.prev, struct session, link));
	}
	sn_list_remove(&s->link);
	sn_list_push_front(&tls->sessions, &s->link);
	if (s->session != NULL)
		SSL_SESSION_free(s->session);
	s->session = session;
	return 1;
}

/* ---- whom we expect ---- */

static bool address_bytes(
		const struct sn_addr *addr, const unsigned char **ret_bytes, size_t *ret_n)
{
	if (addr->u.sa.sa_family == AF_INET) {
		*ret_bytes = (const unsigned char *)&addr->u.in.sin_addr;
		*ret_n = sizeof addr->u.in.sin_addr;
		return true;
	}
	if (addr->u.sa.sa_family == AF_INET6) {
		*ret_bytes = (const unsigned char *)&addr->u.in6.sin6_addr;
		*ret_n = sizeof addr->u.in6.sin6_addr;
		return true;
	}
	return false;
}

int sn__tls_expect(struct sn_tls_stream *ts, const char *server_name)
{
	struct sn_addr literal = ts->inner->peer;
	X509_VERIFY_PARAM *param = SSL_get0_param(ts->ssl);
	const unsigned char *bytes;
	char text[SN_ADDR_TEXT_MAX];
	struct session *s;
	size_t n;
	bool is_address;

	if (ts->tls->server_name != NULL)
		server_name = ts->tls->server_name;
	if (server_name == NULL && ts->inner->peer.u.sa.sa_family == AF_UNIX)
		server_name = "localhost";
	is_address = server_name == NULL ||
			sn__addr_from_literal(sn_str_from(server_name), 0, &literal) == 0;
	ts->name = sn__strdup(server_name != NULL ? server_name : sn__addr_text(&literal, text));
	if (ts->name == NULL)
		return SN_E_NOMEM;
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (is_address && address_bytes(&literal, &bytes, &n)) {
		if (X509_VERIFY_PARAM_set1_ip(param, bytes, n) != 1)
			return SN_E_NOMEM;
	} else if (X509_VERIFY_PARAM_set1_host(param, ts->name, 0) != 1 ||
			SSL_set_tlsext_host_name(ts->ssl, ts->name) != 1) {
		ERR_clear_error();
		return SN_E_INVALID;
	}
	s = session_find(ts->tls, ts->name);
	if (s != NULL && SSL_SESSION_is_resumable(s->session))
		(void)SSL_set_session(ts->ssl, s->session);
	return 0;
}

/* ---- sentences ---- */

static void put_date(char *out, size_t size, const ASN1_TIME *t)
{
	struct tm tm;

	if (ASN1_TIME_to_tm(t, &tm) != 1 || strftime(out, size, "%Y-%m-%d %H:%M", &tm) == 0)
		(void)snprintf(out, size, "?");
}

/* The first name a certificate is for. */
static void put_name(char *out, size_t size, X509 *cert)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int n = sk_GENERAL_NAME_num(names);

	(void)snprintf(out, size, "no name");
	for (int i = 0; i < n; i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

		if (g->type == GEN_DNS) {
			(void)snprintf(out, size, "%.*s%s", ASN1_STRING_length(g->d.dNSName),
					(const char *)ASN1_STRING_get0_data(g->d.dNSName),
					n > 1 ? " and others" : "");
			break;
		}
	}
	if (n <= 0)
		(void)X509_NAME_get_text_by_NID(
				X509_get_subject_name(cert), NID_commonName, out, (int)size);
	GENERAL_NAMES_free(names);
}

static int on_verify(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct sn_tls_stream *ts = SSL_get_app_data(ssl);
	X509 *cert = X509_STORE_CTX_get_current_cert(store);
	int e = X509_STORE_CTX_get_error(store);
	const char *why = X509_verify_cert_error_string(e);
	char what[80] = "?";

	if (ok == 1)
		return ok;
	switch (cert != NULL ? e : X509_V_OK) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
		put_date(what, sizeof what, X509_get0_notAfter(cert));
		(void)snprintf(ts->why, sizeof ts->why, "%s (on %s)", why, what);
		break;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		put_date(what, sizeof what, X509_get0_notBefore(cert));
		(void)snprintf(ts->why, sizeof ts->why, "%s (before %s)", why, what);
		break;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		put_name(what, sizeof what, cert);
		(void)snprintf(ts->why, sizeof ts->why, "%s: it is for %s, not for %s", why, what,
				ts->name != NULL ? ts->name : "?");
		break;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
		(void)X509_NAME_get_text_by_NID(
				X509_get_issuer_name(cert), NID_commonName, what, sizeof what);
		(void)snprintf(ts->why, sizeof ts->why, "unknown CA \"%s\": %s", what, why);
		break;
	default:
		(void)snprintf(ts->why, sizeof ts->why, "%s", why);
		break;
	}
	return ok;
}

static const char *reason_text(unsigned long e)
{
	const char *text = ERR_reason_error_string(e);

	if (text == NULL && ERR_SYSTEM_ERROR(e))
		text = strerrordesc_np(ERR_GET_REASON(e));
	return text != NULL ? text : "unknown TLS failure";
}

/* OpenSSL 3.0 has no words for two alerts of TLS 1.3. */
static const char *alert_text(int alert)
{
	if (alert == SSL_AD_CERTIFICATE_REQUIRED)
		return "certificate required";
	if (alert == SSL_AD_MISSING_EXTENSION)
		return "missing extension";
	return SSL_alert_desc_string_long(alert);
}

void sn__tls_explain(const struct sn_tls_stream *ts, char *out, size_t size, int *ret_reason)
{
	unsigned long e = ERR_peek_error();
	int reason = e != 0 && !ERR_SYSTEM_ERROR(e) ? ERR_GET_REASON(e) : 0;

	ERR_clear_error();
	*ret_reason = reason;
	if (ts->why[0] != '\0')
		(void)snprintf(out, size, "certificate refused: %s", ts->why);
	else if (ERR_GET_LIB(e) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET)
		(void)snprintf(out, size, "the peer sent alert %d: %s",
				reason - SSL_AD_REASON_OFFSET,
				alert_text(reason - SSL_AD_REASON_OFFSET));
	else
		(void)snprintf(out, size, "TLS: %s", reason_text(e));
}

/* ---- files ---- */

/* Whether @f is another file than at the last look. */
static bool file_changed(struct sn_tls_file *f)
{
	struct stat st;
	int64_t mtime_ns, size;
	bool changed;

	if (f->path == NULL)
		return false;
	if (stat(f->path, &st) < 0)
		memset(&st, 0, sizeof st);
	mtime_ns = (int64_t)st.st_mtim.tv_sec * (int64_t)SN_NS_PER_S + st.st_mtim.tv_nsec;
	size = st.st_size;
	changed = f->mtime_ns != mtime_ns || f->size != size || f->inode != st.st_ino;
	f->mtime_ns = mtime_ns;
	f->size = size;
	f->inode = st.st_ino;
	return changed;
}

static bool files_changed(struct sn_tls *tls)
{
	bool ca = file_changed(&tls->ca), cert = file_changed(&tls->cert);

	return file_changed(&tls->key) || ca || cert;
}

/* Without this OpenSSL would ask the terminal. */
static int give_password(char *buf, int size, int rwflag, void *arg)
{
	const struct sn_tls *tls = arg;
	size_t n = tls->key_password != NULL ? strlen(tls->key_password) : 0;

	if (n == 0 || n > (size_t)size)
		return -1;
	memcpy(buf, tls->key_password, n);
	return (int)n;
}

static int load_failed(const char *what, const char *path, struct sn_error *err)
{
	unsigned long e = ERR_peek_error();
	int r;

	/* The first error is the cause, those behind it are its consequences. */
	ERR_clear_error();
	if (e == 0)
		return sn__error_set(err, SN_E_NOMEM, "TLS: %s", sn_strerror(SN_E_NOMEM));
	r = sn__error_set(err, SN_E_TLS, "TLS %s%s%s: %s", what, path != NULL ? " " : "",
			path != NULL ? path : "", reason_text(e));
	if (err != NULL)
		err->foreign = ERR_GET_REASON(e);
	return r;
}

static int load_files(struct sn_tls *tls, SSL_CTX *ctx, struct sn_error *err)
{
	STACK_OF(X509_NAME) * names;

	if (tls->ca.path != NULL) {
		if (SSL_CTX_load_verify_file(ctx, tls->ca.path) != 1)
			return load_failed("ca", tls->ca.path, err);
		if (tls->server) { /* tells the client whose certificates will do */
			names = SSL_load_client_CA_file(tls->ca.path);
			if (names == NULL)
				return load_failed("ca", tls->ca.path, err);
			SSL_CTX_set_client_CA_list(ctx, names);
		}
	} else if (tls->verify && SSL_CTX_set_default_verify_paths(ctx) != 1) {
		return load_failed("roots of the system", NULL, err);
	}
	if (tls->cert.path == NULL)
		return tls->server
				? sn__error_set(err, SN_E_INVALID,
						  "TLS: a server needs a certificate (cert, key)")
				: 0;
	if (tls->key.path == NULL)
		return sn__error_set(err, SN_E_INVALID, "TLS cert %s: its key is missing",
				tls->cert.path);
	if (SSL_CTX_use_certificate_chain_file(ctx, tls->cert.path) != 1)
		return load_failed("cert", tls->cert.path, err);
	if (SSL_CTX_use_PrivateKey_file(ctx, tls->key.path, SSL_FILETYPE_PEM) != 1 ||
			SSL_CTX_check_private_key(ctx) != 1)
		return load_failed("key", tls->key.path, err);
	return 0;
}

/* ---- contexts ---- */

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
		const unsigned char *in, unsigned in_len, void *arg)
{
	struct sn_tls *tls = arg;
	unsigned char *chosen;

	if (SSL_select_next_proto(&chosen, out_len, tls->alpn, tls->alpn_size, in, in_len) !=
			OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static void ctx_setup(struct sn_tls *tls, SSL_CTX *ctx)
{
	int mode = SSL_VERIFY_NONE;

	(void)SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	(void)SSL_CTX_set_options(ctx,
			SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					SSL_OP_CIPHER_SERVER_PREFERENCE);
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_passwd_cb(ctx, give_password);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, tls);
	if (tls->verify)
		mode = SSL_VERIFY_PEER | (tls->insist ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
	SSL_CTX_set_verify(ctx, mode, tls->verify ? on_verify : NULL);
	if (tls->server) {
		/* Sessions live in tickets, at the clients. */
		(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
		(void)SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"sinew", 5);
		(void)SSL_CTX_set_num_tickets(ctx, 1);
		if (tls->alpn != NULL)
			SSL_CTX_set_alpn_select_cb(ctx, on_alpn, tls);
		return;
	}
	(void)SSL_CTX_set_session_cache_mode(
			ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, on_new_session);
}

static int ctx_make(struct sn_tls *tls, SSL_CTX **ret_ctx, struct sn_error *err)
{
	SSL_CTX *ctx;
	int r;

	ERR_clear_error();
	ctx = SSL_CTX_new(tls->server ? TLS_server_method() : TLS_client_method());
	if (ctx == NULL)
		return load_failed("context", NULL, err);
	ctx_setup(tls, ctx);
	r = load_files(tls, ctx, err);
	if (r == 0 && !tls->server && tls->alpn != NULL &&
			SSL_CTX_set_alpn_protos(ctx, tls->alpn, tls->alpn_size) != 0)
		r = load_failed("alpn", NULL, err);
	if (r < 0) {
		SSL_CTX_free(ctx);
		return r;
	}
	*ret_ctx = ctx;
	return 0;
}

int sn__tls_context(struct sn_tls *tls, struct sn_error *err)
{
	uint64_t now_ns = sn__loop_now_ns(tls->loop);
	struct sn_error why;
	SSL_CTX *ctx;
	int r;

	if (tls->ctx != NULL && now_ns - tls->checked_ns < CHECK_EVERY_NS)
		return 0;
	tls->checked_ns = now_ns;
	if (tls->ctx != NULL && !files_changed(tls))
		return 0;
	if (tls->ctx == NULL) {
		(void)files_changed(tls);
		return ctx_make(tls, &tls->ctx, err);
	}
	r = ctx_make(tls, &ctx, &why);
	if (r < 0) {
		/* Not tried again before a file changes again, so this is said once. */
		(void)sn__error_prefix(&why, "the former certificates stay in use");
		if (tls->warn != NULL)
			tls->warn(&why, tls->warn_arg);
		return 0;
	}
	SSL_CTX_free(tls->ctx);
	tls->ctx = ctx;
	sessions_clear(tls);
	return 0;
}

/* "h2,http/1.1" as lengths and names. */
static int alpn_wire(struct sn_tls *tls, const char *list)
{
	size_t n = strlen(list);
	unsigned char *wire = sn__malloc(n + 1);
	size_t from = 0;

	if (wire == NULL)
		return SN_E_NOMEM;
	memcpy(wire + 1, list, n);
	for (size_t i = 0; i <= n; i++) {
		if (i < n && list[i] != ',')
			continue;
		if (i == from || i - from > 255) {
			sn__free(wire);
			return SN_E_INVALID;
		}
		wire[from] = (unsigned char)(i - from);
		from = i + 1;
	}
	tls->alpn = wire;
	tls->alpn_size = (unsigned)n + 1;
	return 0;
}

static int copy_text(const char *from, char **to)
{
	if (from == NULL)
		return 0;
	*to = sn__strdup(from);
	return *to != NULL ? 0 : SN_E_NOMEM;
}

int sn__tls_create(struct sn_loop *loop, const struct sn_tls_options *opts, bool server,
		struct sn_tls **ret_tls)
{
	struct sn_tls *tls = sn__calloc(1, sizeof *tls);
	int r;

	if (tls == NULL)
		return SN_E_NOMEM;
	tls->loop = loop;
	tls->refs = 1;
	tls->server = server;
	tls->insist = server && opts->require_client_cert;
	tls->verify = server ? tls->insist || opts->ask_client_cert : !opts->no_verify;
	sn_list_init(&tls->sessions);
	r = copy_text(opts->ca, &tls->ca.path);
	if (r == 0)
		r = copy_text(opts->cert, &tls->cert.path);
	if (r == 0)
		r = copy_text(opts->key, &tls->key.path);
	if (r == 0)
		r = copy_text(opts->key_password, &tls->key_password);
	if (r == 0)
		r = copy_text(opts->server_name, &tls->server_name);
	if (r == 0 && opts->alpn != NULL)
		r = alpn_wire(tls, opts->alpn);
	if (r < 0) {
		sn__tls_unref(tls);
		return r;
	}
	*ret_tls = tls;
	return 0;
}

struct sn_tls *sn__tls_ref(struct sn_tls *tls)
{
	tls->refs++;
	return tls;
}

void sn__tls_unref(struct sn_tls *tls)
{
	if (tls == NULL || --tls->refs > 0)
		return;
	sessions_clear(tls);
	SSL_CTX_free(tls->ctx);
	BIO_meth_free(tls->bio);
	sn__free(tls->ca.path);
	sn__free(tls->cert.path);
	sn__free(tls->key.path);
	if (tls->key_password != NULL)
		OPENSSL_cleanse(tls->key_password, strlen(tls->key_password));
	sn__free(tls->key_password);
	sn__free(tls->server_name);
	sn__free(tls->alpn);
	sn__free(tls->scratch);
	sn__free(tls);
}

int sn__tls_check(const struct sn_tls_options *opts, bool server, struct sn_error *err)
{
	struct sn_tls *tls;
	SSL_CTX *ctx;
	int r = sn__tls_create(NULL, opts, server, &tls); /* no loop: nothing is looked at again */

	if (r < 0)
		return sn__error_set(err, r, "TLS: %s", sn_strerror(r));
	r = ctx_make(tls, &ctx, err);
	if (r == 0)
		SSL_CTX_free(ctx);
	sn__tls_unref(tls);
	return r;
}

int sn__tls_load(struct sn_tls *tls, struct sn_error *err)
{
	return sn__tls_context(tls, err);
}

void sn__tls_on_warning(
		struct sn_tls *tls, void (*warn)(const struct sn_error *, void *), void *arg)
{
	tls->warn = warn;
	tls->warn_arg = arg;
}
