//! Names for types that evolve.

/// A type whose values travel under a name of the application's, such as `order.placed`.
///
/// The name is what the other side goes by, in whatever language it is written: it never comes from a Rust path, so that a
/// type can be renamed or moved while messages of it wait.
pub trait Named {
    /// The name, at most 255 bytes.
    const TYPE: &'static str;
}

impl<T: Named + ?Sized> Named for &T {
    const TYPE: &'static str = T::TYPE;
}
