# The image: two static binaries and nothing else. Build with `docker build -t scratch-server .`
# Others, with `--target`: tiny (docs/tiny.md), healthcheck (the probe alone), debian and debug (a larger
# base), dev.

# Pinned by version for people and by digest for machines. Any image with this Rust, a C compiler
# to link with and a musl target will do: `--build-arg RUST_IMAGE=...`
ARG RUST_IMAGE=rust:1.95.0-alpine3.23@sha256:606fd313a0f49743ee2a7bd49a0914bab7deedb12791f3a846a34a4711db7ed2
ARG DEBIAN_IMAGE=debian:trixie-20260803-slim

# The sources without their code: of each package its manifest, its build script, and an empty library
# and program. An edit of the code leaves this stage's files as they are.
FROM ${RUST_IMAGE} AS manifests
WORKDIR /build
COPY . .
RUN find . -path '*/src/*' -type f ! -name lib.rs ! -name main.rs -delete \
 && find . -path '*/src/*' -type f -exec truncate -s 0 {} +

FROM ${RUST_IMAGE} AS build
WORKDIR /build

# The dependencies, in a layer that only their versions and flags can change: the libraries are empty,
# so that all cargo has to compile is what they depend on.
COPY --from=manifests /build .
RUN cargo build --locked --release --workspace --lib

COPY . .
# Files keep their time of last change, which may be before the empty libraries were built: hence
# touch. The probe has no std and cannot unwind, so it always aborts. The
# last line fails the build if something turned the binaries dynamic: on scratch they would not run.
RUN touch src/lib.rs */src/lib.rs crates/*/src/lib.rs \
 && cargo build --locked --release --bins \
 && cargo build --locked --release --package healthcheck --config 'profile.release.panic="abort"' \
 && mkdir /out && cp target/*/release/server target/*/release/healthcheck /out \
 && readelf --program-headers /out/* >/tmp/headers && ! grep -q INTERP /tmp/headers

# The same with a standard library of their own, by unstable flags of the same compiler.
FROM ${RUST_IMAGE} AS tiny-build
WORKDIR /build
ENV RUSTC_BOOTSTRAP=1
RUN test -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" || rustup component add rust-src

COPY --from=manifests /build .
RUN cargo build --config .cargo/tiny.toml --locked --release --workspace --lib

COPY . .
RUN touch src/lib.rs */src/lib.rs crates/*/src/lib.rs \
 && cargo build --config .cargo/tiny.toml --locked --release --workspace --bins \
 && mkdir /out && cp target/*/release/server target/*/release/healthcheck /out \
 && readelf --program-headers /out/* >/tmp/headers && ! grep -q INTERP /tmp/headers

# What is said of the image, whichever binaries it holds.
FROM scratch AS empty
LABEL org.opencontainers.image.title="scratch-server" \
      org.opencontainers.image.description="A hyper server and its health probe, alone in their image" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
# Numeric, because Kubernetes cannot tell of a name whether it is root (runAsNonRoot).
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
# The probe gives up after 3 s and says why; Docker would kill it at 5 s and say nothing.
# --start-interval (Docker Engine 25 or newer) makes a container healthy as soon as it answers.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s --start-interval=100ms --retries=3 \
    CMD ["/healthcheck"]
ENTRYPOINT ["/server"]

FROM empty AS server
COPY --from=build /out/ /

FROM empty AS tiny
COPY --from=tiny-build /out/ /

# The probe alone, to copy from.
FROM scratch AS healthcheck
COPY --from=build /out/healthcheck /
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

# The base goes on top of the server: what is said of the image above, its user and its HEALTHCHECK,
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
