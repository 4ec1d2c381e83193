# The image: two static binaries and nothing else. Build with `docker build -t scratch-server .`
# Others, with `--target`: tiny (docs/tiny.md), healthcheck (the probe alone), debian and debug (a larger
# base), dev.

# Pinned by version for people and by digest for machines; docs/release.md says how to renew them.
# `--build-arg RUST_IMAGE=...` names another base; docs/containers.md says what it must have.
ARG RUST_IMAGE=rust:1.95.0-alpine3.23@sha256:606fd313a0f49743ee2a7bd49a0914bab7deedb12791f3a846a34a4711db7ed2
ARG DEBIAN_IMAGE=debian:trixie-20260803-slim@sha256:3a39a0592364683e6bab97937b72cad5a8fa6dcbbee90edb3bb48c7f8e94f258

# One stage for each architecture that the image can be built for. The compiler is one for the machine that
# builds ($BUILDPLATFORM), so nothing is emulated. The sources of dependencies are in CARGO_HOME, and
# their paths, which panics name, would otherwise differ where that does.
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS rust-amd64
ENV CARGO_BUILD_TARGET=x86_64-unknown-linux-musl \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS="--remap-path-prefix=${CARGO_HOME}/registry/src=/cargo"

FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS rust-arm64
# A static-pie, so that ASLR stays on: for aarch64 rustc would link a static program at a fixed address. Instead of
# its choice of start-up code, this links the code that relocates the program; musl has both.
ENV CARGO_BUILD_TARGET=aarch64-unknown-linux-musl \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUSTFLAGS="--remap-path-prefix=${CARGO_HOME}/registry/src=/cargo \
-C link-self-contained=no -L native=/musl -C link-arg=/musl/rcrt1.o -C link-arg=/musl/crti.o -C link-arg=/musl/crtn.o \
-C link-arg=-pie -C link-arg=--no-dynamic-linker -C link-arg=-ztext"

FROM rust-${TARGETARCH} AS rust
WORKDIR /build
RUN libraries=$(rustc --print target-libdir --target $CARGO_BUILD_TARGET) \
 && { test -d $libraries || rustup target add $CARGO_BUILD_TARGET; } \
 && ln -s $libraries/self-contained /musl

# cargo-auditable writes into each binary which crates it is made of, for scanners. A base image for builds without a
# network has it already. It compiles in half the time without optimisation, and does little work.
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS auditable
RUN test -x /usr/local/bin/cargo-auditable \
 || CARGO_PROFILE_DEV_DEBUG=0 cargo install --debug --locked --root /usr/local cargo-auditable@0.7.7

# The sources without their code: each package's manifest, its build script, and an empty library and
# program. An edit of the code leaves this stage's files as they are.
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS manifests
WORKDIR /build
COPY . .
RUN find . -path '*/src/*' -type f ! -name lib.rs ! -name main.rs -delete \
 && find . -path '*/src/*' -type f -exec truncate -s 0 {} +

FROM rust AS build
# The dependencies, in a layer that only their versions and flags can change: the libraries are empty,
# so that all cargo has to compile is what they depend on.
COPY --from=manifests /build .
RUN cargo build --locked --release --lib

COPY --from=auditable /usr/local/bin/cargo-auditable /usr/local/bin/
COPY . .
# COPY keeps a file's time of last change, which may be before the empty libraries were built: hence
# touch. The readelf line fails the build if something turned the binary dynamic: on scratch it would not
# run. The last line makes the image the same whenever it is built.
RUN touch src/lib.rs crates/*/src/lib.rs \
 && cargo auditable build --locked --release --bin server \
 && mkdir /out && cp target/$CARGO_BUILD_TARGET/release/server /out \
 && readelf --program-headers /out/* >/tmp/headers && ! grep -q INTERP /tmp/headers \
 && touch -d @0 /out/* /out

# The same for the probe, on its own. It has no std and cannot unwind, so it always aborts.
FROM rust AS build-healthcheck
COPY --from=manifests /build .
RUN cargo build --locked --release --package healthcheck --lib

COPY --from=auditable /usr/local/bin/cargo-auditable /usr/local/bin/
COPY . .
RUN touch healthcheck/src/lib.rs crates/*/src/lib.rs \
 && cargo auditable build --locked --release --package healthcheck --config 'profile.release.panic="abort"' \
 && mkdir /out && cp target/$CARGO_BUILD_TARGET/release/healthcheck /out \
 && readelf --program-headers /out/* >/tmp/headers && ! grep -q INTERP /tmp/headers \
 && touch -d @0 /out/* /out

# Both binaries with a standard library of their own, by unstable flags of the same compiler.
FROM rust AS build-tiny
ENV RUSTC_BOOTSTRAP=1
RUN test -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" || rustup component add rust-src

COPY --from=manifests /build .
# An absolute path, because cargo-auditable runs cargo in the directory of each package.
ENV TINY=/build/.cargo/tiny.toml
RUN cargo build --config $TINY --locked --release --workspace --lib

COPY --from=auditable /usr/local/bin/cargo-auditable /usr/local/bin/
COPY . .
RUN touch src/lib.rs */src/lib.rs crates/*/src/lib.rs \
 && cargo auditable build --config $TINY --locked --release --workspace --bins \
 && mkdir /out && cp target/$CARGO_BUILD_TARGET/release/server target/$CARGO_BUILD_TARGET/release/healthcheck /out \
 && readelf --program-headers /out/* >/tmp/headers && ! grep -q INTERP /tmp/headers \
 && touch -d @0 /out/* /out

# The image's configuration, whichever binaries it holds.
FROM scratch AS empty
LABEL org.opencontainers.image.title="scratch-server" \
      org.opencontainers.image.description="A hyper server and its health probe, alone in their image" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
# Numeric, because Kubernetes cannot see from a name whether it is root (runAsNonRoot).
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
# The probe gives up after 3 s and says why; Docker would kill it at 5 s and say nothing.
# --start-interval (Docker Engine 25 or newer) makes a container healthy as soon as it answers.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s --start-interval=100ms --retries=3 \
    CMD ["/healthcheck"]
ENTRYPOINT ["/server"]

FROM empty AS server
COPY --from=build-healthcheck /out/ /
COPY --from=build /out/ /

FROM empty AS tiny
COPY --from=build-tiny /out/ /

# The probe alone, to copy from.
FROM scratch AS healthcheck
COPY --from=build-healthcheck /out/ /
USER 65532:65532
ENTRYPOINT ["/healthcheck"]

# Two larger bases, for services that need glibc, certificates or a name for their user, and for
# people who need a shell and curl.
FROM ${DEBIAN_IMAGE} AS debian-files
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 65532 nonroot \
 && useradd --uid 65532 --gid 65532 --home-dir / --shell /usr/sbin/nologin nonroot

FROM debian-files AS debug-files
RUN apt-get update \
 && apt-get install --yes --no-install-recommends curl \
 && rm -rf /var/lib/apt/lists/*

# The base goes on top of the server, so the configuration above, with its user and its HEALTHCHECK,
# holds here too. --link keeps the base's layer when the server's changes.
FROM server AS debian
COPY --link --from=debian-files / /

FROM server AS debug
COPY --link --from=debug-files / /

# For compose.dev.yaml: the sources, compiled and run when a container starts.
FROM ${RUST_IMAGE} AS dev
WORKDIR /build
COPY . .
# When content reverts, the build cache restores the old time of change as well, and cargo would take the
# file for unchanged: hence touch. What does not compile waits for the next save.
CMD ["sh", "-c", "touch src/lib.rs */src/lib.rs crates/*/src/lib.rs && cargo build && exec cargo run --quiet || exec tail -f /dev/null"]

# The default.
FROM server
