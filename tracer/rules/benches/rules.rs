//! Reading and searching the rules that kube-proxy writes for a large cluster.

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use podtrace_rules::{BUDGET, End, Family, Finder, Hook, Loss, Packet, Rules, Translation, iptables, keep};

/// Services, of three endpoints each: some 20,000 rules.
const SERVICES: u16 = 2_000;
const ENDPOINTS: u16 = 3;

fn cluster_ip(service: u16) -> Ipv4Addr {
    let [high, low] = service.to_be_bytes();
    [10, 43, high, low].into()
}

fn pod_ip(service: u16, endpoint: u16) -> Ipv4Addr {
    let [high, low] = (service * ENDPOINTS + endpoint).to_be_bytes();
    [10, 42, high, low].into()
}

/// The nat table as kube-proxy writes it in its iptables mode.
fn listing() -> String {
    let mut chains = String::from(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n\
         :KUBE-SERVICES - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-POSTROUTING - [0:0]\n",
    );
    let mut rules = String::from(
        "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
         -A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
         -A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n\
         -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n\
         -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
         -A KUBE-POSTROUTING -j MASQUERADE --random-fully\n",
    );
    for service in 0..SERVICES {
        let (ip, svc) = (cluster_ip(service), format!("KUBE-SVC-{service:016}"));
        let about = format!("-m comment --comment \"default/web-{service}:http");
        // Writing into a string cannot fail.
        let _ = writeln!(chains, ":{svc} - [0:0]");
        let _ = writeln!(
            rules,
            "-A KUBE-SERVICES -d {ip}/32 -p tcp {about} cluster IP\" -m tcp --dport 80 -j {svc}"
        );
        for endpoint in 0..ENDPOINTS {
            let (ip, sep) =
                (pod_ip(service, endpoint), format!("KUBE-SEP-{:016}", service * ENDPOINTS + endpoint));
            let left = ENDPOINTS - endpoint;
            let chance = if left == 1 {
                String::new()
            } else {
                format!(" -m statistic --mode random --probability {:.11}", 1.0 / f64::from(left))
            };
            let _ = writeln!(chains, ":{sep} - [0:0]");
            let _ = writeln!(rules, "-A {svc} {about} -> {ip}:8080\"{chance} -j {sep}");
            let _ = writeln!(rules, "-A {sep} -s {ip}/32 {about}\" -j KUBE-MARK-MASQ");
            let _ = writeln!(rules, "-A {sep} -p tcp {about}\" -m tcp -j DNAT --to-destination {ip}:8080");
        }
    }
    format!("{chains}{rules}COMMIT\n")
}

fn packet(destination: Ipv4Addr, port: u16) -> Packet {
    Packet {
        source: IpAddr::from([10, 42, 200, 1]),
        destination: destination.into(),
        protocol: 6,
        source_port: Some(40_000),
        destination_port: Some(port),
    }
}

fn benches(criterion: &mut Criterion) {
    let text = listing();
    let read = || Rules { tables: iptables::parse(&text, Family::Ip), ..Rules::default() };
    let rules = read();
    let count: usize =
        rules.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();

    let mut group = criterion.benchmark_group("kube-proxy, 2,000 Services");
    group.sample_size(20).throughput(Throughput::Elements(count as u64));
    group.bench_function("parse iptables-save", |bench| bench.iter(|| black_box(read())));
    group.bench_function("keep what matters", |bench| {
        bench.iter_batched(|| rules.clone(), |rules| keep(rules, BUDGET), BatchSize::LargeInput);
    });
    group.bench_function("index", |bench| {
        bench.iter_batched(|| rules.clone(), Finder::new, BatchSize::LargeInput);
    });
    group.finish();

    let finder = Finder::new(rules);
    let mut group = criterion.benchmark_group("kube-proxy, 2,000 Services, one question");
    for (name, service) in [("first Service", 0), ("last Service", SERVICES - 1)] {
        let question = Translation {
            before: packet(cluster_ip(service), 80),
            after: packet(pod_ip(service, 1), 8080),
            in_device: Some("cni0"),
            ..Translation::of(End::Destination)
        };
        let found = finder.translated(&question).expect("the Service's rule");
        assert!(found.certain, "{found}");
        group.bench_function(format!("translated, {name}"), |bench| {
            bench.iter(|| finder.translated(black_box(&question)));
        });
    }
    let question = Loss { packet: packet(cluster_ip(0), 81), ..Loss::at(Hook::Prerouting) };
    group.bench_function("dropped, by no rule", |bench| bench.iter(|| finder.dropped(black_box(&question))));
    group.finish();
}

criterion_group!(rules, benches);
criterion_main!(rules);
