/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The registry connector with HTTP functions of the host's own, on libcurl: messages, one a line, from
 * stdin; answers on stdout.
 *
 *	rethink-curl http://127.0.0.1:4567 < messages
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rethink_curl_table.h"

#include <sinew/mesh.h> /* sn_free() */

static int answer(struct sn_rethink *c, const char *line)
{
	char *response = NULL;
	int r = sn_rethink_process_message_wait(c, line, &response);

	if (r < 0) {
		(void)fprintf(stderr, "rethink-curl: %s\n", sn_strerror(r));
		return 1;
	}
	if (response != NULL)
		(void)printf("%s\n", response);
	sn_free(response);
	return fflush(stdout) != 0;
}

int main(int argc, char **argv)
{
	struct sn_rethink_options opts = SN_RETHINK_OPTIONS_INIT;
	struct curl_table *table;
	struct sn_error *err = NULL;
	struct sn_rethink *c;
	char *line = NULL;
	size_t size = 0;
	int bad = 0;

	if (argc != 2) {
		(void)fprintf(stderr, "usage: rethink-curl URL < messages\n");
		return 2;
	}
	table = curl_table_open(30000);
	if (table == NULL)
		return 1;
	opts.url = argv[1];
	opts.shim = &curl_table_functions;
	opts.shim_host = table;
	if (sn_rethink_open(&opts, &c, &err) < 0) {
		(void)fprintf(stderr, "rethink-curl: %s\n", sn_error_text(err));
		sn_error_destroy(err);
		curl_table_close(table);
		return 1;
	}
	while (!bad && getline(&line, &size, stdin) > 0)
		bad = answer(c, line);
	free(line);
	(void)sn_rethink_close(c, NULL, NULL);
	curl_table_close(table);
	return bad;
}
