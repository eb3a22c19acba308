/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_AWS_IMPL_H
#define SN_SRC_CONNECT_AWS_IMPL_H

/* Internal to src/connect/aws*.c: configuration, credentials, metadata. Loop thread. */

#include "connect/aws.h"
#include "proto/aws_profile.h"
#include "proto/url.h"

#define SN_AWS_WHY_MAX 256

typedef const char *sn_aws_env_fn(const char *name);
/** A variable's text, or NULL when it is not set or empty. */
const char *sn__aws_env(sn_aws_env_fn *env, const char *name);

/* ---- credentials: counted, cleansed when the last reference goes ---- */

struct sn_aws_creds {
	unsigned refs;
	size_t size; /* of text */
	struct sn_str id, secret, token;
	int64_t expires_s; /* since 1970; -1: never */
	char text[];
};
/** Copies. SN_E_INVALID (they could not be sent), SN_E_LIMIT, SN_E_NOMEM. */
SN_MUST_USE int sn__aws_creds_create(struct sn_str id, struct sn_str secret, struct sn_str token,
		int64_t expires_s, struct sn_aws_creds **ret_creds);
struct sn_aws_creds *sn__aws_creds_ref(struct sn_aws_creds *creds);
void sn__aws_creds_unref(struct sn_aws_creds *creds /* may be NULL */);
bool sn__aws_creds_equal(const struct sn_aws_creds *a, const struct sn_aws_creds *b);

/* ---- the shared files ---- */

struct sn_aws_files {
	struct sn_aws_profile profile; /* slices into the texts */
	const char *name;              /* of the profile */
	char path[2][512];             /* credentials, config; "": there is none to look for */
	char *text[2];
	size_t size[2];
};
/** Read both; files that do not exist are empty. Blocks as long as reading two small files takes.
 * SN_E_INVALID (cannot be read or is broken: err says where), SN_E_NOMEM. */
SN_MUST_USE int sn__aws_files_open(
		struct sn_aws_files *files, sn_aws_env_fn *env, struct sn_error *err);
void sn__aws_files_close(struct sn_aws_files *files);

/* ---- configuration ---- */

struct sn_aws_config {
	char region[64];
	char *endpoint;                  /* text of url */
	struct sn_url url;               /* slices into endpoint */
	char host[SN_URL_HOST_MAX + 16]; /* the Host header */
	struct sn_aws_creds *creds;      /* from the peer's config; may be NULL */
};
SN_MUST_USE int sn__aws_config_read(const struct sn_aws_options *opts,
		struct sn_aws_config *ret_config, struct sn_error *err);
void sn__aws_config_finish(struct sn_aws_config *config);

/* ---- container and instance metadata ---- */

struct sn_aws_metadata {
	/* filled by the owner, everything else zero */
	struct sn_loop *loop;
	struct sn_http_pool *pool;
	struct sn_tls *tls; /* for https; may be NULL */
	sn_aws_env_fn *env;
	/** Once for each start that succeeded, never inside of it: @creds (a reference of the
	 * callee's), or NULL and @code. m->why says in one clause where was asked and what came. */
	void (*done)(struct sn_aws_metadata *m, struct sn_aws_creds *creds, int code);
	char why[160];

	/* private */
	int step;
	bool busy, stopped;
	int code;
	unsigned status;
	struct sn_http_dest *dest;
	struct sn_tls *own_tls;
	struct sn_http_req http;
	struct sn_http_header headers[1];
	struct sn_timer timer;
	struct sn_task task;
	struct sn_buf body;
	char base[128]; /* "http://169.254.169.254", for messages */
	char path[1024];
	char token[4096]; /* Authorization of a container, session of an instance */
};
/** SN_E_NOT_FOUND: there is nobody to ask, m->why says why; SN_E_INVALID (m->why), SN_E_NOMEM. */
SN_MUST_USE int sn__aws_metadata_start(struct sn_aws_metadata *m);
/** done() follows with SN_E_CLOSED, when it is busy. */
void sn__aws_metadata_stop(struct sn_aws_metadata *m);

/* ---- the chain of all of them ---- */

struct sn_aws_chain {
	/* filled by the owner, everything else zero */
	struct sn_loop *loop;
	sn_aws_env_fn *env;
	struct sn_aws_creds *configured; /* from the peer's config; referenced; may be NULL */
	struct sn_aws_metadata metadata;
	/** A fetch has ended: who was told SN_E_AGAIN asks again when @code is 0. */
	void (*ready)(struct sn_aws_chain *chain, int code);
	char why[SN_AWS_WHY_MAX]; /* of the last failure: where was looked */

	/* private */
	struct sn_aws_creds *creds; /* current ones; may be NULL */
	bool fresh;                 /* inside of ready(): creds have just come */
	int64_t soft_s;             /* no refresh ahead of time before */
};
/** 0: *ret_creds is a reference of the caller's. SN_E_AGAIN: ready() follows. SN_E_REJECTED: there are
 * none, chain->why says where was looked; SN_E_NOMEM. @now_s: since 1970. */
SN_MUST_USE int sn__aws_chain_get(
		struct sn_aws_chain *chain, int64_t now_s, struct sn_aws_creds **ret_creds);
/** The service says that @creds have expired: they are not given again, unless they are found again. */
void sn__aws_chain_expired(struct sn_aws_chain *chain, const struct sn_aws_creds *creds);
/** Nothing is under way: the chain may be freed after sn__aws_chain_finish(). */
static inline bool sn_aws_chain_idle(const struct sn_aws_chain *chain)
{
	return !chain->metadata.busy;
}
void sn__aws_chain_finish(struct sn_aws_chain *chain);

#endif
