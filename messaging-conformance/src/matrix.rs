//! The capability matrix. To come.
