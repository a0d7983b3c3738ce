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
        let mut payload = good.message.to_vec();
        let mut signature = good.signature.clone().expect("a signature");
        for (index, flip) in &flips {
            let at = index.index(payload.len() + signature.len());
            match at.checked_sub(payload.len()) {
                None => payload[at] ^= flip,
                Some(at) => signature[at] ^= flip,
            }
        }
        signature.truncate(signature.len() - cut);
        prop_assume!(payload != good.message || Some(&signature) != good.signature.as_ref());
        let changed = cosign::signature(payload.into(), &openssl::base64::encode_block(&signature));
        judge(&trust, place, Some(place), &digest, &[changed]).expect_err("changed");
    }

    /// The same of a bundle's text, where not every byte counts: what is still accepted says and signs the same.
    #[test]
    fn no_bundle_that_was_changed_passes(
        ecdsa in any::<bool>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..3),
        cut in 0usize..4,
    ) {
        let fixture = fixture();
        let trust = fixture.trust(TWO_KEYS).expect("a policy");
        let (place, digest) = ("q.example/compute/release", Digest::of(b"x"));
        let key = if ecdsa { &fixture.two } else { &fixture.one };
        let bundle = bundle::tests::bundle(key, &bundle::tests::statement(&digest, Some(place)));
        let good = bundle::signature(&bundle);
        judge(&trust, place, Some(place), &digest, std::slice::from_ref(&good)).expect("as it was");
        let mut changed = bundle.clone();
        for (index, flip) in &flips {
            changed[index.index(bundle.len())] ^= flip;
        }
        changed.truncate(bundle.len() - cut);
        let changed = bundle::signature(&changed);
        if judge(&trust, place, Some(place), &digest, std::slice::from_ref(&changed)).is_ok() {
            prop_assert_eq!((changed.message, changed.signature), (good.message, good.signature));
        }
    }
}
