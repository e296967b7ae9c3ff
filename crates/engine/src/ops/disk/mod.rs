//! Back up a whole disk as one set, and make it again on another, also a larger one.
