/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/aws_options.h"

#include "base/json.h"
#include "base/mem.h"

int sn__aws_config(const struct sn_aws_settings *s, struct sn_buf *out)
{
	const struct {
		const char *name, *value;
	} members[] = {
			{"region", s->region},
			{"endpoint", s->endpoint},
			{"accessKeyId", s->access_key_id},
			{"secretAccessKey", s->secret_access_key},
			{"sessionToken", s->session_token},
	};
	const char *mark = "{\"";
	int r = 0;

	for (size_t i = 0; i < SN_COUNT(members) && r == 0; i++) {
		if (members[i].value == NULL)
			continue;
		r = sn__buf_printf(out, "%s%s\":", mark, members[i].name);
		mark = ",\"";
		if (r == 0)
			r = sn__json_quote(sn_str_from(members[i].value), out);
	}
	if (r == 0 && mark[0] == '{')
		r = sn__buf_append(out, "{", 1);
	return r < 0 ? r : sn__buf_append(out, "}", 1);
}
