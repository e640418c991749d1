# Half a lab: this machine is the node of the number NODE, its pods are namespaces, the other half is at the end of the
# wire. Addresses and names are those of `podtrace lab`.
set -e
# busybox's shell would take its own applet, which knows less.
ip() { /usr/bin/ip "$@"; }
other=$((3 - NODE))
own_net=10.42.$((NODE - 1))
other_net=10.42.$((other - 1))
own_tunnel=0a:58:0a:2a:0$((NODE - 1)):00
other_tunnel=0a:58:0a:2a:0$((other - 1)):00

until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
echo 1 >/proc/sys/net/ipv4/ip_forward
ip address add "192.168.56.1$NODE/24" dev eth0
ip link set eth0 up
ip link add cni0 mtu 1450 type bridge
ip address add "$own_net.1/24" dev cni0
ip link set cni0 up
ip link add flannel.1 address "$own_tunnel" mtu 1450 type vxlan id 1 dev eth0 local "192.168.56.1$NODE" dstport 8472 nolearning
ip address add "$own_net.0/32" dev flannel.1
ip link set flannel.1 up
ip neighbour add "$other_net.0" lladdr "$other_tunnel" dev flannel.1 nud permanent
bridge fdb append "$other_tunnel" dev flannel.1 dst "192.168.56.1$other"
ip route add "$other_net.0/24" via "$other_net.0" dev flannel.1 onlink
for number in 0 1; do
    pod=pod$((2 * NODE - 1 + number))
    ip netns add "$pod"
    ip -n "$pod" link set lo up
    ip link add "veth$pod" mtu 1450 type veth peer name eth0 mtu 1450 netns "$pod"
    ip link set "veth$pod" master cni0 up
    ip -n "$pod" address add "$own_net.1$number/24" dev eth0
    ip -n "$pod" link set eth0 up
    ip -n "$pod" route add default via "$own_net.1"
done
