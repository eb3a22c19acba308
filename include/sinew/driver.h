/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_DRIVER_H
#define SN_DRIVER_H

#ifndef SN_UNSTABLE
#error "sinew/driver.h may still change; define SN_UNSTABLE to use it"
#endif

/**
 * For authors of drivers. A driver implements one type (dynamodb, kinesis, redis) of one topic
 * (database, broker, data store, metadata store). It fills one const struct sn_driver and is either
 * built in or a module: a shared object sinew-TOPIC-TYPE.so that exports that struct as
 * `sn_driver_TOPIC_TYPE` and needs no symbol of libsinew: what it asks of the core goes through
 * struct sn_driver_host.
 *
 * Threads: everything here is called on the loop's thread, and nothing may block it. Only
 * sn_driver_host.post may be called from any thread.
 */

#include <stdbool.h>

#include <sinew/base.h>
#include <sinew/option.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Changes with every incompatible change of this header. Tables may grow at their ends without. */
#define SN_DRIVER_ABI 1u

enum sn_topic {
	SN_TOPIC_DATABASE,
	SN_TOPIC_BROKER,
	SN_TOPIC_DATA,
	SN_TOPIC_META,
};

/* ---- what the core offers ---- */

/** A function to be run later; embedded in what it belongs to, everything but fn zero. */
struct sn_driver_task {
	void (*fn)(struct sn_driver_task *task);
	void *core[6]; /* the core's */
};

/** Readiness of a descriptor of the driver's client library. */
struct sn_driver_poll;
#define SN_DRIVER_READABLE 1u
#define SN_DRIVER_WRITABLE 2u

/** A name being resolved; embedded in what it belongs to. */
#define SN_DRIVER_ADDRESSES_MAX 16
struct sn_driver_lookup {
	/** filled by the driver: once, never before resolve() returned. @code: 0, or SN_E_RESOLVE,
	 * SN_E_TIMEOUT, SN_E_NOMEM with words in `detail`. */
	void (*done)(struct sn_driver_lookup *lookup, int code);
	/* the result, until done() returns */
	unsigned n_addresses;
	char addresses[SN_DRIVER_ADDRESSES_MAX][48]; /* "192.0.2.1", "2001:db8::1", best first */
	const char *detail;
	void *core[2]; /* the core's */
};

/** Lives until finish() has been called. Built-in drivers get more: src/connect/driver.h. */
struct sn_driver_host {
	size_t size; /* of this struct: what lies behind an older core's end must not be called */
	/** Run the task in the next turn, never before this returned. At most once queued. */
	void (*defer)(struct sn_driver_host *host, struct sn_driver_task *task);
	/** The same from any thread; it must stay valid until it ran. */
	void (*post)(struct sn_driver_host *host, struct sn_driver_task *task);
	/** Run the task in @ms milliseconds; again: at the new time. */
	void (*after)(struct sn_driver_host *host, struct sn_driver_task *task, uint64_t ms);
	/** It does not run any more. For defer and after. */
	void (*undo)(struct sn_driver_host *host, struct sn_driver_task *task);
	/** Monotonic nanoseconds of this turn. */
	uint64_t (*now_ns)(struct sn_driver_host *host);
	/** One line for the log: no secrets. @level: 0 error, 1 warning, 2 information, 3 debug. */
	void (*log)(struct sn_driver_host *host, int level, const char *line);
	/** realloc() that the core counts, for modules: @p NULL: new, @size 0: freed. NULL: out of memory,
	 * @p is as it was. Any thread. */
	void *(*memory)(struct sn_driver_host *host, void *p /* may be NULL */, size_t size);
	/** Watch @fd, which stays the caller's; fn is called with what it is ready for. SN_E_NOTSUP (the
	 * simulated loop), SN_E_NOMEM, SN_E_IO. */
	int (*poll_open)(struct sn_driver_host *host, int fd,
			void (*fn)(unsigned events, void *arg), void *arg,
			struct sn_driver_poll **ret_poll);
	/** @events: SN_DRIVER_READABLE | SN_DRIVER_WRITABLE; 0: rest. At first it rests. */
	void (*poll_want)(struct sn_driver_poll *poll, unsigned events);
	/** No call afterwards; before @fd is closed. Harmless inside fn. */
	void (*poll_close)(struct sn_driver_poll *poll);
	/** By the core's own resolver, off the loop's way. @name: a name or an address, copied.
	 * SN_E_INVALID, SN_E_NOMEM: nothing follows. */
	int (*resolve)(struct sn_driver_host *host, struct sn_driver_lookup *lookup,
			const char *name);
	/** done() does not follow. Harmless afterwards. */
	void (*resolve_cancel)(struct sn_driver_host *host, struct sn_driver_lookup *lookup);
};

/* ---- instances ---- */

/** What an instance is opened from: a peer of the catalog, or a section of the file. Texts live until
 * finish() has been called. */
struct sn_driver_open {
	size_t size;
	struct sn_driver_host *host;
	/* from the file: the struct of the option table, filled and checked. NULL: from a peer */
	const void *options;
	/* from a peer */
	const char *peer;   /* the entry as it came, JSON. NULL: from the file */
	const char *config; /* its `config`, a JSON object; "{}" when it has none. Members that the
	                       * driver does not know are ignored, and named in the log once */
	const char *resource; /* of the table or stream: tableName, streamName, else name; "" */
	char error[256];      /* open() failed: one clear sentence, no secrets */
};

/* ---- native calls ---- */

/** What it does to the service to run an operation twice. */
enum sn_driver_safety {
	SN_DRIVER_SAFE,       /* changes nothing */
	SN_DRIVER_IDEMPOTENT, /* twice is once */
	SN_DRIVER_UNSAFE,
};

struct sn_driver_operation {
	const char *name; /* "PutItem"; case matters. NULL ends the table */
	enum sn_driver_safety safety;
	unsigned flags; /* the driver's own */
};

enum sn_driver_verdict {
	SN_DRIVER_OK,
	SN_DRIVER_FAILED, /* broken connection, 5xx: counts against the service, may be retried */
	SN_DRIVER_THROTTLED,   /* the service asks for less; may be retried */
	SN_DRIVER_REJECTED,    /* the service refused: no other try can succeed */
	SN_DRIVER_UNAVAILABLE, /* away for now (503); may be retried */
};
enum sn_driver_sent { SN_DRIVER_SENT_NO, SN_DRIVER_SENT_MAYBE, SN_DRIVER_SENT_YES };

/** How a call ended; only the driver can know. */
struct sn_driver_outcome {
	enum sn_driver_verdict verdict;
	enum sn_driver_sent sent; /* NO: not a byte of it has left */
	int code; /* SN_E_ code, 0 for OK. SN_E_STATUS: a 5xx (in foreign); SN_E_REJECTED: refused by
	           * the service (type and message say why) or by missing credentials; SN_E_CONNECT,
	           * SN_E_RESOLVE, SN_E_TLS, SN_E_TIMEOUT, SN_E_RESET, SN_E_EOF, ...; what cancel() said */
	int foreign;            /* errno, status or the like */
	int64_t retry_after_ms; /* the service's own wish; -1: none */
	char detail[96];        /* one clause: "connection refused", "status 503" */
};

/** One call; embedded in the caller's operation. */
struct sn_driver_call {
	/* filled by the core, everything else zero; texts live until done() */
	const struct sn_driver_operation *operation;
	const char *params; /* a JSON object with a NUL behind it */
	size_t params_size;
	uint32_t connect_timeout_ms; /* policies that bound parts of it; the whole is bounded by */
	uint32_t idle_timeout_ms;    /* cancel() */
	uint64_t max_result;         /* bytes of the answer: beyond, SN_E_LIMIT */
	void *state; /* sn_driver_calls.state_size zeroed bytes of the driver's own */
	/**
	 * Exactly once, never before start() returned. What is below is read inside, and when it
	 * returns the call and its state are gone: touch neither afterwards.
	 */
	void (*done)(struct sn_driver_call *call);

	/* the result */
	struct sn_driver_outcome outcome;
	const char *result; /* OK: a JSON object, need not end with a NUL; lives until done() returns. The
	                     * core checks it: what is none is a broken answer */
	size_t result_size; /* 0: {} */
	char type[96];     /* REJECTED and the like: the service's name of the error, "" for none */
	char message[256]; /* its sentence, cut to fit */
	char request_id[96]; /* the service's; "" for none */

	void *core; /* the core's */
};

struct sn_driver_calls {
	size_t size; /* sizeof(struct sn_driver_calls) */
	const struct sn_driver_operation *operations;
	size_t state_size; /* bytes the core keeps for each call */
	/** SN_E_NOMEM or the like, put in words in call->outcome.detail: nothing follows. */
	int (*start)(void *instance, struct sn_driver_call *call);
	/** done() follows in a later turn, with @code unless the answer was quicker. At most once a
	 * call; @code: SN_E_TIMEOUT, SN_E_DEADLINE, SN_E_CANCELLED, SN_E_CLOSED. */
	void (*cancel)(void *instance, struct sn_driver_call *call, int code);
	/** What it does to run this operation with these @params (a checked JSON object) twice, where a
	 * condition or a token of the caller's makes a difference. NULL: as the operation says. */
	enum sn_driver_safety (*safety)(const struct sn_driver_operation *operation,
			const char *params, size_t size);
};

/* ---- functions of SN_TOPIC_BROKER: struct sn_driver.ops points to a struct sn_driver_broker ---- */

struct sn_driver_header {
	const char *name, *value;
};

struct sn_driver_message {
	const char *subject; /* or topic, in the broker's own spelling; no wildcards */
	const char *reply; /* where an answer is expected; NULL: none, or the broker has no such thing */
	const void *payload; /* any bytes; may be NULL when size is 0 */
	size_t size;
	const struct sn_driver_header *headers; /* brokers without headers ignore them */
	size_t n_headers;
};

/** Messages to be published; embedded in the caller's operation. */
struct sn_driver_publish {
	/* filled by the core, everything else zero; messages and what they refer to live until done() */
	const struct sn_driver_message *messages;
	size_t n;     /* 1 or more; sent in this order */
	bool durable; /* OK means the broker keeps it (a stream, QoS 1); else that it was written to a
	               * connection that was up. SN_E_NOTSUP where the broker cannot */
	struct sn_driver_outcome *outcomes; /* n of them, the driver's to fill. Disconnected:
	                                     * SN_DRIVER_UNAVAILABLE at once, nothing is kept for later.
	                                     * Too large, no permission: SN_DRIVER_REJECTED */
	/** Exactly once, never before publish() returned. */
	void (*done)(struct sn_driver_publish *p);
	void *driver; /* the driver's */
	void *core;   /* the core's */
};

/** A message that is answered by one message: request-reply. */
struct sn_driver_request {
	/* filled by the core, everything else zero; texts live until done() */
	struct sn_driver_message message; /* reply is the driver's */
	uint32_t timeout_ms;              /* for the answer; 1 or more */
	/** Exactly once, never before request() returned. */
	void (*done)(struct sn_driver_request *req);

	/* the result */
	struct sn_driver_outcome outcome; /* nobody listens there: SN_DRIVER_UNAVAILABLE with
	                                   * SN_E_NO_PEER; no answer in time: SN_DRIVER_FAILED with
	                                   * SN_E_TIMEOUT */
	struct sn_driver_message answer;  /* when OK; lives until done() returns */
	void *driver;
	void *core;
};

struct sn_driver_subscription;

/** A message for a subscription, the driver's, until it has been answered. */
struct sn_driver_delivery {
	struct sn_driver_message message;
	struct sn_driver_subscription *sub;
	unsigned attempt; /* 1: the first; 0: not known */
	void *core;       /* the core's */
};

enum sn_driver_answer {
	SN_DRIVER_ACK,    /* it need not come again */
	SN_DRIVER_NACK,   /* it could not be handled now: deliver it again, to anybody */
	SN_DRIVER_REJECT, /* no other try can succeed: it is not to come again */
};

/** A subscription; embedded in the caller's object, from subscribe() to ended(). */
struct sn_driver_subscription {
	/* filled by the core, everything else zero; texts live until ended() */
	const char *filter; /* a subject, or the broker's pattern */
	const char *group; /* each message goes to one member of the group; NULL: to every subscriber */
	const char *durable; /* the name under which the broker keeps what is not acknowledged, over
	                      * disconnections too; NULL: at most once, missed while away */
	bool from_start;     /* durable, and new to the broker: begin with the oldest it keeps */
	/** A message; uses up one credit. It must be answered exactly once, in here or later, also after
	 * unsubscribe() and close(). */
	void (*message)(struct sn_driver_subscription *sub, struct sn_driver_delivery *d);
	/** The broker has confirmed it: what is published from now on is delivered. Again after each
	 * reconnection. May be NULL. */
	void (*active)(struct sn_driver_subscription *sub);
	/** Exactly once, never before subscribe() returned: after unsubscribe() or close() (outcome OK,
	 * or SN_E_CLOSED) when every delivery has been answered, or because the broker refuses it for
	 * good (SN_DRIVER_REJECTED; retries are the driver's where they can help). */
	void (*ended)(struct sn_driver_subscription *sub);

	struct sn_driver_outcome outcome; /* read in ended() */
	uint64_t dropped; /* messages that came without credit and beyond what the driver keeps */
	void *driver;
	void *core;
};

/** Who is told of the connection. */
struct sn_driver_watch {
	/** The first value in a later turn, then every change. @why: one clause when it is down ("" before
	 * the first attempt has ended), the server when it is up. */
	void (*changed)(struct sn_driver_watch *watch, bool up, const char *why);
	void *core;
};

/** All on the loop's thread. Subscriptions stay over reconnections, which are the driver's and never
 * end. Functions after close() return SN_E_CLOSED. */
struct sn_driver_broker {
	size_t size; /* sizeof(struct sn_driver_broker) */
	/** Connect now, and tell @watch until the instance's finish(). At most once an instance; without
	 * it, the first publish, request or subscription connects. Cannot fail. */
	void (*watch)(void *instance, struct sn_driver_watch *watch);
	/** SN_E_NOMEM, SN_E_INVALID (a malformed subject), SN_E_NOTSUP, SN_E_LIMIT (too much under way):
	 * nothing follows. */
	int (*publish)(void *instance, struct sn_driver_publish *p);
	/** done() follows in a later turn; messages whose end is not known end with @code. At most once. */
	void (*publish_cancel)(void *instance, struct sn_driver_publish *p, int code);
	/** As publish(). NULL: the broker has no request-reply. */
	int (*request)(void *instance, struct sn_driver_request *req);
	void (*request_cancel)(void *instance, struct sn_driver_request *req, int code);
	/** SN_E_NOMEM, SN_E_INVALID (a malformed filter or name), SN_E_NOTSUP (no groups or no durable
	 * ones): nothing follows. It begins without credit. */
	int (*subscribe)(void *instance, struct sn_driver_subscription *sub);
	/** The core takes @more messages more. */
	void (*credit)(void *instance, struct sn_driver_subscription *sub, uint32_t more);
	/** @delay_ms: SN_DRIVER_NACK: not before (where the broker can). @d is gone. */
	void (*answer)(void *instance, struct sn_driver_delivery *d, enum sn_driver_answer answer,
			uint32_t delay_ms);
	/** No message() follows; what the driver had fetched ahead is given back. Then ended(). A durable
	 * name stays at the broker, unless @forget. At most once. */
	void (*unsubscribe)(void *instance, struct sn_driver_subscription *sub, bool forget);
};

/* ---- the driver ---- */

struct sn_driver {
	uint32_t abi;     /* SN_DRIVER_ABI */
	uint32_t size;    /* sizeof(struct sn_driver) */
	const char *name; /* the type: lower case, digits, '-'; what a peer's `subClass` or a
	                   * connector's `type` says */
	enum sn_topic topic;
	const char *summary;             /* one line, no period */
	unsigned capabilities;           /* SN_DRIVER_BY_OPTIONS */
	const struct sn_option *options; /* of a connector in the file; may be NULL: none */
	size_t options_size;             /* of their struct */
	size_t state_size;               /* bytes of an instance, zeroed by the core */
	/** Read the configuration; connect with the first call, not here. On failure (SN_E_INVALID,
	 * SN_E_NOMEM, SN_E_NOTSUP; how->error says why) everything is taken back and nothing
	 * follows. */
	int (*open)(void *instance, struct sn_driver_open *how);
	/** No call comes any more; those under way end with SN_E_CLOSED in later turns; then @done,
	 * once, never before this returned. Must not block. */
	void (*close)(void *instance, void (*done)(void *arg), void *arg);
	/** The last function: free what is left. Follows done. */
	void (*finish)(void *instance);
	const struct sn_driver_calls *calls; /* native calls; NULL: none */
	const void *ops; /* functions of the topic: struct sn_database_ops (sinew/sql.h) or struct
	                  * sn_driver_broker; NULL: none */
};

/** A peer's `config` is read by the table of options too, so that sn_driver_open.options is never NULL:
 * what it does not know is ignored and named in the log, what is wrong ends the opening. */
#define SN_DRIVER_BY_OPTIONS 1u

#ifdef __cplusplus
}
#endif
#endif /* SN_DRIVER_H */
