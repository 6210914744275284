//! A recording's digests as text. Built natively the tests call [`digests`]; built as WebAssembly,
//! `tests/replay/run.mjs` calls the exported functions and the texts are compared.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use recording::summary::Summary;
use recording::{Replayer, Turn};
use stack::hash::Hasher;

/// Replays a file and tells the chain now and then, and in the end everything there is to compare.
#[must_use]
pub fn digests(file: &[u8], table_seed: u64) -> String {
    let mut replayer = Replayer::new(table_seed);
    let (mut text, mut summary) = (String::new(), Summary::default());
    let mut traces = Hasher::new(1);
    // In pieces, as a file arrives.
    let mut pieces = file.chunks(10_007);
    // Writing into a String cannot fail, here and below.
    loop {
        match replayer.turn() {
            Ok(Turn::Starved) => match pieces.next() {
                Some(piece) => replayer.push(piece),
                None => replayer.finish(),
            },
            Ok(Turn::Started | Turn::Limit) => {}
            Ok(Turn::Done(done)) => {
                if let Some(out) = replayer.out() {
                    summary.take(&done, replayer.utc(done.head.time), out);
                    for trace in &out.walked {
                        // Everything that was decided, spelled out.
                        traces.bytes(format!("{trace:?}").as_bytes());
                    }
                }
                if done.number % 64 == 0 {
                    let chain = replayer.chain();
                    let (one, two) = (chain.inputs(), chain.outcomes());
                    let _written = writeln!(text, "{} {one:016x} {two:016x}", done.number);
                }
            }
            Ok(Turn::End(ending)) => {
                let _written = writeln!(text, "{ending:?}");
                break;
            }
            Err(problem) => {
                let _written = writeln!(text, "{problem}");
                break;
            }
        }
    }
    let chain = replayer.chain();
    let (digest, dump) =
        replayer.switch().map_or((0, String::new()), |switch| (switch.digest(), switch.dump()));
    let mut state = Hasher::new(1);
    state.bytes(dump.as_bytes());
    let _written = writeln!(
        text,
        "chain {:016x} {:016x}\nstate {digest:016x} dump {:016x}\nwalks {:016x}\n{:?}\n{summary:?}",
        chain.inputs(),
        chain.outcomes(),
        state.finish(),
        traces.finish(),
        replayer.verified(),
    );
    text
}

/// The file, written by the host.
static FILE: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// The text, read by the host.
static TEXT: Mutex<String> = Mutex::new(String::new());

/// Room for a file of `len` bytes: its address.
#[expect(unsafe_code, reason = "a name that the host can call; nothing unsafe is done")]
#[unsafe(no_mangle)]
pub extern "C" fn alloc(len: usize) -> usize {
    let mut file = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    file.clear();
    file.resize(len, 0);
    file.as_ptr().addr()
}

/// Replays the file: how many bytes the text has.
#[expect(unsafe_code, reason = "a name that the host can call; nothing unsafe is done")]
#[unsafe(no_mangle)]
pub extern "C" fn replay(table_seed: u64) -> usize {
    let file = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = TEXT.lock().unwrap_or_else(PoisonError::into_inner);
    *text = digests(&file, table_seed);
    text.len()
}

/// The text: its address.
#[expect(unsafe_code, reason = "a name that the host can call; nothing unsafe is done")]
#[unsafe(no_mangle)]
pub extern "C" fn result() -> usize {
    TEXT.lock().unwrap_or_else(PoisonError::into_inner).as_ptr().addr()
}
