# Two images: `postgres`, a server with the extension, and `frontend`.
#
#   docker build --target postgres -t mcp-sessions-postgres .
#   docker build --target frontend -t mcp-sessions-frontend .

ARG DEBIAN=debian:bookworm
ARG PG_MAJOR=15

FROM ${DEBIAN} AS build
ARG PG_MAJOR
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        build-essential ca-certificates curl jq libclang-dev openssl pkg-config \
        postgresql-${PG_MAJOR} postgresql-server-dev-${PG_MAJOR} \
    && rm -rf /var/lib/apt/lists/*
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
RUN case "$(uname -m)" in \
        x86_64) sha256=20a06e644b0d9bd2fbdbfd52d42540bdde820ea7df86e92e533c073da0cdd43c ;; \
        aarch64) sha256=e3853c5a252fca15252d07cb23a1bdd9377a8c6f3efa01531109281ae47f841c ;; \
        *) echo "no Rust toolchain for $(uname -m)" >&2; exit 1 ;; \
    esac \
    && curl -fsSL -o /tmp/rustup-init "https://static.rust-lang.org/rustup/archive/1.28.2/$(uname -m)-unknown-linux-gnu/rustup-init" \
    && echo "$sha256 /tmp/rustup-init" | sha256sum -c - \
    && chmod +x /tmp/rustup-init \
    && /tmp/rustup-init -y --no-modify-path --profile minimal --default-toolchain none \
    && rm /tmp/rustup-init
WORKDIR /src
# What changes seldom comes first, so that an edit builds again only what it touches.
COPY rust-toolchain.toml ./
RUN rustup toolchain install
COPY Cargo.toml Cargo.lock ./
COPY scripts scripts
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    scripts/install-cargo-pgrx "/usr/lib/postgresql/${PG_MAJOR}/bin/pg_config"
COPY . .

FROM build AS build-extension
ARG PG_MAJOR
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    scripts/package "/usr/lib/postgresql/${PG_MAJOR}/bin/pg_config" \
    && cp -a target/package/files /out

FROM build AS build-frontend
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p mcp-frontend \
    && install -D target/release/mcp-frontend /out/usr/local/bin/mcp-frontend

FROM ${DEBIAN} AS postgres
ARG PG_MAJOR
RUN mkdir -p /etc/postgresql-common/createcluster.d \
    && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/none.conf \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql-${PG_MAJOR} openssl \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -m 700 -o postgres -g postgres /var/lib/postgresql/mcp
COPY --from=build-extension /out/ /
COPY sql/logins.sql /usr/share/mcp_sessions/logins.sql
COPY scripts/docker-postgres /usr/local/bin/docker-postgres
ENV PATH=/usr/lib/postgresql/${PG_MAJOR}/bin:$PATH LANG=C.UTF-8
USER postgres
VOLUME /var/lib/postgresql/mcp
EXPOSE 5432
# Fast shutdown: open transactions are rolled back, nothing committed is lost.
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-postgres"]

FROM ${DEBIAN}-slim AS frontend
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build-frontend /out/ /
# Without settings it names those that are missing and ends with 64: it loads, and it is ours.
RUN mcp-frontend 2>/dev/null; test $? -eq 64
USER 65532:65532
ENV MCP_BIND=0.0.0.0:8080 MCP_LOG_FORMAT=json
EXPOSE 8080
ENTRYPOINT ["mcp-frontend"]
