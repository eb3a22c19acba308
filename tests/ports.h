/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_TESTS_PORTS_H
#define SN_TESTS_PORTS_H

/*
 * Ports that stay this process's own until it ends, also while several test programs run at once: what
 * ports.py is for Python, with the same files. A port that the kernel gives for the asking is only lent:
 * while its server is away it may become the near end of anybody's connection.
 *
 * After cmocka.
 */

#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEST_PORT_FIRST 20000u
#define TEST_PORT_LAST 31999u /* below the kernel's own range */

static inline bool test_port_is_free(unsigned port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
			.sin_port = htons((uint16_t)port),
			.sin_addr.s_addr = htonl(INADDR_ANY)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	bool r;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
	r = bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
	(void)close(fd);
	return r;
}

/** This process's own from now on, and its children's. */
static inline unsigned test_port(void)
{
	const char *tmp = getenv("TMPDIR");
	char dir[200], path[220];

	(void)snprintf(dir, sizeof dir, "%s/sinew-test-ports", tmp != NULL ? tmp : "/tmp");
	(void)mkdir(dir, 0777);
	for (unsigned i = 0; i < 2000; i++) {
		unsigned port;
		int fd;

		assert_int_equal(getrandom(&port, sizeof port, 0), sizeof port);
		port = TEST_PORT_FIRST + port % (TEST_PORT_LAST + 1 - TEST_PORT_FIRST);
		(void)snprintf(path, sizeof path, "%s/%u", dir, port);
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && test_port_is_free(port))
			return port; /* the lock goes with the process */
		if (fd >= 0)
			(void)close(fd);
	}
	fail_msg("no free port");
	return 0;
}

#endif
