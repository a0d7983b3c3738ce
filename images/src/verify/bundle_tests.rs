//! Bundles as cosign writes them, and others.

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::verify::policy::tests::{Fixture, fixture, judge};
use crate::verify::{Authority, KeyKind, PrivateKey};

/// What `cosign sign` states, with the repository noted if there is one.
pub fn statement(digest: &Digest, repository: Option<&str>) -> Value {
    let notes: Map<String, Value> = repository
        .iter()
        .map(|name| (REPOSITORY.to_owned(), (*name).into()))
        .collect();
    json!({
        "_type": STATEMENT,
        "subject": [{"digest": {"sha256": digest.hex()}, "annotations": notes}],
        "predicateType": PREDICATE,
        "predicate": {},
    })
}

/// The statement signed, and in a bundle.
pub fn bundle(key: &PrivateKey, statement: &Value) -> Vec<u8> {
    let payload = statement.to_string();
    let signature = key.sign(&encoded(payload.as_bytes())).expect("signed");
    enveloped(payload.as_bytes(), &signature).to_string().into_bytes()
}

fn enveloped(payload: &[u8], signature: &[u8]) -> Value {
    let text = |bytes: &[u8]| openssl::base64::encode_block(bytes);
    json!({
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": "no matter"}},
        "dsseEnvelope": {
            "payload": text(payload),
            "payloadType": STATEMENT_TYPE,
            "signatures": [{"sig": text(signature)}],
        },
    })
}

const PLACE: &str = "q.example/compute/release";

struct World {
    fixture: Fixture,
    digest: Digest,
}

fn world() -> World {
    World {
        fixture: fixture(),
        digest: Digest::of(b"release"),
    }
}

impl World {
    /// Judges one bundle of the place, or of a file, by a rule with these further lines.
    fn accept(&self, more: &str, place: Option<&str>, bundle: &[u8]) -> Result<Authority, String> {
        let policy = format!("[[repository]]\nname = \"q.example\"\nkeys = [\"two.pub\"]\n{more}");
        let trust = self.fixture.trust(&policy).expect("a policy");
        let file = place.unwrap_or("file:/mnt/b.tar");
        judge(&trust, file, place, &self.digest, &[signature(bundle)]).map_err(|error| error.to_string())
    }
}

#[test]
fn a_bundle_that_names_its_repository_counts_as_a_classic_signature_does() {
    let world = world();
    let named = |name: &str| bundle(&world.fixture.two, &statement(&world.digest, Some(name)));
    for place in [Some(PLACE), None] {
        world
            .accept("", place, &named(&format!("{PLACE}:1")))
            .expect("accepted");
    }
    let error = world.accept("unnamed = true", Some(PLACE), &named("q.example/staging"));
    let error = error.expect_err("for another");
    assert!(error.contains("it is for q.example/staging"), "{error}");
}

#[test]
fn a_bundle_that_names_none_counts_where_the_rule_says_so() {
    let world = world();
    let unnamed = bundle(&world.fixture.two, &statement(&world.digest, None));
    let authority = world
        .accept("unnamed = true", Some(PLACE), &unnamed)
        .expect("accepted");
    let expected = Authority::Signed {
        repository: PLACE.to_owned(),
        keys: vec!["two.pub".to_owned()],
        time: None,
    };
    assert_eq!(authority, expected);
    for (more, place, expected) in [
        ("", Some(PLACE), "rule q.example does not say `unnamed = true`"),
        ("unnamed = true", None, "neither does a file"),
        (
            "unnamed = true\nmax_age_days = 9",
            Some(PLACE),
            "does not say when it was made",
        ),
    ] {
        let error = world.accept(more, place, &unnamed).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_time_is_among_the_notes() {
    let world = world();
    let mut stated = statement(&world.digest, Some(PLACE));
    stated["subject"][0]["annotations"]["timestamp"] = "1780000000".into();
    let Ok(Authority::Signed { time, .. }) =
        world.accept("", Some(PLACE), &bundle(&world.fixture.two, &stated))
    else {
        panic!("it is signed");
    };
    assert_eq!(time.map(Timestamp::as_second), Some(1_780_000_000));
}

/// Each bundle is refused, though the key is right and the rule is lax, and says why.
fn refused(world: &World, table: Vec<(Vec<u8>, &str)>) {
    for (bundle, expected) in table {
        let error = world
            .accept("unnamed = true", Some(PLACE), &bundle)
            .expect_err(expected);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn what_is_no_bundle_says_why() {
    let world = world();
    let with = |change: &dyn Fn(&mut Value)| {
        let good = bundle(&world.fixture.two, &statement(&world.digest, Some(PLACE)));
        let mut bundle: Value = serde_json::from_slice(&good).expect("JSON");
        change(&mut bundle);
        bundle.to_string().into_bytes()
    };
    let inside = |key: &str, value: Value| with(&|b| b["dsseEnvelope"][key] = value.clone());
    let table = vec![
        (b"{".to_vec(), "unreadable bundle"),
        (with(&|b| b["mediaType"] = "x".into()), "bundle of type `x`"),
        (with(&|b| b["dsseEnvelope"] = Value::Null), "without a statement"),
        (inside("payloadType", "x".into()), "payload of type `x`"),
        (inside("payload", "*".into()), "not base64"),
        (inside("payload", "e30=".into()), "unreadable statement"),
        (inside("signatures", json!([])), "with 0 signatures"),
        (
            inside("signatures", json!([{"sig": ""}, {"sig": ""}])),
            "with 2 signatures",
        ),
        (inside("signatures", json!([{"sig": "*"}])), "not base64"),
    ];
    refused(&world, table);
}

#[test]
fn what_states_something_else_says_why() {
    let world = world();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut stated = statement(&world.digest, Some(PLACE));
        change(&mut stated);
        bundle(&world.fixture.two, &stated)
    };
    let noted = |key: &str, value: Value| with(&|s| s["subject"][0]["annotations"][key] = value.clone());
    let table = vec![
        (with(&|s| s["_type"] = "x".into()), "of type `x`"),
        (
            with(&|s| s["predicateType"] = "https://slsa.dev/provenance/v1".into()),
            "that says `https://slsa.dev/provenance/v1`",
        ),
        (with(&|s| s["subject"] = json!([])), "about 0 things"),
        (
            with(&|s| s["subject"] = json!([s["subject"][0], s["subject"][0]])),
            "about 2 things",
        ),
        (
            with(&|s| s["subject"][0]["digest"] = json!({"sha512": ""})),
            "about no sha256",
        ),
        (noted(REPOSITORY, 1.into()), "is no name"),
        (noted("timestamp", "soon".into()), "no number of seconds"),
        (
            bundle(&world.fixture.two, &statement(&Digest::of(b"older"), Some(PLACE))),
            "it is over",
        ),
    ];
    refused(&world, table);
}

#[test]
fn what_the_key_has_not_signed_says_so() {
    let world = world();
    let stated = statement(&world.digest, Some(PLACE));
    let stranger = PrivateKey::generate(KeyKind::Ed25519).expect("a key");
    // The payload alone is not what DSSE signs.
    let payload = stated.to_string();
    let plain = world.fixture.two.sign(payload.as_bytes()).expect("signed");
    let plain = enveloped(payload.as_bytes(), &plain).to_string();
    let table = vec![
        (bundle(&stranger, &stated), "made by none of two.pub"),
        (plain.into_bytes(), "made by none of two.pub"),
    ];
    refused(&world, table);
}
