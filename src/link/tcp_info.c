// SPDX-License-Identifier: Apache-2.0
#include "link/tcp_info.h"
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

bool tcp_info_progress(int fd, uint64_t *acked, uint64_t *waiting)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);
    int queued = 0;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
        len < offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof(info.tcpi_bytes_acked) ||
        ioctl(fd, SIOCOUTQ, &queued) < 0)
        return false;
    *acked = info.tcpi_bytes_acked;
    *waiting = (uint64_t)queued;
    return true;
}

bool tcp_info_unsent(int fd, size_t *unsent)
{
    int bytes = 0;
    if (ioctl(fd, SIOCOUTQNSD, &bytes) < 0)
        return false;
    *unsent = (size_t)bytes;
    return true;
}

bool tcp_info_sizes(int fd, unsigned *sent, unsigned *received, unsigned *path_mtu)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 || len < offsetof(struct tcp_info, tcpi_rcv_ssthresh))
        return false;
    *sent = info.tcpi_snd_mss;
    *received = info.tcpi_rcv_mss;
    *path_mtu = info.tcpi_pmtu;
    return true;
}
