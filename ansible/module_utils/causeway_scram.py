"""SCRAM verifiers, as PostgreSQL stores them for a password."""

import base64
import hashlib
import hmac
import os

ITERATIONS = 4096


def verifier(password, salt=None):
    """Returns what PostgreSQL stores for a password, by RFC 5802 and RFC 7677. PostgreSQL applies SASLprep, which leaves ASCII as it is."""
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${ITERATIONS}:{parts[0]}${parts[1]}:{parts[2]}"


def matches(password, stored):
    """Whether a stored verifier is that of the password."""
    try:
        method, parameters, _ = stored.split("$", 2)
        iterations, salt = parameters.split(":", 1)
        if method != "SCRAM-SHA-256" or int(iterations) != ITERATIONS:
            return False
        return hmac.compare_digest(verifier(password, base64.b64decode(salt)), stored)
    except (AttributeError, ValueError):
        return False
