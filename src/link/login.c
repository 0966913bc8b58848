// SPDX-License-Identifier: Apache-2.0
#include "link/login.h"
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

static char *copy(const char *text)
{
    char *out = strdup(text);
    if (!out)
        abort();
    return out;
}

static void wipe(char *text)
{
    OPENSSL_cleanse(text, strlen(text));
    free(text);
}

void logins_init(struct logins *b) { list_init(&b->all); }

void logins_fini(struct logins *b)
{
    if (!b->all.next)
        return;
    list_each(&b->all, it) {
        struct login *l = list_entry(it, struct login, node);
        list_del(&l->node);
        wipe(l->user);
        wipe(l->password);
        free(l->where);
        free(l);
    }
}

struct login *logins_get(struct logins *b, const char *where, const char *user, const char *password)
{
    list_each(&b->all, it) {
        struct login *l = list_entry(it, struct login, node);
        if (strcmp(l->where, where) == 0 && strcmp(l->user, user) == 0 && strcmp(l->password, password) == 0)
            return l;
    }
    struct login *l = calloc(1, sizeof(*l));
    if (!l)
        abort();
    l->where = copy(where);
    l->user = copy(user);
    l->password = copy(password);
    list_init(&l->waiting);
    list_push(&b->all, &l->node);
    return l;
}

void logins_forgive(struct logins *b)
{
    list_each(&b->all, it) {
        struct login *l = list_entry(it, struct login, node);
        if (l->state == LOGIN_REFUSED)
            l->state = LOGIN_FRESH;
    }
}

void login_join(struct login_turn *t, struct link *l, struct login *login)
{
    *t = (struct login_turn){.link = l, .login = login};
    list_init(&t->node);
}

enum link_status login_take(struct login_turn *t)
{
    switch (t->login->state) {
    case LOGIN_REFUSED:
        return LINK_FAILED;
    case LOGIN_TRYING:
        if (t->trying)
            return LINK_OK;
        if (list_empty(&t->node))
            list_push(&t->login->waiting, &t->node);
        return LINK_AGAIN;
    case LOGIN_FRESH:
        t->trying = true;
        t->login->state = LOGIN_TRYING;
        break;
    case LOGIN_GOOD:
        break;
    }
    return LINK_OK;
}

static void wake_all(struct login *l)
{
    list_each(&l->waiting, it) {
        struct login_turn *t = list_entry(it, struct login_turn, node);
        list_del(&t->node);
        link_wake(t->link);
    }
}

void login_told(struct login_turn *t, bool accepted)
{
    t->trying = false;
    t->login->state = accepted ? LOGIN_GOOD : LOGIN_REFUSED;
    wake_all(t->login);
}

void login_leave(struct login_turn *t)
{
    if (!t->login)
        return;
    list_del(&t->node);
    if (t->trying) {
        t->login->state = LOGIN_FRESH;
        wake_all(t->login);
    }
    t->login = NULL;
}
