# The engine as a small image without a shell.
#
#   docker build -t rushgate:0.2.0 .

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
# Names of functions stay, for backtraces; line tables would be half of the file.
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin rushgate \
    && install -D --mode=0755 target/release/rushgate /out/rushgate \
    && install --directory --mode=0700 /out/data

# glibc and libgcc, certificates, nothing that can be run. This repository has no version tags, so the digest is the
# version; renew it together with the build image.
FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f
COPY --from=build /out/rushgate /usr/local/bin/rushgate
# Where the embedded ledger is kept; mount a volume here to keep it longer than the container.
COPY --from=build --chown=65532:65532 /out/data /data
ENV RUSHGATE_DATA_DIR=/data
WORKDIR /data
# A number: Kubernetes cannot tell that a name is not root.
USER 65532:65532
EXPOSE 8080
# serve drains on it: not ready, no new connections, running orders finished, ledger closed.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/rushgate", "health", "--server", "http://127.0.0.1:9090"]
ENTRYPOINT ["/usr/local/bin/rushgate"]
CMD ["serve"]
