# SPDX-License-Identifier: Apache-2.0
"""squid's helper for NTLM that really verifies NTLMv2 ([MS-NLMP] 3.3.2). Its file has lines DOMAIN:user:password."""
import base64
import hmac
import os
import struct
import sys
import time

NEGOTIATED = 0xA2888205  # unicode, NTLM, always sign, extended session security, target info, version, 128, 56
DOMAIN = "TESTDOM"


def md4(data):
    """RFC 1320; the systems' OpenSSL has it no more."""
    def rotate(x, n):
        return (x << n | (x & 0xFFFFFFFF) >> (32 - n)) & 0xFFFFFFFF
    data += b"\x80" + b"\0" * (-(len(data) + 9) % 64) + struct.pack("<Q", len(data) * 8)
    state = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476]
    rounds = [
        (lambda x, y, z: x & y | ~x & z, 0, range(16), (3, 7, 11, 19)),
        (lambda x, y, z: x & y | x & z | y & z, 0x5A827999, [i % 4 * 4 + i // 4 for i in range(16)], (3, 5, 9, 13)),
        (lambda x, y, z: x ^ y ^ z, 0x6ED9EBA1, (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15), (3, 9, 11, 15))]
    for at in range(0, len(data), 64):
        words = struct.unpack("<16I", data[at:at + 64])
        a, b, c, d = state
        for mix, constant, order, shifts in rounds:
            for i, k in enumerate(order):
                a = rotate(a + mix(b, c, d) + words[k] + constant & 0xFFFFFFFF, shifts[i % 4])
                a, b, c, d = d, a, b, c
        state = [x + y & 0xFFFFFFFF for x, y in zip(state, (a, b, c, d))]
    return struct.pack("<4I", *state)


def pairs():
    name = DOMAIN.encode("utf-16-le")
    stamp = struct.pack("<Q", int(time.time() * 10_000_000) + 116444736000000000)
    return b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in ((2, name), (1, name), (7, stamp), (0, b"")))


def challenge(nonce):
    name, info = DOMAIN.encode("utf-16-le"), pairs()
    head = b"NTLMSSP\0" + struct.pack("<I", 2) + struct.pack("<HHI", len(name), len(name), 56)
    head += struct.pack("<I", NEGOTIATED) + nonce + bytes(8) + struct.pack("<HHI", len(info), len(info), 56 + len(name)) + bytes(8)
    return head + name + info


def field(message, at):
    length, _, offset = struct.unpack_from("<HHI", message, at)
    return message[offset:offset + length]


def verify(message, nonce, users):
    """The user's name, or an error."""
    answer, domain, user = field(message, 20), field(message, 28), field(message, 36)
    name = user.decode("utf-16-le")
    if len(answer) < 44:
        raise ValueError("not NTLMv2")
    key = hmac.digest(md4(users[name].encode("utf-16-le")), user.decode("utf-16-le").upper().encode("utf-16-le") + domain, "md5")
    if not hmac.compare_digest(hmac.digest(key, nonce + answer[16:], "md5"), answer[:16]):
        raise ValueError("wrong password")
    return name


def main():
    with open(sys.argv[1]) as f:
        users = dict(line.rstrip("\n").split(":", 2)[1:] for line in f)
    nonce = b""
    for line in sys.stdin:
        words = line.split()
        try:
            if words[0] == "YR":
                nonce = os.urandom(8)
                print("TT " + base64.b64encode(challenge(nonce)).decode(), flush=True)
            else:
                print("AF " + verify(base64.b64decode(words[1]), nonce, users), flush=True)
        except Exception as e:
            print(f"NA {type(e).__name__}-{e}".replace(" ", "-"), flush=True)


main()
