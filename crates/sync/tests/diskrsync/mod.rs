//! diskrsync's protocol, both ends.

mod hostile;
mod memory;
mod pairs;
mod peers;
mod shapes;
mod support;
mod vectors;
