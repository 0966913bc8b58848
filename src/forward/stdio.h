// SPDX-License-Identifier: Apache-2.0
// Two descriptors of this process (stdin and stdout) as a link: pipes, sockets, terminals, and files, which are always
// ready and are read a buffer a turn. Reading and writing are separate, so a half close is the closing of one. Modes of
// the descriptors, which may be shared with other processes, are put back at the end.
#pragma once
#include "link/link.h"

// Takes over `in` and `out`, which must differ; -1 stands for one that is at its end.
struct link *stdio_link(struct worker *w, int in, int out);
