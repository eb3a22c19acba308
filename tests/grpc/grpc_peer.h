/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_TESTS_GRPC_PEER_H
#define SN_TESTS_GRPC_PEER_H

/*
 * Internal to tests/grpc: grpc.testing.TestService by our public API, as a program outside of the
 * project would write it. README.md has the lines that peers speak.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sinew/grpc.h>

#include "proto/generated/empty.pb-c.h"
#include "proto/generated/health.pb-c.h"
#include "proto/generated/messages.pb-c.h"

#define TEST_SERVICE "grpc.testing.TestService"
#define TEST_INITIAL "x-grpc-test-echo-initial"
#define TEST_TRAILING "x-grpc-test-echo-trailing-bin"
#define TEST_LIMIT ((size_t)4 << 20)

struct peer_options {
	const char *address;
	const char *cert, *key, *ca; /* NULL: not given */
	const char *next;            /* of the server: whom to forward to; NULL: nobody */
	const char *descriptors;     /* file, for reflection; NULL: none */
	unsigned ping_ms;
};

/* A runtime with one static peer: service @name, endpoint grpc; @address NULL: without peers. */
struct sn_runtime *peer_runtime(
		const char *name, const char *address, const struct peer_options *opts);
void peer_die(const char *what, struct sn_error *err);
/* One line to stdout, at once. */
void peer_say(const char *fmt, ...) SN_PRINTF(1, 2);
/* The next line of stdin without its end; NULL: none. */
char *peer_line(char *buf, size_t size);
/* @size zeros; at most TEST_LIMIT * 2. */
ProtobufCBinaryData peer_zeros(size_t size);

int peer_serve(const struct peer_options *opts);
int peer_client(const struct peer_options *opts);

/* ---- the client's tools (grpc_peer_talk.c) ---- */

struct client;
typedef void case_fn(struct client *c);

/* A message of a stream: what is asked for, and how large it is itself. */
struct step {
	int32_t sizes[4];
	unsigned n_sizes;
	const bool *compressed; /* per size; NULL: not said */
	size_t body;
	const char *status_text; /* asks for status UNKNOWN with this text; NULL: no */
};

enum talk_kind { TALK_OUT, TALK_IN, TALK_HEALTH };

/* A stream, driven by the main thread: every talk_ function hands over to the loop. */
struct talk {
	struct sn_runtime *rt;
	enum talk_kind kind;
	struct sn_grpc_stream *stream; /* loop thread */
	struct op *ops, **ops_end;     /* loop thread; wait for room */
	bool full;
	/* under the client's lock, written by the loop thread */
	size_t n_got;
	int32_t got[256]; /* sizes of bodies, sums, health */
	bool ended;
	int code;
	char text[512]; /* of the status, or what went wrong here */
	char initial[8192];
	uint8_t trailing[512], details[512];
	size_t trailing_size, details_size;
};

struct client {
	struct sn_runtime *rt;
	char failure[1024]; /* of this case; "" so far */
};

/* Note the first failure of the case; returns @ok. */
bool client_need(struct client *c, bool ok, int line, const char *what);
#define NEED(c, what) client_need(c, what, __LINE__, #what)
void client_lock(void);
void client_unlock(void);
void client_changed(void); /* with the lock held: wake who waits */
void client_wait(void);    /* with the lock held; spurious wake-ups happen */

struct talk *talk_open(struct client *c, enum talk_kind kind, const char *method,
		const struct sn_grpc_options *opts);
void talk_send(struct talk *t, const struct step *step);
void talk_send_health(struct talk *t, const char *service);
void talk_end(struct talk *t);
void talk_cancel(struct talk *t);
void talk_pause(struct talk *t, bool pause);
/* Until @n messages have come or the stream has ended; whether they came. */
bool talk_wait(struct talk *t, size_t n);
/* Until it has ended: its code. */
int talk_wait_end(struct talk *t);
void talk_free(struct talk *t);

extern const struct client_case {
	const char *name;
	case_fn *fn;
} client_stream_cases[];

#endif /* SN_TESTS_GRPC_PEER_H */
