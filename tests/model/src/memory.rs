//! Remembers what the product's pure code gave, because the checker asks for the same again and again.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Mutex;

pub(crate) struct Memory<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K, V> fmt::Debug for Memory<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Memory")
    }
}

impl<K: Eq + Hash, V: Clone> Memory<K, V> {
    /// The value of the key, which is computed when it is asked for the first time.
    pub(crate) fn get(&self, key: K, compute: impl FnOnce(&K) -> V) -> V {
        if let Some(known) = self.0.lock().expect("no other thread failed").get(&key) {
            return known.clone();
        }
        let value = compute(&key);
        self.0.lock().expect("no other thread failed").insert(key, value.clone());
        value
    }
}
