// SPDX-License-Identifier: Apache-2.0
// The worker's watches, for worker.c: one epoll descriptor for all sockets, and for libuv's own. libuv's poll handles cost up to
// eight system calls a socket and two for each change of interest.
#pragma once
#include "core/worker.h"

int watch_start(struct worker *w); // 0, or a libuv error
void watch_stop(struct worker *w); // after the loop has closed its handles
// Waits up to ms (-1: for ever) and serves what is ready; true when libuv has something to do. Reads the clock.
bool watch_poll(struct worker *w, int ms);
