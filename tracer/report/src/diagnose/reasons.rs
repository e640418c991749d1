//! Table of drop reasons and what they mean on a Kubernetes node: one row per cause.
//!
//! Reasons are the names of `enum skb_drop_reason` (5.17 and newer, without `SKB_DROP_REASON_`), checked
//! against Linux 6.18. Symbols are for kernels without reasons, and for reasons that several causes share.

/// One cause.
pub(super) struct Cause {
    /// Names of reasons; empty if the symbol alone decides.
    pub(super) reasons: &'static [&'static str],
    /// Functions that drop for this cause; empty if any does.
    pub(super) symbols: &'static [&'static str],
    /// One sentence of meaning, then where to look. Names in braces are filled in, see
    /// `PLACEHOLDERS` in `advice`.
    pub(super) text: &'static str,
}

const fn reason(reasons: &'static [&'static str], text: &'static str) -> Cause {
    Cause { reasons, symbols: &[], text }
}

const fn symbol(symbols: &'static [&'static str], text: &'static str) -> Cause {
    Cause { reasons: &[], symbols, text }
}

pub(super) const NETFILTER: &str = "a netfilter rule on {node} dropped it: a NetworkPolicy, the FORWARD policy or a \
    firewall. Look for {src} and {dst} in `iptables-save -c` and `nft list ruleset` on {node}, and at \
    `kubectl get networkpolicy -A`";
/// [`NETFILTER`] for a rule inside a pod.
pub(super) const NETFILTER_IN_POD: &str = "a netfilter rule inside {pod} dropped it. In {pod}: `nft list ruleset` and \
    `iptables-save -c`";
/// [`NETFILTER`] for a packet that is still encapsulated, or was just encapsulated.
pub(super) const NETFILTER_OF_TUNNEL: &str = "a netfilter rule on {node} dropped the encapsulated packet: VXLAN between the \
    nodes must pass the INPUT and OUTPUT chains. Look for the tunnel's UDP port in `iptables-save -c` and `nft list \
    ruleset` on {node}, and at `ip -d link show type vxlan`";
/// Which kind of route refuses, [`super::fitting`] tells from the ICMP error.
pub(super) const NO_ROUTE: &str = "{node} has no route to {dst}, or a route or an `ip rule` rejects it. On {node}: `ip \
    rule`, `ip route get {dst} from {src} iif {device}` and `ip route`";
/// [`NO_ROUTE`] for the outer packet of a tunnel.
pub(super) const NO_ROUTE_OF_TUNNEL: &str = "{node} has no route for the encapsulated packet: not to the tunnel's peer, or not \
    from the tunnel's local address. On {node}: `ip -d link show {device}` (local must be one of `ip addr`), `bridge fdb \
    show dev {device}`, and `ip route get` to the peer";
pub(super) const PROHIBIT: &str = "a route or an `ip rule` of type prohibit on {node} rejects it. On {node}: `ip rule` and \
    `ip route get {dst} from {src} iif {device}`";
pub(super) const UNREACHABLE: &str = "a route of type unreachable on {node} rejects it. On {node}: `ip route` and `ip route \
    get {dst} from {src} iif {device}`";
pub(super) const BLACKHOLE: &str = "a route or an `ip rule` on {node} drops it without an ICMP error, most likely of type \
    blackhole. On {node}: `ip rule`, `ip route` and `ip route get {dst} from {src} iif {device}`";
/// [`NO_ROUTE`] for a Service's address.
pub(super) const NO_SERVICE: &str = "{dst} is the address of Service {service}, and nothing on {node} translated this packet. \
    A Service answers at its own ports and protocols only, and never to a ping. If this is one of them, its rules are \
    missing or were bypassed. Compare `kubectl get service -A`, and on {node} `nft list ruleset` or `iptables-save -t nat`";
/// [`NO_SERVICE`] for a packet that passed connection tracking untracked.
pub(super) const NO_SERVICE_UNTRACKED: &str = "{dst} is the address of Service {service}, and nothing on {node} translated \
    this packet: connection tracking did not track it, so that no DNAT rule applied. Possible: a rule leaves it untracked \
    (`notrack`), or no rule on {node} translates at all. On {node}: `nft list ruleset`, `iptables-save -t raw`";
/// [`NO_SOCKET`] for a tunnel's outer packet.
pub(super) const NO_TUNNEL: &str = "{node} received the encapsulated packet, but no tunnel device accepted it: the device \
    is down, missing, or uses another UDP port. On {node}: `ip -d link show type vxlan`";
/// [`NO_SOCKET`] for a packet that does not open a connection.
pub(super) const NO_PEER: &str = "the tunnel {device} has no peer for this packet. On {node}: `bridge fdb show dev {device}` \
    must list the other node's address. `podtrace doctor {node}` prints the command that adds it; the CNI plugin's agent \
    adds it when it starts";
pub(super) const REDIRECTED: &str = "it came from the pod's veth to {device} without being routed. Possible: a tc filter or BPF \
    program on the veth redirects it; or this trace misses the bridge between them. On {node}: `tc filter show dev {veth} \
    ingress`";
pub(super) const NO_CONNECTION: &str = "{to} has no connection that this packet belongs to: it came after the connection \
    was closed, or it is a reply whose source address was not translated back. Compare its source {src} with the address \
    that {to} connected to: `ss -nt` in {to}, `conntrack -L -d {dst}` on {node}";
pub(super) const NO_SOCKET: &str = "nothing in {to} listens on {proto} port {port}, or it listens on another address. In \
    {to}: `{sockets}`; also check the Service's targetPort";
pub(super) const RPFILTER: &str = "reverse path filter: {node} has no route back to {src} through {device}. On {node}: \
    `ip route get {src}` and `sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.{conf}.rp_filter` (0 or 2 lets it pass)";
pub(super) const TTL: &str = "TTL expired on {node}: a small initial TTL, as traceroute sends, or a routing loop. On {node}: \
    `ip route get {dst}`, and the same on the next hop";
/// [`TTL`] for a packet whose whole path was seen.
pub(super) const SMALL_TTL: &str = "TTL expired on {node}: the sender sent it with a TTL of {ttl}, and this packet met no \
    loop. Expected from traceroute; else, in the sender: `sysctl net.ipv4.ip_default_ttl`";
/// [`TTL`] for a packet that passed a point twice.
pub(super) const LOOP: &str = "TTL expired on {node}: a routing loop. On {node}: `ip route get {dst}`, and the same on the \
    next hop";
const FORWARDING_OFF: &str = "{node} does not forward packets received on {device}. On {node}: \
    `sysctl net.ipv4.ip_forward net.ipv4.conf.{conf}.forwarding` must both be 1";
const TOO_BIG: &str = "{bytes} bytes exceed the MTU of the outgoing device on {node}, and the packet must not be \
    fragmented. Compare `ip link` in the pod and on {node}: a pod's MTU must leave room for the tunnel header (50 \
    bytes for VXLAN over IPv4)";
pub(super) const NEIGHBOUR: &str = "{node} could not resolve the next hop's MAC address: the peer is down, or its ARP or FDB \
    entry is missing. On {node}: `ip neigh show dev {device}`, and for a tunnel `bridge fdb show dev {device}`";
/// [`NEIGHBOUR`] inside a pod.
pub(super) const NEIGHBOUR_IN_POD: &str = "{pod} could not resolve the next hop's MAC address: nobody answers its requests. In \
    {pod}: `ip neigh show dev {device}` and `ip route get {dst}`";
pub(super) const NOT_TAKEN: &str = "TCP in {to} discarded it, and this kernel reports no reason. Possible: nothing accepts \
    connections on port {port}, or the queue of those that wait to be accepted is full. In {to}: `ss -lnt` (Recv-Q is how many \
    wait, Send-Q how many may), `nstat -az TcpExtListenDrops TcpExtListenOverflows`";
const QUEUE: &str = "the queue discipline of {device} on {node} dropped it: possibly its queue is full, the traffic exceeds \
                     its rate, such as a pod's bandwidth limit, or it is one that loses packets on purpose (netem). On {node}: \
                     `tc -s qdisc show dev {device}`";
const RECEIVE_BUFFER: &str = "the receive buffer of the socket in {to} is full. Possible: the program reads too slowly, or the \
    buffer is too small for its packets. In {to}: `ss -anm` (skmem: rb is the buffer's size, d counts drops), `sysctl \
    net.core.rmem_default net.core.rmem_max`";
const CHECKSUM: &str = "bad checksum: the packet was damaged in transit, or checksum offload does not work with \
    the tunnel. On {node}: `ethtool -k {device} | grep checksum`; with VXLAN try `ethtool -K {device} \
    tx-checksum-ip-generic off` on the sending node";
const LINK_DOWN: &str = "{device} on {node} is down, or its veth peer is gone (the pod may have just terminated). \
    On {node}: `ip -d link show {device}`";
const BPF: &str = "a BPF program or tc filter on {device} of {node} dropped it, for example a CNI's network \
    policy. On {node}: `tc filter show dev {device} ingress`, the same with egress, and `bpftool net show dev {device}`";

pub(super) const NOT_THIS_DEVICE: &str = "its destination MAC address is not {device}'s: a stale ARP or FDB entry on the \
    sender, often after a tunnel device was recreated. Compare `ip link show {device}` on {node} with `ip neigh` and \
    `bridge fdb` on the sender";
/// [`NOT_THIS_DEVICE`] inside a pod.
pub(super) const ADDRESSED_ELSEWHERE: &str = "its destination MAC address is not that of {pod}: whoever sent it to the pod has \
    a wrong neighbour entry. Compare `ip neigh show {dst}` on {node} with `ip link show {device}` in {pod}";
pub(super) const NOT_BRIDGED: &str = "the bridge on {node} did not forward it. Possible: a port that is blocked, isolated or \
    not in hairpin mode, or a VLAN that is not allowed. On {node}: `bridge -d link` and `bridge vlan`";
/// [`NOT_BRIDGED`] for a packet that a Service leads back to its sender.
pub(super) const NO_HAIRPIN: &str = "it would leave the bridge on {node} by the port it came in on, and hairpin mode of \
    {device} is off. On {node}: `bridge -d link show dev {device}`; to fix it: `bridge link set dev {device} hairpin on`";

/// All causes: those that need both a reason and a symbol first, then by reason, then by symbol alone.
pub(super) const CAUSES: &[Cause] = &[
    Cause { reasons: &["IP_INHDR"], symbols: &["ip_forward"], text: TTL },
    Cause { reasons: &["IP_INHDR"], symbols: &["ip6_forward"], text: TTL },
    Cause {
        reasons: &["OTHERHOST"],
        symbols: &["br_pass_frame_up", "br_handle_frame_finish"],
        text: "the destination MAC address is not behind this bridge. On {node}: `bridge fdb show` and `ip neigh \
               show`",
    },
    Cause {
        reasons: &["NO_TX_TARGET"],
        symbols: &["br_handle_frame_finish", "br_forward", "__br_forward", "br_flood"],
        text: NOT_BRIDGED,
    },
    reason(&["NETFILTER_DROP"], NETFILTER),
    reason(&["NO_SOCKET"], NO_SOCKET),
    reason(&["SOCKET_RCVBUFF", "SOCKET_BACKLOG", "TCP_ZEROWINDOW"], RECEIVE_BUFFER),
    reason(
        &["PROTO_MEM"],
        "{node} reached the kernel's memory limit for {proto}. On {node}: `cat /proc/net/sockstat` and `sysctl \
         net.ipv4.tcp_mem net.ipv4.udp_mem`",
    ),
    reason(
        &["SOCKET_FILTER"],
        "a filter on the receiving socket in {to}, or a cgroup ingress program, dropped it. On {node}: \
         `bpftool cgroup tree`; in {to}: `ss -nb`",
    ),
    reason(
        &["BPF_CGROUP_EGRESS"],
        "a BPF program of the sender's cgroup dropped it. On {node}: `bpftool cgroup tree`",
    ),
    reason(&["IP_RPFILTER"], RPFILTER),
    reason(
        &["IP_LOCAL_SOURCE", "IP_INVALID_SOURCE"],
        "{src} is {node}'s own address or an invalid source: two machines share it, or NAT is misconfigured. On \
         {node}: `ip addr` and `ip route show table local`",
    ),
    reason(
        &["IP_INVALID_DEST", "IP_LOCALNET"],
        "{dst} is not a valid destination here. If it is in 127.0.0.0/8 after DNAT, check `sysctl \
         net.ipv4.conf.{conf}.route_localnet` on {node}",
    ),
    reason(&["IP_INADDRERRORS"], FORWARDING_OFF),
    reason(&["IP_INNOROUTES", "IP_OUTNOROUTES"], NO_ROUTE),
    reason(
        &["IP_NOPROTO", "UNHANDLED_PROTO", "INVALID_PROTO"],
        "nothing on {node} handles this protocol: a tunnel or a kernel module is missing, or the header is wrong. On {node}: `ip -d link` and `cat /proc/net/ptype`",
    ),
    reason(
        &["IP_INHDR"],
        "invalid IP header, or TTL expired. On {node}: `nstat -az IpInHdrErrors`, and `ip route get {dst}` in case of \
         a routing loop",
    ),
    reason(&["IP_CSUM", "TCP_CSUM", "UDP_CSUM", "ICMP_CSUM", "SKB_CSUM"], CHECKSUM),
    reason(&["NEIGH_FAILED", "NEIGH_CREATEFAIL", "NEIGH_DEAD", "NEIGH_HH_FILLFAIL"], NEIGHBOUR),
    reason(
        &["NEIGH_QUEUEFULL"],
        "too many packets on {node} wait for the next hop's MAC address: it does not reply. On {node}: \
         `ip neigh show dev {device}`, and for a tunnel `bridge fdb show dev {device}`",
    ),
    reason(&["OTHERHOST"], NOT_THIS_DEVICE),
    reason(
        &["TC_INGRESS", "TC_EGRESS", "TC_COOKIE_ERROR", "TC_CHAIN_NOTFOUND", "TC_RECLASSIFY_LOOP", "XDP"],
        BPF,
    ),
    reason(
        &[
            "QDISC_DROP",
            "QDISC_OVERLIMIT",
            "QDISC_CONGESTED",
            "CAKE_FLOOD",
            "FQ_BAND_LIMIT",
            "FQ_HORIZON_LIMIT",
            "FQ_FLOW_LIMIT",
            "DUALPI2_STEP_DROP",
        ],
        QUEUE,
    ),
    reason(
        &["QUEUE_PURGE"],
        "its queue was purged: {device} went down, or the pod terminated. On {node}: `ip -d link show {device}`",
    ),
    reason(
        &["FULL_RING"],
        "the receive ring behind {device} on {node} is full: its reader (a virtual machine, a sandboxed container \
         runtime) is too slow. On {node}: `ip -s link show {device}`",
    ),
    reason(
        &["CPU_BACKLOG"],
        "the CPU's input queue on {node} overflowed. On {node}: `cat /proc/net/softnet_stat` (second column), \
         `sysctl net.core.netdev_max_backlog`, and spread the load with RPS",
    ),
    reason(&["PKT_TOO_BIG"], TOO_BIG),
    reason(
        &["PKT_TOO_SMALL", "HDR_TRUNC"],
        "it is shorter than its headers say: truncated, or a tunnel header was misparsed. On {node}: \
         `tcpdump -nvvXi {device} host {src}`",
    ),
    reason(
        &["SKB_GSO_SEG"],
        "{node} could not segment the GSO packet. On {node}: `ethtool -k {device} | grep segmentation`, and try with \
         segmentation offload turned off",
    ),
    reason(&["DEV_READY", "DEV_HDR"], LINK_DOWN),
    reason(
        &["VXLAN_VNI_NOT_FOUND"],
        "{node} has no VXLAN device for the packet's VNI. Compare `ip -d link show type vxlan` on both nodes: id and \
         dstport must match",
    ),
    reason(
        &["VXLAN_INVALID_HDR"],
        "its VXLAN header has flags unknown to {node}: the two ends use different extensions (GPE, group policy), or \
         something else sends to that port. Compare `ip -d link show type vxlan` on both nodes",
    ),
    reason(
        &["VXLAN_ENTRY_EXISTS", "MAC_INVALID_SOURCE", "LOCAL_MAC"],
        "{device} on {node} does not accept the source MAC address: two nodes share it, or it is the device's own. \
         Compare `ip link show {device}` on all nodes and `bridge fdb show dev {device}`",
    ),
    reason(&["NO_TX_TARGET"], NO_PEER),
    reason(
        &["TUNNEL_TXINFO", "IP_TUNNEL_ECN", "RECURSION_LIMIT"],
        "the tunnel {device} on {node} could not send or receive it: its remote, or the route to its remote, is \
         wrong. On {node}: `ip -d link show {device}` and `ip route`",
    ),
    reason(
        &["BRIDGE_INGRESS_STP_STATE"],
        "{device} is a bridge port in a non-forwarding STP state. On {node}: `bridge -d link show dev {device}`; \
         pods need no spanning tree: `ip link set BRIDGE type bridge stp_state 0`",
    ),
    reason(
        &["ARP_PVLAN_DISABLE", "UNICAST_IN_L2_MULTICAST", "MAC_IEEE_MAC_CONTROL"],
        "its MAC address does not match its IP address. On {node}: `tcpdump -nei {device} host {src}`",
    ),
    reason(
        &["XFRM_POLICY"],
        "an IPsec policy requires encryption, or decryption failed. On {node}: `ip xfrm policy` and `ip \
         xfrm state`",
    ),
    reason(
        &["SECURITY_HOOK"],
        "a security module (SELinux, Smack) denied it. On {node}: `ausearch -m avc` in the audit log",
    ),
    reason(
        &["NOMEM", "PFMEMALLOC", "SKB_UCOPY_FAULT"],
        "{node} was out of memory. On {node}: `free -m` and `dmesg | grep -i 'page allocation'`",
    ),
    reason(
        &["FRAG_REASM_TIMEOUT", "DUP_FRAG", "FRAG_TOO_FAR"],
        "the other fragments of this packet did not arrive in time. On {node}: `nstat -az IpReasmFails`; to avoid \
         fragments, make sure that the pods' MTU leaves room for the tunnel",
    ),
    reason(
        &["TCP_LISTEN_OVERFLOW"],
        "the program in {to} accepts connections too slowly: its queue is full. In {to}: `ss -lnt sport = :{port}` \
         (Recv-Q against Send-Q) and `sysctl net.core.somaxconn`",
    ),
    reason(
        &["TCP_RESET", "TCP_CLOSE", "TCP_ABORT_ON_DATA", "SOCKET_CLOSE"],
        "the connection was already closed: a late packet, harmless unless connections fail. In {to}: `ss -nt \
         state all '( sport = :{port} or dport = :{port} )'`",
    ),
    reason(
        &[
            "TCP_INVALID_SEQUENCE",
            "TCP_INVALID_END_SEQUENCE",
            "TCP_OVERWINDOW",
            "TCP_INVALID_ACK_SEQUENCE",
            "TCP_TOO_OLD_ACK",
            "TCP_ACK_UNSENT_DATA",
            "TCP_RFC7323_PAWS",
            "TCP_RFC7323_TW_PAWS",
        ],
        "{to} and its peer disagree about the state of this connection: a stale connection after a pod was replaced, \
         or two senders behind one address. On {node}: `conntrack -L -s {src} -d {dst}`",
    ),
    reason(
        &["TCP_OLD_DATA", "TCP_OLD_SEQUENCE", "TCP_OLD_ACK", "TCP_OFOMERGE", "TCP_RFC7323_PAWS_ACK"],
        "a duplicate of data that had already arrived: harmless, but many of them indicate loss or long delays. In {to}: `nstat -az TcpRetransSegs`",
    ),
    reason(
        &["IPV6DISABLED"],
        "IPv6 is disabled for {device} on {node}: `sysctl net.ipv6.conf.all.disable_ipv6 \
         net.ipv6.conf.{conf}.disable_ipv6`",
    ),
    symbol(
        &["nf_hook_slow", "nft_do_chain", "ipt_do_table", "ip6t_do_table", "nf_hook_slow_list"],
        NETFILTER,
    ),
    symbol(
        &["ip_forward", "ip6_forward"],
        "{node} did not forward it: TTL expired, it exceeds the next device's MTU, or forwarding is disabled. On {node}: `ip route get {dst}`, `sysctl net.ipv4.ip_forward`, and compare MTUs with `ip link`",
    ),
    symbol(&["ip_error", "ip6_pkt_discard"], NO_ROUTE),
    symbol(&["dst_discard", "dst_discard_out"], BLACKHOLE),
    symbol(&["ip_rcv_finish_core", "ip_route_input_slow", "ip_route_input_noref"], RPFILTER),
    symbol(
        &["__udp4_lib_rcv", "__udp6_lib_rcv", "udp_rcv", "tcp_v4_rcv", "tcp_v6_rcv", "sctp_rcv"],
        NO_SOCKET,
    ),
    symbol(
        &["__udp_queue_rcv_skb", "udp_queue_rcv_one_skb", "__udp_enqueue_schedule_skb", "sock_queue_rcv_skb"],
        RECEIVE_BUFFER,
    ),
    symbol(
        &["icmp_rcv", "icmpv6_rcv"],
        "{node} does not answer this ICMP message: `sysctl net.ipv4.icmp_echo_ignore_all` where {dst} lives",
    ),
    symbol(&["arp_error_report", "ndisc_error_report", "neigh_invalidate", "__neigh_event_send"], NEIGHBOUR),
    symbol(
        &["__dev_queue_xmit"],
        "{node} dropped it on its way out of {device}: possibly a tc filter, the queue discipline, or the device is down. On \
         {node}: `tc filter show dev {device} egress`, `tc -s qdisc show dev {device}`, `ip -d link show {device}`",
    ),
    symbol(&["__dev_xmit_skb"], QUEUE),
    symbol(&["ip_finish_output2", "ip6_finish_output2", "ip_finish_output"], NEIGHBOUR),
    symbol(&["ip_fragment", "ip_do_fragment", "ip6_fragment"], TOO_BIG),
    symbol(
        &["vxlan_rcv"],
        "{node} could not decapsulate the packet. Compare `ip -d link show type vxlan` on both nodes: id and dstport \
         must match",
    ),
    symbol(
        &["vxlan_xmit", "vxlan_xmit_one", "vxlan_mdb_xmit"],
        "the tunnel {device} on {node} has no peer for it. On {node}: `bridge fdb show dev {device}`, \
         `ip neigh show dev {device}`, and `ip route get` to the peer's address",
    ),
    symbol(&["veth_xmit", "dev_hard_start_xmit", "validate_xmit_skb"], LINK_DOWN),
    symbol(
        &[
            "br_handle_frame",
            "br_handle_frame_finish",
            "br_forward",
            "__br_forward",
            "br_flood",
            "br_dev_xmit",
        ],
        NOT_BRIDGED,
    ),
    symbol(&["tcf_classify", "sch_handle_ingress", "sch_handle_egress", "tc_run"], BPF),
    symbol(
        &["enqueue_to_backlog"],
        "the CPU's input queue on {node} overflowed. On {node}: `cat /proc/net/softnet_stat` (second column) and \
         `sysctl net.core.netdev_max_backlog`",
    ),
    symbol(
        &["__netif_receive_skb_core"],
        "no protocol handler on {node} took it from {device}, or a filter did. On {node}: `ip \
         -d link show {device}` and `tc filter show dev {device} ingress`",
    ),
];
