// SPDX-License-Identifier: Apache-2.0
// GSSAPI off the loop: the first token of NTLM, no tickets, and a handshake that is freed while its thread works.
#include "loop.h"
#include "unit.h"
#include <dirent.h>
#include <stdlib.h>
#include "link/gss.h"

#ifdef __SANITIZE_ADDRESS__
#define NTLM false // Debian's gss-ntlmssp 1.2.0 keeps some KiB of every handshake, which would be told as a leak of ours
#else
#define NTLM true
#endif

static void on_done(void *ctx) { *(bool *)ctx = true; }

static struct gss *step(struct worker *w, bool ntlm, const char *user, const char *password)
{
    bool done = false;
    struct gss *g = gss_new(w, ntlm, "localhost", user, password);
    gss_step(g, NULL, 0, on_done, &done);
    assert_true(gss_is_busy(g));
    loop_until(w, done);
    assert_false(gss_is_busy(g));
    return g;
}

static void ntlm_begins(void **state)
{
    struct worker w;
    if (!NTLM)
        skip();
    assert_int_equal(worker_init(&w, 0, 1), 0);
    struct gss *g = step(&w, true, "user", "secret");
    if (!gss_token(g)) {
        assert_non_null(strstr(gss_error(g), "gss-ntlmssp")); // it is not installed
    } else {
        assert_memory_equal(gss_token(g), "TlRMTVNTUAABAAAA", 16); // "NTLMSSP\0", message 1
        bool done = false;
        gss_step(g, (const uint8_t *)"nonsense", 8, on_done, &done);
        loop_until(&w, done);
        assert_null(gss_token(g));
        assert_non_null(strstr(gss_error(g), "NTLM: "));
    }
    gss_free(g);
    worker_fini(&w);
}

static void no_tickets(void **state)
{
    struct worker w;
    assert_int_equal(worker_init(&w, 0, 1), 0);
    setenv("KRB5CCNAME", "FILE:/nowhere/tickets", 1);
    struct gss *g = step(&w, false, NULL, NULL);
    assert_null(gss_token(g));
    assert_string_equal(gss_error(g), "Negotiate: there is no Kerberos ticket (kinit gets one)");
    gss_free(g);
    worker_fini(&w);
}

static unsigned threads(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void freed_while_it_works(void **state)
{
    struct worker w;
    bool told[20] = {0}, was[20];
    assert_int_equal(worker_init(&w, 0, 1), 0);
    for (int i = 0; i < 20; i++) {
        struct gss *g = gss_new(&w, NTLM && i % 2, "localhost", "user", "secret");
        gss_step(g, NULL, 0, on_done, &told[i]);
        if (i % 4 == 3)
            worker_poll(&w, false); // which may tell this one, where its thread was quick
        gss_free(g);
        was[i] = told[i];
    }
    struct gss *last = step(&w, NTLM, "user", "secret");
    assert_memory_equal(told, was, sizeof(told)); // nobody was told who did not want to know
    gss_free(last);
    loop_until(&w, threads() == 1); // those of the tests before too: the libraries do not bear an exit under them
    worker_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ntlm_begins),
        cmocka_unit_test(no_tickets),
        cmocka_unit_test(freed_while_it_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
