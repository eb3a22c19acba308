/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"

#include <time.h>

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	(void)clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * SN_NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t sn__clock_mono_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t sn__clock_wall_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}
