//! Filter expressions: libpcap compiles them here, the daemon interprets the result.

use pcap::{Capture, Linktype};

use crate::capture::cbpf::Instruction;

/// Compiles an expression for Ethernet frames. The empty one has no program: it keeps everything.
///
/// # Errors
/// libpcap's message, with the expression.
pub fn compile(expression: &str) -> Result<Vec<Instruction>, String> {
    let failed = |error: pcap::Error| {
        let told = error.to_string();
        // The crate puts its own words before libpcap's.
        let reason = told.strip_prefix("libpcap error: ").unwrap_or(&told);
        format!("the filter \"{expression}\" does not compile: {reason} (see pcap-filter(7))")
    };
    let capture = Capture::dead(Linktype::ETHERNET).map_err(failed)?;
    let program = capture.compile(expression, true).map_err(failed)?;
    let instructions = program.get_instructions().iter().map(|instruction| {
        // The crate shows an instruction's fields by its Display only: "code jt jf k".
        let text = instruction.to_string();
        let mut numbers = text.split(' ').map(str::parse::<u32>);
        let mut next = || numbers.next().and_then(Result::ok);
        Some(Instruction {
            code: u16::try_from(next()?).ok()?,
            jt: u8::try_from(next()?).ok()?,
            jf: u8::try_from(next()?).ok()?,
            k: next()?,
        })
    });
    instructions
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| format!("the filter \"{expression}\": libpcap's program is not understood"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_compile_or_say_why() {
        assert!(compile("tcp port 80").unwrap().len() > 3);
        let wrong = compile("tcp prot 80").unwrap_err();
        assert!(wrong.contains("\"tcp prot 80\"") && wrong.contains("syntax error"), "{wrong}");
    }
}
