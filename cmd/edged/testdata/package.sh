#!/bin/bash
# The life of the package in a root of its own: package.sh DEB SHARED. It runs
# in new mount, network and process namespaces. SHARED is a folder that both
# sides see; the service manager's socket is SHARED/notify. The environment has
# what the unit says: EXEC_START, RUN_AS and CAPABILITIES.
set -euo pipefail
deb=$1 shared=$2

# The root: a fresh one, but for the programs of this machine in /usr.
root=$(mktemp -d)
trap 'cd / && umount -l "$root" && rmdir "$root"' EXIT
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
mkdir -p "$root"/{usr,etc/alternatives,proc,sys,dev,run/shared,tmp,root,layer/upper,layer/work} "$root"/var/{cache,log,tmp} "$root"/var/lib/dpkg/{info,updates}
chmod 755 "$root"
mount -t overlay overlay -o "lowerdir=/usr,upperdir=$root/layer/upper,workdir=$root/layer/work" "$root/usr"
for d in bin sbin lib lib64; do
	[ ! -L "/$d" ] || ln -s "usr/$d" "$root/$d"
done
cp -a /etc/alternatives/. "$root/etc/alternatives"
cp /etc/ld.so.cache "$root/etc"
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
printf 'root:*:1::::::\nnobody:*:1::::::\n' >"$root/etc/shadow"
printf 'root:*::\nnogroup:*::\n' >"$root/etc/gshadow"
printf 'passwd: files\ngroup: files\n' >"$root/etc/nsswitch.conf"
printf 'Package: passwd\nStatus: install ok installed\nMaintainer: x\nArchitecture: %s\nVersion: 1\nDescription: x\n\n' "$(dpkg --print-architecture)" >"$root/var/lib/dpkg/status"
touch "$root"/var/lib/dpkg/{available,info/passwd.list}
mount --bind "$shared" "$root/run/shared"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/dev"
for d in null zero random urandom; do
	: >"$root/dev/$d"
	mount --bind "/dev/$d" "$root/dev/$d"
done
ip link set dev lo up
cp "$deb" "$root/tmp/edged.deb"

in_root() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "$@"; }
as() { in_root setpriv --reuid "$1" --regid "$2" --clear-groups "${@:3}"; }
# What is there, but for the records of dpkg itself and older copies of the
# lists of users.
listing() {
	find "$root" -xdev \( -path "$root/var/lib/dpkg" -o -path "$root/layer" -o -path "$root/run/shared" -o -path "$root/var/log" \) -prune -o \
		-printf '%P %m %U:%G\n' | grep -v -e '^etc/[a-z]*- ' -e '^etc/[.]pwd[.]lock ' | sort
	find "$root/layer/upper" -type f -printf 'usr/%P\n' | sort
	sort "$root/etc/passwd" "$root/etc/group" "$root/etc/shadow" "$root/etc/gshadow"
}
step() { echo "== $*"; }

before=$(listing)
step install
in_root dpkg -i /tmp/edged.deb </dev/null 2>&1
in_root id edged
stat -c '/etc/edged %a %U' "$root/etc/edged"
[ -z "$(ls -A "$root/etc/edged")" ]
[ -z "$(find "$root/etc/systemd" -type l 2>/dev/null)" ]
if pgrep -x edged; then exit 1; fi

step verify
in_root systemd-analyze verify --man=no /lib/systemd/system/edged.service
echo verified
in_root systemd-analyze security --offline=true --no-pager /lib/systemd/system/edged.service | tail -1
rm -rf "$root/run/systemd" # systemd-analyze's own

step init
in_root edgectl init --yes --geo fra --node fra-edge1 --vip 203.0.113.10 --neighbor 192.0.2.1 --neighbor-asn 65001 --asn 65010 \
	--host www.example.net --backend http://127.0.0.1:3000 --cert self-signed --router-id 192.0.2.21 2>&1
in_root stat -c '%n %a %G' /etc/edged/edged.yaml
in_root edgectl config check

step start
in_root install -d -o "$RUN_AS" -g "$RUN_AS" -m 750 /run/edged
in_root install -d -o "$RUN_AS" -g "$RUN_AS" -m 700 /var/lib/edged
caps=$(for c in $CAPABILITIES; do printf ',+%s' "${c#CAP_}"; done | tr '[:upper:]' '[:lower:]')
# shellcheck disable=SC2086 # a command line
chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C NOTIFY_SOCKET=/run/shared/notify WATCHDOG_USEC=2000000 \
	setpriv --reuid "$RUN_AS" --regid "$RUN_AS" --init-groups --bounding-set "-all$caps" --inh-caps "-all$caps" --ambient-caps "-all$caps" --no-new-privs \
	$EXEC_START >"$shared/log" 2>&1 &
daemon=$!
for _ in $(seq 600); do
	if [ -e "$shared/ready" ]; then break; fi
	kill -0 $daemon
	sleep 0.1
done
[ -e "$shared/ready" ]
grep -E '^(Name|Uid|CapEff|CapBnd|NoNewPrivs)' /proc/$daemon/status
ip -brief address show dev lo
as nobody "$RUN_AS" edgectl status || [ $? = 1 ]
as nobody nogroup edgectl status --brief 2>&1 || echo "exit $?"
as nobody "$RUN_AS" edgectl routes || [ $? = 1 ]

step stop
kill -TERM $daemon
wait $daemon
echo "ended well"
ip -brief address show dev lo

step upgrade
in_root dpkg -i /tmp/edged.deb </dev/null 2>&1
[ -s "$root/etc/edged/edged.yaml" ]

step remove
in_root dpkg -r edged 2>&1
[ ! -e "$root/usr/bin/edged" ]
[ -s "$root/etc/edged/edged.yaml" ]
echo "the configuration stays"

step purge
in_root dpkg -P edged 2>&1
diff <(echo "$before") <(listing)
echo "nothing is left"

step purge with keys
in_root dpkg -i /tmp/edged.deb </dev/null >/dev/null 2>&1
mkdir "$root/etc/edged/fabric"
echo secret >"$root/etc/edged/fabric/secret"
in_root dpkg -P edged 2>&1
[ -s "$root/etc/edged/fabric/secret" ]
in_root stat -c '%n %a %U:%G' /etc/edged
