// SPDX-License-Identifier: Apache-2.0
// What the kernel knows of a TCP socket's sending direction. A file of its own because linux/tcp.h, which alone has the field, cannot be
// included beside netinet/tcp.h, which libuv includes.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Largest segments sent and received, and the path MTU as the kernel believes it. False: no TCP.
bool tcp_info_sizes(int fd, unsigned *sent, unsigned *received, unsigned *path_mtu);
// Bytes acknowledged since the connection began, and bytes handed over that are not. False: no TCP, or a kernel before 4.1.
bool tcp_info_progress(int fd, uint64_t *acked, uint64_t *waiting);
// Bytes handed over that were not sent yet. False: no TCP.
bool tcp_info_unsent(int fd, size_t *unsent);
