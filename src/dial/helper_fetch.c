// SPDX-License-Identifier: Apache-2.0
// Fetches a PAC script: blocking, in a process of its own that has a deadline. Directly, never through a proxy.
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include "core/addr.h"
#include "dial/helper.h"
#include "link/tls.h"
#include "wire/http.h"
#include "wire/pac.h"
#include "wire/scan.h"

#define CONNECT_S 2 // for one address
#define ANSWER_MAX (HTTP_HEAD_MAX + PAC_SCRIPT_MAX + 1)

struct call {
    const char *ca;
    struct pac_url url;
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    char *data; // the whole answer
    size_t len;
    char next[URL_PAC_MAX + 1]; // where it sends us; "": nowhere
};

static int fail_errno(struct err *e, const char *what, const char *of)
{
    return err_set(e, ERR_UNREACHED, WHY_NONE, "%s %s: %s", what, of, strerror(errno));
}

static int read_file(struct call *c, struct err *e)
{
    int fd = open(c->url.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return fail_errno(e, "file", c->url.path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_UNREACHED, WHY_NONE, "%s is no file", c->url.path);
    for (ssize_t n = 1; n > 0 && c->len < ANSWER_MAX; c->len += (size_t)n) {
        n = read(fd, c->data + c->len, ANSWER_MAX - c->len);
        if (n < 0)
            return fail_errno(e, "file", c->url.path);
    }
    close(fd);
    return 0;
}

static int dial(struct call *c, struct err *e)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *all = NULL;
    char port[8], text[ADDR_TEXT_MAX] = "";
    snprintf(port, sizeof port, "%u", c->url.port);
    int rc = getaddrinfo(c->url.host, port, &hints, &all);
    if (rc)
        return err_set(e, ERR_UNREACHED, WHY_DNS, "its server %s is not known: %s", c->url.host, gai_strerror(rc));
    for (struct addrinfo *a = all; a && c->fd < 0; a = a->ai_next) {
        struct timeval patience = {.tv_sec = CONNECT_S}, none = {0};
        struct addr to;
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        if (connect(fd, a->ai_addr, a->ai_addrlen) == 0) {
            setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none);
            c->fd = fd;
            break;
        }
        if (addr_from(&to, a->ai_addr, a->ai_addrlen))
            addr_text(&to, text);
        fail_errno(e, "its server", text);
        if (errno == EINPROGRESS)
            err_set(e, ERR_UNREACHED, WHY_TIMEOUT, "its server %s does not answer", text);
        close(fd);
    }
    freeaddrinfo(all);
    if (c->fd >= 0)
        err_fini(e);
    return c->fd >= 0 ? 0 : err_is(e) ? -1 : err_set(e, ERR_UNREACHED, WHY_NONE, "its server has no address that can be used");
}

static int start_tls(struct call *c, struct err *e)
{
    struct addr ip;
    if (c->url.kind != PAC_HTTPS)
        return 0;
    c->ctx = tls_client_ctx(c->ca, e);
    if (!c->ctx)
        return -1;
    c->ssl = SSL_new(c->ctx);
    if (!c->ssl || SSL_set_fd(c->ssl, c->fd) != 1)
        return err_set(e, ERR_FAILED, WHY_NONE, "no TLS");
    X509_VERIFY_PARAM *param = SSL_get0_param(c->ssl);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (addr_parse_ip(&ip, c->url.host, 0))
        X509_VERIFY_PARAM_set1_ip_asc(param, c->url.host);
    else if (SSL_set1_host(c->ssl, c->url.host) != 1 || SSL_set_tlsext_host_name(c->ssl, c->url.host) != 1)
        return err_set(e, ERR_FAILED, WHY_NONE, "no TLS for %s", c->url.host);
    SSL_set_verify(c->ssl, SSL_VERIFY_PEER, NULL);
    if (SSL_connect(c->ssl) == 1)
        return 0;
    long bad = SSL_get_verify_result(c->ssl);
    if (bad == X509_V_OK)
        return err_set(e, ERR_UNREACHED, WHY_NONE, "no TLS with its server %s", c->url.host);
    return err_set(e, ERR_UNTRUSTED, WHY_NONE, "the certificate of its server %s is not trusted: %s", c->url.host,
                   X509_verify_cert_error_string(bad));
}

static bool put(struct call *c, const char *text, size_t len)
{
    if (c->ssl)
        return SSL_write(c->ssl, text, (int)len) == (int)len;
    return send(c->fd, text, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static ssize_t get(struct call *c, char *out, size_t max)
{
    if (!c->ssl)
        return recv(c->fd, out, max, 0);
    int n = SSL_read(c->ssl, out, max > 65536 ? 65536 : (int)max);
    return n > 0 ? n : 0; // how it ends is told by Content-Length
}

// HTTP/1.0: the answer ends with the connection, and is not chunked.
static int talk(struct call *c, struct err *e)
{
    char where[URL_TEXT_MAX], request[URL_PAC_MAX + URL_TEXT_MAX + 200];
    if (c->url.port == (c->url.kind == PAC_HTTPS ? 443 : 80))
        snprintf(where, sizeof where, strchr(c->url.host, ':') ? "[%s]" : "%s", c->url.host);
    else
        scan_host_port_text(where, sizeof where, c->url.host, c->url.port);
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.0\r\nHost: %s\r\nAccept: application/x-ns-proxy-autoconfig, */*\r\n"
                     "User-Agent: culvert\r\nConnection: close\r\n\r\n", c->url.path, where);
    if (n < 0 || (size_t)n >= sizeof request || !put(c, request, (size_t)n))
        return err_set(e, ERR_UNREACHED, WHY_NONE, "its server takes no request");
    for (ssize_t got = 1; got > 0 && c->len < ANSWER_MAX; c->len += got > 0 ? (size_t)got : 0) {
        got = get(c, c->data + c->len, ANSWER_MAX - c->len);
        if (got < 0)
            return fail_errno(e, "its server", c->url.host);
    }
    return 0;
}

static int follow(struct call *c, const struct http_head *h, struct err *e)
{
    const struct http_text *to = http_get(h, "Location");
    char text[URL_PAC_MAX + 1];
    struct scan s = {"redirect", "", e};
    if (!to || !scan_copy(text, sizeof text, to->at, to->len))
        return err_set(e, ERR_UNREACHED, WHY_NONE, "its server answers %d without saying where it is", h->status);
    if (*text == '/') {
        char where[URL_TEXT_MAX];
        int n = snprintf(c->next, sizeof c->next, "%s://%s%s", c->url.kind == PAC_HTTPS ? "https" : "http",
                         scan_host_port_text(where, sizeof where, c->url.host, c->url.port), text);
        return n > 0 && (size_t)n < sizeof c->next ? 0 : scan_fail(&s, "too long");
    }
    bool secure = scan_has_prefix(text, strlen(text), "https://");
    if (!secure && (c->url.kind == PAC_HTTPS || !scan_has_prefix(text, strlen(text), "http://")))
        return err_set(e, ERR_UNREACHED, WHY_NONE, "its server sends on to %.200s, which is not followed", text);
    strcpy(c->next, text);
    return 0;
}

// The script is moved to the beginning of c->data.
static int take(struct call *c, struct err *e)
{
    struct http_head h;
    size_t used = 0;
    const char *why = "no HTTP";
    int64_t length;
    bool chunked;
    if (c->len == 0)
        return err_set(e, ERR_UNREACHED, WHY_NONE, "its server answers nothing");
    size_t seen = c->len < HTTP_HEAD_MAX ? c->len : HTTP_HEAD_MAX;
    if (http_parse(&h, false, c->data, seen, &used, &why) != HTTP_OK || !http_body(&h, &length, &chunked))
        return err_set(e, ERR_UNREACHED, WHY_NONE, "its server does not answer in HTTP: %s", why);
    if (h.status >= 301 && h.status <= 308 && h.status != 304)
        return follow(c, &h, e);
    if (h.status != 200)
        return err_set(e, ERR_UNREACHED, WHY_NONE, "its server answers %d %.*s", h.status,
                       (int)(h.reason.len < 60 ? h.reason.len : 60), h.reason.at);
    if (chunked)
        return err_set(e, ERR_UNREACHED, WHY_NONE, "its server answers HTTP/1.0 in chunks");
    c->len -= used;
    memmove(c->data, c->data + used, c->len);
    if (length >= 0 && c->len < (size_t)length && c->len <= PAC_SCRIPT_MAX)
        return err_set(e, ERR_UNREACHED, WHY_NONE, "its server ended the answer after %zu of %lld bytes", c->len, (long long)length);
    if (length >= 0 && c->len > (size_t)length)
        c->len = (size_t)length;
    return 0;
}

static void hang_up(struct call *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    if (c->fd >= 0)
        close(c->fd);
    c->ssl = NULL;
    c->ctx = NULL;
    c->fd = -1;
}

static int fetch_once(struct call *c, const char *url, struct err *e)
{
    c->len = 0;
    c->next[0] = 0;
    if (pac_url_parse(&c->url, url, e) < 0)
        return -1;
    if (c->url.kind == PAC_FILE)
        return read_file(c, e);
    int rc = dial(c, e) < 0 || start_tls(c, e) < 0 || talk(c, e) < 0 ? -1 : take(c, e);
    hang_up(c);
    return rc;
}

static void write_all(int out, const char *data, size_t len)
{
    for (ssize_t n; len > 0 && (n = write(out, data, len)) > 0; data += n)
        len -= (size_t)n;
}

void helper_fetch(void *ctx, int out)
{
    const struct helper_fetch *f = ctx;
    struct err e = ERR_INIT;
    struct call c = {.ca = f->ca, .fd = -1, .data = malloc(ANSWER_MAX)};
    char url[URL_PAC_MAX + 1];
    const char *why = NULL;
    int rc = c.data ? 0 : -1;
    snprintf(url, sizeof url, "%s", f->url);
    for (unsigned n = 0; rc == 0; n++) {
        rc = n > HELPER_REDIRECTS ? err_set(&e, ERR_UNREACHED, WHY_NONE, "its server sends on more than %d times", HELPER_REDIRECTS)
                                  : fetch_once(&c, url, &e);
        if (rc < 0 || !c.next[0])
            break;
        strcpy(url, c.next);
    }
    if (rc == 0 && !pac_is_script(c.data, c.len, &why))
        rc = err_set(&e, ERR_UNREACHED, WHY_NONE, "what is there %s", why);
    write_all(out, rc == 0 ? "P" : "E", 1);
    write_all(out, rc == 0 ? c.data : err_text(&e), rc == 0 ? c.len : strlen(err_text(&e)));
    err_fini(&e);
    free(c.data);
}
