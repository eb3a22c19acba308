/* SPDX-License-Identifier: Apache-2.0 */
/* Find a peer and call it, in a plain blocking program.
 *
 *	BERLIOZ_AGENT_PATH=ws://127.0.0.1:55555/TASK call NAME ENDPOINT URL */
#include <stdio.h>

#include <sinew/mesh.h>

int main(int argc, char **argv)
{
	struct sn_request_options opts = SN_REQUEST_INIT;
	struct sn_response *res = NULL;
	struct sn_error *err = NULL;
	struct sn_runtime *rt;

	opts.url = argc > 3 ? argv[3] : "/";
	if (argc < 3 || sn_open(NULL, &rt, &err) < 0) {
		fprintf(stderr, "%s\n",
				err != NULL ? sn_error_text(err) : "call NAME ENDPOINT [URL]");
		sn_error_destroy(err);
		return 2;
	}
	if (sn_wait_ready(rt, 5000) < 0)
		fprintf(stderr, "the agent says nothing yet\n");
	if (sn_request_wait(rt, "service", argv[1], argv[2], &opts, &res, &err) < 0)
		fprintf(stderr, "%s\n", err != NULL ? sn_error_text(err) : "out of memory");
	if (res != NULL)
		printf("%u %s\n%s\n", sn_response_status(res), sn_response_url(res),
				sn_response_body(res, NULL));
	sn_response_destroy(res);
	sn_error_destroy(err);
	return sn_close(rt, NULL, NULL) < 0 || res == NULL;
}
