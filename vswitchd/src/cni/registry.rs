//! All attachments and the addresses they hold, in memory and on disk, consistent under parallel
//! requests.
//!
//! Memory is decided on under one lock, held for no I/O; files of different attachments are written
//! in parallel. An address is free again only once its file is gone, so no crash leaves two owners
//! of one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use shim::fault::{Code, Fault};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

use super::attachment::{Attachment, Key, Pod, State};
use super::host_port::{HostPort, NodePorts};
use super::ipam::{COOL_DOWN, FREED_MAX, Freed, Pool, Range};
use super::mac;
use super::store::{FreedText, Leases, Store, StoreError};
use super::types::Dns;
use super::validate::{Source, WantedAddress};
use crate::node::LinkKind;

/// Port numbers below are the daemon's own: the host port and endpoints.
pub const FIRST_PORT: u32 = 16;
/// So many port numbers are reserved on disk at once: none is ever given out twice, without a write
/// for each.
const PORTS_RESERVED_AT_ONCE: u32 = 64;

/// An attachment as an ADD wants it.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What it is known by.
    pub key: Key,
    /// Name of the network.
    pub network: String,
    /// Path of the network namespace.
    pub netns: PathBuf,
    /// Its inode.
    pub netns_inode: u64,
    /// TAP or veth.
    pub kind: LinkKind,
    /// MTU in bytes.
    pub mtu: u16,
    /// Requested addresses.
    pub addresses: Vec<WantedAddress>,
    /// A requested MAC.
    pub mac: Option<Source>,
    /// The pod.
    pub pod: Option<Pod>,
    /// Ports of the node that shall lead to it.
    pub host_ports: Vec<HostPort>,
    /// Name resolution.
    pub dns: Dns,
}

/// A range as it is used, for people.
#[derive(Clone, Debug)]
pub struct Usage {
    /// The range.
    pub range: IpCidr,
    /// Its gateway.
    pub gateway: IpAddress,
    /// How many pods have room.
    pub capacity: u128,
    /// How many are in use.
    pub used: usize,
    /// Freed addresses, the one freed first in front.
    pub freed: Vec<Freed>,
}

#[derive(Default)]
struct Inner {
    attachments: BTreeMap<Key, Arc<Attachment>>,
    pools: Vec<Pool>,
    node: NodePorts,
    /// Freed addresses and cursors of ranges the node does not have now: it may get them back.
    elsewhere: Vec<Freed>,
    cursors: Vec<IpAddress>,
    next_port: u32,
    ports_reserved: u32,
    /// Counts changes of what [`Leases`] holds.
    generation: u64,
}

/// See the module.
pub struct Registry {
    store: Arc<Store>,
    inner: Mutex<Inner>,
    /// The generation of the leases on disk. Held while they are written: who waits finds them
    /// written.
    saved: tokio::sync::Mutex<u64>,
    boot_id: String,
    /// MACs that no pod may have beside the gateway's: the host port's.
    reserved_macs: Vec<EthernetAddress>,
    damaged: Vec<PathBuf>,
}

/// Seconds since 1970.
fn now() -> u64 {
    // A clock before 1970 only spoils the order in which addresses come back.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn io(error: &StoreError) -> Fault {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    Fault::new(Code::Io, error.to_string()).with_details(source)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| io(&error)),
        Err(error) => Err(Fault::new(Code::Internal, error.to_string())),
    }
}

impl Registry {
    /// Reads the state directory.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(
        state_dir: &Path,
        boot_id: String,
        reserved_macs: Vec<EthernetAddress>,
        ranges: &[Range],
    ) -> Result<Self, StoreError> {
        let (store, loaded) = Store::open(state_dir)?;
        let mut inner = Inner::default();
        let parse =
            |freed: &FreedText| Some(Freed { address: freed.address.parse().ok()?, at: freed.at });
        inner.elsewhere = loaded.leases.freed.iter().filter_map(parse).collect();
        inner.cursors = loaded.leases.cursors.iter().filter_map(|text| text.parse().ok()).collect();
        inner.ports_reserved = loaded.leases.ports_reserved.max(FIRST_PORT);
        for attachment in loaded.attachments {
            inner.ports_reserved = inner.ports_reserved.max(attachment.port.saturating_add(1));
            inner.attachments.insert(attachment.key.clone(), Arc::new(attachment));
        }
        inner.next_port = inner.ports_reserved;
        inner.set_ranges(ranges);
        Ok(Self {
            store: Arc::new(store),
            inner: Mutex::new(inner),
            saved: tokio::sync::Mutex::new(0),
            boot_id,
            reserved_macs,
            damaged: loaded.damaged,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change under the lock is whole before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives addresses out of these ranges from now on. Attachments keep theirs.
    pub fn set_ranges(&self, ranges: &[Range]) {
        self.inner().set_ranges(ranges);
    }

    /// What `hostPort`s there may be from now on. Attachments keep theirs.
    pub fn set_node(&self, node: NodePorts) {
        self.inner().node = node;
    }

    /// The boot this daemon runs in.
    #[must_use]
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Files that had been set aside by the time this was opened.
    #[must_use]
    pub fn damaged(&self) -> &[PathBuf] {
        &self.damaged
    }

    /// One attachment.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Attachment>> {
        self.inner().attachments.get(key).cloned()
    }

    /// All attachments, by key.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Attachment>> {
        self.inner().attachments.values().cloned().collect()
    }

    /// The ranges and what is used of them.
    #[must_use]
    pub fn usage(&self) -> Vec<Usage> {
        let usage = |pool: &Pool| Usage {
            range: pool.range().network(),
            gateway: pool.range().gateway(),
            capacity: pool.range().capacity(),
            used: pool.used(),
            freed: pool.freed().collect(),
        };
        self.inner().pools.iter().map(usage).collect()
    }

    /// Whether an ADD would find addresses.
    ///
    /// # Errors
    /// Code 11 without ranges, [`Code::AddressesExhausted`] for a full one.
    pub fn ready(&self) -> Result<(), Fault> {
        self.inner().choose(&[]).map(|_addresses| ())
    }

    /// Takes addresses, a MAC and a port number for an attachment and writes it down as begun.
    ///
    /// # Errors
    /// An attachment of this key, refused requests, full ranges, the file system's.
    /// Nothing is taken then.
    pub async fn reserve(&self, proposal: Proposal) -> Result<Arc<Attachment>, Fault> {
        let (attachment, must_save) =
            self.inner().reserve(proposal, &self.boot_id, &self.reserved_macs)?;
        let (store, written) = (self.store.clone(), attachment.clone());
        let kept = match must_save {
            Some(generation) => self.save(generation).await,
            None => Ok(()),
        };
        let kept = match kept {
            Ok(()) => blocking(move || store.write(&written, false)).await,
            failed => failed,
        };
        if let Err(fault) = kept {
            self.inner().release(&attachment.key);
            return Err(fault);
        }
        Ok(attachment)
    }

    /// Writes an attachment down as made.
    ///
    /// # Errors
    /// The file system's.
    pub async fn confirm(&self, attachment: &Attachment) -> Result<Arc<Attachment>, Fault> {
        let confirmed = Arc::new(Attachment { state: State::Attached, ..attachment.clone() });
        let (store, written) = (self.store.clone(), confirmed.clone());
        blocking(move || store.write(&written, true)).await?;
        self.inner().attachments.insert(confirmed.key.clone(), confirmed.clone());
        Ok(confirmed)
    }

    /// Forgets an attachment and frees its addresses. One that is not there is no error.
    ///
    /// # Errors
    /// The file system's.
    pub async fn release(&self, key: &Key) -> Result<(), Fault> {
        let (store, removed) = (self.store.clone(), key.clone());
        blocking(move || store.remove(&removed)).await?;
        let Some(generation) = self.inner().release(key) else { return Ok(()) };
        self.save(generation).await
    }

    /// Brings the leases on disk to this generation at least. One write serves all who wait.
    async fn save(&self, generation: u64) -> Result<(), Fault> {
        let mut saved = self.saved.lock().await;
        if *saved >= generation {
            return Ok(());
        }
        let (leases, current) = self.inner().leases();
        let store = self.store.clone();
        blocking(move || store.write_leases(&leases)).await?;
        *saved = current;
        Ok(())
    }
}

impl Inner {
    fn set_ranges(&mut self, ranges: &[Range]) {
        let mut freed = std::mem::take(&mut self.elsewhere);
        for pool in std::mem::take(&mut self.pools) {
            freed.extend(pool.freed());
            self.cursors.push(pool.cursor());
        }
        // Stable: addresses freed in one second keep their order.
        freed.sort_by_key(|freed| freed.at);
        self.pools = ranges.iter().map(|range| Pool::new(*range)).collect();
        for freed in freed {
            let contains = |pool: &&mut Pool| pool.range().network().contains_addr(&freed.address);
            match self.pools.iter_mut().find(contains) {
                Some(pool) => pool.free(freed),
                None => self.elsewhere.push(freed),
            }
        }
        let surplus = self.elsewhere.len().saturating_sub(FREED_MAX);
        self.elsewhere.drain(..surplus);
        let in_a_pool = |pools: &[Pool], address: &IpAddress| {
            pools.iter().any(|pool| pool.range().network().contains_addr(address))
        };
        for cursor in &self.cursors {
            self.pools.iter_mut().for_each(|pool| pool.set_cursor(*cursor));
        }
        self.cursors.retain(|cursor| !in_a_pool(&self.pools, cursor));
        for attachment in self.attachments.values() {
            for cidr in &attachment.addresses {
                for pool in &mut self.pools {
                    pool.take(cidr.address());
                }
            }
        }
    }

    /// An address of each range.
    fn choose(
        &self,
        wanted: &[WantedAddress],
    ) -> Result<Vec<(IpCidr, IpAddress, Option<u64>)>, Fault> {
        if self.pools.is_empty() {
            let msg = "the Node has no podCIDRs yet: give it spec.podCIDRs";
            return Err(Fault::new(Code::TryAgain, msg));
        }
        for wanted in wanted {
            let v6 = matches!(wanted.address, IpAddress::Ipv6(_));
            if !self.pools.iter().any(|pool| pool.range().is_v6() == v6) {
                let family = if v6 { "IPv6" } else { "IPv4" };
                return Err(wanted.source.refuse(format_args!(
                    "is {family}, of which the node has \
                    no pod range"
                )));
            }
        }
        self.pools.iter().map(|pool| choose_of(pool, wanted)).collect()
    }

    fn reserve(
        &mut self,
        proposal: Proposal,
        boot_id: &str,
        reserved_macs: &[EthernetAddress],
    ) -> Result<(Arc<Attachment>, Option<u64>), Fault> {
        if let Some(existing) = self.attachments.get(&proposal.key) {
            let msg =
                format!("{} is attached already, by network {}", proposal.key, existing.network);
            return Err(Fault::new(Code::AlreadyAttached, msg));
        }
        let others: Vec<&Attachment> = self.attachments.values().map(AsRef::as_ref).collect();
        self.node.admit(&proposal.host_ports, proposal.pod.as_ref(), &others)?;
        let chosen = self.choose(&proposal.addresses)?;
        let addresses: Vec<IpCidr> = chosen.iter().map(|(cidr, _, _)| *cidr).collect();
        let taken = |mac: EthernetAddress| {
            reserved_macs.contains(&mac) || self.attachments.values().any(|other| other.mac == mac)
        };
        let mac = match &proposal.mac {
            Some(source) => mac::parse(&source.value, taken).map_err(|why| source.refuse(why))?,
            None => mac::derive(&addresses, taken),
        };
        let other_has = |name: &str| self.attachments.values().any(|o| o.host_ifname == name);
        let host_ifname = (0..).map(|attempt| proposal.key.host_ifname(attempt));
        let host_ifname = host_ifname.into_iter().find(|name| !other_has(name)).unwrap_or_default();
        let mut must_save = None;
        if self.next_port >= self.ports_reserved {
            self.ports_reserved = self.next_port.saturating_add(PORTS_RESERVED_AT_ONCE);
            self.generation += 1;
            must_save = Some(self.generation);
        }
        let now = now();
        for (cidr, _, freed) in &chosen {
            for pool in &mut self.pools {
                pool.take(cidr.address());
            }
            if let Some(rested) = freed.map(|at| now.saturating_sub(at))
                && rested < COOL_DOWN
            {
                tracing::warn!(address = %cidr.address(), rested_seconds = rested,
                    "an address is used again early: no other is left in its range");
            }
        }
        let attachment = Arc::new(Attachment {
            key: proposal.key,
            network: proposal.network,
            state: State::Wiring,
            netns: proposal.netns,
            netns_inode: proposal.netns_inode,
            boot_id: boot_id.to_owned(),
            port: self.next_port,
            kind: proposal.kind,
            host_ifname,
            mac,
            mtu: proposal.mtu,
            addresses,
            gateways: chosen.iter().map(|(_, gateway, _)| *gateway).collect(),
            pod: proposal.pod,
            host_ports: proposal.host_ports,
            dns: proposal.dns,
            since: now,
        });
        self.next_port += 1;
        self.attachments.insert(attachment.key.clone(), attachment.clone());
        Ok((attachment, must_save))
    }

    fn release(&mut self, key: &Key) -> Option<u64> {
        let attachment = self.attachments.remove(key)?;
        for cidr in &attachment.addresses {
            let freed = Freed { address: cidr.address(), at: now() };
            self.pools.iter_mut().for_each(|pool| pool.free(freed));
        }
        self.generation += 1;
        Some(self.generation)
    }

    fn leases(&self) -> (Leases, u64) {
        let freed = self.pools.iter().flat_map(Pool::freed).chain(self.elsewhere.iter().copied());
        let cursors = self.pools.iter().map(Pool::cursor).chain(self.cursors.iter().copied());
        let leases = Leases {
            ports_reserved: self.ports_reserved,
            cursors: cursors.map(|cursor| cursor.to_string()).collect(),
            freed: freed
                .map(|freed| FreedText { address: freed.address.to_string(), at: freed.at })
                .collect(),
        };
        (leases, self.generation)
    }
}

/// An address of this pool for a pod: its own wish of that family, else the next.
fn choose_of(
    pool: &Pool,
    wanted: &[WantedAddress],
) -> Result<(IpCidr, IpAddress, Option<u64>), Fault> {
    let range = pool.range();
    let same =
        |wanted: &&WantedAddress| matches!(wanted.address, IpAddress::Ipv6(_)) == range.is_v6();
    if let Some(wanted) = wanted.iter().find(same) {
        let whole = if range.is_v6() { 128 } else { 32 };
        let length = range.network().prefix_len();
        if wanted.prefix.is_some_and(|prefix| prefix != length && prefix != whole) {
            return Err(wanted.source.refuse(format_args!(
                "has another prefix length than the \
                node's pod range {}",
                range.network()
            )));
        }
        pool.requested(wanted.address).map_err(|why| wanted.source.refuse(why))?;
        return Ok((range.cidr(wanted.address), range.gateway(), None));
    }
    let (address, freed) =
        pool.next().map_err(|full| Fault::new(Code::AddressesExhausted, full.to_string()))?;
    Ok((range.cidr(address), range.gateway(), freed))
}
