// SPDX-License-Identifier: Apache-2.0
// The asking side of the control socket, for commands: one process after the other, blocking, each with a deadline.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "control/control.h"
#include "core/addr.h"

static int dial(int dir, const char *name)
{
    char path[96];
    struct addr to;
    if (strlen(name) > 60)
        return -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d/%.60s", dir, name);
    if (!addr_unix(&to, path))
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = CONTROL_MS / 1000};
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, &to.sa, to.len) == 0)
        return fd;
    int errnum = errno;
    close(fd);
    errno = errnum;
    return -1;
}

static bool send_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

// Reads to the end; heap memory.
static char *read_all(int fd, size_t *len)
{
    size_t cap = 65536;
    char *data = malloc(cap);
    *len = 0;
    for (ssize_t n = 1; data && n > 0; *len += (size_t)(n > 0 ? n : 0)) {
        if (*len == cap) {
            char *more = cap < CONTROL_ANSWER_MAX ? realloc(data, cap * 2) : NULL;
            if (!more) {
                free(data);
                return NULL;
            }
            data = more;
            cap *= 2;
        }
        n = recv(fd, data + *len, cap - *len, 0);
        if (n < 0) {
            free(data);
            return NULL;
        }
    }
    return data;
}

// {"ok":…} or {"error":…} of one process, or NULL.
static json_t *talk(int fd, const char *request)
{
    size_t len;
    if (!send_all(fd, request, strlen(request)))
        return NULL;
    char *data = read_all(fd, &len);
    json_t *answer = data ? json_loadb(data, len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    free(data);
    return answer;
}

static void ask_one(int dir, const char *name, const char *role, int pid, const char *request, json_t *answers)
{
    int fd = dial(dir, name);
    if (fd < 0 && errno == ECONNREFUSED)
        unlinkat(dir, name, 0); // its process is gone
    if (fd < 0)
        return;
    json_t *answer = talk(fd, request), *ok = json_object_get(answer, "ok");
    const char *bad = json_string_value(json_object_get(answer, "error"));
    close(fd);
    if (ok)
        json_array_append_new(answers, json_pack("{s:s,s:i,s:O}", "role", role, "pid", pid, "answer", ok));
    else
        json_array_append_new(answers,
                              json_pack("{s:s,s:i,s:s}", "role", role, "pid", pid, "error", bad ? bad : "no answer"));
    json_decref(answer);
}

static bool is_socket_name(const char *name, char role[8], int *pid)
{
    int end = 0;
    return sscanf(name, "control-%7[a-z]-%d.sock%n", role, pid, &end) == 2 && end > 0 && !name[end];
}

int control_ask(const char *state, const json_t *request, json_t **answers, struct err *e)
{
    int fd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        err_errno(e, errno, "state folder %s", state);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    char *text = json_dumps(request, JSON_COMPACT), *line = NULL;
    if (asprintf(&line, "%s\n", text ? text : "") < 0)
        line = NULL;
    *answers = json_array();
    for (struct dirent *at; line && (at = readdir(d));) {
        char role[8];
        int pid;
        if (is_socket_name(at->d_name, role, &pid))
            ask_one(fd, at->d_name, role, pid, line, *answers);
    }
    free(text);
    free(line);
    closedir(d);
    return 0;
}

void control_tell_policy(const char *state)
{
    json_t *request = json_pack("{s:s}", "ask", "policy"), *answers = NULL;
    struct err e = ERR_INIT;
    control_ask(state, request, &answers, &e);
    json_decref(request);
    json_decref(answers);
    err_fini(&e);
}
