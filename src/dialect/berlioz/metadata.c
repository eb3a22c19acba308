/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata of this task: messages go as updates to the catalog (message.c reads them there),
 * look-ups read the catalog. With a state directory the registry is written out at most once a
 * second while it changes, and when the metadata ends; it is read back before the first message.
 */
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "dialect/berlioz/message.h"
#include "dialect/berlioz/metadata_impl.h"
#include "dialect/berlioz/state.h"
#include "proto/json_value.h"

#define MESSAGE_MAX ((size_t)64 << 20)
#define DUMP_MAX SN_STATE_MAX
#define SAVE_DELAY_NS SN_NS_PER_S

struct sn_metadata {
	struct sn_metadata_options opts;
	char *state_dir, *state_tag; /* NULL: no state */
	uint64_t messages;
	unsigned under_way; /* messages and jobs that hold on to this */
	bool closed;
	pid_t pid;
	struct sn_message_memory memory; /* belongs to the message being read */

	struct sn_timer save_timer;
	struct sn_job save_job;
	struct sn_error save_error;
	int save_code;
	bool saving, changed;
	bool save_failed; /* said once, until it works again */
};

struct message {
	struct sn_update update;
	struct sn_metadata *md;
	char *text; /* NULL: the state file */
	size_t len;
	struct sn_message_note note;
};

static void hold(struct sn_metadata *md)
{
	md->under_way++;
}

static void let_go(struct sn_metadata *md)
{
	if (--md->under_way > 0 || !md->closed)
		return;
	sn__free(md->state_dir);
	sn__free(md->state_tag);
	sn__free(md);
}

static void problem(struct sn_metadata *md, const struct sn_error *err)
{
	if (md->opts.problem != NULL && !md->closed)
		md->opts.problem(md, err, md->opts.arg);
}

/* ---- writing the state file ---- */

static int write_state(struct sn_metadata *md, struct sn_error *err)
{
	SN_AUTO_FREE char *dump = NULL;
	struct sn_buf b;
	int rc = sn__metadata_dump(md, &dump);

	if (rc < 0)
		return sn__error_set(err, rc, "state file not written: %s", sn_strerror(rc));
	sn__buf_init(&b, DUMP_MAX);
	rc = sn__buf_puts(&b, "{\"of\":");
	if (rc == 0)
		rc = sn__json_quote(sn_str_from(md->state_tag), &b);
	if (rc == 0)
		rc = sn__buf_puts(&b, ",\"registry\":");
	if (rc == 0)
		rc = sn__buf_puts(&b, dump);
	if (rc == 0)
		rc = sn__buf_puts(&b, "}\n");
	if (rc == 0)
		rc = sn__state_write(md->state_dir, sn__buf_str(&b), err);
	else
		sn__error_set(err, rc, "state file not written: %s", sn_strerror(rc));
	sn__buf_finish(&b);
	return rc;
}

static void save_work(struct sn_job *job)
{
	struct sn_metadata *md = SN_CONTAINER_OF(job, struct sn_metadata, save_job);

	md->save_code = write_state(md, &md->save_error);
}

static void save_soon(struct sn_metadata *md);

static void save_done(struct sn_job *job)
{
	struct sn_metadata *md = SN_CONTAINER_OF(job, struct sn_metadata, save_job);

	md->saving = false;
	if (md->save_code < 0 && !md->save_failed)
		problem(md, &md->save_error);
	md->save_failed = md->save_code < 0;
	if (md->changed)
		save_soon(md);
	let_go(md);
}

static void save_now(struct sn_timer *t)
{
	struct sn_metadata *md = SN_CONTAINER_OF(t, struct sn_metadata, save_timer);

	md->changed = false;
	md->saving = true;
	hold(md);
	if (sn__loop_work(md->opts.loop, &md->save_job, save_work, save_done) == 0)
		return;
	md->saving = false;
	let_go(md);
	save_soon(md);
}

static void save_soon(struct sn_metadata *md)
{
	md->changed = true;
	if (!md->closed && !md->saving && !sn_timer_armed(&md->save_timer))
		sn__timer_start(md->opts.loop, &md->save_timer, SAVE_DELAY_NS, save_now);
}

/* ---- messages ---- */

static int read_state(struct message *m, struct sn_batch *batch)
{
	struct sn_metadata *md = m->md;
	struct sn_error err = {0};
	int rc = sn__state_read(md->state_dir, &m->text, &m->len, &err);

	if (rc < 0) {
		memcpy(m->note.text, err.text, sizeof(m->note.text) - 1);
		return rc;
	}
	rc = sn__message_read_state(
			(struct sn_str){m->text, m->len}, md->state_tag, batch, &m->note);
	if (rc == 0)
		md->memory.from_state = true;
	return rc;
}

static int message_work(struct sn_update *u, struct sn_batch *batch)
{
	struct message *m = SN_CONTAINER_OF(u, struct message, update);
	struct sn_metadata *md = m->md;
	int rc;

	if (m->text == NULL)
		rc = read_state(m, batch);
	else
		rc = sn__message_read((struct sn_str){m->text, m->len}, md->opts.prune_absent,
				&md->memory, batch, &md->memory, &m->note);
	/* Here, because giving back many megabytes takes longer than a turn should. */
	sn__free(m->text);
	m->text = NULL;
	return rc;
}

static void tell(struct sn_metadata *md, const struct message *m, int code)
{
	struct sn_error err = {0};

	if (code == 0 && m->note.text[0] == '\0')
		return;
	sn__error_set(&err, code != 0 ? code : SN_E_INVALID, "%s",
			m->note.text[0] != '\0' ? m->note.text : sn_strerror(code));
	problem(md, &err);
}

static void state_done(struct sn_update *u, int code, uint32_t changes)
{
	struct message *m = SN_CONTAINER_OF(u, struct message, update);

	if (code != SN_E_NOT_FOUND)
		tell(m->md, m, code);
	let_go(m->md);
	sn__free(m->text);
	sn__free(m);
}

static void message_done(struct sn_update *u, int code, uint32_t changes)
{
	struct message *m = SN_CONTAINER_OF(u, struct message, update);
	struct sn_metadata *md = m->md;

	if (!md->closed && code == 0) {
		md->messages++;
		if (changes > 0 && md->state_dir != NULL)
			save_soon(md);
	}
	tell(md, m, code);
	if (!md->closed && code == 0 && md->opts.applied != NULL)
		md->opts.applied(md, changes, md->opts.arg);
	let_go(md);
	sn__free(m->text);
	sn__free(m);
}

static int submit(struct sn_metadata *md, char *text, size_t len)
{
	struct message *m = sn__calloc(1, sizeof(*m));

	if (m == NULL)
		return SN_E_NOMEM;
	m->md = md;
	m->text = text;
	m->len = len;
	m->update.size = len;
	m->update.work = message_work;
	m->update.done = text != NULL ? message_done : state_done;
	hold(md);
	sn__catalog_submit(md->opts.catalog, &m->update);
	return 0;
}

int sn__metadata_message_take(struct sn_metadata *md, char *text, size_t len)
{
	int rc = len > MESSAGE_MAX ? SN_E_LIMIT : submit(md, text, len);

	if (rc < 0)
		sn__free(text);
	return rc;
}

int sn__metadata_message(struct sn_metadata *md, struct sn_str text)
{
	char *copy;

	if (text.len > MESSAGE_MAX)
		return SN_E_LIMIT;
	copy = sn__strndup(text.len > 0 ? text.ptr : "", text.len);
	return copy == NULL ? SN_E_NOMEM : sn__metadata_message_take(md, copy, text.len);
}

struct sn_catalog *sn__metadata_catalog(struct sn_metadata *md)
{
	return md->opts.catalog;
}

uint64_t sn__metadata_messages(const struct sn_metadata *md)
{
	return md->messages;
}

int sn__metadata_create(const struct sn_metadata_options *opts, struct sn_metadata **ret_md)
{
	struct sn_metadata *md = sn__calloc(1, sizeof(*md));
	int rc = 0;

	if (md == NULL)
		return SN_E_NOMEM;
	md->opts = *opts;
	md->pid = getpid();
	if (opts->state_dir != NULL) {
		md->state_dir = sn__strdup(opts->state_dir);
		md->state_tag = sn__strdup(opts->state_tag != NULL ? opts->state_tag : "");
		rc = md->state_dir == NULL || md->state_tag == NULL ? SN_E_NOMEM : 0;
		if (rc == 0 && sn__state_size(md->state_dir) > 0)
			rc = submit(md, NULL, sn__state_size(md->state_dir));
	}
	if (rc < 0) {
		sn__free(md->state_dir);
		sn__free(md->state_tag);
		sn__free(md);
		return rc;
	}
	*ret_md = md;
	return 0;
}

void sn__metadata_destroy(struct sn_metadata *md)
{
	struct sn_error err = {0};

	if (md == NULL || md->closed)
		return;
	sn__timer_stop(md->opts.loop, &md->save_timer);
	/* A child of fork() must leave the parent's file alone. */
	if (md->changed && !md->saving && md->pid == getpid() && write_state(md, &err) < 0 &&
			!md->save_failed)
		problem(md, &err);
	md->closed = true;
	hold(md);
	let_go(md);
}
