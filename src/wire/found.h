// SPDX-License-Identifier: Apache-2.0
// What the helper process says that asks the system for proxies and runs PAC scripts (dial/helper.h): lines of a word and a text. It runs
// foreign code, so its answer is foreign bytes: bounded, and what does not parse is left out. No I/O.
//
//     settings TEXT   the system's settings: "pac+http://…", "wpad://", "http://a:3128", "direct://"
//     pac URL         the script that was run
//     answer TEXT     what it answered
//     use URL         a proxy of the settings, in order
//     note TEXT       a sentence for people, beside an answer
//     fail TEXT       why there is no answer
//     end             that was all
#pragma once
#include "wire/pac.h"

#define FOUND_ANSWER_MAX 16384 // bytes of the whole answer
#define FOUND_TEXT_MAX 512

struct found {
    struct proxy_url of[PAC_ENTRIES]; // in order; PROXY_NONE is direct; none: the settings say nothing
    size_t count;
    char pac[URL_PAC_MAX + 1];   // "": no script was asked
    char answer[FOUND_TEXT_MAX]; // of the script; printable, perhaps cut
    char note[FOUND_TEXT_MAX];
    char fail[FOUND_TEXT_MAX];
    bool whole; // with its end
};

void found_parse(struct found *f, const char *data, size_t len);
void found_wipe(struct found *f); // logins
