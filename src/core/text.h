// SPDX-License-Identifier: Apache-2.0
// Text of ours for people, in UTF-8: how many columns it takes, and wrapped to lines. Allocates nothing.
#pragma once
#include <stddef.h>
#include <stdio.h>

#define TEXT_WIDTH 110 // columns of a line

// Columns of the first `len` bytes of s; each character counts for one.
size_t text_width(const char *s, size_t len);
// Writes words, from column `at` on, where the output stands already, wrapped to it; ends the line.
void text_wrap(FILE *out, const char *words, size_t at);
