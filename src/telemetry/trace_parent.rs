//! The trace context of the W3C: which trace something belongs to, and which
//! span of it is its parent.

use std::fmt;
use std::str::FromStr;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// Longest text of a version that is not known yet.
const MAX_BYTES: usize = 256;

/// A `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

/// The text is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not of the form 00-TRACE-PARENT-FLAGS")]
pub struct InvalidTraceParent;

impl TraceParent {
    /// The same to the library; `None`: it is of no span.
    pub(super) fn of(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self {
            trace: context.trace_id().to_bytes(),
            span: context.span_id().to_bytes(),
            flags: context.trace_flags().to_u8(),
        })
    }

    /// As the parent of what happens here.
    pub(super) fn context(self) -> SpanContext {
        SpanContext::new(
            TraceId::from_bytes(self.trace),
            SpanId::from_bytes(self.span),
            TraceFlags::new(self.flags),
            true,
            TraceState::NONE,
        )
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    /// Of a later version the parts that are known are taken.
    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(InvalidTraceParent);
        let (version, trace, span, flags) = (part()?, part()?, part()?, part()?);
        let [version] = bytes(version)?;
        let is_known = version == 0 && parts.next().is_none() || !matches!(version, 0 | 255) && text.len() <= MAX_BYTES;
        let (trace, span, [flags]) = (bytes(trace)?, bytes(span)?, bytes(flags)?);
        if is_known && trace != [0; 16] && span != [0; 8] {
            Ok(Self { trace, span, flags })
        } else {
            Err(InvalidTraceParent)
        }
    }
}

/// Lower-case hexadecimal digits, two for each byte.
fn bytes<const N: usize>(text: &str) -> Result<[u8; N], InvalidTraceParent> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(InvalidTraceParent),
    };
    let mut bytes = [0; N];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return Err(InvalidTraceParent);
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Ok(bytes)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_read_is_written_again() {
        let read: TraceParent = GOOD.parse().unwrap();
        assert_eq!(read.to_string(), GOOD);
        assert_eq!(TraceParent::of(&read.context()), Some(read));
        assert!(read.context().is_sampled() && read.context().is_remote());
    }

    #[test]
    fn of_later_versions_the_known_parts_are_taken() {
        let later: TraceParent = format!("cc{}-x", &GOOD[2..]).parse().unwrap();
        assert_eq!(later.to_string(), GOOD);
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "x".to_owned(),
            String::new(),
            GOOD.to_uppercase(),
            format!("{GOOD}-x"),
            format!("ff{}", &GOOD[2..]),
            format!("cc{}-{}", &GOOD[2..], "x".repeat(MAX_BYTES)),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            GOOD.replace("b7ad6b7169203331", "b7ad6b716920333"),
            GOOD.replace("b7ad6b7169203331", "b7ad6b71692033\u{e9}"),
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(InvalidTraceParent), "{text}");
        }
    }
}
