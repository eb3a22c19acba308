/* SPDX-License-Identifier: Apache-2.0 */
/* Names to addresses: without a query, by c-ares against a small name server of our own, by the
 * system, by the simulation's table. */
#include "io/resolve.h"
#include "proto/dns.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/world_test.h"

struct ask {
	struct sn_resolve op;
	bool done;
	int status;
	uint64_t turn;
};

static void on_answer(struct sn_resolve *op, int status)
{
	struct ask *a = SN_CONTAINER_OF(op, struct ask, op);

	assert_false(a->done);
	assert_true(sn__loop_turn(op->loop) > a->turn);
	a->done = true;
	a->status = status;
}

static void start(struct world *w, struct ask *a, const char *name)
{
	*a = (struct ask){.turn = sn__loop_turn(w->a)};
	assert_int_equal(sn__resolve(w->a, &a->op, name, 80, on_answer), 0);
	assert_false(a->done);
}

static void ask(struct world *w, struct ask *a, const char *name)
{
	start(w, a, name);
	world_run(w, &a->done);
}

static const char *addr_of(const struct ask *a, unsigned i)
{
	static char text[SN_ADDR_TEXT_MAX];

	return i < a->op.n_addrs ? sn__addr_text(&a->op.addrs[i], text) : "(none)";
}

static void without_a_query(void **state)
{
	struct world *w = *state;
	static const char *const local[] = {"localhost", "LOCALHOST", "localhost.", "db.localhost"};
	char long_name[300];
	struct ask a;

	ask(w, &a, "10.1.2.3");
	assert_string_equal(addr_of(&a, 0), "10.1.2.3:80");
	assert_int_equal(a.op.n_addrs, 1);
	ask(w, &a, "[2001:db8::1]");
	assert_string_equal(addr_of(&a, 0), "[2001:db8::1]:80");
	for (size_t i = 0; i < SN_COUNT(local); i++) {
		ask(w, &a, local[i]);
		assert_int_equal(a.status, 0);
		assert_int_equal(a.op.n_addrs, 2);
		assert_string_equal(addr_of(&a, 0), "[::1]:80");
		assert_string_equal(addr_of(&a, 1), "127.0.0.1:80");
	}
	memset(long_name, 'x', sizeof long_name);
	long_name[299] = '\0';
	assert_int_equal(sn__resolve(w->a, &a.op, long_name, 80, on_answer), SN_E_INVALID);
	assert_int_equal(sn__resolve(w->a, &a.op, "", 80, on_answer), SN_E_INVALID);
}

static void cancelled(void **state)
{
	struct world *w = *state;
	struct ask a, b;

	start(w, &a, "localhost");
	start(w, &b, "no-such-name.invalid");
	sn__resolve_cancel(&a.op);
	sn__resolve_cancel(&a.op);
	sn__resolve_cancel(&b.op);
	(void)sn__loop_run(w->a, SN_RUN_NOWAIT);
	(void)sn__loop_run(w->a, SN_RUN_NOWAIT);
	assert_false(a.done);
	assert_false(b.done);
	ask(w, &a, "localhost");
	sn__resolve_cancel(&a.op); /* harmless */
}

/* ---- a name server ---- */

struct dns {
	int fd;
	struct sn_poll *poll;
	unsigned n_asked;
	bool silent, broken; /* SERVFAIL */
	char where[40];      /* "ares:127.0.0.1:PORT" */
};

static size_t add_record(unsigned char *out, size_t at, unsigned type, unsigned char last)
{
	static const unsigned char v6[16] = {0x20, 1, 0xd, 0xb8};
	const unsigned char head[] = {0xc0, 12, 0, (unsigned char)type, 0, 1, 0, 0, 0,
			(unsigned char)(30 + last), 0, type == 1 ? 4 : 16};

	memcpy(out + at, head, sizeof head);
	at += sizeof head;
	if (type == 1) {
		memcpy(out + at, (unsigned char[]){10, 0, 0, last}, 4);
		return at + 4;
	}
	memcpy(out + at, v6, 16);
	out[at + 15] = last;
	return at + 16;
}

/* "both.*": 2 v4 and 3 v6; "four.*": v4 only; others do not exist. */
static size_t reply(unsigned char *msg, size_t n)
{
	size_t end = 12;
	bool four = memcmp(msg + 12, "\4four", 5) == 0, both = memcmp(msg + 12, "\4both", 5) == 0;
	unsigned type, count = 0;

	while (end < n && msg[end] != 0)
		end += msg[end] + 1u;
	end += 5;
	assert_true(end <= n);
	type = msg[end - 3];
	msg[2] = 0x81;
	msg[3] = four || both ? 0x80 : 0x83;
	msg[10] = msg[11] = 0; /* no EDNS */
	if (type == 1 && (four || both))
		count = 2;
	if (type == 28 && both)
		count = 3;
	msg[7] = (unsigned char)count;
	for (unsigned i = 0; i < count; i++)
		end = add_record(msg, end, type, (unsigned char)(i + 1));
	return end;
}

static void on_question(struct sn_poll *poll, unsigned events, void *arg)
{
	struct dns *dns = arg;
	struct sockaddr_storage from;
	socklen_t len = sizeof from;
	unsigned char msg[600];
	ssize_t n = recvfrom(dns->fd, msg, 512, 0, (struct sockaddr *)&from, &len);

	assert_true(n > 12);
	dns->n_asked++;
	if (dns->silent)
		return;
	n = (ssize_t)reply(msg, (size_t)n);
	if (dns->broken)
		msg[3] = 0x82;
	assert_true(sendto(dns->fd, msg, (size_t)n, 0, (struct sockaddr *)&from, len) > 0);
}

static bool dns_open(struct world *w, struct dns *dns, const char *where)
{
	struct sn_addr addr = world_addr(where);

	*dns = (struct dns){.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
	assert_true(dns->fd >= 0);
	if (bind(dns->fd, &addr.u.sa, addr.len) < 0) {
		(void)close(dns->fd);
		return false;
	}
	assert_int_equal(getsockname(dns->fd, &addr.u.sa, &addr.len), 0);
	assert_int_equal(sn__poll_open(w->a, dns->fd, on_question, dns, &dns->poll), 0);
	sn__poll_want(dns->poll, SN_READABLE);
	(void)snprintf(dns->where, sizeof dns->where, "ares:127.0.0.1:%u", sn__addr_port(&addr));
	return true;
}

static void dns_close(struct dns *dns)
{
	sn__poll_close(dns->poll);
	(void)close(dns->fd);
}

static void by_ares(void **state)
{
	struct world *w = *state;
	struct dns dns;
	struct ask a, b;

	assert_true(dns_open(w, &dns, "127.0.0.1:0"));
	assert_int_equal(sn__resolver_select(w->a, dns.where), 0);
	ask(w, &a, "both.example.");
	assert_int_equal(a.status, 0);
	assert_int_equal(a.op.n_addrs, 5);
	assert_int_equal(a.op.addrs[0].u.sa.sa_family, AF_INET6);
	assert_int_equal(a.op.addrs[1].u.sa.sa_family, AF_INET);
	assert_int_equal(a.op.addrs[2].u.sa.sa_family, AF_INET6);
	assert_int_equal(a.op.addrs[3].u.sa.sa_family, AF_INET);
	assert_int_equal(a.op.addrs[4].u.sa.sa_family, AF_INET6);
	assert_int_equal(sn__addr_port(&a.op.addrs[4]), 80);
	assert_int_equal(a.op.ttl_s, 31);
	ask(w, &a, "four.example.");
	assert_int_equal(a.op.n_addrs, 2);
	assert_string_equal(addr_of(&a, 0), "10.0.0.1:80");
	ask(w, &a, "missing.example.");
	assert_int_equal(a.status, SN_E_RESOLVE);
	assert_non_null(a.op.detail);
	dns.silent = true;
	start(w, &a, "both.example.");
	start(w, &b, "four.example.");
	sn__resolve_cancel(&a.op); /* while the question is under way */
	(void)sn__loop_run(w->a, SN_RUN_ONCE);
	assert_false(a.done);
	/* b is open when its channel is retired, and ends with the loop */
	assert_int_equal(sn__resolver_select(w->a, "ares"), 0);
	sn__resolve_cancel(&b.op);
	dns_close(&dns);
}

struct question {
	struct sn_dns_query q;
	int status;
	bool done;
	unsigned rcode, n;
	uint32_t ttl_s;
};

static void on_message(struct sn_dns_query *q, int status)
{
	struct question *ask = SN_CONTAINER_OF(q, struct question, q);
	struct sn_dns_record rec;
	struct sn_dns_reader reader;
	int r;

	ask->status = status;
	ask->done = true;
	if (status < 0)
		return;
	assert_int_equal(sn__dns_begin(&reader, q->answer), 0);
	ask->rcode = q->answer.ptr[3] & 15;
	for (ask->n = 0; (r = sn__dns_next(&reader, &rec)) > 0; ask->n++)
		ask->ttl_s = rec.ttl_s;
	assert_int_equal(r, 0);
}

static void questions(void **state)
{
	struct world *w = *state;
	struct question q = {.n = 0}, gone = {.n = 0};
	struct dns dns;

	assert_true(dns_open(w, &dns, "127.0.0.1:0"));
	assert_int_equal(sn__resolver_select(w->a, dns.where), 0);
	assert_int_equal(sn__dns_query(w->a, &q.q, "both.example", SN_DNS_AAAA, on_message), 0);
	assert_false(q.done);
	world_run(w, &q.done);
	assert_int_equal(q.status, 0);
	assert_int_equal(q.n, 3);
	assert_int_equal(q.ttl_s, 33);
	q.done = false;
	assert_int_equal(sn__dns_query(w->a, &q.q, "four.example", SN_DNS_AAAA, on_message), 0);
	world_run(w, &q.done);
	assert_int_equal(q.status, 0);
	assert_int_equal(q.rcode, 0);
	assert_int_equal(q.n, 0);
	q.done = false;
	assert_int_equal(sn__dns_query(w->a, &q.q, "missing.example", SN_DNS_SRV, on_message), 0);
	world_run(w, &q.done);
	assert_int_equal(q.status, 0);
	assert_int_equal(q.rcode, 3); /* NXDOMAIN */
	dns.broken = true;
	q.done = false;
	assert_int_equal(sn__dns_query(w->a, &q.q, "four.example", SN_DNS_A, on_message), 0);
	world_run(w, &q.done);
	assert_int_equal(q.status, SN_E_RESOLVE);
	assert_non_null(q.q.detail);
	/* cancelled under way, and when the answer is there */
	dns.broken = false;
	assert_int_equal(sn__dns_query(w->a, &gone.q, "four.example", SN_DNS_A, on_message), 0);
	sn__dns_query_cancel(&gone.q);
	assert_int_equal(sn__dns_query(w->a, &gone.q, "four.example", SN_DNS_A, on_message), 0);
	while (!sn_task_queued(&gone.q.task))
		(void)world_once(w);
	sn__dns_query_cancel(&gone.q);
	sn__dns_query_cancel(&gone.q);
	assert_false(gone.done);
	assert_int_equal(sn__dns_query(w->a, &gone.q, "", SN_DNS_A, on_message), SN_E_INVALID);
	/* one that is never answered ends with the loop */
	dns.silent = true;
	assert_int_equal(sn__dns_query(w->a, &gone.q, "four.example", SN_DNS_A, on_message), 0);
	(void)world_poll(w);
	sn__dns_query_cancel(&gone.q);
	dns_close(&dns);
}

static void write_conf(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static bool slept;
static void on_slept(struct sn_timer *t)
{
	slept = true;
}

/* The file is read again when it has changed: the second question goes to the second server. */
static void resolv_conf_changes(void **state)
{
	struct world *w = *state;
	char path[64], select_name[80];
	struct sn_timer timer = {.due_ns = 0};
	struct dns first, second;
	struct ask a;

	/* resolv.conf has no ports: only root can run this */
	if (!dns_open(w, &first, "127.83.78.1:53"))
		skip();
	assert_true(dns_open(w, &second, "127.83.78.2:53"));
	(void)snprintf(path, sizeof path, "/tmp/sinew-test-%d.conf", (int)getpid());
	(void)snprintf(select_name, sizeof select_name, "ares:%s", path);
	write_conf(path, "nameserver 127.83.78.1\n");
	assert_int_equal(sn__resolver_select(w->a, select_name), 0);
	ask(w, &a, "four.example.");
	assert_int_equal(a.status, 0);
	assert_int_equal(first.n_asked, 2);
	write_conf(path, "nameserver 127.83.78.2\n");
	slept = false;
	sn__timer_start(w->a, &timer, 1100 * SN_NS_PER_MS, on_slept); /* looked at once a second */
	world_run(w, &slept);
	ask(w, &a, "four.example.");
	assert_int_equal(a.status, 0);
	assert_int_equal(first.n_asked, 2);
	assert_int_equal(second.n_asked, 2);
	assert_int_equal(unlink(path), 0);
	dns_close(&first);
	dns_close(&second);
}

static void bad_selection(void **state)
{
	struct world *w = *state;
	char name[200] = "ares:";
	struct ask a;

	assert_int_equal(sn__resolver_select(w->a, "bind"), SN_E_INVALID);
	assert_int_equal(sn__resolver_select(w->a, "ares:"), SN_E_INVALID);
	memset(name + 5, '1', 190);
	assert_int_equal(sn__resolver_select(w->a, name), SN_E_INVALID);
	assert_int_equal(sn__resolver_select(w->a, "ares:no server"), 0);
	a.op.n_addrs = 99;
	assert_int_equal(sn__resolve(w->a, &a.op, "x.example", 80, on_answer), SN_E_INVALID);
}

static void by_the_system(void **state)
{
	struct world *w = *state;
	struct ask a;

	assert_int_equal(sn__resolver_select(w->a, "system"), 0);
	ask(w, &a, "no-such-name.invalid");
	assert_int_equal(a.status, SN_E_RESOLVE);
	assert_non_null(a.op.detail);
	start(w, &a, "no-such-name.invalid");
	sn__resolve_cancel(&a.op);
}

static void by_hosts_file(void **state)
{
	struct world *w = *state;
	char host[256] = "";
	struct ask a;
	FILE *f = fopen("/etc/hosts", "re");
	char line[512], addr[128], name[128];

	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		if (sscanf(line, "%127s %127s", addr, name) == 2 && addr[0] != '#' &&
				strchr(addr, '.') != NULL && strncmp(name, "localhost", 9) != 0)
			memcpy(host, name, sizeof name);
	}
	if (f != NULL)
		(void)fclose(f);
	if (host[0] == '\0')
		skip();
	ask(w, &a, host);
	assert_int_equal(a.status, 0);
	assert_true(a.op.n_addrs > 0);
}

static void by_the_table(void **state)
{
	struct world *w = *state;
	struct sn_addr v4 = world_addr("10.0.0.1:0"), v6 = world_addr("[2001:db8::1]:0");
	struct ask a;

	assert_int_equal(sn__sim_host(w->sim, "service", &v4), 0);
	assert_int_equal(sn__sim_host(w->sim, "Service", &v4), 0);
	assert_int_equal(sn__sim_host(w->sim, "service", &v6), 0);
	ask(w, &a, "SERVICE");
	assert_int_equal(a.op.n_addrs, 3);
	assert_string_equal(addr_of(&a, 0), "[2001:db8::1]:80");
	assert_string_equal(addr_of(&a, 2), "10.0.0.1:80");
	assert_int_equal(sn__sim_host(w->sim, "service", NULL), 0);
	ask(w, &a, "service");
	assert_int_equal(a.status, SN_E_RESOLVE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(without_a_query, world_uv, world_close),
			cmocka_unit_test_setup_teardown(without_a_query, world_sim, world_close),
			cmocka_unit_test_setup_teardown(cancelled, world_uv, world_close),
			cmocka_unit_test_setup_teardown(cancelled, world_rough, world_close),
			cmocka_unit_test_setup_teardown(by_ares, world_uv, world_close),
			cmocka_unit_test_setup_teardown(questions, world_uv, world_close),
			cmocka_unit_test_setup_teardown(resolv_conf_changes, world_uv, world_close),
			cmocka_unit_test_setup_teardown(bad_selection, world_uv, world_close),
			cmocka_unit_test_setup_teardown(by_the_system, world_uv, world_close),
			cmocka_unit_test_setup_teardown(by_hosts_file, world_uv, world_close),
			cmocka_unit_test_setup_teardown(by_the_table, world_sim, world_close),
			cmocka_unit_test_setup_teardown(by_the_table, world_rough, world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
