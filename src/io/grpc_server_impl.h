/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_GRPC_SERVER_IMPL_H
#define SN_SRC_IO_GRPC_SERVER_IMPL_H

/*
 * Internal, for grpc_server.c (what comes in) and grpc_exchange.c (what goes out).
 *
 * A call comes from the pool of its services when its head is in order, and goes back when both its
 * HTTP exchange and its user are through with it: the user when he was told the end (on_close), or,
 * when he never asked to be told, when he has ended the call himself. So a handler that keeps a
 * call may answer late without harm. Nothing of the user's is called from inside a function of his.
 */

#include "base/list.h"
#include "base/map.h"
#include "io/grpc_server.h"

struct grpc_method {
	const struct sn_grpc_service *service;
	const struct sn_grpc_method *method;
	char *path; /* "/service/method" */
};

struct grpc_served {
	struct sn_list link; /* sn_grpc_services.served */
	const struct sn_grpc_service *service;
	struct grpc_method *methods;
	size_t n_methods;
};

struct sn_grpc_services {
	struct sn_loop *loop;
	struct sn_grpc_services_options opts;
	struct sn_list served; /* grpc_served.link */
	struct sn_map methods; /* path: grpc_method */
	struct sn_list open;   /* sn_grpc_exchange.link */
	struct sn_list pool;   /* sn_grpc_exchange.link */
	unsigned n_pool;
	struct sn_buf frame; /* the message being sent */
};

/* A value of "-bin" metadata that was asked for. */
struct grpc_decoded {
	struct grpc_decoded *next;
	const char *wire;
	size_t size;
	char data[];
};

struct sn_grpc_exchange {
	struct sn_list link;
	struct sn_grpc_services *services;
	struct sn_exchange *x; /* NULL: over */
	const struct grpc_method *method;
	struct sn_timer timer; /* the deadline */
	struct sn_task task;
	uint64_t deadline_ns; /* 0: none */
	/* in */
	struct sn_grpc_reader reader;
	struct sn_buf kept;    /* read, but the user has paused */
	struct sn_buf bytes;   /* the request of a method that takes one, if it must be copied */
	struct sn_str request; /* there, or with the reader */
	struct grpc_decoded *decoded;
	unsigned n_in;
	bool begun; /* the user knows it */
	bool paused;
	bool eof; /* the client has ended its side */
	/* out */
	struct sn_buf headers, trailers; /* "name\0value\0", ... */
	unsigned n_headers, n_trailers, n_out;
	bool gzip, accepts_gzip;
	bool head_sent, encoding_sent;
	bool user_ended; /* the user has answered */
	bool ended;      /* the answer is whole: his or ours */
	bool drain_due;
	/* the end */
	bool over; /* nothing can be sent any more */
	bool told;
	int status; /* for on_close */
	void *slot;
	sn_grpc_exchange_fn *on_drain;
	void *on_drain_arg;
	sn_grpc_exchange_close_fn *on_close;
	void *on_close_arg;
};

/** End with @code and @text in the client's eyes, whatever has been sent. */
void sn__grpc_exchange_end(
		struct sn_grpc_exchange *gx, int code, struct sn_str text, struct sn_str details);
/** Go on in the next turn: with what was kept, or with the end. */
void sn__grpc_exchange_kick(struct sn_grpc_exchange *gx);

#endif
