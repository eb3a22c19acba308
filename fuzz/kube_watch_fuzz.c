/* SPDX-License-Identifier: Apache-2.0 */
/* A watch of EndpointSlices, whole and cut into pieces (the first byte says how large): both ways it says
 * the same. */
#include <stdlib.h>

#include "base/mem.h"
#include "hub/kube_slices.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run(struct sn_kube_slices *s, struct sn_str text, size_t piece)
{
	enum sn_kube_change change;
	int r = 0;

	for (size_t at = 0; at < text.len && r == 0; at += piece)
		r = sn__kube_slices_feed(s,
				(struct sn_str){text.ptr + at, SN_MIN(piece, text.len - at)},
				&change, NULL);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct sn_hub_source_url url = {.space = "shop", .port_name = "http"};
	struct sn_kube_slices s[2];
	size_t piece;
	bool differs;
	int r[2];

	if (size == 0)
		return 0;
	piece = data[0] + 1u;
	for (unsigned i = 0; i < 2; i++) {
		sn__kube_slices_init(&s[i], &url);
		r[i] = run(&s[i], (struct sn_str){(const char *)data + 1, size - 1},
				i == 0 ? size : piece);
		if (sn__kube_slices_instances(&s[i], &differs) < 0)
			abort();
	}
	if (r[0] != r[1] || s[0].list.n != s[1].list.n || strcmp(s[0].version, s[1].version) != 0 ||
			s[0].status != s[1].status)
		abort();
	for (size_t i = 0; i < s[0].list.n; i++)
		if (strcmp(s[0].list.all[i].name, s[1].list.all[i].name) != 0)
			abort();
	if (sn__kube_slices_page(&s[0], (struct sn_str){(const char *)data + 1, size - 1}, true,
			    NULL) == 0 &&
			s[0].next[0] == '\0' && sn__kube_slices_instances(&s[0], &differs) < 0)
		abort();
	for (unsigned i = 0; i < 2; i++)
		sn__kube_slices_finish(&s[i]);
	return 0;
}
