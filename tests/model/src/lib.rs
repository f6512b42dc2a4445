//! The protocol of the service as state machines that a checker explores (spec 10, "The protocol, checked by machine").
//! Four small models stand beside each other, because one would be too large: lease, phase steps, stream, two writers.
//! Each guard of the protocol is a switch. `docs/protocol.md` tells the protocol and the counterexamples. Nothing here
//! is part of the product, so all of it is compiled for tests only.

#[cfg(test)]
mod check;
#[cfg(test)]
mod lease;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod phase;
#[cfg(test)]
mod server;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod writers;
