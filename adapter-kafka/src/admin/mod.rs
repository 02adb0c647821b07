//! Planning, inspecting and repairing.

mod dead;
mod declare;
mod inspect;
mod reader;
mod repair;
mod standing;
