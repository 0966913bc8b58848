// SPDX-License-Identifier: Apache-2.0
#include "core/advice.h"

static const struct {
    const char *name, *text;
} table[ADVICE_COUNT] = {
    [ADVICE_NONE] = {"", ""},
    [ADVICE_NAME_UNKNOWN] = {"name-unknown", "check the spelling; if only a proxy knows the name, name that proxy with --proxy"},
    [ADVICE_NAME_SILENT] = {"name-silent", "check /etc/resolv.conf; where DNS is closed, a proxy can resolve: --proxy http://HOST:PORT or "
                                           "socks5h://HOST:PORT, with the proxy's address instead of its name"},
    [ADVICE_NAME_SPLIT] = {"name-split", "ask who runs DNS which answer is right, or name the relay by its address"},
    [ADVICE_CLOSED] = {"closed", "check that the relay runs and that host and port are right; if a firewall refuses, name a proxy with "
                                 "--proxy, or run the relay on port 443"},
    [ADVICE_SILENT] = {"silent", "a firewall drops it, or the host is down: name the proxy of this network with --proxy, or run the relay "
                                 "on port 443"},
    [ADVICE_NO_ROUTE] = {"no-route", "there is no way to that network, or a firewall says so: check this machine's connection, or name "
                                     "the proxy of this network with --proxy"},
    [ADVICE_PROHIBITED] = {"prohibited", "a firewall forbids it: name the proxy of this network with --proxy, or run the relay on port 443"},
    [ADVICE_PROXY_CLOSED] = {"proxy-closed", "nothing listens there: check the proxy's host and port"},
    [ADVICE_PROXY_SILENT] = {"proxy-silent", "the proxy does not answer: check its kind, host and port, or use --proxy none if this network "
                                             "needs none"},
    [ADVICE_PROXY_LOGIN] = {"proxy-login", "give it a login: --proxy-login FILE with user:password in a file of mode 0600, or "
                                           "--proxy http://USER@HOST:PORT to be asked for the password"},
    [ADVICE_PROXY_PASSWORD] = {"proxy-password", "correct user or password; it is not tried again until then, since accounts get locked"},
    [ADVICE_PROXY_SCHEME] = {"proxy-scheme", "allow another scheme with --proxy-auth, or ask who runs the proxy for one of basic, digest, "
                                             "ntlm and negotiate"},
    [ADVICE_PROXY_FORBIDS] = {"proxy-forbids", "ask who runs the proxy to allow CONNECT to the relay's host and port; many allow port 443 "
                                               "only, so run the relay there"},
    [ADVICE_PROXY_NO_CONNECT] = {"proxy-no-connect", "this proxy does not do CONNECT: ask for one that does"},
    [ADVICE_PROXY_UPSTREAM] = {"proxy-upstream", "the proxy itself does not reach the relay: check the relay's name and port, and whether it "
                                                 "runs"},
    [ADVICE_PROXY_CLOSES] = {"proxy-closes", "check kind and port of the proxy, and ask who runs it whether this machine may use it"},
    [ADVICE_PROXY_STRANGE] = {"proxy-strange", "check kind and port of the proxy: http, https, h2, socks4a, socks5 or socks5h"},
    [ADVICE_PROXY_CA] = {"proxy-ca", "name the CA that signed the proxy's certificate with --proxy-ca FILE"},
    [ADVICE_PORTAL] = {"portal", "perhaps this network wants a person to log in first: open any http:// page in a browser, then try again"},
    [ADVICE_CA] = {"ca", "if you know that CA, trust it with --ca FILE; or say --outer report: the relay's own key is checked in any case"},
    [ADVICE_CERT_NAME] = {"cert-name", "use a name of the certificate, or say --outer report: the relay's own key is checked in any case"},
    [ADVICE_CERT_OLD] = {"cert-old", "renew the relay's certificate, or say --outer report: the relay's own key is checked in any case"},
    [ADVICE_CLOCK] = {"clock", "set this machine's clock; or say --outer report: the relay's own key is checked whatever the clock says"},
    [ADVICE_NOT_TLS] = {"not-tls", "check the port, or write ws:// if the relay is reached without TLS; where a login page of this network "
                                   "answers in its place, open any http:// page in a browser first"},
    [ADVICE_INTERCEPTED] = {"intercepted", "the tunnel stays private, since the relay's own TLS runs inside; with --outer verify and "
                                           "without that CA the connection is refused instead"},
    [ADVICE_NOT_RELAY] = {"not-relay", "a web server answers, and no relay: check host, port and path of the relay's URL, and that its "
                                       "front passes WebSocket on"},
    [ADVICE_FRONT] = {"front", "a front answers, and does not reach the relay behind it: check that the relay runs, and what its front's "
                               "log says"},
    [ADVICE_UPGRADE] = {"upgrade", "something on the way does not let WebSocket through: ask for Upgrade to be passed, or try "
                                   "another proxy"},
    [ADVICE_NO_H2] = {"no-h2", "what answers there does not carry WebSocket over HTTP/2: leave --transport out, or say --transport h1"},
    [ADVICE_PIN] = {"pin", "somebody else answers for the relay, or its key was replaced: get a new invitation by a way that you trust"},
    [ADVICE_UNKNOWN_AGENT] = {"unknown-agent", "get a new invitation from who runs the relay: culvert invite, culvert join"},
    [ADVICE_VERSION] = {"version", "agent and relay are of versions that do not understand each other: update the older one"},
    [ADVICE_JOIN] = {"join", "join it with an invitation; then its key can be checked, too"},
    [ADVICE_CUT] = {"cut", "something ends the connection as soon as it is seen: try through a proxy, or another port"},
    [ADVICE_DENIED] = {"denied", "ask who runs that end to allow it: culvert grant AGENT --allow HOST:PORT; culvert explain tells which rule decides"},
    [ADVICE_TARGET] = {"target", "it was tried where the stream comes out: check from there that it listens and may be reached"},
    [ADVICE_TARGET_NAME] = {"target-name", "names are resolved where the stream comes out: check the name from there, or write an address"},
    [ADVICE_ABSENT] = {"absent", "check that the other agent is connected to the same relay and offers it: culvert table services"},
    [ADVICE_TAMPERED] = {"tampered", "something on the way changes bytes; nothing of it is taken, and the session goes on over a new "
                                     "connection; if it does not stop, try another way, as with --proxy or another port"},
    [ADVICE_STALLED] = {"stalled", "something on the way takes the connection and lets nothing more pass: `culvert check` says what gets no "
                                   "answer; try a proxy, or another port"},
    [ADVICE_MTU] = {"mtu", "packets of full size vanish: lower the MTU of this machine's link, or have ICMP \"too big\" let through"},
    [ADVICE_IDLE] = {"idle", "nothing to do: an agent learns this and sends a few bytes more often"},
};

const char *advice_name(enum advice a) { return (unsigned)a < ADVICE_COUNT && table[a].name ? table[a].name : ""; }

const char *advice_text(enum advice a) { return (unsigned)a < ADVICE_COUNT && table[a].text ? table[a].text : ""; }
