// SPDX-License-Identifier: Apache-2.0
// Gives back what only the start of the program needed: freed heap, and the pages of code and constants (relocations, names,
// tables, paths not taken again) that it touched, its own and its libraries'. They are file pages that nobody has written to, so
// what is still needed comes back from the page cache at the first use. Cannot fail; legal at any time, from one thread.
#pragma once

void footprint_shrink(void);
