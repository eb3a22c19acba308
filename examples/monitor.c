/* SPDX-License-Identifier: Apache-2.0 */
/* Print the peers of a service whenever they change, until Enter is pressed.
 *
 *	BERLIOZ_AGENT_PATH=ws://127.0.0.1:55555/TASK monitor NAME ENDPOINT */
#include <stdio.h>

#include <sinew/mesh.h>

/* Runs on the library's thread; @peers is ours for the call (sn_peers_ref() would keep it). */
static void peers_changed(struct sn_peers *peers, void *arg)
{
	struct sn_peer_info peer;

	printf("%s has %zu peers\n", (const char *)arg, sn_peers_count(peers));
	for (size_t i = 0; sn_peers_at(peers, i, &peer) == 0; i++)
		printf("  %s: %s://%s:%u\n", peer.identity, peer.protocol, peer.address, peer.port);
	fflush(stdout);
}

static void report(enum sn_log_level level, const char *line, void *arg)
{
	fprintf(stderr, "%s\n", line);
}

int main(int argc, char **argv)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_error *err = NULL;
	struct sn_monitor *monitor;
	struct sn_runtime *rt;

	opts.log = report; /* one line when the agent goes or comes back */
	if (argc < 3 || sn_open(&opts, &rt, &err) < 0) {
		fprintf(stderr, "%s\n", err != NULL ? sn_error_text(err) : "monitor NAME ENDPOINT");
		sn_error_destroy(err);
		return 2;
	}
	if (sn_monitor_peers(rt, "service", argv[1], argv[2], peers_changed, argv[1], &monitor) ==
			0)
		getchar();
	return sn_close(rt, NULL, NULL) < 0; /* stops the monitor as well */
}
