//! Partition tables: what other tools wrote and read, damage, other sizes, power cuts.

mod adapt;
mod crash;
mod damage;
mod peer;
mod support;
