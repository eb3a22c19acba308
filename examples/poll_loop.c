/* SPDX-License-Identifier: Apache-2.0 */
/* Inside any other event loop: the library gives a descriptor and a time-out, the program says when
 * to go on. Here the loop is poll() over the library and standard input; each line read is a URL.
 *
 *	BERLIOZ_AGENT_PATH=ws://127.0.0.1:55555/TASK poll_loop NAME ENDPOINT */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include <sinew/mesh.h>

static void answered(const struct sn_response *res, const struct sn_error *err, void *arg)
{
	int *open = arg;

	(*open)--;
	if (res != NULL)
		printf("%u %s\n", sn_response_status(res), sn_response_body(res, NULL));
	if (err != NULL)
		printf("%s\n", sn_error_text(err));
	fflush(stdout);
}

static void send_line(struct sn_runtime *rt, char **argv, char *line, int *open)
{
	struct sn_request_options opts = SN_REQUEST_INIT;
	struct sn_error *err = NULL;

	line[strcspn(line, "\n")] = '\0';
	opts.url = line;
	if (sn_request(rt, "service", argv[1], argv[2], &opts, answered, open, NULL, &err) == 0)
		(*open)++;
	else
		printf("%s\n", err != NULL ? sn_error_text(err) : "out of memory");
	sn_error_destroy(err);
}

int main(int argc, char **argv)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct pollfd fds[2] = {{.fd = 0, .events = POLLIN}};
	struct sn_error *err = NULL;
	struct sn_runtime *rt;
	char line[1024];
	int open = 0;

	setvbuf(stdin, NULL, _IONBF, 0);
	opts.mode = SN_MODE_FOREIGN;
	if (argc < 3 || sn_open(&opts, &rt, &err) < 0) {
		fprintf(stderr, "%s\n",
				err != NULL ? sn_error_text(err) : "poll_loop NAME ENDPOINT");
		sn_error_destroy(err);
		return 2;
	}
	fds[1] = (struct pollfd){.fd = sn_runtime_fd(rt), .events = POLLIN};
	while (fds[0].fd >= 0 || open > 0) {
		if (poll(fds, 2, sn_runtime_timeout(rt)) < 0)
			break;
		sn_runtime_step(rt);
		if (fds[0].fd >= 0 && fds[0].revents != 0) {
			if (fgets(line, sizeof(line), stdin) != NULL)
				send_line(rt, argv, line, &open);
			else
				fds[0].fd = -1; /* poll() passes over it */
		}
	}
	return sn_close(rt, NULL, NULL) < 0;
}
