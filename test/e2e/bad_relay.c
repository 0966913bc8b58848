// SPDX-License-Identifier: Apache-2.0
// The program with a relay that cheats on streams between agents, as BAD_RELAY says: "unsealed" takes the seal off OPEN,
// "liar" claims it in OPENED besides, "swap" asks the offering agent for its service "other", "name" calls the asker
// "friend", and "record" writes all bytes that it switches to the file BAD_RELAY_RECORD.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cmd/command.h"
#include "core/buf.h"
#include "wire/frame.h"

struct stream;

size_t __real_frame_put_open(uint8_t *out, uint32_t stream, const struct frame_open *f);
size_t __wrap_frame_put_open(uint8_t *out, uint32_t stream, const struct frame_open *f);
size_t __real_frame_put_opened(uint8_t *out, uint32_t stream, const struct frame_opened *f);
size_t __wrap_frame_put_opened(uint8_t *out, uint32_t stream, const struct frame_opened *f);
int __real_switch_on_data(struct stream *st, uint64_t offset, struct buf *b);
int __wrap_switch_on_data(struct stream *st, uint64_t offset, struct buf *b);

static int cheats(const char *how)
{
    const char *env = getenv("BAD_RELAY");
    return env && strcmp(env, how) == 0;
}

size_t __wrap_frame_put_open(uint8_t *out, uint32_t stream, const struct frame_open *f)
{
    struct frame_open open = *f;
    if (open.kind == OPEN_SERVICE) {
        if (cheats("unsealed") || cheats("liar"))
            open.sealed = false;
        if (cheats("swap"))
            snprintf(open.host, sizeof(open.host), "other%s", f->host + strcspn(f->host, "@"));
        if (cheats("name"))
            snprintf(open.agent, sizeof(open.agent), "friend");
    }
    return __real_frame_put_open(out, stream, &open);
}

size_t __wrap_frame_put_opened(uint8_t *out, uint32_t stream, const struct frame_opened *f)
{
    struct frame_opened opened = *f;
    if (cheats("liar"))
        opened.sealed = true;
    return __real_frame_put_opened(out, stream, &opened);
}

int __wrap_switch_on_data(struct stream *st, uint64_t offset, struct buf *b)
{
    const char *path = getenv("BAD_RELAY_RECORD");
    FILE *file = cheats("record") && path ? fopen(path, "ab") : NULL;
    if (file) {
        fwrite(buf_data(b), 1, b->len, file);
        fclose(file);
    }
    return __real_switch_on_data(st, offset, b);
}

int main(int argc, char **argv) { return command_main(argc, argv); }
