#!/bin/bash
# Becomes a systemd of its own, PID 1 of fresh namespaces over a throw-away overlay of this machine's root:
#   boot.sh PLACE CGROUP [SOURCE TARGET ro|rw]...      shows each SOURCE at TARGET; harness.py calls it
# PLACE is an empty directory; PLACE/notify, if it is a socket, hears what PID 1 has to say. Needs root.
set -euo pipefail

if [ "$1" != --within ]; then
    place=$1 group=$2
    mount --make-rprivate /
    # The control group of this process is to be the root of what the new systemd sees.
    mkdir "$place/groups"
    mount -t cgroup2 cgroup2 "$place/groups"
    mkdir "$place/groups/$group"
    echo 0 >"$place/groups/$group/cgroup.procs"
    umount "$place/groups"
    rmdir "$place/groups"
    exec unshare --cgroup -- "$BASH" "$0" --within "$@"
fi

place=$2 root=$2/tree/root
shift 3
mkdir "$place/tree"
mount -t tmpfs -o mode=755 tmpfs "$place/tree"
mkdir "$place"/tree/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$place/tree/upper,workdir=$place/tree/work" "$root"

mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
for device in null zero full random urandom tty; do cp -a "/dev/$device" "$root/dev/"; done
mkdir "$root"/dev/{pts,shm}
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
for path in sys sysrq-trigger; do
    [ -e "$root/proc/$path" ] || continue
    mount --bind "$root/proc/$path" "$root/proc/$path"
    mount -o remount,bind,ro "$root/proc/$path"
done

# Nothing of this machine's own services.
: >"$root/etc/machine-id"
: >"$root/etc/fstab"
rm -rf "$root"/etc/systemd/system "$root"/etc/systemd/*.conf.d "$root"/opt/sockd "$root"/etc/sockd "$root"/var/log/{journal,private,sockd*}
mkdir -p "$root/etc/systemd/system" "$root/etc/systemd/journald.conf.d" "$root/etc/sockd" "$root/run/host"
printf '[Journal]\nStorage=volatile\nAudit=no\nForwardToConsole=no\nRateLimitIntervalSec=0\n' \
    >"$root/etc/systemd/journald.conf.d/tests.conf"
for unit in systemd-journald-audit.socket systemd-modules-load.service systemd-remount-fs.service \
    systemd-udevd.service systemd-timesyncd.service systemd-update-utmp.service systemd-binfmt.service \
    systemd-networkd.service systemd-resolved.service; do
    ln -sfn /dev/null "$root/etc/systemd/system/$unit"
done

while [ $# -gt 0 ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    mount -o "remount,bind,$3" "$root$2"
    shift 3
done
if [ -S "$place/notify" ]; then
    : >"$root/run/host/notify"
    mount --bind "$place/notify" "$root/run/host/notify"
fi

mkdir "$root/.machine"
cd "$root"
pivot_root . .machine
umount -l /.machine
rmdir /.machine
mount --make-rshared /
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    container=sockd-tests NOTIFY_SOCKET=/run/host/notify \
    setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio,-syslog,-audit_control,-audit_read,-mac_admin,-mac_override,-wake_alarm,-block_suspend \
    --inh-caps=-all -- \
    /lib/systemd/systemd --system --unit=basic.target --log-target=journal --log-level=info --show-status=no </dev/null
