/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket handshakes and URLs. The first byte chooses. */
#include <stdlib.h>

#include "proto/url.h"
#include "proto/ws_handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void handshake(struct sn_str in, bool is_response)
{
	struct sn_http1_parser p;
	struct sn_str key;
	unsigned status;
	size_t used;

	sn__http1_init(&p, is_response, NULL);
	if (sn__http1_next(&p, in, &used) != SN_HTTP1_HEAD)
		return;
	if (is_response)
		(void)!sn__ws_check_response(&p.head, "dGhlIHNhbXBsZSBub25jZQ==", NULL);
	else if (sn__ws_check_request(&p.head, &key, &status, NULL) == 0 &&
			key.len != SN_WS_KEY_LEN)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_str in;
	struct sn_url url;
	char out[64];
	size_t n;

	if (size < 1)
		return 0;
	in = (struct sn_str){(const char *)data + 1, size - 1};
	if (data[0] % 4 < 2) {
		handshake(in, data[0] % 4 == 1);
	} else {
		if (sn__url_parse(in, &url, NULL) == 0 &&
				(url.host.len == 0 || url.port == 0 || url.host.len > in.len))
			abort();
		if (sn__percent_decode(in, out, sizeof(out), &n) == 0 && n > sizeof(out))
			abort();
	}
	return 0;
}
