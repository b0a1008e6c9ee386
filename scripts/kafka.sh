#!/usr/bin/env bash
# A real Apache Kafka broker (4.2.0, KRaft, one node) for tests and measurements.
#
# Owns: the jars under the fetch destination, and the data directories it marked as its own.
# Invariant: a data directory has at most one running broker, and no directory without our marker
# is ever written over or deleted. Waiting is polling of a condition with a deadline.
# Leaves out: topics (any admin client makes them; automatic creation is off) and clusters.
set -euo pipefail

readonly version=4.2.0
readonly marker=.ringflow-kafka
readonly start_deadline_s=60
readonly stop_deadline_s=30
readonly port_deadline_s=3
# Ports that we choose lie below the kernel's ephemeral range (32768 up), so no outgoing connection holds one.
readonly port_first=20000 port_count=12000

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here

usage() {
  cat <<HELP
Runs Apache Kafka $version, one node, on 127.0.0.1. Several can run at once, each in its own directory.

  kafka.sh fetch [--dest DIR]
      Gets the broker's jars from Maven Central (43 MB, once). Safe to call at any time and from
      several processes. Prints the directory. Installs Java 17 and Maven when run as root on Debian.
  kafka.sh start --data DIR [--port P] [--profile test|bench]
      Starts a broker on DIR, formatted when new, and waits until it answers. The last line printed is
      its address, 127.0.0.1:P. Port 0 picks a free one; without --port: DIR's last port, for a new
      DIR a free one.
      test  (default) small heap, quick start, four partitions for internal topics
      bench 1 GiB heap, G1, all compilers, 1 GiB segments; put DIR on tmpfs
  kafka.sh stop  --data DIR    ends the broker in order (TERM, then KILL after $stop_deadline_s s); no broker is fine
  kafka.sh kill9 --data DIR    ends it at once, as a crash would; fails when none is running
  kafka.sh wipe  --data DIR    deletes DIR; refuses while the broker runs, or when DIR is not one of ours

In DIR: kafka.pid while running, kafka.log (what the broker said), server.properties, log/ (records).
Topics are not created automatically: use an admin client.

Environment: RINGFLOW_KAFKA_HOME  the jars' directory (default ~/.cache/ringflow/kafka-$version)
             RINGFLOW_KAFKA_JVM   further arguments for the broker's Java machine, split at spaces
HELP
}

fail() {
  printf 'kafka.sh: %s\n' "$*" >&2
  exit 1
}

note() { printf 'kafka.sh: %s\n' "$*" >&2; }

kafka_home() { printf '%s\n' "${RINGFLOW_KAFKA_HOME:-${HOME:?HOME is not set}/.cache/ringflow/kafka-$version}"; }

# ---- fetch ----

java_major() { # prints 17 for "17.0.15", nothing without Java
  command -v java >/dev/null || return 0
  java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1
}

install_tools() { # install_tools PACKAGE...
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    fail "needs Java 17 or newer and Maven; install them (Debian: apt-get install $*) and try again"
  fi
  note "installing $*"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; } >&2 ||
    fail "apt-get could not install $*"
}

need_tools() {
  local missing=() major
  major=$(java_major)
  if [ -z "$major" ] || [ "$major" -lt 17 ]; then missing+=(openjdk-17-jre-headless); fi
  command -v mvn >/dev/null || missing+=(maven)
  if [ "${#missing[@]}" -gt 0 ]; then install_tools "${missing[@]}"; fi
}

fetch() {
  local dest=${dest:-$(kafka_home)} scratch
  mkdir -p "$(dirname "$dest")"
  exec 8>"$dest.lock"
  flock 8
  if [ -f "$dest/COMPLETE" ]; then
    printf '%s\n' "$dest"
    return
  fi
  [ ! -e "$dest" ] || fail "$dest exists but is not a finished fetch; remove it or choose another --dest"
  need_tools
  scratch=$(mktemp -d "$dest.partial.XXXXXX")
  # The path is expanded now: the trap runs when the variable is gone.
  # shellcheck disable=SC2064
  trap "rm -rf -- '$scratch'" EXIT
  note "fetching Kafka $version into $dest"
  mvn -q -B -Dstyle.color=never --strict-checksums -f "$here/kafka/pom.xml" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$scratch/libs" >&2 || fail "Maven could not get Kafka $version"
  [ -f "$scratch/libs/kafka_2.13-$version.jar" ] || fail "Maven copied no kafka_2.13-$version.jar"
  chmod 755 "$scratch"
  printf '%s\n' "$version" >"$scratch/COMPLETE"
  mv -T "$scratch" "$dest"
  printf '%s\n' "$dest"
}

# ---- one data directory ----

# Only one command works on a directory at a time. The lock lies beside it, so that wipe can hold it too.
lock_data() {
  data=$(realpath -m -- "$data")
  mkdir -p "$(dirname "$data")"
  # wipe deletes the lock: whoever waited for the deleted one must take the new one.
  until exec 9>"$data.lock" && flock 9 && [ "$data.lock" -ef /dev/fd/9 ]; do :; done
}

is_ours() { [ -f "$data/$marker" ]; }

# A pid alone may have been reused, so the process must be a broker with this directory's configuration.
# A zombie has no command line: it counts as gone.
running_pid() { # prints the pid of the directory's broker, or nothing
  local pid
  pid=$(cat "$data/kafka.pid" 2>/dev/null) || return 0
  if [[ $pid =~ ^[0-9]+$ ]] && tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -Fqx -- "$data/server.properties"; then
    printf '%s\n' "$pid"
  fi
}

# The only sleep of this file: the step between two looks at a condition.
poll() { # poll SECONDS COMMAND...: true as soon as COMMAND is, false at the deadline
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    if [ "$SECONDS" -ge "$deadline" ]; then return 1; fi
    sleep 0.05
  done
}

is_gone() { [ -z "$(running_pid)" ]; }

# ---- ports ----

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Between choosing a port and the broker's bind another kafka.sh could choose the same one: a lock per
# port, held until this script ends, prevents it. The descriptor is kept by bash, not by the broker.
reserve_port() { # reserve_port PORT: true when nobody listens there and nobody else is about to
  local directory descriptor
  directory=${TMPDIR:-/tmp}/ringflow-kafka-ports.$(id -u)
  mkdir -p "$directory"
  exec {descriptor}>"$directory/$1"
  if flock -n "$descriptor" && ! port_is_taken "$1"; then
    reserved+=("$descriptor")
    return 0
  fi
  exec {descriptor}>&-
  return 1
}

choose_port() { # sets `chosen` to a reserved free port
  local try
  for ((try = 0; try < 200; try++)); do
    chosen=$((port_first + (RANDOM * 32768 + RANDOM) % port_count))
    if reserve_port "$chosen"; then return; fi
  done
  fail "found no free port in $port_first..$((port_first + port_count))"
}

# An ApiVersions v0 request, correlation 7: whoever answers with correlation 7 speaks Kafka.
answers() { # answers PORT
  local reply
  reply=$(
    exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$1" || exit 0
    printf '\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x07\xff\xff' >&3
    timeout 2 head -c 10 <&3 | od -An -v -tx1 | tr -d ' \n'
  ) || return 1
  [ "${reply:8}" = 000000070000 ]
}

# ---- start ----

write_properties() { # write_properties PORT CONTROLLER_PORT
  cat <<PROPERTIES
# Written by kafka.sh at every start.
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$2
listeners=PLAINTEXT://127.0.0.1:$1,CONTROLLER://127.0.0.1:$2
advertised.listeners=PLAINTEXT://127.0.0.1:$1,CONTROLLER://127.0.0.1:$2
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$data/log
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
PROPERTIES
  case $profile in
    test) printf '%s\n' num.network.threads=1 num.io.threads=2 background.threads=2 log.cleaner.threads=1 \
      num.recovery.threads.per.data.dir=1 log.segment.bytes=67108864 ;;
    bench) printf '%s\n' num.network.threads=2 num.io.threads=4 log.segment.bytes=1073741824 ;;
  esac
}

jvm_arguments() {
  case $profile in
    test) printf '%s\n' -Xms256m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 ;;
    bench) printf '%s\n' -Xms1g -Xmx1g -XX:+UseG1GC -XX:MaxGCPauseMillis=20 ;;
  esac
  # shellcheck disable=SC2086 # split at spaces on purpose
  if [ -n "${RINGFLOW_KAFKA_JVM:-}" ]; then printf '%s\n' $RINGFLOW_KAFKA_JVM; fi
}

format_storage() { # a dynamic quorum of this one node
  local quick=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$classpath") id
  id=$(java "${quick[@]}" kafka.tools.StorageTool random-uuid 2>>"$data/kafka.log" | tail -n 1)
  java "${quick[@]}" "-Dlog4j2.configurationFile=$here/kafka/log4j2.xml" kafka.tools.StorageTool \
    format --standalone -t "$id" -c "$data/server.properties" >>"$data/kafka.log" 2>&1 ||
    fail "could not format $data; see $data/kafka.log"
}

# Prepares DIR; after that it carries the marker and may be wiped.
claim_data() {
  if [ -e "$data" ] && ! is_ours; then
    [ -d "$data" ] || fail "$data is not a directory"
    [ -z "$(ls -A "$data")" ] || fail "$data has other files in it; give an empty or a new directory"
  fi
  mkdir -p "$data"
  printf '%s\n' "$version" >"$data/$marker"
}

said_started() { tail -c "+$((log_offset + 1))" "$data/kafka.log" | grep -q 'Kafka Server started'; }

# Ends the wait when the broker answers, or when it will not any more.
is_decided() { { said_started && answers "$port"; } || [ -z "$(running_pid)" ]; }

# The ports file remembers "PORT CONTROLLER_PORT" of the last start: whoever used this broker finds it
# again after a restart. A killed broker's port may take a moment to become free.
# The quorum's record of this node names its controller port, so keeping it saves the quorum an update.
choose_ports() {
  local last_port=0 last_controller=0
  if [ -f "$data/ports" ]; then read -r last_port last_controller <"$data/ports"; fi
  port=${port:-$last_port}
  if [ "$port" -eq 0 ]; then
    choose_port && port=$chosen
  else
    poll "$port_deadline_s" reserve_port "$port" || fail "port $port is taken"
  fi
  if [ "$last_controller" -ne 0 ] && reserve_port "$last_controller"; then
    controller=$last_controller
  else
    choose_port && controller=$chosen
  fi
}

launch() { # starts the broker process and waits for it
  local jvm descriptor pid
  mapfile -t jvm < <(jvm_arguments)
  log_offset=$(stat -c %s "$data/kafka.log")
  (
    # No lock of ours may live on in the broker.
    exec 9>&-
    for descriptor in "${reserved[@]}"; do exec {descriptor}>&-; done
    cd "$data"
    exec setsid java "${jvm[@]}" "-Dlog4j2.configurationFile=$here/kafka/log4j2.xml" -cp "$classpath" \
      kafka.Kafka "$data/server.properties"
  ) </dev/null >>"$data/kafka.log" 2>&1 &
  pid=$!
  printf '%s\n' "$pid" >"$data/kafka.pid"
  # Until the subshell has become java its command line names no server.properties.
  poll 10 became_java "$pid" || true
  poll "$start_deadline_s" is_decided || {
    kill -KILL "$pid" 2>/dev/null || true
    fail "the broker did not answer within $start_deadline_s s; see $data/kafka.log"
  }
  if [ -z "$(running_pid)" ]; then
    rm -f "$data/kafka.pid"
    tail -n 15 "$data/kafka.log" >&2
    fail "the broker ended while starting; see $data/kafka.log"
  fi
}

became_java() { [ -n "$(running_pid)" ] || [ ! -d "/proc/$1" ]; }

start() {
  local home pid classpath log_offset controller chosen reserved=()
  home=$(kafka_home)
  [ -f "$home/COMPLETE" ] || fail "Kafka is not in $home; run: scripts/kafka.sh fetch"
  command -v java >/dev/null || fail "java is missing; run: scripts/kafka.sh fetch"
  classpath="$home/libs/*"
  lock_data
  pid=$(running_pid)
  [ -z "$pid" ] || fail "$data is in use by a running broker (pid $pid)"
  choose_ports
  claim_data
  write_properties "$port" "$controller" >"$data/server.properties"
  printf '%s %s\n' "$port" "$controller" >"$data/ports"
  touch "$data/kafka.log"
  if [ ! -f "$data/log/meta.properties" ]; then
    # What an interrupted formatting left behind holds no record.
    rm -rf -- "$data/log"
    mkdir "$data/log"
    format_storage
  fi
  launch
  printf '127.0.0.1:%s\n' "$port"
}

# ---- the other commands ----

stop() {
  local pid
  lock_data
  pid=$(running_pid)
  if [ -z "$pid" ]; then
    note "no broker is running on $data"
  else
    kill -TERM "$pid" 2>/dev/null || true
    poll "$stop_deadline_s" is_gone || {
      note "the broker did not end within $stop_deadline_s s, killing it"
      end_now "$pid"
    }
  fi
  rm -f "$data/kafka.pid"
}

kill9() {
  local pid
  lock_data
  pid=$(running_pid)
  [ -n "$pid" ] || fail "no broker is running on $data"
  end_now "$pid"
  rm -f "$data/kafka.pid"
}

end_now() { # end_now PID
  kill -KILL "$1" 2>/dev/null || true
  poll 10 is_gone || fail "process $1 survives SIGKILL"
}

wipe() {
  local pid
  lock_data
  if [ ! -e "$data" ]; then
    rm -f -- "$data.lock"
    return
  fi
  is_ours || fail "$data was not made by kafka.sh: not deleting it"
  pid=$(running_pid)
  [ -z "$pid" ] || fail "a broker is running on $data (pid $pid): stop it first"
  rm -rf -- "$data"
  rm -f -- "$data.lock"
}

# ---- command line ----

command=${1:-}
[ $# -eq 0 ] || shift
data='' dest='' port='' profile=test
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage && exit ;;
    --data | --dest | --port | --profile)
      [ $# -ge 2 ] || fail "$1 needs a value"
      printf -v "${1#--}" '%s' "$2"
      shift 2
      ;;
    *) fail "unknown argument $1; see kafka.sh --help" ;;
  esac
done

case $command in
  --help | -h | help) usage ;;
  fetch) fetch ;;
  start | stop | kill9 | wipe)
    [ -n "$data" ] || fail "$command needs --data DIR"
    [[ $port =~ ^[0-9]{0,5}$ && ${port:-0} -le 65535 ]] || fail "--port needs a number up to 65535, not $port"
    [[ $profile =~ ^(test|bench)$ ]] || fail "--profile is test or bench, not $profile"
    "$command"
    ;;
  '') usage >&2 && exit 2 ;;
  *) fail "unknown command $command; see kafka.sh --help" ;;
esac
