/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_BROKER_MQTT_H
#define SN_SRC_CONNECT_BROKER_MQTT_H

/*
 * Internal, of the module broker/mqtt: MQTT 5 and 3.1.1 by libmosquitto.
 *
 * The crew's thread has the library's object, made anew for each connection, and everything of struct
 * mqtt_crew; the library has no threads. The loop's thread has the rest. Operations and subscriptions
 * go to the crew and come back as jobs.
 *
 * The library acknowledges messages of QoS 1 as they arrive, before anybody has seen them. So there are
 * no durable subscriptions here: what was taken from the server and not handled is lost with the process.
 */

#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/mem.h" /* its macros */
#include "connect/broker/crew.h"

#define MQTT_WHY_MAX 160
#define MQTT_BUCKETS 1024u

struct mqtt_options {
	const char *url, *client_id, *user, *password;
	int version; /* 0: 5, 1: 3.1.1 */
	int qos;     /* of subscriptions */
	struct {
		const char *ca, *cert, *key;
		bool verify;
	} tls;
	struct {
		const char *topic, *payload;
		int qos;
		bool retain;
	} will;
	uint64_t connect_timeout_ms, ping_interval_ms, reconnect_min_ms, reconnect_max_ms;
	uint64_t timeout_ms;
	int64_t max_pending;
	uint64_t max_pending_bytes;
};
extern const struct sn_option mqtt__options[];

enum mqtt_state { MQTT_IDLE, MQTT_CONNECTING, MQTT_UP, MQTT_WAITING };

/* A subscription at the server; for each different filter and group. The crew's. */
struct mqtt_route {
	struct sn_list link; /* crew.routes */
	struct sn_list subs; /* mqtt_sub.route_link */
	uint32_t id;
	int mid;       /* of the SUBSCRIBE that is under way */
	bool active;   /* at this connection */
	bool shared;   /* a group: each message to one of ours, in turn */
	size_t skip;   /* bytes before the filter proper */
	char filter[]; /* behind $share/GROUP/ for a group */
};

struct mqtt_wait;

struct mqtt_crew {
	struct mosquitto *mosq;
	bool connected;       /* CONNACK has come */
	bool lost;            /* to be given up as soon as no function of the library is running */
	uint64_t deadline_ns; /* of the CONNACK; 0: none */
	char why[MQTT_WHY_MAX];
	uint32_t route_id;
	struct mqtt_wait *sending;            /* a function of the library is at it */
	struct sn_list routes;                /* mqtt_route.link */
	struct sn_list buckets[MQTT_BUCKETS]; /* mqtt_wait.link: messages under way, by mid */
};

struct mqtt_instance {
	struct sn_driver_host *host;
	const struct mqtt_options *o;
	struct sn_crew crew;
	struct mqtt_crew c;
	char server[256], id[64];
	unsigned port;
	bool tls;

	enum mqtt_state state;
	bool attempted;
	char why[MQTT_WHY_MAX];
	uint64_t pause_ms;
	struct sn_driver_task timer;
	struct sn_driver_watch *watch;
	/* connect: to the crew and back as up or down; down: of a connection that was up */
	struct sn_crew_job watch_job, connect_job, up_job, down_job, close_job;
	struct sn_list subs, ops;
	unsigned n_jobs; /* not back from the crew */
	int64_t pending;
	uint64_t pending_bytes;
	bool closing, disconnecting, stopping;
	void (*done)(void *arg);
	void *arg;
};

struct mqtt_sub {
	struct sn_list link; /* inst->subs */
	struct mqtt_instance *inst;
	struct sn_driver_subscription *pub;
	struct sn_driver_task task;
	struct sn_list queue; /* mqtt_item.link */
	uint64_t credit, out;
	bool ending, told;
	bool with_crew; /* until that has let go of it */
	atomic_ulong queued, bytes, dropped;
	struct sn_crew_job join_job, leave_job;
	/* the crew's */
	struct sn_list route_link;
	struct mqtt_route *route;
};

/* A message that has come. */
struct mqtt_item {
	struct sn_crew_job job;
	struct sn_list link;
	struct mqtt_instance *inst;
	struct mqtt_sub *sub;
	size_t size;
	struct sn_driver_delivery pub;
	/* of MQTT 5, the library's memory; NULL: none */
	char *reply;
	struct sn_driver_header *headers;
	size_t n_headers;
	char text[]; /* topic, NUL, payload, NUL */
};

static inline void *mqtt_alloc(struct mqtt_instance *inst, size_t size)
{
	return sn_crew_alloc(inst->host, size);
}
static inline void mqtt_free(struct mqtt_instance *inst, void *p /* may be NULL */)
{
	sn_crew_free(inst->host, p);
}

/* mqtt.c */
void mqtt__connect(struct mqtt_instance *inst);
void mqtt__close_check(struct mqtt_instance *inst);
/** The crew's thread: the connection is of no use any more. */
void mqtt__lose(struct mqtt_instance *inst, const char *why);

/* mqtt_send.c */
int mqtt__publish(void *instance, struct sn_driver_publish *p);
void mqtt__publish_cancel(void *instance, struct sn_driver_publish *p, int code);
void mqtt__ops_up(struct mqtt_instance *inst);
void mqtt__ops_down(struct mqtt_instance *inst);
void mqtt__ops_close(struct mqtt_instance *inst);
/** The crew's thread: a message has gone out (QoS 0) or was acknowledged; the connection is gone. */
void mqtt__crew_published(struct mqtt_instance *inst, int mid, int reason);
void mqtt__crew_unpublished(struct mqtt_instance *inst);

/* mqtt_subscribe.c */
int mqtt__subscribe(void *instance, struct sn_driver_subscription *sub);
void mqtt__credit(void *instance, struct sn_driver_subscription *sub, uint32_t more);
void mqtt__answer(void *instance, struct sn_driver_delivery *d, enum sn_driver_answer answer,
		uint32_t delay_ms);
void mqtt__unsubscribe(void *instance, struct sn_driver_subscription *sub, bool forget);
void mqtt__subs_close(struct mqtt_instance *inst);
/** The crew's thread. */
void mqtt__crew_resubscribe(struct mqtt_instance *inst);
void mqtt__crew_subscribed(struct mqtt_instance *inst, int mid, int reason);
void mqtt__crew_message(struct mqtt_instance *inst, const struct mosquitto_message *m,
		const mosquitto_property *properties);

#endif
