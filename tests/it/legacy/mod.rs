//! Files of the old program: what comes in goes out with the same values,
//! and no damage does more than harm the file that has it.

mod damage;
mod folder;
mod values;
