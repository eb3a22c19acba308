/* SPDX-License-Identifier: Apache-2.0 */
/* TLS with the programs of OpenSSL at the other end: s_server and s_client. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/mem.h"
#include "io/tls.h"
#include "io/tls_cert.h"

extern char **environ;

static struct sn_loop *loop;
static volatile pid_t running; /* the program, 0: none */

/* It hangs: nothing of it stays behind. */
static void on_alarm(int sig)
{
	if (running > 0)
		(void)kill(running, SIGKILL);
	_exit(1);
}

/* A program with pipes at both ends. */
struct child {
	pid_t pid;
	int in, out;
	struct sn_poll *poll;
	struct sn_buf said;
};

static void on_output(struct sn_poll *poll, unsigned events, void *arg)
{
	struct child *c = arg;
	char buf[4096];
	ssize_t n = read(c->out, buf, sizeof buf);

	if (n > 0)
		assert_int_equal(sn__buf_append(&c->said, buf, (size_t)n), 0);
	else
		sn__poll_want(poll, 0);
}

static void child_start(struct child *c, const char *const *args)
{
	posix_spawn_file_actions_t fa;
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(posix_spawn_file_actions_init(&fa), 0);
	assert_int_equal(posix_spawn_file_actions_adddup2(&fa, in[0], 0), 0);
	assert_int_equal(posix_spawn_file_actions_adddup2(&fa, out[1], 1), 0);
	assert_int_equal(posix_spawn_file_actions_adddup2(&fa, out[1], 2), 0);
	assert_int_equal(posix_spawnp(&c->pid, "openssl", &fa, NULL, (char *const *)(uintptr_t)args,
					 environ),
			0);
	(void)posix_spawn_file_actions_destroy(&fa);
	running = c->pid;
	(void)close(in[0]);
	(void)close(out[1]);
	c->in = in[1];
	c->out = out[0];
	(void)fcntl(c->out, F_SETFL, O_NONBLOCK);
	sn__buf_init(&c->said, 1 << 20);
	assert_int_equal(sn__poll_open(loop, c->out, on_output, c, &c->poll), 0);
	sn__poll_want(c->poll, SN_READABLE);
}

static const char *child_says(struct child *c, const char *what)
{
	return c->said.len == 0 ? NULL
				: memmem(sn__buf_data(&c->said), c->said.len, what, strlen(what));
}

static void child_stop(struct child *c)
{
	sn__poll_close(c->poll);
	(void)kill(c->pid, SIGTERM);
	(void)waitpid(c->pid, NULL, 0);
	running = 0;
	(void)close(c->in);
	(void)close(c->out);
	sn__buf_finish(&c->said);
}

/* Our end: says a line when it is up, keeps what it hears. */
struct end {
	struct sn_stream *s;
	struct sn_tls *tls;
	struct sn_buf heard;
	bool up, over, resumed, silent;
	int status;
	char text[300];
	char alpn[32];
};

static void end_over(struct end *e, int status)
{
	const struct sn_error *err = sn__stream_error(e->s);

	if (err != NULL)
		(void)snprintf(e->text, sizeof e->text, "%s", err->text);
	e->status = status;
	e->over = true;
	sn__stream_close(e->s, false);
	e->s = NULL;
}

static void on_end(struct sn_stream *s, unsigned events, void *arg)
{
	static const struct sn_str line = {"hello there\n", 12};
	struct end *e = arg;
	char buf[4096];
	ssize_t n;

	if (events & SN_STREAM_FAILED) {
		end_over(e, sn__stream_error(s)->code);
		return;
	}
	if (events & SN_STREAM_CONNECTED) {
		e->up = true;
		e->resumed = sn__tls_was_resumed(s);
		(void)snprintf(e->alpn, sizeof e->alpn, "%s", sn__tls_alpn(s));
		if (!e->silent)
			assert_int_equal(sn__stream_write(s, &line, 1), 12);
		sn__stream_want(s, SN_READABLE);
		return;
	}
	n = sn__stream_read(s, buf, sizeof buf);
	if (n > 0)
		assert_int_equal(sn__buf_append(&e->heard, buf, (size_t)n), 0);
	else if (n != SN_E_AGAIN)
		end_over(e, (int)n);
}

static void on_tcp(struct sn_stream *s, unsigned events, void *arg)
{
	struct end *e = arg;

	if (events & SN_STREAM_FAILED) { /* not listening yet */
		sn__stream_close(s, false);
		e->over = true;
		e->status = SN_E_CONNECT;
		return;
	}
	assert_int_equal(sn__tls_client(e->tls, s, "a.test", on_end, e, &e->s, NULL), 0);
}

/* ---- s_server ---- */

static void connect_end(struct end *e, const struct sn_addr *addr)
{
	struct sn_stream *tcp;

	sn__buf_init(&e->heard, 1 << 20);
	assert_int_equal(sn__stream_connect(loop, addr, on_tcp, e, &tcp, NULL), 0);
}

static void once(struct sn_tls *tls, struct child *c, const struct sn_addr *addr, bool want_resumed)
{
	struct end e = {.tls = tls};

	connect_end(&e, addr);
	while (!e.over &&
			(e.heard.len < 12 ||
					memchr(sn__buf_data(&e.heard), '\n', e.heard.len) == NULL))
		(void)sn__loop_run(loop, SN_RUN_ONCE);
	assert_false(e.over);
	assert_true(sn_str_eq(sn__buf_str(&e.heard), SN_STR("ereht olleh\n")));
	assert_string_equal(e.alpn, "http/1.1");
	assert_int_equal(e.resumed, want_resumed);
	end_over(&e, 0);
	sn__buf_finish(&e.heard);
}

static void our_client(void **state)
{
	static const char *const versions[] = {"-tls1_2", "-tls1_3"};
	struct sn_tls_options opts = {.ca = cert_path("ca.pem"),
			.cert = cert_path("client.pem"),
			.key = cert_path("client.key"),
			.alpn = "http/1.1"};

	for (int i = 0; i < 2; i++) {
		const char *args[] = {"openssl", "s_server", "-accept", "127.0.0.1:0", "-cert",
				cert_path("good.pem"), "-key", cert_path("good.key"), "-CAfile",
				cert_path("ca.pem"), "-Verify", "2", "-verify_return_error", "-rev",
				"-alpn", "http/1.1", versions[i], NULL};
		struct sn_tls *tls;
		struct sn_addr addr;
		struct child c = {0};
		const char *at;
		uint64_t port = 0;

		assert_int_equal(sn__tls_create(loop, &opts, false, &tls), 0);
		child_start(&c, args);
		while ((at = child_says(&c, "ACCEPT 127.0.0.1:")) == NULL ||
				memchr(at, '\n', 30) == NULL)
			(void)sn__loop_run(loop, SN_RUN_ONCE);
		for (at += 17; *at >= '0' && *at <= '9'; at++)
			port = port * 10 + (uint64_t)(*at - '0');
		assert_int_equal(sn__addr_from_literal(SN_STR("127.0.0.1"), (uint16_t)port, &addr),
				0);
		once(tls, &c, &addr, false);
		once(tls, &c, &addr, true);
		sn__tls_unref(tls);
		child_stop(&c);
	}
}

/* ---- s_client ---- */

static void on_accept(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	struct end *e = arg;

	sn__buf_init(&e->heard, 1 << 20);
	assert_int_equal(sn__tls_server(e->tls, s, on_end, e, &e->s, NULL), 0);
}

static void s_client(struct end *e, struct child *c, const char *version, const char *ca)
{
	struct sn_tls_options opts = {.cert = cert_path("good.pem"), .key = cert_path("good.key")};
	char where[SN_ADDR_TEXT_MAX];
	const char *args[] = {"openssl", "s_client", "-connect", where, "-CAfile", ca,
			"-verify_return_error", "-verify_hostname", "a.test", "-quiet", version,
			NULL};
	struct sn_listener *l;
	struct sn_addr any;

	assert_int_equal(sn__tls_create(loop, &opts, true, &e->tls), 0);
	assert_int_equal(sn__addr_from_literal(SN_STR("127.0.0.1"), 0, &any), 0);
	assert_int_equal(sn__listen(loop, &any, NULL, on_accept, e, &l, NULL), 0);
	(void)sn__addr_text(sn__listener_addr(l), where);
	child_start(c, args);
	while (!e->up && !e->over)
		(void)sn__loop_run(loop, SN_RUN_ONCE);
	sn__listener_close(l);
}

static void our_server(void **state)
{
	static const char *const versions[] = {"-tls1_2", "-tls1_3"};

	for (int i = 0; i < 2; i++) {
		struct end e = {0};
		struct child c = {0};

		s_client(&e, &c, versions[i], cert_path("ca.pem"));
		assert_int_equal(write(c.in, "from openssl\n", 13), 13);
		while (e.heard.len < 13 || child_says(&c, "hello there\n") == NULL)
			(void)sn__loop_run(loop, SN_RUN_ONCE);
		assert_true(sn_str_eq(sn__buf_str(&e.heard), SN_STR("from openssl\n")));
		/* Killed in the middle: cut off, not ended. */
		(void)kill(c.pid, SIGKILL);
		while (!e.over)
			(void)sn__loop_run(loop, SN_RUN_ONCE);
		assert_true(e.status == SN_E_EOF || e.status == SN_E_RESET);
		sn__buf_finish(&e.heard);
		sn__tls_unref(e.tls);
		child_stop(&c);
	}
}

static void their_refusal(void **state)
{
	struct end e = {.silent = true};
	struct child c = {0};

	s_client(&e, &c, "-tls1_3", cert_path("other.pem"));
	while (!e.over)
		(void)sn__loop_run(loop, SN_RUN_ONCE);
	assert_int_equal(e.status, SN_E_TLS);
	assert_non_null(strstr(e.text, "alert 48: unknown CA"));
	sn__buf_finish(&e.heard);
	sn__tls_unref(e.tls);
	child_stop(&c);
}

static int setup(void **state)
{
	return sn__loop_uv_open(NULL, &loop, NULL);
}

static int teardown(void **state)
{
	sn__loop_close(loop, NULL, NULL);
	return sn__mem_live() == 0 ? 0 : -1;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(our_client, setup, teardown),
			cmocka_unit_test_setup_teardown(our_server, setup, teardown),
			cmocka_unit_test_setup_teardown(their_refusal, setup, teardown)};

	(void)signal(SIGALRM, on_alarm);
	(void)alarm(50);
	return cmocka_run_group_tests(tests, cert_make_all, cert_remove_all);
}
