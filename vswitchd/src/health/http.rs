//! As much of HTTP/1.1 (RFC 9112) as a health check takes: one request's head, one response. Pure.

use serde_json::{Value, json};

/// Bytes of a request's head at most.
pub(super) const HEAD_MAX: usize = 4_096;
/// Fields of a request's head at most.
const FIELDS_MAX: usize = 32;

/// A request: its body, if it has one, is of no interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
}

/// What bytes of a head are so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// The begin of one.
    Partial,
    /// One.
    Whole(Request),
    /// None: the status to say so by.
    Bad(u16),
}

impl Request {
    /// Whether it only asks.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD")
    }
}

/// Reads the head of a request.
pub(super) fn read(bytes: &[u8]) -> Head {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {
            let path = request.path.unwrap_or_default();
            let path = path.split_once('?').map_or(path, |(path, _query)| path);
            let method = request.method.unwrap_or_default().to_owned();
            Head::Whole(Request { method, path: path.to_owned() })
        }
        Ok(httparse::Status::Partial) if bytes.len() >= HEAD_MAX => Head::Bad(431),
        Ok(httparse::Status::Partial) => Head::Partial,
        Err(httparse::Error::TooManyHeaders) => Head::Bad(431),
        Err(httparse::Error::Version) => Head::Bad(505),
        Err(_no_request) => Head::Bad(400),
    }
}

/// A response, whose body is JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Fields beside those that all have.
    pub fields: Vec<(&'static str, String)>,
    /// Its body.
    pub body: String,
}

impl Response {
    pub(super) fn new(status: u16, body: Value) -> Self {
        Self { status, fields: Vec::new(), body: body.to_string() }
    }

    /// To what is no request that could be answered.
    pub(super) fn refusal(status: u16) -> Self {
        Self::new(status, json!({"error": reason(status)}))
    }

    pub(super) fn with(mut self, field: &'static str, value: String) -> Self {
        self.fields.push((field, value));
        self
    }

    /// The bytes. The answer to HEAD has no body, and says how long it would be.
    pub(super) fn bytes(&self, is_head: bool) -> Vec<u8> {
        let Self { status, fields, body } = self;
        let mut text = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\n\
             X-Content-Type-Options: nosniff\r\n",
            reason(*status)
        );
        for (field, value) in fields {
            text.push_str(&format!("{field}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()));
        if !is_head {
            text.push_str(body);
        }
        text.into_bytes()
    }
}

/// RFC 9110 section 15 and RFC 6585.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
