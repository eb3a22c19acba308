/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_BROKER_NATS_H
#define SN_SRC_CONNECT_BROKER_NATS_H

/*
 * Internal, of the module broker/nats: NATS and JetStream by libnats.
 *
 * Three kinds of threads. The loop's has everything of struct nats_instance except `conn`. The crew's
 * makes connections and calls every function of the library that may block: `conn` is its own. The
 * library's threads call on_message(), on_closed() and on_complete() (nats.c), which do nothing but
 * send a job to the loop.
 *
 * Reconnecting is done here and not by the library, so that there is one way to come up, nothing is
 * buffered while it is down, and it never gives up.
 */

#include <nats/nats.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/mem.h" /* its macros */
#include "connect/broker/crew.h"

#define NATS_WHY_MAX 160
#define NATS_KNOWN 64u
#define NATS_KNOWN_MAX 128u /* bytes of one */

struct nats_options {
	struct sn_option_list url;
	const char *name, *user, *password, *token, *creds;
	struct {
		bool on;
		const char *ca, *cert, *key, *server_name;
		bool verify;
	} tls;
	uint64_t connect_timeout_ms, ping_interval_ms, reconnect_min_ms, reconnect_max_ms;
	uint64_t timeout_ms; /* of acknowledgements of the stream */
	int64_t max_pending;
	uint64_t max_pending_bytes;
	struct {
		const char *name;
		struct sn_option_list subjects;
		int storage; /* 0: file, 1: memory */
		int64_t replicas;
		uint64_t max_age_ms, max_bytes, duplicates_ms;
	} stream;
	uint64_t ack_wait_ms;
	int64_t max_ack_pending;
};
extern const struct sn_option nats__options[];

/* One connection, from an attempt to its end. */
struct nats_conn {
	struct sn_crew_job job;
	struct nats_instance *inst;
	natsConnection *nc;
	jsCtx *js;
	natsStatus status;
	char url[NATS_WHY_MAX];                 /* when it is up */
	char why[NATS_WHY_MAX];                 /* when it is not */
	char known[NATS_KNOWN][NATS_KNOWN_MAX]; /* subjects that the stream takes; by hash */
};

enum nats_state {
	NATS_IDLE,       /* nobody has asked for a connection */
	NATS_CONNECTING, /* the crew is at it */
	NATS_UP,
	NATS_DROPPING, /* the connection has ended, what belonged to it is being freed */
	NATS_WAITING,  /* for the next attempt */
};

struct nats_feed;
struct nats_item;

struct nats_instance {
	struct sn_driver_host *host;
	const struct nats_options *o;
	struct sn_crew crew;
	enum nats_state state;
	bool attempted;              /* the first attempt has ended */
	struct nats_conn *loop_conn; /* UP, DROPPING; loop thread */
	struct nats_conn *conn;      /* the crew's thread */
	atomic_bool doubted;         /* an acknowledgement did not come: conn->known may be wrong */
	char inbox[48];              /* where answers arrive; const */
	char why[NATS_WHY_MAX];
	uint64_t pause_ms;
	struct sn_driver_task timer; /* NATS_WAITING */
	struct sn_driver_watch *watch;
	struct sn_crew_job watch_job;
	struct nats_feed *replies;
	struct sn_list feeds; /* nats_feed.link; the crew's thread */
	struct sn_list gone;  /* and those that are unsubscribed, until a flush */

	struct sn_list subs;      /* nats_sub.link */
	struct sn_list ops;       /* nats_op.link: not done */
	unsigned n_feeds, n_jobs; /* alive; jobs of ops and subs that the crew still has */
	unsigned feed_id;
	int64_t pending; /* messages under way */
	uint64_t pending_bytes;
	struct nats_op **slots;
	unsigned n_slots, next_slot;
	uint32_t generation;

	bool closing, stopping;
	struct sn_crew_job close_job, drop_job;
	void (*done)(void *arg);
	void *arg;
};

/* What the library delivers to: counted by the loop and by each subscription of the library. */
struct nats_feed {
	struct sn_crew_job job, crew_job;
	struct sn_list link; /* instance.feeds, .gone */
	struct nats_instance *inst;
	void (*handle)(struct nats_item *item); /* loop thread; takes it */
	void *owner;                            /* loop thread; NULL: nobody any more */
	atomic_uint refs;
	atomic_ulong queued, bytes, dropped;
	natsSubscription *ns; /* the crew's */
	const char *group;    /* behind the subject; NULL: none */
	unsigned id;          /* names an inbox */
	bool inbox;
	char subject[];
};
#define NATS_INBOX_MAX 96 /* bytes of the subject of an inbox */

/* A message of the library's, on its way. */
struct nats_item {
	struct sn_crew_job job;
	struct sn_list link; /* sub.queue */
	struct nats_instance *inst;
	struct nats_feed *feed; /* until it is answered it may be gone */
	struct nats_sub *sub;
	natsMsg *msg;
	size_t size;
	enum sn_driver_answer answer;
	uint32_t delay_ms;
	struct sn_driver_delivery pub;
	struct sn_driver_header *headers;
};

static inline void *nats_alloc(struct nats_instance *inst, size_t size)
{
	return sn_crew_alloc(inst->host, size);
}
static inline void nats_free(struct nats_instance *inst, void *p /* may be NULL */)
{
	sn_crew_free(inst->host, p);
}

/* nats.c */

/** Connect unless that is done or under way. */
void nats__connect(struct nats_instance *inst);
/** Something has gone: perhaps the last before close() is done. */
void nats__close_check(struct nats_instance *inst);
/** Counted once, for the caller. @subject "": an inbox. NULL: no memory. */
struct nats_feed *nats__feed_create(struct nats_instance *inst, const char *subject,
		const char *group /* may be NULL */, void (*handle)(struct nats_item *item),
		void *owner);
/** The loop lets go: owner is NULL from now on. The crew unsubscribes it. */
void nats__feed_drop(struct nats_feed *feed);
/** The crew's thread: subscribe it at the connection that there is, now and after each reconnection. */
natsStatus nats__feed_subscribe(struct nats_feed *feed);
/** The crew's thread: wait until the server has all that was sent. */
natsStatus nats__flush(struct nats_instance *inst);
/** Loop thread: it does not wait any more; each item once. */
void nats__item_count_down(struct nats_item *item);
void nats__item_free(struct nats_item *item); /* any thread */
/** Tokens of letters without blanks, wildcards only where @wild. */
bool nats__subject_valid(const char *subject, bool wild);
void nats__outcome(struct sn_driver_outcome *o, natsStatus status, enum sn_driver_sent sent,
		const char *detail /* NULL: the library's words */);

/* nats_send.c: publish and request */
int nats__publish(void *instance, struct sn_driver_publish *p);
void nats__publish_cancel(void *instance, struct sn_driver_publish *p, int code);
int nats__request(void *instance, struct sn_driver_request *req);
void nats__request_cancel(void *instance, struct sn_driver_request *req, int code);
void nats__on_reply(struct nats_item *item);
/** The first attempt has ended, or a connection: what waits goes out, or ends. */
void nats__ops_up(struct nats_instance *inst);
void nats__ops_down(struct nats_instance *inst);
void nats__ops_close(struct nats_instance *inst);

/* nats_subscribe.c */
int nats__subscribe(void *instance, struct sn_driver_subscription *sub);
void nats__credit(void *instance, struct sn_driver_subscription *sub, uint32_t more);
void nats__answer(void *instance, struct sn_driver_delivery *d, enum sn_driver_answer answer,
		uint32_t delay_ms);
void nats__unsubscribe(void *instance, struct sn_driver_subscription *sub, bool forget);
void nats__subs_up(struct nats_instance *inst);
void nats__subs_down(struct nats_instance *inst);
void nats__subs_close(struct nats_instance *inst);
/** The server does not permit to subscribe to @text's subject. */
void nats__subs_refused(struct nats_instance *inst, const char *text);

/* nats_stream.c: JetStream; the crew's thread */

/** The stream exists and takes @subject. @why: words when it fails. @ret_final: no other try can
 * succeed. */
natsStatus nats__stream_ensure(struct nats_instance *inst, const char *subject, char *why,
		size_t size, bool *ret_final);
natsStatus nats__consumer_ensure(struct nats_instance *inst, const char *durable,
		const char *filter, bool from_start, char *why, size_t size, bool *ret_final);
void nats__consumer_delete(struct nats_instance *inst, const char *durable);

#endif
