/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_RESOURCE_H
#define SN_RESOURCE_H

#ifndef SN_UNSTABLE
#error "sinew/resource.h may still change; define SN_UNSTABLE to use it"
#endif

#include <sinew/base.h>
#include <sinew/context.h>
#include <sinew/error.h>
#include <sinew/mesh.h>
#include <sinew/runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Databases and queues (getDatabaseInfo, monitorDatabases, getQueueInfo, monitorQueues of the
 * Berlioz connector guidelines, and native calls to them). @name: of the database or queue in the
 * own sector; "SECTOR.NAME" for another one. Threads: any. Callbacks run on the loop thread.
 */

/* ---- who is there ---- */

/**
 * getDatabaseInfo, getQueueInfo: of the first entry, exactly {"tableName": ..., "config": {...}}
 * ({"streamName": ..., "config": {...}}) as JSON; "null" when there is none. Secrets are not
 * masked. The caller frees the text with sn_free(). SN_E_INVALID, SN_E_FORKED, SN_E_NOMEM.
 */
SN_API SN_MUST_USE int sn_get_database_info(
		struct sn_runtime *rt, const char *name, char **ret_json);
SN_API SN_MUST_USE int sn_get_queue_info(struct sn_runtime *rt, const char *name, char **ret_json);
/**
 * All entries, {"identity": {...}}: the entry's own members, and tableName (streamName) and config
 * also when the entry has a later form. "null" when the target is unknown. As above.
 */
SN_API SN_MUST_USE int sn_get_databases(struct sn_runtime *rt, const char *name, char **ret_json);
SN_API SN_MUST_USE int sn_get_queues(struct sn_runtime *rt, const char *name, char **ret_json);
/** One entry, uniform over the present ones; "null" when there is none. As above. */
SN_API SN_MUST_USE int sn_get_random_database(
		struct sn_runtime *rt, const char *name, char **ret_json);
SN_API SN_MUST_USE int sn_get_random_queue(
		struct sn_runtime *rt, const char *name, char **ret_json);
/** @fn is told the map of sn_get_databases() (sn_get_queues()): the present one in a later turn, when
 * the target is known, and then every change; "{}" after a reset. Stop with sn_monitor_stop(). */
SN_API SN_MUST_USE int sn_monitor_databases(struct sn_runtime *rt, const char *name,
		sn_value_fn *fn, void *arg, struct sn_monitor **ret_monitor);
SN_API SN_MUST_USE int sn_monitor_queues(struct sn_runtime *rt, const char *name, sn_value_fn *fn,
		void *arg, struct sn_monitor **ret_monitor);

/* ---- calls by operation name ---- */

struct sn_resource_options {
	size_t size; /* sizeof(struct sn_resource_options) */
	enum sn_retry retry;
	uint32_t timeout_ms;              /* of one attempt; 0: policy */
	uint32_t deadline_ms;             /* of the whole call; 0: policy */
	const struct sn_context *context; /* may be NULL */
};
#define SN_RESOURCE_OPTIONS_INIT \
	{ \
		.size = sizeof(struct sn_resource_options) \
	}

/** What the service answered; immutable. */
struct sn_result;
/** The answer as JSON text with a NUL behind it ("{}" at least); *ret_size may be NULL. */
SN_API const char *sn_result_json(const struct sn_result *res, size_t *ret_size);
/** The service's name of the error ("ConditionalCheckFailedException"), NULL: a good answer. */
SN_API const char *sn_result_error_type(const struct sn_result *res);
SN_API const char *sn_result_request_id(const struct sn_result *res); /* the service's; "": none */
SN_API const char *sn_result_identity(const struct sn_result *res);   /* of the entry used */
SN_API const char *sn_result_call_id(const struct sn_result *res);    /* for `sinew why` */
SN_API unsigned sn_result_attempts(const struct sn_result *res);
SN_API void sn_result_destroy(struct sn_result *res /* may be NULL */); /* of _wait only */

/** The end of a call. @err NULL: a good answer. With SN_E_STATUS or SN_E_REJECTED @res is given
 * too: the service's refusal. Borrowed for the call. */
typedef void sn_result_fn(const struct sn_result *res, const struct sn_error *err, void *arg);

/**
 * Call @operation ("PutItem") of the database's (queue's) service with @params, a JSON object; the
 * table's (stream's) name is put in where the operation takes it, over what @params say. Retries,
 * breaker, limits, deadline and balancing as for sn_request(), `balance` being `first`. @fn runs
 * exactly once, on the loop thread, never before this returned. @opts may be NULL.
 * SN_E_INVALID (*ret_error says what: no JSON object, an impossible name), SN_E_NOMEM, SN_E_CLOSED,
 * SN_E_FORKED. An operation that the service's driver does not know ends the call with SN_E_INVALID
 * and the nearest name; an entry no driver fits with SN_E_NOTSUP.
 */
SN_API SN_MUST_USE int sn_database_call(struct sn_runtime *rt, const char *name,
		const char *operation, const char *params /* NULL: {} */,
		const struct sn_resource_options *opts, sn_result_fn *fn, void *arg,
		struct sn_call_id *ret_id /* may be NULL */,
		struct sn_error **ret_error /* may be NULL */);
SN_API SN_MUST_USE int sn_queue_call(struct sn_runtime *rt, const char *name, const char *operation,
		const char *params /* NULL: {} */, const struct sn_resource_options *opts,
		sn_result_fn *fn, void *arg, struct sn_call_id *ret_id /* may be NULL */,
		struct sn_error **ret_error /* may be NULL */);
/** Ask to stop; @fn still runs once. */
SN_API void sn_resource_cancel(struct sn_runtime *rt, struct sn_call_id id);
/** The same, blocking. Both results are owned by the caller; SN_E_DEADLK as sn_request_wait(). */
SN_API SN_MUST_USE int sn_database_call_wait(struct sn_runtime *rt, const char *name,
		const char *operation, const char *params /* NULL: {} */,
		const struct sn_resource_options *opts, struct sn_result **ret_result,
		struct sn_error **ret_error /* may be NULL */);
SN_API SN_MUST_USE int sn_queue_call_wait(struct sn_runtime *rt, const char *name,
		const char *operation, const char *params /* NULL: {} */,
		const struct sn_resource_options *opts, struct sn_result **ret_result,
		struct sn_error **ret_error /* may be NULL */);

#ifdef __cplusplus
}
#endif
#endif /* SN_RESOURCE_H */
