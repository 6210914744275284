//! The demo: a node, pods, real clients, and every hop of what they sent.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lab::run::Run;
use lab::{Cluster, Context as _, Error, Node, Pod, Result, counters, tshark};
use serde_json::Value;

use crate::screen::Screen;

/// The node and the pods.
const MANIFESTS: &str = include_str!("../../../demo/pods.yaml");
/// The capture, in the directory that the demo is started in.
const CAPTURE: &str = "demo.pcapng";
/// The recording, beside it.
const RECORDING: &str = "demo-recording.pcapng";
/// An address of the pod range that the client does not have.
const STRANGER: [u8; 4] = [10, 244, 1, 200];

/// Reasons that the demo means to cause: groups that nobody is in, the lie, and what was sent while
/// the daemon was away.
const EXPECTED: [&str; 3] = ["FloodScopeEmpty", "host:GroupRouted", "SourceIpSpoofed"];

pub(crate) fn run() -> Result<()> {
    let mut screen = Screen::new();
    let swept = lab::run::sweep()?;
    if !swept.is_empty() {
        screen.output(&format!("removed what {} killed runs left behind", swept.len()))?;
    }
    let mut cluster = wire(&mut screen)?;
    clients(&mut screen, &cluster)?;
    let veth = wire_veth(&mut screen, &mut cluster)?;
    predict(&mut screen, &cluster)?;
    capture(&mut screen, &cluster, &veth)?;
    spoof(&mut screen, &cluster)?;
    law(&mut screen, &cluster)?;
    record(&mut screen, &cluster)?;
    let file = std::env::current_dir().context("current directory")?.join(CAPTURE);
    screen.step("Clean up", "Unwires the pods by DEL, ends the daemon, removes the namespaces.")?;
    veth.remove()?;
    for running in cluster.pods.drain(..) {
        drop(running.process);
        running.pod.remove()?;
    }
    drop(cluster);
    screen.good("nothing is left but the capture and the recording")?;
    screen.end(&format!(
        "Every hop is in {}: open it in Wireshark. {RECORDING} beside it runs again anywhere: \
         hopctl replay.",
        file.display()
    ))
}

/// The only node.
fn node(cluster: &Cluster) -> Result<&Node> {
    cluster.nodes.first().ok_or_else(|| Error::new("the demo has a node"))
}

fn wire(screen: &mut Screen) -> Result<Cluster> {
    screen.step(
        "A node and three pods",
        "vswitchd runs in a namespace that plays the node; the CNI plugin wires each pod by a TAP.",
    )?;
    let run = Run::join()?;
    let dir = run.dir("demo-manifests")?;
    std::fs::write(dir.join("pods.yaml"), MANIFESTS).context("manifests")?;
    let cluster = Cluster::new(&dir)?;
    for running in &cluster.pods {
        let addresses: Vec<String> =
            running.pod.addresses().iter().map(ToString::to_string).collect();
        screen.output(&format!("{:<16} {}", running.pod.reference(), addresses.join("  ")))?;
    }
    wait_for_servers(&cluster)?;
    screen.good("ready")?;
    Ok(cluster)
}

/// The pods' servers listen soon after their start; a client must not be earlier.
fn wait_for_servers(cluster: &Cluster) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    for (name, l4_port) in [("web", ":80"), ("sink", ":5201")] {
        let pod = cluster.pod(name)?;
        while !pod.run("ss", &["-Hltn"])?.stdout.contains(l4_port) {
            if Instant::now() > deadline {
                return Err(Error::new(format!("{} does not listen", pod.reference())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Runs a client in a pod, shows its command and what it printed.
fn show(screen: &Screen, pod: &Pod, program: &str, args: &[&str]) -> Result<String> {
    screen.command(format!("{program} {}", args.join(" ")))?;
    let output = pod.run(program, args)?.stdout;
    screen.output(&output)?;
    Ok(output)
}

fn clients(screen: &mut Screen, cluster: &Cluster) -> Result<()> {
    let (client, web, sink) = (cluster.pod("client")?, cluster.pod("web")?, cluster.pod("sink")?);
    let (web4, web6) = (web.v4()?.to_string(), web.v6()?.to_string());
    screen.step("ping", "Bridged on one segment: the hop limit stays 64. IPv6 as well as IPv4.")?;
    show(screen, client, "ping", &["-c", "2", "-i", "0.2", "-W", "2", &web4])?;
    show(screen, client, "ping", &["-c", "2", "-i", "0.2", "-W", "2", &web6])?;
    screen.step("curl", "TCP through the switch; the server names the client's true address.")?;
    let page =
        show(screen, client, "curl", &["-sS", "--max-time", "5", &format!("http://{web4}/")])?;
    let own = client.v4()?.to_string();
    if !page.contains(&own) {
        return Err(Error::new(format!("the page names another client than {own}: {page}")));
    }
    show(screen, client, "curl", &["-sS", "--max-time", "5", &format!("http://[{web6}]/")])?;
    screen.step(
        "iperf3",
        "Bulk: super-frames of 64 KB pass whole, as the virtio-net header has them.",
    )?;
    let sink4 = sink.v4()?.to_string();
    screen.command(format!("iperf3 -c {sink4} -t 2"))?;
    let json = client.run("iperf3", &["-J", "-c", &sink4, "-t", "2"])?.stdout;
    let report: Value = serde_json::from_str(&json).context("iperf3")?;
    let bits = report.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64);
    let bits = bits.ok_or_else(|| Error::new(format!("iperf3 received nothing: {json}")))?;
    screen.good(format!("{:.1} Gb/s, one stream", bits / 1e9))
}

fn wire_veth(screen: &mut Screen, cluster: &mut Cluster) -> Result<Pod> {
    screen.step(
        "A veth pod, and a restart",
        "The daemon ends and comes back with port-kind: veth. The pods it had keep their TAPs.",
    )?;
    let node = cluster.nodes.first_mut().ok_or_else(|| Error::new("the demo has a node"))?;
    node.stop()?;
    node.set("port-kind", "veth");
    node.start()?;
    let veth = node.pod("veth")?;
    let web = cluster.pod("web")?.v4()?.to_string();
    show(screen, &veth, "ping", &["-c", "2", "-i", "0.2", "-W", "2", &web])?;
    hopctl(screen, cluster, &["get", "ports"])?;
    Ok(veth)
}

/// Runs hopctl and shows its command and what it printed.
fn hopctl(screen: &Screen, cluster: &Cluster, args: &[&str]) -> Result<String> {
    screen.command(format!("hopctl {}", args.join(" ")))?;
    let output = node(cluster)?.hopctl(args)?;
    screen.output(&output)?;
    Ok(output)
}

fn predict(screen: &mut Screen, cluster: &Cluster) -> Result<()> {
    screen.step(
        "The walk of a packet, hop by hop",
        "A dry run by the code that forwards: it changes nothing and cannot disagree.",
    )?;
    hopctl(screen, cluster, &["trace", "default/client", "default/web", "--tcp", "80"])?;
    hopctl(screen, cluster, &["trace", "default/client", "node", "--icmp"]).map(drop)
}

fn capture(screen: &mut Screen, cluster: &Cluster, veth: &Pod) -> Result<()> {
    screen.step(
        "The same, captured",
        "Every packet at every hop, one interface a hop, its id the same all the way.",
    )?;
    let file = PathBuf::from(CAPTURE);
    screen.command(format!("hopctl capture --hop all -w {CAPTURE}"))?;
    let path = std::env::current_dir().context("current directory")?.join(&file);
    let running = node(cluster)?.capture(&path, &["--hop", "all"])?;
    let (client, web) = (cluster.pod("client")?, cluster.pod("web")?);
    let (web4, web6) = (web.v4()?.to_string(), web.v6()?.to_string());
    client.run("ping", &["-c", "2", "-i", "0.2", "-W", "2", &web6])?;
    client.run("curl", &["-sS", "--max-time", "5", &format!("http://{web4}/")])?;
    veth.run("ping", &["-c", "2", "-i", "0.2", "-W", "2", &web4])?;
    running.stop()?;
    let packets = tshark::judge(&path)?;
    show_packet(screen, &path)?;
    screen.good(format!("tshark read {packets} packets: no bad checksum, nothing malformed"))
}

/// The first SYN at each of its hops.
fn show_packet(screen: &Screen, file: &Path) -> Result<()> {
    let syn = "tcp.flags.syn == 1 && tcp.flags.ack == 0";
    let ids = tshark::fields(file, syn, &["frame.packet_id"])?;
    let id = ids.concat().into_iter().next();
    let id = id.ok_or_else(|| Error::new("the capture has no SYN"))?;
    let filter = format!("frame.packet_id == {id}");
    screen.command(format!("tshark -r {CAPTURE} -Y '{filter}'"))?;
    for hop in tshark::fields(file, &filter, &["frame.interface_name", "frame.comment"])? {
        if let [interface, comment] = hop.as_slice() {
            screen.output(&format!("{interface:<22} {comment}"))?;
        }
    }
    Ok(())
}

fn spoof(screen: &mut Screen, cluster: &Cluster) -> Result<()> {
    screen.step(
        "A lie, and what becomes of it",
        "The client sends from an address that is not its own. Nothing vanishes: drops say why.",
    )?;
    let (client, web) = (cluster.pod("client")?, cluster.pod("web")?);
    let (own, other) = (client.mac()?.replace(':', ""), web.mac()?.replace(':', ""));
    let octets = |address: [u8; 4]| address.map(|octet| format!("{octet:02x}")).concat();
    // An Ethernet header, an IPv4 header with its checksum, and a UDP header without one.
    let (src, dst) = (octets(STRANGER), octets(web.v4()?.octets()));
    let header = format!("4500001c000000004011{{sum}}{src}{dst}");
    let sum = checksum(&header.replace("{sum}", "0000"))?;
    let header = header.replace("{sum}", &format!("{sum:04x}"));
    let frame = format!("{other}{own}0800{header}9c40005000080000\n");
    let file = client.owner().fresh_path("spoofed");
    std::fs::write(&file, frame).context(file.display())?;
    let path = file.to_string_lossy();
    client.lab(&["raw", "--interface", "eth0", "--frames", &path, "--wait-ms", "50"])?;
    let drops = hopctl(screen, cluster, &["get", "drops"])?;
    if !drops.contains("SourceIpSpoofed") {
        return Err(Error::new("the spoofed packet was not dropped for SourceIpSpoofed"));
    }
    Ok(())
}

/// The Internet checksum (RFC 1071) of bytes in hexadecimal.
fn checksum(hex: &str) -> Result<u16> {
    let mut sum = 0_u32;
    for at in (0..hex.len()).step_by(4) {
        let word = hex.get(at..at + 4).ok_or_else(|| Error::new("an odd length"))?;
        sum += u32::from(u16::from_str_radix(word, 16).context(word)?);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).map(|sum| !sum).context("checksum")
}

fn law(screen: &mut Screen, cluster: &Cluster) -> Result<()> {
    screen.step(
        "The law of conservation",
        "received = forwarded + flooded + answered + delivered + dropped + held, for every port.",
    )?;
    hopctl(screen, cluster, &["get", "counters"])?;
    let ports = counters::conservation(node(cluster)?, &EXPECTED)?;
    let received: u64 = ports.iter().map(|port| port.received).sum();
    screen.good(format!("{received} frames came in, each is accounted for"))
}

fn record(screen: &mut Screen, cluster: &Cluster) -> Result<()> {
    screen.step(
        "All of it again, from a file",
        "The switch has always been recording. A replay needs no daemon and proves it by digests.",
    )?;
    hopctl(screen, cluster, &["record", "-w", RECORDING])?;
    hopctl(screen, cluster, &["replay", RECORDING]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        // The example of RFC 1071 section 3, and a header that sums up to nothing with its
        // checksum.
        assert_eq!(checksum("0001f203f4f5f6f7").unwrap(), !0xddf2);
        let header = "4500001c0001000040{p}66de0a0000010a000002".replace("{p}", "01");
        assert_eq!(checksum(&header).unwrap(), 0);
    }
}
