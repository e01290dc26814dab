#!/usr/bin/env bash
# Services for tests, demo and benchmarks: buildkitd, three registries, a base image.
#
#   scripts/services.sh up       start what does not run; the first time this builds and installs things (minutes)
#   scripts/services.sh status   one line per service; exit code 3 when one of them does not run
#   scripts/services.sh env      shell exports for the tests: eval "$(scripts/services.sh env)"
#   scripts/services.sh down     stop what `up` started; what was built, pushed and cached stays
#
# BUILDKIT_RELEASE=v0.12.5 before any of these means a buildkitd of that release beside the usual one, with state and
# socket of its own and the same registries; `down` then stops it alone. Releases are the folders of scripts/buildkit.
#
# Everything lives in one folder outside the checkout: $BUILDKIT_CLIENT_CACHE, else
# ${XDG_CACHE_HOME:-$HOME/.cache}/buildkit-client. Services listen on 127.0.0.1 and on a unix socket, nowhere else.
#
# Read from the environment:
#   BUILDKIT_HOST          a buildkitd that answers there is used, and none is started
#   PYTHON                 interpreter that has `cryptography`, for the token server; else one is made in the folder
#   EXTRA_BUILDKITD_TOML   file whose text is appended to the configuration of our buildkitd
#   TOKEN_LIFETIME_S       how long tokens of the token registry live, default 300
#   GOMODCACHE, GOCACHE    Go's caches, used and kept when set; else they are made and deleted again
#
# A buildkitd on PATH, with its buildctl, is started instead of building the pinned release.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" # where Debian has runc

cache=${BUILDKIT_CLIENT_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/buildkit-client}
umask 077
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
run=$cache/run         # pid files, ports, configuration as generated
logs=$cache/logs
secrets=$cache/secrets # passwords and keys
builder=buildkitd${BUILDKIT_RELEASE:+-$BUILDKIT_RELEASE}
names=("$builder" registry registry-htpasswd token-server registry-token)
declare -A preferred_port=(
    [registry]=5000 [registry-htpasswd]=5001 [registry-token]=5002 [token-server]=5003 [buildkitd]=5004
)
htpasswd_user=docker # as DigitalOcean's racks have it
token_user=builder
# shellcheck source=scripts/services/processes.sh
. "$here/services/processes.sh"

socket=$run/$builder.sock
if [ ${#socket} -ge 100 ]; then # the kernel takes 107 bytes
    socket=/run/buildkit-client-$(printf '%s' "$cache" | sha256sum | cut -c 1-8)/$builder.sock
fi
own_host=unix://$socket
environment=$run/env${BUILDKIT_RELEASE:+-$BUILDKIT_RELEASE}
newest=$(awk '$1 == "github.com/moby/buildkit" { print $2; exit }' "$here/buildkit/go.mod")
binaries=$cache/bin/buildkit-$newest

if [ -n "${BUILDKIT_RELEASE:-}" ]; then
    if [ ! -f "$here/buildkit/$BUILDKIT_RELEASE/go.mod" ]; then
        die "there is no recipe for BUILDKIT_RELEASE=$BUILDKIT_RELEASE" \
            "leave it unset for $newest, or take one of: $(cd "$here/buildkit" && echo v*)"
    fi
    preferred_port[$builder]=5005
fi

# --- from outside: packages, Python ---

static_busybox() { [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1; }

ensure_packages() {
    local missing=() pair
    for pair in runc:runc docker-registry:docker-registry skopeo:skopeo umoci:umoci openssl:openssl perl:perl-base \
        ssh-agent:openssh-client git:git dockerd:docker.io zsh:zsh fish:fish; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
    done
    static_busybox || missing+=(busybox-static)
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql) # the tests start their own
    if [ ${#missing[@]} -eq 0 ]; then return 0; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        die "these programs are missing: ${missing[*]}" "install the packages of these names, as root"
    fi
    say "installing ${missing[*]}"
    # RUNLEVEL=1 keeps the packages' own services (a registry on port 5000) from being started.
    local install=(env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
        apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=600 "${missing[@]}")
    if ! "${install[@]}" </dev/null >"$logs/apt.log" 2>&1; then
        say "  ... after apt-get update"
        apt-get update -qq </dev/null >>"$logs/apt.log" 2>&1 || true
        if ! "${install[@]}" </dev/null >>"$logs/apt.log" 2>&1; then
            tail -n 15 "$logs/apt.log" >&2
            die "apt-get could not install ${missing[*]}" "apt-get update && apt-get install ${missing[*]}"
        fi
    fi
    if [[ " ${missing[*]} " == *" docker-registry "* ]] && [ -d /run/systemd/system ]; then
        systemctl disable --quiet --now docker-registry || true
    fi
    if [[ " ${missing[*]} " == *" docker.io "* ]] && [ -d /run/systemd/system ]; then
        systemctl disable --quiet --now docker.socket docker.service containerd.service || true
    fi
}

# Sets $python to an interpreter that has `cryptography`.
ensure_python() {
    if [ -n "${PYTHON:-}" ] && python=$(command -v "$PYTHON") && "$python" -c 'import cryptography' 2>/dev/null; then
        python=$(cd "$(dirname "$python")" && pwd)/${python##*/}
        return 0
    fi
    python=$cache/venv/bin/python
    if "$python" -c 'import cryptography' 2>/dev/null; then return 0; fi
    say "making a Python environment for the token server"
    PYTHON="" "$here/make_venv.sh" "$cache/venv" 3.11
    "$python" -m pip install -q cryptography >&2
}

# --- buildkitd ---

answers() { "$buildctl" --addr "$1" --timeout 5 debug workers >/dev/null 2>&1; } # ADDRESS

ensure_binaries() { # COMMAND...: builds those of the pinned release that are not there yet
    local missing=() name
    for name in "$@"; do [ -x "$binaries/$name" ] || missing+=("$name"); done
    if [ ${#missing[@]} -gt 0 ]; then
        "$here/buildkit/build.sh" "$here/buildkit" "$binaries" "$cache/go" "${missing[@]}"
    fi
}

# Sets $daemon and $buildctl for BUILDKIT_RELEASE: its buildkitd, and beside it the newest buildctl, since that one is
# what tests compare with, whichever daemon answers.
ensure_release_binaries() {
    local folder=$cache/bin/buildkit-$BUILDKIT_RELEASE
    if [ ! -x "$folder/buildkitd" ]; then
        "$here/buildkit/build.sh" "$here/buildkit/$BUILDKIT_RELEASE" "$folder" "$cache/go" buildkitd
    fi
    ensure_binaries buildctl
    ln -sfn "$binaries/buildctl" "$folder/buildctl"
    daemon=$folder/buildkitd buildctl=$folder/buildctl
}

check_buildkitd() { answers "$own_host" && port_open "$(port "$builder")"; }

buildkitd_config() { # SNAPSHOTTER
    cat <<TOML
root = "$cache/$builder"

[grpc]
  address = ["$own_host", "tcp://127.0.0.1:$(port "$builder")"]
  [grpc.tls] # for the tcp address only
    ca = "$secrets/tls-server/ca.pem"
    cert = "$secrets/tls-server/cert.pem"
    key = "$secrets/tls-server/key.pem"

[worker.oci]
  enabled = true
  snapshotter = "$1"
  gc = true
  reservedSpace = "2GB"
  maxUsedSpace = "20GB"
  minFreeSpace = "4GB"

[worker.containerd]
  enabled = false
TOML
    local name
    for name in registry registry-htpasswd registry-token; do
        printf '\n[registry."127.0.0.1:%s"]\n  http = true\n' "$(port "$name")"
    done
    if [ -n "${EXTRA_BUILDKITD_TOML:-}" ]; then
        printf '\n'
        cat "$EXTRA_BUILDKITD_TOML"
    fi
}

start_buildkitd() { # SNAPSHOTTER
    local config=$run/$builder.toml
    buildkitd_config "$1" >"$config"
    ensure "$builder" 60 check_buildkitd \
        "$(digest_of "$config" "$secrets/tls-server/cert.pem") $daemon" \
        "$daemon" --config "$config" --oci-worker=true --containerd-worker=false
}

# Sets $buildctl, and $buildkit_host to the daemon in use: a foreign one that answers, else ours.
ensure_buildkitd() {
    if [ -z "${BUILDKIT_RELEASE:-}" ] && [ -n "${BUILDKIT_HOST:-}" ] && [ "$BUILDKIT_HOST" != "$own_host" ]; then
        ensure_binaries buildctl
        buildctl=$binaries/buildctl
        if answers "$BUILDKIT_HOST"; then
            buildkit_host=$BUILDKIT_HOST
            say "using the buildkitd at $BUILDKIT_HOST"
            return 0
        fi
        say "no buildkitd answers at BUILDKIT_HOST=$BUILDKIT_HOST: starting one"
    fi
    [ "$(id -u)" = 0 ] || die "starting buildkitd needs root" "run as root, or set BUILDKIT_HOST to one that runs"
    if [ -n "${BUILDKIT_RELEASE:-}" ]; then
        ensure_release_binaries
    elif daemon=$(command -v buildkitd); then
        say "using $daemon, found on PATH"
        buildctl=$(command -v buildctl) || {
            ensure_binaries buildctl
            buildctl=$binaries/buildctl
        }
    else
        ensure_binaries buildkitd buildctl
        daemon=$binaries/buildkitd buildctl=$binaries/buildctl
    fi
    buildkit_host=$own_host
    mkdir -p "$(dirname "$socket")"
    choose_port "$builder"
    ensure_certificates
    # "auto" is overlayfs where the kernel and the file system allow it.
    start_buildkitd "$(cat "$run/snapshotter" 2>/dev/null || echo auto)" && return 0
    if grep -qiE 'overlay|snapshotter' "$logs/$builder.log"; then
        say "trying the native snapshotter"
        echo native >"$run/snapshotter"
        start_buildkitd native && return 0
    fi
    die "$builder does not start" "read $logs/$builder.log"
}

# --- keys and passwords ---

certificate() { # FOLDER SUBJECT EXTENSIONS [openssl options...]: a key and a certificate, ten years
    local folder=$1 subject=$2 extensions=$3
    shift 3
    openssl req -x509 -days 3650 -nodes -subj "/CN=$subject" -keyout "$folder/key.pem" -out "$folder/cert.pem" \
        -config <(printf '[req]\ndistinguished_name=dn\n[dn]\n[ext]\n%b' "$extensions") -extensions ext "$@" \
        >"$logs/openssl.log" 2>&1 || {
        cat "$logs/openssl.log" >&2
        die "openssl could not make the certificate of $subject"
    }
}

# A CA, a certificate for buildkitd and one for its clients, which it demands.
ensure_certificates() {
    if openssl x509 -checkend 86400 -noout -in "$secrets/tls/cert.pem" >/dev/null 2>&1 &&
        openssl x509 -checkend 86400 -noout -in "$secrets/tls-server/cert.pem" >/dev/null 2>&1; then
        return 0
    fi
    say "making TLS certificates"
    local ca=$secrets/tls-ca curve=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1) leaf
    mkdir -p "$ca" "$secrets/tls" "$secrets/tls-server"
    certificate "$ca" buildkit-client-ca "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n" "${curve[@]}"
    leaf="basicConstraints=critical,CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage="
    certificate "$secrets/tls-server" buildkitd "${leaf}serverAuth\nsubjectAltName=IP:127.0.0.1,DNS:localhost,DNS:buildkitd\n" \
        "${curve[@]}" -CA "$ca/cert.pem" -CAkey "$ca/key.pem"
    certificate "$secrets/tls" client "${leaf}clientAuth\n" "${curve[@]}" -CA "$ca/cert.pem" -CAkey "$ca/key.pem"
    cp "$ca/cert.pem" "$secrets/tls/ca.pem"
    cp "$ca/cert.pem" "$secrets/tls-server/ca.pem"
}

ensure_secrets() {
    local name
    for name in htpasswd-password token-password token-identity http-secret; do
        [ -s "$secrets/$name" ] || head -c 24 /dev/urandom | base64 | tr '+/' 'xy' >"$secrets/$name"
    done
    if [ ! -s "$secrets/htpasswd" ] || [ "$secrets/htpasswd-password" -nt "$secrets/htpasswd" ]; then
        # Perl's crypt is libc's, which knows bcrypt: the only hash that the registry accepts.
        perl -e '
            open my $random, "<", "/dev/urandom" or die; read $random, my $bytes, 22;
            my @letters = (".", "/", "A".."Z", "a".."z", "0".."9");
            my $salt = join "", map { $letters[$_ & 63] } unpack "C22", $bytes;
            chomp(my $password = <STDIN>);
            print "$ARGV[0]:", crypt($password, "\$2b\$05\$$salt"), "\n";
        ' "$htpasswd_user" <"$secrets/htpasswd-password" >"$secrets/htpasswd.new"
        mv "$secrets/htpasswd.new" "$secrets/htpasswd"
    fi
    if ! openssl x509 -checkend 86400 -noout -in "$secrets/token.crt" >/dev/null 2>&1; then
        mkdir -p "$secrets/token"
        certificate "$secrets/token" buildkit-client-tests "keyUsage=digitalSignature,keyCertSign\n" -newkey rsa:2048
        mv "$secrets/token/key.pem" "$secrets/token.key"
        mv "$secrets/token/cert.pem" "$secrets/token.crt"
        rmdir "$secrets/token"
    fi
}

# --- registries ---

check_registry() { [ "$(http_status "$(port "$1")" /v2/)" = "$([ "$1" = registry ] && echo 200 || echo 401)" ]; }

check_token_server() { [ "$(http_status "$(port "$1")" /oauth2/token)" = 401 ]; }

registry_config() { # NAME
    cat <<YAML
version: 0.1
log: {level: info}
storage:
  filesystem: {rootdirectory: "$cache/$1"}
  delete: {enabled: true}
http:
  addr: 127.0.0.1:$(port "$1")
  secret: "$(cat "$secrets/http-secret")"
YAML
    case $1 in
    registry-htpasswd)
        printf 'auth:\n  htpasswd: {realm: buildkit-client-tests, path: "%s"}\n' "$secrets/htpasswd"
        ;;
    registry-token)
        printf 'auth:\n  token:\n    realm: http://127.0.0.1:%s/oauth2/token\n' "$(port token-server)"
        printf '    service: 127.0.0.1:%s\n    issuer: buildkit-client-tests\n' "$(port "$1")"
        printf '    rootcertbundle: "%s"\n' "$secrets/token.crt"
        ;;
    esac
}

ensure_registry() { # NAME
    local config=$run/$1.yml
    choose_port "$1"
    registry_config "$1" >"$config"
    # A clean environment: REGISTRY_* variables would override the file.
    ensure "$1" 20 check_registry "$(digest_of "$config" "$secrets/htpasswd" "$secrets/token.crt")" \
        env -i PATH="$PATH" HOME=/ docker-registry serve "$config" || die "the registry $1 does not start"
}

ensure_token_server() {
    local server=$here/../tests/support/token_server.py lifetime=${TOKEN_LIFETIME_S:-300}
    ensure_python
    choose_port token-server
    ensure token-server 20 check_token_server \
        "$(digest_of "$server" "$secrets"/token*) $(port token-server) $lifetime" \
        "$python" -I "$(realpath "$server")" --port "$(port token-server)" --user "$token_user" --state "$secrets" \
        --lifetime-s "$lifetime" || die "the token server does not start"
}

# --- base image ---

write_docker_config() { # for skopeo; passwords go by file, never on a command line
    local auth1 auth2
    auth1=$(printf '%s:%s' "$htpasswd_user" "$(cat "$secrets/htpasswd-password")" | base64 -w 0)
    auth2=$(printf '%s:%s' "$token_user" "$(cat "$secrets/token-password")" | base64 -w 0)
    printf '{"auths": {"127.0.0.1:%s": {"auth": "%s"}, "127.0.0.1:%s": {"auth": "%s"}}}\n' \
        "$(port registry-htpasswd)" "$auth1" "$(port registry-token)" "$auth2" >"$secrets/docker-config.json"
}

ensure_base_image() {
    local layout=$cache/base-image made name ref digest
    made=$(digest_of /bin/busybox "$here/base_image.py")
    if [ "$(cat "$layout/made-from" 2>/dev/null)" != "$made" ]; then
        say "making the base image"
        "$python" "$here/base_image.py" --busybox /bin/busybox --output "$layout" >"$logs/base-image-digest"
        mv "$logs/base-image-digest" "$layout/digest"
        echo "$made" >"$layout/made-from"
    fi
    digest=$(cat "$layout/digest")
    write_docker_config
    local files=(--authfile "$secrets/docker-config.json")
    for name in registry registry-htpasswd registry-token; do
        ref=docker://127.0.0.1:$(port "$name")/library/busybox:latest
        if [ "$(skopeo inspect "${files[@]}" --tls-verify=false --format '{{.Digest}}' "$ref" 2>/dev/null)" != "$digest" ]; then
            say "pushing the base image to $name"
            skopeo --insecure-policy copy -q "${files[@]}" --dest-tls-verify=false "oci:$layout:latest" "$ref" >&2 ||
                die "the base image could not be pushed to ${ref#docker://}" "read $logs/$name.log"
        fi
    done
}

# --- commands ---

exports() {
    local tls_address="" tls_folder=""
    if [ "$buildkit_host" = "$own_host" ]; then
        tls_address=tcp://127.0.0.1:$(port "$builder") tls_folder=$secrets/tls
    fi
    local name values=(
        "BUILDKIT_HOST=$buildkit_host"
        "BUILDCTL=$buildctl"
        "SKOPEO=$(command -v skopeo)"
        "TEST_REGISTRY=127.0.0.1:$(port registry)"
        "TEST_REGISTRY_HTPASSWD=127.0.0.1:$(port registry-htpasswd)"
        "TEST_REGISTRY_HTPASSWD_USER=$htpasswd_user"
        "TEST_REGISTRY_HTPASSWD_PASSWORD_FILE=$secrets/htpasswd-password"
        "TEST_REGISTRY_TOKEN=127.0.0.1:$(port registry-token)"
        "TEST_REGISTRY_TOKEN_USER=$token_user"
        "TEST_REGISTRY_TOKEN_PASSWORD_FILE=$secrets/token-password"
        "TEST_REGISTRY_TOKEN_IDENTITY_FILE=$secrets/token-identity"
        "TEST_BASE_IMAGE=127.0.0.1:$(port registry)/library/busybox:latest"
        "TEST_BUILDKIT_TLS_ADDR=$tls_address"
        "TEST_BUILDKIT_TLS_DIR=$tls_folder"
    )
    for name in "${values[@]}"; do printf 'export %s=%q\n' "${name%%=*}" "${name#*=}"; done
}

up() {
    if [ -n "${EXTRA_BUILDKITD_TOML:-}" ] && [ ! -r "$EXTRA_BUILDKITD_TOML" ]; then
        die "EXTRA_BUILDKITD_TOML names a file that cannot be read: $EXTRA_BUILDKITD_TOML"
    fi
    if [ "$(id -u)" != 0 ] && [ -z "${BUILDKIT_HOST:-}" ]; then
        die "starting buildkitd needs root" "run as root, or set BUILDKIT_HOST to one that runs"
    fi
    mkdir -p "$run" "$logs" "$secrets" "$cache/bin"
    chmod 700 "$run" "$secrets" # buildkitd's socket is open to all who reach it
    exec 9>"$cache/lock"
    if ! flock -n 9; then
        say "waiting for another run of this script to end"
        flock -w 1800 9 || die "another run of this script holds $cache/lock for half an hour"
    fi
    ensure_packages
    ensure_secrets
    ensure_registry registry
    ensure_registry registry-htpasswd
    choose_port token-server # the registry's configuration names it
    ensure_registry registry-token
    ensure_token_server
    ensure_base_image
    ensure_buildkitd
    exports >"$environment.new"
    mv "$environment.new" "$environment"
    say "up: buildkitd at $buildkit_host, registry at 127.0.0.1:$(port registry) (everything is in $cache)"
}

down() {
    local name file others=()
    if [ ! -d "$run" ]; then return 0; fi
    exec 9>"$cache/lock"
    flock -w 1800 9 || die "another run of this script holds $cache/lock for half an hour"
    rm -f "$environment"
    if [ -n "${BUILDKIT_RELEASE:-}" ]; then
        stop "$builder"
        return 0
    fi
    for file in "$run"/buildkitd-*.pid; do # of other releases, which use the registries as well
        name=${file##*/}
        if [ -f "$file" ]; then others+=("${name%.pid}"); fi
    done
    for name in "${others[@]}" "${names[@]}"; do stop "$name"; done
    rm -f "$run"/env-*
}

foreign_host() { # prints the address of the buildkitd in use when it is not ours
    local host
    host=$(sed -n 's/^export BUILDKIT_HOST=//p' "$environment" 2>/dev/null)
    [ -n "$host" ] && [ "$host" != "$own_host" ] && echo "$host"
}

status() {
    local name pid where result=0 host
    for name in "${names[@]}"; do
        where=127.0.0.1:$(port "$name" 2>/dev/null || echo "${preferred_port[$name]}")
        if [ "$name" = "$builder" ]; then where="$own_host $where (TLS)"; fi
        if [ "$name" = "$builder" ] && host=$(foreign_host); then
            printf '%-18s foreign  %s\n' "$name" "$host"
        elif pid=$(running_pid "$name"); then
            printf '%-18s running  pid %-8s %s\n' "$name" "$pid" "$where"
        else
            printf '%-18s stopped\n' "$name"
            result=3
        fi
    done
    return $result
}

print_env() {
    local name
    for name in "${names[@]}"; do
        if [ "$name" = "$builder" ] && foreign_host >/dev/null; then continue; fi
        if [ ! -f "$environment" ] || ! running_pid "$name" >/dev/null; then
            die "the services are not up ($name does not run)" "scripts/services.sh up"
        fi
    done
    cat "$environment"
}

case ${1:-} in
up) up ;;
down) down ;;
status) status ;;
env) print_env ;;
*)
    sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
