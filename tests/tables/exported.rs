//! What another build is given: the rows of each table are desired state, or come over.

use stack::table::Table;
use stack::{Input, Switch};

use crate::restored::{changed, fresh, input};

/// Whether the rows of a table follow from desired state and the build, so that nothing of them is
/// in an export. A new table does not compile until it says so or is carried over.
fn is_desired(table: Table) -> bool {
    match table {
        Table::Limits | Table::Node | Table::Route => true,
        Table::State
        | Table::Gone
        | Table::Port
        | Table::Service
        | Table::Affinity
        | Table::Connection4
        | Table::Connection6
        | Table::Datagram => false,
    }
}

/// The lines of a dump that are rows of a table, without their slots: those follow from a history.
fn rows(switch: &Switch, table: Table) -> Vec<String> {
    let of = format!("{} ", table.name());
    let dump = switch.dump();
    let lines = dump.lines().filter_map(|line| line.strip_prefix(&of)?.split_once(':'));
    let mut rows: Vec<String> = lines.map(|(_slot, words)| words.to_owned()).collect();
    rows.sort();
    rows
}

#[test]
fn the_rows_of_every_table_come_over() {
    for table in Table::ALL {
        let one = changed(*table);
        let mut other = fresh(one.config(), *one.tables().limits());
        assert_eq!(
            rows(&one, *table) == rows(&other, *table),
            is_desired(*table),
            "{table:?}: what configuration alone makes of it"
        );
        input(&mut other, Input::Import(one.export()));
        for each in Table::ALL {
            // Time goes on with the import itself.
            if *each != Table::State {
                assert_eq!(rows(&one, *each), rows(&other, *each), "{table:?}: {each:?}");
            }
        }
        let counted = |switch: &Switch| {
            let tables = switch.tables();
            (tables.walks(), tables.epoch(), tables.complete())
        };
        assert_eq!(counted(&one), counted(&other), "{table:?}");
        assert_eq!(one.config(), other.config(), "{table:?}");
        // What follows from a seed is the same as before.
        assert_eq!(choice(&one), choice(&other), "{table:?}");
    }
}

/// The seed of choices, as it stands in the row of the state.
fn choice(switch: &Switch) -> String {
    let state = rows(switch, Table::State);
    state.concat().split(' ').next_back().unwrap().to_owned()
}
