#!/bin/busybox sh
# First process of a guest: sets up what a distribution would, runs /command once, tells how it ended, ends the guest.
bb=/bin/busybox
$bb mkdir -p /proc /sys /dev /run /tmp /root /var/tmp
$bb --install -s /bin
export PATH=/usr/bin:/bin HOME=/root TMPDIR=/tmp TERM=dumb
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=755 run /run
# No file system of its own: what runs here stands where it was built, and that may be below it.
chmod 1777 /tmp
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
hostname guest
ip link set lo up
# Where the real ones are missing, tests had better be skipped than meet these.
for applet in ip bridge tc tcpdump iperf3 nc ping sysctl setpriv; do
    rm -f "/bin/$applet"
done
# tcpdump becomes a user of its own.
mkdir -p /etc
printf 'root:x:0:0::/root:/bin/sh\ntcpdump:x:100:100::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n' >/etc/passwd
printf 'root:x:0:\ntcpdump:x:100:\nnogroup:x:65534:\n' >/etc/group
# nft and iptables ask for these by name.
printf 'icmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\n' >/etc/protocols
while read -r module; do
    insmod "/lib/modules/$module" || echo "init: cannot load $module"
done </lib/modules/order
stty -F /dev/ttyS1 raw -echo
sh /command </dev/null >/dev/ttyS1 2>&1
# On a line of its own, whatever the command's last one lacked.
printf '\n@vm exit %d\n' $? >/dev/ttyS1
reboot -f
