//! What a health check is told: statuses and bodies of kube-proxy. Pure.

use serde_json::json;

use super::Facts;
use super::http::{Request, Response};
use crate::kube::services::HealthCheck;
use crate::utc;

/// Where and when it was asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The port.
    pub port: u16,
    /// Whether by IPv6: each family has endpoints of its own.
    pub is_ipv6: bool,
    /// The time in nanoseconds since 1970.
    pub now: u64,
}

impl Facts {
    /// Whether something is answered at a port.
    #[must_use]
    pub fn has(&self, port: u16) -> bool {
        port != 0 && (port == self.node_port || self.check(port).is_some())
    }

    fn check(&self, port: u16) -> Option<&HealthCheck> {
        self.checks.iter().find(|check| check.port == port)
    }

    /// The answer to a request.
    #[must_use]
    pub fn answer(&self, asked: Asked, request: &Request) -> Response {
        if !request.is_read() {
            return Response::new(405, json!({"error": "GET and HEAD are answered"}));
        }
        match self.check(asked.port) {
            // Whatever the path: load balancers are set to one or another.
            Some(check) => of_service(check, asked.is_ipv6),
            None if asked.port == self.node_port => self.of_node(asked.now, &request.path),
            None => Response::new(404, json!({"error": "there is no health check any more"})),
        }
    }

    /// Desired state that is refused is no reason to send clients away: the last good one is in
    /// force, and `status` tells of it. Who answers is healthy, and then kube-proxy gives the time
    /// of the answer as that of its last update, whatever has changed when.
    fn of_node(&self, now: u64, path: &str) -> Response {
        let now = utc::spaced(now);
        let body = json!({"lastUpdated": now, "currentTime": now});
        match path {
            "/livez" => Response::new(200, body),
            "/healthz" => {
                let mut body = body;
                if let Some(fields) = body.as_object_mut() {
                    fields.insert("nodeEligible".to_owned(), (!self.leaving).into());
                }
                Response::new(if self.leaving { 503 } else { 200 }, body)
            }
            _ => Response::new(404, json!({"error": "/healthz and /livez are answered"})),
        }
    }
}

fn of_service(check: &HealthCheck, is_ipv6: bool) -> Response {
    let [ipv4, ipv6] = check.local;
    let count = if is_ipv6 { ipv6 } else { ipv4 };
    let body = json!({
        "service": {"namespace": check.namespace, "name": check.name},
        "localEndpoints": count,
        "serviceProxyHealthy": true,
    });
    let response = Response::new(if count > 0 { 200 } else { 503 }, body);
    response.with("X-Load-Balancing-Endpoint-Weight", count.to_string())
}
