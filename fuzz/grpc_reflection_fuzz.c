/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to the reflection service (a byte of length, then the message, again and again); every
 * one that is a message gets one answer that can be read and repeats it. The same bytes then go to the
 * health service, whole. The first byte is the version: even v1, odd v1alpha. */
#include "grpc_fuzz.h"
#include "proto/protobuf.h"

static struct {
	struct sn_grpc_req req;
	struct sn_str question;
	unsigned answers;
	bool done;
} q;

static void on_message(struct sn_grpc_req *req, struct sn_str message)
{
	struct sn_protobuf_field field;
	bool repeated = false;
	unsigned kinds = 0;
	int r;

	q.answers++;
	while ((r = sn__protobuf_next(&message, &field)) > 0) {
		repeated |= field.number == 2 && sn_str_eq(field.bytes, q.question);
		kinds += field.number >= 4;
	}
	check(r == 0);
	check(strstr(req->path.ptr, "Health") != NULL || (repeated && kinds == 1));
}

static void on_done(struct sn_grpc_req *req)
{
	q.done = true;
	sn__grpc_status_finish(&req->status);
}

static const struct sn_grpc_req_ops ops = {.on_message = on_message, .on_done = on_done};

static void start(const char *path)
{
	memset(&q, 0, sizeof q);
	q.req.ops = &ops;
	q.req.path = sn_str_from(path);
	q.req.streams = true;
	check(sn__grpc_start(f.dest, &q.req, NULL) == 0);
}

static void end(void)
{
	if (!q.done)
		sn__grpc_end(&q.req);
	fuzz_run(2);
	if (!q.done)
		sn__grpc_cancel(&q.req, SN_E_CANCELLED);
	fuzz_run(2);
	check(q.done);
}

static void talk(struct sn_str in, bool alpha)
{
	start(alpha ? "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
		    : "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
	for (unsigned asked = 0; in.len > 0 && !q.done && asked < 50; asked++) {
		size_t n = SN_MIN((size_t)(unsigned char)in.ptr[0], in.len - 1);
		int r;

		q.question = (struct sn_str){in.ptr + 1, n};
		r = sn__grpc_send(&q.req, q.question);
		check(r == 0);
		fuzz_run(1);
		check(q.done || q.answers == asked + 1);
		in = (struct sn_str){in.ptr + 1 + n, in.len - 1 - n};
	}
	end();
}

static void ask_health(const char *path, struct sn_str in)
{
	start(path);
	(void)!sn__grpc_send(&q.req, in);
	end();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_str in = {(const char *)data + 1, size - 1};
	struct sn_grpc_reflection *reflection;
	struct sn_grpc_services *services;
	struct sn_grpc_health *health;

	if (size < 1 || size > 20000)
		return 0;
	fuzz_begin();
	check(sn__grpc_services_create(f.loop, NULL, &services) == 0);
	check(sn__grpc_health_create(services, &health, NULL) == 0);
	check(sn__grpc_reflection_create(services, &reflection, NULL) == 0);
	fuzz_open(sn__grpc_handle, services, true);
	talk(in, data[0] % 2 != 0);
	ask_health("/grpc.health.v1.Health/Check", in);
	ask_health("/grpc.health.v1.Health/Watch", in);
	fuzz_close();
	sn__grpc_reflection_destroy(reflection);
	sn__grpc_health_destroy(health);
	sn__grpc_services_destroy(services);
	fuzz_end();
	return 0;
}
