// SPDX-License-Identifier: Apache-2.0
#include "core/machine.h"
#include <sys/resource.h>
#include <unistd.h>

void machine_raise_descriptors(void)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max;
        setrlimit(RLIMIT_NOFILE, &lim);
    }
}

size_t machine_quarter(size_t most)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    if (pages <= 0 || size <= 0)
        return most;
    size_t quarter = (size_t)pages / 4 * (size_t)size;
    return quarter < most ? quarter : most;
}
