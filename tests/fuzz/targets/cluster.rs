//! Kubernetes objects: of the API server, of manifests, of snapshots. What is made of them is looked up.

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
};

use lodestone::{
    cluster::{
        Kind, Object, load, manifests as directory, parse_object, snapshot as file, split_list,
    },
    message::Writer,
    query::{Edns, Query, Question},
    reply::Reply,
    wire::{Class, Name, Type},
    zone::{AnswerRules, ClusterLookup, ClusterView, LookupOutcome, Zones},
};
use ring::digest::{SHA256, digest};

/// An object of each kind.
pub fn objects(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let parsed = Kind::ALL.iter().map(|kind| parse_object(*kind, &text));
    let objects: Vec<Object> = parsed.flatten().collect();
    check(objects);
}

/// A list of objects, received in parts of any size.
pub fn list(bytes: &[u8]) {
    let whole = split_list(bytes, bytes.len(), 1 << 20);
    for part in [1, 7] {
        assert_eq!(split_list(bytes, part, 1 << 20), whole);
    }
    let bounded = split_list(bytes, 3, 16);
    assert_eq!(bounded.is_some(), whole.is_some());
    let (Some((items, frame)), Some((short, same))) = (whole, bounded) else {
        return;
    };
    assert_eq!(frame, same);
    assert!(short.iter().all(|item| item.len() <= 16));
    let total = items.iter().map(Vec::len).sum::<usize>();
    assert!(total + frame.len() <= bytes.len());
}

/// A file of a directory of manifests.
pub fn manifests(bytes: &[u8]) {
    let is_json = bytes.trim_ascii_start().first() == Some(&b'{');
    let directory = Directory::new();
    let name = if is_json { "a.json" } else { "a.yaml" };
    fs::write(directory.path.join(name), bytes).expect("a file");
    let objects = directory::objects(&directory.path);
    // Controllers derive objects: of each Service, and those of every cluster.
    assert!(objects.len() <= 4 * bytes.len() + 16);
    check(objects);
}

/// The content of a snapshot behind its format and before its checksum.
pub fn snapshot(bytes: &[u8]) {
    let mut content = b"lodestone-snapshot\n\0\0\0\x01".to_vec();
    content.extend(bytes);
    let sum = digest(&SHA256, &content);
    content.extend(sum.as_ref());
    let directory = Directory::new();
    let path = directory.path.join("a.snapshot");
    fs::write(&path, &content).expect("a file");
    if let Ok(objects) = file::read_objects(&path) {
        assert!(objects.len() <= bytes.len());
        check(objects);
    }
    // Without the checksum, nothing is read.
    content.pop();
    fs::write(&path, &content).expect("a file");
    assert!(file::read_objects(&path).is_err());
}

/// Objects are the same behind a snapshot, and their names can be looked up.
fn check(objects: Vec<Object>) {
    if objects.is_empty() {
        return;
    }
    let directory = Directory::new();
    let path = directory.path.join("b.snapshot");
    file::write_objects(&path, &objects).expect("it is written");
    let again = file::read_objects(&path).expect("it was written here");
    assert_eq!(shown(&again), shown(&objects));
    let questions: Vec<Question> = objects.iter().take(8).flat_map(questions).collect();
    let zones = ["cluster.local", "in-addr.arpa", "ip6.arpa"];
    let zones = zones.map(|zone| Name::parse(zone).expect("a name"));
    let view = ClusterView::new(
        load(objects),
        Zones::new(&zones).expect("zones"),
        AnswerRules::default(),
        Box::default(),
    );
    let (mut writer, mut out) = (Writer::default(), Vec::new());
    for question in questions {
        let mut reply = Reply::default();
        if let LookupOutcome::Denied(why) = view.answer(&question, &mut reply) {
            view.deny(&question, why, view.can_deny(why), &mut reply);
        }
        let mut query = Query::internal(question);
        query.edns = Some(Edns::OURS);
        writer.write(&query, &reply, &mut out);
        assert!(out.len() <= 1232);
    }
}

/// Without the time of the change, which is not part of an object.
fn shown(objects: &[Object]) -> Vec<String> {
    let show = |object: &Object| match object {
        Object::EndpointSlice(slice, _) => format!("{slice:?}"),
        other => format!("{other:?}"),
    };
    objects.iter().map(show).collect()
}

/// Questions for the names and addresses of an object, as far as they are names.
fn questions(object: &Object) -> Vec<Question> {
    let key = object.key();
    let in_zone = |labels: &[&str]| {
        let labels = labels.iter().map(|label| label.as_bytes());
        Name::from_labels(
            labels,
            Name::parse("cluster.local").expect("a name").as_ref(),
        )
        .ok()
    };
    let (name, namespace) = (&*key.name, &*key.namespace);
    let names = [
        in_zone(&[name, namespace, "svc"]),
        in_zone(&["_http", "_tcp", name, namespace, "svc"]),
        in_zone(&["db-0", name, namespace, "svc"]),
        in_zone(&["10-1-0-1", namespace, "pod"]),
        in_zone(&[name]),
        Name::parse("9.0.96.10.in-addr.arpa").ok(),
    ];
    let types = [Type::A, Type::SRV, Type::PTR];
    let questions = names
        .into_iter()
        .flatten()
        .flat_map(|name| types.map(|rtype| Question::new(name, rtype, Class::IN)));
    questions.collect()
}

/// A directory of this thread, in memory where there is one; emptied at the end.
struct Directory {
    path: PathBuf,
}

thread_local! {
    static ROOT: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

impl Directory {
    fn new() -> Self {
        let path = ROOT.with_borrow_mut(|root| {
            let root = root.get_or_insert_with(|| {
                let memory = Path::new("/dev/shm");
                let made = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir());
                made.expect("a directory")
            });
            let count = fs::read_dir(root.path()).map_or(0, Iterator::count);
            root.path().join(count.to_string())
        });
        fs::create_dir(&path).expect("a directory");
        Self { path }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
