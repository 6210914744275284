//! GET /v1/services and /v1/backends.
//!
//! First it is asked which Services there are, then for some of them at a time, so that frames pass
//! in between.

use axum::Json;
use axum::extract::State;
use smoltcp::wire::IpAddress;
use stack::config::{
    Backend as Answers, Frontend as Asked, FrontendKind, ServiceId, ServiceProtocol,
};
use stack::table::Tables;
use stack::table::service::{Path, Service as Row};

use super::Context;
use super::connections::end;
use super::objects::{Backend, Frontend, List, Service};
use super::reply::Failure;

/// Services that one question looks at.
const STEP: usize = 32;

/// Services by name.
///
/// # Errors
/// When the event loop has ended.
pub async fn services(State(context): State<Context>) -> Result<Json<List<Service>>, Failure> {
    Ok(Json(by_name(in_steps(&context, |row| vec![service(row)]).await?)))
}

/// Backends by the names of their Services.
///
/// # Errors
/// When the event loop has ended.
pub async fn backends(State(context): State<Context>) -> Result<Json<List<Backend>>, Failure> {
    Ok(Json(by_service(in_steps(&context, backends_of).await?)))
}

/// Services of a switch that carries nothing.
#[must_use]
pub fn services_at_rest(tables: &Tables) -> List<Service> {
    by_name(tables.services().iter().map(|(_, row)| service(row)).collect())
}

/// Backends of a switch that carries nothing.
#[must_use]
pub fn backends_at_rest(tables: &Tables) -> List<Backend> {
    by_service(tables.services().iter().flat_map(|(_, row)| backends_of(row)).collect())
}

async fn in_steps<T: Send + 'static>(
    context: &Context,
    objects: fn(&Row) -> Vec<T>,
) -> Result<Vec<T>, Failure> {
    let all = |view: &crate::event_loop::View<'_>| -> Vec<ServiceId> {
        view.switch.tables().services().iter().map(|(_, row)| row.config.id).collect()
    };
    let ids = context.handle.ask(all).await?;
    let mut found = Vec::new();
    for some in ids.chunks(STEP) {
        let some = some.to_vec();
        let question = move |view: &crate::event_loop::View<'_>| -> Vec<T> {
            let services = view.switch.tables().services();
            some.iter().filter_map(|id| services.by_id(*id)).flat_map(objects).collect()
        };
        found.extend(context.handle.ask(question).await?);
    }
    Ok(found)
}

fn by_name(mut items: Vec<Service>) -> List<Service> {
    items.sort_by(|a, b| (&a.name, &a.protocol, a.id).cmp(&(&b.name, &b.protocol, b.id)));
    List::new(items)
}

/// Each Service's in the order they have there, that of addresses.
fn by_service(mut items: Vec<Backend>) -> List<Backend> {
    items.sort_by(|a, b| (&a.service, &a.protocol).cmp(&(&b.service, &b.protocol)));
    List::new(items)
}

fn service(row: &Row) -> Service {
    let config = &row.config;
    let refused = row.refused;
    let all = [refused.no_backends, refused.none_local, refused.source];
    let usable = |path| row.usable(path).count() as u64;
    Service {
        name: config.name.clone(),
        namespace: namespace(&config.name),
        id: config.id.0,
        protocol: protocol(config.protocol),
        frontends: config.frontends.iter().map(frontend).collect(),
        method: config.method.name().to_owned(),
        affinity_seconds: config.affinity.map(|affinity| affinity.0 / 1_000_000_000),
        internal_local: config.internal_local,
        external_local: config.external_local,
        source_ranges: config.source_ranges.iter().map(ToString::to_string).collect(),
        backends: config.backends.len() as u64,
        usable: usable(Path::Cluster),
        usable_local: usable(Path::Local),
        refused: all.into_iter().fold(0, u64::saturating_add),
        refused_no_backends: refused.no_backends,
        refused_none_local: refused.none_local,
        refused_source: refused.source,
    }
}

fn frontend(asked: &Asked) -> Frontend {
    let kind = match asked.kind {
        FrontendKind::ClusterIp => "clusterIP",
        FrontendKind::NodePort => "nodePort",
        FrontendKind::LoadBalancer => "loadBalancer",
        FrontendKind::ExternalIp => "externalIP",
        FrontendKind::HostPort => "hostPort",
    };
    let anywhere = || format!("node:{}", asked.port);
    let at = |address: &IpAddress| end(address, asked.port);
    let address = asked.address.as_ref().map_or_else(anywhere, at);
    Frontend { r#type: kind.to_owned(), address }
}

fn backends_of(row: &Row) -> Vec<Backend> {
    let config = &row.config;
    let usable: Vec<usize> = row.usable(Path::Cluster).map(usize::from).collect();
    let each = config.backends.iter().zip(&row.loads).enumerate();
    let backend =
        |(place, (backend, load)): (usize, (&Answers, &stack::table::service::Load))| Backend {
            service: config.name.clone(),
            namespace: namespace(&config.name),
            protocol: protocol(config.protocol),
            address: end(&backend.address, backend.port),
            r#where: if backend.local { "local" } else { "remote" }.to_owned(),
            state: state(backend).to_owned(),
            usable: usable.binary_search(&place).is_ok(),
            weight: backend.weight,
            active: load.active,
            total: load.total,
        };
    each.map(backend).collect()
}

fn state(backend: &Answers) -> &'static str {
    match backend {
        Answers { ready: true, .. } => "ready",
        Answers { serving: true, .. } => "serving",
        Answers { terminating: true, .. } => "terminating",
        Answers { .. } => "unready",
    }
}

fn namespace(name: &str) -> String {
    name.split_once('/').map_or(String::new(), |(namespace, _)| namespace.to_owned())
}

fn protocol(protocol: ServiceProtocol) -> String {
    match protocol {
        ServiceProtocol::Tcp => "tcp",
        ServiceProtocol::Udp => "udp",
        ServiceProtocol::Sctp => "sctp",
    }
    .to_owned()
}

#[cfg(test)]
mod tests;
