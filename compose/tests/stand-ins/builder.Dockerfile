# Stands in for rust:1.95-bookworm. The context is the Rust toolchain of this machine.
FROM causeway-stand-in/debian
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends ca-certificates gcc libc6-dev libssl-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
COPY bin /usr/local/rust/bin
COPY lib /usr/local/rust/lib
ENV PATH=/usr/local/rust/bin:$PATH CARGO_HOME=/usr/local/cargo
