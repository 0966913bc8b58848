// SPDX-License-Identifier: Apache-2.0
// The relay's files.
#include "relay/state.h"
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

int relay_state_set_url(const char *state, const char *url, struct err *e)
{
    char *path = file_path(state, RELAY_URL_FILE);
    int rc = path ? file_write(path, url, strlen(url), 0600, e) : err_set(e, ERR_FAILED, WHY_NONE, "out of memory");
    free(path);
    return rc;
}

static bool read_url(const char *state, char *out)
{
    char *path = file_path(state, RELAY_URL_FILE), *data = NULL;
    size_t len = 0;
    struct err e = ERR_INIT;
    bool ok = path && file_exists(path) && file_read(path, true, &data, &len, &e) == 0 && len > 0 && len < URL_TEXT_MAX;
    if (ok)
        memcpy(out, data, len + 1);
    file_wipe(data, len);
    free(path);
    err_fini(&e);
    return ok;
}

bool relay_state_url(const char *state, char *out)
{
    char name[256], *path = file_path(state, CERT_FILE);
    bool ok = read_url(state, out);
    if (!ok && path && file_exists(path) && cert_first_name(path, name)) {
        snprintf(out, URL_TEXT_MAX, strchr(name, ':') ? "wss://[%s]" : "wss://%s", name);
        ok = true;
    }
    free(path);
    return ok;
}
