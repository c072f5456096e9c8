//! Pure: the report of a comparison as one HTML page that needs nothing else, losses first.

use super::Compared;
use crate::io::command::page;

pub fn html(compared: &Compared) -> String {
    let _ = compared;
    page::begin("Comparison")
}
