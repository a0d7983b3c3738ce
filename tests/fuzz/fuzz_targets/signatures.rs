//! Any trust policy, and signatures over any payloads by keys that it may or may not name, some of them damaged: what
//! is accepted is what so many of the rule's keys have really signed, byte for byte, for this digest and repository.
//!
//! Fields: the policy, the repository (empty for a file), then one for each signature. See [`Made::new`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;

use async_trait::async_trait;
use bytes::Bytes;
use node_images::digest::Digest;
use node_images::manifest::{Descriptor, MANIFEST, Manifest};
use node_images::reference::Selector;
use node_images::source::{ByteStream, Memory, Source, SourceError};
use node_images::verify::{
    Authority, BUNDLE_TYPE, KeyKind, PrivateKey, SIGNATURE_TYPE, Trust, Verified, verify_digest,
};
use serde_json::{Value, json};

use super::fields::{fields, tagged};

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Stands for the digest that is signed, and for its bare number.
const DIGEST: &str = "{D}";
const HEX: &str = "{H}";
const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";

pub fn run(data: &[u8]) {
    let Some(fields) = fields(data) else { return };
    let [policy, repository, signatures @ ..] = fields.as_slice() else {
        return;
    };
    let world = world();
    let Ok(trust) = Trust::parse(policy, &world.directory) else {
        return;
    };
    let policy: toml::Table = toml::from_str(policy).expect("a policy is TOML");
    let digest = Digest::of(b"what is signed");
    let made: Vec<Made> = signatures
        .iter()
        .take(6)
        .filter_map(|field| Made::new(field, world, &digest))
        .collect();
    let place = Place::new(&made, repository);
    let found = world.runtime.block_on(verify_digest(&trust, &place, digest));
    if let Ok(verified) = found {
        check(&policy, repository, &digest, &made, world, &verified);
    }
}

/// Keys are made anew in each process, except that what is signed says by which: a reproducer stays one.
struct World {
    runtime: tokio::runtime::Runtime,
    directory: PathBuf,
    keys: BTreeMap<char, PrivateKey>,
    fingerprints: BTreeMap<String, Digest>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let directory = std::env::temp_dir().join(format!("nodectl-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory for keys");
        let mut keys = BTreeMap::new();
        let mut fingerprints = BTreeMap::new();
        let kinds = [
            ('a', KeyKind::Ed25519),
            ('b', KeyKind::Ed25519),
            ('c', KeyKind::EcdsaP256),
        ];
        for (letter, kind) in kinds.into_iter().chain([('z', KeyKind::Ed25519)]) {
            let key = PrivateKey::generate(kind).expect("a key");
            let public = key.public().expect("its public half");
            // Two names for one key; z's is nowhere.
            for name in [format!("{letter}.pub"), format!("{letter}2.pub")] {
                if letter != 'z' {
                    std::fs::write(directory.join(&name), public.to_pem().expect("PEM")).expect("written");
                    fingerprints.insert(name, public.fingerprint());
                }
            }
            keys.insert(letter, key);
        }
        World {
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime"),
            directory,
            keys,
            fingerprints,
        }
    })
}

/// How a signature is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Classic,
    Bundle,
}

impl Form {
    /// The bytes that are signed for a payload.
    fn message(self, payload: &[u8]) -> Vec<u8> {
        match self {
            Form::Classic => payload.to_vec(),
            Form::Bundle => {
                let head = format!(
                    "DSSEv1 {} {STATEMENT_TYPE} {} ",
                    STATEMENT_TYPE.len(),
                    payload.len()
                );
                [head.into_bytes(), payload.to_vec()].concat()
            }
        }
    }
}

/// A signature as it is stored, and what is known about it.
struct Made {
    form: Form,
    payload: Vec<u8>,
    text: String,
    /// Who has signed these very bytes.
    by: Option<char>,
}

impl Made {
    /// A letter for the key and the payload. A capital letter: the payload is followed by `@` and what is signed in its
    /// place. `+`: a text that stands where a signature should, then `@` and the payload. With `=` before that, it is
    /// in a bundle.
    fn new(field: &str, world: &World, digest: &Digest) -> Option<Self> {
        let (form, field) = match field.strip_prefix('=') {
            Some(field) => (Form::Bundle, field),
            None => (Form::Classic, field),
        };
        let (tag, text) = tagged(field)?;
        let with_digest = |text: &str| {
            let text = text.replace(DIGEST, &digest.to_string());
            text.replace(HEX, &digest.hex()).into_bytes()
        };
        if tag == '+' {
            let (signature, payload) = text.rsplit_once('@')?;
            return Some(Made {
                form,
                payload: with_digest(payload),
                text: signature.to_owned(),
                by: None,
            });
        }
        let (payload, signed) = match tag.is_ascii_uppercase() {
            true => text
                .rsplit_once('@')
                .map(|(a, b)| (with_digest(a), with_digest(b)))?,
            false => (with_digest(text), with_digest(text)),
        };
        let letter = tag.to_ascii_lowercase();
        let signature = world
            .keys
            .get(&letter)?
            .sign(&form.message(&signed))
            .expect("signed");
        Some(Made {
            form,
            by: (payload == signed).then_some(letter),
            payload,
            text: base64(&signature),
        })
    }

    /// What the payload says, read without the code that is tested: digest and, if it names one, repository.
    fn says(&self) -> Option<(String, Option<String>)> {
        let payload: Value = serde_json::from_slice(&self.payload).ok()?;
        match self.form {
            Form::Classic => classic(&payload),
            Form::Bundle => stated(&payload),
        }
    }

    fn bundle(&self) -> Vec<u8> {
        let envelope = json!({
            "payload": base64(&self.payload),
            "payloadType": STATEMENT_TYPE,
            "signatures": [{"sig": self.text}],
        });
        json!({"mediaType": BUNDLE_TYPE, "dsseEnvelope": envelope})
            .to_string()
            .into_bytes()
    }
}

fn classic(payload: &Value) -> Option<(String, Option<String>)> {
    let critical = &payload["critical"];
    if critical["type"] != "cosign container image signature" {
        return None;
    }
    let digest = critical["image"]["docker-manifest-digest"].as_str()?;
    let name = critical["identity"]["docker-reference"].as_str()?;
    Some((digest.to_owned(), Some(name.to_owned())))
}

fn stated(statement: &Value) -> Option<(String, Option<String>)> {
    let signs = statement["_type"] == "https://in-toto.io/Statement/v1"
        && statement["predicateType"] == "https://sigstore.dev/cosign/sign/v1";
    let [subject] = statement["subject"].as_array()?.as_slice() else {
        return None;
    };
    let digest = subject["digest"]["sha256"].as_str()?;
    let name = match &subject["annotations"]["docker-reference"] {
        Value::Null => None,
        Value::String(name) => Some(name.clone()),
        _ => return None,
    };
    signs.then(|| (format!("sha256:{digest}"), name))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = three
            .iter()
            .fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        let number = number << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place)) as usize & 63];
            text.push(if place > three.len() {
                '='
            } else {
                char::from(digit)
            });
        }
    }
    text
}

fn check(
    policy: &toml::Table,
    place: &str,
    digest: &Digest,
    made: &[Made],
    world: &World,
    verified: &Verified<Digest>,
) {
    assert_eq!(verified.get(), digest);
    let rules = policy
        .get("repository")
        .and_then(toml::Value::as_array)
        .expect("there are rules");
    match verified.authority() {
        Authority::Unchecked { rule } => {
            let rule = rules
                .iter()
                .find(|r| r["name"].as_str() == Some(rule))
                .expect("there is such a rule");
            assert_eq!(rule["insecure"].as_str(), Some("accept-unsigned"));
            assert!(rule.get("keys").is_none());
        }
        Authority::Signed { repository, keys, .. } => {
            let text = |rule: &toml::Value, key: &str| {
                rule.get(key).and_then(toml::Value::as_str).map(str::to_owned)
            };
            let distinct: BTreeSet<&Digest> = keys.iter().map(|key| &world.fingerprints[key]).collect();
            let allows = |rule: &toml::Value| {
                let identity = text(rule, "identity");
                let own = identity
                    .clone()
                    .or(text(rule, "name"))
                    .expect("a rule has a name");
                let named = own == "*" || repository == &own || repository.starts_with(&format!("{own}/"));
                let same = identity.is_some() || place.is_empty() || repository == place;
                let list = rule.get("keys").and_then(toml::Value::as_array);
                let listed =
                    |key: &String| list.is_some_and(|list| list.iter().any(|k| k.as_str() == Some(key)));
                let needed = rule
                    .get("signatures")
                    .and_then(toml::Value::as_integer)
                    .unwrap_or(1);
                named && same && keys.iter().all(listed) && distinct.len() as i64 >= needed
            };
            assert!(
                rules.iter().any(allows),
                "no rule accepts {repository} by {keys:?}"
            );
            let unnamed = !place.is_empty() && takes_unnamed(rules, place);
            for key in keys {
                check_signer(policy, repository, digest, made, world, key, unnamed);
            }
        }
    }
}

/// Whether the rule for a place, that with the longest name, takes signatures that name no repository.
fn takes_unnamed(rules: &[toml::Value], place: &str) -> bool {
    let covers = |rule: &&toml::Value| {
        let name = rule["name"].as_str().expect("a rule has a name");
        let rest = place.strip_prefix(name);
        (name == "*" && !place.starts_with("file:"))
            || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let length = |rule: &&toml::Value| match rule["name"].as_str() {
        Some("*") | None => 0,
        Some(name) => name.len(),
    };
    let rule = rules.iter().filter(covers).max_by_key(length);
    rule.and_then(|rule| rule.get("unnamed"))
        .and_then(toml::Value::as_bool)
        == Some(true)
}

/// Whoever is said to have signed has signed a payload that says so, or names nothing where that counts, and still
/// counts.
fn check_signer(
    policy: &toml::Table,
    repository: &str,
    digest: &Digest,
    made: &[Made],
    world: &World,
    key: &str,
    unnamed: bool,
) {
    let letter = key.chars().next();
    let signed = made
        .iter()
        .filter(|made| made.by.is_some() && made.by == letter)
        .filter_map(Made::says);
    let said = signed.filter(|(signed, name)| {
        let named = name.as_ref().map(|name| name.strip_prefix(repository));
        let counts = match named {
            None => unnamed,
            Some(rest) => rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '@'])),
        };
        *signed == digest.to_string() && counts
    });
    assert!(said.count() > 0, "{key} has signed nothing of the kind");
    let revoked = policy.get("revoked").and_then(toml::Value::as_array);
    for entry in revoked.into_iter().flatten().filter_map(toml::Value::as_str) {
        let gone = world
            .fingerprints
            .get(entry)
            .map_or_else(|| entry.to_owned(), Digest::to_string);
        assert_ne!(gone, world.fingerprints[key].to_string(), "{key} was revoked");
    }
}

/// A repository, or a file, with these signatures.
struct Place {
    memory: Memory,
    manifest: Digest,
    /// The manifests that hold bundles.
    referrers: Vec<Descriptor>,
    repository: Option<String>,
}

impl Place {
    fn new(made: &[Made], repository: &str) -> Self {
        let mut memory = Memory::default();
        let of = |form| made.iter().filter(move |made| made.form == form);
        let layers = of(Form::Classic).map(|made| {
            let mut layer = memory.add(SIGNATURE_TYPE, made.payload.clone());
            layer.annotations.insert(SIGNATURE.to_owned(), made.text.clone());
            layer
        });
        let layers: Vec<Descriptor> = layers.collect();
        let manifest = hold(&mut memory, None, layers).digest;
        let referrers = of(Form::Bundle).map(|made| {
            let layer = memory.add(BUNDLE_TYPE, made.bundle());
            hold(&mut memory, Some(BUNDLE_TYPE), vec![layer])
        });
        let referrers = referrers.collect();
        Place {
            memory,
            manifest,
            referrers,
            repository: (!repository.is_empty()).then(|| repository.to_owned()),
        }
    }
}

/// A manifest of these layers.
fn hold(memory: &mut Memory, kind: Option<&str>, layers: Vec<Descriptor>) -> Descriptor {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST.to_owned()),
        artifact_type: kind.map(str::to_owned),
        config: memory.add("application/vnd.oci.image.config.v1+json", &b"{}"[..]),
        layers,
        subject: None,
        annotations: BTreeMap::new(),
    };
    memory.add(
        MANIFEST,
        serde_json::to_vec(&manifest).expect("a manifest is JSON"),
    )
}

#[async_trait]
impl Source for Place {
    fn name(&self) -> String {
        self.repository
            .clone()
            .unwrap_or_else(|| "oci:/srv/layout".to_owned())
    }

    async fn resolve(&self, _selector: &Selector) -> Result<Digest, SourceError> {
        Ok(self.manifest)
    }

    async fn manifest(&self, digest: &Digest) -> Result<Bytes, SourceError> {
        self.memory.manifest(digest).await
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, SourceError> {
        self.memory.blob(blob, offset).await
    }

    async fn referrers(
        &self,
        _subject: &Digest,
        _kind: Option<&str>,
    ) -> Result<Vec<Descriptor>, SourceError> {
        Ok(self.referrers.clone())
    }

    fn repository(&self) -> Option<String> {
        self.repository.clone()
    }
}
