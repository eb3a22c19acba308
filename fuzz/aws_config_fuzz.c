/* SPDX-License-Identifier: Apache-2.0 */
/* Any JSON as a peer's `config` of an AWS service: it is a place to send requests to, or refused in
 * words. There is no variable but the region. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "connect/aws_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool right)
{
	if (!right)
		abort();
}

static const char *env(const char *name)
{
	return strcmp(name, "AWS_REGION") == 0 ? "eu-north-1" : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct sn_aws_options opts = {.service = "dynamodb",
			.endpoint_variable = "AWS_ENDPOINT_URL_DYNAMODB",
			.config = {(const char *)data, size},
			.env = env};
	struct sn_aws_config c = {0};
	struct sn_error err = {0};
	int64_t live = sn__mem_live();
	int r = sn__aws_config_read(&opts, &c, &err);

	if (r == 0) {
		must(c.region[0] != '\0' && c.host[0] != '\0' && c.url.port != 0);
		must(c.url.host.len > 0 && strncasecmp(c.endpoint, "http", 4) == 0);
		if (c.creds != NULL)
			must(c.creds->id.len > 0 && c.creds->secret.len > 0);
		sn__aws_config_finish(&c);
	} else {
		must(r == SN_E_INVALID && err.code == SN_E_INVALID && err.text[0] != '\0');
	}
	must(sn__mem_live() == live);
	return 0;
}
