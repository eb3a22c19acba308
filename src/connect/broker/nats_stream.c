/* SPDX-License-Identifier: Apache-2.0 */

/* JetStream: streams and consumers that are missing are created. The crew's thread; these block. */

#include <stdio.h>
#include <string.h>

#include "connect/broker/nats.h"

#define TRIES 5 /* others create and change the stream at the same time */
#define SUBJECTS_MAX 256

/* Whether everything that @subject stands for is in @pattern. */
static bool covers(const char *pattern, const char *subject)
{
	for (;;) {
		size_t p = strcspn(pattern, "."), s = strcspn(subject, ".");
		bool rest = p == 1 && pattern[0] == '>', any = p == 1 && pattern[0] == '*';

		if (rest)
			return true;
		if (any ? s == 1 && subject[0] == '>' : p != s || memcmp(pattern, subject, p) != 0)
			return false;
		pattern += p;
		subject += s;
		if (*pattern == '\0' || *subject == '\0')
			return *pattern == *subject;
		pattern++;
		subject++;
	}
}

static bool covered(const jsStreamConfig *cfg, const char *subject)
{
	for (int i = 0; i < cfg->SubjectsLen; i++) {
		if (covers(cfg->Subjects[i], subject))
			return true;
	}
	return false;
}

static natsStatus words(natsStatus s, jsErrCode code, const char *what, char *why, size_t size,
		bool *ret_final)
{
	const char *text = nats_GetLastError(NULL);

	if (s == NATS_OK)
		return s;
	*ret_final = code == JSNotEnabledErr || code == JSNotEnabledForAccountErr ||
			code == JSStreamSubjectOverlapErr || code == JSConsumerNameExistErr ||
			code == JSStreamInvalidConfig;
	if (s == NATS_NO_RESPONDERS)
		text = "the server has no JetStream";
	else if (text == NULL || text[0] == '\0')
		text = natsStatus_GetText(s);
	(void)snprintf(why, size, "%s: %s", what, text);
	return s;
}

static natsStatus create(struct nats_instance *inst, const char *subject, jsErrCode *code)
{
	const struct nats_options *o = inst->o;
	bool given = o->stream.subjects.n > 0;
	const char *subjects[1] = {subject};
	jsStreamConfig cfg;
	natsStatus s = jsStreamConfig_Init(&cfg);

	cfg.Name = o->stream.name;
	cfg.Subjects = given ? (const char **)(void *)o->stream.subjects.items : subjects;
	cfg.SubjectsLen = given ? (int)o->stream.subjects.n : 1;
	cfg.Storage = o->stream.storage == 1 ? js_MemoryStorage : js_FileStorage;
	cfg.Replicas = o->stream.replicas;
	cfg.MaxAge = (int64_t)o->stream.max_age_ms * 1000000;
	cfg.MaxBytes = o->stream.max_bytes > 0 ? (int64_t)o->stream.max_bytes : -1;
	/* No longer than the oldest message: the server insists. */
	cfg.Duplicates = (int64_t)o->stream.duplicates_ms * 1000000;
	if (cfg.MaxAge > 0 && cfg.Duplicates > cfg.MaxAge)
		cfg.Duplicates = cfg.MaxAge;
	return s == NATS_OK ? js_AddStream(NULL, inst->conn->js, &cfg, NULL, code) : s;
}

static natsStatus extend(
		struct nats_instance *inst, jsStreamInfo *si, const char *subject, jsErrCode *code)
{
	const char *subjects[SUBJECTS_MAX];
	const char **before = si->Config->Subjects;
	int n = si->Config->SubjectsLen, k = 0;
	natsStatus s;

	if (n >= SUBJECTS_MAX)
		return NATS_INSUFFICIENT_BUFFER;
	/* What the new one covers would overlap with it. */
	for (int i = 0; i < n; i++) {
		if (!covers(subject, before[i]))
			subjects[k++] = before[i];
	}
	subjects[k++] = subject;
	si->Config->Subjects = subjects;
	si->Config->SubjectsLen = k;
	s = js_UpdateStream(NULL, inst->conn->js, si->Config, NULL, code);
	si->Config->Subjects = before;
	si->Config->SubjectsLen = n;
	return s;
}

natsStatus nats__stream_ensure(struct nats_instance *inst, const char *subject, char *why,
		size_t size, bool *ret_final)
{
	natsStatus s = NATS_ERR;

	*ret_final = false;
	/* Looked at again after each change: somebody else's may have undone it. */
	for (int i = 0; i < TRIES; i++) {
		jsStreamInfo *si = NULL;
		jsErrCode code = 0;
		bool ok;

		s = js_GetStreamInfo(&si, inst->conn->js, inst->o->stream.name, NULL, &code);
		ok = s == NATS_OK && covered(si->Config, subject);
		if (s == NATS_OK && !ok)
			s = extend(inst, si, subject, &code);
		else if (s == NATS_NOT_FOUND)
			s = create(inst, subject, &code);
		jsStreamInfo_Destroy(si);
		if (ok)
			return NATS_OK;
		if (s != NATS_OK && code != JSStreamNameExistErr)
			return words(s, code, "stream", why, size, ret_final);
	}
	(void)snprintf(why, size, "stream: its subjects keep changing");
	return s == NATS_OK ? NATS_ERR : s;
}

natsStatus nats__consumer_ensure(struct nats_instance *inst, const char *durable,
		const char *filter, bool from_start, char *why, size_t size, bool *ret_final)
{
	const char *stream = inst->o->stream.name;
	jsConsumerInfo *ci = NULL;
	jsErrCode code = 0;
	jsConsumerConfig cfg;
	natsStatus s = nats__stream_ensure(inst, filter, why, size, ret_final);

	if (s != NATS_OK)
		return s;
	s = js_GetConsumerInfo(&ci, inst->conn->js, stream, durable, NULL, &code);
	if (s == NATS_OK) {
		const char *has = ci->Config->FilterSubject;

		*ret_final = has == NULL || strcmp(has, filter) != 0;
		if (*ret_final) {
			(void)snprintf(why, size, "consumer %s exists for %s", durable,
					has != NULL ? has : "everything");
			s = NATS_ERR;
		}
		jsConsumerInfo_Destroy(ci);
		return s;
	}
	if (s != NATS_NOT_FOUND)
		return words(s, code, "consumer", why, size, ret_final);
	(void)jsConsumerConfig_Init(&cfg);
	cfg.Durable = durable;
	cfg.FilterSubject = filter;
	cfg.AckPolicy = js_AckExplicit;
	cfg.AckWait = (int64_t)inst->o->ack_wait_ms * 1000000;
	cfg.MaxAckPending = inst->o->max_ack_pending;
	cfg.DeliverPolicy = from_start ? js_DeliverAll : js_DeliverNew;
	s = js_AddConsumer(NULL, inst->conn->js, stream, &cfg, NULL, &code);
	return words(s, code, "consumer", why, size, ret_final);
}

void nats__consumer_delete(struct nats_instance *inst, const char *durable)
{
	jsErrCode code = 0;

	if (inst->conn != NULL)
		(void)js_DeleteConsumer(inst->conn->js, inst->o->stream.name, durable, NULL, &code);
}
