//! Classic BPF: what libpcap compiles filter expressions to, checked once and interpreted.
//!
//! `hopctl` compiles, this runs, so the daemon needs no libpcap. A program is refused unless every
//! jump goes forward and stays inside, memory slots exist, no constant divides by zero, and the
//! last instruction returns: so each run takes at most as many steps as there are instructions, and
//! never panics (SEC-15). Results equal libpcap's `bpf_filter` (tested against it). Background:
//! McCanne and Jacobson, "The BSD Packet Filter", 1993; instruction codes as in
//! `linux/bpf_common.h`.

use serde::{Deserialize, Serialize};
use stack::Frame;

/// Instructions a program has at most, as in the kernel (BPF_MAXINSNS).
pub const INSTRUCTIONS_MAX: usize = 4_096;

/// One instruction as libpcap and the kernel lay it out (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if the test holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Why a program was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// No instructions, or more than the limit.
    #[error("a filter has 1 to {INSTRUCTIONS_MAX} instructions, this one has {0}")]
    Length(usize),
    /// An instruction that is not understood or reaches outside.
    #[error("filter instruction {at}: {why}")]
    Instruction {
        /// Which, from 0.
        at: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A checked program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    steps: Vec<Step>,
}

/// A frame in two parts: its window, as received or rendered, and the rest as received.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    /// The first bytes.
    pub head: &'a [u8],
    /// What follows them.
    pub tail: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    LoadAt(Size, u32),
    LoadAtIndex(Size, u32),
    Load(Value),
    LoadIndex(Value),
    LoadIndexHeader(u32),
    Store(usize),
    StoreIndex(usize),
    Compute(Operation, Operand),
    Negate,
    Jump(usize),
    Branch(Test, Operand, usize, usize),
    Return(u32),
    ReturnAccumulator,
    IndexFromAccumulator,
    AccumulatorFromIndex,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Byte,
    Half,
    Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Constant(u32),
    Memory(usize),
    Length,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    Constant(u32),
    Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Or,
    And,
    Xor,
    ShiftLeft,
    ShiftRight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

const MEMORY: usize = 16;

impl Program {
    /// Checks a program.
    ///
    /// # Errors
    /// See [`ProgramError`]; the instruction is named.
    pub fn new(instructions: &[Instruction]) -> Result<Self, ProgramError> {
        let len = instructions.len();
        if len == 0 || len > INSTRUCTIONS_MAX {
            return Err(ProgramError::Length(len));
        }
        let mut steps = Vec::with_capacity(len);
        for (at, instruction) in instructions.iter().enumerate() {
            let step = decode(*instruction, at, len)
                .map_err(|why| ProgramError::Instruction { at, why })?;
            steps.push(step);
        }
        if !matches!(steps.last(), Some(Step::Return(_) | Step::ReturnAccumulator)) {
            return Err(ProgramError::Instruction { at: len - 1, why: "the last must return" });
        }
        Ok(Self { steps })
    }

    /// Whether the program accepts a frame.
    #[must_use]
    pub fn accepts(&self, bytes: Bytes<'_>) -> bool {
        self.run(bytes) != 0
    }

    /// What the program returns for a frame: 0 to reject it. Loads beyond the frame reject.
    #[must_use]
    pub fn run(&self, bytes: Bytes<'_>) -> u32 {
        let mut machine = Machine { accumulator: 0, index: 0, memory: [0; MEMORY] };
        let mut at = 0;
        // Each turn moves forward, so there are at most as many as instructions.
        while let Some(step) = self.steps.get(at) {
            match machine.step(*step, bytes) {
                Next::Skip(skipped) => at += 1 + skipped,
                Next::Done(value) => return value,
            }
        }
        0
    }
}

struct Machine {
    accumulator: u32,
    index: u32,
    memory: [u32; MEMORY],
}

enum Next {
    Skip(usize),
    Done(u32),
}

impl Machine {
    fn step(&mut self, step: Step, bytes: Bytes<'_>) -> Next {
        match step {
            Step::LoadAt(size, at) => match bytes.load(u64::from(at), size) {
                Some(value) => self.accumulator = value,
                None => return Next::Done(0),
            },
            Step::LoadAtIndex(size, at) => {
                match bytes.load(u64::from(at) + u64::from(self.index), size) {
                    Some(value) => self.accumulator = value,
                    None => return Next::Done(0),
                }
            }
            Step::Load(value) => self.accumulator = self.value(value, bytes),
            Step::LoadIndex(value) => self.index = self.value(value, bytes),
            Step::LoadIndexHeader(at) => match bytes.load(u64::from(at), Size::Byte) {
                Some(value) => self.index = (value & 0xf) << 2,
                None => return Next::Done(0),
            },
            Step::Store(slot) => self.store(slot, self.accumulator),
            Step::StoreIndex(slot) => self.store(slot, self.index),
            Step::Compute(operation, operand) => {
                match compute(operation, self.accumulator, self.operand(operand)) {
                    Some(value) => self.accumulator = value,
                    None => return Next::Done(0),
                }
            }
            Step::Negate => self.accumulator = self.accumulator.wrapping_neg(),
            Step::Jump(skipped) => return Next::Skip(skipped),
            Step::Branch(test, operand, then, otherwise) => {
                let holds = holds(test, self.accumulator, self.operand(operand));
                return Next::Skip(if holds { then } else { otherwise });
            }
            Step::Return(value) => return Next::Done(value),
            Step::ReturnAccumulator => return Next::Done(self.accumulator),
            Step::IndexFromAccumulator => self.index = self.accumulator,
            Step::AccumulatorFromIndex => self.accumulator = self.index,
        }
        Next::Skip(0)
    }

    fn operand(&self, operand: Operand) -> u32 {
        match operand {
            Operand::Constant(value) => value,
            Operand::Index => self.index,
        }
    }

    fn value(&self, value: Value, bytes: Bytes<'_>) -> u32 {
        match value {
            Value::Constant(value) => value,
            Value::Memory(slot) => self.memory.get(slot).copied().unwrap_or(0),
            Value::Length => u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        }
    }

    fn store(&mut self, slot: usize, value: u32) {
        if let Some(place) = self.memory.get_mut(slot) {
            *place = value;
        }
    }
}

/// `None` for a division by zero, which rejects the frame.
fn compute(operation: Operation, a: u32, b: u32) -> Option<u32> {
    Some(match operation {
        Operation::Add => a.wrapping_add(b),
        Operation::Sub => a.wrapping_sub(b),
        Operation::Mul => a.wrapping_mul(b),
        Operation::Div => a.checked_div(b)?,
        Operation::Mod => a.checked_rem(b)?,
        Operation::Or => a | b,
        Operation::And => a & b,
        Operation::Xor => a ^ b,
        Operation::ShiftLeft => a.checked_shl(b).unwrap_or(0),
        Operation::ShiftRight => a.checked_shr(b).unwrap_or(0),
    })
}

fn holds(test: Test, a: u32, b: u32) -> bool {
    match test {
        Test::Equal => a == b,
        Test::Greater => a > b,
        Test::GreaterOrEqual => a >= b,
        Test::AnyBit => a & b != 0,
    }
}

impl<'a> Bytes<'a> {
    /// A frame in one part.
    #[must_use]
    pub fn whole(bytes: &'a [u8]) -> Self {
        Self { head: bytes, tail: &[] }
    }

    /// A frame's header window, and the rest.
    #[must_use]
    pub fn split(bytes: &'a [u8]) -> Self {
        let (head, tail) = bytes.split_at(bytes.len().min(Frame::WINDOW));
        Self { head, tail }
    }

    /// Bytes of both.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn byte(&self, at: usize) -> Option<u8> {
        match self.head.get(at) {
            Some(byte) => Some(*byte),
            None => self.tail.get(at - self.head.len()).copied(),
        }
    }

    /// Big-endian, as everything on a wire.
    fn load(&self, at: u64, size: Size) -> Option<u32> {
        let at = usize::try_from(at).ok()?;
        // Nearly all loads are of headers.
        let head = self.head.get(at..).unwrap_or(&[]);
        match (size, head) {
            (Size::Byte, [a, ..]) => return Some(u32::from(*a)),
            (Size::Half, [a, b, ..]) => return Some(u32::from(u16::from_be_bytes([*a, *b]))),
            (Size::Word, [a, b, c, d, ..]) => return Some(u32::from_be_bytes([*a, *b, *c, *d])),
            (Size::Byte | Size::Half | Size::Word, _) => {}
        }
        let width = match size {
            Size::Byte => 1,
            Size::Half => 2,
            Size::Word => 4,
        };
        if at.checked_add(width)? > self.len() {
            return None;
        }
        let mut value = 0;
        for offset in 0..width {
            value = value << 8 | u32::from(self.byte(at + offset)?);
        }
        Some(value)
    }
}

// The low three bits of a code are its class; the others depend on it.
const CLASS: u16 = 0x07;
const LD: u16 = 0x00;
const LDX: u16 = 0x01;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const ALU: u16 = 0x04;
const JMP: u16 = 0x05;
const RET: u16 = 0x06;
/// Bit of ALU and JMP codes: the operand is X, not k.
const FROM_INDEX: u16 = 0x08;

fn decode(instruction: Instruction, at: usize, len: usize) -> Result<Step, &'static str> {
    let Instruction { code, k, .. } = instruction;
    match code & CLASS {
        LD => load(code, k),
        LDX => load_index(code, k),
        ST if code == ST => Ok(Step::Store(slot(k)?)),
        STX if code == STX => Ok(Step::StoreIndex(slot(k)?)),
        ALU => arithmetic(code, k),
        JMP => jump(instruction, at, len),
        RET => match code {
            0x06 => Ok(Step::Return(k)),
            0x16 => Ok(Step::ReturnAccumulator),
            _ => Err("unknown return"),
        },
        _ => match code {
            0x07 => Ok(Step::IndexFromAccumulator),
            0x87 => Ok(Step::AccumulatorFromIndex),
            _ => Err("unknown code"),
        },
    }
}

fn load(code: u16, k: u32) -> Result<Step, &'static str> {
    Ok(match code {
        0x00 => Step::Load(Value::Constant(k)),
        0x20 => Step::LoadAt(Size::Word, k),
        0x28 => Step::LoadAt(Size::Half, k),
        0x30 => Step::LoadAt(Size::Byte, k),
        0x40 => Step::LoadAtIndex(Size::Word, k),
        0x48 => Step::LoadAtIndex(Size::Half, k),
        0x50 => Step::LoadAtIndex(Size::Byte, k),
        0x60 => Step::Load(Value::Memory(slot(k)?)),
        0x80 => Step::Load(Value::Length),
        _ => return Err("unknown load"),
    })
}

fn load_index(code: u16, k: u32) -> Result<Step, &'static str> {
    Ok(match code {
        0x01 => Step::LoadIndex(Value::Constant(k)),
        0x61 => Step::LoadIndex(Value::Memory(slot(k)?)),
        0x81 => Step::LoadIndex(Value::Length),
        0xb1 => Step::LoadIndexHeader(k),
        _ => return Err("unknown load of X"),
    })
}

fn arithmetic(code: u16, k: u32) -> Result<Step, &'static str> {
    let operation = match code & 0xf0 {
        0x00 => Operation::Add,
        0x10 => Operation::Sub,
        0x20 => Operation::Mul,
        0x30 => Operation::Div,
        0x40 => Operation::Or,
        0x50 => Operation::And,
        0x60 => Operation::ShiftLeft,
        0x70 => Operation::ShiftRight,
        0x80 => return Ok(Step::Negate),
        0x90 => Operation::Mod,
        0xa0 => Operation::Xor,
        _ => return Err("unknown arithmetic"),
    };
    let operand = operand(code, k);
    if matches!(operation, Operation::Div | Operation::Mod) && operand == Operand::Constant(0) {
        return Err("division by zero");
    }
    Ok(Step::Compute(operation, operand))
}

const ASTRAY: &str = "a jump backwards or beyond the end (protochain compiles to such: use proto)";

fn jump(instruction: Instruction, at: usize, len: usize) -> Result<Step, &'static str> {
    let Instruction { code, jt, jf, k } = instruction;
    let within = |skipped: usize| {
        let target = at.checked_add(1).and_then(|next| next.checked_add(skipped));
        match target {
            Some(target) if target < len => Ok(skipped),
            _ => Err(ASTRAY),
        }
    };
    let test = match code & 0xf0 {
        0x00 => {
            let skipped = usize::try_from(k).map_err(|_too_far| ASTRAY)?;
            return Ok(Step::Jump(within(skipped)?));
        }
        0x10 => Test::Equal,
        0x20 => Test::Greater,
        0x30 => Test::GreaterOrEqual,
        0x40 => Test::AnyBit,
        _ => return Err("unknown jump"),
    };
    let (then, otherwise) = (within(usize::from(jt))?, within(usize::from(jf))?);
    Ok(Step::Branch(test, operand(code, k), then, otherwise))
}

fn operand(code: u16, k: u32) -> Operand {
    if code & FROM_INDEX == 0 { Operand::Constant(k) } else { Operand::Index }
}

fn slot(k: u32) -> Result<usize, &'static str> {
    match usize::try_from(k) {
        Ok(slot) if slot < MEMORY => Ok(slot),
        _ => Err("there are 16 memory slots"),
    }
}

#[cfg(test)]
mod tests;
