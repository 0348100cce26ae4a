//! The part of a document that a survey writes.

use anyhow::{Result, ensure};

/// Around it. Both stand on lines of their own and stay where they are.
const BEGIN: &str = "<!-- survey: what follows is written by `cargo xtask compare` -->\n";
const END: &str = "<!-- survey: end -->\n";

/// `document` with `text` between its markers, and all else as it was.
///
/// # Errors
/// If it has not just one of each, in this order.
pub(super) fn replace(document: &str, text: &str) -> Result<String> {
    for marker in [BEGIN, END] {
        let found = document.matches(marker).count();
        ensure!(found == 1, "`{}` is there {found} times instead of once", marker.trim());
    }
    let (before, rest) = document.split_once(BEGIN).unwrap_or_default();
    let after = rest.split_once(END).map(|(_, after)| after);
    ensure!(after.is_some(), "the end of what a survey writes comes before its beginning");
    Ok(format!("{before}{BEGIN}\n{}\n\n{END}{}", text.trim(), after.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced_however_often() {
        let document = format!("# A\n\nkept\n\n{BEGIN}old\n{END}\n## B\nkept too\n");
        let once = replace(&document, "\nnew\n").unwrap();
        assert_eq!(once, format!("# A\n\nkept\n\n{BEGIN}\nnew\n\n{END}\n## B\nkept too\n"));
        assert_eq!(replace(&once, "new").unwrap(), once);
    }

    #[test]
    fn a_document_without_its_markers_is_left_alone() {
        for document in
            [String::new(), BEGIN.to_owned(), format!("{END}{BEGIN}"), format!("{BEGIN}{END}{BEGIN}{END}")]
        {
            assert!(replace(&document, "new").is_err(), "{document}");
        }
    }
}
