/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_POLICY_H
#define SN_SRC_MESH_POLICY_H

/*
 * Internal. Policies at run time: a tree of values is compiled into immutable struct sn_policy, one
 * for each node that has values, with everything inherited filled in. A decision reads the pointer
 * anew, so a change takes effect between attempts.
 *
 * Writing on the loop thread; reading inside a read section (rcu.h) from any thread.
 */

#include "base/error.h"
#include "mesh/catalog.h"

enum sn_balance {
	SN_BALANCE_RANDOM,
	SN_BALANCE_ROUND_ROBIN,
	SN_BALANCE_LEAST_REQUEST,
	SN_BALANCE_PEAK_EWMA,
	SN_BALANCE_FIRST,
};

enum sn_retry_on { /* bits of retry_on */
	SN_RETRY_CONNECT = 1,
	SN_RETRY_RESET = 2,
	SN_RETRY_TIMEOUT = 4,
	SN_RETRY_502 = 8,
	SN_RETRY_503 = 16,
	SN_RETRY_504 = 32,
	SN_RETRY_5XX = 64,
	SN_RETRY_UNAVAILABLE = 128,
};

/* Every policy there is, compiled. Times are milliseconds. Names as in docs/policies.md with '-'
 * for '_'; the table of names, kinds, defaults and limits in policy.c is the only list. */
struct sn_policy {
	uint32_t timeout, connect_timeout, idle_timeout, open_timeout, deadline; /* deadline 0: none */
	uint32_t retry_count, retry_initial_delay, retry_max_delay;
	double retry_delay_multiplier;
	bool retry_jitter_full;
	bool retry_unsafe;
	unsigned retry_on;
	bool retry_count_first; /* count the free first connection failure too (berlioz) */
	double retry_budget;    /* fraction */
	double retry_budget_min; /* a second */
	bool no_peer_retry;     /* berlioz: "no peer" is a failed attempt, retried */
	bool no_peer_wait_set;  /* else berlioz counts attempts instead of waiting */
	uint32_t no_peer_wait;
	enum sn_balance balance;
	bool breaker;
	uint32_t breaker_min_requests, breaker_consecutive_failures;
	double breaker_success_ratio;
	uint32_t breaker_open, breaker_max_open;
	uint32_t max_inflight, max_pending;
	uint32_t pool_max, pool_idle;
	uint64_t max_response, retry_buffer;
	bool enable_zipkin;
	bool call_id_header; /* `sinew-call-id` to third parties */
	uint32_t why_sample, why_slow;
	const char *zipkin_endpoint, *zipkin_service_id, *host_header;
	const char *tls_ca, *tls_cert, *tls_key, *tls_server_name;
	bool tls_verify;
};

#endif
