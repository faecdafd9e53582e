//! The change of the Deployment: its patch, the patch that takes it back, and the commands for both.
//!
//! Both are strategic merge patches, which `kubectl patch` takes as they are, and which fit into a kustomization. Only
//! what differs is in them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    objects::{label, text},
    pod::Pod,
};

/// The annotation of the Deployment with what was there before.
///
/// An annotation, not a ConfigMap: it is written and removed by the same patch as the change itself, so that neither
/// exists without the other; it needs no further permission; and it goes with the Deployment.
pub const ANNOTATION: &str = "lodestone-migrate";

/// One field that is changed.
#[derive(Clone, Debug)]
pub struct Change {
    /// Where it is.
    place: Place,
    /// Its path there.
    path: &'static [&'static str],
    /// Its value before; null if it is absent.
    old: Value,
    /// Its value then; null to remove it.
    new: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The container: a change replaces the pods.
    Container,
    /// The Deployment's `spec`, without the pod template: no pod is replaced.
    Spec,
}

/// What is changed in a Deployment.
#[derive(Clone, Debug)]
pub struct Changes {
    container: String,
    list: Vec<Change>,
}

/// What the annotation has.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct SavedState {
    /// Of this form.
    version: u8,
    /// The image that was put in.
    pub image: String,
    /// The fields of the container before.
    container: Value,
    /// The fields of the Deployment's `spec` before, which are put back once the rollout is over.
    #[serde(default)]
    spec: Value,
    /// The container's name.
    name: String,
    /// The change is being taken back. The Deployment controller copies annotations to ReplicaSets, from which
    /// `kubectl rollout undo` brings them back: such a state is not one to go back to once more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_undone: bool,
}

impl Changes {
    /// No change yet.
    pub fn new(container: &str) -> Self {
        Self {
            container: container.to_owned(),
            list: Vec::new(),
        }
    }

    /// A field of the container, unless it has this value already.
    pub fn container(&mut self, pod: &Pod<'_>, path: &'static [&'static str], new: Value) {
        self.add(Place::Container, pod.container, path, new);
    }

    /// A field of the Deployment's `spec`.
    pub fn spec(&mut self, pod: &Pod<'_>, path: &'static [&'static str], new: Value) {
        let spec = pod.deployment.get("spec").unwrap_or(&Value::Null);
        self.add(Place::Spec, spec, path, new);
    }

    fn add(&mut self, place: Place, object: &Value, path: &'static [&'static str], new: Value) {
        let found = path.iter().try_fold(object, |object, key| object.get(key));
        let old = found.cloned().unwrap_or_default();
        if old != new {
            self.list.push(Change {
                place,
                path,
                old,
                new,
            });
        }
    }

    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The patch that makes the change.
    pub fn patch(&self) -> Value {
        patch(
            &self.container,
            &self.fields(Place::Container, |it| &it.new),
            &self.fields(Place::Spec, |it| &it.new),
        )
    }

    /// The state to save: the fields before, below those that an earlier change saved.
    pub fn saved(&self, image: &str, earlier: Option<&SavedState>) -> SavedState {
        let mut container = self.fields(Place::Container, |it| &it.old);
        let mut spec = self.fields(Place::Spec, |it| &it.old);
        if let Some(earlier) = earlier {
            overlay(&mut container, &earlier.container);
            overlay(&mut spec, &earlier.spec);
        }
        SavedState {
            version: 1,
            image: image.to_owned(),
            container,
            spec,
            name: self.container.clone(),
            is_undone: false,
        }
    }

    fn fields(&self, place: Place, value: impl Fn(&Change) -> &Value) -> Value {
        let mut fields = Value::Null;
        for change in self.list.iter().filter(|change| change.place == place) {
            let nested = change.path.iter().rev();
            let nested = nested.fold(value(change).clone(), |inner, key| json!({ *key: inner }));
            overlay(&mut fields, &nested);
        }
        fields
    }
}

impl SavedState {
    /// That of a Deployment.
    ///
    /// # Errors
    /// The annotation is not of this form.
    pub fn of(deployment: &Value) -> Result<Option<Self>, String> {
        let saved = label(deployment, "/metadata/annotations", ANNOTATION);
        if saved.is_empty() {
            return Ok(None);
        }
        let unreadable = |why: String| format!("the annotation {ANNOTATION} cannot be read: {why}");
        let state: Self =
            serde_json::from_str(saved).map_err(|error| unreadable(error.to_string()))?;
        if state.version == 1 {
            Ok(Some(state))
        } else {
            Err(unreadable(format!("it is of version {}", state.version)))
        }
    }

    /// Whether it is about the present image. Otherwise it was undone, or another client has changed the Deployment
    /// since.
    pub fn is_of(&self, deployment: &Value) -> bool {
        let pod = Pod::of(deployment, Some(&self.name));
        !self.is_undone && pod.is_some_and(|pod| pod.image() == self.image)
    }

    /// Whether the image before is there again, so that an undo was begun and not ended.
    pub fn is_back(&self, deployment: &Value) -> bool {
        let pod = Pod::of(deployment, Some(&self.name));
        let image = self.image_before();
        pod.is_some_and(|pod| !image.is_empty() && pod.image() == image)
    }

    /// The container that was changed.
    pub fn container(&self) -> &str {
        &self.name
    }

    /// The image before.
    pub fn image_before(&self) -> &str {
        text(&self.container, "/image")
    }

    /// The patch that puts the pod template back, and marks the state as undone.
    pub fn template_patch(&self) -> Value {
        let mut template = patch(&self.name, &self.container, &Value::Null);
        let undone = Self {
            is_undone: true,
            ..self.clone()
        };
        overlay(&mut template, &undone.annotation_patch());
        template
    }

    /// The patch that puts the rest back and removes the annotation, for after the rollout.
    pub fn rest_patch(&self) -> Value {
        let mut rest = patch(&self.name, &Value::Null, &self.spec);
        overlay(
            &mut rest,
            &json!({"metadata": {"annotations": {ANNOTATION: null}}}),
        );
        rest
    }

    /// Both.
    pub fn whole_patch(&self) -> Value {
        let mut whole = patch(&self.name, &self.container, &Value::Null);
        overlay(&mut whole, &self.rest_patch());
        whole
    }

    /// The annotation's patch.
    pub fn annotation_patch(&self) -> Value {
        // Serialization cannot fail: the state has no maps but JSON's.
        let text = serde_json::to_string(self).unwrap_or_default();
        json!({"metadata": {"annotations": {ANNOTATION: text}}})
    }
}

/// A patch of a Deployment's container and of its `spec`.
fn patch(name: &str, container: &Value, spec: &Value) -> Value {
    let mut patch = json!({});
    if !spec.is_null() {
        overlay(&mut patch, &json!({ "spec": spec }));
    }
    if let Value::Object(fields) = container {
        let mut container = Map::new();
        container.insert("name".to_owned(), name.into());
        container.extend(fields.clone());
        let template = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
        overlay(&mut patch, &template);
    }
    patch
}

/// Puts the fields of `over` into `under`, at any depth.
pub fn overlay(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                match under.get_mut(key) {
                    Some(own) if own.is_object() && value.is_object() => overlay(own, value),
                    _ => {
                        under.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (_, Value::Null) => {}
        (under, over) => *under = over.clone(),
    }
}

/// A command that patches the Deployment.
pub fn patch_command(namespace: &str, name: &str, patch: &Value) -> String {
    let patch = patch.to_string().replace('\'', r"'\''");
    format!("kubectl -n {namespace} patch deployment {name} --type strategic -p '{patch}'")
}

/// A command that waits for the rollout.
pub fn status_command(namespace: &str, name: &str, seconds: u64) -> String {
    format!("kubectl -n {namespace} rollout status deployment/{name} --timeout {seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_state_stays_in_a_later_one() {
        let deployment = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "coredns", "image": "new:1", "readinessProbe": {"periodSeconds": 1, "failureThreshold": 3}},
        ]}}}});
        let pod = Pod::of(&deployment, None).unwrap();
        let earlier = SavedState {
            version: 1,
            image: "new:1".into(),
            container: json!({"image": "old:1", "readinessProbe": {"periodSeconds": 10}}),
            spec: Value::Null,
            name: "coredns".into(),
            is_undone: false,
        };
        let mut changes = Changes::new("coredns");
        changes.container(&pod, &["image"], "new:2".into());
        changes.container(&pod, &["readinessProbe", "periodSeconds"], 1.into());
        changes.container(&pod, &["readinessProbe", "failureThreshold"], 1.into());
        let saved = changes.saved("new:2", Some(&earlier));
        let expected = json!({"image": "old:1", "readinessProbe": {"periodSeconds": 10, "failureThreshold": 3}});
        assert_eq!(
            (saved.container, saved.image),
            (expected, "new:2".to_owned())
        );
        let fields =
            json!({"name": "coredns", "image": "new:2", "readinessProbe": {"failureThreshold": 1}});
        assert_eq!(
            changes.patch(),
            json!({"spec": {"template": {"spec": {"containers": [fields]}}}})
        );
    }

    #[test]
    fn a_state_that_was_undone_and_comes_back_is_not_gone_back_to() {
        let state = SavedState {
            version: 1,
            image: "new:1".into(),
            container: json!({"image": "old:1"}),
            spec: Value::Null,
            name: "coredns".into(),
            is_undone: false,
        };
        let with = |patch: &Value, image: &str| {
            let mut deployment = json!({"spec": {"template": {"spec": {"containers": [
                {"name": "coredns", "image": image}]}}}});
            overlay(&mut deployment, &json!({"metadata": patch["metadata"]}));
            deployment
        };
        let applied = with(&state.annotation_patch(), "new:1");
        assert!(SavedState::of(&applied).unwrap().unwrap().is_of(&applied));
        // The image is put in again by hand, after `kubectl rollout undo` has brought the annotation back.
        let revived = with(&state.template_patch(), "new:1");
        let found = SavedState::of(&revived).unwrap().unwrap();
        assert!(!found.is_of(&revived) && !found.is_back(&revived));
        let interrupted = with(&state.template_patch(), "old:1");
        let found = SavedState::of(&interrupted).unwrap().unwrap();
        assert!(found.is_back(&interrupted));
    }

    #[test]
    fn a_command_survives_the_shell() {
        let command = patch_command("n", "d", &json!({"a": "it's"}));
        assert_eq!(
            command,
            r#"kubectl -n n patch deployment d --type strategic -p '{"a":"it'\''s"}'"#
        );
    }
}
