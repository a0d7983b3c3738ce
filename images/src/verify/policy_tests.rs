//! Tables for the trust policy.

use super::*;
use crate::verify::bundle;
use crate::verify::claim::Signature;
use crate::verify::cosign::{self, Payload};
use crate::verify::judge::judge as judge_at;
use crate::verify::{Authority, KeyKind, PrivateKey, VerifyError};

#[path = "changed_tests.rs"]
mod changed;

pub struct Fixture {
    directory: tempfile::TempDir,
    pub one: PrivateKey,
    pub two: PrivateKey,
}

pub fn fixture() -> Fixture {
    let directory = tempfile::tempdir().expect("a directory");
    let one = PrivateKey::generate(KeyKind::Ed25519).expect("a key");
    let two = PrivateKey::generate(KeyKind::EcdsaP256).expect("a key");
    for (name, key) in [("one.pub", &one), ("two.pub", &two), ("same.pub", &one)] {
        let pem = key.public().and_then(|key| key.to_pem()).expect("pem");
        std::fs::write(directory.path().join(name), pem).expect("written");
    }
    Fixture { directory, one, two }
}

impl Fixture {
    pub fn trust(&self, policy: &str) -> Result<Trust, PolicyError> {
        std::fs::write(self.directory.path().join("policy.toml"), policy).expect("written");
        Trust::load(self.directory.path())
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

pub fn judge(
    trust: &Trust,
    place: &str,
    repository: Option<&str>,
    digest: &Digest,
    signatures: &[Signature],
) -> Result<Authority, VerifyError> {
    judge_at(
        trust,
        place,
        repository,
        digest,
        signatures,
        time("2026-06-01T00:00:00Z"),
    )
}

fn signed_on(key: &PrivateKey, repository: &str, digest: Digest, day: &str) -> Signature {
    let at = time(&format!("{day}T00:00:00Z"));
    let payload = Payload::new(repository, digest).signed_at(at);
    signature_over(key, &payload)
}

fn signature_over(key: &PrivateKey, payload: &Payload) -> Signature {
    let payload = serde_json::to_vec(payload).expect("json");
    let signature = key.sign(&payload).expect("signed");
    cosign::signature(payload.into(), &openssl::base64::encode_block(&signature))
}

fn signed(key: &PrivateKey, repository: &str, digest: Digest) -> Signature {
    signature_over(key, &Payload::new(repository, digest))
}

const TWO_KEYS: &str = r#"
    [[repository]]
    name = "q.example/compute"
    keys = ["one.pub", "two.pub"]
"#;

#[test]
fn the_longest_rule_covers() {
    let fixture = fixture();
    let trust = fixture
        .trust(
            r#"
            [[repository]]
            name = "q.example"
            keys = ["one.pub"]
            [[repository]]
            name = "q.example/compute"
            keys = ["two.pub"]
            [[repository]]
            name = "*"
            insecure = "accept-unsigned"
            [[repository]]
            name = "file:/srv"
            insecure = "accept-unsigned"
            "#,
        )
        .expect("a policy");
    let table = [
        ("q.example/compute", Some("q.example/compute")),
        ("q.example/compute/release", Some("q.example/compute")),
        ("q.example/computer", Some("q.example")),
        ("q.example:5000/compute", Some("*")),
        ("q.example.evil/compute", Some("*")),
        ("file:/srv/x.tar", Some("file:/srv")),
        ("file:/srvx/x.tar", None),
    ];
    for (place, expected) in table {
        assert_eq!(
            trust.rule_for(place).map(|rule| rule.name.as_str()),
            expected,
            "{place}"
        );
    }
    assert_eq!(trust.insecure_rules().collect::<Vec<_>>(), ["*", "file:/srv"]);
}

#[test]
fn no_policy_trusts_nothing_and_a_bad_one_is_refused() {
    let fixture = fixture();
    assert!(
        Trust::load(fixture.directory.path())
            .expect("none")
            .rule_for("q.example/a")
            .is_none()
    );
    let table = [
        ("x = 1", "not a trust policy"),
        ("[[repository]]\nname = \"a\"", "names no keys"),
        (
            "[[repository]]\nname = \"a\"\ninsecure = true",
            "not a trust policy",
        ),
        ("[[repository]]\nname = \"a\"\nkeys = [\"none.pub\"]", "none.pub"),
        (
            "[[repository]]\nname = \"a\"\nkeys = [\"policy.toml\"]",
            "not a usable key",
        ),
        ("[[repository]]\nname = \"a\"\nkeys = []", "wants 1 signatures"),
        (
            "[[repository]]\nname = \"a\"\nkeys = [\"one.pub\"]\nsignatures = 2",
            "wants 2 signatures",
        ),
        (
            "[[repository]]\nname = \"a\"\nkeys = [\"one.pub\"]\nsignatures = 0",
            "not a trust policy",
        ),
        (
            "[[repository]]\nname = \"a/\"\nkeys = [\"one.pub\"]",
            "not a repository",
        ),
        (
            "[[repository]]\nname = \"a\"\nkeys = [\"one.pub\"]\ninsecure = \"accept-unsigned\"",
            "one or the other",
        ),
        (
            "[[repository]]\nname = \"a\"\ninsecure = \"accept-unsigned\"\nmax_age_days = 1",
            "of some age",
        ),
        (
            "[[repository]]\nname = \"a\"\ninsecure = \"accept-unsigned\"\nunnamed = true",
            "of some kind",
        ),
        ("[retired]\n\"none.pub\" = \"2026-01-01T00:00:00Z\"", "none.pub"),
        ("[retired]\n\"one.pub\" = \"soon\"", "not a trust policy"),
        (
            "[[repository]]\nname=\"a\"\nkeys=[\"one.pub\"]\n[[repository]]\nname=\"a\"\nkeys=[\"two.pub\"]",
            "two rules",
        ),
    ];
    for (policy, expected) in table {
        let error = fixture.trust(policy).expect_err(policy);
        assert!(error.to_string().contains(expected), "{policy}: {error}");
    }
}

#[test]
fn a_signature_counts_for_its_repository_digest_and_key_only() {
    let fixture = fixture();
    let trust = fixture.trust(TWO_KEYS).expect("a policy");
    let digest = Digest::of(b"release");
    let stranger = PrivateKey::generate(KeyKind::Ed25519).expect("a key");
    let place = "q.example/compute/release";
    let accept = |signatures: &[Signature]| judge(&trust, place, Some(place), &digest, signatures);
    for key in [&fixture.one, &fixture.two] {
        accept(&[signed(key, place, digest)]).expect("accepted");
        accept(&[signed(key, &format!("{place}:1"), digest)]).expect("a tag does not matter");
    }
    let mut broken = signed(&fixture.one, place, digest);
    broken.message = [&broken.message[..], b" "].concat().into();
    let mut not_base64 = signed(&fixture.one, place, digest);
    not_base64.signature = None;
    let table = [
        (signed(&stranger, place, digest), "made by none of"),
        (
            signed(&fixture.one, "q.example/compute/other", digest),
            "it is for q.example/compute/other",
        ),
        (signed(&fixture.one, place, Digest::of(b"older")), "it is over"),
        (broken, "made by none of"),
        (not_base64, "not base64"),
    ];
    for (signature, expected) in table {
        let error = accept(std::slice::from_ref(&signature))
            .expect_err(expected)
            .to_string();
        assert!(error.contains(expected), "{error}");
        let good = signed(&fixture.two, place, digest);
        accept(&[signature, good]).expect("a bad signature beside a good one does no harm");
    }
}

#[test]
fn several_signers_are_counted_by_key() {
    let fixture = fixture();
    let policy = r#"
        [[repository]]
        name = "q.example"
        keys = ["one.pub", "same.pub", "two.pub"]
        signatures = 2
    "#;
    let trust = fixture.trust(policy).expect("a policy");
    let digest = Digest::of(b"x");
    let place = "q.example/a";
    let one = || signed(&fixture.one, place, digest);
    let two = || signed(&fixture.two, place, digest);
    let accept = |signatures: &[Signature]| judge(&trust, place, Some(place), &digest, signatures);
    assert!(matches!(
        accept(&[one(), one()]),
        Err(VerifyError::TooFew { needed: 2, .. })
    ));
    let Ok(Authority::Signed { keys, .. }) = accept(&[one(), two()]) else {
        panic!("two keys are enough");
    };
    assert_eq!(keys, ["one.pub", "two.pub"]);
}

#[test]
fn a_revoked_key_counts_nowhere() {
    let fixture = fixture();
    let fingerprint = fixture.two.public().expect("public").fingerprint();
    let digest = Digest::of(b"x");
    let place = "q.example/compute";
    for revoked in ["one.pub".to_owned(), fingerprint.to_string()] {
        let trust = fixture
            .trust(&format!("revoked = [\"{revoked}\"]\n{TWO_KEYS}"))
            .expect("a policy");
        let key = if revoked == "one.pub" {
            &fixture.one
        } else {
            &fixture.two
        };
        let bad = signed(key, place, digest);
        let error = judge(&trust, place, Some(place), &digest, &[bad]).expect_err("revoked");
        assert!(error.to_string().contains("revoked"), "{error}");
    }
}

#[test]
fn a_renamed_repository_has_the_identity_of_its_signer() {
    let fixture = fixture();
    let policy = r#"
        [[repository]]
        name = "10.0.0.1:5000"
        keys = ["one.pub"]
        identity = "build.example/compute"
    "#;
    let trust = fixture.trust(policy).expect("a policy");
    let digest = Digest::of(b"x");
    let place = "10.0.0.1:5000/release";
    let good = signed(&fixture.one, "build.example/compute/release", digest);
    judge(&trust, place, Some(place), &digest, &[good]).expect("accepted");
    let bad = signed(&fixture.one, place, digest);
    judge(&trust, place, Some(place), &digest, &[bad]).expect_err("the signer did not mean this");
}

#[test]
fn a_file_is_judged_by_the_name_in_the_signature() {
    let fixture = fixture();
    let insecure = "[[repository]]\nname = \"lab.example\"\ninsecure = \"accept-unsigned\"";
    let trust = fixture.trust(&format!("{TWO_KEYS}{insecure}")).expect("a policy");
    let digest = Digest::of(b"x");
    let accept = |name: &str| {
        let signature = signed(&fixture.one, name, digest);
        judge(&trust, "file:/mnt/b.tar", None, &digest, &[signature])
    };
    let expected = Authority::Signed {
        repository: "q.example/compute/release".to_owned(),
        keys: vec!["one.pub".to_owned()],
        time: None,
    };
    assert_eq!(accept("q.example/compute/release").expect("covered"), expected);
    accept("q.example/other").expect_err("not covered");
    accept("lab.example/x").expect_err("an insecure rule is for the registry, not for files");
}

#[test]
fn a_retired_key_counts_for_what_it_signed_before() {
    let fixture = fixture();
    let trust = fixture
        .trust(&format!(
            "[retired]\n\"one.pub\" = \"2026-01-31T00:00:00Z\"\n{TWO_KEYS}"
        ))
        .expect("a policy");
    let digest = Digest::of(b"x");
    let place = "q.example/compute";
    let accept = |signature| judge(&trust, place, Some(place), &digest, &[signature]);
    accept(signed_on(&fixture.one, place, digest, "2026-01-30")).expect("before");
    accept(signed_on(&fixture.two, place, digest, "2026-02-01")).expect("the other key");
    for (signature, expected) in [
        (
            signed_on(&fixture.one, place, digest, "2026-02-01"),
            "which was retired at",
        ),
        (signed(&fixture.one, place, digest), "does not say when"),
    ] {
        let error = accept(signature).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn signatures_grow_too_old_where_the_rule_says_so() {
    let fixture = fixture();
    let trust = fixture
        .trust(&format!("{TWO_KEYS}max_age_days = 30"))
        .expect("a policy");
    let digest = Digest::of(b"x");
    let place = "q.example/compute";
    let accept = |signature| judge(&trust, place, Some(place), &digest, &[signature]);
    for day in ["2026-05-31", "2026-05-02", "2099-01-01"] {
        accept(signed_on(&fixture.one, place, digest, day)).expect(day);
    }
    for (signature, expected) in [
        (
            signed_on(&fixture.one, place, digest, "2026-05-01"),
            "more than 30 days ago",
        ),
        (
            signed(&fixture.one, place, digest),
            "does not say when it was made",
        ),
    ] {
        let error = accept(signature).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_time_is_the_one_that_enough_keys_vouch_for() {
    let fixture = fixture();
    let digest = Digest::of(b"x");
    let place = "q.example/compute";
    let on = |key, day| signed_on(key, place, digest, day);
    let (one, two) = (&fixture.one, &fixture.two);
    let table = [
        (
            1,
            vec![on(one, "2026-01-01"), on(one, "2026-03-01")],
            Some("2026-03-01"),
        ),
        (
            1,
            vec![on(one, "2026-01-01"), signed(two, place, digest)],
            Some("2026-01-01"),
        ),
        (
            2,
            vec![on(one, "2026-01-01"), on(two, "2026-03-01")],
            Some("2026-01-01"),
        ),
        (2, vec![on(one, "2026-01-01"), signed(two, place, digest)], None),
    ];
    for (needed, signatures, expected) in table {
        let trust = fixture
            .trust(&format!("{TWO_KEYS}signatures = {needed}"))
            .expect("a policy");
        let authority = judge(&trust, place, Some(place), &digest, &signatures).expect("accepted");
        let Authority::Signed { time: at, .. } = authority else {
            panic!("it is signed");
        };
        assert_eq!(
            at,
            expected.map(|day| time(&format!("{day}T00:00:00Z"))),
            "{needed}"
        );
    }
}
