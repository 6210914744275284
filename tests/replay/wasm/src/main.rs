//! Digests of recordings in whatever build this is: `replay-wasm SEED FILE..` prints what `run.mjs`
//! prints in WebAssembly.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let seed = args.next().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for file in args {
        let text = replay_wasm::digests(&std::fs::read(file)?, seed);
        write!(io::stdout().lock(), "{text}\0")?;
    }
    Ok(())
}
