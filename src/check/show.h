// SPDX-License-Identifier: Apache-2.0
// A report for people, as a table, and for machines, as JSON (docs/check.md); and what is going on while it is being made. ASCII where the
// locale is not UTF-8, colours on a terminal only. Nothing here keeps state or fails.
#pragma once
#include <stdio.h>
#include "check/report.h"

void show_table(FILE *out, const struct report *r);
json_t *show_json(const struct report *r); // an object, owned by the caller
// One line on stderr, rewritten at each call; r NULL takes it away.
void show_progress(const struct report *r, uint64_t ms, unsigned turn);
