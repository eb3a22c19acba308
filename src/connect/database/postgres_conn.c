/* SPDX-License-Identifier: Apache-2.0 */

/* The driver postgres: connections. */

#include "connect/database/postgres.h"

/* ---- what is awaited ---- */

bool pg_items_reserve(struct pg_conn *conn, uint32_t n)
{
	struct pg_instance *inst = conn->inst;
	uint32_t cap = SN_MAX(conn->cap_items, 64u);
	struct pg_item *items;

	if (conn->n_items + n <= conn->cap_items)
		return true;
	while (cap < conn->n_items + n)
		cap *= 2;
	items = pg_alloc(inst, cap * sizeof(*items));
	if (items == NULL)
		return false;
	for (uint32_t i = 0; i < conn->n_items; i++)
		items[i] = conn->items[(conn->first_item + i) % conn->cap_items];
	pg_free(inst, conn->items);
	conn->items = items;
	conn->cap_items = cap;
	conn->first_item = 0;
	return true;
}

void pg_item_add(struct pg_conn *conn, enum pg_await what, struct pg_op *op, uint32_t number,
		struct pg_prepared *entry)
{
	conn->items[(conn->first_item + conn->n_items++) % conn->cap_items] = (struct pg_item){
			.what = what, .op = op, .number = number, .entry = entry};
}

struct pg_item *pg_item_head(struct pg_conn *conn)
{
	return conn->n_items > 0 ? &conn->items[conn->first_item] : NULL;
}

static struct pg_item item_pop(struct pg_conn *conn)
{
	struct pg_item item = conn->items[conn->first_item];

	conn->first_item = (conn->first_item + 1) % conn->cap_items;
	conn->n_items--;
	if (item.entry != NULL)
		item.entry->in_flight--;
	return item;
}

void pg_control(struct pg_conn *conn, enum pg_await what, struct pg_op *op, const char *sql)
{
	if (PQsendQueryParams(conn->pg, sql, 0, NULL, NULL, NULL, NULL, 0) == 0)
		conn->broken = true;
	pg_item_add(conn, what, op, 0, NULL);
}

void pg_sync(struct pg_conn *conn, struct pg_op *op, bool last)
{
	if (PQpipelineSync(conn->pg) == 0)
		conn->broken = true;
	pg_item_add(conn, PG_AWAIT_SYNC, op, 0, NULL);
	conn->items[(conn->first_item + conn->n_items - 1) % conn->cap_items].last = last;
}

/* ---- results ---- */

static void take_prepared(struct pg_prepared *p, const PGresult *res)
{
	if (PQresultStatus(res) == PGRES_COMMAND_OK) {
		p->state = PG_PREPARED;
		return;
	}
	p->state = PG_FAILED;
	pg_outcome(res, 0, &p->failure);
}

static void take(struct pg_item *item, PGresult *res)
{
	item->seen = true;
	if (item->what == PG_AWAIT_PREPARE)
		take_prepared(item->entry, res);
	if (item->op != NULL)
		pg_unit_result(item->op, item, res);
	else
		PQclear(res);
}

static void on_end(struct pg_conn *conn)
{
	struct pg_item *item = pg_item_head(conn);
	struct pg_op *op = item->op;

	if (item->what == PG_AWAIT_SYNC || !item->seen)
		return;
	(void)item_pop(conn);
	if (op == NULL || op->unit->script == NULL)
		return;
	if (PQenterPipelineMode(conn->pg) == 0)
		conn->broken = true;
	pg_op_end(op);
}

static void on_sync(struct pg_conn *conn)
{
	struct pg_item item = item_pop(conn);

	if (item.what != PG_AWAIT_SYNC)
		conn->broken = true; /* it counts otherwise than we do */
	else if (item.op != NULL)
		pg_unit_synced(conn, item.op, item.last);
}

static void read_results(struct pg_conn *conn)
{
	while (!conn->broken && pg_item_head(conn) != NULL && !PQisBusy(conn->pg)) {
		PGresult *res = PQgetResult(conn->pg);

		if (res == NULL) {
			on_end(conn);
		} else if (PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
			PQclear(res);
			on_sync(conn);
		} else {
			take(pg_item_head(conn), res);
		}
		if (PQstatus(conn->pg) == CONNECTION_BAD)
			conn->broken = true;
	}
}

static void want(struct pg_conn *conn, bool write)
{
	conn->inst->host->poll_want(conn->poll,
			write ? SN_DRIVER_READABLE | SN_DRIVER_WRITABLE : SN_DRIVER_READABLE);
}

void pg_flush(struct pg_conn *conn)
{
	int r = conn->broken ? -1 : PQflush(conn->pg);

	if (r < 0)
		conn->broken = true;
	else
		want(conn, r > 0);
	if (conn->broken && !conn->in_callback)
		pg_conn_close(conn, "");
}

/* ---- opening ---- */

static void on_ready(struct pg_conn *conn)
{
	struct pg_instance *inst = conn->inst;

	inst->host->undo(inst->host, &conn->timer);
	if (PQsetnonblocking(conn->pg, 1) != 0 || PQenterPipelineMode(conn->pg) == 0) {
		pg_conn_close(conn, "no pipeline mode");
		return;
	}
	conn->phase = PG_READY;
	want(conn, false);
	pg_connected(inst);
}

static void on_poll(unsigned events, void *arg);

/* libpq goes from address to address: the descriptor is another one then. */
static int watch(struct pg_conn *conn, unsigned events)
{
	struct sn_driver_host *host = conn->inst->host;
	int fd = PQsocket(conn->pg), r;

	if (fd < 0)
		return SN_E_IO;
	r = host->poll_open(host, fd, on_poll, conn, &conn->poll);
	if (r == 0)
		host->poll_want(conn->poll, events);
	return r;
}

static void unwatch(struct pg_conn *conn)
{
	if (conn->poll != NULL)
		conn->inst->host->poll_close(SN_TAKE(conn->poll));
}

static int code_of_failure(const char *why)
{
	if (strstr(why, "SSL") != NULL || strstr(why, "certificate") != NULL)
		return SN_E_TLS;
	return strncmp(why, "FATAL:", 6) == 0 ? SN_E_REJECTED : SN_E_CONNECT;
}

/* libpq has lines for every address: 'connection to server at "::1", port 1 failed: Connection refused'
 * and some advice. Of the reasons the last one that is more than "refused". */
static const char *reason_of(const char *text)
{
	const char *best = text;

	for (const char *at = strstr(text, " failed: "); at != NULL; at = strstr(at, " failed: ")) {
		at += strlen(" failed: ");
		if (best == text || strncmp(at, "Connection refused", 18) != 0)
			best = at;
	}
	return best;
}

static void could_not(struct pg_conn *conn, const char *own)
{
	const struct pg_options *o = &conn->inst->options;
	const char *text = own != NULL ? own : conn->pg != NULL ? PQerrorMessage(conn->pg) : "";
	const char *why = reason_of(text);
	int code = own == NULL ? code_of_failure(why) : SN_E_CONNECT;
	char line[200];

	if (strncmp(why, "FATAL:", 6) == 0)
		why += 6 + strspn(why + 6, " ");
	(void)snprintf(line, sizeof(line), "%.60s:%d: %.*s", o->host, (int)o->port,
			(int)SN_MIN(strcspn(why, "\n"), 120u), why);
	pg_conn_close(conn, "");
	pg_failed(conn->inst, code, line, "");
}

static void step(struct pg_conn *conn)
{
	PostgresPollingStatusType status;
	int r = 0;

	unwatch(conn);
	status = PQconnectPoll(conn->pg);
	if (status == PGRES_POLLING_FAILED) {
		could_not(conn, NULL);
		return;
	}
	r = watch(conn, status == PGRES_POLLING_WRITING ? SN_DRIVER_WRITABLE : SN_DRIVER_READABLE);
	if (r < 0)
		could_not(conn, pg_words(r));
	else if (status == PGRES_POLLING_OK)
		on_ready(conn);
}

static void on_poll(unsigned events, void *arg)
{
	struct pg_conn *conn = arg;

	if (conn->phase == PG_CONNECTING) {
		step(conn);
		return;
	}
	conn->in_callback = true;
	if ((events & SN_DRIVER_READABLE) != 0 && PQconsumeInput(conn->pg) == 0)
		conn->broken = true;
	/* What came before the end counts. */
	if (conn->broken) {
		conn->broken = false;
		read_results(conn);
		conn->broken = true;
	} else {
		read_results(conn);
	}
	conn->in_callback = false;
	if (!conn->broken && PQstatus(conn->pg) == CONNECTION_BAD)
		conn->broken = true;
	pg_flush(conn);
	pg_kick(conn->inst);
}

static void quiet(void *arg, const PGresult *res)
{
}

#define KEYS_MAX 24

struct keys {
	const char *names[KEYS_MAX], *values[KEYS_MAX];
	size_t n;
};

static void key(struct keys *k, const char *name, const char *value)
{
	if (value == NULL || value[0] == '\0')
		return;
	k->names[k->n] = name;
	k->values[k->n++] = value;
}

static bool is_loopback(const struct sn_driver_lookup *l)
{
	for (unsigned i = 0; i < l->n_addresses; i++) {
		if (strncmp(l->addresses[i], "127.", 4) != 0 && strcmp(l->addresses[i], "::1") != 0)
			return false;
	}
	return true; /* a Unix socket too */
}

static void tls_keys(struct pg_conn *conn, struct keys *k)
{
	static const char *const modes[] = {[PG_TLS_DISABLE] = "disable",
			[PG_TLS_REQUIRE] = "require",
			[PG_TLS_VERIFY_CA] = "verify-ca",
			[PG_TLS_VERIFY_FULL] = "verify-full"};
	const struct pg_options *o = &conn->inst->options;
	int mode = o->tls.mode;

	if (mode == PG_TLS_AUTO)
		mode = is_loopback(&conn->lookup) ? PG_TLS_DISABLE : PG_TLS_VERIFY_FULL;
	key(k, "sslmode", modes[mode]);
	if (mode == PG_TLS_VERIFY_CA || mode == PG_TLS_VERIFY_FULL)
		key(k, "sslrootcert",
				o->tls.ca != NULL ? o->tls.ca
						  : "/etc/ssl/certs/ca-certificates.crt");
	key(k, "sslcert", o->tls.cert);
	key(k, "sslkey", o->tls.key);
}

/* Every address has the name before it: for certificates. */
static void start(struct pg_conn *conn)
{
	static const char *const isolations[] = {"",
			"-c default_transaction_isolation=repeatable\\ read",
			"-c default_transaction_isolation=serializable"};
	const struct pg_options *o = &conn->inst->options;
	char hosts[SN_DRIVER_ADDRESSES_MAX * 256], addresses[SN_DRIVER_ADDRESSES_MAX * 48], port[8];
	size_t a = 0, h = 0;
	struct keys k = {.n = 0};

	hosts[0] = addresses[0] = '\0';
	for (unsigned i = 0; i < conn->lookup.n_addresses; i++) {
		h += (size_t)snprintf(hosts + h, sizeof(hosts) - h, "%s%.254s", i > 0 ? "," : "",
				o->host);
		a += (size_t)snprintf(addresses + a, sizeof(addresses) - a, "%s%s",
				i > 0 ? "," : "", conn->lookup.addresses[i]);
	}
	(void)snprintf(port, sizeof(port), "%d", (int)o->port);
	key(&k, "host", hosts[0] != '\0' ? hosts : o->host);
	key(&k, "hostaddr", addresses);
	key(&k, "port", port);
	key(&k, "dbname", o->database);
	key(&k, "user", o->user);
	key(&k, "password", o->password);
	key(&k, "application_name", o->application);
	key(&k, "client_encoding", "UTF8");
	key(&k, "gssencmode", "disable");
	/* Half a minute until a machine that is gone is known to be. */
	key(&k, "tcp_user_timeout", "30000");
	key(&k, "keepalives_idle", "20");
	key(&k, "keepalives_interval", "5");
	key(&k, "keepalives_count", "3");
	key(&k, "target_session_attrs", o->target != 0 ? "read-write" : "any");
	key(&k, "options", isolations[o->isolation]);
	tls_keys(conn, &k);
	k.names[k.n] = k.values[k.n] = NULL;
	conn->pg = PQconnectStartParams(k.names, k.values, 0);
	if (conn->pg == NULL || PQstatus(conn->pg) == CONNECTION_BAD) {
		could_not(conn, conn->pg == NULL ? "out of memory" : NULL);
		return;
	}
	(void)PQsetNoticeReceiver(conn->pg, quiet, NULL); /* it prints by itself */
	conn->phase = PG_CONNECTING;
	if (watch(conn, SN_DRIVER_WRITABLE) < 0)
		could_not(conn, "its socket cannot be watched");
}

static void on_resolved(struct sn_driver_lookup *lookup, int code)
{
	struct pg_conn *conn = SN_CONTAINER_OF(lookup, struct pg_conn, lookup);
	char why[160];

	if (code == 0) {
		start(conn);
		return;
	}
	(void)snprintf(why, sizeof(why), "%.100s: %.50s", conn->inst->options.host,
			lookup->detail != NULL ? lookup->detail : pg_words(code));
	pg_conn_close(conn, "");
	pg_failed(conn->inst, code, why, "");
}

static void on_slow(struct sn_driver_task *task)
{
	could_not(SN_CONTAINER_OF(task, struct pg_conn, timer), "it does not answer in time");
}

static void on_socket(struct sn_driver_task *task)
{
	struct pg_conn *conn = SN_CONTAINER_OF(task, struct pg_conn, timer);
	struct sn_driver_host *host = conn->inst->host;

	conn->timer.fn = on_slow;
	host->after(host, &conn->timer, conn->inst->options.connect_timeout_ms);
	start(conn);
}

void pg_conn_open(struct pg_conn *conn)
{
	struct pg_instance *inst = conn->inst;
	int r;

	conn->phase = PG_RESOLVING;
	conn->broken = false;
	conn->lookup.n_addresses = 0;
	if (inst->options.host[0] == '/') {
		conn->timer.fn = on_socket;
		inst->host->defer(inst->host, &conn->timer);
		return;
	}
	conn->timer.fn = on_slow;
	conn->lookup.done = on_resolved;
	inst->host->after(inst->host, &conn->timer, inst->options.connect_timeout_ms);
	r = inst->host->resolve(inst->host, &conn->lookup, inst->options.host);
	if (r < 0)
		could_not(conn, pg_words(r));
}

/* ---- closing ---- */

static void end_op(struct pg_op *op, const char *why)
{
	/* What came before the end is known; a COMMIT without an answer is not. */
	if (op->outcome.kind == SN_SQL_OK || op->outcome.kind == SN_SQL_UNAVAILABLE) {
		bool maybe = op->commit_sent && !op->unit->read_only;

		op->outcome = (struct sn_sql_outcome){.at = op->n_rows};
		pg_say(&op->outcome, SN_SQL_UNAVAILABLE, SN_E_RESET, why);
		op->outcome.maybe = maybe;
	}
	if (op->stop != 0)
		pg_stopped(op);
	pg_op_end(op);
}

void pg_conn_close(struct pg_conn *conn, const char *why)
{
	struct pg_instance *inst = conn->inst;
	char text[200];

	if (why[0] == '\0' && conn->pg != NULL)
		why = PQerrorMessage(conn->pg);
	(void)snprintf(text, sizeof(text), "the connection broke%s%.*s", why[0] != '\0' ? ": " : "",
			(int)strcspn(why, "\n"), why);
	inst->host->undo(inst->host, &conn->timer);
	inst->host->resolve_cancel(inst->host, &conn->lookup);
	unwatch(conn);
	if (conn->pg != NULL)
		PQfinish(SN_TAKE(conn->pg));
	conn->phase = PG_DOWN;
	conn->broken = false;
	conn->n_items = 0;
	while (!sn_list_empty(&conn->ops))
		end_op(SN_CONTAINER_OF(conn->ops.next, struct pg_op, link), text);
	while (!sn_list_empty(&conn->prepared))
		pg_prepared_drop(conn,
				SN_CONTAINER_OF(conn->prepared.next, struct pg_prepared, link));
	pg_kick(inst);
}

void pg_conn_free(struct pg_conn *conn)
{
	pg_conn_close(conn, "");
	pg_free(conn->inst, SN_TAKE(conn->items));
	conn->cap_items = conn->first_item = 0;
}

/* ---- cancelling ---- */

/* By a connection of its own: libpq's way would block. */
bool pg_cancel_backend(struct pg_conn *conn)
{
	struct pg_instance *inst = conn->inst;
	struct pg_conn *control = &inst->conns[inst->n_conns];
	char sql[64];

	if (control->phase == PG_DOWN) {
		pg_conn_open(control);
		return false;
	}
	if (control->phase != PG_READY || !pg_items_reserve(control, 2))
		return false; /* pg_connected() looks again */
	(void)snprintf(sql, sizeof(sql), "SELECT pg_cancel_backend(%d)", PQbackendPID(conn->pg));
	pg_control(control, PG_AWAIT_CONTROL, NULL, sql);
	pg_sync(control, NULL, false);
	pg_flush(control);
	return true;
}
