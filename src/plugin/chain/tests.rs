use parking_lot::Mutex;

use super::*;
use crate::{
    plugin::{
        Resolved,
        testing::{self, Place},
    },
    wire::Type,
};

/// Does as told, and writes down that it amended.
struct Probe {
    name: &'static str,
    step: fn() -> Step,
    log: Arc<Mutex<Vec<&'static str>>>,
}

impl Plugin for Probe {
    fn name(&self) -> &'static str {
        self.name
    }

    fn ask(&self, _: &Context<'_>, _: &mut Query, _: &mut Reply) -> Step {
        (self.step)()
    }

    fn amend(&self, _: &Context<'_>, _: &Query, _: &mut Reply) {
        self.log.lock().push(self.name);
    }
}

fn walk(steps: &[fn() -> Step]) -> (Rcode, Vec<&'static str>) {
    let (reply, log) = reply_and_log(steps);
    (reply.rcode, log)
}

fn reply_and_log(steps: &[fn() -> Step]) -> (Reply, Vec<&'static str>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let names = ["first", "second", "third"];
    let plugins = steps
        .iter()
        .zip(names)
        .map(|(step, name)| {
            Arc::new(Probe {
                name,
                step: *step,
                log: Arc::clone(&log),
            }) as Arc<dyn Plugin>
        })
        .collect();
    let place = Place::new(plugins);
    let mut query = testing::query(".", Type::A);
    let mut reply = Reply::default();
    let reply = match place
        .block
        .chain
        .walk(&place.context(), &mut query, &mut reply)
    {
        Outcome::Done => reply,
        Outcome::Dropped => Reply::failure(Rcode(99), Why::Unanswered),
        Outcome::Pending(waiting) => futures_util::FutureExt::now_or_never(waiting.finish())
            .unwrap()
            .1
            .unwrap(),
    };
    let log = log.lock().clone();
    (reply, log)
}

fn wait_then_pass() -> Step {
    Step::Wait(Box::pin(std::future::ready(Resolved::Pass)))
}

#[test]
fn those_that_passed_amend_in_reverse() {
    let (rcode, log) = walk(&[|| Step::Pass, || Step::Pass, || Step::Answer]);
    assert_eq!((rcode, log), (Rcode::NOERROR, vec!["second", "first"]));
}

#[test]
fn a_wait_that_comes_to_nothing_goes_on_inward() {
    let (rcode, log) = walk(&[|| Step::Pass, wait_then_pass, || Step::Answer]);
    assert_eq!((rcode, log), (Rcode::NOERROR, vec!["second", "first"]));
}

#[test]
fn nobody_answering_is_a_failure_that_is_amended_too() {
    assert_eq!(
        walk(&[|| Step::Pass, wait_then_pass]),
        (Rcode::SERVFAIL, vec!["second", "first"])
    );
    assert_eq!(walk(&[]), (Rcode::REFUSED, vec![]));
}

#[test]
fn a_reply_says_which_plugin_it_is_from() {
    let wait_then_answer: fn() -> Step = || {
        Step::Wait(Box::pin(std::future::ready(Resolved::Answer(
            Reply::default(),
        ))))
    };
    for (steps, wanted) in [
        (
            &[(|| Step::Pass) as fn() -> Step, || Step::Answer][..],
            "second",
        ),
        (&[wait_then_pass, wait_then_answer], "second"),
        (&[wait_then_answer], "first"),
        (&[|| Step::Pass], ""),
    ] {
        assert_eq!(reply_and_log(steps).0.answered_by, wanted);
    }
}

/// Takes part in one way alone, and must not be called on the other.
struct OneWay {
    inward: bool,
    log: Arc<Mutex<Vec<&'static str>>>,
}

impl Plugin for OneWay {
    fn name(&self) -> &'static str {
        "one-way"
    }

    fn asks(&self) -> bool {
        self.inward
    }

    fn amends(&self) -> bool {
        !self.inward
    }

    fn ask(&self, _: &Context<'_>, _: &mut Query, _: &mut Reply) -> Step {
        assert!(self.inward, "asked");
        self.log.lock().push("in");
        wait_then_pass()
    }

    fn amend(&self, _: &Context<'_>, _: &Query, _: &mut Reply) {
        assert!(!self.inward, "amends");
        self.log.lock().push("out");
    }
}

#[test]
fn those_without_a_part_are_passed_by() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let one_way = |inward| {
        let log = Arc::clone(&log);
        Arc::new(OneWay { inward, log }) as Arc<dyn Plugin>
    };
    let place = Place::new([false, true, false, true].map(one_way).into());
    let (mut query, mut reply) = (testing::query(".", Type::A), Reply::default());
    let walk = place
        .block
        .chain
        .walk(&place.context(), &mut query, &mut reply);
    let Outcome::Pending(waiting) = walk else {
        panic!("does not wait");
    };
    let end = futures_util::FutureExt::now_or_never(waiting.finish()).unwrap();
    assert_eq!(end.1.unwrap().why, Why::NobodyAnswered);
    assert_eq!(*log.lock(), ["in", "in", "out", "out"]);
}

#[test]
fn a_drop_is_silent() {
    assert_eq!(walk(&[|| Step::Pass, || Step::Drop]), (Rcode(99), vec![]));
}
