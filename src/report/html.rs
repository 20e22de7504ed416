//! placeholder
use super::model::Report;
/// HTML.
#[must_use]
pub fn to_html(_report: &Report) -> String {
    String::new()
}
