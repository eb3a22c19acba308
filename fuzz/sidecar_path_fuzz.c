/* SPDX-License-Identifier: Apache-2.0 */
/* A request line's path, and behind a newline what headers sinew-target say, one a line. What is read
 * must be the same when it is written again. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "mesh/sidecar_path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct sn_side_place *p, const char *from)
{
	assert(p->n <= 3 && p->rest[0] == '/');
	for (unsigned i = 0; i < p->n; i++) {
		const char *part = p->part[i];

		assert(part >= p->text && part + strlen(part) < p->text + sizeof(p->text));
		assert(strchr(part, '/') == NULL);
	}
	/* The rest is the path's own end, untouched. */
	if (p->rest >= from && p->rest <= from + strlen(from))
		assert(p->rest + strlen(p->rest) == from + strlen(from));
	else
		assert(strcmp(p->rest, "/") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	SN_AUTO_FREE char *text = sn__strndup((const char *)data, size);
	struct sn_http_head head = {.n_headers = 0};
	struct sn_side_place p;
	char *path = text, *line;

	if (text == NULL)
		return 0;
	line = strchr(text, '\n');
	while (line != NULL && head.n_headers < 3) {
		*line++ = '\0';
		head.headers[head.n_headers++] = (struct sn_http_header){
				SN_STR("sinew-target"), sn_str_from(line)};
		line = strchr(line, '\n');
	}
	for (unsigned i = 0; i < head.n_headers; i++) /* up to its end */
		head.headers[i].value = sn_str_from(head.headers[i].value.ptr);
	(void)sn__query_has(path, "watch");
	if (path[0] != '/')
		return 0;
	if (sn__place_read(path, &p))
		check(&p, path);
	if (sn__place_of_call(path, &head, &p)) {
		assert(p.n == 3 && head.n_headers <= 1);
		check(&p, path);
	}
	return 0;
}
