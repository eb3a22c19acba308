/* SPDX-License-Identifier: Apache-2.0 */
/* Puts with a condition (what a registration is) in a real etcd: by the hub's store, and by our bare
 * gRPC client with as many calls at once as etcd takes on a connection; in the same run. */
#include "../tests/hub/etcd_site.h"
#include "io/grpc_client.h"
#include "proto/generated/etcd.pb-c.h"

#define N 20000u
#define AT_ONCE 1000u /* operations of the store that wait */
#define CALLS 100u    /* bare calls at once */

static void report(const char *name, double value, const char *unit, const char *want)
{
	printf("{\"name\": \"%s\", \"value\": %.1f, \"unit\": \"%s\"%s%s%s}\n", name, value, unit,
			want != NULL ? ", \"want\": \"" : "", want != NULL ? want : "",
			want != NULL ? "\"" : "");
	(void)fflush(stdout);
}

static double per_s(unsigned n, uint64_t from_ns)
{
	return n * 1e9 / (double)(sn__clock_mono_ns() - from_ns);
}

/* ---- bare ---- */

struct bare {
	struct sn_grpc_req req;
	struct sn_buf framed;
	char key[32];
};

static struct {
	struct sn_http_dest *dest;
	unsigned started, ended, n;
	char run;
} b;

static void bare_start(struct bare *c);

static void bare_message(struct sn_grpc_req *req, struct sn_str message)
{
}

static void bare_done(struct sn_grpc_req *req)
{
	struct bare *c = SN_CONTAINER_OF(req, struct bare, req);

	assert_int_equal(req->code, 0);
	sn__grpc_status_finish(&req->status);
	sn__buf_finish(&c->framed);
	b.ended++;
	if (b.started < b.n)
		bare_start(c);
}

static const struct sn_grpc_req_ops bare_ops = {.on_message = bare_message, .on_done = bare_done};

static void bare_start(struct bare *c)
{
	Etcd__PutRequest put = ETCD__PUT_REQUEST__INIT;
	Etcd__RangeRequest range = ETCD__RANGE_REQUEST__INIT;
	Etcd__RequestOp op = ETCD__REQUEST_OP__INIT, no = ETCD__REQUEST_OP__INIT;
	Etcd__RequestOp *ops = &op, *nos = &no;
	Etcd__Compare compare = ETCD__COMPARE__INIT, *compares = &compare;
	Etcd__TxnRequest txn = ETCD__TXN_REQUEST__INIT;

	(void)snprintf(c->key, sizeof c->key, "/bare/%c%06u", b.run, b.started++);
	put.key = (ProtobufCBinaryData){strlen(c->key), (uint8_t *)c->key};
	put.value = (ProtobufCBinaryData){100,
			(uint8_t *)(uintptr_t) "0123456789012345678901234567890"
					       "12345678901234567890123456789012"
					       "345678901234567890123456789012345"
					       "6789"};
	op.request_case = ETCD__REQUEST_OP__REQUEST_REQUEST_PUT;
	op.request_put = &put;
	range.key = put.key;
	range.keys_only = true;
	no.request_case = ETCD__REQUEST_OP__REQUEST_REQUEST_RANGE;
	no.request_range = &range;
	compare.target = ETCD__COMPARE__TARGET__MOD;
	compare.key = put.key;
	compare.target_union_case = ETCD__COMPARE__TARGET_UNION_MOD_REVISION;
	txn.n_compare = txn.n_success = txn.n_failure = 1;
	txn.compare = &compares;
	txn.success = &ops;
	txn.failure = &nos;
	sn__buf_init(&c->framed, 1 << 20);
	assert_int_equal(sn__grpc_frame_message(&c->framed, &txn.base, false), 0);
	c->req = (struct sn_grpc_req){.ops = &bare_ops,
			.path = SN_STR("/etcdserverpb.KV/Txn"),
			.framed = sn__buf_str(&c->framed),
			.one_answer = true};
	assert_int_equal(sn__grpc_start(b.dest, &c->req, NULL), 0);
}

static double bare(struct store_world *w, unsigned n, unsigned at_once, char run)
{
	struct site *site = w->arg;
	const struct sn_http_dest_options opts = {
			.host = "127.0.0.1", .port = (uint16_t)server.port, .version = SN_HTTP_2};
	static struct bare calls[CALLS];
	uint64_t from_ns;
	double rate;

	memset(&b, 0, sizeof b);
	b.n = n;
	b.run = run;
	assert_int_equal(sn__http_dest_create(site->host.pool, &opts, &b.dest), 0);
	from_ns = sn__clock_mono_ns();
	for (unsigned i = 0; i < at_once; i++)
		bare_start(&calls[i]);
	while (b.ended < n)
		(void)sn__loop_run(w->loop, SN_RUN_ONCE);
	rate = per_s(n, from_ns);
	sn__http_dest_unref(b.dest);
	return rate;
}

/* ---- the store ---- */

struct put {
	struct sn_hub_op op;
	char key[24];
};

static struct {
	struct sn_hub_store *store;
	unsigned started, ended, n, told;
	char run;
} s;

static void put_done(struct sn_hub_op *op, int code);

static void put_start(struct put *p)
{
	(void)snprintf(p->key, sizeof p->key, "n/%c%06u", s.run, s.started++);
	memset(&p->op, 0, sizeof p->op);
	p->op.kind = SN_HUB_PUT;
	p->op.key = sn_str_from(p->key);
	p->op.value = (struct sn_str){
			"0123456789012345678901234567890123456789012345678901234567890"
			"12345678901234567890123456789012345678",
			100};
	p->op.done = put_done;
	sn_hub_submit(s.store, &p->op);
}

static void put_done(struct sn_hub_op *op, int code)
{
	assert_int_equal(code, 0);
	s.ended++;
	if (s.started < s.n)
		put_start(SN_CONTAINER_OF(op, struct put, op));
}

static double puts_of(struct store_world *w, unsigned n, unsigned at_once, char run)
{
	struct put *puts = test_calloc(at_once, sizeof *puts);
	uint64_t from_ns = sn__clock_mono_ns();
	double rate;

	s.store = w->store;
	s.started = s.ended = 0;
	s.n = n;
	s.run = run;
	for (unsigned i = 0; i < at_once; i++)
		put_start(&puts[i]);
	while (s.ended < n)
		(void)sn__loop_run(w->loop, SN_RUN_ONCE);
	rate = per_s(n, from_ns);
	test_free(puts);
	return rate;
}

static void told(struct sn_hub_watch *hw, const struct sn_hub_entry *e, bool removed)
{
	s.told++;
}

static void lost(struct sn_hub_watch *hw, uint64_t revision)
{
	fail_msg("lost");
}

static void run(void **state)
{
	struct store_world *w = *state;
	struct sn_hub_watch watch = {.prefix = SN_STR("n/a"), .change = told, .lost = lost};
	struct store_op range = {.op = {.kind = SN_HUB_RANGE, .key = SN_STR("n/a")}};
	double one, many, mine;
	uint64_t from_ns;

	(void)puts_of(w, 100, 1, 'w');
	(void)bare(w, 100, 1, 'w');
	w->store->ops->watch(w->store, &watch);
	one = bare(w, N / 20, 1, 'o');
	report("hub_etcd.bare.one_at_a_time", one, "puts/s", NULL);
	mine = puts_of(w, N / 20, 1, 'o');
	report("hub_etcd.store.one_at_a_time", mine, "puts/s", NULL);
	report("hub_etcd.one_at_a_time.ratio", mine / one, "of bare", ">= 0.8");
	many = bare(w, N, CALLS, 'm');
	report("hub_etcd.bare.100_at_once", many, "puts/s", NULL);
	from_ns = sn__clock_mono_ns();
	mine = puts_of(w, N, AT_ONCE, 'a');
	while (s.told < N)
		(void)sn__loop_run(w->loop, SN_RUN_ONCE);
	report("hub_etcd.store.1000_at_once", mine, "puts/s", NULL);
	report("hub_etcd.at_once.ratio", mine / many, "of bare", ">= 1.0");
	report("hub_etcd.store.put_and_told", per_s(N, from_ns), "changes/s", NULL);
	from_ns = sn__clock_mono_ns();
	assert_int_equal(store_run_op(w, w->store, &range), 0);
	assert_int_equal(range.n_entries, N);
	report("hub_etcd.store.range", per_s(N, from_ns), "entries/s", NULL);
	w->store->ops->unwatch(w->store, &watch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(run, site_begin, site_end)};

	if (!etcd_there()) {
		puts("SKIPPED: etcd-server is missing");
		return 0;
	}
	return cmocka_run_group_tests(tests, site_start_server, site_stop_server);
}
