//! The examples live beside this file, one folder or file each; there is nothing in the library itself.
