//! Parts of a broker adapter that are the same for every broker.
