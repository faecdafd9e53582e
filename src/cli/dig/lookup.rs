//! A query of the command line, with the options that apply to it.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use super::options::PlusOption;
use crate::wire::{Class, Name, Type};

/// Options that apply to all queries.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "options, independent of each other"
)]
pub struct Globals {
    /// `-p`
    pub port: u16,
    /// `+short`
    pub short: bool,
    /// `+cmd`
    pub cmd: bool,
    /// `-4` or `-6`
    pub family: Option<Family>,
    /// `+search`
    pub search: bool,
    /// `+showsearch`
    pub show_search: bool,
    /// `+ndots`; otherwise that of resolv.conf.
    pub ndots: Option<usize>,
    /// `+domain`: the search list.
    pub domain: Option<Name>,
    /// `+time`; otherwise that of resolv.conf.
    pub time: Option<Duration>,
    /// `-u`
    pub microseconds: bool,
    /// `-b`
    pub source: Option<(IpAddr, u16)>,
    /// `--resolv-conf`
    pub resolv_conf: PathBuf,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // named by their versions
pub enum Family {
    V4,
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::V4 => "IPv4 address, and -4 permits no other",
            Self::V6 => "IPv6 address, and -6 permits no other",
        })
    }
}

/// A client cookie.
#[derive(Clone, Debug)]
pub enum Cookie {
    /// Eight random bytes.
    Random,
    /// As given; longer with the server's part.
    Given(Vec<u8>),
}

/// The EDNS part of a query (RFC 6891).
#[derive(Clone, Debug)]
pub struct QueryEdns {
    /// Version.
    pub version: u8,
    /// Payload size in bytes.
    pub payload: u16,
    /// The DO bit.
    pub dnssec: bool,
    /// Whether the server's identifier is requested (RFC 5001).
    pub nsid: bool,
    /// The client cookie (RFC 7873).
    pub cookie: Option<Cookie>,
    /// The client subnet (RFC 7871): address and prefix length.
    pub subnet: Option<(IpAddr, u8)>,
    /// Other options: code and data.
    pub others: Vec<(u16, Vec<u8>)>,
}

/// One query, with its own options.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "options, independent of each other"
)]
pub struct Lookup {
    /// The name as given.
    pub name: String,
    /// The type; `None` is A, or PTR after `-x`.
    pub rtype: Option<Type>,
    /// `-x`
    pub is_reverse: bool,
    /// Serial for IXFR (RFC 1995).
    pub serial: u32,
    /// The class; `None` is IN.
    pub class: Option<Class>,
    /// Servers as given after `@`.
    pub servers: Vec<String>,
    /// Header flags.
    pub flags: Flags,
    /// Fixed message ID.
    pub id: Option<u16>,
    /// EDNS, unless switched off.
    pub edns: Option<QueryEdns>,
    /// `+tcp`
    pub tcp: Option<bool>,
    /// `+ignore`: no retry over TCP.
    pub ignore_truncation: bool,
    /// `+fail`: no other server after SERVFAIL.
    pub fail: bool,
    /// `+tries`
    pub tries: Option<u32>,
    /// What is printed.
    pub show: Show,
}

/// Header flags of a query.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "bits, independent of each other"
)]
pub struct Flags {
    /// RD
    pub recursion: bool,
    /// AD
    pub authentic: bool,
    /// CD
    pub checking_disabled: bool,
    /// AA
    pub authoritative: bool,
    /// The reserved bit.
    pub zero: bool,
}

/// The parts of the output.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "options, independent of each other"
)]
pub struct Show {
    /// `+question`
    pub question: bool,
    /// `+answer`
    pub answer: bool,
    /// `+authority`
    pub authority: bool,
    /// `+additional`
    pub additional: bool,
    /// `+comments`
    pub comments: bool,
    /// `+stats`
    pub stats: bool,
    /// `+qr`
    pub query: bool,
    /// `+identify`
    pub identify: bool,
    /// `+ttlid`
    pub ttl: bool,
    /// `+ttlunits`
    pub ttl_units: bool,
    /// `+class`
    pub class: bool,
    /// `+split`: digits per group, 0 for one group.
    pub split: usize,
}

impl Default for Show {
    fn default() -> Self {
        Self {
            question: true,
            answer: true,
            authority: true,
            additional: true,
            comments: true,
            stats: true,
            query: false,
            identify: false,
            ttl: true,
            ttl_units: false,
            class: true,
            split: 56,
        }
    }
}

impl Default for QueryEdns {
    fn default() -> Self {
        Self {
            version: 0,
            payload: 1232,
            dnssec: false,
            nsid: false,
            cookie: Some(Cookie::Random),
            subnet: None,
            others: Vec::new(),
        }
    }
}

impl Default for Lookup {
    fn default() -> Self {
        Self {
            name: ".".to_owned(),
            rtype: None,
            is_reverse: false,
            serial: 0,
            class: None,
            servers: Vec::new(),
            flags: Flags {
                recursion: true,
                authentic: true,
                checking_disabled: false,
                authoritative: false,
                zero: false,
            },
            id: None,
            edns: Some(QueryEdns::default()),
            tcp: None,
            ignore_truncation: false,
            fail: true,
            tries: None,
            show: Show::default(),
        }
    }
}

impl Default for Globals {
    fn default() -> Self {
        Self {
            port: 53,
            short: false,
            cmd: true,
            family: None,
            search: false,
            show_search: false,
            ndots: None,
            domain: None,
            time: None,
            microseconds: false,
            source: None,
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
        }
    }
}

impl Lookup {
    /// The type that is requested.
    pub fn rtype(&self) -> Type {
        let default = if self.is_reverse { Type::PTR } else { Type::A };
        self.rtype.unwrap_or(default)
    }

    /// The class that is requested.
    pub fn class(&self) -> Class {
        self.class.unwrap_or(Class::IN)
    }

    /// Whether the reply is a zone transfer: several messages over TCP.
    pub fn is_transfer(&self) -> bool {
        matches!(self.rtype(), Type::AXFR | Type::IXFR)
    }

    /// Applies a `+` option other than those of [`Globals`]. The error is a message.
    pub fn plus(&mut self, option: PlusOption<'_>) -> Result<(), String> {
        let PlusOption { name, on, value } = option;
        let show = &mut self.show;
        match name {
            "aaflag" | "aaonly" => self.flags.authoritative = on,
            "adflag" => self.flags.authentic = on,
            "cdflag" => self.flags.checking_disabled = on,
            "rdflag" | "recurse" => self.flags.recursion = on,
            "zflag" => self.flags.zero = on,
            "all" => {
                for part in [
                    &mut show.question,
                    &mut show.answer,
                    &mut show.authority,
                    &mut show.additional,
                    &mut show.comments,
                    &mut show.stats,
                ] {
                    *part = on;
                }
            }
            "question" => show.question = on,
            "answer" => show.answer = on,
            "authority" => show.authority = on,
            "additional" => show.additional = on,
            "comments" => show.comments = on,
            "stats" => show.stats = on,
            "qr" => show.query = on,
            "identify" => show.identify = on,
            "ttlid" => show.ttl = on,
            "ttlunits" => {
                show.ttl_units = on;
                show.ttl = true;
            }
            "class" => show.class = on,
            "split" => {
                show.split = match value {
                    Some(_) if on => number::<usize>(name, value, 0, 65_535)?.next_multiple_of(4),
                    _ if on => 56,
                    _ => 0,
                }
            }
            "tcp" | "vc" => self.tcp = Some(on),
            "ignore" => self.ignore_truncation = on,
            "fail" => self.fail = on,
            "tries" => self.tries = Some(number::<u32>(name, value, 0, 255)?.max(1)),
            "retry" => self.tries = Some(number::<u32>(name, value, 0, 254)? + 1),
            "qid" => self.id = Some(number(name, value, 0, u16::MAX)?),
            "edns" => match (on, value) {
                (false, _) => self.edns = None,
                (true, None) => _ = self.edns(),
                (true, Some(_)) => self.edns().version = number(name, value, 0, 255)?,
            },
            "bufsize" => {
                self.edns().payload = match value {
                    Some(_) => number(name, value, 0, u16::MAX)?,
                    None => QueryEdns::default().payload,
                };
            }
            "dnssec" | "do" => self.edns().dnssec = on,
            "nsid" => self.edns().nsid = on,
            "cookie" => {
                self.edns().cookie = match value {
                    _ if !on => None,
                    None => Some(Cookie::Random),
                    Some(digits) => {
                        let cookie = bytes(digits).filter(|it| matches!(it.len(), 8 | 16..=40));
                        Some(Cookie::Given(cookie.ok_or_else(|| {
                            format!(
                                "+cookie={digits}: expected 8, or 16 to 40, bytes in hexadecimal"
                            )
                        })?))
                    }
                };
            }
            "subnet" => {
                self.edns().subnet = match value {
                    Some(subnet) if on => Some(self::subnet(subnet)?),
                    None if on => return Err("It needs a value: +subnet=ADDRESS/LENGTH".to_owned()),
                    _ => None,
                };
            }
            "ednsopt" => match value {
                Some(value) if on => {
                    let (code, digits) = value.split_once(':').unwrap_or((value, ""));
                    let code = number("ednsopt", Some(code), 0, u16::MAX)?;
                    let data = bytes(digits)
                        .ok_or_else(|| format!("+ednsopt={value}: expected CODE:HEX"))?;
                    let others = &mut self.edns().others;
                    if others.len() >= 100 {
                        return Err("more than 100 EDNS options".to_owned());
                    }
                    others.push((code, data));
                }
                None if on => return Err("It needs a value: +ednsopt=CODE:HEX".to_owned()),
                _ => self.edns().others.clear(),
            },
            other => return Err(format!("Invalid option: +{other}")),
        }
        Ok(())
    }

    fn edns(&mut self) -> &mut QueryEdns {
        self.edns.get_or_insert_default()
    }
}

/// Parses the value of an option as a number within a range. The error is a message.
pub fn number<T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy>(
    name: &str,
    value: Option<&str>,
    least: T,
    most: T,
) -> Result<T, String> {
    let value = value.unwrap_or_default();
    let wrong = || format!("invalid {name} '{value}': a number from {least} to {most}");
    let number: T = value.parse().map_err(|_| wrong())?;
    if number < least || number > most {
        return Err(wrong());
    }
    Ok(number)
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = digits
        .chars()
        .map(|digit| u8::try_from(digit.to_digit(16)?).ok())
        .collect();
    let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| high << 4 | low);
    rest.is_empty().then(|| bytes.collect())
}

/// `ADDRESS[/LENGTH]`; `0` is the empty prefix.
fn subnet(text: &str) -> Result<(IpAddr, u8), String> {
    let wrong = || format!("+subnet={text}: expected ADDRESS/LENGTH");
    if text == "0" {
        return Ok((IpAddr::from([0, 0, 0, 0]), 0));
    }
    let net = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => text.parse::<ipnet::IpNet>().map_err(|_| wrong())?,
    };
    Ok((net.addr(), net.prefix_len()))
}
