//! When a request is repeated. The decision is pure; the pause itself is behind [`Pauses`], so that
//! tests see the schedule without living through it.

use std::time::Duration;

use async_trait::async_trait;

/// Schedule of repeated attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Repetitions after the first attempt.
    pub retries: u32,
    /// Pause before the first repetition; doubles with each further one.
    pub base: Duration,
    /// Longest pause of our own.
    pub cap: Duration,
    /// Longest pause that a registry may ask for; beyond it the request fails.
    pub longest_wish: Duration,
    /// How slow an answer may be.
    pub patience: Patience,
}

/// How slow an answer may be before it counts as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, with TLS.
    pub connect: Duration,
    /// For the headers of an answer, and between any two pieces of its body.
    pub silence: Duration,
    /// For the whole of a document of a few megabytes.
    pub document: Duration,
    /// A blob has to bring `pace_bytes` in each span of this length.
    pub pace: Duration,
    /// See `pace`.
    pub pace_bytes: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            document: Duration::from_secs(60),
            pace: Duration::from_secs(30),
            pace_bytes: 30 << 10,
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            retries: 5,
            base: Duration::from_millis(250),
            cap: Duration::from_secs(15),
            longest_wish: Duration::from_secs(120),
            patience: Patience::default(),
        }
    }
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Pause this long, then ask again.
    Again(Duration),
    /// No attempts left.
    Spent,
    /// The registry wants a longer pause than we take.
    TooLong(Duration),
}

impl RetryPolicy {
    /// Decides after the failure of attempt number `attempt` (the first is 0). `wanted` is the
    /// registry's `Retry-After`, `random` is in `0.0..1.0`: the pause is spread over its upper half,
    /// so that many nodes that failed together don't come back together.
    pub fn verdict(&self, attempt: u32, wanted: Option<Duration>, random: f64) -> Verdict {
        if attempt >= self.retries {
            return Verdict::Spent;
        }
        if let Some(wanted) = wanted.filter(|wanted| *wanted > self.longest_wish) {
            return Verdict::TooLong(wanted);
        }
        let full = self.base.saturating_mul(1 << attempt.min(16)).min(self.cap);
        let spread = full.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        Verdict::Again(spread.max(wanted.unwrap_or_default()))
    }

    /// The same schedule with fewer repetitions: for mirrors, where the next one is the better retry.
    pub fn hasty(self) -> Self {
        RetryPolicy {
            retries: self.retries.min(1),
            ..self
        }
    }
}

/// Whether a status may pass when asked again.
pub(super) fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Reads `Retry-After`: seconds, or a date to be compared with `now` (RFC 9110, 10.2.3).
pub fn retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
    Some(Duration::try_from(date - now).unwrap_or(Duration::ZERO))
}

/// Chance and waiting.
#[async_trait]
pub trait Pauses: Send + Sync {
    /// A number in `0.0..1.0`.
    fn random(&self) -> f64;
    /// The time, for dates in `Retry-After`.
    fn now(&self) -> jiff::Timestamp;
    /// Waits.
    async fn pause(&self, length: Duration);
}

/// The real ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealPauses;

#[async_trait]
impl Pauses for RealPauses {
    fn random(&self) -> f64 {
        let mut bytes = [0u8; 4];
        match openssl::rand::rand_bytes(&mut bytes) {
            Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
            Err(_) => 0.5,
        }
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    async fn pause(&self, length: Duration) {
        tokio::time::sleep(length).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_the_cap_and_is_spread() {
        let policy = RetryPolicy {
            retries: 20,
            base: Duration::from_millis(100),
            cap: Duration::from_secs(1),
            longest_wish: Duration::from_secs(10),
            patience: Patience::default(),
        };
        let ms = |attempt, random| match policy.verdict(attempt, None, random) {
            Verdict::Again(pause) => pause.as_millis(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            [ms(0, 1.0), ms(1, 1.0), ms(2, 1.0), ms(3, 1.0)],
            [100, 200, 400, 800]
        );
        assert_eq!([ms(4, 1.0), ms(19, 1.0)], [1000, 1000]);
        assert_eq!([ms(0, 0.0), ms(19, 0.0)], [50, 500]);
    }

    #[test]
    fn the_registry_may_ask_for_longer_but_not_for_ever() {
        let policy = RetryPolicy::default();
        let seconds = Duration::from_secs;
        assert_eq!(
            policy.verdict(0, Some(seconds(7)), 0.3),
            Verdict::Again(seconds(7))
        );
        assert_eq!(
            policy.verdict(0, Some(seconds(121)), 0.3),
            Verdict::TooLong(seconds(121))
        );
        assert_eq!(policy.verdict(5, Some(seconds(1)), 0.3), Verdict::Spent);
        assert_eq!(policy.hasty().verdict(1, None, 0.3), Verdict::Spent);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: jiff::Timestamp = "1994-11-06T08:49:37Z".parse().expect("a time");
        let table = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("soon", None),
            ("-3", None),
        ];
        for (value, expected) in table {
            assert_eq!(
                retry_after(value, now),
                expected.map(Duration::from_secs),
                "{value}"
            );
        }
    }

    #[test]
    fn only_what_may_pass_is_repeated() {
        for (code, expected) in [
            (200, false),
            (404, false),
            (401, false),
            (429, true),
            (503, true),
            (501, false),
        ] {
            assert_eq!(may_pass(code), expected, "{code}");
        }
    }
}
