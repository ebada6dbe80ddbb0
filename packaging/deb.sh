#!/bin/bash
# Makes two Debian packages of the release build:
#   ferrule        the switch and its tools under one name; lives beside openvswitch-switch (of the two switches one runs at a time)
#   ferrule-ovs    the tools and daemons under OVS's names, in the place of openvswitch-switch and openvswitch-common
# usage: packaging/deb.sh [FOLDER]   where they go (default: target/debian)
# FERRULE_BIN is the folder of the programs (default: target/release), DEB_COMPRESSION what dpkg-deb's -Z takes (default: xz).
# What a package holds is declared in packaging/NAME.files; one that holds anything else is an error.
set -euo pipefail
umask 022
root=$(readlink -f "$(dirname "$0")/..")
out=${1:-$root/target/debian}
bin=${FERRULE_BIN:-$root/target/release}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
arch=$(dpkg --print-architecture)
for program in ferrule ovs-vswitchd; do
    [ -x "$bin/$program" ] || { echo "deb: $bin/$program is missing (make build)" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

control() { # NAME ARCHITECTURE DEPENDS EXTRA DESCRIPTION
    mkdir -p "$work/$1/DEBIAN"
    {
        printf 'Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: Ferrule developers <ferrule@localhost>\n' "$1" "$version" "$2"
        printf 'Section: net\nPriority: optional\nDepends: %s\n' "$3"
        [ -z "$4" ] || printf '%s\n' "$4"
        printf 'Description: %s\n' "$5"
    } >"$work/$1/DEBIAN/control"
}

p=$work/ferrule
lib=$p/usr/lib/ferrule
install -d "$lib" "$p/usr/bin" "$p/usr/share/man/man8" "$p/usr/share/bash-completion/completions" "$p/lib/systemd/system"
install -d "$p/usr/share/doc/ferrule"
install -m 755 "$bin/ferrule" "$bin/ovs-vswitchd" "$lib/"
# Names of functions stay, for the log of a panic; the rest of what a debugger wants is most of the size.
strip --strip-debug "$lib/ferrule" "$lib/ovs-vswitchd"
ln -s ../lib/ferrule/ferrule "$p/usr/bin/ferrule"
install -m 644 "$root/packaging/ferrule.service" "$p/lib/systemd/system/"
install -m 644 "$root/LICENSE" "$p/usr/share/doc/ferrule/copyright"
"$bin/ferrule" completion bash >"$p/usr/share/bash-completion/completions/ferrule"
"$bin/ferrule" manual "$work" >/dev/null
gzip -9n <"$work/ferrule.8" >"$p/usr/share/man/man8/ferrule.8.gz"
control ferrule "$arch" "libc6, adduser" "Recommends: iproute2, openssl" \
    "Open vSwitch-compatible virtual switch
 A virtual switch with OpenFlow, tunnels, connection tracking and its own database, for the tools and controllers of Open vSwitch."
cat >"$p/DEBIAN/postinst" <<'S'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    getent passwd ferrule >/dev/null || adduser --system --group --home /var/lib/openvswitch --no-create-home ferrule
    install -d -o ferrule -g ferrule -m 755 /etc/openvswitch /var/lib/openvswitch /var/log/openvswitch
    [ ! -d /run/systemd/system ] || systemctl daemon-reload || true
fi
S
cat >"$p/DEBIAN/prerm" <<'S'
#!/bin/sh
set -e
[ ! -d /run/systemd/system ] || systemctl stop ferrule.service || true
S
chmod 755 "$p/DEBIAN/postinst" "$p/DEBIAN/prerm"

p=$work/ferrule-ovs
install -d "$p/usr/bin" "$p/usr/sbin" "$p/usr/share/man/man8" "$p/usr/share/bash-completion/completions"
for tool in ovs-vsctl ovs-ofctl ovs-appctl ovs-dpctl ovs-pki ovsdb-client ovsdb-tool; do
    ln -s ../lib/ferrule/ferrule "$p/usr/bin/$tool"
    ln -s ferrule "$p/usr/share/bash-completion/completions/$tool"
    gzip -9n <"$work/$tool.8" >"$p/usr/share/man/man8/$tool.8.gz"
done
ln -s ../lib/ferrule/ferrule "$p/usr/sbin/ovsdb-server"
ln -s ../lib/ferrule/ovs-vswitchd "$p/usr/sbin/ovs-vswitchd"
# What friends of Open vSwitch start it by: ovn-ctl reads ovs-lib, ovn-controller.service waits for openvswitch-switch.service.
scripts=$p/usr/share/openvswitch/scripts
install -d "$scripts" "$p/lib/systemd/system"
install -m 755 "$root/packaging/ovs/ovs-ctl" "$scripts/"
install -m 644 "$root/packaging/ovs/ovs-lib" "$scripts/"
install -m 644 "$root"/packaging/ovs/*.service "$p/lib/systemd/system/"
install -m 644 "$root/vswitchd/ovsdb/schema/vswitch.ovsschema" "$p/usr/share/openvswitch/"
gzip -9n <"$work/ovsdb-server.8" >"$p/usr/share/man/man8/ovsdb-server.8.gz"
names="openvswitch-switch, openvswitch-common"
# Others ask for a version of Open vSwitch (ovn-host: >= 2.17): that whose behaviour this is.
like=$(sed -n 's/^pub const OVS_VERSION: &str = "\(.*\)";$/\1/p' "$root"/vswitchd/*/src/*.rs | head -n 1)
control ferrule-ovs all "ferrule (= $version)" "Provides: openvswitch-switch (= $like), openvswitch-common (= $like)
Conflicts: $names
Replaces: $names" \
    "Ferrule under the names of Open vSwitch's programs
 ovs-vsctl, ovs-ofctl, ovs-appctl, ovs-dpctl, ovs-pki, ovsdb-client, ovsdb-tool, ovsdb-server and ovs-vswitchd, as links to Ferrule; ovs-ctl and the
 units ovsdb-server, ovs-vswitchd and openvswitch-switch, by which ovn-host and others start it."
cat >"$p/DEBIAN/postinst" <<'S'
#!/bin/sh
set -e
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
S
cat >"$p/DEBIAN/prerm" <<'S'
#!/bin/sh
set -e
[ ! -d /run/systemd/system ] || systemctl stop openvswitch-switch.service ovs-vswitchd.service ovsdb-server.service || true
S
chmod 755 "$p/DEBIAN/postinst" "$p/DEBIAN/prerm"

for name in ferrule ferrule-ovs; do
    dpkg-deb --root-owner-group -Z"${DEB_COMPRESSION:-xz}" -b "$work/$name" "$out" | sed 's/^/deb: /'
    # Mode, path and, of a link, where it leads.
    dpkg-deb -c "$(echo "$out/${name}_${version}"_*.deb)" | awk '!/^d/ { print $1, $6, $7, $8 }' | sed 's/ *$//' | LC_ALL=C sort -k2 >"$work/$name.found"
    diff "$root/packaging/$name.files" "$work/$name.found" >&2 ||
        { echo "deb: $name does not hold what packaging/$name.files declares" >&2; exit 1; }
done
