//! Reading a layer without keeping its content, for whoever wants to know what an import would make of it.

use std::cell::RefCell;
use std::io::{self, Read};

use super::import::{ObjectSink, SinkError, import};
use super::index::{Attributes, LayerIndex};
use super::policy::Policy;
use crate::digest::{Digest, HashingReader};
use crate::error::ImportError;
use crate::store::ObjectId;

/// Reads the uncompressed archive `tar` as an import does, and keeps nothing but the index. `visit` sees each regular
/// file that has content: its attributes, its size as the index has it, and its bytes, of which it may leave some.
///
/// # Errors
/// [`ImportError`] as an import gives it: a broken archive, a limit, an entry that the policy or the rules refuse.
pub fn examine(
    tar: impl Read,
    diff_id: &Digest,
    policy: &Policy,
    visit: impl FnMut(&Attributes, u64, &mut dyn Read) -> io::Result<()>,
) -> Result<LayerIndex, ImportError> {
    import(tar, diff_id, policy, &Visitor(RefCell::new(visit)))
}

struct Visitor<F>(RefCell<F>);

impl<F: FnMut(&Attributes, u64, &mut dyn Read) -> io::Result<()>> ObjectSink for Visitor<F> {
    fn put(
        &self,
        attributes: &Attributes,
        size: u64,
        _sparse: bool,
        content: &mut dyn Read,
    ) -> Result<ObjectId, SinkError> {
        let mut content = HashingReader::new(content);
        let visit = &mut *self.0.borrow_mut();
        visit(attributes, size, &mut content).map_err(SinkError::Read)?;
        io::copy(&mut content, &mut io::sink()).map_err(SinkError::Read)?;
        let (digest, _, _) = content.finish();
        Ok(ObjectId::of(attributes, size, &digest))
    }
}
