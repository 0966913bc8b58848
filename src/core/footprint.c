// SPDX-License-Identifier: Apache-2.0
#include "core/footprint.h"
#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// Only segments that are not writable: what relocation has changed lies in a writable one, also when it is read-only by now.
static int shrink_object(struct dl_phdr_info *info, size_t size, void *ctx)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    (void)size;
    (void)ctx;
    if (strstr(info->dlpi_name, "vdso"))
        return 0; // the kernel's
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        if (h->p_type != PT_LOAD || h->p_flags & PF_W)
            continue;
        uintptr_t from = (info->dlpi_addr + h->p_vaddr) & ~(page - 1);
        uintptr_t to = (info->dlpi_addr + h->p_vaddr + h->p_memsz) & ~(page - 1);
        if (to > from)
            madvise((void *)from, to - from, MADV_DONTNEED);
    }
    return 0;
}

void footprint_shrink(void)
{
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
    dl_iterate_phdr(shrink_object, NULL);
}
