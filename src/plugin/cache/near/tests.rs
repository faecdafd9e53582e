use std::time::Duration;

use super::{
    super::{config::Config, entry::Cacheability},
    *,
};
use crate::{
    plugin::ZoneList,
    query::{Query, Question},
    reply::{Data, Reply, Why},
    wire::{Class, Name, Rcode, Type},
};

fn query(number: usize) -> Query {
    let name = Name::parse(&format!("n{number}.example.org")).unwrap();
    Query::internal(Question::new(name, Type::A, Class::IN))
}

fn entry(query: &Query) -> Arc<Entry> {
    let mut reply = Reply::failure(Rcode::NOERROR, Why::Upstream);
    reply.answer(Type::A, 300, Data::A([192, 0, 2, 1].into()));
    let verdict = Cacheability::of(&Config::new(ZoneList::all()), query, &reply).unwrap();
    Arc::new(Entry::new(
        verdict,
        KeyRef::of(query),
        &reply,
        Instant::now(),
    ))
}

fn budget(limit: usize) -> &'static Budget {
    let budget = Budget::new();
    budget.limit.fetch_add(limit, Relaxed);
    Box::leak(Box::new(budget))
}

#[test]
fn the_tables_of_all_threads_share_one_bound() {
    let queries: Vec<_> = (0..4000).map(query).collect();
    let entries: Vec<_> = queries.iter().map(entry).collect();
    let weight = entries[0].weight();
    let budget = budget(100 * weight);
    let held = || budget.held.load(Relaxed);
    let mut tables = [NearCache::new(budget), NearCache::new(budget)];
    for table in &mut tables {
        for (query, entry) in queries.iter().zip(&entries) {
            table.insert(KeyRef::of(query), Arc::clone(entry));
            assert!(held() <= 100 * weight);
        }
    }
    let count = |entry: &&Arc<Entry>| Arc::strong_count(entry) > 1;
    let held_entries = entries.iter().filter(count).count();
    assert!((50..=100).contains(&held_entries), "{held_entries}");
    assert_eq!(held(), held_entries * weight);
    // New entries replace others, in a table that has any.
    let recent = entries[3000..].iter().filter(count).count();
    assert!(recent > 0, "old entries are never evicted");
    drop(tables);
    assert_eq!(held(), 0);
    assert!(entries.iter().all(|entry| Arc::strong_count(entry) == 1));
}

#[test]
fn an_entry_counts_once_however_many_threads_hold_it() {
    let query = query(1);
    let entry = entry(&query);
    let budget = budget(entry.weight());
    let mut tables = [
        NearCache::new(budget),
        NearCache::new(budget),
        NearCache::new(budget),
    ];
    for table in &mut tables {
        table.insert(KeyRef::of(&query), Arc::clone(&entry));
        let now = entry_time(&entry);
        assert!(table.find(entry.store(), KeyRef::of(&query), now).is_some());
    }
    assert_eq!(budget.held.load(Relaxed), entry.weight());
    let [first, second, third] = tables;
    drop(first);
    drop(second);
    assert_eq!(budget.held.load(Relaxed), entry.weight());
    drop(third);
    assert_eq!(budget.held.load(Relaxed), 0);
}

fn entry_time(entry: &Entry) -> Instant {
    let now = Instant::now();
    assert!(entry.remaining(now).is_some());
    now + Duration::from_secs(1)
}

#[test]
fn the_entries_of_a_dropped_store_are_released() {
    let queries: Vec<_> = (0..500).map(query).collect();
    let entries: Vec<_> = queries.iter().map(entry).collect();
    let budget = budget(usize::MAX / 2);
    let mut table = NearCache::new(budget);
    for (query, entry) in queries.iter().zip(&entries) {
        table.insert(KeyRef::of(query), Arc::clone(entry));
    }
    assert!(budget.held.load(Relaxed) > 0);
    budget.generation.next();
    let key = KeyRef::of(&queries[0]);
    assert!(
        table
            .find(entries[0].store(), key, Instant::now())
            .is_none()
    );
    assert_eq!(budget.held.load(Relaxed), 0);
    assert!(entries.iter().all(|entry| Arc::strong_count(entry) == 1));
}
