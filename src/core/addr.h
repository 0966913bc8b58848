// SPDX-License-Identifier: Apache-2.0
// Socket addresses: IPv4, IPv6 and Unix paths in one value type, their text forms, and CIDR blocks. No I/O, no
// allocation, no name look-up.
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ADDR_TEXT_MAX 128 // "[ipv6%scope]:port" or "unix:" and a path of 107 bytes, ended by 0

struct addr {
    socklen_t len; // 0: none
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
};

// Parses a literal ("192.0.2.1", "2001:db8::1", "[2001:db8::1]"; no names). False when it is none.
bool addr_parse_ip(struct addr *a, const char *host, uint16_t port);
// False when the path does not fit sun_path.
bool addr_unix(struct addr *a, const char *path);
bool addr_from(struct addr *a, const struct sockaddr *sa, socklen_t len);
// "192.0.2.1:22", "[2001:db8::1]:22", "unix:/run/x"; out holds ADDR_TEXT_MAX bytes; returns out.
char *addr_text(const struct addr *a, char *out);
char *addr_host(const struct addr *a, char *out); // without the port and brackets
uint16_t addr_port(const struct addr *a);
void addr_set_port(struct addr *a, uint16_t port);
bool addr_equal(const struct addr *a, const struct addr *b); // family, address, port
bool addr_equal_host(const struct addr *a, const struct addr *b);
bool addr_is_loopback(const struct addr *a); // 127/8, ::1, and v4-mapped forms of them; Unix paths
// v4-mapped IPv6 becomes IPv4; all else stays as it is.
void addr_unmap(struct addr *a);

struct cidr {
    int family; // AF_INET or AF_INET6
    uint8_t bits;
    uint8_t bytes[16];
};
// "10.0.0.0/8", "[fd00::]/8", "[fd00::/8]", "fd00::/8", or a single address (all its bits). False when it is none or
// has bits set beyond its length's end that are not 0.
bool cidr_parse(struct cidr *c, const char *text);
bool cidr_has(const struct cidr *c, const struct addr *a);
