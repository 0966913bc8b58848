// SPDX-License-Identifier: Apache-2.0
// Files of the state folder: small, 0600 where secret, and either the old or the new content after a crash: written to
// a temporary name, fsynced, renamed, the folder fsynced. Blocking; used at start, by commands, and off the loop. Every
// failure names the file and what to do.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "core/err.h"

#define FILE_SECRET_MAX (1024 * 1024) // file_read refuses more

// Makes the state folder (0700) and its missing parents; checks that an existing one is a folder we may write.
int file_state_dir(const char *dir, struct err *e);
// "dir/name" in heap memory.
char *file_path(const char *dir, const char *name);
// Replaces path atomically and durably. `mode` e.g. 0600.
int file_write(const char *path, const void *data, size_t len, mode_t mode, struct err *e);
// Like file_write, but leaves an existing file alone: *made says which.
int file_create(const char *path, const void *data, size_t len, mode_t mode, bool *made, struct err *e);
// Reads a whole file into heap memory ended by 0 (free with file_wipe). secret: refused when others may read or write
// it.
int file_read(const char *path, bool secret, char **data, size_t *len, struct err *e);
void file_wipe(char *data, size_t len); // cleanses and frees; NULL is allowed
bool file_exists(const char *path);
// Holds a lock on `dir/name` against other processes until file_unlock; waits for it. -1 with *e set.
int file_lock(const char *dir, const char *name, struct err *e);
void file_unlock(int lock);
