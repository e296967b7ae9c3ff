//! diskrsync's protocol, both ends.

mod hostile;
mod pairs;
mod peers;
mod shapes;
mod support;
mod vectors;
