//! Partition images: those of partclone itself, those of a second writer in every shape of the format, and damaged ones.

mod contract;
mod damage;
mod real;
mod shapes;
mod writer;
