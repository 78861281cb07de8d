//! Rows of warehouses, from the process that syncs a model: NDJSON over a unix socket, with an answer
//! per line.
//!
//! Owns the socket, the handshake, the control lines and the answers. It does not start that process,
//! does not know what a sync is (the daemon's `syncs` does, and gives out the [`Pass`]es), and judges
//! nothing: rows go to a worker as the events of every other source.
//!
//! The child's first line is `{"consentd":1,"token":"<hex>","model":"NAME","sync":"<id>"}`; it is answered
//! with what the pass says, or with `{"error":"..."}` and the end. Lines that begin with `#` are control
//! lines, see [`control`]; every other line is an event of the section that it stands in. The daemon
//! writes `{"settled":[{"table":"<hash>","lines":3,"kinds":[{"stored":[3],"refused":[7]},
//! {"rejected":"too_deep"}],"runs":[[0,2],[1,1]]}]}` for lines that are settled, in their order, and
//! `{"cancel":true}` when the child should stop. Destinations are named by their stable IDs, tables by
//! their hashes: there is none where nothing was decided.
//!
//! What always holds: only the user of the daemon, or root, is listened to, and only with the token of a
//! sync that goes on, once; nothing is answered that is not stored, refused or rejected; what the lines
//! say has no say in who may get them: the source, and with it the model's rules, come from the pass;
//! nobody else can mark a deletion. A control line takes 64 KiB at most, frames that wait for their
//! answer are bounded, and a peer that says nothing holds a connection and no room.

mod answers;
mod control;
mod cutter;
mod door;
mod link;
mod pass;

pub use control::{CONTROL_BYTES_MAX, TO_MAX};
pub use door::{Door, WarehouseSource};
pub use pass::{Issued, Pass, Passes, Said};
