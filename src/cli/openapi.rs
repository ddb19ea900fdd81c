//! `dats openapi`: prints the description of the HTTP interface.

use super::exit::Failure;
use super::output::line;
use crate::http::openapi_text;

pub(super) fn run() -> Result<(), Failure> {
    line(openapi_text().trim_end())
}
