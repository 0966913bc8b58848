// SPDX-License-Identifier: Apache-2.0
// A folder of the test's own, removed with all that is in it.
#pragma once
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline char *temp_make(char path[64])
{
    const char *base = getenv("TMPDIR");
    if (!base)
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"; // memory first: these tests fsync a lot
    snprintf(path, 64, "%.40s/culvert-XXXXXX", base);
    if (!mkdtemp(path))
        abort();
    return path;
}

static inline int temp_unlink(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    return remove(path);
}

static inline void temp_drop(const char *path)
{
    nftw(path, temp_unlink, 16, FTW_DEPTH | FTW_PHYS);
}
