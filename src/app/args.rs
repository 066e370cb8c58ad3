//! Values as people write them: rates (`4M`, bit/s), sizes (`64KiB`), times (`90s`).

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// A rate in bit/s, written `4M`, `500k`, `2.5M` or `64000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub u64);

/// A size in bytes, written `64KiB`, `1MiB`, `5MB` or `65536`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// A time span, written `90s`, `500ms`, `5m`, `1h` or `2` (seconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// How far behind to play, written `auto` or as a time span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// As little as works.
    Auto,
    /// This far.
    Span(Span),
}

/// An address to listen on, written `127.0.0.1:6881` or `[::]:6881`.
///
/// # Errors
/// One line with an example that is close to what was written.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    Err(match (bare.parse::<IpAddr>(), text.trim_start_matches(':').parse::<u16>()) {
        (Ok(ip), _) => {
            let (fixed, free) = (SocketAddr::new(ip, 6881), SocketAddr::new(ip, 0));
            format!("write ADDR:PORT, such as {fixed}, or {free} for any free port")
        }
        (_, Ok(port)) => format!(
            "write ADDR:PORT, such as [::]:{port} for all addresses of this machine or \
             127.0.0.1:{port} for programs on it"
        ),
        _ => "write ADDR:PORT with an IP address, such as 127.0.0.1:6881 or [::]:6881".to_owned(),
    })
}

/// Splits `text` into its number and the unit behind it.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some((number, unit.trim()))
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a rate; write 4M, 500k or 64000 (bit/s)");
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let factor = match unit.trim_end_matches("bit/s").trim_end_matches("bps") {
            "" => 1.0,
            "k" | "K" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            _ => return Err(wrong()),
        };
        let rate = number * factor;
        if rate > 1e12 {
            return Err(format!("\"{text}\" is above the limit of 1000G"));
        }
        Ok(Self(rate.round() as u64))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a size; write 64KiB, 1MiB, 5MB or 65536 (bytes)");
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let factor: u64 = match unit {
            "" | "B" => 1,
            "k" | "kB" | "KB" => 1000,
            "MB" => 1000 * 1000,
            "GB" => 1000 * 1000 * 1000,
            "TB" => 1000 * 1000 * 1000 * 1000,
            "K" | "KiB" => 1 << 10,
            "M" | "MiB" => 1 << 20,
            "G" | "GiB" => 1 << 30,
            "T" | "TiB" => 1 << 40,
            _ => return Err(wrong()),
        };
        let size = number * factor as f64;
        if size > 1e18 {
            return Err(format!("\"{text}\" is above the limit of 1 EB"));
        }
        Ok(Self(size.round() as u64))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a time; write 90s, 500ms, 5m or 1h");
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let seconds = match unit {
            "ms" => number / 1000.0,
            "" | "s" => number,
            "m" | "min" => number * 60.0,
            "h" => number * 3600.0,
            "d" => number * 86_400.0,
            _ => return Err(wrong()),
        };
        if seconds > 1e9 {
            return Err(format!("\"{text}\" is above the limit of 1000000000s"));
        }
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

impl FromStr for Behind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let wrong =
            || format!("\"{text}\" is not a delay; write auto, or a time such as 2s or 500ms");
        text.parse().map(Self::Span).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_sizes_and_times_read_as_people_write_them() {
        assert_eq!("4M".parse(), Ok(Rate(4_000_000)));
        assert_eq!("2.5M".parse(), Ok(Rate(2_500_000)));
        assert_eq!("64KiB".parse(), Ok(Size(65_536)));
        assert_eq!("5MB".parse(), Ok(Size(5_000_000)));
        assert_eq!("90s".parse(), Ok(Span(Duration::from_secs(90))));
        assert_eq!("500ms".parse(), Ok(Span(Duration::from_millis(500))));
    }

    #[test]
    fn a_delay_is_a_time_or_auto() {
        assert_eq!("auto".parse(), Ok(Behind::Auto));
        assert_eq!("2".parse(), Ok(Behind::Span(Span(Duration::from_secs(2)))));
        for text in ["Auto", "automatic", "", "soon"] {
            let error = text.parse::<Behind>().expect_err(text);
            assert!(error.contains("auto, or a time"), "{error}");
        }
    }

    #[test]
    fn half_an_address_is_answered_with_the_whole_one() {
        let table = [
            ("6881", "[::]:6881"),
            (":6881", "127.0.0.1:6881"),
            ("10.0.0.1", "10.0.0.1:6881"),
            ("::1", "[::1]:6881"),
            ("[::1]", "[::1]:0"),
            ("localhost:80", "127.0.0.1:6881"),
            ("", "127.0.0.1:6881"),
        ];
        for (text, example) in table {
            let error = listen_address(text).expect_err(text);
            assert!(error.contains(example), "{text}: {error}");
        }
        assert_eq!(listen_address("[::]:0"), Ok(SocketAddr::from(([0u16; 8], 0))));
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in ["", "M", "4 X", "-1s", "1e99", "nan", ".", "1.2.3s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
            assert!(text.parse::<Size>().is_err(), "{text}");
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        let error = "4 parsecs".parse::<Span>().expect_err("not a time");
        assert!(error.contains("90s"), "{error}");
    }
}
