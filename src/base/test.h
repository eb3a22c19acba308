/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_TEST_H
#define SN_SRC_BASE_TEST_H

/* Internal, tests only: cmocka with what it wants included first. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
