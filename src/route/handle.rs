//! Publish and load, nothing else.
//!
//! Readers on the data path hold a [`Reader`] and pay one relaxed load per frame while nothing
//! changes. An old value is never freed by a reader: the handle keeps every value it replaced until
//! nobody else holds it, and frees it on the publisher's thread.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

/// The one place a value is replaced while others read it.
#[derive(Debug)]
pub struct Handle<T> {
    current: Arc<ArcSwap<T>>,
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Self { current: Arc::clone(&self.current) }
    }
}

impl<T> Handle<T> {
    /// A handle on `first`.
    pub fn new(first: Arc<T>) -> Self {
        Self { current: Arc::new(ArcSwap::new(first)) }
    }

    /// Makes `next` the value that every later load sees; gives back the one it replaced, which the
    /// caller keeps until it is its only owner (see [`Handle`]).
    #[must_use = "dropping the replaced value here leaves its last drop to a reader"]
    pub fn publish(&self, next: Arc<T>) -> Arc<T> {
        self.current.swap(next)
    }

    /// The value in force now.
    #[must_use]
    pub fn load(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// A reader for one thread.
    #[must_use]
    pub fn reader(&self) -> Reader<T> {
        Reader { cache: Cache::new(Arc::clone(&self.current)) }
    }
}

/// A thread's own view: a load that touches no shared memory while nothing changed.
#[derive(Debug)]
pub struct Reader<T> {
    cache: Cache<Arc<ArcSwap<T>>, Arc<T>>,
}

impl<T> Reader<T> {
    /// The value in force now.
    pub fn load(&mut self) -> &Arc<T> {
        self.cache.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_what_was_published_and_does_not_own_it_alone() {
        let handle = Handle::new(Arc::new(1));
        let mut reader = handle.reader();
        assert_eq!(**reader.load(), 1);
        let old = handle.publish(Arc::new(2));
        assert_eq!(**reader.load(), 2);
        assert_eq!(Arc::strong_count(&old), 1, "the publisher frees what it replaced");
    }
}
