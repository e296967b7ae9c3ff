//! Partclone's checksums: CRC-32 without the final inversion, and what version 0001 made of it.
