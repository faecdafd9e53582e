//! Corefiles and zone files.

#[path = "../oracle.rs"]
mod oracle;

use std::fmt::Write;

use lodestone::{
    authority::{
        AnswerOptions, Zone, ZoneBuilder, presentation::presentation, text, text::OnInvalid,
    },
    query::Question,
    reply::{Owner, RecordSource, Reply, Section},
    wire::{Class, Name, Type},
};

/// A Corefile.
pub fn corefile(bytes: &[u8]) {
    oracle::examine(&String::from_utf8_lossy(bytes));
}

/// A file of the zone `example.org`, which can include itself and nothing else.
pub fn zone(bytes: &[u8]) {
    let strict = read(bytes, bytes, OnInvalid::Reject);
    let lenient = read(bytes, bytes, OnInvalid::Skip);
    if let Some(strict) = &strict {
        let lenient = lenient.as_ref().expect("what is valid is loaded");
        assert!(strict.is_same(lenient), "nothing was skipped");
    }
    let Some(zone) = strict.or(lenient) else {
        return;
    };
    // $GENERATE makes large ones.
    if zone.records() > 500 {
        return;
    }
    let text = written(&zone);
    let again = read(text.as_bytes(), b"", OnInvalid::Reject);
    let again = again.unwrap_or_else(|| panic!("it was written here:\n{text}"));
    assert!(zone.is_same(&again), "{text}\n{}", written(&again));
}

fn read(bytes: &[u8], included: &[u8], on_invalid: OnInvalid) -> Option<Zone> {
    let mut builder = ZoneBuilder::new(Name::parse("example.org").expect("a name"));
    let mut budget = 20;
    let mut include = |_: &str, _: &str| {
        budget -= 1;
        if budget < 0 {
            return Err("too many".to_owned());
        }
        Ok(("included".to_owned(), included.to_vec()))
    };
    let read = text::read(&mut builder, "db", bytes, on_invalid, &mut include);
    if let Err(error) = read {
        assert!(error.line >= 1 && !error.message.is_empty());
        assert!(error.message.len() < 2000, "{}", error.message);
        return None;
    }
    builder.finish().ok()
}

/// All records in presentation format. Each name is also looked up.
fn written(zone: &Zone) -> String {
    let mut text = String::new();
    let mut at = 0;
    loop {
        let mut reply = Reply::default();
        let next = zone.write(at, &mut reply);
        for record in reply.section(Section::Answer) {
            let Owner::Name(owner) = reply.owner(record) else {
                panic!("records of a zone have owners");
            };
            let data = reply.data(record);
            let shown = presentation(record.rtype, data, 0..data.len(), 0);
            let _ = writeln!(text, "{owner} {} IN {} {shown}", record.ttl, record.rtype);
            let question = Question::new(owner.to_name(), Type::A, Class::IN);
            zone.answer(&question, AnswerOptions::default(), &mut Reply::default());
        }
        match next {
            Some(next) => at = next,
            None => return text,
        }
    }
}
