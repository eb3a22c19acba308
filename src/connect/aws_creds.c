/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials in memory. explicit_bzero() is glibc's: it is not optimised away. */
#include <string.h>

#include "base/mem.h"
#include "connect/aws_impl.h"

#define ID_MAX 128u
#define TOKEN_MAX 16384u

static struct sn_str copy(char **at, struct sn_str s)
{
	struct sn_str to = {*at, s.len};

	if (s.len > 0)
		memcpy(*at, s.ptr, s.len);
	*at += s.len;
	return to;
}

int sn__aws_creds_create(struct sn_str id, struct sn_str secret, struct sn_str token,
		int64_t expires_s, struct sn_aws_creds **ret_creds)
{
	size_t size = id.len + secret.len + token.len;
	struct sn_aws_creds *creds;
	char *at;

	if (id.len > ID_MAX || secret.len > SN_SIGV4_SECRET_MAX || token.len > TOKEN_MAX)
		return SN_E_LIMIT;
	if (!sn__http_header_valid(SN_STR("x"), id) || !sn__http_header_valid(SN_STR("x"), token))
		return SN_E_INVALID;
	creds = sn__malloc(sizeof(*creds) + size);
	if (creds == NULL)
		return SN_E_NOMEM;
	at = creds->text;
	*creds = (struct sn_aws_creds){.refs = 1, .size = size, .expires_s = expires_s};
	creds->id = copy(&at, id);
	creds->secret = copy(&at, secret);
	creds->token = copy(&at, token);
	*ret_creds = creds;
	return 0;
}

struct sn_aws_creds *sn__aws_creds_ref(struct sn_aws_creds *creds)
{
	creds->refs++;
	return creds;
}

void sn__aws_creds_unref(struct sn_aws_creds *creds)
{
	if (creds == NULL || --creds->refs > 0)
		return;
	explicit_bzero(creds->text, creds->size);
	sn__free(creds);
}

bool sn__aws_creds_equal(const struct sn_aws_creds *a, const struct sn_aws_creds *b)
{
	return sn_str_eq(a->id, b->id) && sn_str_eq(a->secret, b->secret) &&
			sn_str_eq(a->token, b->token);
}
