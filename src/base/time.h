/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_TIME_H
#define SN_SRC_BASE_TIME_H

/* Internal. The only conversions between the two time units (_ms in options, _ns measured). */

#include <stdint.h>

#define SN_NS_PER_US UINT64_C(1000)
#define SN_NS_PER_MS UINT64_C(1000000)
#define SN_NS_PER_S UINT64_C(1000000000)
#define SN_NEVER_NS UINT64_MAX

static inline uint64_t sn_ms_to_ns(uint64_t ms)
{
	return ms > UINT64_MAX / SN_NS_PER_MS ? SN_NEVER_NS : ms * SN_NS_PER_MS;
}

/** Rounded up, so that a deadline is never early. */
static inline uint64_t sn_ns_to_ms(uint64_t ns)
{
	return ns / SN_NS_PER_MS + (ns % SN_NS_PER_MS != 0);
}

static inline uint64_t sn_time_add(uint64_t a_ns, uint64_t b_ns)
{
	return a_ns > UINT64_MAX - b_ns ? SN_NEVER_NS : a_ns + b_ns;
}

static inline uint64_t sn_time_until(uint64_t now_ns, uint64_t due_ns)
{
	return due_ns > now_ns ? due_ns - now_ns : 0;
}

/** CLOCK_MONOTONIC. Only loop back ends, benches and helper threads read it; everything else asks
 * its loop. */
uint64_t sn__clock_mono_ns(void);
/** CLOCK_REALTIME, nanoseconds since 1970. */
uint64_t sn__clock_wall_ns(void);

#endif
