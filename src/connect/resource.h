/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_RESOURCE_H
#define SN_SRC_CONNECT_RESOURCE_H

/*
 * Internal. A call to a database or queue by the name of an operation: a mesh call (mesh/call.h)
 * whose attempts are native calls of the entry's driver. The one place where mesh and drivers meet.
 * Loop thread.
 */

#include <sinew/resource.h>
#include "base/buf.h"
#include "connect/pool.h"
#include "mesh/call.h"

#define SN_RESOURCE_KEEP_MAX (64u << 10) /* a buffer that grew larger is given back */
#define SN_OPERATION_MAX 128             /* bytes of an operation's name */

/* The public answer; its memory is used again and again. */
struct sn_result {
	bool lone;          /* of a _wait call: the caller frees it. The first: operation.h */
	struct sn_buf json; /* a NUL behind it, not counted */
	char type[96], request_id[96];
	char message[256]; /* of an error */
	struct sn_buf identity;
	char call_id[24];
	unsigned attempts;
};
void sn__result_init(struct sn_result *res);
void sn__result_finish(struct sn_result *res);
/** Forget the answer; memory stays for the next. */
void sn__result_reset(struct sn_result *res);

struct sn_resource_call {
	/* ---- filled by the caller, everything else zero but `keep`; texts live until done ---- */
	const struct sn_resource_kind *kind;
	struct sn_target *target;
	struct sn_str operation;
	struct sn_str params; /* checked JSON object, a NUL behind it */
	enum sn_retry retry;
	uint32_t timeout_ms, deadline_ms; /* 0: policy */
	const struct sn_context *context; /* read by sn__resource_start() only; may be NULL */
	struct sn_result *result;         /* an initialised one; reset with each attempt */
	/**
	 * Exactly once, never before sn__resource_start() returned. @err NULL: the result is a good
	 * answer; SN_E_STATUS, SN_E_REJECTED: it may be the service's refusal (its type is not ""). The
	 * memory is the caller's again.
	 */
	void (*done)(struct sn_resource_call *rc, const struct sn_error *err /* may be NULL */);

	/* ---- for the owner ---- */
	struct sn_call call; /* id, attempt, permit.state (the peer) */

	/* ---- private ---- */
	struct sn_driver_pool *pool;
	struct sn_instance *inst; /* of the running attempt; NULL: none runs */
	struct sn_driver_call native;
	struct sn_task task;
	int own_code;  /* why the attempt could not begin, or its answer not be kept; 0: it could */
	int late_code; /* asked to stop before the native call was there */
	bool refused;  /* the service said no: an answer to the mesh */
	bool others;   /* there are other entries than the one that is unfit */
	char sentence[320]; /* about own_code or the refusal */
	struct {            /* kept from call to call */
		void *state;
		size_t size;
	} keep;
};

/** SN_E_CLOSED, SN_E_NOMEM: nothing follows. */
SN_MUST_USE int sn__resource_start(struct sn_driver_pool *pool, struct sn_mesh *mesh,
		struct sn_resource_call *rc, struct sn_error *err);
/** done follows in a later turn, with SN_E_CANCELLED unless the answer was quicker. */
void sn__resource_stop(struct sn_resource_call *rc);
/** Whether @name could be an operation's. SN_E_INVALID: err says what is wrong. */
SN_MUST_USE int sn__operation_check(const char *name, struct sn_error *err);
/** Whether @json is one JSON object. SN_E_INVALID: err says what is wrong. */
SN_MUST_USE int sn__params_check(struct sn_str json, struct sn_error *err);

/* ---- the public calls (api_resource.c) ---- */

struct sn_operations;
SN_MUST_USE int sn__resource_calls_create(struct sn_runtime *rt, struct sn_operations **ret_calls);

#endif
