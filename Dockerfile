# The image of the API: `docker build --tag causeway-api .`, with BuildKit.
#
# Contains the program, its shared libraries and CA certificates: no shell, no package manager, no root.
# It writes no file, so it runs with `--read-only`.

# The builder: Debian 12 with Rust and OpenSSL's headers.
ARG BUILDER=rust:1.95-bookworm
# An image with a cargo registry, for a build without a network.
ARG REGISTRY=scratch

FROM ${REGISTRY} AS registry

FROM ${BUILDER} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ARG CARGO_NET_OFFLINE=false
WORKDIR /src
COPY . .
# Caches dependencies between builds, and never our own crates: cargo compares file times, which a
# checkout does not preserve.
RUN --mount=type=bind,from=registry,target=/registry \
    --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cp -R --update --preserve=timestamps /registry/. /usr/local/cargo/registry \
    && cargo clean --locked --profile image -p api -p causeway-runtime -p causeway-core \
    && cargo build --locked --profile image -p api \
    && install -D target/image/api /root/image/usr/local/bin/api
WORKDIR /root/image
# `ldd` lists the loader too; the kernel's vDSO has no path. CA certificates are copied as one bundle and as
# hash-named files, since OpenSSL reads either.
RUN ldd usr/local/bin/api | grep --only-matching '/[^ ]*' \
        | xargs cp --dereference --parents --target-directory=. \
    && cp --dereference --parents /etc/ssl/certs/*.0 /etc/ssl/certs/ca-certificates.crt . \
    && install --directory usr/lib/ssl \
    && ln --symbolic /etc/ssl/certs usr/lib/ssl/certs \
    && echo 'hosts: files dns' > etc/nsswitch.conf \
    && echo 'api:x:65532:65532::/:' > etc/passwd \
    && echo 'api:x:65532:' > etc/group

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Causeway API" \
      org.opencontainers.image.description="The HTTP service of a self-hosted, highly available PostgreSQL platform" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /root/image /
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
# Liveness, not readiness: a container that fails is replaced, and a new process would not reach the
# database either.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/local/bin/api", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/api"]
