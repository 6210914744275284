//! State.
/// Effects.
#[derive(Debug, Default)]
pub struct Effects;
/// Tables.
#[derive(Debug)]
pub struct Tables;
