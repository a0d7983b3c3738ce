//! Keys, as `openssl` and `cosign` write them.

use std::fmt;

use ed25519_dalek::{Digest as _, Sha512, VerifyingKey};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKey, PKeyRef, Private, Public};
use openssl::sign::{Signer, Verifier};

use crate::digest::Digest;

/// The two kinds of key in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256 with SHA-256: what `cosign generate-key-pair` makes.
    EcdsaP256,
    /// Ed25519.
    Ed25519,
}

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No PEM, or PEM of something else.
    #[error("not a PEM key")]
    Pem(#[source] ErrorStack),
    /// cosign's own encrypted format.
    #[error("a key encrypted by cosign; export it as PKCS#8 PEM first")]
    CosignEncrypted,
    /// A key of another algorithm or curve.
    #[error("neither an ed25519 nor an ECDSA P-256 key")]
    Algorithm,
    /// The library failed.
    #[error("the key does not work")]
    Library(#[from] ErrorStack),
}

/// A key that signatures are checked with.
#[derive(Clone)]
pub struct PublicKey {
    key: PKey<Public>,
    kind: KeyKind,
    fingerprint: Digest,
    /// The same key for signatures over the hash of a message (Ed25519ph, RFC 8032, section 5.1), which is what cosign
    /// makes with an ed25519 key since version 3 and what OpenSSL 3.0 cannot check.
    hashed: Option<VerifyingKey>,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?} {})", self.kind, self.fingerprint)
    }
}

impl PublicKey {
    /// Reads `-----BEGIN PUBLIC KEY-----` (SubjectPublicKeyInfo).
    ///
    /// # Errors
    /// If it is another format or algorithm.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        PublicKey::new(PKey::public_key_from_pem(pem).map_err(KeyError::Pem)?)
    }

    fn new(key: PKey<Public>) -> Result<Self, KeyError> {
        let kind = kind_of(&key)?;
        let fingerprint = Digest::of(&key.public_key_to_der()?);
        let hashed = match kind {
            KeyKind::EcdsaP256 => None,
            KeyKind::Ed25519 => VerifyingKey::try_from(key.raw_public_key()?.as_slice()).ok(),
        };
        Ok(PublicKey {
            key,
            kind,
            fingerprint,
            hashed,
        })
    }

    /// sha256 over the DER form: names the key wherever its file may be.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// Whether `signature` is this key's over `message` or, by an ed25519 key, over its hash: which of the two it is
    /// over is part of what is signed. A malformed signature is simply not.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verifier = match self.kind {
            KeyKind::EcdsaP256 => Verifier::new(MessageDigest::sha256(), &self.key),
            KeyKind::Ed25519 => Verifier::new_without_digest(&self.key),
        };
        let direct = verifier.and_then(|mut v| v.verify_oneshot(signature, message));
        direct.unwrap_or(false) || self.verifies_hashed(message, signature)
    }

    fn verifies_hashed(&self, message: &[u8], signature: &[u8]) -> bool {
        let Some(key) = &self.hashed else { return false };
        ed25519_dalek::Signature::from_slice(signature).is_ok_and(|signature| {
            let hash = Sha512::new_with_prefix(message);
            key.verify_prehashed_strict(hash, None, &signature).is_ok()
        })
    }

    /// The PEM form.
    ///
    /// # Errors
    /// If the library fails.
    pub fn to_pem(&self) -> Result<Vec<u8>, KeyError> {
        Ok(self.key.public_key_to_pem()?)
    }
}

/// A key that signs. Never shown.
pub struct PrivateKey {
    key: PKey<Private>,
    kind: KeyKind,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({:?})", self.kind)
    }
}

impl PrivateKey {
    /// A new key.
    ///
    /// # Errors
    /// If the library fails.
    pub fn generate(kind: KeyKind) -> Result<Self, KeyError> {
        let key = match kind {
            KeyKind::EcdsaP256 => {
                let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
                PKey::from_ec_key(EcKey::generate(&group)?)?
            }
            KeyKind::Ed25519 => PKey::generate_ed25519()?,
        };
        Ok(PrivateKey { key, kind })
    }

    /// Reads an unencrypted PEM key (PKCS#8 or SEC1).
    ///
    /// # Errors
    /// If it is another format or algorithm.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let head = String::from_utf8_lossy(&pem[..pem.len().min(200)]).into_owned();
        if head.contains("ENCRYPTED COSIGN") || head.contains("ENCRYPTED SIGSTORE") {
            return Err(KeyError::CosignEncrypted);
        }
        // An empty passphrase rather than a prompt on the terminal for an encrypted key.
        let key = PKey::private_key_from_pem_passphrase(pem, b"").map_err(KeyError::Pem)?;
        let kind = kind_of(&key)?;
        Ok(PrivateKey { key, kind })
    }

    /// The PKCS#8 PEM form, unencrypted.
    ///
    /// # Errors
    /// If the library fails.
    pub fn to_pem(&self) -> Result<Vec<u8>, KeyError> {
        Ok(self.key.private_key_to_pem_pkcs8()?)
    }

    /// The key that checks this one's signatures.
    ///
    /// # Errors
    /// If the library fails.
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        let pem = self.key.public_key_to_pem()?;
        PublicKey::from_pem(&pem)
    }

    /// Signs: ASN.1 DER for ECDSA, 64 raw bytes for ed25519.
    ///
    /// # Errors
    /// If the library fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut signer = match self.kind {
            KeyKind::EcdsaP256 => Signer::new(MessageDigest::sha256(), &self.key)?,
            KeyKind::Ed25519 => Signer::new_without_digest(&self.key)?,
        };
        Ok(signer.sign_oneshot_to_vec(message)?)
    }
}

fn kind_of<T: HasPublic>(key: &PKeyRef<T>) -> Result<KeyKind, KeyError> {
    match key.id() {
        Id::ED25519 => Ok(KeyKind::Ed25519),
        Id::EC if key.ec_key()?.group().curve_name() == Some(Nid::X9_62_PRIME256V1) => Ok(KeyKind::EcdsaP256),
        _ => Err(KeyError::Algorithm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_sign_and_verify_through_pem() {
        for kind in [KeyKind::EcdsaP256, KeyKind::Ed25519] {
            let key = PrivateKey::generate(kind).expect("a key");
            let key = PrivateKey::from_pem(&key.to_pem().expect("pem")).expect("read back");
            let public = key.public().expect("public");
            let public = PublicKey::from_pem(&public.to_pem().expect("pem")).expect("read back");
            let signature = key.sign(b"message").expect("signed");
            assert!(public.verifies(b"message", &signature), "{kind:?}");
            assert!(!public.verifies(b"massage", &signature), "{kind:?}");
            for at in 0..signature.len() {
                let mut bad = signature.clone();
                bad[at] ^= 0x40;
                assert!(!public.verifies(b"message", &bad), "{kind:?} byte {at}");
            }
            assert!(!public.verifies(b"message", b""), "{kind:?}");
            let other = PrivateKey::generate(kind)
                .and_then(|k| k.public())
                .expect("a key");
            assert!(!other.verifies(b"message", &signature), "{kind:?}");
        }
    }

    /// RFC 8032, section 7.3.
    #[test]
    fn an_ed25519_signature_over_the_hash_counts_too() {
        let hex = |text| hex::decode(text).expect("hex");
        let public = hex("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf");
        let signature = hex("98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41\
             31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406");
        let key = PKey::public_key_from_raw_bytes(&public, Id::ED25519).expect("a key");
        let key = PublicKey::new(key).expect("a key");
        assert!(key.verifies(b"abc", &signature));
        assert!(!key.verifies(b"abd", &signature));
        for at in 0..signature.len() {
            let mut bad = signature.clone();
            bad[at] ^= 0x40;
            assert!(!key.verifies(b"abc", &bad), "byte {at}");
        }
        assert!(!key.verifies(b"abc", &signature[..63]));
    }

    #[test]
    fn other_keys_are_refused() {
        let rsa = openssl::rsa::Rsa::generate(2048).expect("rsa");
        let pem = rsa.public_key_to_pem().expect("pem");
        assert!(matches!(PublicKey::from_pem(&pem), Err(KeyError::Algorithm)));
        let group = EcGroup::from_curve_name(Nid::SECP384R1).expect("curve");
        let p384 = EcKey::generate(&group)
            .expect("key")
            .public_key_to_pem()
            .expect("pem");
        assert!(matches!(PublicKey::from_pem(&p384), Err(KeyError::Algorithm)));
        assert!(matches!(PublicKey::from_pem(b"hello"), Err(KeyError::Pem(_))));
        let cosign = b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n";
        assert!(matches!(
            PrivateKey::from_pem(cosign),
            Err(KeyError::CosignEncrypted)
        ));
    }
}
