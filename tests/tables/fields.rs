//! An export written by hand, as `stack/src/table/form.rs` says: for state to which no frame leads.

/// An export of these fields.
pub(crate) fn export(fields: &[Vec<u8>]) -> Vec<u8> {
    [&b"hopxport"[..], &1_u32.to_le_bytes(), &fields.concat()].concat()
}

/// A number.
pub(crate) fn number(name: &str, value: u64) -> Vec<u8> {
    field(name, 0, &value.to_le_bytes())
}

/// Fields within a field.
pub(crate) fn record(name: &str, fields: &[u8]) -> Vec<u8> {
    field(name, 1, fields)
}

/// Records of a list.
pub(crate) fn list(name: &str, records: &[Vec<u8>]) -> Vec<u8> {
    field(name, 2, &records.iter().flat_map(|record| sized(record)).collect::<Vec<u8>>())
}

fn field(name: &str, kind: u8, value: &[u8]) -> Vec<u8> {
    let len = u8::try_from(name.len()).unwrap();
    [&[len], name.as_bytes(), &[kind], &sized(value)].concat()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat()
}
