//! What was written to a slot, held once for all devices of a fleet that were given the same. Bytes only: what they mean is
//! not known here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::firmware::ImageHash;
use super::flash::Checked;

/// Different contents that a fleet shares at most; devices with further ones keep them for themselves.
const MOST: usize = 64;

/// Where the devices of a fleet find what others were given.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf(Arc<Mutex<Vec<Weak<Shared>>>>);

impl Shelf {
    /// A content that begins with `bytes`: one that is there, or a new one. `None` where there are too many.
    fn begin(&self, bytes: &[u8]) -> Option<Arc<Shared>> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.retain(|shared| shared.strong_count() > 0);
        if let Some(shared) = shelf.iter().filter_map(Weak::upgrade).find(|shared| shared.goes_on(0, bytes)) {
            return Some(shared);
        }
        if shelf.len() >= MOST {
            return None;
        }
        let shared = Arc::new(Shared(Mutex::new(Held { bytes: bytes.to_vec(), checked: None })));
        shelf.push(Arc::downgrade(&shared));
        Some(shared)
    }
}

/// Bytes that only ever grow: each device holds the beginning of them that it was given.
#[derive(Debug)]
struct Shared(Mutex<Held>);

#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    /// What boots make of the first so many bytes, by this hash.
    checked: Option<(usize, ImageHash, Checked)>,
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        // Bytes are added whole or not at all.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `bytes` follow the first `len`. Where nobody knows yet what follows, they do from now on.
    fn goes_on(&self, len: usize, bytes: &[u8]) -> bool {
        let mut held = self.held();
        let known = held.bytes.get(len..).unwrap_or_default();
        let common = known.len().min(bytes.len());
        if known.get(..common) != bytes.get(..common) {
            return false;
        }
        held.bytes.extend_from_slice(bytes.get(common..).unwrap_or_default());
        true
    }
}

/// What was written to a slot, from its start on.
#[derive(Debug, Clone)]
pub(super) struct Content {
    /// Bytes of this slot.
    len: usize,
    bytes: Bytes,
}

#[derive(Debug, Clone)]
enum Bytes {
    /// Nobody else has them.
    Own(Vec<u8>),
    /// They begin what others have, too.
    Shared(Arc<Shared>),
}

impl Default for Content {
    fn default() -> Self {
        Self { len: 0, bytes: Bytes::Own(Vec::new()) }
    }
}

impl Content {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lets the bytes be read. Nothing may be written to any slot meanwhile.
    pub(super) fn read<T>(&self, read: impl FnOnce(&[u8]) -> T) -> T {
        match &self.bytes {
            Bytes::Own(bytes) => read(bytes),
            Bytes::Shared(shared) => read(shared.held().bytes.get(..self.len).unwrap_or_default()),
        }
    }

    /// Writes at the end. Nothing is copied where another device of the fleet was given the same.
    pub(super) fn append(&mut self, bytes: &[u8], shelf: &Shelf) {
        if bytes.is_empty() {
            return;
        }
        let shared = match &self.bytes {
            Bytes::Shared(shared) => shared.goes_on(self.len, bytes),
            Bytes::Own(_) if self.len == 0 => match shelf.begin(bytes) {
                Some(shared) => {
                    self.bytes = Bytes::Shared(shared);
                    true
                }
                None => false,
            },
            Bytes::Own(_) => false,
        };
        if !shared {
            let mut own = match std::mem::replace(&mut self.bytes, Bytes::Own(Vec::new())) {
                Bytes::Own(own) => own,
                Bytes::Shared(shared) => shared.held().bytes.get(..self.len).unwrap_or_default().to_vec(),
            };
            own.extend_from_slice(bytes);
            self.bytes = Bytes::Own(own);
        }
        self.len += bytes.len();
    }

    /// What a boot makes of it, by this hash: found out once, however many devices have it.
    pub(super) fn check(&self, hash: ImageHash, check: impl FnOnce(&[u8]) -> Checked) -> Checked {
        match &self.bytes {
            Bytes::Own(bytes) => check(bytes),
            Bytes::Shared(shared) => {
                let mut held = shared.held();
                match held.checked {
                    Some((len, by, checked)) if (len, by) == (self.len, hash) => checked,
                    _ => {
                        let checked = check(held.bytes.get(..self.len).unwrap_or_default());
                        held.checked = Some((self.len, hash, checked));
                        checked
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(shelf: &Shelf, pieces: &[&[u8]]) -> Content {
        let mut content = Content::default();
        pieces.iter().for_each(|piece| content.append(piece, shelf));
        content
    }

    fn all(content: &Content) -> Vec<u8> {
        content.read(<[u8]>::to_vec)
    }

    /// What the contents hold in all, each shared one counted once.
    fn held(contents: &[Content]) -> usize {
        let mut shared: Vec<_> = Vec::new();
        let mut bytes = 0;
        for content in contents {
            match &content.bytes {
                Bytes::Own(own) => bytes += own.len(),
                Bytes::Shared(one) if shared.iter().any(|other| Arc::ptr_eq(other, one)) => {}
                Bytes::Shared(one) => {
                    bytes += one.held().bytes.len();
                    shared.push(Arc::clone(one));
                }
            }
        }
        bytes
    }

    #[test]
    fn a_fleet_holds_once_what_all_of_its_devices_were_given_in_whatever_pieces() {
        let shelf = Shelf::default();
        let image: Vec<u8> = (0..10_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let contents: Vec<Content> = (0..1000)
            .map(|device| written(&shelf, &image.chunks(300 + device % 7).collect::<Vec<_>>()))
            .collect();
        assert!(contents.iter().all(|content| all(content) == image));
        assert_eq!(held(&contents), image.len());
    }

    #[test]
    fn who_is_given_something_else_has_it_for_himself_and_nobody_else_sees_it() {
        let shelf = Shelf::default();
        let mut contents =
            vec![written(&shelf, &[b"one", b"two", b"three"]), written(&shelf, &[b"one", b"tw"])];
        contents[1].append(b"enty", &shelf);
        contents.push(written(&shelf, &[b"onetwothreefour"]));
        contents[0].append(b"!", &shelf);
        let seen: Vec<Vec<u8>> = contents.iter().map(all).collect();
        assert_eq!(seen, [&b"onetwothree!"[..], b"onetwenty", b"onetwothreefour"]);
        assert_eq!(contents.iter().map(Content::len).collect::<Vec<_>>(), [12, 9, 15]);
    }

    #[test]
    fn what_a_boot_finds_is_of_the_bytes_that_the_slot_has() {
        let shelf = Shelf::default();
        let find = |content: &Content, hash| {
            content.check(hash, |bytes| Checked { valid: bytes.ends_with(b"!"), ..Checked::default() }).valid
        };
        let (whole, half) = (written(&shelf, &[b"image!"]), written(&shelf, &[b"imag"]));
        for _ in 0..2 {
            assert!(find(&whole, ImageHash::Sha256));
            assert!(!find(&half, ImageHash::Sha256));
        }
        let again = whole.check(ImageHash::Sha256, |_| Checked { valid: true, ..Checked::default() });
        assert!(again.valid);
        let _ = whole.check(ImageHash::Sha256, |_| unreachable!("it was looked at already"));
        assert!(
            !whole.check(ImageHash::Sha512, |_| Checked::default()).valid,
            "another hash is another question"
        );
    }

    #[test]
    fn contents_of_which_there_are_too_many_and_those_that_nobody_has_are_not_kept() {
        let shelf = Shelf::default();
        let contents: Vec<Content> =
            (0..2 * MOST).map(|n| written(&shelf, &[format!("{n:04} image").as_bytes()])).collect();
        assert!(
            contents
                .iter()
                .enumerate()
                .all(|(n, content)| all(content).starts_with(format!("{n:04}").as_bytes()))
        );
        assert_eq!(shelf.0.lock().unwrap().len(), MOST);
        drop(contents);
        let _one = written(&shelf, &[b"another"]);
        assert_eq!(shelf.0.lock().unwrap().len(), 1);
    }
}
