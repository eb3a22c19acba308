/* SPDX-License-Identifier: Apache-2.0 */
#include "inbound_mhd.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

/* What *req_cls of the daemon points to; the handler gets the address of `users` as its own. */
struct request {
	void *users;                /* first */
	struct sn_inbound *inbound; /* NULL: served without */
};

void sn_inbound_attach_mhd(struct sn_inbound_mhd *mhd, struct sn_runtime *rt,
		MHD_AccessHandlerCallback handler, void *handler_arg,
		MHD_RequestCompletedCallback completed, void *completed_arg)
{
	*mhd = (struct sn_inbound_mhd){rt, handler, handler_arg, completed, completed_arg};
}

static const char *header_of(const char *name, void *connection)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

/* Our end of the connection, for the span. */
static const char *own_address(struct MHD_Connection *connection, char out[INET_ADDRSTRLEN])
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
			connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct sockaddr_in in;
	socklen_t size = sizeof(in);

	if (info == NULL || getsockname(info->connect_fd, (struct sockaddr *)&in, &size) < 0 ||
			in.sin_family != AF_INET)
		return NULL;
	return inet_ntop(AF_INET, &in.sin_addr, out, INET_ADDRSTRLEN);
}

static enum MHD_Result begin(struct sn_inbound_mhd *mhd, struct MHD_Connection *connection,
		const char *url, const char *method, struct request **ret_request)
{
	struct sn_inbound_request req = SN_INBOUND_REQUEST_INIT;
	const char *host = header_of("Host", connection);
	char full[2048], ipv4[INET_ADDRSTRLEN];
	struct request *request = calloc(1, sizeof(*request));
	struct MHD_Response *late;
	enum MHD_Result result;
	int r;

	if (request == NULL)
		return MHD_NO;
	(void)snprintf(full, sizeof(full), "http://%s%s", host != NULL ? host : "", url);
	req.method = method;
	req.url = full;
	req.ipv4 = own_address(connection, ipv4);
	req.header = header_of;
	req.arg = connection;
	r = sn_inbound_begin(mhd->rt, &req, &request->inbound);
	if (r != SN_E_DEADLINE) { /* on success, and when it must be served without */
		*ret_request = request;
		return MHD_YES;
	}
	free(request);
	late = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
	result = late != NULL ? MHD_queue_response(connection, MHD_HTTP_GATEWAY_TIMEOUT, late)
			      : MHD_NO;
	if (late != NULL)
		MHD_destroy_response(late);
	return result;
}

enum MHD_Result sn_inbound_mhd_handler(void *arg, struct MHD_Connection *connection,
		const char *url, const char *method, const char *version, const char *data,
		size_t *data_size, void **req_cls)
{
	struct sn_inbound_mhd *mhd = arg;
	struct request *request = *req_cls;

	if (request == NULL) {
		enum MHD_Result result = begin(mhd, connection, url, method, &request);

		if (request == NULL) /* it is answered already, or cannot be */
			return result;
		*req_cls = request;
	}
	return mhd->handler(mhd->handler_arg, connection, url, method, version, data, data_size,
			&request->users);
}

void sn_inbound_mhd_completed(void *arg, struct MHD_Connection *connection, void **req_cls,
		enum MHD_RequestTerminationCode how)
{
	struct sn_inbound_mhd *mhd = arg;
	struct request *request = *req_cls;
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
			connection, MHD_CONNECTION_INFO_HTTP_STATUS);
	unsigned status = info != NULL ? info->http_status : 0;

	if (request == NULL)
		return;
	if (mhd->completed != NULL)
		mhd->completed(mhd->completed_arg, connection, &request->users, how);
	sn_inbound_end(request->inbound, how == MHD_REQUEST_TERMINATED_COMPLETED_OK ? status : 0);
	free(request);
	*req_cls = NULL;
}

void sn_inbound_mhd_context(void *const *req_cls, struct sn_context *ret_context)
{
	const struct request *request = (const struct request *)(const void *)req_cls;

	*ret_context = (struct sn_context)SN_CONTEXT_INIT;
	if (request->inbound != NULL)
		sn_inbound_context(request->inbound, ret_context);
}
