# The first process of a node, in namespaces of its own: gives it a file system that is its own where it matters, and
# becomes its container runtime. Arguments: the cluster's directory, the node's name, then the runtime's command line.
set -eu
state=$1 name=$2
shift 2
echo "$name" > /proc/sys/kernel/hostname
# What is the node's own is in memory, and gone with the node.
mount --bind "$state" /mnt
mount -t tmpfs tmpfs /run
mkdir -p "$state"
mount --move /mnt "$state"
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /var/log
mkdir -p /run/etc/upper /run/etc/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
mkdir -p /etc/cni/net.d
cp "$state/$name.conflist" /etc/cni/net.d/10-flannel.conflist
# The kubelet wants these settings of the kernel, which are the whole machine's. It finds them as it wants them.
settings() {
    while read -r setting value; do
        file=/run/sysctl/$setting
        mkdir -p "${file%/*}"
        echo "$value" > "$file"
        if [ -e "/proc/sys/$setting" ]; then mount --bind "$file" "/proc/sys/$setting"; fi
    done
}
settings <<END
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END
exec "$@"
