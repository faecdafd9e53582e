use std::{collections::HashMap, net::Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::{
    plugin::testing::{self, TestBlock},
    reply::{Data, Why},
    wire::Name,
};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn plugin(prefer: &[&str], weights: Option<&str>) -> LoadBalance {
    let weights = weights.map(|text| Weights::parse(text).unwrap());
    LoadBalance {
        prefer: prefer
            .iter()
            .map(|network| network.parse().unwrap())
            .collect(),
        weights: weights.map(|weights| Arc::new(ArcSwap::from_pointee(weights))),
        _watching: JoinSet::new(),
    }
}

fn respond(plugin: &LoadBalance, rtype: Type, reply: &mut Reply) {
    let query = testing::query("A.org", rtype);
    plugin.on_response(&TestBlock::new(Vec::new()).context(), &query, reply);
}

/// A reply whose records have these types; their data are numbered from 0.
fn reply(section: Section, types: &[Type]) -> Reply {
    let mut reply = Reply::failure(Rcode::NOERROR, Why::Upstream);
    for (number, rtype) in types.iter().enumerate() {
        let number = u8::try_from(number).unwrap();
        let data = match *rtype {
            Type::A => vec![192, 0, 2, number],
            Type::AAAA => vec![0x20, 1, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number],
            _ => vec![number],
        };
        reply.push(section, Owner::Question, *rtype, 5, Data::Raw(&data));
    }
    reply
}

/// The records' numbers, in their order.
fn order(reply: &Reply, section: Section) -> Vec<u8> {
    let records = reply.section(section).iter();
    records
        .map(|record| *reply.data(record).last().unwrap())
        .collect()
}

#[test]
fn orders_are_equally_likely() {
    let plugin = plugin(&[], None);
    for section in [Section::Answer, Section::Additional] {
        let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
        for _ in 0..6000 {
            let mut reply = reply(section, &[Type::A; 3]);
            respond(&plugin, Type::A, &mut reply);
            *seen.entry(order(&reply, section)).or_default() += 1;
        }
        // Six orders, a thousand times each; 160 is five standard deviations.
        assert_eq!(seen.len(), 6);
        assert!(
            seen.values().all(|count| count.abs_diff(1000) < 160),
            "{seen:?}"
        );
    }
}

#[test]
fn errors_transfers_and_authority_are_not_reordered() {
    let plugin = plugin(&[], None);
    let types = [Type::A; 8];
    for change in [
        |reply: &mut Reply| reply.rcode = Rcode::NXDOMAIN,
        |reply: &mut Reply| reply.rcode = Rcode::SERVFAIL,
    ] {
        let mut reply = reply(Section::Answer, &types);
        change(&mut reply);
        respond(&plugin, Type::A, &mut reply);
        assert_eq!(order(&reply, Section::Answer), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
    for transfer in [Type::AXFR, Type::IXFR] {
        let mut reply = reply(Section::Answer, &types);
        respond(&plugin, transfer, &mut reply);
        assert_eq!(order(&reply, Section::Answer), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
    let mut reply = reply(Section::Authority, &types);
    respond(&plugin, Type::A, &mut reply);
    assert_eq!(order(&reply, Section::Authority), [0, 1, 2, 3, 4, 5, 6, 7]);
}

proptest! {
    #[test]
    fn nothing_is_lost_and_aliases_come_first(
        types in prop::collection::vec(
            prop::sample::select(vec![
                Type::CNAME, Type::A, Type::AAAA, Type::MX, Type::TXT, Type::SRV,
            ]),
            0..60,
        ),
        weighted: bool,
    ) {
        let plugin = plugin(&["192.0.2.0/28"], weighted.then_some("a.org\n192.0.2.1 9\n"));
        let mut reply = reply(Section::Answer, &types);
        respond(&plugin, Type::A, &mut reply);
        let mut numbers = order(&reply, Section::Answer);
        let of = |wanted: Type| {
            let records = reply.section(Section::Answer).iter();
            let records = records.filter(move |record| record.rtype == wanted);
            records.map(|record| *reply.data(record).last().unwrap()).collect::<Vec<_>>()
        };
        for kept in [Type::CNAME, Type::TXT, Type::SRV] {
            prop_assert!(of(kept).is_sorted(), "{:?}", kept);
        }
        let first_other = reply.section(Section::Answer).iter();
        let aliases = first_other.take_while(|record| record.rtype == Type::CNAME).count();
        prop_assert_eq!(aliases, of(Type::CNAME).len());
        for record in reply.section(Section::Answer) {
            let number = usize::from(*reply.data(record).last().unwrap());
            prop_assert_eq!(record.rtype, types[number]);
        }
        numbers.sort_unstable();
        prop_assert!(numbers.iter().map(|number| usize::from(*number)).eq(0..types.len()));
    }
}

#[test]
fn preferred_networks_come_first_in_their_order() {
    let plugin = plugin(&["192.0.2.6/31", "2001:db8::1/128", "192.0.2.4/30"], None);
    let mut types = [Type::A; 8];
    types[1] = Type::AAAA;
    let mut firsts = std::collections::HashSet::new();
    for _ in 0..100 {
        let mut reply = reply(Section::Answer, &types);
        respond(&plugin, Type::A, &mut reply);
        let order = order(&reply, Section::Answer);
        let mut first = order[..2].to_vec();
        first.sort_unstable();
        assert_eq!(first, [6, 7]);
        let mut third = order[3..5].to_vec();
        third.sort_unstable();
        assert_eq!((order[2], third), (1, vec![4, 5]));
        firsts.insert((order[0], order[3]));
    }
    assert_eq!(firsts.len(), 4, "within a network any order");
}

#[test]
fn the_first_address_is_chosen_by_its_weight() {
    let plugin = plugin(
        &[],
        Some("a.ORG\n192.0.2.0 6\n192.0.2.1 3\nb.org\n192.0.2.2 255\n"),
    );
    let mut firsts = [0u32; 3];
    for _ in 0..10_000 {
        let mut reply = reply(Section::Answer, &[Type::A; 3]);
        respond(&plugin, Type::A, &mut reply);
        firsts[usize::from(order(&reply, Section::Answer)[0])] += 1;
    }
    // 6 : 3 : 1, the last one by default; 250 is five standard deviations.
    for (count, expected) in firsts.iter().zip([6000, 3000, 1000]) {
        assert!(count.abs_diff(expected) < 250, "{firsts:?}");
    }
    let mut text = reply(Section::Answer, &[Type::A; 3]);
    respond(&plugin, Type::TXT, &mut text);
    assert_eq!(order(&text, Section::Answer), [0, 1, 2]);
}

#[test]
fn weights_are_those_of_the_records_owner() {
    let plugin = plugin(&[], Some("b.org\n192.0.2.2 255\n"));
    let mut seconds = 0;
    for _ in 0..1000 {
        let mut reply = Reply::failure(Rcode::NOERROR, Why::Upstream);
        let target = name("B.org");
        for number in 1..=2 {
            let address = Data::A(Ipv4Addr::new(192, 0, 2, number));
            let owner = Owner::Name(target.as_ref());
            reply.push(Section::Answer, owner, Type::A, 5, address);
        }
        respond(&plugin, Type::A, &mut reply);
        seconds += u32::from(order(&reply, Section::Answer)[0] == 2);
    }
    assert!(seconds > 950, "{seconds}");
}
