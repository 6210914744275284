//! Health checks at the node's addresses: delivered to who answers them, and answered.

use super::*;

const HEALTH: PortId = PortId(9);
const HEALTHZ: u16 = 10_256;

fn health() -> Bed {
    let mut config = bed(vec![]).switch.config();
    config.node.health_ports = vec![HEALTHZ, 32_000];
    config.ports.push(Switch::health_port(HEALTH, mac(251)));
    Bed::with(config)
}

#[test]
fn health_checks_are_delivered_and_the_answer_finds_its_way() {
    for family in families() {
        let mut bed = health();
        let clients = [(HOST, family.outside), (HOST, family.node), (A, family.pods[0])];
        for (port, client) in clients {
            for asked in [HEALTHZ, 32_000] {
                let (client, asked) = ((client, 40_000), (family.node, asked));
                for flags in [SYN, ACK] {
                    let verdict = bed.tcp(port, client, asked, flags);
                    assert_eq!(verdict, Verdict::Deliver(EndpointId::HEALTH));
                    let (endpoint, frame) = bed.out.deliveries.pop().unwrap();
                    let input = Input::Deliver { endpoint, frame };
                    bed.out.clear();
                    bed.switch.input(bed.now, input, &mut bed.out);
                    assert_eq!(bed.sent(), [], "it lives outside of the core");
                }
                let frame = ip(between(251, GATEWAY), asked.0, client.0);
                let answer = frame.tcp((asked.1, client.1), SYN | ACK, 9, 1_001, b"");
                assert_eq!(bed.send(HEALTH, &answer), Verdict::Forward(port));
                assert_eq!(bed.left().1, Seen { src: asked, dst: client });
            }
        }
        assert_eq!(bed.connections(), 0, "nothing is kept about them");
    }
}

#[test]
fn all_else_at_the_nodes_address_is_the_nodes() {
    for family in families() {
        let mut bed = health();
        let client = (family.outside, 40_000);
        let given_back = Verdict::Forward(HOST);
        assert_eq!(bed.tcp(HOST, client, (family.node, HEALTHZ + 1), SYN), given_back);
        assert_eq!(bed.udp(HOST, client, (family.node, HEALTHZ)), given_back);
        // Another host's port of that number is not asked here.
        let pod = (family.pods[0], 40_000);
        assert_eq!(bed.tcp(A, pod, (family.outside, HEALTHZ), SYN), Verdict::Forward(HOST));
        bed.change(Change::PortRemoved(HEALTH));
        assert_eq!(bed.tcp(HOST, client, (family.node, HEALTHZ), SYN), given_back, "nobody's");
    }
}

#[test]
fn the_walk_tells_of_a_health_check() {
    let [family, _] = families();
    let mut bed = health();
    let frame = ip(from(A), family.pods[0], family.node);
    let frame = frame.tcp((40_000, HEALTHZ), SYN, 1, 0, b"");
    bed.send(A, &frame);
    let story = lines(&bed.out.walked[0], &frame);
    assert_eq!(story[2], "service    asks for the node's health");
    assert_eq!(story[3], "l3         for a host inside of the switch");
}
