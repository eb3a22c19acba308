/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where credentials come from, in the order of the SDKs: the peer's config, variables, the shared
 * files, the container, the instance. The first three are at hand; the others are asked over HTTP,
 * once for all who wait. What expires is fetched anew some minutes before, while it is still in use,
 * and waited for only in its last seconds.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "connect/aws_impl.h"

#define LAST_S 15       /* not used any more so shortly before the end */
#define AHEAD_S 300     /* fetched anew so long before */
#define SOFT_PAUSE_S 60 /* between two such attempts */

/* The sentence of where was looked grows by clauses. */
static void say(struct sn_aws_chain *chain, const char *fmt, ...) SN_PRINTF(2, 3);
static void say(struct sn_aws_chain *chain, const char *fmt, ...)
{
	size_t n = strlen(chain->why);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(chain->why + n, sizeof(chain->why) - n, fmt, ap);
	va_end(ap);
}

static int from_variables(struct sn_aws_chain *chain, struct sn_aws_creds **ret_creds)
{
	const char *id = sn__aws_env(chain->env, "AWS_ACCESS_KEY_ID");
	const char *secret = sn__aws_env(chain->env, "AWS_SECRET_ACCESS_KEY");
	const char *token = sn__aws_env(chain->env, "AWS_SESSION_TOKEN");
	int r;

	if (id == NULL || secret == NULL) {
		say(chain, ", %s", id == NULL ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY");
		return SN_E_NOT_FOUND;
	}
	r = sn__aws_creds_create(
			sn_str_from(id), sn_str_from(secret), sn_str_from(token), -1, ret_creds);
	if (r < 0 && r != SN_E_NOMEM)
		say(chain, ", AWS_ACCESS_KEY_ID and so on (%s)", sn_strerror(r));
	return r == 0 || r == SN_E_NOMEM ? r : SN_E_NOT_FOUND;
}

static int from_files(struct sn_aws_chain *chain, struct sn_aws_creds **ret_creds)
{
	struct sn_aws_files files;
	const struct sn_aws_profile *p = &files.profile;
	struct sn_error err;
	int r = sn__aws_files_open(&files, chain->env, &err);

	if (r == SN_E_NOMEM)
		return r;
	if (r < 0) {
		say(chain, ", the shared files (%.100s)", err.text);
		return SN_E_NOT_FOUND;
	}
	r = SN_E_NOT_FOUND;
	if (p->id.len > 0 && p->secret.len > 0)
		r = sn__aws_creds_create(p->id, p->secret, p->token, -1, ret_creds);
	if (r < 0 && r != SN_E_NOMEM) {
		say(chain, ", profile %.32s", files.name);
		if (!p->found)
			say(chain, " (not in ~/.aws)");
		else if (p->unsupported.len > 0)
			say(chain, " (%.*s is not supported)", (int)SN_MIN(p->unsupported.len, 32),
					p->unsupported.ptr);
		r = SN_E_NOT_FOUND;
	}
	sn__aws_files_close(&files);
	return r;
}

static void on_metadata(struct sn_aws_metadata *m, struct sn_aws_creds *creds, int code)
{
	struct sn_aws_chain *chain = SN_CONTAINER_OF(m, struct sn_aws_chain, metadata);

	if (creds != NULL) {
		sn__aws_creds_unref(chain->creds);
		chain->creds = creds;
		code = 0;
	} else if (code != SN_E_NOMEM && code != SN_E_CLOSED) {
		say(chain, ", %s", m->why);
		code = SN_E_REJECTED;
	}
	/* Who waited gets what came, however short it lasts: it may be our clock that is wrong. */
	chain->fresh = creds != NULL;
	chain->ready(chain, code);
	chain->fresh = false;
}

static void begin_sentence(struct sn_aws_chain *chain)
{
	(void)snprintf(chain->why, sizeof(chain->why), "no credentials in the config");
}

/* What is at hand, else the metadata are asked. */
static int look(struct sn_aws_chain *chain, struct sn_aws_creds **ret_creds)
{
	int r;

	begin_sentence(chain);
	r = from_variables(chain, ret_creds);
	if (r == SN_E_NOT_FOUND)
		r = from_files(chain, ret_creds);
	if (r != SN_E_NOT_FOUND)
		return r;
	chain->metadata.done = on_metadata;
	r = sn__aws_metadata_start(&chain->metadata);
	if (r == 0)
		return SN_E_AGAIN;
	if (r == SN_E_NOMEM)
		return r;
	say(chain, ", %s", chain->metadata.why);
	return SN_E_REJECTED;
}

static bool lasts(const struct sn_aws_creds *creds, int64_t now_s, int64_t s)
{
	return creds->expires_s < 0 || creds->expires_s - now_s > s;
}

static void refresh_ahead(struct sn_aws_chain *chain, int64_t now_s)
{
	if (chain->metadata.busy || now_s < chain->soft_s)
		return;
	chain->soft_s = now_s + SOFT_PAUSE_S;
	begin_sentence(chain);
	chain->metadata.done = on_metadata;
	(void)!sn__aws_metadata_start(&chain->metadata);
}

int sn__aws_chain_get(struct sn_aws_chain *chain, int64_t now_s, struct sn_aws_creds **ret_creds)
{
	struct sn_aws_creds *found;
	int r;

	if (chain->configured != NULL) {
		*ret_creds = sn__aws_creds_ref(chain->configured);
		return 0;
	}
	if (chain->creds != NULL && (chain->fresh || lasts(chain->creds, now_s, LAST_S))) {
		if (!chain->fresh && !lasts(chain->creds, now_s, AHEAD_S))
			refresh_ahead(chain, now_s);
		*ret_creds = sn__aws_creds_ref(chain->creds);
		return 0;
	}
	r = chain->metadata.busy ? SN_E_AGAIN : look(chain, &found);
	if (r < 0)
		return r;
	sn__aws_creds_unref(chain->creds);
	chain->creds = found;
	*ret_creds = sn__aws_creds_ref(found);
	return 0;
}

void sn__aws_chain_expired(struct sn_aws_chain *chain, const struct sn_aws_creds *creds)
{
	if (chain->creds != creds)
		return;
	sn__aws_creds_unref(chain->creds);
	chain->creds = NULL;
}

void sn__aws_chain_finish(struct sn_aws_chain *chain)
{
	sn__aws_creds_unref(chain->creds);
	sn__aws_creds_unref(chain->configured);
	chain->creds = chain->configured = NULL;
}
