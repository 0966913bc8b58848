# SPDX-License-Identifier: Apache-2.0
"""squid's helper for NTLM, which leaves the verifying of NTLMv2 to pyspnego.  Words: the folder that pyspnego is installed in, a
file of lines DOMAIN:user:password."""
import base64
import os
import sys

sys.path.append(sys.argv[1])
os.environ["NTLM_USER_FILE"] = sys.argv[2]
import spnego  # noqa: E402


def main():
    server = None
    for line in sys.stdin:
        words = line.split()
        try:
            if words[0] == "YR":
                server = spnego.server(hostname="proxy.test", service="http", protocol="ntlm")
                print("TT " + base64.b64encode(server.step(base64.b64decode(words[1]))).decode(), flush=True)
            else:
                server.step(base64.b64decode(words[1]))
                print("AF " + server.client_principal, flush=True)
        except Exception as e:  # noqa: BLE001: whatever it is, the proxy is told no
            print(f"NA {type(e).__name__}", flush=True)


main()
