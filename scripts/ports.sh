# shellcheck shell=bash
# Sourced after env.sh: is a port free?

# Dies, naming who has the port, unless nobody listens there. Usage: require_free_port VARIABLE PORT
require_free_port() {
    local variable=$1 port=$2 owner
    if ! [[ $port =~ ^[1-9][0-9]{0,4}$ ]] || [ "$port" -gt 64535 ]; then
        die "$variable=$port is not a port number up to 64535"
    fi
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || return 0
    owner=$(ss -Hltnp "sport = :$port" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/ by \1 (process \2)/p' | head -n1)
    die "port $port is in use$owner; stop that, or choose another: make run $variable=$((port + 1000))"
}
