//! Signatures and payloads with flipped bits and missing ends.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is changed: a payload that was not signed is never accepted, nor is any signature over it.
    #[test]
    fn nothing_that_was_changed_passes(
        ecdsa in any::<bool>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        cut in 0usize..4,
    ) {
        let fixture = fixture();
        let trust = fixture.trust(TWO_KEYS).expect("a policy");
        let (place, digest) = ("q.example/compute/release", Digest::of(b"x"));
        let key = if ecdsa { &fixture.two } else { &fixture.one };
        let good = signed_on(key, place, digest, "2026-01-01");
        let mut payload = good.payload.to_vec();
        let mut signature = good.signature.clone().expect("a signature");
        for (index, flip) in &flips {
            let at = index.index(payload.len() + signature.len());
            match at.checked_sub(payload.len()) {
                None => payload[at] ^= flip,
                Some(at) => signature[at] ^= flip,
            }
        }
        signature.truncate(signature.len() - cut);
        prop_assume!(payload != good.payload || Some(&signature) != good.signature.as_ref());
        let changed = Signature { payload: payload.into(), signature: Some(signature) };
        judge(&trust, place, Some(place), &digest, &[changed]).expect_err("changed");
    }
}
