/* SPDX-License-Identifier: Apache-2.0 */

/* The library against `sinew agent`: what monitors hear while the agent reports, dies and comes back,
 * and what is left of it after a restart. */

#include "guest.h"

#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "../ports.h"

#define ONE "{\"1\": {\"protocol\": \"http\", \"port\": 1, \"address\": \"10.0.0.1\"}}"
#define TWO \
	"{\"1\": {\"protocol\": \"http\", \"port\": 1, \"address\": \"10.0.0.1\"}, " \
	"\"2\": {\"protocol\": \"http\", \"port\": 2, \"address\": \"10.0.0.2\"}}"
#define PEERS(map) "{\"peers\": {\"service\": {\"app\": {\"client\": " map "}}}}"

/* ---- the agent ---- */

struct agent {
	pid_t pid;
	uint16_t port;
	char dir[64], mesh[80], url[64];
};

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
			.sin_port = htons(port),
			.sin_addr = {htonl(INADDR_LOOPBACK)}};
}

static void agent_start(struct agent *a, const char *mesh)
{
	const char *binary = getenv("SINEW_BINARY");
	char listen[32], line[256] = "";
	char *argv[] = {(char *)(uintptr_t) "sinew", (char *)(uintptr_t) "agent",
			(char *)(uintptr_t) "--listen", listen, (char *)(uintptr_t) "--mesh",
			a->mesh, NULL};
	posix_spawn_file_actions_t actions;
	extern char **environ;
	int out[2];
	FILE *f = fopen(a->mesh, "we");

	assert_non_null(binary);
	assert_true(fputs(mesh, f) >= 0 && fclose(f) == 0);
	snprintf(listen, sizeof(listen), "127.0.0.1:%u", a->port);
	assert_int_equal(pipe(out), 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out[1], 2);
	posix_spawn_file_actions_addclose(&actions, out[0]);
	assert_int_equal(posix_spawn(&a->pid, binary, &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	close(out[1]);
	assert_true(read(out[0], line, sizeof(line) - 1) > 0); /* it says when it listens */
	assert_non_null(strstr(line, "listens"));
	close(out[0]);
}

static void agent_kill(struct agent *a)
{
	int status;

	assert_int_equal(kill(a->pid, SIGKILL), 0);
	assert_int_equal(waitpid(a->pid, &status, 0), a->pid);
}

static int agent_open(void **state)
{
	static struct agent a;

	(void)signal(SIGPIPE, SIG_DFL);
	unsetenv("BERLIOZ_METADATA_SOURCE");
	snprintf(a.dir, sizeof(a.dir), "/tmp/sinew-agent-XXXXXX");
	if (mkdtemp(a.dir) == NULL)
		return -1;
	snprintf(a.mesh, sizeof(a.mesh), "%s/mesh.json", a.dir);
	a.port = (uint16_t)test_port();
	snprintf(a.url, sizeof(a.url), "ws://127.0.0.1:%u/t1", a.port);
	agent_start(&a, PEERS(ONE));
	*state = &a;
	return 0;
}

static int agent_close(void **state)
{
	struct agent *a = *state;
	char command[128];

	agent_kill(a);
	snprintf(command, sizeof(command), "rm -r %s", a->dir);
	return system(command);
}

static void report(const struct agent *a, const char *metadata)
{
	struct sockaddr_in addr = loopback(a->port);
	char text[2048], body[1024];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int n = snprintf(body, sizeof(body), "[{\"id\": \"t1\", \"metadata\": %s}]", metadata);

	n = snprintf(text, sizeof(text),
			"POST /report HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s",
			n, body);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(write(fd, text, (size_t)n), n);
	assert_true(read(fd, text, sizeof(text)) > 12);
	assert_memory_equal(text, "HTTP/1.1 200", 12);
	close(fd);
}

/* ---- a monitor that writes down what it hears ---- */

struct heard {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned n;
	size_t count;    /* peers told last */
	char value[256]; /* told last */
};

static void heard_init(struct heard *h)
{
	memset(h, 0, sizeof(*h));
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->cond, NULL);
}

static void heard_one(struct heard *h, size_t count, const char *value)
{
	pthread_mutex_lock(&h->lock);
	h->n++;
	h->count = count;
	snprintf(h->value, sizeof(h->value), "%s", value);
	pthread_cond_signal(&h->cond);
	pthread_mutex_unlock(&h->lock);
}

static void peers_heard(struct sn_peers *peers, void *arg)
{
	heard_one(arg, sn_peers_count(peers), sn_peers_json(peers));
}

static void first_heard(const struct sn_peer_info *peer, void *arg)
{
	heard_one(arg, peer != NULL, peer != NULL ? peer->identity : "none");
}

static void value_heard(const char *json, void *arg)
{
	heard_one(arg, 0, json);
}

static void wait_heard(struct heard *h, unsigned n)
{
	struct timespec due;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &due);
	due.tv_sec += 20;
	pthread_mutex_lock(&h->lock);
	while (h->n < n && r == 0)
		r = pthread_cond_timedwait(&h->cond, &h->lock, &due);
	if (h->n != n)
		fail_msg("heard %u times, not %u; last %s", h->n, n, h->value);
	pthread_mutex_unlock(&h->lock);
}

static struct sn_runtime *open_at(const char *url, const char *state_dir)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_runtime *rt;

	opts.agent = url;
	opts.state_dir = state_dir;
	assert_int_equal(sn_open(&opts, &rt, NULL), 0);
	return rt;
}

static size_t peers_now(struct sn_runtime *rt)
{
	struct sn_peers *peers = NULL;
	size_t n;

	assert_int_equal(sn_get_peers(rt, "service", "app", "client", &peers), 0);
	n = peers != NULL ? sn_peers_count(peers) : 0;
	sn_peers_unref(peers);
	return n;
}

/* ---- tests ---- */

static void test_monitors(void **state)
{
	struct agent *a = *state;
	struct heard peers, first, policy;
	struct sn_monitor *m[3];
	struct sn_runtime *rt = open_at(a->url, NULL);

	heard_init(&peers);
	heard_init(&first);
	heard_init(&policy);
	assert_int_equal(sn_wait_ready(rt, 10000), 0);
	assert_int_equal(sn_monitor_peers(rt, "service", "app", "client", peers_heard, &peers,
					 &m[0]),
			0);
	assert_int_equal(sn_monitor_first_peer(rt, "service", "app", "client", first_heard, &first,
					 &m[1]),
			0);
	assert_int_equal(sn_monitor_policy(rt, "timeout", "service", "app", "client", value_heard,
					 &policy, &m[2]),
			0);
	wait_heard(&peers, 1);
	wait_heard(&first, 1);
	wait_heard(&policy, 1);
	assert_int_equal(peers.count, 1);
	assert_string_equal(first.value, "1");
	assert_string_equal(policy.value, "5000");

	report(a, PEERS(TWO));
	wait_heard(&peers, 2);
	assert_int_equal(peers.count, 2);
	report(a, "{\"policies\": {\"values\": {\"timeout\": 700}}}");
	wait_heard(&policy, 2);
	assert_string_equal(policy.value, "700");
	report(a, PEERS("{}"));
	wait_heard(&peers, 3);
	assert_int_equal(peers.count, 0);
	wait_heard(&first, 2); /* not for the second peer, which was not the first */
	assert_string_equal(first.value, "none");

	sn_monitor_stop(m[0]);
	report(a, PEERS(ONE));
	wait_heard(&first, 3);
	assert_int_equal(peers.n, 3);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

static void test_agent_dies_and_comes_back(void **state)
{
	struct agent *a = *state;
	struct sn_runtime *rt = open_at(a->url, NULL);
	struct sn_monitor *m;
	struct heard peers;

	heard_init(&peers);
	assert_int_equal(sn_wait_ready(rt, 10000), 0);
	assert_int_equal(sn_monitor_peers(rt, "service", "app", "client", peers_heard, &peers, &m),
			0);
	wait_heard(&peers, 1);
	agent_kill(a);
	assert_int_equal(peers_now(rt), 1);
	agent_start(a, PEERS(TWO));
	wait_heard(&peers, 2); /* once: neither the loss nor the way back is a change */
	assert_int_equal(peers.count, 2);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

static void test_state_across_a_restart(void **state)
{
	struct agent *a = *state;
	struct sn_runtime *rt = open_at(a->url, a->dir);
	struct sn_peers *peers = NULL;

	assert_int_equal(sn_wait_ready(rt, 10000), 0);
	assert_int_equal(peers_now(rt), 2);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	agent_kill(a);
	rt = open_at(a->url, a->dir);
	assert_int_equal(sn_get_peers_wait(rt, "service", "app", "client", 10000, &peers), 0);
	assert_int_equal(sn_peers_count(peers), 2);
	sn_peers_unref(peers);
	assert_int_equal(sn_wait_ready(rt, 10), SN_E_TIMEOUT); /* the agent has said nothing */
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	agent_start(a, PEERS(TWO));
}

static void log_line(enum sn_log_level level, const char *line, void *arg)
{
	if (level == SN_LOG_ERROR)
		heard_one(arg, 0, line);
}

static void test_wrong_path_says_so(void **state)
{
	struct agent *a = *state;
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_runtime *rt;
	struct heard lines;
	char url[80];

	heard_init(&lines);
	snprintf(url, sizeof(url), "ws://127.0.0.1:%u/a/b", a->port);
	opts.agent = url;
	opts.log = log_line;
	opts.log_arg = &lines;
	assert_int_equal(sn_open(&opts, &rt, NULL), 0);
	wait_heard(&lines, 1);
	assert_non_null(strstr(lines.value, "must end in the task id"));
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_monitors),
			cmocka_unit_test(test_agent_dies_and_comes_back),
			cmocka_unit_test(test_state_across_a_restart),
			cmocka_unit_test(test_wrong_path_says_so),
	};

	return cmocka_run_group_tests(tests, agent_open, agent_close);
}
