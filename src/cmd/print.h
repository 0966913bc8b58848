// SPDX-License-Identifier: Apache-2.0
// JSON for people: tables in columns, status as indented lines. Foreign bytes are escaped. Keys give the unit:
// "…_ms" is a duration, "…bytes…" a size; "created", "expires", "since" are seconds since 1970.
#pragma once
#include <jansson.h>
#include <stdio.h>

void print_table(FILE *out, const json_t *rows);
void print_status(FILE *out, const json_t *answers); // as control_ask gives them
// One value as text; `out` holds `size` bytes; returns out.
char *print_value(const char *key, const json_t *value, char *out, size_t size);
