# The image: two static binaries and nothing else. Build with `docker build -t scratch-server .`

# Pinned by version for people and by digest for machines. Any image with this Rust, a C compiler
# to link with and a musl target will do: `--build-arg RUST_IMAGE=...`
ARG RUST_IMAGE=rust:1.95.0-alpine3.23@sha256:606fd313a0f49743ee2a7bd49a0914bab7deedb12791f3a846a34a4711db7ed2

FROM ${RUST_IMAGE} AS build
WORKDIR /build

# The dependencies, in a layer that only their versions and flags can change: the libraries of the
# workspace are empty here, so that all cargo has to compile is what they depend on.
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
COPY endpoint/Cargo.toml endpoint/
COPY healthcheck/Cargo.toml healthcheck/build.rs healthcheck/
RUN for package in . endpoint healthcheck; do mkdir $package/src && touch $package/src/lib.rs; done \
 && touch src/main.rs healthcheck/src/main.rs \
 && cargo build --locked --release --workspace --lib

COPY endpoint/src endpoint/src
COPY healthcheck/src healthcheck/src
COPY src src
# Files keep their time of last change, which may be before the empty libraries were built. The
# last line fails the build if something turned the binaries dynamic: on scratch they would not run.
RUN touch src/lib.rs endpoint/src/lib.rs healthcheck/src/lib.rs \
 && cargo build --locked --release --workspace --bins \
 && mkdir /out && cp target/*/release/server target/*/release/healthcheck /out \
 && ! readelf --program-headers /out/* | grep -q INTERP

FROM scratch
LABEL org.opencontainers.image.title="scratch-server" \
      org.opencontainers.image.description="A hyper server and its health probe, alone in their image" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /out/ /
# Numeric, because Kubernetes cannot tell of a name whether it is root (runAsNonRoot).
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
# The probe gives up after 3 s and says why; Docker would kill it at 5 s and say nothing.
# --start-interval (Docker Engine 25 or newer) makes a container healthy as soon as it answers.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s --start-interval=100ms --retries=3 \
    CMD ["/healthcheck"]
ENTRYPOINT ["/server"]
