/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_BUS_H
#define SN_SRC_HUB_BUS_H

/*
 * Internal. Events by type, from publishers to subscribers. It knows nothing of how an event reaches a
 * subscriber: that is the dialect's, behind struct sn_bus_subscriber.
 *
 * Guarantee, as each subscriber chooses: at most once (kept in memory, lost with the process), or at
 * least once (kept in the log until the subscriber has acknowledged it, over restarts).
 *
 * Every subscriber has its own bounded queue; a slow or dead one never delays another. What happens when
 * it is full is its policy. Events of one publisher reach one subscriber in order (redelivery aside).
 *
 * Loop thread. Completion: exactly once, never before the call returned.
 */

#include "base/error.h"
#include "base/list.h"
#include "io/loop.h"

struct sn_bus;

/* Immutable, counted; one for all subscribers. */
struct sn_bus_event {
	unsigned refs;
	bool all;       /* for every node, not for subscribers of the type (broadcast) */
	uint64_t id[2]; /* random; the same at every hub, and when it is delivered again */
	struct sn_str type, source;
	struct sn_str data; /* JSON text; empty: the event has none */
	/* Whatever the dialect makes of it once for all subscribers (an encoded packet); freed with the
	 * event by free_encoded. */
	void *encoded;
	void (*free_encoded)(void *encoded);
};
SN_MUST_USE int sn__bus_event_create(struct sn_str type, struct sn_str source, struct sn_str data,
		bool all, struct sn_rng *rng, struct sn_bus_event **ret_event);
struct sn_bus_event *sn__bus_event_ref(struct sn_bus_event *event);
void sn__bus_event_unref(struct sn_bus_event *event /* may be NULL */);

/* ---- subscribers ---- */

enum sn_bus_full {
	SN_BUS_DROP_OLDEST, /* the oldest queued event is lost, and counted */
	SN_BUS_BLOCK,       /* the publisher waits: its done() comes later */
	SN_BUS_DISCONNECT, /* the subscriber is told gone(), and its queue is dropped (at least once:
	                     * stays in the log) */
};

struct sn_bus_subscriber;
struct sn_bus_subscriber_ops {
	/** Deliver: at most `window` are under way. Ends with sn__bus_delivered(), never inside. */
	void (*deliver)(struct sn_bus_subscriber *s, struct sn_bus_event *event);
	/** Its queue overflowed (SN_BUS_DISCONNECT): it is not subscribed any more. */
	void (*gone)(struct sn_bus_subscriber *s);
};
/* Embedded in the dialect's object. */
struct sn_bus_subscriber {
	/* filled by the owner before sn__bus_attach(), everything else zero */
	const struct sn_bus_subscriber_ops *ops;
	const char *id;   /* names it in the log and in what is counted; lives as long as it */
	unsigned window;  /* deliveries at once; 0: 1 */
	size_t queue_max; /* events; 0: 1000 */
	size_t queue_bytes_max; /* 0: 8 MiB */
	enum sn_bus_full full;
	bool at_least_once;
	uint32_t retry_min_ms, retry_max_ms; /* at least once: pause between tries; 0: 100, 30000 */
	/* counts, read by anybody */
	uint64_t delivered, failed, dropped;
	size_t queued;
	/* the bus's */
	struct sn_list link, queue;
	void *bus[12];
};
SN_MUST_USE int sn__bus_attach(struct sn_bus *bus, struct sn_bus_subscriber *s);
/** No deliver() follows; those under way are forgotten. @forget: what the log keeps for it goes too. */
void sn__bus_detach(struct sn_bus_subscriber *s, bool forget);
/** Types are a set. SN_E_NOMEM, SN_E_LIMIT. Twice is once. */
SN_MUST_USE int sn__bus_subscribe(struct sn_bus_subscriber *s, struct sn_str type);
/** SN_E_NOT_FOUND. */
int sn__bus_unsubscribe(struct sn_bus_subscriber *s, struct sn_str type);
/** A delivery has ended: 0 it has taken the event; else at least once tries again, at most once counts
 * it as failed. */
void sn__bus_delivered(struct sn_bus_subscriber *s, struct sn_bus_event *event, int code);

/* ---- publishing ---- */

struct sn_bus_publish;
struct sn_bus_publish {
	/** Exactly once: the event is where it must be (queued; in the log when a subscriber wants at least
	 * once; at the link when there is one). @subscribers: of this hub. */
	void (*done)(struct sn_bus_publish *p, int code, unsigned subscribers);
	/** May be NULL: told of each subscriber's delivery at this hub as it ends, before or after done(). */
	void (*result)(struct sn_bus_publish *p, const char *subscriber, int code);
	struct sn_list link; /* the bus's */
	void *bus[8];
};
/** SN_E_NOMEM, SN_E_CLOSED: nothing follows. */
SN_MUST_USE int sn__bus_publish(
		struct sn_bus *bus, struct sn_bus_event *event, struct sn_bus_publish *p);

/* ---- what connects hubs, and what keeps events ---- */

/* A link carries events between the buses of several hubs (NATS). */
struct sn_bus_link;
struct sn_bus_link {
	struct sn_bus *bus; /* set by the bus */
	/** Send to the other hubs; sn__bus_link_sent() follows, never inside. */
	void (*send)(struct sn_bus_link *link, struct sn_bus_event *event, void *token);
	void (*close)(struct sn_bus_link *link, void (*done)(void *arg), void *arg);
};
void sn__bus_link_sent(struct sn_bus_link *link, void *token, int code);
/** An event of another hub (never one that this hub sent): delivered to this hub's subscribers. @done
 * (may be NULL): it is where it must be, and may be acknowledged to the link's system. */
void sn__bus_link_received(struct sn_bus_link *link, struct sn_bus_event *event,
		void (*done)(void *arg, int code), void *arg);

/* The log keeps what at-least-once subscribers have not acknowledged. */
struct sn_bus_log;
struct sn_bus_log {
	/** Keep @event for the subscribers @ids (NULL-ended); done once it would survive a crash. */
	void (*keep)(struct sn_bus_log *log, struct sn_bus_event *event, const char *const *ids,
			void (*done)(void *arg, int code), void *arg);
	/** It has been acknowledged. May be written lazily: twice delivered is allowed. */
	void (*forget)(struct sn_bus_log *log, const struct sn_bus_event *event, const char *id);
	/** Everything kept for @id, in order. @event: a new reference each. */
	void (*read)(struct sn_bus_log *log, const char *id,
			void (*event)(void *arg, struct sn_bus_event *event),
			void (*done)(void *arg, int code), void *arg);
	void (*drop)(struct sn_bus_log *log, const char *id); /* everything of @id */
	void (*close)(struct sn_bus_log *log, void (*done)(void *arg), void *arg);
};
struct sn_connect_host;
/** In an SQLite file (bus_log.c). */
SN_MUST_USE int sn__bus_log_open(struct sn_connect_host *host, const char *path,
		struct sn_bus_log **ret_log, struct sn_error *err);

struct sn_bus_options {
	struct sn_bus_link *link; /* NULL: this hub alone; the bus closes it */
	struct sn_bus_log
			*log; /* NULL: at least once is refused (SN_E_NOTSUP); the bus closes it */
	size_t max_subscribers; /* 0: 100000 */
	size_t max_bytes;       /* of all queues; 0: 64 MiB: then publishers wait */
};
SN_MUST_USE int sn__bus_create(
		struct sn_loop *loop, const struct sn_bus_options *opts, struct sn_bus **ret_bus);
/** Subscribers must be detached. Publishes under way end with SN_E_CLOSED. */
void sn__bus_close(struct sn_bus *bus, void (*done)(void *arg), void *arg);

#endif
