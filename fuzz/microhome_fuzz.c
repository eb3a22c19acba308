/* SPDX-License-Identifier: Apache-2.0 */
/* A stream of packages: what is read can be written, and reads the same again. */
#include <stdlib.h>

#include "base/mem.h"
#include "proto/json_pull.h"
#include "proto/microhome.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool right)
{
	if (!right)
		abort();
}

static void again(const struct sn_microhome_packet *p, const struct sn_microhome_event *e)
{
	struct sn_microhome_send send = {e->id, e->timestamp, e->source, e->type, e->data, e->error,
			e->token, p->version, p->status};
	struct sn_microhome_packet second;
	struct sn_microhome_event f;
	enum sn_microhome_fault fault;
	struct sn_buf out, scratch;

	sn__buf_init(&out, SN_MICROHOME_PACKET_MAX * 8);
	sn__buf_init(&scratch, SN_MICROHOME_PACKET_MAX * 2);
	fault = sn__microhome_write(&send, &out);
	if (fault == SN_MICROHOME_FINE) {
		must(sn__microhome_next(sn__buf_str(&out), &second) == out.len);
		fault = sn__microhome_read(&second, true, &scratch, &f);
		must(fault == (p->status == 1 ? SN_MICROHOME_FINE : SN_MICROHOME_E_STATUS));
		must(sn_str_eq(e->type, f.type) && sn_str_eq(e->source, f.source));
		must(sn_str_eq(e->data, f.data) && sn_str_eq(e->error, f.error));
		must(sn__json_check_wide(second.payload, NULL) == 0);
	} else {
		must(fault == SN_MICROHOME_E_FIELDS || fault == SN_MICROHOME_E_TOO_LARGE);
	}
	sn__buf_finish(&scratch);
	sn__buf_finish(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_str rest = {(const char *)data, size};
	struct sn_microhome_packet p;
	struct sn_microhome_event e;
	struct sn_buf scratch;
	size_t n;

	(void)sn__microhome_detect(rest);
	sn__buf_init(&scratch, SN_MICROHOME_PACKET_MAX * 2);
	while ((n = sn__microhome_next(rest, &p)) > 0) {
		enum sn_microhome_fault fault = sn__microhome_read(&p, false, &scratch, &e);

		must(n == SN_MICROHOME_HEADER + p.payload.len && n <= rest.len);
		must(fault != SN_MICROHOME_E_NOMEM);
		if (fault == SN_MICROHOME_FINE || fault == SN_MICROHOME_E_STATUS)
			again(&p, &e);
		rest.ptr += n;
		rest.len -= n;
	}
	must(rest.len < SN_MICROHOME_PACKET_MAX);
	sn__buf_finish(&scratch);
	return 0;
}
