//! `podtrace doctor` on the command line: which findings it shows, how it ends, what it says of nodes that it cannot read. What
//! it finds is another test (`tests/doctor.rs`).

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use podtrace_tests::command::{Output, SHORT, run};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::{attached, expect};

pub(crate) fn trials() -> Vec<Trial> {
    let none: &[&str] = &[];
    vec![
        trial("doctor-describes-a-healthy-network", none, healthy),
        trial("doctor-shows-what-is-asked-for", &["ip"], limited),
        trial("doctor-names-a-node-that-cannot-be-read", &["ip"], unreadable),
    ]
}

fn doctor(lab: &Lab) -> Command {
    let mut command = lab.podtrace();
    command.arg("doctor").arg("--cluster").arg(lab.inventory());
    command
}

fn ask(lab: &Lab, arguments: &[&str]) -> Result<Output> {
    run(doctor(lab).args(arguments), SHORT)
}

fn healthy() -> Result<()> {
    let lab = Lab::up("doctor-well")?;
    let output = ask(&lab, &["--from", "pod1", "--to", "pod3"])?;
    let expected = "nothing wrong on 2 nodes with 4 pods\n*\
                    ✓  tunnel * flannel.1: VXLAN VNI 1, UDP 8472, MTU 1450 over eth0 (MTU 1500), 1 peer\n*\
                    ✓  pods * 4 by a veth, MTU 1450\n*\
                    sudo podtrace --from pod1 --to pod3 --probe icmp --cluster *\n";
    ensure!(expect::fits(expected, &output.stdout), "{}\nand not\n{expected}", output.stdout);
    ensure!(
        output.code() == 0 && output.stderr.is_empty() && !output.stdout.contains('\u{1b}'),
        "{output:?}"
    );
    ensure!(attached::tcx(&lab)?.is_empty(), "looking attached something");
    Ok(())
}

fn limited() -> Result<()> {
    let lab = Lab::up("doctor-limited")?;
    lab.exec("node2", ["ip", "link", "set", "flannel.1", "down"])?;
    for (arguments, code, part) in [
        (&[][..], 3, "1 fault on 2 nodes with 4 pods"),
        (&["node2"], 3, "1 fault on 1 node with 2 pods"),
        (&["node1"], 0, "nothing wrong on 1 node with 2 pods"),
        (&["--from", "pod1", "--to", "pod3"], 3, "FAULT  node2, flannel.1"),
        (&["--from", "pod1", "--to", "pod2"], 0, "nothing wrong on 2 nodes"),
        (&["-o", "json"], 3, r#""faults":1,"warnings":0,"notes":0,"complete":true"#),
    ] {
        let output = ask(&lab, arguments)?;
        ensure!(output.code() == code && output.stdout.contains(part), "{arguments:?}: {output:?}");
    }
    let unknown = ask(&lab, &["node3"])?;
    ensure!(unknown.code() == 1 && unknown.stderr.contains("nearest nodes: node1, node2"), "{unknown:?}");
    let unknown = ask(&lab, &["--from", "pod9"])?;
    ensure!(unknown.code() == 1 && unknown.stderr.contains("pod1"), "{unknown:?}");
    Ok(())
}

fn unreadable() -> Result<()> {
    let lab = Lab::up("doctor-unread")?;
    let directory = tempfile::tempdir()?;
    let inventory = directory.path().join("cluster.yaml");
    let node = "- name: node3\n  addresses: [192.168.56.13]\n  run: {command: [\"false\"]}\npods:\n";
    fs::write(&inventory, fs::read_to_string(lab.inventory())?.replace("pods:\n", node))?;
    let look = || run(lab.podtrace().arg("doctor").arg("--cluster").arg(&inventory), SHORT);
    let output = look()?;
    ensure!(output.code() == 1 && output.stdout.contains("? node3: not looked at: "), "{output:?}");
    ensure!(output.stdout.contains("node3 192.168.56.13 (not looked at)"), "{output:?}");
    lab.exec("node2", ["ip", "link", "set", "cni0", "down"])?;
    let output = look()?;
    ensure!(output.code() == 3 && output.stdout.contains("FAULT  node2, cni0"), "{output:?}");
    Ok(())
}
