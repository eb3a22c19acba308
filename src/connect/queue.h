/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_QUEUE_H
#define SN_SRC_CONNECT_QUEUE_H

/* Internal. What sn_queue_put() and sn_queue_consume() keep on a runtime, and its end. Loop
 * thread. */

#include "connect/connect.h"

/** The runtime closes: puts that wait for another try end, as parts of the present stage. */
void sn__queue_puts_close(struct sn_connect *c);
/** Consumers end, likewise. */
void sn__queue_consumers_close(struct sn_connect *c);
/** Those that nobody stopped. */
void sn__queue_consumers_free(struct sn_connect *c);

#endif
