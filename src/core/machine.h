// SPDX-License-Identifier: Apache-2.0
// What the machine gives a process: descriptors and memory. Asks and sets its limits; nothing here can fail.
#pragma once
#include <stddef.h>

void machine_raise_descriptors(void); // as far as this user may
// A quarter of the memory in bytes, at most `most`; `most` where nobody knows.
size_t machine_quarter(size_t most);
