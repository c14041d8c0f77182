//! Failover: the decision of each node, and the plan of an operator's promotion.

pub mod collation;
pub mod consent;
pub mod decision;
pub mod loss;
pub mod loss_statement;
pub mod observation;
pub mod plan;
pub mod plan_state;
pub mod promotion;
pub mod replacement;
