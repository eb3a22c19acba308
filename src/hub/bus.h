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

#define SN_BUS_TYPE_MAX 512u   /* bytes of a type */
#define SN_BUS_TYPES_MAX 1024u /* of one subscriber */

/* Immutable, counted; one for all subscribers. */
struct sn_bus_event {
	unsigned refs;
	unsigned queued; /* the bus's: queues that hold it */
	bool all;        /* for every node, not for subscribers of the type (broadcast) */
	uint64_t id[2];  /* random; the same at every hub, and when it is delivered again */
	struct sn_str type, source;
	struct sn_str data; /* JSON text; empty: the event has none */
	/* Whatever the dialect makes of it once for all subscribers (an encoded packet); freed with the
	 * event by free_encoded. */
	void *encoded;
	void (*free_encoded)(void *encoded);
};
/** The texts are copied. SN_E_INVALID (no type, or too long), SN_E_NOMEM. */
SN_MUST_USE int sn__bus_event_create(struct sn_str type, struct sn_str source, struct sn_str data,
		bool all, struct sn_rng *rng, struct sn_bus_event **ret_event);
struct sn_bus_event *sn__bus_event_ref(struct sn_bus_event *event);
void sn__bus_event_unref(struct sn_bus_event *event /* may be NULL */);

/* ---- subscribers ---- */

enum sn_bus_full {
	/* At most once: the oldest queued event is lost, and counted. At least once: nothing is lost;
	 * what does not fit stays in the log and is read from there when there is room. */
	SN_BUS_DROP_OLDEST,
	/* The publisher waits: its done() comes later. */
	SN_BUS_BLOCK,
	/* The subscriber is told gone(), and its queue is dropped (at least once: stays in the log). */
	SN_BUS_DISCONNECT,
};

struct sn_bus_subscriber;
struct sn_bus_subscriber_ops {
	/** Deliver: at most `window` are under way. Ends with sn__bus_delivered(), never inside. The
	 * event is there until then, or until it is detached. */
	void (*deliver)(struct sn_bus_subscriber *s, struct sn_bus_event *event);
	/** Its queue overflowed (SN_BUS_DISCONNECT): it is detached. May be NULL otherwise. */
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
	/* Counts, read by anybody: offered = delivered + failed + dropped + queued, at any time.
	 * Queued are also those under way and those that are in the log only. */
	uint64_t offered, delivered, failed, dropped, redelivered;
	size_t queued;
	/* the bus's; NULL: not attached */
	struct sn_bus_member *member;
};
/** From now on it gets broadcasts; at least once: what the log has kept under its id comes first.
 * SN_E_NOMEM, SN_E_LIMIT (max_subscribers), SN_E_NOTSUP (at least once without a log), SN_E_CLOSED,
 * SN_E_EXISTS (at least once: the id is attached). */
SN_MUST_USE int sn__bus_attach(struct sn_bus *bus, struct sn_bus_subscriber *s);
/** No deliver() follows; those under way are forgotten, and what is queued counts as dropped.
 * @forget: what the log keeps for it goes too; else it comes when the id is attached again (what is
 * published meanwhile is not kept for it). Not attached: nothing happens. */
void sn__bus_detach(struct sn_bus_subscriber *s, bool forget);
/** Types are a set. Twice is once. SN_E_NOMEM, SN_E_LIMIT (SN_BUS_TYPES_MAX), SN_E_STATE (not
 * attached). */
SN_MUST_USE int sn__bus_subscribe(struct sn_bus_subscriber *s, struct sn_str type);
/** What is queued is still delivered. SN_E_NOT_FOUND. */
int sn__bus_unsubscribe(struct sn_bus_subscriber *s, struct sn_str type);
/** Of an attached one: from now on so many deliveries at once (at most queue_max). */
void sn__bus_set_window(struct sn_bus_subscriber *s, unsigned window);
/** A delivery has ended: 0 it has taken the event; else at least once tries again, at most once counts
 * it as failed. Of a delivery that was forgotten: nothing happens. */
void sn__bus_delivered(struct sn_bus_subscriber *s, struct sn_bus_event *event, int code);

/* ---- publishing ---- */

struct sn_bus_publish;
struct sn_bus_publish {
	/** Exactly once: the event is where it must be (queued; in the log when a subscriber wants at least
	 * once; at the link when there is one). @subscribers: of this hub. An error: some may have it,
	 * and may get it again when it is published again (as another event). */
	void (*done)(struct sn_bus_publish *p, int code, unsigned subscribers);
	/** May be NULL: told of each of the @subscribers once: how its (first) delivery ended, before or
	 * after done(), maybe inside sn__bus_delivered() or sn__bus_detach(). SN_E_LIMIT: it was dropped, or is in the log for later; SN_E_CLOSED: the
	 * subscriber has left. The object must stay until done() and as many results have come, or
	 * sn__bus_publish_forget(). */
	void (*result)(struct sn_bus_publish *p, const char *subscriber, int code);
	struct sn_list link; /* the bus's */
	void *bus[8];
};
/** @event: a reference is taken. SN_E_NOMEM, SN_E_LIMIT (max_publishes), SN_E_CLOSED: nothing follows. */
SN_MUST_USE int sn__bus_publish(
		struct sn_bus *bus, struct sn_bus_event *event, struct sn_bus_publish *p);
/** Nothing is called any more and the object is free; the event goes its way. Before done(), or after
 * it when results are outstanding. */
void sn__bus_publish_forget(struct sn_bus_publish *p);

/* ---- what connects hubs, and what keeps events ---- */

/* A link carries events between the buses of several hubs (NATS). */
struct sn_bus_link;
struct sn_bus_link {
	struct sn_bus *bus; /* set by the bus */
	/** Send to the other hubs; sn__bus_link_sent() follows exactly once, never inside: 0, they have
	 * it as surely as the link promises (handed to the server; or stored there). The event is there
	 * until then. At most max_publishes are under way. */
	void (*send)(struct sn_bus_link *link, struct sn_bus_event *event, void *token);
	/** Sends under way end with SN_E_CLOSED before @done. Nothing is called afterwards. */
	void (*close)(struct sn_bus_link *link, void (*done)(void *arg), void *arg);
};
void sn__bus_link_sent(struct sn_bus_link *link, void *token, int code);
/** An event of another hub (never one that this hub sent): delivered to this hub's subscribers. @event:
 * a reference is taken. @done (may be NULL): it is where it must be (queued, or in the log for those
 * who want it at least once), and may be acknowledged to the link's system; later when a subscriber's
 * policy is to block. SN_E_AGAIN (held), SN_E_NOMEM, SN_E_LIMIT (max_publishes), SN_E_CLOSED: nothing
 * follows. */
SN_MUST_USE int sn__bus_link_received(struct sn_bus_link *link, struct sn_bus_event *event,
		void (*done)(void *arg, int code), void *arg);

/** What links bring is refused while the subscribers of before are not attached again. */
void sn__bus_hold_links(struct sn_bus *bus, bool hold);

/* The log keeps what at-least-once subscribers have not acknowledged. Its functions are carried out in
 * the order of the calls. */
struct sn_bus_log;
struct sn_bus_log {
	uint64_t last; /* the highest `seq` ever kept; after opening */
	/* Of one subscriber, about: beyond, its oldest are lost. 100000; may be changed after opening. */
	uint64_t kept_max;
	uint64_t dropped; /* so many were */
	/** Keep @event for the subscribers @ids (NULL-ended, read during the call); done once it would
	 * survive a crash, never inside. @seq: one more than the one before. SN_E_NOMEM: no done(). */
	int (*keep)(struct sn_bus_log *log, uint64_t seq, struct sn_bus_event *event,
			const char *const *ids, void (*done)(void *arg, int code), void *arg);
	/** It has been acknowledged. Written lazily: twice delivered is allowed. */
	void (*forget)(struct sn_bus_log *log, uint64_t seq, const char *id);
	/** What is kept for @id with a greater seq than @after, in order, at most @limit. @event: a new
	 * reference each. SN_E_NOMEM: no done(). */
	int (*read)(struct sn_bus_log *log, const char *id, uint64_t after, unsigned limit,
			void (*event)(void *arg, uint64_t seq, struct sn_bus_event *event),
			void (*done)(void *arg, int code), void *arg);
	void (*drop)(struct sn_bus_log *log, const char *id); /* everything of @id */
	/** What is under way is finished first. */
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
	size_t max_publishes;   /* not done yet; 0: 10000 */
	/* Of all queued events, each counted once; 0: 64 MiB. When they are more, every subscriber with a
	 * backlog may only have its share of it, and its policy holds. */
	size_t max_bytes;
};
SN_MUST_USE int sn__bus_create(
		struct sn_loop *loop, const struct sn_bus_options *opts, struct sn_bus **ret_bus);
/** Subscribers are detached (without forgetting). Publishes under way end with SN_E_CLOSED; then @done,
 * and it is freed. */
void sn__bus_close(struct sn_bus *bus, void (*done)(void *arg), void *arg);

struct sn_bus_counts {
	uint64_t published, received; /* here, and by the link */
	uint64_t sent, send_failed;   /* to the link */
	uint64_t log_failed;          /* events the log did not take */
	uint64_t log_dropped;         /* that it had, of subscribers too far behind */
	/* of all subscribers, those that have left too */
	uint64_t offered, delivered, failed, dropped, redelivered, disconnected;
	size_t subscribers, types, queued, queued_bytes, publishing;
};
void sn__bus_counts(const struct sn_bus *bus, struct sn_bus_counts *ret_counts);

#endif
