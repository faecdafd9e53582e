//! Reads the directive `cache`.

use std::time::Duration;

use super::config::{Bounds, Config, KeepLastGood, Prefetch, ServeStale, Verify};
use crate::{
    corefile::{
        Arguments, Diagnostic, Directive, ErrorList, Property, Word, parse_duration,
        unknown_property,
    },
    plugin::{ParseErrors, Parsing, ZoneList},
};

const PROPERTIES: [&str; 9] = [
    "success",
    "denial",
    "prefetch",
    "serve_stale",
    "serve_stale_policy",
    "servfail",
    "disable",
    "keepttl",
    "keep_last_good",
];

/// The largest TTL, in seconds (RFC 2181 section 8).
const MAX_TTL: u32 = i32::MAX.unsigned_abs();
/// The largest capacity, far above what memory allows.
const MAX_CAPACITY: usize = 1 << 30;
/// How long a failure may be cached at most (RFC 2308 section 7.1, RFC 9520 section 3.2).
const MAX_FAILURE: Duration = Duration::from_mins(5);

/// Reads the directive. Without zones of its own it caches those of the server block. Arguments that are
/// accepted but probably a mistake add a warning.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let mut errors = ErrorList::default();
    let config = errors.catch(head(directive, parsing.zones, parsing.warnings));
    let mut config = config.unwrap_or_else(|| Config::new(ZoneList::all()));
    let mut policy = None;
    for line in directive.properties() {
        errors.catch(property(line, &mut config, &mut policy));
    }
    match (policy, &mut config.serve_stale) {
        (Some(_), Some(stale)) => stale.prefer_positive = true,
        (Some(policy), None) => errors.push(
            policy
                .error("serve_stale_policy requires serve_stale")
                .help("add a line 'serve_stale'"),
        ),
        (None, _) => {}
    }
    errors.into_result(config)
}

/// `[TTL] [ZONES...]`.
fn head(
    directive: &Directive,
    block: &[String],
    warnings: &mut Vec<Diagnostic>,
) -> Result<Config, Diagnostic> {
    let mut arguments = directive.arguments();
    let mut ttl = None;
    if let Some(first) = arguments.peek() {
        if first.parse::<i64>().is_ok() {
            ttl = Some(first.integer(1..=MAX_TTL)?);
            arguments.next();
        } else if let Ok(duration) = parse_duration(first) {
            warnings.push(
                first
                    .warning(format!(
                        "'{first}' is read as a zone: nothing of use is cached"
                    ))
                    .expected("a TTL in seconds, without a unit, or a zone")
                    .help(format!(
                        "write cache {} for a TTL",
                        duration.as_secs().max(1)
                    )),
            );
        }
    }
    let zones = ZoneList::read_or_block(arguments.rest(), block)?;
    let mut config = Config::new(zones);
    if let Some(ttl) = ttl {
        config.success.max_ttl = ttl;
        config.denial.max_ttl = ttl;
    }
    Ok(config)
}

fn property<'a>(
    line: &'a Property,
    config: &mut Config,
    policy: &mut Option<&'a Word>,
) -> Result<(), Diagnostic> {
    let mut arguments = line.arguments();
    match line.name().as_str() {
        "success" => bounds(&mut arguments, &mut config.success)?,
        "denial" => bounds(&mut arguments, &mut config.denial)?,
        "prefetch" => config.prefetch = prefetch(&mut arguments)?,
        "serve_stale" => config.serve_stale = Some(serve_stale(&mut arguments)?),
        "serve_stale_policy" => {
            if policy.is_some() {
                let again = line.name().error("serve_stale_policy is given twice");
                return Err(again.label("the second one"));
            }
            let word = arguments.required("prefer_positive")?;
            word.one_of_any_case(&[("prefer_positive", ())])?;
            *policy = Some(line.name());
        }
        "servfail" => {
            config.servfail = at_most(arguments.required("a duration")?, MAX_FAILURE)?;
        }
        "disable" => {
            let kind = arguments.required("success or denial")?;
            let is_success = kind.one_of(&[("success", true), ("denial", false)])?;
            let zones = ZoneList::read_or_all(arguments.rest())?;
            if is_success {
                config.no_success = zones;
            } else {
                config.no_denial = zones;
            }
        }
        "keepttl" => config.keep_ttl = true,
        "keep_last_good" => {
            config.keep_last_good = Some(KeepLastGood {
                up_to: arguments.required("a duration")?.duration()?,
                zones: ZoneList::read_or_all(arguments.rest())?,
            });
        }
        _ => return Err(unknown_property(line.name(), &PROPERTIES)),
    }
    arguments.none_left()
}

/// `CAPACITY [TTL] [MINTTL]`.
fn bounds(arguments: &mut Arguments<'_>, bounds: &mut Bounds) -> Result<(), Diagnostic> {
    let capacity = arguments.required("a number of entries")?;
    bounds.capacity = capacity.integer(0..=MAX_CAPACITY)?;
    if let Some(ttl) = arguments.next() {
        bounds.max_ttl = ttl.integer(1..=MAX_TTL)?;
    }
    if let Some(ttl) = arguments.next() {
        bounds.min_ttl = ttl.integer(0..=MAX_TTL)?;
    }
    Ok(())
}

/// `AMOUNT [DURATION [PERCENTAGE%]]`; an amount of 0 turns it off.
fn prefetch(arguments: &mut Arguments<'_>) -> Result<Option<Prefetch>, Diagnostic> {
    let mut prefetch = Prefetch {
        amount: arguments
            .required("a number of questions")?
            .integer(0..=MAX_TTL)?,
        ..Prefetch::default()
    };
    if let Some(gap) = arguments.next() {
        prefetch.gap = gap.duration()?;
    }
    if let Some(word) = arguments.next() {
        let percent = word
            .strip_suffix('%')
            .and_then(|number| number.parse().ok());
        prefetch.percent = percent
            .filter(|percent| (10..=90).contains(percent))
            .ok_or_else(|| {
                let message = format!("percentage should fall in range [10, 90]: '{word}'");
                word.error(message).expected("10% to 90%, with the sign")
            })?;
    }
    Ok((prefetch.amount > 0).then_some(prefetch))
}

/// `[DURATION [immediate [TTL [RECHECK]] | verify [TIMEOUT [TTL [RECHECK]]]]]`.
fn serve_stale(arguments: &mut Arguments<'_>) -> Result<ServeStale, Diagnostic> {
    let mut stale = ServeStale::default();
    if let Some(up_to) = arguments.next() {
        stale.up_to = up_to.duration()?;
    }
    let Some(mode) = arguments.next() else {
        return Ok(stale);
    };
    if mode.one_of_any_case(&[("immediate", false), ("verify", true)])? {
        let timeout = arguments.next().map(Word::duration).transpose()?;
        let timeout = timeout.filter(|timeout| !timeout.is_zero());
        stale.verify = Some(Verify { timeout });
    }
    if let Some(ttl) = arguments.next() {
        stale.ttl = whole_seconds(ttl)?;
    }
    if let Some(recheck) = arguments.next() {
        stale.recheck = at_most(recheck, MAX_FAILURE)?;
    }
    Ok(stale)
}

fn whole_seconds(word: &Word) -> Result<u32, Diagnostic> {
    let duration = word.duration()?;
    let seconds = u32::try_from(duration.as_secs()).ok();
    seconds
        .filter(|seconds| *seconds <= MAX_TTL && duration.subsec_nanos() == 0)
        .ok_or_else(|| {
            word.error(format!("'{word}' is no TTL"))
                .expected("whole seconds, such as 30s")
        })
}

fn at_most(word: &Word, most: Duration) -> Result<Duration, Diagnostic> {
    let duration = word.duration()?;
    if duration > most {
        let message = format!("'{word}' is out of range");
        return Err(word.error(message).expected("a duration up to 5m"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plugin::testing, wire::Name};

    fn read(text: &str) -> Result<(Config, Vec<String>), String> {
        testing::read(text, "example.org.", parse)
    }

    fn good(text: &str) -> Config {
        let (config, warnings) = read(text).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        config
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn without_arguments_the_defaults_apply_to_the_zones_of_the_block() {
        let config = good("cache");
        let block = [Name::parse("example.org").unwrap()].into_iter().collect();
        assert_eq!(config, Config::new(block));
        assert_eq!(
            (
                config.success.max_ttl,
                config.denial.max_ttl,
                config.servfail
            ),
            (3600, 1800, secs(5))
        );
    }

    #[test]
    fn every_option_is_read() {
        let config = good(
            "cache 30 Example.net 10.0.0.0/8 {
                success 5000 60 7
                denial 2000
                prefetch 10 2m 20%
                serve_stale 2h VERIFY 100ms 30s 1m
                serve_stale_policy Prefer_Positive
                servfail 1s
                disable success example.com
                disable denial
                keepttl
            }",
        );
        assert_eq!(config.zones.label(), "example.net.,10.in-addr.arpa.");
        let bounds = |capacity, max_ttl, min_ttl| Bounds {
            capacity,
            max_ttl,
            min_ttl,
        };
        assert_eq!(config.success, bounds(5000, 60, 7));
        assert_eq!(config.denial, bounds(2000, 30, 5));
        let prefetch = Prefetch {
            amount: 10,
            gap: secs(120),
            percent: 20,
        };
        assert_eq!(config.prefetch, Some(prefetch));
        let stale = ServeStale {
            up_to: secs(7200),
            verify: Some(Verify {
                timeout: Some(Duration::from_millis(100)),
            }),
            ttl: 30,
            recheck: secs(60),
            prefer_positive: true,
        };
        assert_eq!(config.serve_stale, Some(stale));
        assert_eq!(config.servfail, secs(1));
        assert_eq!(config.no_success.label(), "example.com.");
        assert_eq!(config.no_denial, ZoneList::all());
        assert!(config.keep_ttl);
    }

    #[test]
    fn short_forms_have_their_defaults() {
        let stale = |text: &str| good(&format!("cache {{\n{text}\n}}")).serve_stale.unwrap();
        assert_eq!(stale("serve_stale"), ServeStale::default());
        let verify = stale("serve_stale 1h verify 0 30s").verify.unwrap();
        assert_eq!(verify, Verify { timeout: None });
        assert_eq!(stale("serve_stale 1h immediate 30s").ttl, 30);
        let prefetch = |text: &str| good(&format!("cache {{\n{text}\n}}")).prefetch;
        assert_eq!(prefetch("prefetch 0"), None);
        let default = prefetch("prefetch 3").unwrap();
        assert_eq!((default.gap, default.percent), (secs(60), 10));
        let twice = good("cache {\ndisable denial a\ndisable denial b\n}");
        assert_eq!(twice.no_denial.label(), "b.");
    }

    #[test]
    fn a_ttl_with_a_unit_is_read_as_a_zone_with_a_warning() {
        let (config, warnings) = read("cache 30s").unwrap();
        assert_eq!(config.zones.label(), "30s.");
        assert_eq!(
            warnings,
            ["'30s' is read as a zone: nothing of use is cached"]
        );
    }

    #[test]
    fn invalid_arguments_are_rejected() {
        for (line, words) in [
            ("success", "expected a number of entries"),
            ("success x", "not a number"),
            ("success -1", "out of range"),
            ("success 100 0", "out of range"),
            ("success 100 10 5 1", "takes 3 arguments"),
            ("denial 100 -1", "out of range"),
            ("prefetch", "expected a number of questions"),
            ("prefetch -1", "out of range"),
            ("prefetch 1 1m 20", "with the sign"),
            ("prefetch 1 1m 9%", "[10, 90]"),
            ("serve_stale 1", "write 1s"),
            ("serve_stale 1h later", "expected immediate or verify"),
            ("serve_stale 1h immediate 1500ms", "whole seconds"),
            ("serve_stale 1h immediate 1s 6m", "up to 5m"),
            ("serve_stale 1h verify 1s 1s 1s 1s", "takes 5 arguments"),
            ("serve_stale_policy prefer_positive", "requires serve_stale"),
            ("serve_stale_policy negative", "prefer_positive"),
            ("servfail 6m", "up to 5m"),
            ("servfail", "expected a duration"),
            ("disable", "expected success or denial"),
            ("disable sucess", "did you mean 'success'?"),
            ("keepttl yes", "takes no argument"),
            ("prefech 1", "did you mean 'prefetch'?"),
        ] {
            let text = read(&format!("cache {{\n{line}\n}}")).unwrap_err();
            assert!(text.contains(words), "{line}: {text}");
        }
        for head in ["cache 0", "cache -5", "cache 30 a..b"] {
            read(head).unwrap_err();
        }
        let errors = read("cache {\nsuccess x\ndenial y\n}").unwrap_err();
        assert!(errors.contains("'x'") && errors.contains("'y'"), "{errors}");
    }
}
