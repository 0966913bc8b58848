// SPDX-License-Identifier: Apache-2.0
// The relay's web certificate (not its identity): made self-signed, asked for by a request, installed, shown. Keys are
// ECDSA P-256; names stand in subjectAltName (DNS or IP), never in the common name alone. Installed certificates live
// in STATE/web.crt and STATE/web.key (0600), each replaced atomically, the key first. Blocking; for commands and
// start-up.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>
#include "core/err.h"

#define CERT_FILE "web.crt"
#define KEY_FILE "web.key"
#define CERT_HOSTS_MAX 100
#define CERT_DAYS_MAX 36500

// Makes a key and a certificate for the hosts (names, wildcards, IPs) and installs both in the state folder.
int cert_selfsigned(const char *state, const char *const *hosts, size_t host_count, unsigned days, struct err *e);
// Makes a key (kept in the state folder as web.key.new until a matching certificate is installed) and a signing
// request, PEM, in heap memory.
int cert_request(const char *state, const char *const *hosts, size_t host_count, char **pem, struct err *e);
// Installs a PEM chain, leaf first, that fits web.key.new, or web.key; a private key within the text is used instead.
int cert_install(const char *state, const char *pem, size_t len, struct err *e);
// Prints what a PEM file holds: names, issuer, validity, key, SHA-256.
int cert_show(const char *file, bool json, FILE *out, struct err *e);
// Its first DNS name or address; 256 bytes. False when there is none.
bool cert_first_name(const char *file, char *out);
