#!/bin/bash
# Installs what the lab and the tests call and this machine lacks. Asks nothing; does nothing when all is there.
set -euo pipefail

# command or file:package
wanted=(
    tshark:tshark iperf3:iperf3 ethtool:ethtool traceroute:traceroute tracepath:iputils-tracepath
    ping:iputils-ping dig:dnsutils curl:curl musl-gcc:musl-tools socat:socat ip:iproute2
    ps:procps tcpdump:tcpdump valgrind:valgrind cc:gcc git:git column:bsdextrautils
    /usr/include/pcap/pcap.h:libpcap-dev mergecap:wireshark-common node:nodejs nft:nftables
)

missing=()
for entry in "${wanted[@]}"; do
    what=${entry%%:*}
    if [[ $what == /* ]]; then
        [[ -e $what ]] || missing+=("${entry##*:}")
    else
        command -v "$what" >/dev/null || missing+=("${entry##*:}")
    fi
done
# typos comes as a wheel into an environment of its own; Debian keeps venv in a package apart.
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

if ((${#missing[@]} > 0)); then
    if ((EUID != 0)); then
        echo "setup: as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    # tshark asks whether others than root may capture. No.
    echo "wireshark-common wireshark-common/install-setuid boolean false" | debconf-set-selections
    install() { apt-get install -y -q --no-install-recommends "${missing[@]}" </dev/null; }
    echo "setup: installing ${missing[*]}"
    # The lists may be missing or old: fetch them only when the first try fails.
    install >/dev/null 2>&1 || { apt-get update -q </dev/null && install; } >&2
fi

# rust-toolchain.toml names toolchain, components and targets. rustup fetches them with a toolchain that is not
# there yet, but adds nothing to one that is.
command -v cargo >/dev/null || { echo "setup: install Rust with rustup first" >&2; exit 1; }
if command -v rustup >/dev/null; then
    cd "$(dirname "$0")/../.."
    rustup show active-toolchain >/dev/null 2>&1 || rustup toolchain install </dev/null
    for kind in target component; do
        installed=$(rustup "$kind" list --installed)
        for name in $(sed -n "s/^${kind}s = \[\(.*\)\]/\1/p" rust-toolchain.toml | tr -d '",'); do
            grep -q "^$name" <<<"$installed" || rustup "$kind" add "$name" </dev/null
        done
    done
fi
