//! Conversion of cells to and from the database's types.

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use uuid::Uuid;

use super::Error;
use super::tables::{Cell, Kind, Row, Table};
use crate::task::Timestamp;

/// Unix time of the database's epoch (2000-01-01) in microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

type Failed = Box<dyn std::error::Error + Sync + Send>;

/// A timestamp as the database encodes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct SqlTime(pub(super) Timestamp);

impl ToSql for SqlTime {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        self.0.as_micros().saturating_sub(EPOCH_MICROS).to_sql(&Type::INT8, out)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for SqlTime {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failed> {
        let micros = i64::from_sql(&Type::INT8, raw)?;
        Ok(Self(Timestamp::from_micros(micros.saturating_add(EPOCH_MICROS))))
    }

    accepts!(TIMESTAMPTZ);
}

type Parameter = Box<dyn ToSql + Sync + Send>;

/// Builds one array parameter for each column of a table.
pub(super) fn columns(table: Table, rows: &[Row]) -> Vec<Parameter> {
    let kinds = table.columns().iter().map(|(_, kind)| *kind);
    let columns = kinds.enumerate().map(|(at, kind)| {
        let cells = rows.iter().map(move |row| row.get(at).unwrap_or(&Cell::Null));
        column(kind, cells)
    });
    columns.collect()
}

/// Borrows the parameters in the form that a statement takes, with room for one more.
pub(super) fn references(parameters: &[Parameter]) -> Vec<&(dyn ToSql + Sync)> {
    let mut references: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(parameters.len() + 1);
    for parameter in parameters {
        references.push(parameter.as_ref());
    }
    references
}

fn column<'a>(kind: Kind, cells: impl Iterator<Item = &'a Cell>) -> Parameter {
    match kind {
        Kind::Uuid => Box::new(cells.map(as_uuid).collect::<Vec<Option<Uuid>>>()),
        Kind::Text | Kind::Number | Kind::Json => {
            Box::new(cells.map(|cell| as_text(cell).map(str::to_owned)).collect::<Vec<Option<String>>>())
        }
        Kind::Int => Box::new(cells.map(as_int).collect::<Vec<Option<i64>>>()),
        Kind::Time => Box::new(cells.map(as_time).collect::<Vec<Option<SqlTime>>>()),
        Kind::Flag => Box::new(cells.map(as_flag).collect::<Vec<Option<bool>>>()),
        Kind::Bytes => Box::new(cells.map(|cell| as_bytes(cell).map(<[u8]>::to_vec)).collect::<Vec<Option<Vec<u8>>>>()),
    }
}

pub(super) const fn as_uuid(cell: &Cell) -> Option<Uuid> {
    if let Cell::Uuid(id) = cell { Some(*id) } else { None }
}

pub(super) fn as_text(cell: &Cell) -> Option<&str> {
    if let Cell::Text(text) | Cell::Number(text) | Cell::Json(text) = cell { Some(text) } else { None }
}

pub(super) const fn as_int(cell: &Cell) -> Option<i64> {
    if let Cell::Int(number) = cell { Some(*number) } else { None }
}

const fn as_time(cell: &Cell) -> Option<SqlTime> {
    if let Cell::Time(time) = cell { Some(SqlTime(*time)) } else { None }
}

const fn as_flag(cell: &Cell) -> Option<bool> {
    if let Cell::Flag(flag) = cell { Some(*flag) } else { None }
}

pub(super) fn as_bytes(cell: &Cell) -> Option<&[u8]> {
    if let Cell::Bytes(bytes) = cell { Some(bytes) } else { None }
}

/// Converts one cell to a parameter.
pub(super) fn parameter(cell: &Cell) -> Parameter {
    match cell {
        Cell::Null => Box::new(None::<String>),
        Cell::Uuid(id) => Box::new(*id),
        Cell::Text(text) | Cell::Number(text) | Cell::Json(text) => Box::new(text.clone()),
        Cell::Int(number) => Box::new(*number),
        Cell::Time(time) => Box::new(SqlTime(*time)),
        Cell::Flag(flag) => Box::new(*flag),
        Cell::Bytes(bytes) => Box::new(bytes.clone()),
    }
}

/// Reads a row of a query made by [`Table::page`].
pub(super) fn read(table: Table, row: &tokio_postgres::Row) -> Result<Row, Error> {
    table.columns().iter().enumerate().map(|(at, (_, kind))| cell(*kind, row, at)).collect()
}

fn cell(kind: Kind, row: &tokio_postgres::Row, at: usize) -> Result<Cell, Error> {
    Ok(match kind {
        Kind::Uuid => row.try_get::<_, Option<Uuid>>(at)?.into(),
        Kind::Text => row.try_get::<_, Option<String>>(at)?.map_or(Cell::Null, Cell::Text),
        Kind::Number => row.try_get::<_, Option<String>>(at)?.map_or(Cell::Null, Cell::Number),
        Kind::Json => row.try_get::<_, Option<String>>(at)?.map_or(Cell::Null, Cell::Json),
        Kind::Int => row.try_get::<_, Option<i64>>(at)?.map_or(Cell::Null, Cell::Int),
        Kind::Time => row.try_get::<_, Option<SqlTime>>(at)?.map_or(Cell::Null, |time| Cell::Time(time.0)),
        Kind::Flag => row.try_get::<_, Option<bool>>(at)?.map_or(Cell::Null, Cell::Flag),
        Kind::Bytes => row.try_get::<_, Option<Vec<u8>>>(at)?.map_or(Cell::Null, Cell::Bytes),
    })
}
