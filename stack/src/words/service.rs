//! Services as words.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Take, Words};
use crate::config::{
    Backend, Frontend, FrontendKind, Method, PortRange, ServiceConfig, ServiceProtocol,
};

/// Bytes of a name at most: no object of Kubernetes has a longer one.
pub(crate) const NAME_MAX: usize = 4_096;

/// The count of bytes, then eight of them a word.
impl Words for String {
    fn put(&self, out: &mut Vec<u64>) {
        out.push(self.len() as u64);
        let (words, rest) = self.as_bytes().as_chunks::<8>();
        out.extend(words.iter().map(|word| u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            out.push(u64::from_le_bytes(last));
        }
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        let len = usize::try_from(words.word()?).ok().filter(|len| *len <= NAME_MAX)?;
        let mut bytes = Vec::new();
        for _ in 0..len.div_ceil(8) {
            bytes.extend(words.word()?.to_le_bytes());
        }
        // What fills the last word up is zero, or two words would be one name.
        let filled = bytes.get(len..)?.iter().all(|byte| *byte == 0);
        bytes.truncate(len);
        Self::from_utf8(bytes).ok().filter(|_| filled)
    }
}

enums! {
    ServiceProtocol { Tcp = 6, Udp = 17, Sctp = 132 }
    FrontendKind { ClusterIp = 0, NodePort = 1, LoadBalancer = 2, ExternalIp = 3, HostPort = 4 }
    Method {
        Random = 0,
        RoundRobin = 1,
        WeightedRoundRobin = 2,
        LeastConnections = 3,
        SourceHash = 4,
        Maglev = 5,
    }
}

words_of!(PortRange { first, last });
words_of!(Frontend { kind, address, port });
words_of!(Backend {
    address,
    port,
    weight,
    local,
    ready,
    serving,
    terminating,
    for_node,
    for_zone,
});
words_of!(ServiceConfig {
    id,
    name,
    protocol,
    frontends,
    method,
    affinity,
    internal_local,
    external_local,
    source_ranges,
    backends,
});
