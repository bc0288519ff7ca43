//! Cursors: where a listing goes on, readable only by us and only for the request that they belong to.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::problem::{INVALID_CURSOR, Problem};

/// Bytes of the hash over position and request.
const CHECK: usize = 8;

/// Writes the numbers that say where to go on, bound to `request`.
pub(crate) fn write(position: &[u64], request: &str) -> String {
    let mut bytes: Vec<u8> = position.iter().flat_map(|number| number.to_be_bytes()).collect();
    let check = check(&bytes, request);
    bytes.extend(check);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads them back.
pub(crate) fn read<const N: usize>(cursor: &str, request: &str) -> Result<[u64; N], Problem> {
    let numbers = || {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (numbers, given) = bytes.split_at_checked(N * 8)?;
        if given != check(numbers, request) {
            return None;
        }
        let mut position = [0; N];
        for (number, bytes) in position.iter_mut().zip(numbers.chunks_exact(8)) {
            *number = u64::from_be_bytes(bytes.try_into().ok()?);
        }
        Some(position)
    };
    numbers().ok_or_else(|| {
        INVALID_CURSOR.says(
            "this cursor was not given for this filter and order; begin again without one, or repeat the \
             request that gave it",
        )
    })
}

fn check(bytes: &[u8], request: &str) -> [u8; CHECK] {
    let hash = Sha256::new().chain_update("sendoff cursor").chain_update(bytes).chain_update(request);
    let mut check = [0; CHECK];
    check.copy_from_slice(&hash.finalize()[..CHECK]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_only_whole_and_for_its_request() {
        let cursor = write(&[7, u64::MAX], "a");
        assert_eq!(read::<2>(&cursor, "a").unwrap(), [7, u64::MAX]);
        assert!(read::<2>(&cursor, "b").is_err());
        assert!(read::<1>(&cursor, "a").is_err());
        for at in 0..cursor.len() {
            let mut tampered = cursor.clone().into_bytes();
            tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
            assert!(read::<2>(std::str::from_utf8(&tampered).unwrap(), "a").is_err(), "{at}");
        }
        assert!(read::<2>("", "a").is_err());
        assert!(read::<2>("é", "a").is_err());
    }
}
