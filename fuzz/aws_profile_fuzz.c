/* SPDX-License-Identifier: Apache-2.0 */
/* The shared files of the AWS SDKs, read in both forms: what is found stands in the text, and the order
 * of sections of other names is of no importance. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "proto/aws_profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool right)
{
	if (!right)
		abort();
}

static void inside(struct sn_str part, struct sn_str text)
{
	must(part.len == 0 || (part.ptr >= text.ptr && part.ptr + part.len <= text.ptr + text.len));
	must(part.len == 0 || memchr(part.ptr, '\n', part.len) == NULL);
}

static void same(const struct sn_aws_profile *a, const struct sn_aws_profile *b)
{
	must(a->found == b->found && sn_str_eq(a->region, b->region) &&
			sn_str_eq(a->endpoint, b->endpoint) && sn_str_eq(a->id, b->id) &&
			sn_str_eq(a->secret, b->secret) && sn_str_eq(a->token, b->token));
}

static void read_as(struct sn_str text, bool config)
{
	static const char before[] = "[somebody else]\nregion = x\naws_access_key_id = y\n";
	struct sn_aws_profile p = {0}, q = {0};
	struct sn_error err = {0};
	char *longer;
	int r = sn__aws_profile_read(text, "f", config, SN_STR("default"), &p, &err);

	if (r < 0) {
		must(r == SN_E_PARSE && !p.found && strncmp(err.text, "f:", 2) == 0);
		return;
	}
	inside(p.region, text);
	inside(p.endpoint, text);
	inside(p.id, text);
	inside(p.secret, text);
	inside(p.token, text);
	inside(p.unsupported, text);
	longer = sn__malloc(sizeof(before) - 1 + text.len);
	must(longer != NULL);
	memcpy(longer, before, sizeof(before) - 1);
	if (text.len > 0)
		memcpy(longer + sizeof(before) - 1, text.ptr, text.len);
	must(sn__aws_profile_read((struct sn_str){longer, sizeof(before) - 1 + text.len}, "f",
			     config, SN_STR("default"), &q, NULL) == 0);
	same(&p, &q);
	sn__free(longer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_str text = {(const char *)data, size};

	read_as(text, false);
	read_as(text, true);
	return 0;
}
