/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A peer's `config` is what an AWS SDK's constructor takes. It is read where it stands in a copy,
 * which is cleansed, so that no secret is left behind in memory of a JSON library.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "connect/aws_impl.h"
#include "proto/json_pull.h"

/* What the config says; slices into the copy, empty when absent. */
struct keys {
	struct sn_str id, secret, token;
};
struct said {
	struct sn_str region, endpoint;
	struct keys top, nested; /* of SDK version 2, of version 3 */
	char ignored[256];
};

/* ---- the JSON ---- */

static struct sn_str in_place(struct sn_json_string s)
{
	if (s.escaped)
		s.raw.len = sn__json_unescape(s, (char *)(uintptr_t)s.raw.ptr);
	return s.raw;
}

/* A text, or null for none. */
static int read_text(struct sn_json_pull *r, const char *name, struct sn_str *ret_text,
		struct sn_error *err)
{
	struct sn_json_string s;
	int rc;

	switch (sn__json_peek(r)) {
	case SN_JSON_NULL:
		*ret_text = (struct sn_str){0};
		return sn__json_null(r);
	case SN_JSON_STRING:
		rc = sn__json_string(r, &s);
		if (rc == 0)
			*ret_text = in_place(s);
		return rc;
	default:
		return sn__error_set(err, SN_E_INVALID, "config: %s must be a text", name);
	}
}

struct known {
	const char *name;
	struct sn_str *value;
};

/* 1: it was one of them. */
static int read_known(struct sn_json_pull *r, struct sn_json_string key, const struct known *known,
		struct sn_error *err)
{
	for (; known->name != NULL; known++) {
		if (sn__json_string_is(key, sn_str_from(known->name))) {
			int rc = read_text(r, known->name, known->value, err);

			return rc < 0 ? rc : 1;
		}
	}
	return 0;
}

static int read_nested(struct sn_json_pull *r, struct keys *keys, struct sn_error *err)
{
	const struct known known[] = {{"accessKeyId", &keys->id},
			{"secretAccessKey", &keys->secret}, {"sessionToken", &keys->token}, {0}};
	struct sn_json_string key;
	int rc;

	if (sn__json_peek(r) == SN_JSON_NULL)
		return sn__json_null(r);
	if (sn__json_peek(r) != SN_JSON_OBJECT)
		return sn__error_set(err, SN_E_INVALID, "config: credentials must be an object");
	rc = sn__json_enter_object(r);
	while (rc >= 0 && (rc = sn__json_member(r, &key)) > 0) {
		rc = read_known(r, key, known, err);
		if (rc == 0)
			rc = sn__json_skip(r, NULL);
	}
	return rc;
}

static void ignore(struct said *said, struct sn_str name)
{
	size_t n = strlen(said->ignored);

	(void)snprintf(said->ignored + n, sizeof(said->ignored) - n, "%s%.*s", n > 0 ? ", " : "",
			(int)SN_MIN(name.len, 64), name.ptr);
}

static int read_members(struct sn_json_pull *r, struct said *said, struct sn_error *err)
{
	const struct known known[] = {{"region", &said->region}, {"endpoint", &said->endpoint},
			{"accessKeyId", &said->top.id}, {"secretAccessKey", &said->top.secret},
			{"sessionToken", &said->top.token}, {0}};
	struct sn_json_string key;
	int rc = sn__json_enter_object(r);

	while (rc >= 0 && (rc = sn__json_member(r, &key)) > 0) {
		if (sn__json_string_is(key, SN_STR("credentials"))) {
			rc = read_nested(r, &said->nested, err);
			continue;
		}
		rc = read_known(r, key, known, err);
		if (rc == 0) {
			ignore(said, key.raw);
			rc = sn__json_skip(r, NULL);
		}
	}
	return rc;
}

static int read_json(char *text, size_t size, struct said *said, struct sn_error *err)
{
	struct sn_json_pull r;
	size_t offset;

	if (sn__json_check((struct sn_str){text, size}, &offset) < 0)
		return sn__error_set(err, SN_E_INVALID, "config: no JSON (byte %zu)", offset);
	sn__json_begin(&r, (struct sn_str){text, size});
	if (sn__json_peek(&r) != SN_JSON_OBJECT)
		return sn__error_set(err, SN_E_INVALID, "config: must be an object");
	return read_members(&r, said, err);
}

/* ---- region and endpoint ---- */

static int set_region(struct sn_str region, struct sn_aws_config *config, struct sn_error *err)
{
	bool good = region.len < sizeof(config->region);

	/* It becomes a part of a host's name. */
	for (size_t i = 0; i < region.len; i++) {
		char c = region.ptr[i];

		good = good &&
				((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
						(c >= '0' && c <= '9') || c == '-');
	}
	if (!good)
		return sn__error_set(err, SN_E_INVALID,
				"region: letters, digits and '-' only, at most %zu",
				sizeof(config->region) - 1);
	memcpy(config->region, region.ptr, region.len);
	config->region[region.len] = '\0';
	return 0;
}

static int find_region(const struct sn_aws_options *opts, struct sn_str said,
		const struct sn_aws_files *files, struct sn_aws_config *config,
		struct sn_error *err)
{
	struct sn_str region = said;

	if (region.len == 0)
		region = sn_str_from(sn__aws_env(opts->env, "AWS_REGION"));
	if (region.len == 0)
		region = sn_str_from(sn__aws_env(opts->env, "AWS_DEFAULT_REGION"));
	if (region.len == 0)
		region = files->profile.region;
	if (region.len > 0)
		return set_region(region, config, err);
	return sn__error_set(err, SN_E_INVALID,
			"no region: neither in the peer's config, nor AWS_REGION, AWS_DEFAULT_REGION, "
			"nor in profile %.64s of %.64s or %.64s",
			files->name, files->path[0], files->path[1]);
}

/* A text for sn__free(). Without a scheme it is https, as with the SDKs. */
static int find_endpoint(const struct sn_aws_options *opts, struct sn_str said,
		const struct sn_aws_files *files, const char *region, char **ret_text)
{
	const char *ignore_them = sn__aws_env(opts->env, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
	struct sn_str url = said;

	if (ignore_them == NULL || strcasecmp(ignore_them, "true") != 0) {
		if (url.len == 0)
			url = sn_str_from(sn__aws_env(opts->env, opts->endpoint_variable));
		if (url.len == 0)
			url = sn_str_from(sn__aws_env(opts->env, "AWS_ENDPOINT_URL"));
		if (url.len == 0)
			url = files->profile.endpoint;
	}
	if (url.len == 0)
		*ret_text = sn__asprintf("https://%s.%s.amazonaws.com%s", opts->service, region,
				strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
	else
		*ret_text = sn__asprintf("%s%.*s",
				memmem(url.ptr, url.len, "://", 3) == NULL ? "https://" : "",
				(int)SN_MIN(url.len, 2 * SN_URL_MAX), url.ptr);
	return *ret_text != NULL ? 0 : SN_E_NOMEM;
}

static int parse_endpoint(struct sn_aws_config *config, struct sn_error *err)
{
	struct sn_url *url = &config->url;
	int r = sn__url_parse(sn_str_from(config->endpoint), url, err);
	unsigned usual;

	if (r == 0 && url->websocket)
		r = sn__error_set(err, SN_E_INVALID, "must begin with http:// or https://");
	if (r == 0 && url->target.len > 0 && memchr(url->target.ptr, '?', url->target.len) != NULL)
		r = sn__error_set(err, SN_E_INVALID, "a query has no place here");
	if (r < 0) {
		(void)sn__error_prefix(err, "endpoint");
		if (err != NULL)
			err->code = SN_E_INVALID;
		return SN_E_INVALID;
	}
	usual = url->secure ? 443 : 80;
	(void)snprintf(config->host, sizeof(config->host), url->host_is_v6 ? "[%.*s]" : "%.*s",
			(int)url->host.len, url->host.ptr);
	if (url->port != usual) {
		size_t n = strlen(config->host);

		(void)snprintf(config->host + n, sizeof(config->host) - n, ":%u", url->port);
	}
	return 0;
}

/* ---- all of it ---- */

static int take_keys(const struct said *said, struct sn_aws_config *config, struct sn_error *err)
{
	const struct keys *k = said->nested.id.len > 0 || said->nested.secret.len > 0
			? &said->nested
			: &said->top;
	int r;

	if (k->id.len == 0 && k->secret.len == 0)
		return 0;
	if (k->id.len == 0 || k->secret.len == 0)
		return sn__error_set(err, SN_E_INVALID, "config: %s without %s",
				k->id.len > 0 ? "accessKeyId" : "secretAccessKey",
				k->id.len > 0 ? "secretAccessKey" : "accessKeyId");
	r = sn__aws_creds_create(k->id, k->secret, k->token, -1, &config->creds);
	if (r < 0)
		return sn__error_set(err, r == SN_E_NOMEM ? r : SN_E_INVALID,
				r == SN_E_NOMEM ? "%s" : "config: the credentials are none: %s",
				sn_strerror(r));
	return 0;
}

static int resolve(const struct sn_aws_options *opts, const struct said *said,
		struct sn_aws_config *config, struct sn_error *err)
{
	struct sn_aws_files files = {.name = "default"};
	int r = 0;

	/* A peer that says everything needs no files, broken or not. */
	if (said->region.len == 0 || said->endpoint.len == 0)
		r = sn__aws_files_open(&files, opts->env, err);
	if (r == 0)
		r = find_region(opts, said->region, &files, config, err);
	if (r == 0) {
		r = find_endpoint(opts, said->endpoint, &files, config->region, &config->endpoint);
		if (r < 0)
			(void)sn__error_set(err, r, "%s", sn_strerror(r));
	}
	if (r == 0)
		r = parse_endpoint(config, err);
	if (r == 0)
		r = take_keys(said, config, err);
	sn__aws_files_close(&files);
	return r;
}

int sn__aws_config_read(const struct sn_aws_options *opts, struct sn_aws_config *ret_config,
		struct sn_error *err)
{
	struct said said = {0};
	struct sn_aws_config config = {0};
	char *copy = sn__strndup(opts->config.len > 0 ? opts->config.ptr : "{}",
			opts->config.len > 0 ? opts->config.len : 2);
	size_t size = opts->config.len > 0 ? opts->config.len : 2;
	int r;

	if (copy == NULL)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	r = read_json(copy, size, &said, err);
	if (r == 0)
		r = resolve(opts, &said, &config, err);
	if (r == 0 && said.ignored[0] != '\0')
		sn__log(opts->log, SN_LOG_WARNING, opts->service,
				"config: ignored, for they are not known here: %s", said.ignored);
	explicit_bzero(copy, size);
	sn__free(copy);
	if (r < 0)
		sn__aws_config_finish(&config);
	else
		*ret_config = config;
	return r;
}

void sn__aws_config_finish(struct sn_aws_config *config)
{
	sn__aws_creds_unref(config->creds);
	sn__free(config->endpoint);
	*config = (struct sn_aws_config){0};
}
