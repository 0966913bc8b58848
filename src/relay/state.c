// SPDX-License-Identifier: Apache-2.0
// The relay's files.
#include "relay/state.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "trust/cert.h"
#include "trust/file.h"

int relay_state_identity(const char *state, struct identity *id, struct err *e)
{
    char *path = file_path(state, RELAY_KEY_FILE);
    bool made;
    int rc = path ? identity_open(id, path, &made, e) : err_set(e, ERR_FAILED, WHY_NONE, "out of memory");
    free(path);
    return rc;
}

#define SELF_SIGNED "self-signed"

int relay_state_set_place(const char *state, const struct relay_place *place, struct err *e)
{
    char text[URL_TEXT_MAX + 20], *path = file_path(state, RELAY_PLACE_FILE);
    int len = snprintf(text, sizeof text, "%s\n%s", place->url, place->self_signed ? SELF_SIGNED "\n" : "");
    int rc = path ? file_write(path, text, (size_t)len, 0600, e) : err_set(e, ERR_FAILED, WHY_NONE, "out of memory");
    free(path);
    return rc;
}

static bool read_place(const char *state, struct relay_place *place)
{
    char *path = file_path(state, RELAY_PLACE_FILE), *data = NULL;
    size_t len = 0;
    struct err e = ERR_INIT;
    bool ok = path && file_exists(path) && file_read(path, true, &data, &len, &e) == 0;
    size_t line = ok ? strcspn(data, "\n") : 0;
    ok = ok && line > 0 && line < URL_TEXT_MAX;
    if (ok) {
        memcpy(place->url, data, line);
        place->url[line] = 0;
        place->self_signed = strstr(data + line, SELF_SIGNED) != NULL;
    }
    file_wipe(data, len);
    free(path);
    err_fini(&e);
    return ok;
}

bool relay_state_self_signed(const char *file)
{
    FILE *f = fopen(file, "re");
    X509 *x = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
    bool yes = x && X509_self_signed(x, 1) == 1;
    X509_free(x);
    if (f)
        fclose(f);
    ERR_clear_error();
    return yes;
}

bool relay_state_place(const char *state, struct relay_place *place)
{
    char name[256], *path = file_path(state, CERT_FILE);
    *place = (struct relay_place){0};
    bool ok = read_place(state, place);
    if (!ok && path && file_exists(path) && cert_first_name(path, name)) {
        snprintf(place->url, sizeof place->url, strchr(name, ':') ? "wss://[%s]" : "wss://%s", name);
        place->self_signed = relay_state_self_signed(path);
        ok = true;
    }
    free(path);
    return ok;
}
