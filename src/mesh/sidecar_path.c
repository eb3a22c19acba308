/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/sidecar_path.h"

#include <string.h>

#include "proto/url.h"

bool sn__place_read(const char *path, struct sn_side_place *p)
{
	size_t at = 0, n;

	p->n = 0;
	while (p->n < 3 && *path == '/' && path[1] != '\0') {
		size_t len = strcspn(path + 1, "/");

		if (at + len + 1 > sizeof(p->text))
			return false;
		if (sn__percent_decode((struct sn_str){path + 1, len}, p->text + at, len, &n) < 0 ||
				memchr(p->text + at, '/', n) != NULL ||
				memchr(p->text + at, '\0', n) != NULL)
			return false;
		p->part[p->n++] = p->text + at;
		p->text[at + n] = '\0';
		at += n + 1;
		path += 1 + len;
	}
	p->rest = *path != '\0' ? path : "/";
	return true;
}

bool sn__place_of_call(const char *path, const struct sn_http_head *head, struct sn_side_place *p)
{
	char slash[SN_NAME_MAX + 2] = "/";
	const struct sn_str *target = NULL;

	for (unsigned i = 0; i < head->n_headers; i++) {
		if (!sn__str_ieq(head->headers[i].name, SN_STR("sinew-target")))
			continue;
		if (target != NULL) /* one for us, another for who checked before us */
			return false;
		target = &head->headers[i].value;
	}
	if (target == NULL)
		return strncmp(path, "/call/", 6) == 0 && sn__place_read(path + 5, p) && p->n == 3;
	if (target->len > SN_NAME_MAX || memchr(target->ptr, '\0', target->len) != NULL)
		return false;
	memcpy(slash + 1, target->ptr, target->len);
	slash[target->len + 1] = '\0';
	if (!sn__place_read(slash, p) || p->n < 3 || strcmp(p->rest, "/") != 0)
		return false;
	p->rest = path;
	return true;
}

bool sn__query_has(const char *query, const char *name)
{
	size_t n = strlen(name);

	for (;;) {
		size_t len = strcspn(query, "&");

		if (len >= n && memcmp(query, name, n) == 0 && (len == n || query[n] == '='))
			return true;
		if (query[len] == '\0')
			return false;
		query += len + 1;
	}
}
