// SPDX-License-Identifier: Apache-2.0
// The control socket on a real loop: answers, errors, several processes in one folder, dead sockets, mode, bounds.
#include "loop.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "control/control.h"

struct bench {
    struct worker w;
    char folder[600];
    struct control *c;
};

static json_t *status(void *owner) { return json_pack("{s:s}", "mood", "good"); }

static json_t *table(void *owner, const char *name)
{
    if (strcmp(name, "streams"))
        return NULL;
    json_t *rows = json_array();
    for (int i = 0; i < 20000; i++) // more than any socket buffer holds
        json_array_append_new(rows, json_pack("{s:i,s:s}", "n", i, "dest", "host.example:80"));
    return rows;
}

static uint64_t asked, last;

static void policy(void *owner, uint64_t ticket)
{
    asked++;
    last = ticket;
}

static const struct control_ops ops = {.status = status, .table = table, .policy = policy};

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    struct err e = ERR_INIT;
    char deep[200];
    memset(deep, 'd', 150);
    deep[150] = 0;
    snprintf(b->folder, sizeof b->folder, "/tmp/culvert-control-XXXXXX");
    assert_non_null(mkdtemp(b->folder));
    strcat(strcat(b->folder, "/"), deep); // longer than a socket's path
    assert_int_equal(mkdir(b->folder, 0700), 0);
    assert_int_equal(worker_init(&b->w, 0, 1), 0);
    b->c = control_start(&b->w, b->folder, "relay", &ops, b, &e);
    assert_non_null(b->c);
    *state = b;
    return 0;
}

static void socket_path(const struct bench *b, char *out, size_t size)
{
    snprintf(out, size, "%s/control-relay-%d.sock", b->folder, (int)getpid());
}

static int teardown(void **state)
{
    struct bench *b = *state;
    char path[700];
    control_stop(b->c);
    worker_turn(&b->w);
    worker_fini(&b->w);
    socket_path(b, path, sizeof path);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(rmdir(b->folder), 0);
    *strrchr(b->folder, '/') = 0;
    rmdir(b->folder);
    free(b);
    return 0;
}

// The asking side blocks, so it runs in a thread of its own.
struct asking {
    const struct bench *b;
    json_t *request, *answers;
    int rc;
    volatile bool done;
};

static void ask(void *arg)
{
    struct asking *a = arg;
    struct err e = ERR_INIT;
    a->rc = control_ask(a->b->folder, a->request, &a->answers, &e);
    err_fini(&e);
    a->done = true;
}

static json_t *answers_to(struct bench *b, json_t *request)
{
    struct asking a = {.b = b, .request = request};
    uv_thread_t t;
    assert_int_equal(uv_thread_create(&t, ask, &a), 0);
    loop_until(&b->w, a.done);
    uv_thread_join(&t);
    json_decref(request);
    assert_int_equal(a.rc, 0);
    return a.answers;
}

static void test_status(void **state)
{
    struct bench *b = *state;
    json_t *all = answers_to(b, json_pack("{s:s}", "ask", "status")), *one = json_array_get(all, 0);
    assert_int_equal(json_array_size(all), 1);
    assert_string_equal(json_string_value(json_object_get(one, "role")), "relay");
    assert_int_equal(json_integer_value(json_object_get(one, "pid")), getpid());
    assert_string_equal(json_string_value(json_object_get(json_object_get(one, "answer"), "mood")), "good");
    json_decref(all);
}

static void test_a_long_table_arrives_whole(void **state)
{
    struct bench *b = *state;
    json_t *all = answers_to(b, json_pack("{s:s,s:s}", "ask", "table", "name", "streams"));
    assert_int_equal(json_array_size(json_object_get(json_array_get(all, 0), "answer")), 20000);
    json_decref(all);
}

static void test_a_table_that_is_not_there(void **state)
{
    struct bench *b = *state;
    json_t *all = answers_to(b, json_pack("{s:s,s:s}", "ask", "table", "name", "chairs"));
    assert_string_equal(json_string_value(json_object_get(json_array_get(all, 0), "error")), "not here");
    json_decref(all);
    all = answers_to(b, json_array());
    assert_string_equal(json_string_value(json_object_get(json_array_get(all, 0), "error")), "not a request");
    json_decref(all);
}

static int dial(const struct bench *b)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    char cwd[300];
    assert_non_null(getcwd(cwd, sizeof cwd));
    assert_int_equal(chdir(b->folder), 0); // the whole path would be too long
    snprintf(un.sun_path, sizeof un.sun_path, "control-relay-%d.sock", (int)getpid());
    assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(chdir(cwd), 0);
    return fd;
}

static void test_who_tells_of_a_policy_waits_until_it_is_in_force(void **state)
{
    struct bench *b = *state;
    int fd = dial(b);
    char in[64];
    ssize_t n = -1;
    asked = 0;
    assert_int_equal(send(fd, "{\"ask\":\"policy\"}\n", 17, 0), 17);
    loop_until(&b->w, asked == 1);
    control_policy_read(b->c, last - 1); // somebody else's
    for (int i = 0; i < 20; i++)
        worker_poll(&b->w, false);
    assert_int_equal(recv(fd, in, sizeof in, 0), -1);
    assert_int_equal(errno, EAGAIN);
    control_policy_read(b->c, last);
    loop_until(&b->w, (n = recv(fd, in, sizeof in, 0)) >= 0);
    assert_int_equal(n, 12);
    assert_memory_equal(in, "{\"ok\":true}\n", 12);
    close(fd);
}

static void test_only_the_owner_may_ask(void **state)
{
    struct bench *b = *state;
    char path[700];
    struct stat st;
    socket_path(b, path, sizeof path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_dead_sockets_are_removed(void **state)
{
    struct bench *b = *state;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    char old[700], cwd[300];
    assert_non_null(getcwd(cwd, sizeof cwd));
    assert_int_equal(chdir(b->folder), 0);
    snprintf(un.sun_path, sizeof un.sun_path, "control-agent-1.sock");
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    close(fd);
    assert_int_equal(chdir(cwd), 0);
    snprintf(old, sizeof old, "%s/control-agent-1.sock", b->folder);
    assert_int_equal(access(old, F_OK), 0);
    json_t *all = answers_to(b, json_pack("{s:s}", "ask", "status"));
    assert_int_equal(json_array_size(all), 1);
    assert_int_equal(access(old, F_OK), -1);
    json_decref(all);
}

static void test_a_request_without_end_is_cut_off(void **state)
{
    struct bench *b = *state;
    int fd = dial(b);
    char junk[CONTROL_REQUEST_MAX + 1];
    memset(junk, 'x', sizeof junk);
    assert_int_equal(send(fd, junk, sizeof junk, MSG_NOSIGNAL), sizeof junk);
    char c;
    ssize_t n = -1;
    loop_until(&b->w, (n = recv(fd, &c, 1, 0)) == 0 || (n < 0 && errno == ECONNRESET));
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_status, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_long_table_arrives_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_table_that_is_not_there, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_tells_of_a_policy_waits_until_it_is_in_force, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_the_owner_may_ask, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_sockets_are_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_request_without_end_is_cut_off, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
