//! The `traceparent` of the W3C Trace Context: a trace, and a span in it that is the
//! parent.

use std::fmt;
use std::str::FromStr;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// Longest text of an unknown version, in bytes.
const MAX_BYTES: usize = 256;

/// A span as the parent of others, in the form of the header `traceparent`.
///
/// ```
/// use dats::telemetry::TraceParent;
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let parent: TraceParent = text.parse()?;
/// assert_eq!(parent.to_string(), text);
/// # Ok::<(), dats::telemetry::InvalidTraceParent>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

/// The text is not a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not of the form 00-TRACE-PARENT-FLAGS")]
pub struct InvalidTraceParent;

impl TraceParent {
    /// Converts a span context of the library; `None` if it has no span.
    pub(super) fn from_context(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self {
            trace: context.trace_id().to_bytes(),
            span: context.span_id().to_bytes(),
            flags: context.trace_flags().to_u8(),
        })
    }

    /// Converts to a remote span context of the library.
    pub(super) fn to_context(self) -> SpanContext {
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

    /// Reads the known parts of a text of a later version.
    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(InvalidTraceParent);
        let (version, trace, span, flags) = (part()?, part()?, part()?, part()?);
        let [version] = decode_hex(version)?;
        let is_known = version == 0 && parts.next().is_none() || !matches!(version, 0 | 255) && text.len() <= MAX_BYTES;
        let (trace, span, [flags]) = (decode_hex(trace)?, decode_hex(span)?, decode_hex(flags)?);
        if is_known && trace != [0; 16] && span != [0; 8] {
            Ok(Self { trace, span, flags })
        } else {
            Err(InvalidTraceParent)
        }
    }
}

/// Decodes lowercase hexadecimal digits, two for each byte. The crate `hex` is not used:
/// it accepts uppercase digits, which the specification forbids.
fn decode_hex<const N: usize>(text: &str) -> Result<[u8; N], InvalidTraceParent> {
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
    fn parsing_and_formatting_are_inverse() {
        let read: TraceParent = GOOD.parse().unwrap();
        assert_eq!(read.to_string(), GOOD);
        assert_eq!(TraceParent::from_context(&read.to_context()), Some(read));
        assert!(read.to_context().is_sampled() && read.to_context().is_remote());
    }

    #[test]
    fn later_versions_are_read_in_part() {
        let later: TraceParent = format!("cc{}-x", &GOOD[2..]).parse().unwrap();
        assert_eq!(later.to_string(), GOOD);
    }

    #[test]
    fn other_texts_are_refused() {
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
