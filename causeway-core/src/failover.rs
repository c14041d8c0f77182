//! Deciding who should be primary, and writing down how that will be brought about.

pub mod consent;
pub mod decision;
pub mod loss;
pub mod loss_statement;
pub mod observation;
pub mod plan;
pub mod plan_state;
pub mod promotion;
pub mod replacement;
