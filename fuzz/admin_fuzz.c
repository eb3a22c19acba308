/* SPDX-License-Identifier: Apache-2.0 */
/* A request to the admin API: the input is "METHOD PATH?QUERY". */
#include "base/json.h"
#include "base/mem.h"
#include "mesh/admin_path.h"
#include "mesh/recorder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(const struct sn_admin_request *req, const char *part)
{
	assert(part == NULL || (part > req->space && part <= req->space + SN_ADMIN_PATH_MAX));
}

static void taken(const char *method, const struct sn_admin_request *req)
{
	bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

	assert(req->changes == !reads);
	assert(req->changes == (req->what == SN_ADMIN_FORCE || req->what == SN_ADMIN_DRAIN));
	inside(req, req->kind);
	inside(req, req->name);
	inside(req, req->endpoint);
	assert((req->kind == NULL) == (req->name == NULL));
	assert(req->endpoint == NULL || req->name != NULL);
	assert(req->what != SN_ADMIN_FORCE || req->name != NULL);
	assert(req->limit >= 1 && req->limit <= SN_ADMIN_STORIES_MAX);
	assert((req->id == 0 && !req->last && !req->text && !req->failed) ||
			req->what == SN_ADMIN_WHY);
	assert(!req->origin || req->what == SN_ADMIN_CONFIG);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	SN_AUTO_FREE char *text = sn__strndup((const char *)data, size);
	static struct sn_admin_request req;
	char *path, *query;
	struct sn_error err;
	struct sn_buf out;
	int r;

	if (text == NULL || size > 8192 || (path = strchr(text, ' ')) == NULL)
		return 0;
	*path++ = '\0';
	query = strchr(path, '?');
	if (query != NULL)
		*query++ = '\0';
	r = sn__admin_request_parse(text, path, query != NULL ? query : "", &req, &err);
	if (r == 0) {
		taken(text, &req);
		return 0;
	}
	assert(r == SN_E_NOT_FOUND || r == SN_E_NOTSUP || r == SN_E_INVALID);
	assert(err.code == r && strlen(err.text) > 5);
	sn__buf_init(&out, 1 << 20);
	assert(sn__json_quote(sn_str_from(err.text), &out) == 0);
	sn__buf_finish(&out);
	return 0;
}
