//! Bluetooth above the radio: finding, connecting, messages, trouble. In virtual time, on a radio that exists in memory.

mod air;
mod connect;
mod find;
mod messages;
mod trouble;
