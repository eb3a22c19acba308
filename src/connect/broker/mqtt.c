/* SPDX-License-Identifier: Apache-2.0 */

/* The driver broker/mqtt: opening, the connection and the crew's thread, the end. */

#include "connect/broker/mqtt.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define INFLIGHT 1000 /* QoS 1 messages that wait for the server */

static uint64_t clock_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- the crew: what the library calls ---- */

static void went_up(struct sn_crew_job *job);
static void went_down(struct sn_crew_job *job);

void mqtt__lose(struct mqtt_instance *inst, const char *why)
{
	if (inst->c.lost || inst->c.mosq == NULL)
		return;
	inst->c.lost = true;
	(void)snprintf(inst->c.why, sizeof(inst->c.why), "%s", why);
}

static void on_connect(struct mosquitto *mosq, void *obj, int reason, int flags,
		const mosquitto_property *properties)
{
	struct mqtt_instance *inst = obj;

	if (reason != 0) {
		mqtt__lose(inst,
				inst->o->version == 0 ? mosquitto_reason_string(reason)
						      : mosquitto_connack_string(reason));
		return;
	}
	inst->c.connected = true;
	inst->c.deadline_ns = 0;
	sn__crew_to_loop(&inst->crew, &inst->up_job, went_up);
	mqtt__crew_resubscribe(inst);
}

static void on_disconnect(
		struct mosquitto *mosq, void *obj, int rc, const mosquitto_property *properties)
{
	mqtt__lose(obj, rc == 0 ? "disconnected" : mosquitto_strerror(rc));
}

static void on_publish(struct mosquitto *mosq, void *obj, int mid, int reason,
		const mosquitto_property *properties)
{
	mqtt__crew_published(obj, mid, reason);
}

static void on_subscribe(struct mosquitto *mosq, void *obj, int mid, int n, const int *granted,
		const mosquitto_property *properties)
{
	mqtt__crew_subscribed(obj, mid, n > 0 ? granted[0] : 128);
}

static void on_message(struct mosquitto *mosq, void *obj, const struct mosquitto_message *m,
		const mosquitto_property *properties)
{
	mqtt__crew_message(obj, m, properties);
}

/* ---- the crew: the connection ---- */

static int set_tls(struct mqtt_instance *inst, struct mosquitto *mosq)
{
	const struct mqtt_options *o = inst->o;
	int rc;

	if (!inst->tls)
		return MOSQ_ERR_SUCCESS;
	rc = mosquitto_tls_set(mosq, o->tls.ca, o->tls.ca == NULL ? "/etc/ssl/certs" : NULL,
			o->tls.cert, o->tls.key, NULL);
	if (rc == MOSQ_ERR_SUCCESS && !o->tls.verify)
		rc = mosquitto_tls_opts_set(mosq, 0, NULL, NULL);
	if (rc == MOSQ_ERR_SUCCESS && !o->tls.verify)
		rc = mosquitto_tls_insecure_set(mosq, true);
	return rc;
}

static int set_options(struct mqtt_instance *inst, struct mosquitto *mosq)
{
	const struct mqtt_options *o = inst->o;
	int rc = mosquitto_int_option(mosq, MOSQ_OPT_PROTOCOL_VERSION,
			o->version == 0 ? MQTT_PROTOCOL_V5 : MQTT_PROTOCOL_V311);

	mosquitto_connect_v5_callback_set(mosq, on_connect);
	mosquitto_disconnect_v5_callback_set(mosq, on_disconnect);
	mosquitto_publish_v5_callback_set(mosq, on_publish);
	mosquitto_subscribe_v5_callback_set(mosq, on_subscribe);
	mosquitto_message_v5_callback_set(mosq, on_message);
	if (rc == MOSQ_ERR_SUCCESS)
		rc = mosquitto_max_inflight_messages_set(mosq, INFLIGHT);
	if (rc == MOSQ_ERR_SUCCESS && o->user != NULL)
		rc = mosquitto_username_pw_set(mosq, o->user, o->password);
	if (rc == MOSQ_ERR_SUCCESS && o->will.topic != NULL)
		rc = mosquitto_will_set(mosq, o->will.topic, (int)strlen(o->will.payload),
				o->will.payload, o->will.qos, o->will.retain);
	return rc == MOSQ_ERR_SUCCESS ? set_tls(inst, mosq) : rc;
}

static void crew_connect(struct sn_crew_job *job)
{
	struct mqtt_instance *inst = SN_CONTAINER_OF(job, struct mqtt_instance, connect_job);
	struct mosquitto *mosq = mosquitto_new(inst->id, true, inst);
	int keep = (int)(inst->o->ping_interval_ms / 1000), rc = MOSQ_ERR_NOMEM;

	inst->c.mosq = mosq;
	inst->c.lost = inst->c.connected = false;
	inst->c.deadline_ns = clock_ns() + inst->o->connect_timeout_ms * 1000000;
	if (mosq != NULL)
		rc = set_options(inst, mosq);
	if (rc == MOSQ_ERR_SUCCESS)
		rc = mosquitto_connect_async(mosq, inst->server, (int)inst->port, keep);
	if (rc == MOSQ_ERR_SUCCESS)
		return;
	mqtt__lose(inst, rc == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(rc));
	if (mosq == NULL) {
		(void)snprintf(inst->c.why, sizeof(inst->c.why), "out of memory");
		sn__crew_to_loop(&inst->crew, &inst->down_job, went_down);
	}
}

static void crew_disconnect(struct sn_crew_job *job)
{
	struct mqtt_instance *inst = SN_CONTAINER_OF(job, struct mqtt_instance, close_job);

	if (inst->c.mosq != NULL)
		(void)mosquitto_disconnect(inst->c.mosq);
	mqtt__lose(inst, "closed");
}

/* No function of the library is running. */
static void crew_drop(struct mqtt_instance *inst)
{
	mosquitto_destroy(inst->c.mosq);
	inst->c.mosq = NULL;
	mqtt__crew_unpublished(inst);
	sn__crew_to_loop(&inst->crew, &inst->down_job, went_down);
}

/* Something has happened on the socket, or a second has passed. */
static void crew_step(struct mqtt_instance *inst, short events)
{
	struct mosquitto *mosq = inst->c.mosq;
	int rc = MOSQ_ERR_SUCCESS;

	if (events & (POLLIN | POLLHUP | POLLERR))
		rc = mosquitto_loop_read(mosq, 1);
	if (rc == MOSQ_ERR_SUCCESS && (events & POLLOUT))
		rc = mosquitto_loop_write(mosq, 1);
	if (rc == MOSQ_ERR_SUCCESS)
		rc = mosquitto_loop_misc(mosq);
	if (rc != MOSQ_ERR_SUCCESS)
		mqtt__lose(inst, rc == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(rc));
	if (inst->c.deadline_ns != 0 && clock_ns() > inst->c.deadline_ns)
		mqtt__lose(inst, "the server does not answer");
}

static void crew_main(struct sn_crew *crew)
{
	struct mqtt_instance *inst = SN_CONTAINER_OF(crew, struct mqtt_instance, crew);

	while (sn__crew_work(crew)) {
		struct pollfd p[2] = {{.fd = crew->wake, .events = POLLIN}};
		int fd = inst->c.mosq != NULL ? mosquitto_socket(inst->c.mosq) : -1;

		if (inst->c.mosq != NULL && (inst->c.lost || fd < 0)) {
			mqtt__lose(inst, "connection lost");
			crew_drop(inst);
			continue;
		}
		if (inst->c.mosq == NULL) {
			sn__crew_wait(crew, -1);
			continue;
		}
		p[1].fd = fd;
		p[1].events = POLLIN;
		if (mosquitto_want_write(inst->c.mosq) || !inst->c.connected)
			p[1].events |= POLLOUT;
		(void)poll(p, 2, inst->c.connected ? 1000 : 20);
		crew_step(inst, p[1].revents);
	}
}

/* ---- the connection: the loop's thread ---- */

static void tell(struct mqtt_instance *inst, bool up)
{
	if (inst->watch != NULL)
		inst->watch->changed(inst->watch, up, inst->why);
}

static void retry(struct sn_driver_task *task)
{
	struct mqtt_instance *inst = SN_CONTAINER_OF(task, struct mqtt_instance, timer);

	inst->state = MQTT_IDLE;
	mqtt__connect(inst);
}

static void wait_for_next(struct mqtt_instance *inst)
{
	uint64_t pause = inst->pause_ms;

	if (inst->closing) {
		inst->state = MQTT_IDLE;
		return;
	}
	inst->pause_ms = SN_MIN(2 * inst->pause_ms, inst->o->reconnect_max_ms);
	/* Not all clients of a server at the same time: up to a quarter off. */
	pause -= inst->host->now_ns(inst->host) / 1000 % (pause / 4 + 1);
	inst->state = MQTT_WAITING;
	inst->timer.fn = retry;
	inst->host->after(inst->host, &inst->timer, pause);
}

static void went_up(struct sn_crew_job *job)
{
	struct mqtt_instance *inst = SN_CONTAINER_OF(job, struct mqtt_instance, up_job);

	inst->attempted = true;
	inst->state = MQTT_UP;
	inst->pause_ms = inst->o->reconnect_min_ms;
	(void)snprintf(inst->why, sizeof(inst->why), "%s:%u", inst->server, inst->port);
	tell(inst, true);
	mqtt__ops_up(inst);
	mqtt__close_check(inst);
}

static void went_down(struct sn_crew_job *job)
{
	struct mqtt_instance *inst = SN_CONTAINER_OF(job, struct mqtt_instance, down_job);
	bool was_up = inst->state == MQTT_UP;
	bool news = was_up || !inst->attempted || strcmp(inst->why, inst->c.why) != 0;

	inst->attempted = true; /* the crew writes c.why with the next connection, which is ours */
	(void)snprintf(inst->why, sizeof(inst->why), "%s", inst->c.why);
	wait_for_next(inst);
	if (news)
		tell(inst, false);
	mqtt__ops_down(inst);
	mqtt__close_check(inst);
}

void mqtt__connect(struct mqtt_instance *inst)
{
	if (inst->state != MQTT_IDLE || inst->closing)
		return;
	if (sn__crew_start(&inst->crew) < 0) {
		wait_for_next(inst);
		return;
	}
	inst->state = MQTT_CONNECTING;
	sn__crew_to_thread(&inst->crew, &inst->connect_job, crew_connect);
}

static void first_value(struct sn_crew_job *job)
{
	struct mqtt_instance *inst = SN_CONTAINER_OF(job, struct mqtt_instance, watch_job);

	inst->watch->changed(inst->watch, inst->state == MQTT_UP, inst->attempted ? inst->why : "");
	inst->n_jobs--;
	mqtt__close_check(inst);
}

static void mqtt_watch(void *instance, struct sn_driver_watch *watch)
{
	struct mqtt_instance *inst = instance;

	if (inst->closing)
		return;
	inst->watch = watch;
	inst->n_jobs++;
	sn__crew_to_loop(&inst->crew, &inst->watch_job, first_value);
	mqtt__connect(inst);
}

/* ---- opening and closing ---- */

static int refuse(struct sn_driver_open *how, const char *why)
{
	(void)snprintf(how->error, sizeof(how->error), "%s", why);
	return SN_E_INVALID;
}

/* mqtt://HOST[:PORT], mqtts://HOST[:PORT], mqtt://[::1]:1883 */
static bool read_url(struct mqtt_instance *inst, const char *url)
{
	const char *host, *port;
	size_t n;

	inst->tls = strncmp(url, "mqtts://", 8) == 0;
	inst->port = inst->tls ? 8883 : 1883;
	if (!inst->tls && strncmp(url, "mqtt://", 7) != 0)
		return false;
	host = url + (inst->tls ? 8 : 7);
	n = host[0] == '[' ? strcspn(host, "]") : strcspn(host, ":");
	port = host[0] == '[' ? host + n + 1 : host + n;
	if (host[0] == '[' && host[n] != ']')
		return false;
	host += host[0] == '[';
	n -= url[strlen(url) - strlen(host) - 1] == '[';
	if (n == 0 || n >= sizeof(inst->server) || strcspn(host, "/ \t@") < n)
		return false;
	(void)snprintf(inst->server, sizeof(inst->server), "%.*s", (int)n, host);
	if (*port == '\0')
		return true;
	if (*port != ':' || strspn(port + 1, "0123456789") != strlen(port + 1) ||
			strlen(port + 1) > 5 || sscanf(port + 1, "%u", &inst->port) != 1)
		return false;
	return inst->port > 0 && inst->port < 65536;
}

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void library_init(void)
{
	(void)mosquitto_lib_init();
}

static int check(struct sn_driver_open *how, struct mqtt_instance *inst,
		const struct mqtt_options *o)
{
	uint64_t id;

	if (o == NULL || !read_url(inst, o->url))
		return refuse(how, "url: mqtt://HOST[:PORT] or mqtts://HOST[:PORT]");
	if (o->password != NULL && o->user == NULL)
		return refuse(how, "password: without user");
	if (o->tls.key != NULL && o->tls.cert == NULL)
		return refuse(how, "tls.key: without tls.cert");
	if (o->tls.cert != NULL && o->tls.key == NULL)
		return refuse(how, "tls.cert: without tls.key");
	if (o->will.topic != NULL && (mosquitto_pub_topic_check(o->will.topic) != 0))
		return refuse(how, "will.topic: not a topic");
	if (o->client_id != NULL &&
			(o->client_id[0] == '\0' || strlen(o->client_id) >= sizeof(inst->id)))
		return refuse(how, "client-id: 1 to 63 bytes");
	if (getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id))
		return refuse(how, "no random numbers");
	if (o->client_id != NULL)
		(void)snprintf(inst->id, sizeof(inst->id), "%s", o->client_id);
	else
		(void)snprintf(inst->id, sizeof(inst->id), "sinew-%016llx", (unsigned long long)id);
	return 0;
}

static int mqtt_open(void *instance, struct sn_driver_open *how)
{
	struct mqtt_instance *inst = instance;
	int r = check(how, inst, how->options);

	if (r < 0)
		return r;
	inst->host = how->host;
	inst->o = how->options;
	inst->pause_ms = inst->o->reconnect_min_ms;
	sn_list_init(&inst->subs);
	sn_list_init(&inst->ops);
	sn_list_init(&inst->c.routes);
	for (unsigned i = 0; i < MQTT_BUCKETS; i++)
		sn_list_init(&inst->c.buckets[i]);
	(void)pthread_once(&library_once, library_init);
	r = sn__crew_open(&inst->crew, inst->host, crew_main);
	if (r < 0)
		(void)snprintf(how->error, sizeof(how->error), "no descriptor for its thread");
	return r;
}

static void close_done(struct sn_crew_job *job)
{
	struct mqtt_instance *inst = SN_CONTAINER_OF(job, struct mqtt_instance, close_job);

	inst->done(inst->arg);
}

/* The steps of the end, each once; whatever goes calls it again. */
void mqtt__close_check(struct mqtt_instance *inst)
{
	if (!inst->closing || inst->stopping || !sn_list_empty(&inst->ops) ||
			!sn_list_empty(&inst->subs) || inst->n_jobs > 0)
		return;
	if (inst->state == MQTT_WAITING) {
		inst->host->undo(inst->host, &inst->timer);
		inst->state = MQTT_IDLE;
	}
	if (inst->state == MQTT_UP || inst->state == MQTT_CONNECTING) {
		if (!inst->disconnecting)
			sn__crew_to_thread(&inst->crew, &inst->close_job, crew_disconnect);
		inst->disconnecting = true; /* went_down() is still to come */
		return;
	}
	inst->stopping = true;
	sn__crew_stop(&inst->crew);
	sn__crew_to_loop(&inst->crew, &inst->close_job, close_done);
}

static void mqtt_close(void *instance, void (*done)(void *arg), void *arg)
{
	struct mqtt_instance *inst = instance;

	inst->closing = true;
	inst->done = done;
	inst->arg = arg;
	mqtt__ops_close(inst);
	mqtt__subs_close(inst);
	mqtt__close_check(inst);
}

static void mqtt_finish(void *instance)
{
	sn__crew_finish(&((struct mqtt_instance *)instance)->crew);
}

static const struct sn_driver_broker functions = {
		.size = sizeof(functions),
		.watch = mqtt_watch,
		.publish = mqtt__publish,
		.publish_cancel = mqtt__publish_cancel,
		.subscribe = mqtt__subscribe,
		.credit = mqtt__credit,
		.answer = mqtt__answer,
		.unsubscribe = mqtt__unsubscribe,
};

SN_API extern const struct sn_driver sn_driver_broker_mqtt;
const struct sn_driver sn_driver_broker_mqtt = {
		.abi = SN_DRIVER_ABI,
		.size = sizeof(struct sn_driver),
		.name = "mqtt",
		.topic = SN_TOPIC_BROKER,
		.summary = "MQTT 5 and 3.1.1",
		.capabilities = SN_DRIVER_BY_OPTIONS,
		.options = mqtt__options,
		.options_size = sizeof(struct mqtt_options),
		.state_size = sizeof(struct mqtt_instance),
		.open = mqtt_open,
		.close = mqtt_close,
		.finish = mqtt_finish,
		.ops = &functions,
};
