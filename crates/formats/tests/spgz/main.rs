//! spgz: its contract, the containers of the other program, damage, power cuts, and many threads.

mod contract;
mod crash;
mod damage;
mod members;
mod model;
mod peer;
mod threads;
mod vectors;
