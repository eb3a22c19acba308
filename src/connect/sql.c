/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/sql.h"

#include "base/mem.h"
#include "connect/driver.h"
#include "connect/settings.h"
#include "io/loop.h"

struct sn_sql {
	struct sn_connect_host host;
	const struct sn_driver *driver;
	const struct sn_database_ops *ops;
	struct sn_settings *settings;
	struct sn_driver_open how;
	void *state;
	struct sn_task task;
	void (*done)(void *arg);
	void *arg;
	bool closing;
};

/* What sn_sql_unit.core holds. */
struct core {
	struct sn_timer timer;
	struct sn_sql *sql;
	void (*done)(struct sn_sql_unit *unit);
	bool cancelled;
};
_Static_assert(sizeof(struct core) <= sizeof(((struct sn_sql_unit *)0)->core),
		"sn_sql_unit.core is too small");

static struct core *core_of(struct sn_sql_unit *unit)
{
	return (struct core *)(void *)unit->core;
}

/* ---- opening and closing ---- */

static int find_driver(const char *type, const struct sn_driver **ret_driver, struct sn_error *err)
{
	int r = sn__driver_find(SN_TOPIC_DATABASE, sn_str_from(type), ret_driver, err);

	if (r == 0 && (*ret_driver)->ops == NULL)
		r = sn__error_set(err, SN_E_NOTSUP, "%s is no SQL database", type);
	return r;
}

static int open_state(struct sn_sql *sql, const char *config, struct sn_error *err)
{
	int r = sn__settings_read(sql->driver, config, false, sql->host.log, &sql->settings, err);

	if (r < 0)
		return r;
	sql->state = sn__calloc(1, SN_MAX(sql->driver->state_size, 1u));
	if (sql->state == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	sql->how = (struct sn_driver_open){
			.size = sizeof(sql->how),
			.host = &sql->host.pub,
			.options = sn__settings_options(sql->settings),
			.resource = "",
	};
	r = sql->driver->open(sql->state, &sql->how);
	if (r < 0) {
		sql->how.error[sizeof(sql->how.error) - 1] = '\0';
		return sn__error_set(err, r, "%s",
				sql->how.error[0] != '\0' ? sql->how.error : sn_strerror(r));
	}
	return 0;
}

static void sql_free(struct sn_sql *sql)
{
	sn__settings_destroy(sql->settings);
	sn__free(sql->state);
	sn__free(sql);
}

int sn__sql_open(const struct sn_sql_open *how, struct sn_sql **ret_sql, struct sn_error *err)
{
	const struct sn_driver *driver;
	struct sn_sql *sql;
	int r = find_driver(how->type, &driver, err);

	if (r < 0)
		return r;
	sql = sn__calloc(1, sizeof(*sql));
	if (sql == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	sn__connect_host_init(&sql->host);
	sql->host.loop = how->loop;
	sql->host.rt = how->rt;
	sql->host.log = how->log;
	sql->driver = driver;
	sql->ops = driver->ops;
	r = open_state(sql, how->config, err);
	if (r < 0) {
		sql_free(sql);
		(void)sn__error_prefix(err, "database %s", how->type);
		return r; /* err may be NULL */
	}
	*ret_sql = sql;
	return 0;
}

static void finish(struct sn_task *task)
{
	struct sn_sql *sql = SN_CONTAINER_OF(task, struct sn_sql, task);
	void (*done)(void *arg) = sql->done;
	void *arg = sql->arg;

	sql->driver->finish(sql->state);
	sql_free(sql);
	done(arg);
}

static void on_closed(void *arg)
{
	struct sn_sql *sql = arg;

	sn__loop_defer(sql->host.loop, &sql->task, finish);
}

void sn__sql_close(struct sn_sql *sql, void (*done)(void *arg), void *arg)
{
	sql->closing = true;
	sql->done = done;
	sql->arg = arg;
	sql->driver->close(sql->state, on_closed, sql);
}

/* ---- units ---- */

static void unit_done(struct sn_sql_unit *unit)
{
	struct core *c = core_of(unit);

	sn__timer_stop(c->sql->host.loop, &c->timer);
	unit->done = c->done;
	unit->done(unit);
}

static void stop(struct sn_sql_unit *unit, int code)
{
	struct core *c = core_of(unit);

	if (c->cancelled)
		return;
	c->cancelled = true;
	sn__timer_stop(c->sql->host.loop, &c->timer);
	c->sql->ops->cancel(c->sql->state, unit, code);
}

static void on_timeout(struct sn_timer *t)
{
	struct core *c = SN_CONTAINER_OF(t, struct core, timer);

	stop(SN_CONTAINER_OF(c, struct sn_sql_unit, core), SN_E_TIMEOUT);
}

static bool is_sound(const struct sn_sql_unit *unit)
{
	if (unit->script != NULL)
		return unit->n_statements == 0 && unit->more == NULL && !unit->read_only;
	if (unit->n_statements == 0 || unit->n_statements > SN_SQL_STATEMENTS_MAX)
		return false;
	for (uint32_t i = 0; i < unit->n_statements; i++) {
		if (unit->statements[i].sql == NULL ||
				unit->statements[i].n_params > SN_SQL_PARAMS_MAX)
			return false;
	}
	return true;
}

int sn__sql_submit(struct sn_sql *sql, struct sn_sql_unit *unit, uint32_t timeout_ms)
{
	struct core *c = core_of(unit);
	int r;

	if (sql->closing)
		return SN_E_CLOSED;
	if (!is_sound(unit))
		return SN_E_INVALID;
	memset(unit->driver, 0, sizeof(unit->driver));
	memset(c, 0, sizeof(*c));
	c->sql = sql;
	c->done = unit->done;
	unit->done = unit_done;
	unit->outcome = (struct sn_sql_outcome){0};
	unit->rows = NULL;
	unit->n_rows = 0;
	r = sql->ops->submit(sql->state, unit);
	if (r < 0)
		unit->done = c->done;
	else if (timeout_ms > 0)
		sn__timer_start(sql->host.loop, &c->timer, sn_ms_to_ns(timeout_ms), on_timeout);
	return r;
}

void sn__sql_cancel(struct sn_sql *sql, struct sn_sql_unit *unit)
{
	stop(unit, SN_E_CANCELLED);
}
