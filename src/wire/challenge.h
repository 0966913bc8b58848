// SPDX-License-Identifier: Apache-2.0
// Authentication challenges (RFC 9110 11.6): a header has a list of them, and each of them may have a list of parameters, with
// commas in quoted strings. Parsed in place and bounded; what makes no sense ends the header's list, and what was understood
// before it counts.
#pragma once
#include "wire/http.h"

#define CHALLENGE_PARAMS_MAX 16 // of one challenge; more are ignored

struct challenge {
    struct http_text scheme;
    struct http_text token; // token68, as of Negotiate and NTLM; len 0: none
    struct http_header params[CHALLENGE_PARAMS_MAX]; // values as they were written, quotes and all
    size_t count;
};

// Takes the next challenge off the list. False: there is none.
bool challenge_next(struct http_text *list, struct challenge *out);
// The value of a parameter without quotes and escapes, ended by 0. False: absent, too long, or with a 0 in it.
bool challenge_get(const struct challenge *c, const char *name, char *out, size_t size);
