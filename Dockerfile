# Targets: ingest, dispatcher, retry-scheduler, and dev-stack (the gateway, migrations and demo receiver of docker-compose.yml).
#   docker build --target dispatcher --tag webhook-dispatcher .
# Node runs the TypeScript as it is, so nothing is compiled. The workspace is copied as a whole because `pnpm deploy` would
# put our sources under node_modules, where Node refuses to strip types
# (ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING).
ARG NODE_IMAGE=node:24-slim

FROM ${NODE_IMAGE} AS install
RUN npm install --global --no-audit --no-fund pnpm@12
WORKDIR /app
# Only the manifests, so that a change of source does not invalidate the installed packages in the build cache.
COPY package.json pnpm-lock.yaml pnpm-workspace.yaml ./
COPY packages/shared/package.json packages/shared/
COPY packages/dev-stack/package.json packages/dev-stack/
COPY services/ingest/package.json services/ingest/
COPY services/dispatcher/package.json services/dispatcher/
COPY services/retry-scheduler/package.json services/retry-scheduler/

FROM install AS install-services
# With four connections pnpm took 15 s, measured behind a proxy; with its default of up to 64 connections it took 64 s.
RUN pnpm install --prod --frozen-lockfile --network-concurrency=4 \
  --filter "@pipeline/ingest..." --filter "@pipeline/dispatcher..." --filter "@pipeline/retry-scheduler..."

FROM install AS install-dev-stack
# Without the npm packages of Postgres and PostgREST, which are optional: with Compose both run in containers of their own.
RUN pnpm install --prod --frozen-lockfile --network-concurrency=4 --no-optional --filter "@pipeline/dev-stack..."

FROM ${NODE_IMAGE} AS base
ENV NODE_ENV=production
WORKDIR /app

FROM base AS service
COPY --from=install-services /app ./
COPY packages/shared packages/shared
COPY services services
# By number, so that an orchestrator can see that it is not root. Node is process 1 and handles SIGTERM itself, so no init is needed.
USER 1000:1000

FROM service AS ingest
ENV PORT=3000
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=8s --start-period=30s CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/healthz`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "services/ingest/src/main.ts"]

FROM service AS dispatcher
ENV METRICS_PORT=9101
EXPOSE 9101
HEALTHCHECK --interval=10s --timeout=8s --start-period=30s CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.METRICS_PORT}/healthz`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "services/dispatcher/src/main.ts"]

FROM service AS retry-scheduler
ENV METRICS_PORT=9102
EXPOSE 9102
HEALTHCHECK --interval=10s --timeout=8s --start-period=30s CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.METRICS_PORT}/healthz`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "services/retry-scheduler/src/main.ts"]

FROM base AS dev-stack
COPY --from=install-dev-stack /app ./
COPY packages/dev-stack packages/dev-stack
COPY supabase supabase
USER 1000:1000
