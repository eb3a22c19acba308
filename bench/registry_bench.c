/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The domain registry. One million hyperties of 100,000 users in the memory store: what a record takes,
 * reads, keep-alives, expiry. Then over HTTP, beside one nginx worker that returns fixed bodies of the
 * same size to the same client (64 kept connections). With SINEW_BENCH_POSTGRES=URL (bench/with_postgres
 * sets it) the same store operations on PostgreSQL, 50,000 hyperties. With
 * an argument (memory, http, postgres) that part alone.
 */
#define BODY100 \
	"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
#define NGINX_MORE \
	"  location /read { default_type application/json;\n   return 200 \"" BODY100 BODY100 \
			BODY100 BODY100 BODY100 \
	"\"; }\n  location /keep { default_type application/json;\n" \
	"   return 200 \"01234567890123456789012345678901234567890123456789\"; }\n"
#include "nginx.h"

#include <malloc.h>
#include <sys/epoll.h>

#include "base/mem.h"
#include "base/time.h"
#include "dialect/rethink/registry_http.h"
#include "dialect/rethink/registry_store.h"
#include "io/http_server.h"

#define USERS 100000u
#define EACH 10u
#define LOOKS 200000u
#define SQL_LOOKS 20000u
#define SQL_FLIGHT 64u
#define IN_FLIGHT 64
#define ROUND_NS (1500 * SN_NS_PER_MS)
#define ROUNDS 3

static void die(const char *what)
{
	(void)fprintf(stderr, "%s failed: %s\n", what, strerror(errno));
	exit(1);
}

static unsigned sql_users = 5000;

static void say(const char *name, double value, const char *unit, double want)
{
	(void)printf("{\"name\": \"registry.%s\", \"value\": %.3f, \"unit\": \"%s\"", name, value,
			unit);
	if (want > 0)
		(void)printf(", \"want\": \">= %.3f\"", want);
	(void)printf("}\n");
	(void)fflush(stdout);
}

/* ---- entries as they are in the field ---- */

struct texts {
	char id[96], user[96], guid[64], runtime[96], email[64];
	struct sn_reg_values v;
};

static void texts_of(unsigned user, unsigned i, struct texts *t)
{
	static const char *const descriptors[] = {"GroupChat", "Presence", "Call", "Location"};
	static char descriptor[4][128];
	unsigned kind = i % 4;

	(void)snprintf(t->email, sizeof(t->email), "user-%06u@mail.nimbus.example", user);
	(void)snprintf(t->user, sizeof(t->user), "user://id.nimbus.example/%s", t->email);
	(void)snprintf(t->id, sizeof(t->id), "hyperty://nimbus.example/%08x-9d1c-4b7e-8a52-%012x",
			user * 2654435761u, user * 16 + i);
	(void)snprintf(t->guid, sizeof(t->guid), "user-guid://k3T9%06u", user);
	(void)snprintf(t->runtime, sizeof(t->runtime),
			"hyperty-runtime://nimbus.example/rt-%06u-%u", user, i / 5);
	(void)snprintf(descriptor[kind], sizeof(descriptor[kind]),
			"hyperty-catalogue://catalogue.nimbus.example/.well-known/hyperty/%s",
			descriptors[kind]);
	t->v = (struct sn_reg_values){.expires = 1 + (int32_t)((user * EACH + i) * 7919u % 3600u),
			.has_expires = true};
	t->v.text[SN_REG_RESOURCES] = SN_STR("[\"chat\",\"audio\",\"video\"]");
	t->v.text[SN_REG_SCHEMES] = SN_STR("[\"comm\",\"connection\"]");
	t->v.text[SN_REG_DESCRIPTOR] = sn_str_from(descriptor[kind]);
	t->v.text[SN_REG_STATUS] = SN_STR("live");
	t->v.text[SN_REG_RUNTIME] = sn_str_from(t->runtime);
	t->v.text[SN_REG_GUID] = sn_str_from(t->guid);
}

/* ---- the memory store ---- */

static uint64_t seen;
static struct sn_buf out;

static void on_entry(struct sn_reg_op *op, const struct sn_reg_entry *e, struct sn_str guid)
{
	seen++;
	if (sn__reg_put_entry(&out, e) < 0)
		die("put_entry");
}

static void do_op(struct sn_reg_store *store, struct sn_reg_op op)
{
	op.entry = on_entry;
	sn__buf_clear(&out);
	if (store->ops->submit(store, &op) != 1 || (op.result < 0 && op.result != SN_E_AGAIN))
		die("operation");
}

/* What the making of texts takes, which is not the store's. */
static uint64_t texts_ns(void)
{
	uint64_t start = sn__clock_mono_ns();

	for (unsigned k = 0; k < LOOKS; k++) {
		struct texts t;

		texts_of(k * 7919u % USERS, k % EACH, &t);
		seen += (unsigned char)t.id[40];
	}
	return (sn__clock_mono_ns() - start) / LOOKS;
}

static double each_ns(uint64_t start, unsigned n)
{
	return (double)(sn__clock_mono_ns() - start) / n - (double)texts_ns();
}

static void fill(struct sn_reg_store *store, int64_t now)
{
	struct mallinfo2 before = mallinfo2(), after;
	uint64_t start = sn__clock_mono_ns();
	double ns;

	for (unsigned u = 0; u < USERS; u++) {
		for (unsigned i = 0; i < EACH; i++) {
			struct texts t;

			texts_of(u, i, &t);
			do_op(store,
					(struct sn_reg_op){.act = SN_REG_CREATE,
							.id = sn_str_from(t.id),
							.user = sn_str_from(t.user),
							.values = &t.v,
							.now = now});
		}
	}
	ns = each_ns(start, USERS * EACH);
	after = mallinfo2();
	say("memory.create", ns, "ns", 0);
	say("memory.record",
			(double)(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd) /
					(USERS * EACH),
			"bytes", 0);
}

static void reads(struct sn_reg_store *store, const char *name, enum sn_reg_key by, int64_t now)
{
	uint64_t start = sn__clock_mono_ns();
	char text[64];

	for (unsigned k = 0; k < LOOKS; k++) {
		struct texts t;

		texts_of(k * 7919u % USERS, k % EACH, &t);
		do_op(store,
				(struct sn_reg_op){.act = SN_REG_READ,
						.by = by,
						.id = sn_str_from(by == SN_REG_BY_USER ? t.user
										: by == SN_REG_BY_GUID
										? t.guid
										: by == SN_REG_BY_EMAIL
										? t.email
										: t.id),
						.now = now});
	}
	(void)snprintf(text, sizeof(text), "memory.read_by_%s", name);
	say(text, each_ns(start, LOOKS), "ns", 0);
}

static void touches(struct sn_reg_store *store, int64_t now)
{
	uint64_t start = sn__clock_mono_ns();

	for (unsigned k = 0; k < LOOKS; k++) {
		struct texts t;

		texts_of(k * 7919u % USERS, k % EACH, &t);
		do_op(store,
				(struct sn_reg_op){.act = SN_REG_TOUCH,
						.id = sn_str_from(t.id),
						.now = now});
	}
	say("memory.keep_alive", each_ns(start, LOOKS), "ns", 0);
}

/* A heartbeat every second for the hour in which all of them expire. */
static void expiry(struct sn_reg_store *store, int64_t now)
{
	uint64_t all = sn__clock_mono_ns(), worst = 0;
	unsigned beats = 3700;

	for (unsigned s = 1; s <= beats; s++) {
		uint64_t start = sn__clock_mono_ns(), ns;

		do_op(store, (struct sn_reg_op){.act = SN_REG_EXPIRE, .now = now + s});
		ns = sn__clock_mono_ns() - start;
		worst = SN_MAX(worst, ns);
	}
	say("memory.expiry_each_second", (double)(sn__clock_mono_ns() - all) / beats / 1e3, "us",
			0);
	say("memory.expiry_worst", (double)worst / 1e3, "us", 0);
	seen = 0;
	all = sn__clock_mono_ns();
	for (uint64_t before = UINT64_MAX; before != seen;) {
		before = seen;
		do_op(store, (struct sn_reg_op){.act = SN_REG_UPDATED, .now = now + beats});
	}
	say("memory.updated_entries", (double)seen, "entries", USERS * EACH);
	say("memory.updated", (double)(sn__clock_mono_ns() - all) / (double)seen, "ns", 0);
}

static void memory_store(void)
{
	const struct sn_reg_memory_options opts = {.now = 1700000000};
	struct sn_reg_store *store;
	uint64_t start = sn__clock_mono_ns();

	if (sn__reg_memory_open(&opts, &store) < 0)
		die("store");
	say("memory.start", (double)(sn__clock_mono_ns() - start) / 1e3, "us", 0);
	fill(store, opts.now);
	reads(store, "url", SN_REG_BY_URL, opts.now);
	reads(store, "user", SN_REG_BY_USER, opts.now);
	reads(store, "guid", SN_REG_BY_GUID, opts.now);
	reads(store, "email", SN_REG_BY_EMAIL, opts.now);
	touches(store, opts.now);
	expiry(store, opts.now);
	store->ops->discard(store);
}

/* ---- HTTP ---- */

#define HTTP_USERS 10000u

static void serve(int ready)
{
	const struct sn_reg_memory_options memory = {.now = 1700000000};
	struct sn_http_server_config config = {.max_connections = 1000};
	static struct sn_reg_http http;
	struct sn_http_server *server;
	struct sn_loop *loop;
	uint16_t port;

	if (sn__loop_uv_open(NULL, &loop, NULL) < 0 ||
			sn__addr_parse_listen(SN_STR("127.0.0.1:0"), &config.addr, NULL) < 0 ||
			sn__reg_memory_open(&memory, &http.store) < 0)
		_exit(1);
	http.loop = loop;
	http.expires_max = 3600;
	sn__reg_http_init(&http);
	for (unsigned u = 0; u < HTTP_USERS; u++) {
		struct texts t;

		texts_of(u, 0, &t);
		t.v.expires = 3600;
		do_op(http.store,
				(struct sn_reg_op){.act = SN_REG_CREATE,
						.id = sn_str_from(t.id),
						.user = sn_str_from(t.user),
						.values = &t.v,
						.now = (int64_t)(sn__clock_wall_ns() /
								SN_NS_PER_S)});
	}
	if (sn__http_server_open(loop, &config, sn__reg_http_handle, &http, &server, NULL) < 0)
		_exit(1);
	port = sn__addr_port(sn__http_server_addr(server));
	if (write(ready, &port, sizeof port) != sizeof port)
		_exit(1);
	(void)sn__loop_run(loop, SN_RUN_DEFAULT);
	_exit(0);
}

static pid_t serve_start(uint16_t *ret_port)
{
	int fds[2];
	pid_t pid;

	if (pipe(fds) < 0)
		die("pipe");
	pid = fork();
	if (pid == 0)
		serve(fds[1]);
	nginx_pin(pid, 0);
	if (read(fds[0], ret_port, sizeof *ret_port) != sizeof *ret_port)
		die("server");
	return pid;
}

static int dial(uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
			.sin_port = htons(port),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&in, sizeof in) < 0)
		die("connect");
	return fd;
}

enum what { OURS_READ, OURS_KEEP, NGINX_READ, NGINX_KEEP };

static void ask(int fd, enum what what, unsigned k)
{
	static const char tail[] = " HTTP/1.1\r\nHost: 127.0.0.1\r\n";
	static const char body[] = "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
	bool keep = what == OURS_KEEP || what == NGINX_KEEP;
	char path[128], request[400];
	struct texts t;
	size_t n;

	texts_of(k * 7919u % HTTP_USERS, 0, &t);
	/* hyperty%3A%2F%2Fnimbus.example%2F.. */
	(void)snprintf(path, sizeof(path), "/%s/hyperty%%3A%%2F%%2Fnimbus.example%%2F%s",
			what >= NGINX_READ ? keep ? "keep" : "read" : "hyperty/url",
			t.id + strlen("hyperty://nimbus.example/"));
	n = (size_t)snprintf(request, sizeof request, "%s %s%s%s", keep ? "PUT" : "GET", path, tail,
			keep ? body : "\r\n");
	if (send(fd, request, n, MSG_NOSIGNAL) != (ssize_t)n)
		die("send");
}

static size_t hear(int fd)
{
	char block[4000];
	ssize_t n = recv(fd, block, sizeof block - 1, 0);
	const char *end;

	if (n < 60 || memcmp(block, "HTTP/1.1 200 ", 13) != 0)
		die("answer");
	block[n] = '\0';
	end = strstr(block, "\r\n\r\n");
	return end != NULL ? strlen(end + 4) : 0;
}

static double round_of(uint16_t port, enum what what, size_t *ret_size)
{
	uint64_t start = sn__clock_mono_ns(), now, done = 0;
	int ep = epoll_create1(EPOLL_CLOEXEC), fds[IN_FLIGHT];

	for (int i = 0; i < IN_FLIGHT; i++) {
		struct epoll_event ev = {.events = EPOLLIN};

		ev.data.fd = fds[i] = dial(port);
		(void)epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &ev);
		ask(fds[i], what, (unsigned)i);
	}
	do {
		struct epoll_event evs[IN_FLIGHT];
		int n = epoll_wait(ep, evs, IN_FLIGHT, 1000);

		for (int i = 0; i < n; i++) {
			*ret_size = hear(evs[i].data.fd);
			ask(evs[i].data.fd, what, (unsigned)done++);
		}
		now = sn__clock_mono_ns();
	} while (now - start < ROUND_NS);
	for (int i = 0; i < IN_FLIGHT; i++)
		(void)close(fds[i]);
	(void)close(ep);
	return (double)done * 1e9 / (double)(now - start);
}

static void beside_nginx(
		const char *name, uint16_t ours, uint16_t nginx, enum what what, enum what fixed)
{
	double best[2] = {0, 0};
	size_t size[2] = {0, 0};
	char text[64];

	for (int i = 0; i < ROUNDS; i++) {
		double a = round_of(ours, what, &size[0]), b = round_of(nginx, fixed, &size[1]);

		best[0] = SN_MAX(best[0], a);
		best[1] = SN_MAX(best[1], b);
	}
	(void)snprintf(text, sizeof(text), "http.%s", name);
	say(text, best[0], "requests/s", 0);
	(void)snprintf(text, sizeof(text), "http.%s.size", name);
	say(text, (double)size[0], "bytes", 0);
	(void)snprintf(text, sizeof(text), "nginx.%s", name);
	say(text, best[1], "requests/s", 0);
	(void)snprintf(text, sizeof(text), "http.%s.of_nginx", name);
	say(text, best[0] / best[1], "ratio", 0.5);
}

static void over_http(void)
{
	struct nginx nginx;
	uint16_t port;
	pid_t pid;

	if (nginx_start(&nginx) < 0) {
		(void)fprintf(stderr, "no nginx\n");
		nginx_stop(&nginx);
		return;
	}
	pid = serve_start(&port);
	beside_nginx("read", port, nginx.port, OURS_READ, NGINX_READ);
	beside_nginx("keep_alive", port, nginx.port, OURS_KEEP, NGINX_KEEP);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	nginx_stop(&nginx);
}

/* ---- PostgreSQL ---- */

struct flight {
	struct sn_reg_op op;
	struct texts t;
};

static struct sn_reg_store *sql;
static enum sn_reg_act sql_act;
static enum sn_reg_key sql_by;
static unsigned sql_next, sql_end, sql_open;
static int64_t sql_now;

static void sql_done(struct sn_reg_op *op);

static void sql_submit(struct flight *f)
{
	unsigned k = sql_next++;

	texts_of(sql_act == SN_REG_CREATE ? k / EACH : k * 7919u % sql_users, k % EACH, &f->t);
	f->op = (struct sn_reg_op){.act = sql_act,
			.by = sql_by,
			.id = sn_str_from(sql_act != SN_REG_READ                    ? f->t.id
							: sql_by == SN_REG_BY_USER  ? f->t.user
							: sql_by == SN_REG_BY_GUID  ? f->t.guid
							: sql_by == SN_REG_BY_EMAIL ? f->t.email
										    : f->t.id),
			.user = sn_str_from(f->t.user),
			.values = &f->t.v,
			.now = sql_now,
			.entry = on_entry,
			.done = sql_done};
	f->t.v.expires = 3600;
	sql_open++;
	if (sql->ops->submit(sql, &f->op) != 0)
		die("submit");
}

static void sql_done(struct sn_reg_op *op)
{
	if (op->result < 0)
		die(sn_strerror(op->result));
	sn__buf_clear(&out);
	sql_open--;
	if (sql_next < sql_end)
		sql_submit(SN_CONTAINER_OF(op, struct flight, op));
}

static void sql_run(struct sn_loop *loop, const char *name, enum sn_reg_act act, enum sn_reg_key by,
		unsigned n)
{
	static struct flight flights[SQL_FLIGHT];
	uint64_t start = sn__clock_mono_ns();
	char text[64];

	sql_act = act;
	sql_by = by;
	sql_next = 0;
	sql_end = n;
	for (unsigned i = 0; i < SQL_FLIGHT; i++)
		sql_submit(&flights[i]);
	while (sql_open > 0)
		(void)sn__loop_run(loop, SN_RUN_ONCE);
	(void)snprintf(text, sizeof(text), "postgres.%s", name);
	say(text, n * 1e9 / (double)(sn__clock_mono_ns() - start), "operations/s", 0);
}

static void closed(void *arg)
{
	*(bool *)arg = true;
}

static void beat_done(struct sn_reg_op *op)
{
	sql_open = 0;
}

/* SINEW_BENCH_USERS: how many, with EACH hyperties (5000; 100000 is the million). */
static void on_postgres(const char *config)
{
	const char *users = getenv("SINEW_BENCH_USERS");
	uint64_t n_users;
	struct sn_loop *loop;
	struct sn_error err;
	struct sn_reg_op beat = {.act = SN_REG_EXPIRE, .done = beat_done};
	struct sn_reg_sql_options opts = {.type = "postgres", .config = config};
	bool over = false;
	uint64_t start;

	if (users != NULL && sn__parse_u64(sn_str_from(users), USERS, &n_users) == 0 && n_users > 0)
		sql_users = (unsigned)n_users;
	if (sn__loop_uv_open(NULL, &loop, NULL) < 0)
		die("loop");
	opts.loop = loop;
	if (sn__reg_sql_open(&opts, &sql, &err) < 0)
		die(err.text);
	sql_now = (int64_t)(sn__clock_wall_ns() / SN_NS_PER_S);
	sql_run(loop, "create", SN_REG_CREATE, SN_REG_BY_URL, sql_users * EACH);
	sql_run(loop, "read_by_url", SN_REG_READ, SN_REG_BY_URL, SQL_LOOKS);
	sql_run(loop, "read_by_user", SN_REG_READ, SN_REG_BY_USER, SQL_LOOKS);
	sql_run(loop, "read_by_guid", SN_REG_READ, SN_REG_BY_GUID, SQL_LOOKS);
	sql_run(loop, "read_by_email", SN_REG_READ, SN_REG_BY_EMAIL, SQL_LOOKS);
	sql_run(loop, "keep_alive", SN_REG_TOUCH, SN_REG_BY_URL, SQL_LOOKS);
	start = sn__clock_mono_ns();
	beat.now = sql_now + 1;
	sql_open = 1;
	if (sql->ops->submit(sql, &beat) != 0)
		die("submit");
	while (sql_open > 0)
		(void)sn__loop_run(loop, SN_RUN_ONCE);
	say("postgres.heartbeat_idle", (double)(sn__clock_mono_ns() - start) / 1e3, "us", 0);
	sql->ops->close(sql, closed, &over);
	while (!over)
		(void)sn__loop_run(loop, SN_RUN_ONCE);
	sn__loop_close(loop, NULL, NULL);
}

static bool wanted(int argc, char **argv, const char *part)
{
	return argc < 2 || strcmp(argv[1], part) == 0;
}

int main(int argc, char **argv)
{
	const char *postgres = getenv("SINEW_BENCH_POSTGRES");

	sn__buf_init(&out, 64 << 20);
	if (wanted(argc, argv, "memory"))
		memory_store();
	if (wanted(argc, argv, "http"))
		over_http();
	if (postgres != NULL && wanted(argc, argv, "postgres"))
		on_postgres(postgres);
	sn__buf_finish(&out);
	return 0;
}
