//! CBOR as Zephyr's server reads and writes it (`mgmt/mcumgr/util/zcbor_bulk.c`): unknown keys are skipped, a known key
//! of the wrong type refuses the whole request, and answers are maps and lists of indefinite length.

use ciborium::Value;
use ciborium_ll::{Encoder, Header, simple};

use super::SmpError;

/// A request's payload.
#[derive(Debug, Clone, Default)]
pub(in crate::sim) struct Body(Vec<(Value, Value)>);

impl Body {
    /// Reads a map; what follows it is not looked at.
    pub(in crate::sim) fn read(payload: &[u8]) -> Result<Self, SmpError> {
        match ciborium::from_reader(payload) {
            Ok(Value::Map(map)) => Ok(Self(map)),
            _ => Err(SmpError::Invalid),
        }
    }

    fn get<T>(&self, key: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>, SmpError> {
        let mut values =
            self.0.iter().filter(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value);
        let (first, second) = (values.next(), values.next());
        match first {
            // A key that comes twice is refused as well.
            Some(value) if second.is_none() => read(value).map(Some).ok_or(SmpError::Invalid),
            Some(_) => Err(SmpError::Invalid),
            None => Ok(None),
        }
    }

    pub(in crate::sim) fn text(&self, key: &str) -> Result<Option<String>, SmpError> {
        self.get(key, |value| value.as_text().map(str::to_owned))
    }

    pub(in crate::sim) fn bytes(&self, key: &str) -> Result<Option<Vec<u8>>, SmpError> {
        self.get(key, |value| value.as_bytes().cloned())
    }

    pub(in crate::sim) fn bool(&self, key: &str) -> Result<Option<bool>, SmpError> {
        self.get(key, Value::as_bool)
    }

    pub(in crate::sim) fn u64(&self, key: &str) -> Result<Option<u64>, SmpError> {
        self.get(key, |value| value.as_integer().and_then(|number| u64::try_from(number).ok()))
    }

    /// A list, as far as `read` knows what to do with its items.
    pub(in crate::sim) fn list<T>(
        &self,
        key: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, SmpError> {
        self.get(key, |value| Some(value.as_array()?.iter().map_while(&read).collect()))
    }

    pub(in crate::sim) fn u32(&self, key: &str) -> Result<Option<u32>, SmpError> {
        self.get(key, |value| value.as_integer().and_then(|number| u32::try_from(number).ok()))
    }
}

/// An answer's payload: one map, still open.
#[derive(Debug)]
pub(in crate::sim) struct Answer(Vec<u8>);

impl Default for Answer {
    fn default() -> Self {
        Self::new()
    }
}

impl Answer {
    pub(in crate::sim) fn new() -> Self {
        // Room for most answers.
        let mut answer = Self(Vec::with_capacity(64));
        answer.push(Header::Map(None));
        answer
    }

    fn encoder(&mut self) -> Encoder<&mut Vec<u8>> {
        Encoder::from(&mut self.0)
    }

    fn push(&mut self, header: Header) {
        // Writing to memory cannot fail.
        let _ = self.encoder().push(header);
    }

    fn key(&mut self, key: &str) {
        let _ = self.encoder().text(key, None);
    }

    pub(in crate::sim) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        let _ = self.encoder().text(value, None);
    }

    pub(in crate::sim) fn bytes(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        let _ = self.encoder().bytes(value, None);
    }

    pub(in crate::sim) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.push(Header::Positive(value));
    }

    pub(in crate::sim) fn signed(&mut self, key: &str, value: i32) {
        self.key(key);
        match u64::try_from(value) {
            Ok(number) => self.push(Header::Positive(number)),
            // RFC 8949, 3.1: the argument of a negative integer is -1 minus its value.
            Err(_) => self.push(Header::Negative(u64::from((!value).unsigned_abs()))),
        }
    }

    /// An entry of a list.
    pub(in crate::sim) fn item_number(&mut self, value: u64) {
        self.push(Header::Positive(value));
    }

    /// An entry of a list.
    pub(in crate::sim) fn item_text(&mut self, value: &str) {
        let _ = self.encoder().text(value, None);
    }

    pub(in crate::sim) fn bool(&mut self, key: &str, value: bool) {
        self.key(key);
        self.push(Header::Simple(if value { simple::TRUE } else { simple::FALSE }));
    }

    /// Opens a list under `key`; [`Self::close`] closes it.
    pub(in crate::sim) fn list(&mut self, key: &str) {
        self.key(key);
        self.push(Header::Array(None));
    }

    /// Opens a map as an entry of a list; [`Self::close`] closes it.
    pub(in crate::sim) fn entry(&mut self) {
        self.push(Header::Map(None));
    }

    /// Opens a map under `key`; [`Self::close`] closes it.
    pub(in crate::sim) fn map(&mut self, key: &str) {
        self.key(key);
        self.push(Header::Map(None));
    }

    /// Closes the innermost list or map.
    pub(in crate::sim) fn close(&mut self) {
        self.push(Header::Break);
    }

    /// The whole payload.
    pub(in crate::sim) fn finish(mut self) -> Vec<u8> {
        self.close();
        self.0
    }
}
