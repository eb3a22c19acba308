/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_BUS_IMPL_H
#define SN_SRC_HUB_BUS_IMPL_H

/*
 * Internal, for bus*.c only.
 *
 *	bus.c           the bus, its subscribers and their types
 *	bus_publish.c   events come in and are offered to subscribers, the log and the link
 *	bus_queue.c     a subscriber's queue, its deliveries, what it reads from the log
 *	bus_log.c       the log in SQLite
 *
 * Everything that calls out (deliver, done, gone) happens in one task of the bus: publish() and
 * sn__bus_delivered() only note what there is to do. In that order: events that came in are routed,
 * subscribers that overflowed are told, those with something to deliver are served, publishers are
 * told, and what has left is freed.
 *
 * What is routed in one turn reaches the log as one transaction. An event is offered to its subscribers
 * without waiting for that; it is the publisher who waits.
 */

#include "base/map.h"
#include "base/mem.h"
#include "hub/bus.h"

#define BUS_ASIDE_MAX 64u  /* events of one subscriber that fail again and again */
#define BUS_ASIDE_AFTER 3u /* failures in a row that make it one of those */
#define BUS_READ_MAX 64u   /* events read from the log at once */
#define BUS_READ_PAUSE_MS 1000u

/* A publication under way; taken from a pool. */
struct bus_pub {
	struct sn_list link; /* sn_bus.incoming, .open, .finished, .pool */
	struct sn_bus *bus;
	struct sn_bus_publish *p; /* NULL: forgotten, or received by the link */
	struct sn_bus_event *event;
	void (*received)(void *arg, int code); /* of the link; may be NULL */
	void *received_arg;
	unsigned refs;    /* one until done, one for each slot that has it */
	unsigned waiting; /* for the log, the link, subscribers that block */
	unsigned subscribers;
	int code;
	bool by_link, routed;
};

struct bus_slot {
	struct sn_bus_event *event;
	struct bus_pub *pub; /* to be told, or to be let go; may be NULL */
	uint64_t seq;        /* in the log; 0: it is not */
	uint64_t due_ns;     /* set aside: when it is tried again */
	uint32_t tries;
};

struct bus_topic;
struct bus_membership {
	struct bus_topic *topic;
	struct sn_bus_member *member;
	struct sn_list link; /* sn_bus_member.topics */
	uint32_t index;      /* in topic->list */
};

struct bus_topic {
	struct bus_membership **list; /* NULL: it has left while the topic was busy */
	uint32_t n, cap;
	uint32_t n_live;
	bool busy; /* being walked */
	uint32_t len;
	char type[];
};

struct sn_bus_member {
	struct sn_bus *bus;
	struct sn_bus_subscriber *s; /* NULL: it has left */
	struct sn_list link;         /* sn_bus.members, or .left */
	struct sn_list ready;        /* sn_bus.ready, or .overflowed */
	struct sn_list topics;       /* bus_membership.link */
	struct bus_membership all;
	unsigned n_topics;
	/* The queue: a ring. The first `admitted` are within the limits, those behind them block their
	 * publishers. There is always room for what is under way or aside to come back. */
	struct bus_slot *ring;
	uint32_t cap, head, len, admitted;
	size_t bytes; /* of admitted ones, and those under way and aside */
	struct bus_slot *flight;
	uint32_t n_flight, flight_cap, window;
	struct bus_slot *aside; /* BUS_ASIDE_MAX; NULL until needed */
	uint32_t n_aside;
	uint32_t failures; /* in a row */
	uint64_t paused_until_ns;
	struct sn_timer timer;
	/* At least once. Behind: there are events in the log that are not here. */
	bool behind, reading, more, short_read;
	bool overflowed;
	size_t n_behind; /* of those that were offered */
	unsigned n_read;
	uint64_t last_seq;   /* of what has been here, or passed */
	uint64_t attach_seq; /* up to here it was offered before it was attached */
	char id[];
};

struct sn_bus {
	struct sn_loop *loop;
	struct sn_bus_options opts;
	struct sn_map topics; /* bus_topic by type */
	struct sn_map ids;    /* sn_bus_member by id: those at least once */
	struct bus_topic *all;
	struct sn_list members, left;                  /* sn_bus_member.link */
	struct sn_list ready, overflowed;              /* sn_bus_member.ready */
	struct sn_list incoming, open, finished, pool; /* bus_pub.link */
	struct sn_bus_member **keepers; /* scratch: who wants the event at hand at least once */
	size_t n_keepers, keepers_cap;
	size_t n_busy; /* subscribers with a backlog */
	bool links_held;
	uint64_t seq;
	struct sn_task task;
	struct sn_bus_counts counts;
	bool closing, ended;
	enum { BUS_OPEN, BUS_CLOSING_LINK, BUS_CLOSING_LOG, BUS_CLOSED } stage;
	void (*done)(void *arg);
	void *done_arg;
};

/* bus.c */
void sn__bus_wake(struct sn_bus *bus);
void sn__bus_topic_release(struct sn_bus *bus, struct bus_topic *t);

/* bus_publish.c */
void sn__bus_route_all(struct sn_bus *bus);
void sn__bus_tell_publishers(struct sn_bus *bus);
/** Something it waited for has come. */
void sn__bus_pub_step(struct bus_pub *pub, int code);
void sn__bus_pub_unref(struct bus_pub *pub);
/** Tell how its delivery to @m has ended; @slot does not have it any more. */
void sn__bus_pub_result(struct bus_slot *slot, struct sn_bus_member *m, int code);
static inline size_t sn_bus_bytes(const struct sn_bus_event *e)
{
	return sizeof(*e) + e->type.len + e->source.len + e->data.len;
}

/* bus_queue.c */
/** Queue @event by the subscriber's policy. @seq: in the log; 0: it is not. */
void sn__bus_offer(struct sn_bus_member *m, struct bus_pub *pub, uint64_t seq);
void sn__bus_serve(struct sn_bus_member *m);
/** Everything it has is let go. */
void sn__bus_queue_drop(struct sn_bus_member *m, int code);

#endif
