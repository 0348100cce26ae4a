# Two images from one build: `--target server` and `--target worker`.

FROM node:22-slim AS page
WORKDIR /src
COPY web/package.json web/package-lock.json ./
RUN npm ci
COPY web ./
RUN npm run build

FROM rust:1.95-trixie AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package server --package worker

FROM debian:trixie-slim AS base
RUN useradd --system --uid 10001 copresence
USER copresence

FROM base AS worker
COPY --from=build /src/target/release/copresence-worker /usr/local/bin/
ENV HOST=0.0.0.0
EXPOSE 5001
ENTRYPOINT ["copresence-worker"]

FROM base AS server
USER root
RUN install --directory --owner copresence /data
USER copresence
COPY --from=build /src/target/release/copresence /usr/local/bin/
COPY --from=page /src/dist /srv/copresence
# The slim image has none, and workers over https and rediss:// need them.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
ENV DATA_DIR=/data WEB_DIR=/srv/copresence
VOLUME /data
EXPOSE 3001
ENTRYPOINT ["copresence"]
