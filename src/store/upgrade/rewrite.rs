//! Conversion of all rows of a table.

use redb::{Key, ReadableTable, TableDefinition, WriteTransaction};

use super::super::{Error, tables};

/// Name of a table while its rows are converted.
const CONVERTED: &str = "converted";

/// Converts every row of a table. `convert` gets the key and the old row.
pub(super) fn rewrite<K: Key + 'static>(
    transaction: &WriteTransaction,
    table: TableDefinition<'_, K, tables::Bytes>,
    mut convert: impl FnMut(&K::SelfType<'_>, &[u8]) -> Result<Vec<u8>, Error>,
) -> Result<(), Error> {
    let old = TableDefinition::<K, tables::Bytes>::new(CONVERTED);
    transaction.rename_table(table, old)?;
    {
        let (old, mut new) = (transaction.open_table(old)?, transaction.open_table(table)?);
        for row in old.iter()? {
            let (key, row) = row?;
            new.insert(key.value(), &convert(&key.value(), row.value())?[..])?;
        }
    }
    transaction.delete_table(old)?;
    Ok(())
}
