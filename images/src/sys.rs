//! The system calls that have no safe wrapper, and all `unsafe` code of this crate.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

/// `FS_VERITY_HASH_ALG_SHA256` of `<linux/fsverity.h>`.
const SHA256: u32 = 1;

/// `struct fsverity_enable_arg` of `<linux/fsverity.h>`.
#[repr(C)]
#[derive(Default)]
struct Enable {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved: u32,
    signature: u64,
    more: [u64; 11],
}

/// `struct fsverity_digest` of `<linux/fsverity.h>`, with room for the longest digest.
#[repr(C)]
struct Measured {
    algorithm: u16,
    size: u16,
    digest: [u8; 64],
}

/// What the request's number says of the size of [`Measured`]: the digest does not count.
const MEASURED_HEAD: usize = 4;

/// Turns fs-verity on for a file that is open for reading only (`FS_IOC_ENABLE_VERITY`): sha256, without salt.
pub(crate) fn enable_verity(file: &File, block_size: u32) -> Result<(), Errno> {
    let argument = Enable {
        version: 1,
        hash_algorithm: SHA256,
        block_size,
        ..Enable::default()
    };
    let request = nix::request_code_write!(b'f', 133, size_of::<Enable>());
    // SAFETY: the kernel only reads `argument`, which has the layout that the request's number stands for.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), request, &raw const argument) };
    Errno::result(done).map(drop)
}

/// Asks for the digest that fs-verity holds a file to (`FS_IOC_MEASURE_VERITY`); `ENODATA` where it is on for none.
pub(crate) fn measure_verity(file: &File) -> Result<(), Errno> {
    let mut measured = Measured {
        algorithm: 0,
        size: 64,
        digest: [0; 64],
    };
    let request = nix::request_code_readwrite!(b'f', 134, MEASURED_HEAD);
    // SAFETY: the kernel writes no more than `size` bytes behind the head, and `measured` has them.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), request, &raw mut measured) };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers() {
        assert_eq!(
            nix::request_code_write!(b'f', 133, size_of::<Enable>()),
            0x4080_6685
        );
        assert_eq!(
            nix::request_code_readwrite!(b'f', 134, MEASURED_HEAD),
            0xc004_6686
        );
        assert_eq!(std::mem::offset_of!(Measured, digest), MEASURED_HEAD);
    }
}
