/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_GRPC_SERVER_H
#define SN_SRC_IO_GRPC_SERVER_H

/*
 * Internal. gRPC services on an HTTP server: the handler that serves them. sinew/grpc.h owns the
 * functions on struct sn_grpc_exchange, which are in grpc_exchange.c. Loop thread.
 */

#include "io/grpc.h"
#include "io/http_server.h"

struct sn_grpc_services; /* the table of what is served */
struct sn_grpc_services_options {
	size_t max_message;       /* 0: SN_GRPC_MESSAGE_MAX */
	sn_http_handler_fn *http; /* what is not gRPC; NULL: 415 */
	void *http_arg;
};
SN_MUST_USE int sn__grpc_services_create(struct sn_loop *loop,
		const struct sn_grpc_services_options *opts /* may be NULL */,
		struct sn_grpc_services **ret_services);
/** After the last exchange is over (the server is closed). */
void sn__grpc_services_destroy(struct sn_grpc_services *services /* may be NULL */);
/** @service is borrowed. SN_E_INVALID (err says what), SN_E_EXISTS, SN_E_NOMEM. */
SN_MUST_USE int sn__grpc_services_add(struct sn_grpc_services *services,
		const struct sn_grpc_service *service, struct sn_error *err);
/** Added services in order; NULL at the end. */
const struct sn_grpc_service *sn__grpc_services_at(
		const struct sn_grpc_services *services, size_t index);
/** The handler for sn__http_server_open(); @services is its argument. */
void sn__grpc_handle(struct sn_exchange *x, void *services);

/* ---- services of our own: they are tables like any other ---- */

/** grpc.health.v1.Health of what @services serves (grpc_health.c): all of it is SERVING until set
 * otherwise; what is added later too. Adds itself to it. */
struct sn_grpc_health;
SN_MUST_USE int sn__grpc_health_create(struct sn_grpc_services *services,
		struct sn_grpc_health **ret_health, struct sn_error *err);
SN_MUST_USE int sn__grpc_health_set(struct sn_grpc_health *health, const char *service,
		bool serving); /* SN_E_NOT_FOUND */
/** NOT_SERVING for good; watchers are told and their calls ended. */
void sn__grpc_health_shutdown(struct sn_grpc_health *health);
void sn__grpc_health_destroy(struct sn_grpc_health *health /* may be NULL */);

/** grpc.reflection.v1 and v1alpha of what @services serves (grpc_reflection.c). Adds itself to it, so
 * does it last: descriptors of services that are added later are not known to it. SN_E_INVALID: the
 * descriptors of a service cannot be read, or contradict those of another (err says which). After a
 * failure @services is good for its destruction only. */
struct sn_grpc_reflection;
SN_MUST_USE int sn__grpc_reflection_create(struct sn_grpc_services *services,
		struct sn_grpc_reflection **ret_reflection, struct sn_error *err);
void sn__grpc_reflection_destroy(struct sn_grpc_reflection *reflection /* may be NULL */);

#endif
