//! What workers and deliveries load: a routing table and the running destinations it is about.

use std::sync::Arc;

use crate::destination::{Outlet, OutletId};
use crate::route::{DestinationId, RoutingTable};

/// A routing table together with the outlet of each of its destinations; published whole.
#[derive(Debug)]
pub struct Plan {
    table: RoutingTable,
    outlets: Vec<Arc<Outlet>>,
}

impl Plan {
    /// Pairs destination *i* of `table` with `outlets[i]`.
    ///
    /// # Panics
    /// If the two do not have the same length, which is a mistake of the caller.
    #[must_use]
    pub fn new(table: RoutingTable, outlets: Vec<Arc<Outlet>>) -> Self {
        assert_eq!(table.destinations().len(), outlets.len(), "one outlet per destination");
        Self { table, outlets }
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &RoutingTable {
        &self.table
    }

    /// The outlets; the position is the [`DestinationId`].
    #[must_use]
    pub fn outlets(&self) -> &[Arc<Outlet>] {
        &self.outlets
    }

    /// The number that the running destination `id` has in the table.
    #[must_use]
    pub fn destination(&self, id: OutletId) -> Option<DestinationId> {
        let position = self.outlets.iter().position(|outlet| outlet.id() == id)?;
        u16::try_from(position).ok().map(DestinationId)
    }
}
