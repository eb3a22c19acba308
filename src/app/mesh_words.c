/* SPDX-License-Identifier: Apache-2.0 */
#include "app/mesh_words.h"

#include <string.h>

#include "app/session.h"
#include "base/mem.h"

int sn__mesh_type(const struct sn_cli *cli, const char *type, struct sn_buf *out)
{
	static const struct {
		const char *was;
		size_t len;
	} mus[] = {{"uHome.", 1}, {"\xce\xbcHome.", 2}};
	size_t skip = 0;
	int r = 0;

	if (type[0] == '\0' || !sn__utf8_valid(sn_str_from(type))) {
		sn__cli_say(cli, "an event type is a text that is not empty, in UTF-8");
		return SN_E_INVALID;
	}
	for (size_t i = 0; i < 2 && skip == 0; i++)
		if (strncmp(type, mus[i].was, strlen(mus[i].was)) == 0)
			skip = mus[i].len;
	if (skip > 0) {
		sn__cli_tell(cli, "%s is read as \xc2\xb5%s (with U+00B5)", type, type + skip);
		r = sn__buf_puts(out, "\xc2\xb5");
	}
	return r < 0 ? r : sn__buf_append(out, type + skip, strlen(type + skip) + 1);
}

int sn__read_token(const struct sn_cli *cli, const char *path, struct sn_buf *token)
{
	SN_AUTO_FREE char *spec = sn__asprintf("@%s", path);
	int r;

	if (spec == NULL)
		return SN_EXIT_FAILED;
	r = sn__session_input(cli, spec, token);
	if (r != 0)
		return r;
	while (token->len > 0 && strchr(" \r\n\t", sn__buf_data(token)[token->len - 1]) != NULL)
		sn__buf_truncate(token, token->len - 1);
	if (token->len == 0) {
		sn__cli_say(cli, "%s holds no token", path);
		return SN_EXIT_USAGE;
	}
	return sn__buf_append(token, "", 1) < 0 ? SN_EXIT_FAILED : 0;
}

int sn__mesh_security(
		const struct sn_cli *cli, struct sn_buf *token, struct sn_mh_security *ret_security)
{
	int r = 0;

	if (cli->opt[SN_OPT_TOKEN] != NULL)
		r = sn__read_token(cli, cli->opt[SN_OPT_TOKEN], token);
	if (r != 0)
		return r;
	*ret_security = (struct sn_mh_security){.tls_cert = cli->opt[SN_OPT_CERT],
			.tls_key = cli->opt[SN_OPT_KEY],
			.tls_ca = cli->opt[SN_OPT_CA],
			.token = token->len > 0 ? sn__buf_data(token) : NULL,
			.insecure = cli->opt[SN_OPT_INSECURE] != NULL};
	return 0;
}
