// SPDX-License-Identifier: Apache-2.0
// What the files behind options.h share; for nobody else.
#pragma once
#include "cmd/options.h"

const struct option *option_find(const struct command *c, const char *name, size_t len);
// Names of the options that c takes; keys: only those that may stand in the file.
size_t option_names(const struct command *c, bool keys, const char **out, size_t max);
// 0, or -1 without memory.
int option_add(struct options *o, const struct option *opt, const char *text, enum option_source source,
               const char *place);
