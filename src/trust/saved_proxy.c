// SPDX-License-Identifier: Apache-2.0
#include "trust/saved_proxy.h"
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "trust/file.h"
#include "wire/pac.h"

#define LINE_MAX_BYTES (6 * URL_LOGIN_MAX + URL_TEXT_MAX)

static int check(const struct saved_proxy *s, const char *what, struct err *e)
{
    struct pac_url url;
    for (size_t i = 0; i < s->count; i++) {
        const struct proxy_url *p = &s->of[i];
        if (p->kind < PROXY_HTTP && s->count > 1)
            return err_set(e, ERR_USAGE, WHY_NONE, "%s: auto, none and PAC scripts stand alone", what);
        if (p->kind == PROXY_PAC && pac_url_parse(&url, p->pac, e) < 0) {
            err_prefix(e, "%s", what);
            return -1;
        }
    }
    return 0;
}

static int add(struct saved_proxy *s, const char *line, const char *what, struct err *e)
{
    if (s->count == PAIRING_PROXIES)
        return err_set(e, ERR_USAGE, WHY_NONE, "%s: a chain has at most %d proxies", what, PAIRING_PROXIES);
    if (proxy_url_parse(&s->of[s->count], line, e) < 0) {
        err_prefix(e, "%s", what);
        return -1;
    }
    s->count++;
    return 0;
}

int saved_proxy_parse(struct saved_proxy *s, const char *text, const char *what, struct err *e)
{
    struct saved_proxy out = {.count = 0};
    char line[LINE_MAX_BYTES];
    int rc = 0;
    for (const char *at = text; *at && rc == 0;) {
        at += strspn(at, " \t\r\n");
        size_t n = strcspn(at, "\r\n"), used = n;
        while (used > 0 && strchr(" \t", at[used - 1]))
            used--;
        if (used >= sizeof(line))
            rc = err_set(e, ERR_USAGE, WHY_NONE, "%s: longer than a proxy can be", what);
        snprintf(line, sizeof(line), "%.*s", (int)used, at);
        if (rc == 0 && used > 0)
            rc = add(&out, line, what, e);
        at += n;
    }
    OPENSSL_cleanse(line, sizeof(line));
    if (rc == 0)
        rc = check(&out, what, e);
    if (rc == 0)
        *s = out;
    saved_proxy_wipe(&out);
    return rc;
}

int saved_proxy_read(struct saved_proxy *s, const char *dir, struct err *e)
{
    char *path = file_path(dir, SAVED_PROXY_FILE), *text = NULL;
    size_t len = 0;
    int rc = 0;
    if (!file_exists(path))
        saved_proxy_wipe(s);
    else if (file_read(path, true, &text, &len, e) < 0)
        rc = -1;
    else
        rc = saved_proxy_parse(s, text, path, e);
    file_wipe(text, len);
    free(path);
    return rc;
}

int saved_proxy_write(const struct saved_proxy *s, const char *dir, struct err *e)
{
    char *path = file_path(dir, SAVED_PROXY_FILE), text[PAIRING_PROXIES * LINE_MAX_BYTES];
    size_t n = 0;
    int rc = 0;
    for (size_t i = 0; i < s->count && rc == 0; i++) {
        if (!proxy_url_secret_text(&s->of[i], text + n, LINE_MAX_BYTES - 1))
            rc = err_set(e, ERR_USAGE, WHY_NONE, "conf_proxy: longer than a proxy can be");
        n += strlen(text + n);
        text[n++] = '\n';
    }
    if (rc == 0 && s->count > 0)
        rc = file_write(path, text, n, 0600, e);
    else if (rc == 0 && unlink(path) < 0 && errno != ENOENT)
        rc = err_errno(e, errno, "remove %s", path);
    OPENSSL_cleanse(text, sizeof(text));
    free(path);
    return rc;
}

void saved_proxy_wipe(struct saved_proxy *s)
{
    OPENSSL_cleanse(s, sizeof(*s));
}
