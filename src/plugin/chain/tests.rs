use parking_lot::Mutex;

use super::*;
use crate::{
    hooks,
    plugin::{
        Resolved,
        testing::{self, TestBlock},
    },
    wire::Type,
};

/// Returns `step`, and records that it amended.
struct Probe {
    name: &'static str,
    step: fn() -> Step,
    log: Arc<Mutex<Vec<&'static str>>>,
}

hooks!(Probe, "probe" => on_query, on_response);

impl OnQuery for Probe {
    fn on_query(&self, _: &Context<'_>, _: &mut Query, _: &mut Reply) -> Step {
        (self.step)()
    }
}

impl OnResponse for Probe {
    fn on_response(&self, _: &Context<'_>, _: &Query, _: &mut Reply) {
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
            let mut plugin = Plugin::from(Probe {
                name,
                step: *step,
                log: Arc::clone(&log),
            });
            plugin.name = name;
            plugin
        })
        .collect();
    let test_block = TestBlock::new(plugins);
    let mut query = testing::query(".", Type::A);
    let mut reply = Reply::default();
    let reply = match test_block
        .block
        .chain
        .walk(&test_block.context(), &mut query, &mut reply)
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

/// Passes, after a wait.
struct Inbound(Arc<Mutex<Vec<&'static str>>>);

hooks!(Inbound, "inbound" => on_query);

impl OnQuery for Inbound {
    fn on_query(&self, _: &Context<'_>, _: &mut Query, _: &mut Reply) -> Step {
        self.0.lock().push("in");
        wait_then_pass()
    }
}

struct Outbound(Arc<Mutex<Vec<&'static str>>>);

hooks!(Outbound, "outbound" => on_response);

impl OnResponse for Outbound {
    fn on_response(&self, _: &Context<'_>, _: &Query, _: &mut Reply) {
        self.0.lock().push("out");
    }
}

#[test]
fn plugins_without_a_hook_are_passed_by() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let inbound = || Plugin::from(Inbound(Arc::clone(&log)));
    let outbound = || Plugin::from(Outbound(Arc::clone(&log)));
    let test_block = TestBlock::new(vec![outbound(), inbound(), outbound(), inbound()]);
    let (mut query, mut reply) = (testing::query(".", Type::A), Reply::default());
    let walk = test_block
        .block
        .chain
        .walk(&test_block.context(), &mut query, &mut reply);
    let Outcome::Pending(waiting) = walk else {
        panic!("does not wait");
    };
    let end = futures_util::FutureExt::now_or_never(waiting.finish()).unwrap();
    assert_eq!(end.1.unwrap().why, Why::NoPluginAnswered);
    assert_eq!(*log.lock(), ["in", "in", "out", "out"]);
}

#[test]
fn a_drop_is_silent() {
    assert_eq!(walk(&[|| Step::Pass, || Step::Drop]), (Rcode(99), vec![]));
}
