//! How the stores in SQL write down what is an enum here, and number their rows.

use crate::job::{Delivery, ErrorClass, JobId};

/// In the order of their codes.
pub(super) const CLASSES: [ErrorClass; 6] = [
    ErrorClass::Permanent,
    ErrorClass::NotStarted,
    ErrorClass::Ambiguous,
    ErrorClass::Pressure,
    ErrorClass::Crash,
    ErrorClass::Poison,
];

pub(super) const fn class_code(class: ErrorClass) -> u8 {
    match class {
        ErrorClass::Permanent => 0,
        ErrorClass::NotStarted => 1,
        ErrorClass::Ambiguous => 2,
        ErrorClass::Pressure => 3,
        ErrorClass::Crash => 4,
        ErrorClass::Poison => 5,
    }
}

pub(super) const fn delivery_code(delivery: Delivery) -> u8 {
    match delivery {
        Delivery::AtMostOnce => 0,
        Delivery::AtLeastOnce => 1,
    }
}

/// Ids count up from 1 and stay within what a database's signed integer and this can both hold.
pub(super) const fn row_id(id: JobId) -> i64 {
    id.0.cast_signed()
}

pub(super) const fn job_id(row: i64) -> JobId {
    JobId(row.cast_unsigned())
}
