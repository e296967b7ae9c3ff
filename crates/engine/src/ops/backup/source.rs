//! What is imaged: open, claimed, and read in large requests.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use formats::raw::RawImage;
use image::{AlignedBuf, Error, ErrorKind, Extent, Image, Result};
use sys::holders::Holders;
use sys::{Access, DeviceMedium, FileMedium};

use crate::registry::{self, Identity, MediumKind};

/// A partition, or a file with a filesystem in it, of which nobody else has a hold.
pub(super) struct Source {
    /// Links followed.
    path: PathBuf,
    image: Box<dyn Image>,
    /// A file tells whether it was written to meanwhile.
    identity: Option<Identity>,
    is_device: bool,
}

impl Source {
    /// Opens it; a device is claimed, so that nobody can mount it meanwhile.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Denied`; `InUse` for what is mounted or held; `Invalid` for what is neither a file nor a device, and for what
    /// is empty.
    pub(super) fn claim(path: &Path) -> Result<Self> {
        let metadata = registry::look(path)?;
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let kind = registry::medium_kind(&path, &metadata)?;
        let name = path.display().to_string();
        let holders = Holders::of(&metadata)?;
        if holders.is_held() {
            let sentence = format!(
                "cannot make a backup of {name}: it is {holders} (unmount or detach it first)"
            );
            return Err(Error::new(ErrorKind::InUse, sentence).at(name, None));
        }
        let (image, identity): (Box<dyn Image>, _) = match kind {
            MediumKind::Device => {
                let medium =
                    DeviceMedium::open_claimed(&path).map_err(|error| match error.kind() {
                        ErrorKind::InUse => error.and("somebody else has claimed it"),
                        _ => error,
                    })?;
                (Box::new(Straight(RawImage::open(medium)?)), None)
            }
            MediumKind::File => {
                let medium = FileMedium::open(&path, Access::Read)?;
                medium.expect_sequential();
                (Box::new(RawImage::open(medium)?), Some(Identity::of_file(&metadata)))
            }
        };
        if image.size() == 0 {
            let sentence = format!("{name} is empty: there is nothing to make a backup of");
            return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
        }
        Ok(Source { path, image, identity, is_device: kind == MediumKind::Device })
    }

    /// Where it is, links followed.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its content.
    pub(super) fn image(&self) -> &dyn Image {
        &*self.image
    }

    /// Whether all of it is there: a file may have holes.
    pub(super) fn is_device(&self) -> bool {
        self.is_device
    }

    /// A file that was written to meanwhile is an image of no one moment.
    pub(super) fn refuse_changed(&self) -> Result<()> {
        let Some(identity) = &self.identity else { return Ok(()) };
        if Identity::of_file(&registry::look(&self.path)?) == *identity {
            return Ok(());
        }
        let name = self.path.display().to_string();
        let sentence = format!("{name} was written to while it was read (stop what writes to it)");
        Err(Error::new(ErrorKind::Changed, sentence).at(name, None))
    }
}

/// The smallest request that is worth a way around the page cache, in bytes.
const STRAIGHT_FROM_BYTES: usize = 64 << 10;

/// A device that is read without the page cache also into memory that is not aligned for that: one more copy costs less
/// than pages that nobody needs again.
struct Straight<I>(I);

impl<I: Image> Image for Straight<I> {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        thread_local! {
            static ALIGNED: RefCell<AlignedBuf> = RefCell::default();
        }
        let is_aligned = (buf.as_ptr() as usize).is_multiple_of(AlignedBuf::ALIGNMENT);
        if buf.len() < STRAIGHT_FROM_BYTES || is_aligned {
            return self.0.read_at(buf, offset);
        }
        ALIGNED.with_borrow_mut(|aligned| {
            aligned.grow_to(buf.len());
            let read = &mut aligned[..buf.len()];
            self.0.read_at(read, offset)?;
            buf.copy_from_slice(read);
            Ok(())
        })
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.0.extent_at(offset)
    }

    fn block_size_bytes(&self) -> u64 {
        self.0.block_size_bytes()
    }
}
