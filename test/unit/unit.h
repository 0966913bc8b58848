// SPDX-License-Identifier: Apache-2.0
// What the unit tests share: cmocka in the order it needs, and a few checks.
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "core/err.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

// A refusal has the exit status `kind` and a text with `part` in it; ends the error.
static inline void assert_refused(struct err *e, enum err_kind kind, const char *part)
{
    assert_int_equal(e->kind, kind);
    if (!strstr(err_text(e), part))
        fail_msg("\"%s\" does not say \"%s\"", err_text(e), part);
    err_fini(e);
}
