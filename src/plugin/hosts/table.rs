//! A hosts table: names to addresses and back, as a hosts file writes them (hosts(5)).

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    plugin::ZoneList,
    wire::{Name, NameRef},
};

/// Maximum number of addresses per name, and of names per address in a PTR answer. Block lists map
/// a hundred thousand names to 0.0.0.0, which no client queries and no reply can hold.
const MOST: usize = 256;

/// Which entries a table has.
#[derive(Clone, Debug)]
pub struct TableRules {
    /// Names outside of these zones are skipped.
    pub zones: ZoneList,
    /// Whether PTR questions are answered.
    pub reverse: bool,
}

/// The entries of a file and of a Corefile.
#[derive(Debug, Default)]
pub struct HostsTable {
    names: Map<Box<[u8]>, Addresses>,
    /// Keyed by the name without its asterisk label.
    wildcards: Map<Box<[u8]>, Addresses>,
    reverse: Map<IpAddr, Vec<Box<[u8]>>>,
    entries: usize,
}

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The addresses of a name, in the order of the file.
#[derive(Debug, Default)]
pub struct Addresses {
    /// IPv4.
    pub v4: Vec<Ipv4Addr>,
    /// IPv6.
    pub v6: Vec<Ipv6Addr>,
}

/// The invalid lines of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Their number.
    pub count: usize,
    /// The first one: its line number from 1, and its error.
    pub first: Option<(usize, String)>,
}

impl HostsTable {
    /// Adds the lines of a file. An invalid line is skipped: files are written by other programs,
    /// and the remaining lines are still valid.
    pub fn add_file(&mut self, rules: &TableRules, text: &str) -> Skipped {
        let mut skipped = Skipped::default();
        for (number, line) in (1..).zip(text.lines()) {
            if let Err(why) = self.add_line(rules, line) {
                skipped.count += 1;
                skipped.first.get_or_insert((number, why));
            }
        }
        skipped
    }

    fn add_line(&mut self, rules: &TableRules, line: &str) -> Result<(), String> {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else {
            return Ok(());
        };
        let address = address(first).ok_or_else(|| format!("'{first}' is no IP address"))?;
        let mut wrong = None;
        let mut is_named = false;
        for word in words {
            is_named = true;
            let added = Name::parse(word)
                .map_err(|error| format!("'{word}' is no name: {error}"))
                .and_then(|name| self.add(rules, address, &name));
            if let Err(why) = added {
                wrong.get_or_insert(why);
            }
        }
        if !is_named {
            return Err("an address without a name".to_owned());
        }
        wrong.map_or(Ok(()), Err)
    }

    /// Adds a name of an address. Names outside of the table's zones are skipped without an error:
    /// the file also serves other programs.
    pub fn add(&mut self, rules: &TableRules, address: IpAddr, name: &Name) -> Result<(), String> {
        let lower = name.to_lower();
        if !rules.zones.covers(lower.as_ref()) {
            return Ok(());
        }
        let lower = lower.as_ref();
        let below = without_asterisk(lower);
        let addresses = match below {
            Some(below) => self.wildcards.entry(below.as_wire().into()).or_default(),
            None => self.names.entry(lower.as_wire().into()).or_default(),
        };
        match addresses.add(address) {
            Added::New => self.entries += 1,
            Added::Known => return Ok(()),
            Added::TooMany => return Err(format!("'{name}' has more than {MOST} addresses")),
        }
        if rules.reverse && below.is_none() {
            let names = self.reverse.entry(address).or_default();
            if names.len() < MOST {
                names.push(lower.as_wire().into());
                self.entries += 1;
            }
        }
        Ok(())
    }

    /// The addresses of a name in lower case: its own, or else those of a wildcard for its leftmost
    /// label. An exact name hides the wildcard for both families (RFC 4592 section 2.2.1).
    pub fn addresses(&self, lower: NameRef<'_>) -> Option<&Addresses> {
        self.names.get(lower.as_wire()).or_else(|| {
            if self.wildcards.is_empty() {
                return None;
            }
            self.wildcards.get(lower.parent()?.as_wire())
        })
    }

    /// The names of an address, in the order of the file.
    pub fn names(&self, address: IpAddr) -> impl Iterator<Item = NameRef<'_>> {
        let names = self.reverse.get(&address).map_or(&[][..], Vec::as_slice);
        names
            .iter()
            .map(|name| NameRef::from_wire(name).expect("names in the table are valid"))
    }

    /// Number of addresses of all names plus names of all addresses, as exported in the metric.
    pub fn entries(&self) -> usize {
        self.entries
    }
}

enum Added {
    New,
    Known,
    TooMany,
}

impl Addresses {
    fn add(&mut self, address: IpAddr) -> Added {
        match address {
            IpAddr::V4(address) => add(&mut self.v4, address),
            IpAddr::V6(address) => add(&mut self.v6, address),
        }
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, item: T) -> Added {
    if list.contains(&item) {
        Added::Known
    } else if list.len() == MOST {
        Added::TooMany
    } else {
        // Most names have one address: without this, the vector would allocate capacity for four.
        list.reserve_exact(1);
        list.push(item);
        Added::New
    }
}

/// Parses an address of a hosts file: a zone index after `%` is dropped, since it is only valid on
/// this host, and an IPv4-mapped IPv6 address becomes an IPv4 address.
pub fn address(word: &str) -> Option<IpAddr> {
    let bare = word.split('%').next().unwrap_or_default();
    bare.parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

fn without_asterisk(name: NameRef<'_>) -> Option<NameRef<'_>> {
    (name.labels().next()? == b"*")
        .then(|| name.parent())
        .flatten()
}

/// The address of a reverse name in lower case (RFC 1035 section 3.5, RFC 3596 section 2.5).
pub fn reversed(lower: NameRef<'_>) -> Option<IpAddr> {
    const IN_ADDR: &[u8] = b"\x07in-addr\x04arpa\x00";
    const IP6: &[u8] = b"\x03ip6\x04arpa\x00";
    let zone = |wire| NameRef::from_wire(wire).ok();
    if let Some(labels) = lower.strip(zone(IN_ADDR)?) {
        let mut bytes = [0; 4];
        let mut reversed = bytes.iter_mut().rev();
        for label in labels {
            *reversed.next()? = decimal(label)?;
        }
        return reversed.next().is_none().then_some(bytes.into());
    }
    let labels = lower.strip(zone(IP6)?)?;
    let mut address = 0;
    let mut count = 0;
    for label in labels {
        let &[digit] = label else { return None };
        let nibble = char::from(digit).to_digit(16)?;
        if count == 32 {
            return None;
        }
        address |= u128::from(nibble) << (4 * count);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(address).into())
}

fn decimal(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    let plain = text.bytes().all(|digit| digit.is_ascii_digit());
    (plain && (text.len() == 1 || !text.starts_with('0'))).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> (HostsTable, Skipped) {
        let rules = TableRules {
            zones: ZoneList::all(),
            reverse: true,
        };
        let mut table = HostsTable::default();
        let skipped = table.add_file(&rules, text);
        (table, skipped)
    }

    fn addresses(table: &HostsTable, name: &str) -> Option<Vec<String>> {
        let name = Name::parse(name).unwrap();
        let found = table.addresses(name.as_ref())?;
        let v4 = found.v4.iter().map(ToString::to_string);
        Some(v4.chain(found.v6.iter().map(ToString::to_string)).collect())
    }

    fn names(table: &HostsTable, address: &str) -> Vec<String> {
        let names = table.names(address.parse().unwrap());
        names.map(|name| name.to_string()).collect()
    }

    #[test]
    fn lines_are_parsed_as_in_hosts_5() {
        let (table, skipped) = table(
            "# a comment\r\n\
             192.0.2.1  Example.com example # the canonical name first\n\
             \n\
             2001:db8::1\texample.com\n\
             192.0.2.2 example.com example.com\n\
             ::ffff:192.0.2.3 mapped\n\
             fe80::1%eth0 local",
        );
        assert_eq!(skipped, Skipped::default());
        let found = addresses(&table, "example.com").unwrap();
        assert_eq!(found, ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
        assert_eq!(addresses(&table, "mapped").unwrap(), ["192.0.2.3"]);
        assert_eq!(addresses(&table, "local").unwrap(), ["fe80::1"]);
        assert_eq!(addresses(&table, "other"), None);
        assert_eq!(names(&table, "192.0.2.1"), ["example.com.", "example."]);
        assert_eq!(table.entries(), 12);
    }

    #[test]
    fn invalid_lines_are_skipped_and_counted() {
        let (table, skipped) = table("192.0.2.1\n1.2.3 a\n192.0.2.2 a..b good\n192.0.2.3 fine\n");
        assert_eq!(skipped.count, 3);
        let first = (1, "an address without a name".to_owned());
        assert_eq!(skipped.first, Some(first));
        assert_eq!(addresses(&table, "good").unwrap(), ["192.0.2.2"]);
        assert_eq!(addresses(&table, "fine").unwrap(), ["192.0.2.3"]);
    }

    #[test]
    fn an_asterisk_stands_for_one_label() {
        let (table, _) = table("192.0.2.10 *.example.com\n2001:db8::1 a.example.com\n");
        let find = |name| addresses(&table, name);
        assert_eq!(find("apps.example.com").unwrap(), ["192.0.2.10"]);
        assert_eq!(find("a.example.com").unwrap(), ["2001:db8::1"]);
        assert_eq!(find("example.com"), None);
        assert_eq!(find("deep.apps.example.com"), None);
        assert_eq!(find("."), None);
        assert!(names(&table, "192.0.2.10").is_empty());
    }

    #[test]
    fn names_outside_of_the_zones_are_left_out() {
        let mut table = HostsTable::default();
        let rules = TableRules {
            zones: [Name::parse("com").unwrap()].into_iter().collect(),
            reverse: false,
        };
        assert_eq!(
            table.add_file(&rules, "192.0.2.1 a.com a.org\n"),
            Skipped::default()
        );
        assert!(addresses(&table, "a.com").is_some() && addresses(&table, "a.org").is_none());
        assert!(names(&table, "192.0.2.1").is_empty());
    }

    #[test]
    fn long_lists_are_bounded_and_cheap() {
        let lines = |line: fn(u32) -> String| (0..1000).map(line).collect::<String>();
        let (blocked, skipped) = table(&lines(|number| format!("0.0.0.0 n{number}\n")));
        assert_eq!((skipped.count, names(&blocked, "0.0.0.0").len()), (0, MOST));
        assert!(addresses(&blocked, "n999").is_some());
        let (_, skipped) = table(&lines(|number| format!("{} a\n", Ipv4Addr::from(number))));
        assert_eq!(skipped.count, 1000 - MOST);
    }

    #[test]
    fn reverse_names_are_addresses() {
        let nibbles = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        for (text, expected) in [
            ("1.2.0.192.in-addr.arpa", Some("192.0.2.1")),
            (nibbles, Some("2001:db8::1")),
            ("2.0.192.in-addr.arpa", None),
            ("9.1.2.0.192.in-addr.arpa", None),
            ("01.2.0.192.in-addr.arpa", None),
            ("256.2.0.192.in-addr.arpa", None),
            ("+1.2.0.192.in-addr.arpa", None),
            (&nibbles[2..], None),
            (&format!("0.{nibbles}"), None),
            ("example.org", None),
        ] {
            let name = Name::parse(text).unwrap();
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(reversed(name.as_ref()), expected, "{text}");
        }
    }
}
