// SPDX-License-Identifier: Apache-2.0
#include "trust/file.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

// A file that is not there, or not ours, is a matter of how we were called; all else is bad luck.
static int fail(struct err *e, int errnum, const char *doing, const char *path)
{
    err_errno(e, errnum, "%s %s", doing, path);
    e->kind = errnum == ENOENT || errnum == EACCES || errnum == ENOTDIR || errnum == EISDIR ? ERR_USAGE : ERR_FAILED;
    return -1;
}

static int make_parents(const char *dir, struct err *e)
{
    char *copy = strdup(dir);
    int got = 0;
    if (!copy)
        return fail(e, ENOMEM, "make", dir);
    for (char *slash = strchr(copy + 1, '/'); slash && got == 0; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
            got = fail(e, errno, "make", copy);
        *slash = '/';
    }
    free(copy);
    return got;
}

int file_state_dir(const char *dir, struct err *e)
{
    struct stat st;
    if (mkdir(dir, 0700) < 0) {
        if (errno == ENOENT && (make_parents(dir, e) < 0 || (mkdir(dir, 0700) < 0 && errno != EEXIST)))
            return err_is(e) ? -1 : fail(e, errno, "make", dir);
        if (errno != EEXIST && errno != ENOENT)
            return fail(e, errno, "make", dir);
    }
    if (stat(dir, &st) < 0)
        return fail(e, errno, "look at", dir);
    if (!S_ISDIR(st.st_mode))
        return err_set(e, ERR_USAGE, WHY_NONE, "%s is no folder; name another one with --state", dir);
    if (access(dir, R_OK | W_OK | X_OK) < 0)
        return err_set(e, ERR_USAGE, WHY_NONE, "%s cannot be written: %s; name another folder with --state", dir,
                       strerror(errno));
    return 0;
}

char *file_path(const char *dir, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        abort();
    return path;
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int sync_parent(const char *path)
{
    char *copy = strdup(path);
    int got = -1;
    if (!copy)
        return -1;
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        got = fsync(fd);
        close(fd);
    }
    free(copy);
    return got;
}

// A new file beside `path` with the data in it, on the disk. Returns its name (heap), NULL with errno.
static char *write_beside(const char *path, const void *data, size_t len, mode_t mode)
{
    char *temp;
    if (asprintf(&temp, "%s.XXXXXX", path) < 0)
        return NULL;
    int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) {
        free(temp);
        return NULL;
    }
    int failed = fchmod(fd, mode) < 0 || write_all(fd, data, len) < 0 || fsync(fd) < 0;
    int errnum = errno;
    if (close(fd) < 0 && !failed)
        failed = 1, errnum = errno;
    if (!failed)
        return temp;
    unlink(temp);
    free(temp);
    errno = errnum;
    return NULL;
}

int file_write(const char *path, const void *data, size_t len, mode_t mode, struct err *e)
{
    char *temp = write_beside(path, data, len, mode);
    if (!temp)
        return fail(e, errno, "write", path);
    if (rename(temp, path) < 0 || sync_parent(path) < 0) {
        fail(e, errno, "write", path);
        unlink(temp);
        free(temp);
        return -1;
    }
    free(temp);
    return 0;
}

int file_create(const char *path, const void *data, size_t len, mode_t mode, bool *made, struct err *e)
{
    char *temp = write_beside(path, data, len, mode);
    int got = 0;
    *made = false;
    if (!temp)
        return fail(e, errno, "write", path);
    if (link(temp, path) == 0)
        *made = true;
    else if (errno != EEXIST)
        got = fail(e, errno, "write", path);
    unlink(temp);
    free(temp);
    if (got == 0 && sync_parent(path) < 0)
        got = fail(e, errno, "write", path);
    return got;
}

static int check_secret(int fd, const char *path, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return fail(e, errno, "look at", path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_USAGE, WHY_NONE, "%s is no plain file", path);
    if (st.st_mode & 077)
        return err_set(e, ERR_USAGE, WHY_NONE, "%s holds a secret, but others may use it (mode %04o); chmod 600 it",
                       path, (unsigned)(st.st_mode & 07777));
    return 0;
}

// Reads to the end, never more than FILE_SECRET_MAX; *data is heap memory also on failure.
static int read_all(int fd, const char *path, char **data, size_t *len, struct err *e)
{
    size_t cap = 16384;
    *data = malloc(cap + 1);
    for (*len = 0; *data;) {
        ssize_t n = read(fd, *data + *len, cap - *len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(e, errno, "read", path);
        if (n == 0) {
            (*data)[*len] = 0;
            return 0;
        }
        *len += (size_t)n;
        if (*len < cap)
            continue;
        if (cap >= FILE_SECRET_MAX)
            return err_set(e, ERR_USAGE, WHY_NONE, "%s is larger than %d bytes", path, FILE_SECRET_MAX);
        char *more = malloc(cap * 2 + 1); // not realloc: the old memory is wiped
        if (more)
            memcpy(more, *data, *len);
        file_wipe(*data, *len);
        *data = more;
        cap *= 2;
    }
    return fail(e, ENOMEM, "read", path);
}

int file_read(const char *path, bool secret, char **data, size_t *len, struct err *e)
{
    *data = NULL;
    *len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return fail(e, errno, "read", path);
    int got = secret ? check_secret(fd, path, e) : 0;
    if (got == 0)
        got = read_all(fd, path, data, len, e);
    close(fd);
    if (got < 0) {
        file_wipe(*data, *len);
        *data = NULL;
    }
    return got;
}

void file_wipe(char *data, size_t len)
{
    if (data)
        OPENSSL_cleanse(data, len);
    free(data);
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

int file_lock(const char *dir, const char *name, struct err *e)
{
    char *path = file_path(dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int got;
    if (fd < 0) {
        fail(e, errno, "lock", path);
        free(path);
        return -1;
    }
    do
        got = flock(fd, LOCK_EX);
    while (got < 0 && errno == EINTR);
    if (got < 0) {
        fail(e, errno, "lock", path);
        close(fd);
        fd = -1;
    }
    free(path);
    return fd;
}

void file_unlock(int lock)
{
    if (lock >= 0)
        close(lock);
}
