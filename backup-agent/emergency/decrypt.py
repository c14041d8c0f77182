#!/usr/bin/env python3
"""Decrypts one object of the archive without backup-agent. FORMAT.md describes the bytes.

    decrypt.py IDENTITY-FILE KEY OBJECT | zstd -d > plain

KEY is the full key of the object in the bucket: an object decrypts only under its own key. Needs the package
`cryptography`.
"""
import base64, hashlib, hmac, json, sys
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def hkdf(secret, salt, info):
    extracted = hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def from_bech32(text):
    """The 32 bytes of an AGE-SECRET-KEY-1…; its checksum is not verified."""
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    digits = [alphabet.index(char) for char in text.lower().rsplit("1", 1)[1][:-6]]
    number = 0
    for digit in digits:
        number = number << 5 | digit
    return (number >> (5 * len(digits) - 256)).to_bytes(32, "big")


def unwrap(wrapped, identities):
    """Decrypts a binary age v1 file with X25519 recipients (https://age-encryption.org/v1)."""
    pad = lambda text: base64.b64decode(text + "=" * (-len(text) % 4))
    header, _, rest = wrapped.partition(b"\n--- ")
    _mac, _, body = rest.partition(b"\n")
    lines = header.decode().split("\n")
    for at, line in enumerate(lines):
        if not line.startswith("-> X25519 "):
            continue
        share, encrypted = pad(line.split()[2]), pad(lines[at + 1])
        for secret in map(X25519PrivateKey.from_private_bytes, identities):
            public = secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            shared = secret.exchange(X25519PublicKey.from_public_bytes(share))
            key = hkdf(shared, share + public, b"age-encryption.org/v1/X25519")
            try:
                file_key = ChaCha20Poly1305(key).decrypt(bytes(12), encrypted, None)
            except Exception:
                continue
            payload_key = hkdf(file_key, body[:16], b"payload")
            return ChaCha20Poly1305(payload_key).decrypt(bytes(11) + b"\x01", body[16:], None)
    sys.exit("the object is encrypted for none of these identities")


def main(identity_file, key, path):
    lines = (line.strip() for line in open(identity_file))
    identities = [from_bech32(line) for line in lines if line.startswith("AGE-SECRET-KEY-1")]
    with open(path, "rb") as encrypted:
        start = encrypted.read(12)
        if start[:8] != b"CAUSEWAY":
            sys.exit("not an object of the archive")
        text = encrypted.read(int.from_bytes(start[8:], "big"))
        header = json.loads(text)
        if header["format"] != 1:
            sys.exit(f"unknown format {header['format']}")
        cipher = AESGCM(unwrap(base64.b64decode(header["data-key"]), identities))
        bound_to = hashlib.sha256(start + text + key.encode()).digest()
        length, number = header["chunk-bytes"] + 16, 0
        chunk = encrypted.read(length)
        while True:
            following = encrypted.read(length)
            nonce = number.to_bytes(11, "big") + (b"\0" if following else b"\1")
            sys.stdout.buffer.write(cipher.decrypt(nonce, chunk, bound_to))
            if not following:
                return
            chunk, number = following, number + 1


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
