/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_H2_H
#define SN_SRC_IO_H2_H

/*
 * Internal. An HTTP/2 connection (RFC 9113): an nghttp2 session on a stream, with what both ends
 * need: reading and writing in bounded portions, header blocks collected into a struct
 * sn_http_head, flow control, keep-alive, a budget against floods, and an end that is told once.
 * h2_client.c and h2_server.c make requests and exchanges of it. Loop thread.
 *
 * Everything the ops hear of happens in the pump (reading, then writing). In them anything may be
 * called, sn__h2_close() of this and other sessions included: the session is freed when its pump
 * returns. What is submitted outside the pump goes out in the next turn, together.
 */

#include <nghttp2/nghttp2.h>

#include "base/buf.h"
#include "io/addr.h"
#include "io/stream.h"
#include "proto/http.h"

#define SN_H2_STREAM_WINDOW \
	(256u << 10)                 /* what a peer may send ahead on one stream: the memory a
					  * paused stream can need */
#define SN_H2_CONN_WINDOW (4u << 20) /* and on a connection; handed back at once */
#define SN_H2_STREAMS_MAX 100u
#define SN_H2_READS 4u             /* blocks read in a turn, so that others get theirs */
#define SN_H2_WRITES 4u            /* blocks written in a turn */
#define SN_H2_SLICE ((size_t)4096) /* bytes of a block handled before something is written, */
#define SN_H2_SLICE_FRAMES 8u      /* when so many frames wait for it */
#define SN_H2_IN_SIZE (64u << 10)
#define SN_H2_OUT_SIZE (64u << 10)
#define SN_H2_OUT_SLACK (20u << 10) /* a frame that nghttp2 gives in one piece */
#define SN_H2_QUEUE_MAX 2000u /* frames waiting for a peer that does not read: no more is read */
#define SN_H2_ACKS_MAX 1000u  /* of them answers to PING and SETTINGS */
/* CONTINUATION frames of a block. nghttp2 counts one again for each piece in which its nine bytes of
 * head come, so a few would refuse honest peers on bad days. */
#define SN_H2_CONTINUATIONS_MAX 64u
#define SN_H2_SETTINGS_MAX 32u
/* A header block over SN_HTTP_HEAD_SIZE_MAX fails its stream, over this its connection. */
#define SN_H2_HEAD_FLOOD (16u * SN_HTTP_HEAD_SIZE_MAX)
/* Frames that cost the peer nothing and mean nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty
 * DATA and CONTINUATION): so many at once, so many a second, and some more for each frame of ours
 * that may cause them and for what it carries: gRPC peers open the window anew for each small
 * message of a large frame. Beyond: ENHANCE_YOUR_CALM. */
#define SN_H2_FLOOD_BURST 8000
#define SN_H2_FLOOD_PER_S 2000
#define SN_H2_FLOOD_EARNED 12
#define SN_H2_FLOOD_EARNED_BYTES 16 /* one more for so many */
/* Servers: so much each costs a stream that is broken off, by RST_STREAM (rapid reset) or by ours for
 * the peer's fault. Streams that are answered pay for others. */
#define SN_H2_FLOOD_RESET 16

struct sn_h2;
struct sn_h2_block;

/* Memory that all connections of a pool or server share, for nothing stays in it when the loop
 * turns. */
struct sn_h2_scratch {
	struct sn_h2_block *spare; /* for header blocks */
	bool collecting;           /* `out` is in use */
	char in[SN_H2_IN_SIZE];
	char out[SN_H2_OUT_SIZE + SN_H2_OUT_SLACK];
};
SN_MUST_USE int sn__h2_scratch_create(struct sn_h2_scratch **ret_scratch);
void sn__h2_scratch_destroy(struct sn_h2_scratch *scratch /* may be NULL */);

/* What is known about a header block. */
#define SN_H2_END 1u       /* nothing follows on this stream */
#define SN_H2_TRAILERS 2u  /* behind the body */
#define SN_H2_TOO_LARGE 4u /* over SN_HTTP_HEADERS_MAX or SN_HTTP_HEAD_SIZE_MAX: the rest is lost */
#define SN_H2_TWO_HOSTS 8u /* :authority and host, and they differ */
#define SN_H2_BAD_STATUS 16u /* below 100 */

/* What read() says with its bytes. */
#define SN_H2_READ_END 1u      /* these are the last */
#define SN_H2_READ_TRAILERS 2u /* with END: sn__h2_trailers() was called, they follow */

struct sn_h2_ops {
	/** A header block: request (servers; @stream is NULL: sn__h2_bind() it or reset it),
	 * response (1xx too), or trailers. Names are in lower case, pseudo headers are not among
	 * head->headers, the bytes of each name and value end with a NUL. Lives until this
	 * returns. */
	void (*on_head)(struct sn_h2 *h2, int32_t id, void *stream, const struct sn_http_head *head,
			unsigned flags);
	/** Bytes of the body. The stream's window stays shut for them until sn__h2_consume(). */
	void (*on_data)(struct sn_h2 *h2, int32_t id, void *stream, struct sn_str data);
	/** The peer has sent everything on this stream, properly. */
	void (*on_end)(struct sn_h2 *h2, int32_t id, void *stream);
	/** The stream is gone; @error: NGHTTP2_NO_ERROR when both sides had ended, or the code of
	 * RST_STREAM. Also for streams above the last id of a GOAWAY (REFUSED_STREAM). Not called
	 * for what sn__h2_close() takes along. */
	void (*on_close)(struct sn_h2 *h2, int32_t id, void *stream, uint32_t error);
	/** Up to @n bytes of the body to send into @out: their number, SN_E_AGAIN (then
	 * sn__h2_resume()), or an error: RST_STREAM INTERNAL_ERROR. */
	ssize_t (*read)(struct sn_h2 *h2, int32_t id, void *stream, void *out, size_t n,
			unsigned *ret_flags);
	/** HEADERS are about to be written at offset h2->produced. May be NULL. */
	void (*on_send_head)(struct sn_h2 *h2, int32_t id, void *stream);
	/** END_STREAM is among what is written next. May be NULL. */
	void (*on_sent)(struct sn_h2 *h2, int32_t id, void *stream);
	/** GOAWAY came: h2->goaway_last, h2->goaway_error. May be NULL. */
	void (*on_goaway)(struct sn_h2 *h2);
	/** SETTINGS came (MAX_CONCURRENT_STREAMS may be another). May be NULL. */
	void (*on_settings)(struct sn_h2 *h2);
	/** The connection is over: h2->failed says why. Streams that are left will hear nothing
	 * more; sn__h2_close() has to follow, now or later. Once. */
	void (*on_gone)(struct sn_h2 *h2);
	/** In a pump, after reading and before writing: what is submitted here still goes out in
	 * it. May be NULL. */
	void (*on_pump)(struct sn_h2 *h2);
	/** After a pump. May be NULL. */
	void (*on_pumped)(struct sn_h2 *h2);
};

struct sn_h2_config {
	bool server;
	const struct sn_h2_ops *ops;
	void *arg;                     /* h2->arg */
	struct sn_h2_scratch *scratch; /* outlives the session */
	uint32_t max_streams;          /* servers: of the peer, at once; 0: SN_H2_STREAMS_MAX */
	uint32_t stream_window;        /* 0: SN_H2_STREAM_WINDOW */
	uint32_t conn_window;          /* 0: SN_H2_CONN_WINDOW */
	uint32_t ping_ms;         /* PING after so long without a byte from the peer; 0: never */
	uint32_t ping_timeout_ms; /* and SN_E_TIMEOUT after so long without one; 0: 20000 */
	bool ping_idle;           /* also without streams */
	bool extended_connect;    /* servers: SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441) */
};

struct sn_h2 {
	nghttp2_session *session;
	struct sn_stream *stream;
	const struct sn_h2_ops *ops;
	void *arg;
	struct sn_h2_scratch *scratch;
	bool server;
	unsigned n_streams;         /* open, of both sides, as far as frames have told */
	int32_t head_id;            /* stream whose header block has begun and not ended; 0: none */
	uint64_t produced, written; /* bytes packed, and taken by the stream, since the beginning */
	uint64_t last_read_ns;
	int32_t reset_id; /* the stream that the peer has reset last */
	/* why it is over */
	int failed; /* 0: it is not. SN_E_EOF (closed by the peer, or both said GOAWAY and no stream
	             * is left), SN_E_RESET, SN_E_PROTOCOL, SN_E_LIMIT (flood), SN_E_TIMEOUT (PING),
	             * SN_E_NOMEM, SN_E_TLS, SN_E_IO */
	int foreign;
	char detail[96];
	/* what the peer's GOAWAY said */
	bool goaway;
	int32_t goaway_last;
	uint32_t goaway_error;
	/* private */
	struct sn_h2_block *block; /* may be NULL */
	struct sn_buf out;         /* packed, not yet taken */
	size_t collected;          /* bytes in scratch->out */
	size_t read_size;          /* of the DATA that lies behind them */
	unsigned entered;
	bool told, closed, polite;
	bool released;  /* the stream is somebody else's */
	bool dying;     /* our GOAWAY with an error is under way */
	int dying_code; /* what it makes of `failed` */
	bool pushed;    /* too late for this pump to write more */
	bool queued;    /* not reading until the peer reads */
	int write_error;
	bool feeding;   /* a block is being read */
	int64_t credit; /* against floods */
	uint64_t credit_ns;
	uint64_t ping_ns, ping_timeout_ns, pinged_ns; /* pinged: when, 0: no PING is out */
	bool ping_idle;
	struct sn_timer timer;
	struct sn_task task;
};

/** @stream is connected; taken on success (its owner is set). The connection preface and SETTINGS
 * go out with the first pump. SN_E_NOMEM. */
SN_MUST_USE int sn__h2_open(
		const struct sn_h2_config *config, struct sn_stream *stream, struct sn_h2 **ret_h2);
/** Servers that have read some bytes already: as if they came now. Pumps. */
void sn__h2_feed(struct sn_h2 *h2, struct sn_str first);
/** The address of the other end. */
const struct sn_addr *sn__h2_peer(const struct sn_h2 *h2);
const struct sn_stream *sn__h2_stream(const struct sn_h2 *h2);
/** Closes the stream and frees the session (when its pump returns); no ops follow. @error: GOAWAY
 * with this code is sent first, as far as the socket takes it; negative: none. */
void sn__h2_close(struct sn_h2 *h2, int error);
/** As sn__h2_close() without a GOAWAY, but the stream lives and is the caller's, who gives it another
 * owner; it wants nothing. Only after on_gone. */
struct sn_stream *sn__h2_release(struct sn_h2 *h2);
/** End with @code (SN_E_TIMEOUT, ...) as if the connection had broken: on_gone follows in the next
 * pump. The first reason stays. */
void sn__h2_fail(struct sn_h2 *h2, int code, const char *detail);
/** GOAWAY with @error and ENHANCE_YOUR_CALM's manners: nothing more is handled, on_gone (@code)
 * follows when it was sent or could not be. */
void sn__h2_terminate(struct sn_h2 *h2, uint32_t error, int code, const char *detail);
/** Graceful: GOAWAY NO_ERROR, streams that are there go on, on_gone (SN_E_EOF) after the last. */
void sn__h2_shutdown(struct sn_h2 *h2);
/** Pump in the next turn; nothing when it runs already. */
void sn__h2_kick(struct sn_h2 *h2);

static inline nghttp2_nv sn_h2_nv(struct sn_str name, struct sn_str value)
{
	return (nghttp2_nv){(uint8_t *)(uintptr_t)name.ptr, (uint8_t *)(uintptr_t)value.ptr,
			name.len, value.len, NGHTTP2_NV_FLAG_NONE};
}
/** A request; its id (positive). Names and values are copied, names put into lower case. @body: read()
 * is asked for it. SN_E_NOMEM, SN_E_LIMIT (no ids are left), SN_E_CLOSED (GOAWAY). */
SN_MUST_USE int32_t sn__h2_request(
		struct sn_h2 *h2, const nghttp2_nv *nva, size_t n, bool body, void *stream);
/** The head of the response to @id. SN_E_NOMEM, SN_E_STATE (answered, or no such stream). */
SN_MUST_USE int sn__h2_response(
		struct sn_h2 *h2, int32_t id, const nghttp2_nv *nva, size_t n, bool body);
/** 1xx. */
SN_MUST_USE int sn__h2_info(struct sn_h2 *h2, int32_t id, const nghttp2_nv *nva, size_t n);
/** Inside read(), see SN_H2_READ_TRAILERS. SN_E_NOMEM. */
SN_MUST_USE int sn__h2_trailers(struct sn_h2 *h2, int32_t id, const nghttp2_nv *nva, size_t n);
/** What ops get as @stream; NULL: nothing more is told of it. */
void sn__h2_bind(struct sn_h2 *h2, int32_t id, void *stream);
void sn__h2_resume(struct sn_h2 *h2, int32_t id);
void sn__h2_reset(struct sn_h2 *h2, int32_t id, uint32_t error);
/** A PING more than those of ping_ms. */
void sn__h2_ping(struct sn_h2 *h2);
/** @n bytes of on_data() were used up. */
void sn__h2_consume(struct sn_h2 *h2, int32_t id, size_t n);
/** Requests that may be open at once, as the peer said last. */
uint32_t sn__h2_peer_streams(const struct sn_h2 *h2);
/** "REFUSED_STREAM". */
const char *sn__h2_error_name(uint32_t error);

#endif
