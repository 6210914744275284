//! What is not as with the kernel and kube-proxy: the table in ARCHITECTURE.md is generated from
//! the list that the suite in namespaces holds what it sees against.

use std::fmt::Write as _;

use crate::generated::up_to_date;

#[path = "../netns/oracle/differences.rs"]
mod list;

fn table() -> String {
    let mut text = String::from("\n| what is asked | with the kernel | with Hopscope | why |\n");
    text.push_str("| --- | --- | --- | --- |\n");
    for difference in list::DIFFERENCES {
        let asked = difference.asked.iter().map(|asked| format!("`{asked}`"));
        let asked = asked.collect::<Vec<_>>().join("<br>");
        let (kernel, hopscope) = (difference.kernel, difference.hopscope);
        writeln!(text, "| {asked} | `{kernel}` | `{hopscope}` | {} |", difference.reason)
            .expect("a string takes text");
    }
    text
}

#[test]
fn the_table_is_up_to_date() {
    let marks = ["<!-- differences:begin -->", "<!-- differences:end -->"];
    up_to_date("ARCHITECTURE.md", marks, &table());
}
