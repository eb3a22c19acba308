/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpc.reflection.v1 and v1alpha: the same messages under two names. The descriptors of the services
 * are read once, when the object is made. An answer about a file carries it and what it imports, each
 * import once a stream.
 */
#include "base/map.h"
#include "base/mem.h"
#include "io/grpc_server.h"
#include "proto/protobuf.h"
#include "proto/protobuf_json.h"

#define ANSWER_MAX ((size_t)64 << 20)
#define DEPTH_MAX 64 /* of nested types */

/* Fields of ServerReflectionRequest and ServerReflectionResponse. */
enum asked {
	FILE_BY_NAME = 3,
	FILE_OF_SYMBOL = 4,
	FILE_OF_EXTENSION = 5,
	EXTENSIONS = 6,
	LIST = 7
};
enum answered { VALID_HOST = 1, ORIGINAL = 2, FILES = 4, NUMBERS = 5, SERVICES = 6, ERROR = 7 };

static const unsigned char set_v1[] = {
#include "io/grpc_reflection_set.h"
};
static const unsigned char set_v1alpha[] = {
#include "io/grpc_reflection_v1alpha_set.h"
};

struct file {
	struct sn_str name, bytes; /* in the descriptors of a service */
};

struct sn_grpc_reflection {
	struct sn_grpc_services *services;
	struct sn_grpc_service v1, v1alpha;
	struct sn_schema *schema;
	struct sn_map files; /* name -> struct file */
};

/* One stream. */
struct talk {
	struct sn_grpc_reflection *ref;
	struct sn_map sent; /* names of files -> struct file */
};

struct request {
	struct sn_str host, text; /* text: name, symbol or type */
	unsigned what;            /* enum asked; 0: none of them */
	int64_t number;           /* FILE_OF_EXTENSION */
};

/* ---- reading descriptors ---- */

/* The first field called @number that is a string or message. */
static struct sn_str bytes_field(struct sn_str in, uint32_t number)
{
	struct sn_protobuf_field f;

	while (sn__protobuf_next(&in, &f) > 0) {
		if (f.number == number && f.wire == SN_PROTOBUF_LEN)
			return f.bytes;
	}
	return (struct sn_str){NULL, 0};
}

/* Called for every extension of `type`. Above 0 ends the walk. */
struct search {
	struct sn_str type;
	int64_t number; /* the one wanted; -1: all */
	struct sn_buf *out;
};

/* A FieldDescriptorProto among extensions. 1: it is the one wanted. */
static int look_at(const struct search *s, struct sn_str field)
{
	struct sn_str extendee = bytes_field(field, 2);
	struct sn_protobuf_field f;
	int64_t number = 0;

	while (sn__protobuf_next(&field, &f) > 0) {
		if (f.number == 3 && f.wire == SN_PROTOBUF_VARINT)
			number = (int64_t)f.value;
	}
	if (extendee.len > 0 && extendee.ptr[0] == '.')
		extendee = (struct sn_str){extendee.ptr + 1, extendee.len - 1};
	if (!sn_str_eq(extendee, s->type))
		return 0;
	if (s->number >= 0)
		return number == s->number;
	return sn__protobuf_put_varint(s->out, 2, (uint64_t)number);
}

/* Extensions are fields @ext_no of a file (7) or message (6), messages in it @nested_no (4, 3). */
static int walk(const struct search *s, struct sn_str in, uint32_t ext_no, uint32_t nested_no,
		unsigned depth)
{
	struct sn_protobuf_field f;
	int r = 0;

	while (r == 0 && depth < DEPTH_MAX && sn__protobuf_next(&in, &f) > 0) {
		if (f.wire != SN_PROTOBUF_LEN)
			continue;
		if (f.number == ext_no)
			r = look_at(s, f.bytes);
		else if (f.number == nested_no)
			r = walk(s, f.bytes, 6, 3, depth + 1);
	}
	return r;
}

/* The file with the extension wanted, or NULL; numbers are added to s->out. */
static int search_all(const struct sn_grpc_reflection *ref, const struct search *s,
		const struct file **ret_file)
{
	const struct sn_map_entry *e;
	int r = 0;

	*ret_file = NULL;
	for (size_t i = 0; r == 0 && (e = sn__map_next(&ref->files, &i)) != NULL;) {
		const struct file *file = e->value;

		r = walk(s, file->bytes, 7, 4, 0);
		if (r > 0)
			*ret_file = file;
	}
	return r < 0 ? r : 0;
}

/* ---- answers ---- */

static int put_error(struct sn_buf *out, int code, const char *what, struct sn_str name)
{
	struct sn_buf text, error;
	int r;

	sn__buf_init(&text, ANSWER_MAX);
	sn__buf_init(&error, ANSWER_MAX);
	r = sn__buf_printf(&text, "%s%.*s", what, (int)SN_MIN(name.len, (size_t)200), name.ptr);
	if (r == 0)
		r = sn__protobuf_put_varint(&error, 1, (uint64_t)code);
	if (r == 0)
		r = sn__protobuf_put_bytes(&error, 2, sn__buf_str(&text));
	if (r == 0)
		r = sn__protobuf_put_bytes(out, ERROR, sn__buf_str(&error));
	sn__buf_finish(&text);
	sn__buf_finish(&error);
	return r;
}

/* @file and the imports that this stream has not seen. What was sent once was sent with its imports,
 * so nothing behind it has to be looked at again. */
static int put_file_and_imports(struct talk *t, const struct file *file, struct sn_buf *out)
{
	struct sn_map queue; /* names -> struct file: first come first served */
	const struct sn_map_entry *e;
	int r;

	sn__map_init(&queue);
	r = sn__map_add(&queue, file->name, (void *)file);
	for (size_t i = 0; r == 0 && (e = sn__map_next(&queue, &i)) != NULL;) {
		const struct file *f = e->value;
		struct sn_str import;

		r = sn__protobuf_put_bytes(out, 1, f->bytes);
		if (r == 0)
			r = sn__map_put(&t->sent, f->name, (void *)f, NULL);
		for (unsigned n = 0; r == 0; n++) {
			struct file *next;

			import = sn__schema_import(t->ref->schema, f->name, n);
			if (import.ptr == NULL)
				break;
			next = sn__map_get(&t->ref->files, import);
			if (next == NULL || sn__map_get(&t->sent, next->name) != NULL)
				continue;
			r = sn__map_add(&queue, next->name, next);
			r = r == SN_E_EXISTS ? 0 : r;
		}
	}
	sn__map_finish(&queue);
	return r;
}

static int put_file(struct talk *t, const struct file *file /* may be NULL */, const char *missing,
		struct sn_str name, struct sn_buf *out)
{
	struct sn_buf files;
	int r;

	if (file == NULL)
		return put_error(out, SN_GRPC_NOT_FOUND, missing, name);
	sn__buf_init(&files, ANSWER_MAX);
	r = put_file_and_imports(t, file, &files);
	if (r == 0)
		r = sn__protobuf_put_bytes(out, FILES, sn__buf_str(&files));
	sn__buf_finish(&files);
	return r;
}

static int put_numbers(struct talk *t, struct sn_str type, struct sn_buf *out)
{
	struct search s = {.type = type, .number = -1};
	const struct file *file;
	struct sn_buf numbers;
	int r;

	if (sn__schema_message(t->ref->schema, type) == NULL)
		return put_error(out, SN_GRPC_NOT_FOUND, "no such type: ", type);
	sn__buf_init(&numbers, ANSWER_MAX);
	s.out = &numbers;
	r = sn__protobuf_put_bytes(&numbers, 1, type);
	if (r == 0)
		r = search_all(t->ref, &s, &file);
	if (r == 0)
		r = sn__protobuf_put_bytes(out, NUMBERS, sn__buf_str(&numbers));
	sn__buf_finish(&numbers);
	return r;
}

static int put_list(struct talk *t, struct sn_buf *out)
{
	const struct sn_grpc_service *service;
	struct sn_buf list, one;
	int r = 0;

	sn__buf_init(&list, ANSWER_MAX);
	sn__buf_init(&one, ANSWER_MAX);
	for (size_t i = 0; r == 0; i++) {
		service = sn__grpc_services_at(t->ref->services, i);
		if (service == NULL)
			break;
		sn__buf_clear(&one);
		r = sn__protobuf_put_bytes(&one, 1, sn_str_from(service->name));
		if (r == 0)
			r = sn__protobuf_put_bytes(&list, 1, sn__buf_str(&one));
	}
	if (r == 0)
		r = sn__protobuf_put_bytes(out, SERVICES, sn__buf_str(&list));
	sn__buf_finish(&one);
	sn__buf_finish(&list);
	return r;
}

static int put_answer(struct talk *t, const struct request *q, struct sn_buf *out)
{
	const struct sn_grpc_reflection *ref = t->ref;
	const struct search s = {.type = q->text, .number = q->number};
	const struct file *file;
	int r;

	switch (q->what) {
	case FILE_BY_NAME:
		return put_file(t, sn__map_get(&ref->files, q->text), "no such file: ", q->text,
				out);
	case FILE_OF_SYMBOL:
		file = sn__map_get(&ref->files,
				bytes_field(sn__schema_file_of(ref->schema, q->text), 1));
		return put_file(t, file, "no such symbol: ", q->text, out);
	case FILE_OF_EXTENSION:
		r = search_all(ref, &s, &file);
		return r != 0 ? r : put_file(t, file, "no such extension of ", q->text, out);
	case EXTENSIONS:
		return put_numbers(t, q->text, out);
	case LIST:
		return put_list(t, out);
	default:
		return put_error(out, SN_GRPC_INVALID_ARGUMENT,
				"the request asks for nothing that is known here", SN_STR(""));
	}
}

/* ---- streams ---- */

static int read_request(struct sn_str in, struct request *q)
{
	struct sn_protobuf_field f;
	int r;

	*q = (struct request){.host = SN_STR(""), .text = SN_STR("")};
	while ((r = sn__protobuf_next(&in, &f)) > 0) {
		if (f.wire != SN_PROTOBUF_LEN)
			continue;
		if (f.number == 1)
			q->host = f.bytes;
		if (f.number < FILE_BY_NAME || f.number > LIST)
			continue;
		q->what = f.number; /* of a oneof the last counts */
		q->text = f.bytes;
	}
	if (r == 0 && q->what == FILE_OF_EXTENSION) {
		struct sn_str ext = q->text;

		q->text = SN_STR("");
		while ((r = sn__protobuf_next(&ext, &f)) > 0) {
			if (f.number == 1 && f.wire == SN_PROTOBUF_LEN)
				q->text = f.bytes;
			else if (f.number == 2 && f.wire == SN_PROTOBUF_VARINT)
				q->number = (int64_t)(f.value & INT32_MAX);
		}
	}
	return r;
}

static int send_answer(struct sn_grpc_exchange *x, struct talk *t, const struct request *q,
		struct sn_str original)
{
	struct sn_buf out;
	int r = 0;

	sn__buf_init(&out, ANSWER_MAX);
	if (q->host.len > 0)
		r = sn__protobuf_put_bytes(&out, VALID_HOST, q->host);
	if (r == 0)
		r = sn__protobuf_put_bytes(&out, ORIGINAL, original);
	if (r == 0)
		r = put_answer(t, q, &out);
	if (r == 0)
		r = sn_grpc_exchange_send(x, NULL, out.len > 0 ? sn__buf_data(&out) : "", out.len);
	sn__buf_finish(&out);
	return r;
}

static void on_message(struct sn_grpc_exchange *x, const void *message, void *arg)
{
	const struct sn_grpc_bytes *bytes = message;
	struct talk *t = *sn_grpc_exchange_slot(x);
	struct request q;
	struct sn_str in;
	int r;

	if (bytes == NULL) {
		sn_grpc_exchange_finish(x, SN_GRPC_OK, NULL, NULL, 0);
		return;
	}
	in = (struct sn_str){bytes->data, bytes->size};
	if (read_request(in, &q) != 0) {
		sn_grpc_exchange_finish(x, SN_GRPC_INTERNAL,
				"the request is no ServerReflectionRequest", NULL, 0);
		return;
	}
	r = send_answer(x, t, &q, in);
	if (r == SN_E_AGAIN)
		sn_grpc_exchange_pause(x, true); /* who does not read is not answered */
	else if (r != 0)
		sn_grpc_exchange_finish(x, SN_GRPC_RESOURCE_EXHAUSTED, sn_strerror(r), NULL, 0);
}

static void on_drain(struct sn_grpc_exchange *x, void *arg)
{
	sn_grpc_exchange_pause(x, false);
}

static void on_close(struct sn_grpc_exchange *x, int status, void *arg)
{
	struct talk *t = arg;

	sn__map_finish(&t->sent);
	sn__free(t);
}

static void on_start(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	struct talk *t = sn__calloc(1, sizeof *t);

	if (t == NULL) {
		sn_grpc_exchange_finish(x, SN_GRPC_RESOURCE_EXHAUSTED, "out of memory", NULL, 0);
		return;
	}
	t->ref = arg;
	sn__map_init(&t->sent);
	*sn_grpc_exchange_slot(x) = t;
	sn_grpc_exchange_on_drain(x, on_drain, t);
	sn_grpc_exchange_on_close(x, on_close, t);
}

/* ---- the object ---- */

static const struct sn_grpc_method methods[] = {
		{.name = "ServerReflectionInfo",
				.start = on_start,
				.message = on_message,
				.client_streams = true,
				.server_streams = true},
};

static int add_file(struct sn_grpc_reflection *ref, struct sn_str bytes)
{
	struct file *file = sn__malloc(sizeof *file);
	int r;

	if (file == NULL)
		return SN_E_NOMEM;
	*file = (struct file){bytes_field(bytes, 1), bytes};
	if (file->name.ptr == NULL)
		file->name = SN_STR("");
	r = sn__map_add(&ref->files, file->name, file);
	if (r != 0)
		sn__free(file);
	return r == SN_E_EXISTS ? 0 : r;
}

static int add_descriptors(struct sn_grpc_reflection *ref, const struct sn_grpc_service *service,
		struct sn_error *err)
{
	struct sn_str in = {service->descriptors, service->descriptors_size};
	struct sn_protobuf_field f;
	int r;

	if (in.ptr == NULL)
		return 0;
	r = sn__schema_add_set(ref->schema, in, err);
	while (r == 0 && (r = sn__protobuf_next(&in, &f)) > 0)
		r = f.number == 1 && f.wire == SN_PROTOBUF_LEN ? add_file(ref, f.bytes) : 0;
	if (r == SN_E_NOMEM)
		return sn__error_set(err, r, "out of memory");
	if (r != 0)
		(void)sn__error_prefix(err, "the descriptors of %s", service->name);
	return r == SN_E_PARSE ? SN_E_INVALID : r;
}

static struct sn_grpc_service service_of(struct sn_grpc_reflection *ref, const char *name,
		const unsigned char *set, size_t set_size)
{
	return (struct sn_grpc_service){.size = sizeof(struct sn_grpc_service),
			.name = name,
			.methods = methods,
			.n_methods = SN_COUNT(methods),
			.arg = ref,
			.descriptors = set,
			.descriptors_size = set_size};
}

/* Everything but adding ourselves, which cannot be taken back. */
static int read_services(struct sn_grpc_reflection *ref, struct sn_error *err)
{
	const struct sn_grpc_service *service;
	int r = add_descriptors(ref, &ref->v1, err);

	if (r == 0)
		r = add_descriptors(ref, &ref->v1alpha, err);
	for (size_t i = 0; r == 0; i++) {
		service = sn__grpc_services_at(ref->services, i);
		if (service == NULL)
			break;
		r = add_descriptors(ref, service, err);
	}
	return r;
}

int sn__grpc_reflection_create(struct sn_grpc_services *services,
		struct sn_grpc_reflection **ret_reflection, struct sn_error *err)
{
	struct sn_grpc_reflection *ref = sn__calloc(1, sizeof *ref);
	int r;

	if (ref == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	ref->services = services;
	ref->v1 = service_of(ref, "grpc.reflection.v1.ServerReflection", set_v1, sizeof set_v1);
	ref->v1alpha = service_of(ref, "grpc.reflection.v1alpha.ServerReflection", set_v1alpha,
			sizeof set_v1alpha);
	sn__map_init(&ref->files);
	r = sn__schema_create(&ref->schema);
	if (r != 0)
		(void)sn__error_set(err, r, "out of memory");
	else
		r = read_services(ref, err);
	if (r == 0)
		r = sn__grpc_services_add(services, &ref->v1, err);
	if (r == 0)
		r = sn__grpc_services_add(services, &ref->v1alpha, err);
	if (r != 0) {
		sn__grpc_reflection_destroy(ref);
		return r;
	}
	*ret_reflection = ref;
	return 0;
}

void sn__grpc_reflection_destroy(struct sn_grpc_reflection *ref)
{
	const struct sn_map_entry *e;

	if (ref == NULL)
		return;
	for (size_t i = 0; (e = sn__map_next(&ref->files, &i)) != NULL;)
		sn__free(e->value);
	sn__map_finish(&ref->files);
	sn__schema_destroy(ref->schema);
	sn__free(ref);
}
