// SPDX-License-Identifier: Apache-2.0
#include "link/gcm_vaes.h"
#if HAVE_IPSEC_MB
#include <dlfcn.h>
#include <intel-ipsec-mb.h>
#include <link.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LIBRARY "libIPSec_MB.so.1"
#define TAG 16

struct gcm_vaes {
    struct gcm_key_data key; // aligned to 64 bytes
    struct gcm_context_data context;
    aes_gcm_init_t init;
    aes_gcm_enc_dec_update_t update;
    aes_gcm_enc_dec_finalize_t finalize;
};

static struct {
    pthread_once_t once;
    IMB_MGR *table; // NULL: not to be had
} library = {.once = PTHREAD_ONCE_INIT};

// Its self test has gone through 3 MiB of code that nobody needs again: those pages are the file's, and given back.
static int give_back(struct dl_phdr_info *object, size_t size, void *base)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    (void)size;
    if (object->dlpi_addr != *(ElfW(Addr) *)base)
        return 0;
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &object->dlpi_phdr[i];
        uintptr_t at = (object->dlpi_addr + p->p_vaddr + page - 1) & ~(page - 1);
        uintptr_t end = (object->dlpi_addr + p->p_vaddr + p->p_memsz) & ~(page - 1);
        if (p->p_type == PT_LOAD && !(p->p_flags & PF_W) && end > at)
            madvise((void *)at, end - at, MADV_DONTNEED);
    }
    return 1;
}

static void load(void)
{
    const uint64_t need = IMB_CPUFLAGS_AVX512_T2 | IMB_FEATURE_SELF_TEST_PASS;
    // Asked here first, so that other processors do not even load it.
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("vpclmulqdq"))
        return;
    void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return;
    __typeof__(imb_get_version) *version = (__typeof__(version))dlsym(handle, "imb_get_version");
    __typeof__(alloc_mb_mgr) *make = (__typeof__(make))dlsym(handle, "alloc_mb_mgr");
    __typeof__(free_mb_mgr) *discard = (__typeof__(discard))dlsym(handle, "free_mb_mgr");
    __typeof__(init_mb_mgr_avx512) *init = (__typeof__(init))dlsym(handle, "init_mb_mgr_avx512");
    // An older one may have a shorter table.
    IMB_MGR *table = version && make && discard && init && version() >= IMB_VERSION_NUM ? make(0) : NULL;
    if (table && (table->features & IMB_CPUFLAGS_AVX512_T2) == IMB_CPUFLAGS_AVX512_T2) {
        struct link_map *map;
        init(table);
        if ((table->features & need) == need)
            library.table = table;
        if (dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0)
            dl_iterate_phdr(give_back, &map->l_addr);
    }
    if (table && !library.table)
        discard(table);
    if (!library.table)
        dlclose(handle);
}

struct gcm_vaes *gcm_vaes_new(const uint8_t *key, size_t key_len, bool seals)
{
    pthread_once(&library.once, load);
    const IMB_MGR *t = library.table;
    if (!t || (key_len != IMB_GCM_128_KEY_LEN && key_len != IMB_GCM_256_KEY_LEN))
        return NULL;
    struct gcm_vaes *g = aligned_alloc(64, (sizeof(*g) + 63) / 64 * 64);
    if (!g)
        abort();
    memset(g, 0, sizeof(*g));
    if (key_len == IMB_GCM_128_KEY_LEN) {
        t->gcm128_pre(key, &g->key);
        g->init = t->gcm128_init;
        g->update = seals ? t->gcm128_enc_update : t->gcm128_dec_update;
        g->finalize = seals ? t->gcm128_enc_finalize : t->gcm128_dec_finalize;
    } else {
        t->gcm256_pre(key, &g->key);
        g->init = t->gcm256_init;
        g->update = seals ? t->gcm256_enc_update : t->gcm256_dec_update;
        g->finalize = seals ? t->gcm256_enc_finalize : t->gcm256_dec_finalize;
    }
    return g;
}

void gcm_vaes_free(struct gcm_vaes *g)
{
    if (!g)
        return;
    OPENSSL_cleanse(g, sizeof(*g));
    free(g);
}

bool gcm_vaes_begin(struct gcm_vaes *g, const uint8_t nonce[12], const uint8_t *more, size_t more_len)
{
    g->init(&g->key, &g->context, nonce, more, more_len);
    return true;
}

bool gcm_vaes_update(struct gcm_vaes *g, uint8_t *to, const uint8_t *from, size_t len)
{
    g->update(&g->key, &g->context, to, from, len);
    return true;
}

bool gcm_vaes_seal_end(struct gcm_vaes *g, uint8_t tag[16])
{
    g->finalize(&g->key, &g->context, tag, TAG);
    return true;
}

bool gcm_vaes_open_end(struct gcm_vaes *g, const uint8_t tag[16])
{
    uint8_t right[TAG];
    g->finalize(&g->key, &g->context, right, TAG);
    bool ok = CRYPTO_memcmp(right, tag, TAG) == 0;
    OPENSSL_cleanse(right, sizeof(right));
    return ok;
}

#else

struct gcm_vaes *gcm_vaes_new(const uint8_t *key, size_t key_len, bool seals) { return NULL; }
void gcm_vaes_free(struct gcm_vaes *g) {}
bool gcm_vaes_begin(struct gcm_vaes *g, const uint8_t nonce[12], const uint8_t *more, size_t more_len) { return false; }
bool gcm_vaes_update(struct gcm_vaes *g, uint8_t *to, const uint8_t *from, size_t len) { return false; }
bool gcm_vaes_seal_end(struct gcm_vaes *g, uint8_t tag[16]) { return false; }
bool gcm_vaes_open_end(struct gcm_vaes *g, const uint8_t tag[16]) { return false; }
#endif
