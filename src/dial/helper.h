// SPDX-License-Identifier: Apache-2.0
// The helper process: asks the system's settings for proxies and runs PAC scripts, by libproxy, which blocks, loads what the desktop
// brings and runs JavaScript; nothing of that belongs into an agent. It is this program started again with HELPER_WORD as its one
// argument (a name for us, no command for people), by dial/find.c, which feeds it, reads a bounded answer and kills it in the end.
//
// Request on stdin, until its end:  url URL   what a proxy is wanted for
//                                   pac URL   run this script; without it: ask the system's settings
//                                   ca FILE   trust for fetching https:// scripts; without it the system's
// Answer on stdout: the lines of wire/found.h.
//
// Each step (ask the settings, fetch the script, run it) is a process of its own with a deadline and a bound of memory, so that the
// answer can say which of them failed. The script is fetched and looked at here and given to libproxy as a file in memory, because
// libproxy answers "direct" for a script that it cannot fetch. It is loaded by dlopen in a step: a machine without it lacks nothing but its answers.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HELPER_WORD "ask-for-proxies"
#define HELPER_REQUEST_MAX 8192
#define HELPER_SETTINGS_MS 3000 // for each step
#define HELPER_FETCH_MS 5000
#define HELPER_RUN_MS 4000
#define HELPER_MEMORY_MAX (512u * 1024 * 1024) // resident, of a step
#define HELPER_CPU_S 5
#define HELPER_REDIRECTS 4 // that are followed to a script

int helper_main(void); // the exit status

// For the files of the helper only.

struct step {
    void (*work)(void *ctx, int out); // in the process of the step; it writes and returns
    void *ctx;
    uint32_t ms;
    size_t max; // bytes of its output
    bool (*enough)(const char *data, size_t len); // ends it early; NULL: it ends by itself
};

enum step_end { STEP_DONE, STEP_LATE, STEP_HUNGRY, STEP_LONG, STEP_CRASHED };

struct step_result {
    enum step_end end;
    int how;    // of a crash: the signal, or 0
    char *data; // heap, ended by 0; never NULL
    size_t len;
};

void step_run(const struct step *s, struct step_result *r);

struct helper_fetch { // writes 'P' and the script, or 'E' and a sentence
    const char *url, *ca;
};
void helper_fetch(void *ctx, int out);

struct helper_ask { // writes what libproxy says of itself, then a line "= URL" for each answer
    const char *url;
    int script; // a descriptor with the script; -1: the system's settings
};
void helper_ask(void *ctx, int out);
#define HELPER_MISSING "? " // and a sentence, when there is no libproxy
#define HELPER_FAILED "! "  // when it answered nothing
