/* SPDX-License-Identifier: Apache-2.0 */
/* The sinew binary: prepares the process, reads the command line, runs one command. */
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "app/cli.h"

/* A service with many peers needs many descriptors; the soft limit is for select(). */
static void raise_descriptor_limit(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &lim);
	}
}

int main(int argc, char **argv)
{
	struct sn_cli cli;
	bool done;
	int r;

	raise_descriptor_limit();
	/* A reader that went away is an error of printf, not a death. */
	(void)signal(SIGPIPE, SIG_IGN);
	r = sn__cli_parse(&cli, argc, argv, &done);
	if (r == 0 && !done)
		r = cli.cmd->run(&cli);
	if (fflush(stdout) != 0 && r == SN_EXIT_DONE)
		r = SN_EXIT_FAILED;
	return r;
}
