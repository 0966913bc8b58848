// SPDX-License-Identifier: Apache-2.0
#include "wire/found.h"
#include <openssl/crypto.h>
#include <string.h>
#include "core/log.h"
#include "wire/scan.h"

static bool is_word(const char *line, size_t n, const char *word)
{
    return strlen(word) == n && memcmp(line, word, n) == 0;
}

static void take_answer(struct found *f, const char *text)
{
    log_escape(f->answer, sizeof f->answer, text, strlen(text));
    f->count = pac_answer_parse(f->of, PAC_ENTRIES, text);
}

static void take_line(struct found *f, const char *line)
{
    size_t n = strcspn(line, " ");
    const char *text = line[n] ? line + n + 1 : "";
    if (is_word(line, n, "pac"))
        log_escape(f->pac, sizeof f->pac, text, strlen(text));
    else if (is_word(line, n, "answer"))
        take_answer(f, text);
    else if (is_word(line, n, "use"))
        f->count = pac_add_url(f->of, f->count, PAC_ENTRIES, text);
    else if (is_word(line, n, "note"))
        log_escape(f->note, sizeof f->note, text, strlen(text));
    else if (is_word(line, n, "fail"))
        log_escape(f->fail, sizeof f->fail, text, strlen(text));
    else if (is_word(line, n, "end"))
        f->whole = true;
}

void found_parse(struct found *f, const char *data, size_t len)
{
    char line[2048];
    memset(f, 0, sizeof *f);
    if (len > FOUND_ANSWER_MAX)
        len = FOUND_ANSWER_MAX;
    while (len > 0 && !f->whole) {
        const char *end = memchr(data, '\n', len);
        if (!end) // cut
            return;
        size_t n = (size_t)(end - data);
        if (!memchr(data, 0, n) && scan_copy(line, sizeof line, data, n))
            take_line(f, line);
        data += n + 1;
        len -= n + 1;
    }
}

void found_wipe(struct found *f)
{
    OPENSSL_cleanse(f, sizeof *f);
}
