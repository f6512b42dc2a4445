//! The fault kit: what is broken, in which way, is said by each module; what must hold afterwards is one thing,
//! `support::end`. See `docs/reliability.md` for the whole matrix.

mod clock;
mod clocks_of_members;
mod commands;
mod disk;
mod elections;
mod network;
mod outage;
mod points;
mod poison;
mod round;
mod searching;
mod silence;
mod starts;
