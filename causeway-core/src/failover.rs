//! Deciding who should be primary, and writing down how that will be brought about.

pub mod consent;
pub mod decision;
pub mod loss;
pub mod observation;
pub mod plan;
pub mod progress;
pub mod promotion;
pub mod replacement;
pub mod statement;
