//! `hopctl record`.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use http_body_util::BodyExt;
use recording::redact::redact;
use recording::{Excerpt, Header};

use super::args;
use super::capture::create;
use super::client::Client;
use super::output::Output;
use super::{Answer, Failure, Outcome};
use crate::admin::objects::Object;
use crate::admin::record::RecordRequest;

/// Writes what the switch has been doing into a file.
///
/// # Errors
/// When no daemon answers, or the journal does not reach back that far.
pub async fn record(args: &args::Record, client: &Client, output: &Output) -> Outcome {
    let to_stdout = args.write == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "-w - would write binary to this terminal".to_owned(),
            "redirect it or pipe it, as in > FILE".to_owned(),
        ));
    }
    let since_ms = args.since.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    // Before anything is made or overwritten: the daemon may refuse.
    let response = client.stream("/v1/record", &Object::new(RecordRequest { since_ms })).await?;
    let mut sink: Box<dyn Write> = match to_stdout {
        true => Box::new(io::stdout()),
        false => Box::new(create(&args.write)?),
    };
    let mut body = response.into_body();
    let mut collected = Vec::new();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let gone = |_error: hyper::Error| Failure::NoDaemon("the daemon went away".to_owned());
        let frame = frame.map_err(gone)?;
        let Some(data) = frame.data_ref() else { continue };
        if args.redact {
            collected.extend(data);
        } else {
            sink.write_all(data)?;
            bytes += data.len();
        }
    }
    if args.redact {
        let redacted = redacted(&collected).map_err(Failure::Negative)?;
        sink.write_all(&redacted)?;
        bytes = redacted.len();
    }
    sink.flush()?;
    let place = if to_stdout { "stdout".to_owned() } else { args.write.display().to_string() };
    output.notice(&format!("{bytes} bytes recorded to {place}; hopctl replay runs it again"));
    Ok(Answer::Yes)
}

/// The same recording without payload.
fn redacted(file: &[u8]) -> Result<Vec<u8>, String> {
    let (excerpt, start, ending) = Excerpt::read(file).map_err(|error| error.to_string())?;
    if ending.cut {
        return Err("the daemon went away before the recording was whole".to_owned());
    }
    let redacted = redact(&excerpt, 0).map_err(|problem| {
        format!("the recording does not replay, so it cannot be redacted: {problem}")
    })?;
    let header = Header { id: start.id, build: start.build, redacted: true, about: start.about };
    let mut out = Vec::new();
    recording::write(&redacted, &header, &mut out);
    Ok(out)
}
