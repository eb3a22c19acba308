/* SPDX-License-Identifier: Apache-2.0 */
#include "app/grpc_index.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "proto/protobuf.h"

#define SET_MAX ((size_t)64 << 20)
#define SERVICES_MAX 10000

/* Fields of ServerReflectionRequest, ServerReflectionResponse. */
enum { FILE_BY_NAME = 3, FILE_OF_SYMBOL = 4, LIST = 7 };
enum { GOT_FILES = 4, GOT_SERVICES = 6, GOT_ERROR = 7 };

static const char *const paths[] = {
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
};

static int no_memory(const struct sn_grpc_index *index)
{
	sn__cli_say(index->link->cli, "%s", sn_strerror(SN_E_NOMEM));
	return SN_EXIT_FAILED;
}

static int not_understood(const struct sn_grpc_index *index)
{
	sn__cli_say(index->link->cli, "%s: the answer of its reflection service cannot be read",
			index->link->addr);
	return SN_EXIT_FAILED;
}

/* The first field called @number that is a string or message; {NULL, 0}: none. */
static struct sn_str bytes_field(struct sn_str in, uint32_t number)
{
	struct sn_protobuf_field f;

	while (sn__protobuf_next(&in, &f) > 0) {
		if (f.number == number && f.wire == SN_PROTOBUF_LEN)
			return f.bytes;
	}
	return (struct sn_str){NULL, 0};
}

/* Field 1 of the message in @f: its name, in descriptors and in answers; {NULL, 0}: none. */
static struct sn_str name_in(const struct sn_protobuf_field *f)
{
	return f->wire == SN_PROTOBUF_LEN ? bytes_field(f->bytes, 1) : (struct sn_str){NULL, 0};
}

/* ---- reflection ---- */

struct reflection {
	struct sn_grpc_link_call call;
	struct sn_grpc_index *index;
};

static void on_answer(struct sn_grpc_link_call *call, struct sn_str message)
{
	struct sn_grpc_index *index = SN_CONTAINER_OF(call, struct reflection, call)->index;

	sn__buf_clear(&index->answer);
	index->failed = sn__buf_append_str(&index->answer, message);
	index->answered = true;
}

static int open_stream(struct sn_grpc_index *index)
{
	struct reflection *reflection = sn__calloc(1, sizeof *reflection);
	int r;

	if (reflection == NULL)
		return no_memory(index);
	reflection->index = index;
	reflection->call.path = paths[index->alpha];
	reflection->call.on_message = on_answer;
	r = sn__grpc_link_call(index->link, &reflection->call);
	if (r != 0)
		sn__free(reflection);
	else
		index->call = &reflection->call;
	return r;
}

static void close_stream(struct sn_grpc_index *index)
{
	if (index->call == NULL)
		return;
	sn__grpc_link_finish(index->call);
	sn__free(SN_CONTAINER_OF(index->call, struct reflection, call));
	index->call = NULL;
}

/* The stream ended instead of answering: the elder version is tried, or that was it. */
static int stream_ended(struct sn_grpc_index *index)
{
	const struct sn_grpc_req *req = &index->call->req;
	int r;

	if (req->code == SN_E_STATUS && req->status.code == SN_GRPC_UNIMPLEMENTED) {
		close_stream(index);
		if (!index->alpha) {
			index->alpha = true;
			return 0;
		}
		sn__cli_say(index->link->cli,
				"%s has no reflection service; give descriptors: --proto FILESET",
				index->link->addr);
		return SN_EXIT_FAILED;
	}
	r = sn__grpc_link_status(index->call);
	if (r == 0) {
		sn__cli_say(index->link->cli, "%s: its reflection service did not answer",
				index->link->addr);
		r = SN_EXIT_FAILED;
	}
	return r;
}

/* index->answer to a request with one field. */
static int ask(struct sn_grpc_index *index, uint32_t field, struct sn_str text)
{
	struct sn_buf request;
	int r = 0;

	sn__buf_init(&request, SET_MAX);
	if (sn__protobuf_put_bytes(&request, field, text) != 0)
		r = no_memory(index);
	index->answered = false;
	while (r == 0 && !index->answered) {
		if (index->call == NULL)
			r = open_stream(index);
		if (r != 0)
			break;
		r = sn__grpc_send(&index->call->req, sn__buf_str(&request));
		if (r == SN_E_NOMEM || r == SN_E_LIMIT) {
			r = no_memory(index);
			break;
		}
		r = 0; /* room comes with its answer */
		while (index->call->running && !index->answered && sn__grpc_link_turn(index->link))
			;
		if (!index->answered)
			r = stream_ended(index);
	}
	if (r == 0 && index->failed != 0)
		r = no_memory(index);
	sn__buf_finish(&request);
	return r;
}

/* What is in the answer: field @wanted; {NULL, 0} when the server says that there is no such thing. */
static int ask_for(struct sn_grpc_index *index, uint32_t field, struct sn_str text, uint32_t wanted,
		struct sn_str *ret_content)
{
	struct sn_str in, error, said;
	struct sn_protobuf_field f;
	uint64_t code = SN_GRPC_UNKNOWN;
	char line[300];
	int r = ask(index, field, text);

	if (r != 0)
		return r;
	in = sn__buf_str(&index->answer);
	*ret_content = bytes_field(in, wanted);
	if (ret_content->ptr != NULL)
		return 0;
	error = in = bytes_field(in, GOT_ERROR);
	if (error.ptr == NULL)
		return not_understood(index);
	while (sn__protobuf_next(&in, &f) > 0) {
		if (f.number == 1 && f.wire == SN_PROTOBUF_VARINT)
			code = f.value;
	}
	if (code == SN_GRPC_NOT_FOUND)
		return 0;
	said = bytes_field(error, 2);
	sn__cli_say(index->link->cli, "%s: its reflection service says %s: %s", index->link->addr,
			sn_grpc_code_name((int)code), sn__grpc_link_text(said, line, sizeof line));
	return SN_EXIT_FAILED;
}

/* Names of files that are imported but not there yet. */
struct wanted {
	char **names;
	size_t n, i, room;
};

static int want_imports(struct sn_grpc_index *index, struct sn_str file, struct wanted *w)
{
	struct sn_protobuf_field f;

	while (sn__protobuf_next(&file, &f) > 0) {
		if (f.number != 3 || f.wire != SN_PROTOBUF_LEN ||
				sn__schema_file(index->schema, f.bytes).ptr != NULL)
			continue;
		if (w->n == w->room) {
			size_t room = SN_MAX(2 * w->room, 16);
			char **names = sn__realloc(w->names, room * sizeof *names);

			if (names == NULL)
				return no_memory(index);
			w->names = names;
			w->room = room;
		}
		w->names[w->n] = sn__strndup(f.bytes.ptr, f.bytes.len);
		if (w->names[w->n] == NULL)
			return no_memory(index);
		w->n++;
	}
	return 0;
}

/* FileDescriptorResponse. */
static int take_files(struct sn_grpc_index *index, struct sn_str in, struct wanted *w)
{
	struct sn_protobuf_field f;
	struct sn_error err;
	int r;

	while ((r = sn__protobuf_next(&in, &f)) > 0) {
		struct sn_str name = name_in(&f);

		if (f.number != 1 || name.ptr == NULL ||
				sn__schema_file(index->schema, name).ptr != NULL)
			continue;
		r = sn__schema_add_file(index->schema, f.bytes, &err);
		if (r != 0) {
			sn__cli_say(index->link->cli, "%s: its descriptors cannot be read: %s",
					index->link->addr, sn_error_text(&err));
			return SN_EXIT_FAILED;
		}
		r = want_imports(index, f.bytes, w);
		if (r != 0)
			return r;
	}
	return r < 0 ? not_understood(index) : 0;
}

/* The file that defines @symbol and what it imports, as far as the server has them. */
static int fetch(struct sn_grpc_index *index, struct sn_str symbol)
{
	struct wanted w = {0};
	struct sn_str files;
	int r;

	if (index->from_file || sn__schema_file_of(index->schema, symbol).ptr != NULL)
		return 0;
	r = ask_for(index, FILE_OF_SYMBOL, symbol, GOT_FILES, &files);
	if (r == 0 && files.ptr != NULL)
		r = take_files(index, files, &w);
	while (r == 0 && w.i < w.n) {
		struct sn_str name = sn_str_from(w.names[w.i++]);

		if (sn__schema_file(index->schema, name).ptr != NULL)
			continue;
		/* What even the server does not have may never be needed. */
		r = ask_for(index, FILE_BY_NAME, name, GOT_FILES, &files);
		if (r == 0 && files.ptr != NULL)
			r = take_files(index, files, &w);
	}
	for (size_t i = 0; i < w.n; i++)
		sn__free(w.names[i]);
	sn__free(w.names);
	return r;
}

int sn__grpc_index_need(struct sn_grpc_index *index, struct sn_str symbol, bool *ret_found)
{
	int r = fetch(index, symbol);

	*ret_found = r == 0 && sn__schema_file_of(index->schema, symbol).ptr != NULL;
	return r;
}

/* ---- names of services ---- */

static int add_service(
		struct sn_grpc_index *index, size_t n, struct sn_str package, struct sn_str name)
{
	char *text = sn__arena_alloc(&index->link->arena, package.len + name.len + 2);
	size_t at = package.len > 0 ? package.len + 1 : 0;

	if (text == NULL || n == SERVICES_MAX)
		return no_memory(index);
	/* They are shown, and the server may say anything. */
	if (at > 0) {
		(void)sn__grpc_link_text(package, text, at);
		text[at - 1] = '.';
	}
	(void)sn__grpc_link_text(name, text + at, name.len + 1);
	index->services[n] = text;
	index->services[n + 1] = NULL;
	return 0;
}

/* ListServiceResponse. */
static int list_server(struct sn_grpc_index *index)
{
	struct sn_protobuf_field f;
	struct sn_str in;
	size_t n = 0;
	int r = ask_for(index, LIST, SN_STR("*"), GOT_SERVICES, &in);

	if (r != 0)
		return r;
	while (r == 0 && sn__protobuf_next(&in, &f) > 0) {
		struct sn_str name = name_in(&f);

		if (f.number == 1 && name.ptr != NULL)
			r = add_service(index, n++, SN_STR(""), name);
	}
	return r;
}

/* FileDescriptorSet: field 1; of a file 2 is the package, 6 a service; of that 1 its name. */
static int list_set(struct sn_grpc_index *index)
{
	struct sn_str in = sn__buf_str(&index->set);
	struct sn_protobuf_field file, f;
	size_t n = 0;
	int r = 0;

	while (r == 0 && sn__protobuf_next(&in, &file) > 0) {
		struct sn_str content = file.bytes, package;

		if (file.number != 1 || file.wire != SN_PROTOBUF_LEN)
			continue;
		package = bytes_field(content, 2);
		if (package.ptr == NULL)
			package = SN_STR("");
		while (r == 0 && sn__protobuf_next(&content, &f) > 0) {
			struct sn_str name = name_in(&f);

			if (f.number == 6 && name.ptr != NULL)
				r = add_service(index, n++, package, name);
		}
	}
	return r;
}

int sn__grpc_index_services(struct sn_grpc_index *index)
{
	int r;

	if (index->services != NULL)
		return 0;
	index->services = sn__arena_zalloc(
			&index->link->arena, (SERVICES_MAX + 1) * sizeof *index->services);
	if (index->services == NULL)
		return no_memory(index);
	r = index->from_file ? list_set(index) : list_server(index);
	if (r != 0)
		index->services = NULL;
	return r;
}

/* "Greeter" for "helloworld.Greeter", or a name with a typing mistake. */
static const char *nearest_service(const struct sn_grpc_index *index, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; index->services[i] != NULL; i++) {
		size_t len = strlen(index->services[i]);

		if (len > n && index->services[i][len - n - 1] == '.' &&
				strcasecmp(index->services[i] + len - n, name) == 0)
			return index->services[i];
	}
	return sn__nearest(name, index->services);
}

int sn__grpc_index_service(struct sn_grpc_index *index, struct sn_str name,
		const struct sn_schema_service **ret_service)
{
	const char *text = sn__arena_strdup(&index->link->arena, name), *near;
	bool found;
	int r = text == NULL ? no_memory(index) : sn__grpc_index_need(index, name, &found);

	if (r != 0)
		return r;
	*ret_service = sn__schema_service(index->schema, name);
	if (*ret_service != NULL)
		return 0;
	r = sn__grpc_index_services(index);
	if (r != 0)
		return r;
	near = nearest_service(index, text);
	if (near != NULL && strcmp(near, text) == 0)
		sn__cli_say(index->link->cli,
				"%s serves `%s` but has no descriptors of it; give them: --proto FILESET",
				index->link->addr, text);
	else if (near != NULL)
		sn__cli_say(index->link->cli, "no service `%s`; did you mean `%s`?", text, near);
	else
		sn__cli_say(index->link->cli, "no service `%s`; `sinew grpc %s list` lists them",
				text, index->link->addr);
	return SN_EXIT_USAGE;
}

/* ---- details of a status ---- */

static const unsigned char details_set[] = {
#include "app/error_details_set.h"
};

const struct sn_schema_message *sn__grpc_index_detail(struct sn_grpc_index *index,
		struct sn_str name, const struct sn_schema **ret_schema)
{
	const struct sn_str set = {(const char *)details_set, sizeof details_set};
	const struct sn_schema_message *message;

	/* The ones that everybody uses need no question. */
	if (index->details == NULL && sn__schema_create(&index->details) != 0)
		return NULL;
	if (sn__schema_add_set(index->details, set, NULL) != 0)
		return NULL;
	*ret_schema = index->details;
	message = sn__schema_message(index->details, name);
	if (message != NULL)
		return message;
	*ret_schema = index->schema;
	message = sn__schema_message(index->schema, name);
	/* Asked only when asking has worked before: there is an error to be told already. */
	if (message == NULL && index->call != NULL && index->call->running &&
			fetch(index, name) == 0)
		message = sn__schema_message(index->schema, name);
	return message;
}

/* ---- opening ---- */

static int read_set(struct sn_grpc_index *index, const char *path)
{
	FILE *f = fopen(path, "rbe");
	struct sn_error err;
	char *space;
	size_t n = 1;
	int r = 0;

	if (f == NULL) {
		sn__cli_say(index->link->cli, "cannot read %s: %m", path);
		return SN_EXIT_USAGE;
	}
	while (n > 0 && r == 0) {
		r = sn__buf_reserve(&index->set, 65536, &space);
		n = r == 0 ? fread(space, 1, 65536, f) : 0;
		if (r == 0)
			sn__buf_commit(&index->set, n);
	}
	if (r == 0 && ferror(f))
		r = SN_E_IO;
	(void)fclose(f);
	if (r != 0) {
		sn__cli_say(index->link->cli, "cannot read %s: %s", path, sn_strerror(r));
		return SN_EXIT_USAGE;
	}
	r = sn__schema_add_set(index->schema, sn__buf_str(&index->set), &err);
	if (r != 0)
		sn__cli_say(index->link->cli,
				"%s is no descriptor set (%s); protoc --include_imports "
				"--descriptor_set_out=FILESET makes one",
				path, sn_error_text(&err));
	return r != 0 ? SN_EXIT_USAGE : 0;
}

int sn__grpc_index_open(struct sn_grpc_index *index, struct sn_grpc_link *link)
{
	const char *path = link->cli->opt[SN_OPT_PROTO];

	*index = (struct sn_grpc_index){.link = link, .from_file = path != NULL};
	sn__buf_init(&index->set, SET_MAX);
	sn__buf_init(&index->answer, SN_MAX(link->max_message, SN_GRPC_MESSAGE_MAX));
	if (sn__schema_create(&index->schema) != 0)
		return no_memory(index);
	return path != NULL ? read_set(index, path) : 0;
}

void sn__grpc_index_close(struct sn_grpc_index *index)
{
	close_stream(index);
	sn__schema_destroy(index->schema);
	sn__schema_destroy(index->details);
	sn__buf_finish(&index->set);
	sn__buf_finish(&index->answer);
}
