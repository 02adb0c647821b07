#!/usr/bin/env bash
# Installs what `integration-tests` needs to start real brokers natively on Debian 12 or newer.
#
#   integration-tests/install.sh               everything the native way needs
#   integration-tests/install.sh --containers  also a Docker engine, for the container way (not started)
#   integration-tests/install.sh --older       also RabbitMQ 3.10 and Redis 7.0 from Debian 12 (MESSAGING_BROKER_SUITE=bookworm)
#
# Everything but the Debian packages of the machine itself goes to one folder outside of any checkout,
# ${MESSAGING_BROKER_CACHE:-$HOME/.cache/messaging-brokers}; removing that folder undoes it. Each piece is built beside
# its place and moved there when complete, so an interrupted run leaves nothing half-made and a second run does only
# what is missing.
set -euo pipefail

KAFKA_VERSION=4.3.0 ARTEMIS_VERSION=2.44.0 ELASTICMQ_VERSION=1.7.1 LOCALSTACK=2026.3.0
CURRENT=trixie OLDER=bookworm
CACHE=${MESSAGING_BROKER_CACHE:-$HOME/.cache/messaging-brokers}
# Where servers and mounts are, also for who is not root yet.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

containers= older=
for argument in "$@"; do
  case $argument in
    --containers) containers=yes ;;
    --older) older=yes ;;
    *) echo "unknown argument $argument; known: --containers --older" >&2; exit 2 ;;
  esac
done

say() { printf 'install: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
# failed WHAT LOG: with the log's last lines, because the cause is there and the next step depends on it.
failed() { tail -n 5 "$2" >&2; fail "$1: see $2, and run this again"; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# -- the machine's own packages ---------------------------------------------------------------------------------------

missing_packages() {
  command -v debootstrap >/dev/null || echo debootstrap
  # Java 17 on Debian 12, 21 on Debian 13: the servers run on either.
  command -v java >/dev/null || echo default-jre-headless
  command -v mvn >/dev/null || echo maven
  command -v unshare >/dev/null || echo util-linux
  # librdkafka is built from source and links the machine's OpenSSL.
  command -v cmake >/dev/null || echo cmake
  command -v make >/dev/null || echo make
  command -v g++ >/dev/null || echo g++
  command -v pkg-config >/dev/null || echo pkg-config
  [ -e /usr/include/openssl/ssl.h ] || echo libssl-dev
  [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
  if [ -n "$containers" ]; then
    command -v dockerd >/dev/null || echo docker.io
    command -v iptables >/dev/null || echo iptables
    command -v ip >/dev/null || echo iproute2
  fi
}

install_packages() {
  local wanted
  mapfile -t wanted < <(missing_packages)
  [ ${#wanted[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "this machine has no apt-get: install ${wanted[*]} by its own means, then run this again"
  say "Debian packages: ${wanted[*]}"
  as_root apt-get update -qq
  [ -z "$containers" ] || keep_services_down
  packages "${wanted[@]}"
  # Debian 13 has the client in a package of its own, which the engine only recommends.
  [ -z "$containers" ] || command -v docker >/dev/null || packages docker-cli
}

packages() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }

# Debian's Docker package would start an engine and bridge at once; the tests start their own when they need one.
keep_services_down() {
  local policy=/usr/sbin/policy-rc.d
  [ ! -e $policy ] || return 0
  trap "as_root rm -f $policy" EXIT
  printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
  as_root chmod +x $policy
}

# -- current servers in a Debian root of their own ----------------------------------------------------------------------

# The mirror this machine already uses, so that a site's own mirror is respected: the first source that serves a plain
# Debian suite (not security, not a vendor's repository).
debian_mirror() {
  local file mirror
  for file in /etc/apt/sources.list.d/*.sources; do
    [ -e "$file" ] || continue
    mirror=$(awk '
      function judge() { if (suites ~ / (bookworm|trixie|forky|stable|testing|sid) / && uri) { print uri; exit } uri = ""; suites = "" }
      /^URIs:/ { uri = $2 } /^Suites:/ { $1 = ""; suites = $0 " " } /^$/ { judge() } END { judge() }' "$file" | head -n 1)
    [ -z "$mirror" ] || { echo "$mirror"; return; }
  done
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -e "$file" ] || continue
    mirror=$(sed -nE 's/^deb +(\[[^]]*\] +)?([^ ]+) +(bookworm|trixie|forky|stable|testing|sid) .*/\2/p' "$file" | head -n 1)
    [ -z "$mirror" ] || { echo "$mirror"; return; }
  done
  fail "no Debian mirror found in /etc/apt: add one, then run this again"
}

# Debian 12's minimal root knows no names, and Erlang then asks the network for `localhost` and hangs.
name_localhost() {
  [ -e "$1/etc/hosts" ] || printf '127.0.0.1 localhost\n::1 localhost\n' | as_root tee "$1/etc/hosts" >/dev/null
}

# debian_root SUITE PACKAGES
debian_root() {
  local suite=$1 packages=$2 place=$CACHE/debian-$1
  [ ! -e "$place/.complete" ] || { name_localhost "$place"; return 0; }
  local mirror script=/usr/share/debootstrap/scripts/$1
  mirror=$(debian_mirror)
  [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
  say "Debian $suite root with $packages (about 400 MB)"
  as_root rm -rf "$place.new" "$place"
  as_root debootstrap --variant=minbase --include="$packages" "$suite" "$place.new" "$mirror" "$script" >"$CACHE/debootstrap-$suite.log" 2>&1 \
    || failed "debootstrap of $suite failed" "$CACHE/debootstrap-$suite.log"
  as_root rm -rf "$place.new/var/cache/apt/archives" "$place.new/var/lib/apt/lists"
  name_localhost "$place.new"
  as_root touch "$place.new/.complete"
  as_root mv "$place.new" "$place"
}

# -- LocalStack (SQS and SNS), in the current root because it wants Python 3.13 ---------------------------------------

localstack() {
  local root=$CACHE/debian-$CURRENT
  [ ! -e "$root/opt/localstack/.complete-$LOCALSTACK" ] || return 0
  say "LocalStack $LOCALSTACK (about 230 MB)"
  # The resolver and certificates of this machine, so that what is installed inside goes the way it goes outside.
  as_root cp -L /etc/resolv.conf "$root/etc/resolv.conf"
  as_root cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
  [ ! -e /etc/pip.conf ] || as_root cp -L /etc/pip.conf "$root/etc/pip.conf"
  as_root rm -rf "$root/opt/localstack"
  # The mounts live in a namespace of their own and are gone with it. moto-ext, cbor2 and cryptography are pinned because
  # this LocalStack does not start with newer ones.
  as_root unshare --mount --propagation private -- /bin/sh -c '
    set -e
    mount --bind /dev "$1/dev"; mount -t proc proc "$1/proc"
    unset PIP_FIND_LINKS
    chroot "$1" /usr/bin/python3 -m venv /opt/localstack
    chroot "$1" /opt/localstack/bin/pip install --quiet --no-cache-dir --disable-pip-version-check \
      "localstack-core[base-runtime]==$2" moto-ext==5.1.54 "cbor2<6" "cryptography<46" pyopenssl==25.1.0 service-identity==24.2.0
    touch "$1/opt/localstack/.complete-$2"' sh "$root" "$LOCALSTACK" >"$CACHE/localstack.log" 2>&1 \
    || failed "LocalStack could not be installed" "$CACHE/localstack.log"
}

# -- Kafka, ActiveMQ Artemis and ElasticMQ, by Maven --------------------------------------------------------------------

maven() { mvn -q -B "$@" >>"$CACHE/maven.log" 2>&1 || failed "maven failed" "$CACHE/maven.log"; }

# jars PLACE ARTIFACT…: copies the artifacts with all they depend on to PLACE/libs.
jars() {
  local place=$1 artifact group name version
  shift
  [ ! -d "$place" ] || return 0
  say "jars for ${place##*/}"
  rm -rf "$place.new"
  mkdir -p "$place.new"
  {
    echo '<project><modelVersion>4.0.0</modelVersion><groupId>brokers</groupId><artifactId>jars</artifactId><version>1</version><dependencies>'
    for artifact in "$@"; do
      IFS=: read -r group name version <<<"$artifact"
      echo "<dependency><groupId>$group</groupId><artifactId>$name</artifactId><version>$version</version></dependency>"
    done
    echo '</dependencies></project>'
  } >"$place.new/pom.xml"
  maven -f "$place.new/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$place.new/libs"
  mv "$place.new" "$place"
}

artemis() {
  local place=$CACHE/artemis-$ARTEMIS_VERSION
  [ ! -d "$place" ] || return 0
  say "ActiveMQ Artemis $ARTEMIS_VERSION (46 MB)"
  rm -rf "$place.new"
  mkdir -p "$place.new"
  maven dependency:copy "-Dartifact=org.apache.activemq:apache-artemis:$ARTEMIS_VERSION:tar.gz:bin" "-DoutputDirectory=$place.new"
  tar -xzf "$place.new/apache-artemis-$ARTEMIS_VERSION-bin.tar.gz" -C "$place.new" --strip-components=1
  rm -rf "$place.new/apache-artemis-$ARTEMIS_VERSION-bin.tar.gz" "$place.new/web" "$place.new/examples"
  mv "$place.new" "$place"
}

from_maven() {
  artemis
  jars "$CACHE/kafka-$KAFKA_VERSION" "org.apache.kafka:kafka_2.13:$KAFKA_VERSION" "org.apache.kafka:kafka-tools:$KAFKA_VERSION" org.slf4j:slf4j-simple:1.7.36
  jars "$CACHE/elasticmq-$ELASTICMQ_VERSION" "org.elasticmq:elasticmq-server_2.13:$ELASTICMQ_VERSION"
}

# -- all of it -----------------------------------------------------------------------------------------------------------

mkdir -p "$CACHE"
exec 9>"$CACHE/.lock"
flock 9 # two installs at once would build the same pieces

install_packages
from_maven &
jars_at_work=$!
debian_root $CURRENT rabbitmq-server,redis-server,valkey-server,python3-venv,ca-certificates
localstack
[ -z "$older" ] || debian_root $OLDER rabbitmq-server,redis-server,ca-certificates
wait $jars_at_work || fail "the jars are incomplete: see $CACHE/maven.log"
say "complete: $CACHE"
