//! Changes the Deployment, waits for the rollout, and goes back if it fails.
//!
//! The Deployment and its pods are polled once a second, as the API server's usual clients do with a short list: a
//! watch of both would take two more permissions for a command that ends after a minute.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    change::{ANNOTATION, Changes, SavedState, overlay, patch_command},
    objects::{RequestError, array, bounded, deployment_path, label, text},
};
use crate::cluster::ApiAccess;

/// Time between two looks at a rollout.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lines that are shown of the log of a pod that fails.
const LOG_LINES: usize = 20;

/// Reasons for which a container waits that do not go away by themselves, or that have lasted for some tries.
const FAILURES: [&str; 7] = [
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// The Deployment that is changed.
pub struct Rollout<'a> {
    /// The API server.
    pub access: &'a ApiAccess,
    /// The namespace.
    pub namespace: &'a str,
    /// The name.
    pub name: &'a str,
    /// How long a rollout may take.
    pub timeout: Duration,
    /// Shows a step.
    pub progress: &'a dyn Fn(&str),
}

/// What has become of the change.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What was done.
    pub action: Action,
    /// In a sentence.
    pub detail: String,
    /// The end of the log of a pod that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The Deployment was changed, and its pods run.
    Applied,
    /// The Deployment was as it should be already.
    Unchanged,
    /// The Deployment is as it was before the first change.
    Undone,
    /// The rollout failed, and the Deployment is as it was before.
    WentBack,
    /// Nothing was changed.
    Refused,
    /// The Deployment is neither: the detail says how to go on.
    Failed,
}

impl Action {
    /// Whether it is what was asked for.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Applied | Self::Unchanged | Self::Undone)
    }
}

/// Why a rollout is not over.
#[derive(Debug)]
struct RolloutFailure {
    reason: String,
    log: Vec<String>,
}

/// Why a change is not taken back.
#[derive(Debug, thiserror::Error)]
enum BackError {
    /// The API server does not accept it.
    #[error("{0}")]
    Patch(String),
    /// The image before is there again, and its pods do not run.
    #[error("the Deployment has image {image} again, whose pods do not run: {reason}")]
    Pods { image: String, reason: String },
}

/// A pod that keeps a rollout from being over.
struct PodFailure {
    pod: String,
    reason: String,
    /// Whether waiting does not help.
    is_final: bool,
    restarts: u64,
}

impl Outcome {
    fn new(action: Action, detail: impl Into<String>) -> Self {
        Self {
            action,
            detail: detail.into(),
            log: Vec::new(),
        }
    }

    /// Nothing is changed, and why.
    pub fn refused(why: impl Into<String>) -> Self {
        Self::new(Action::Refused, why)
    }
}

impl Rollout<'_> {
    fn path(&self) -> String {
        deployment_path(self.namespace, self.name)
    }

    /// Sends a patch, first as a dry run. The error says whether it was the dry run's.
    async fn patch(&self, patch: &Value) -> Result<Value, String> {
        let path = format!("{}?fieldManager={ANNOTATION}", self.path());
        let dry = bounded(self.access.patch(&format!("{path}&dryRun=All"), patch)).await;
        dry.map_err(|error| format!("the API server does not accept it (dry run): {error}"))?;
        let changed = bounded(self.access.patch(&path, patch)).await;
        changed.map_err(|error| match &error {
            RequestError::Api(api) if api.status() == Some(409) => {
                "another client changed the Deployment meanwhile; run it again".to_owned()
            }
            _ => error.to_string(),
        })
    }

    /// Changes the Deployment by one patch, and waits until its pods run.
    pub async fn apply(
        &self,
        deployment: &Value,
        changes: &Changes,
        image: &str,
        container: &str,
    ) -> Outcome {
        let earlier = match SavedState::of(deployment) {
            Ok(earlier) => earlier,
            Err(error) => return Outcome::refused(error),
        };
        if changes.is_empty() {
            let done = format!("deployment/{} has image {image} already", self.name);
            return match self.wait(deployment, container, image, false).await {
                Ok(()) => Outcome::new(Action::Unchanged, format!("{done}: done")),
                Err(RolloutFailure { reason, log }) => Outcome {
                    action: Action::Failed,
                    detail: format!(
                        "{done}, and its rollout is not over: {reason}; go back with migrate --undo"
                    ),
                    log,
                },
            };
        }
        let saved = changes.saved(
            image,
            earlier.as_ref().filter(|state| state.is_of(deployment)),
        );
        let mut patch = changes.patch();
        overlay(&mut patch, &saved.annotation_patch());
        // Refused with 409 if it is not the Deployment that the changes were made for.
        let version = text(deployment, "/metadata/resourceVersion");
        overlay(
            &mut patch,
            &json!({"metadata": {"resourceVersion": version}}),
        );
        let changed = match self.patch(&patch).await {
            Ok(changed) => changed,
            Err(error) => return Outcome::refused(format!("nothing is changed: {error}")),
        };
        (self.progress)(&format!(
            "deployment/{} is changed, after a dry run; what was there is in its annotation {ANNOTATION}",
            self.name
        ));
        match self.wait(&changed, container, image, false).await {
            Ok(()) => Outcome::new(
                Action::Applied,
                format!("deployment/{} runs image {image}", self.name),
            ),
            Err(RolloutFailure { reason, log }) => {
                (self.progress)(&format!("the rollout failed: {reason}"));
                for line in &log {
                    (self.progress)(&format!("    {line}"));
                }
                (self.progress)("going back");
                let before = changes.saved(image, None);
                let annotation = label(deployment, "/metadata/annotations", ANNOTATION);
                let annotation = Some(annotation).filter(|text| !text.is_empty());
                let back = self.put_back(&before, annotation).await;
                match back {
                    Ok(()) => Outcome {
                        action: Action::WentBack,
                        detail: format!(
                            "the rollout failed, and deployment/{} is as it was before, with image {}: {reason}",
                            self.name,
                            before.image_before()
                        ),
                        log,
                    },
                    Err(BackError::Patch(error)) => Outcome {
                        action: Action::Failed,
                        detail: format!(
                            "the rollout failed ({reason}), and it cannot be taken back: {error}. Take it back by \
                             hand: {}",
                            patch_command(self.namespace, self.name, &before.whole_patch())
                        ),
                        log,
                    },
                    Err(error @ BackError::Pods { .. }) => Outcome {
                        action: Action::Failed,
                        detail: format!(
                            "the rollout failed ({reason}), and {error}. Remove the cause, and end it with migrate \
                             --undo"
                        ),
                        log,
                    },
                }
            }
        }
    }

    /// Puts back what was there before the first change.
    pub async fn undo(&self, deployment: &Value) -> Outcome {
        let state = match SavedState::of(deployment) {
            Ok(Some(state)) => state,
            Ok(None) => {
                return Outcome::refused(format!(
                    "deployment/{} has no saved state (annotation {ANNOTATION}): nothing is changed. If its image was \
                     set by hand, set the one from before: kubectl -n {} set image deployment/{} CONTAINER=IMAGE",
                    self.name, self.namespace, self.name
                ));
            }
            Err(error) => return Outcome::refused(format!("nothing is changed: {error}")),
        };
        if !state.is_of(deployment) && !state.is_back(deployment) {
            return Outcome::refused(format!(
                "nothing is changed: the saved state is of the image {}, which migrate --apply put into deployment/{}, \
                 and another client has changed it since. To forget the saved state: kubectl -n {} annotate deployment \
                 {} {ANNOTATION}-",
                state.image, self.name, self.namespace, self.name
            ));
        }
        match self.put_back(&state, None).await {
            Ok(()) => Outcome::new(
                Action::Undone,
                format!(
                    "deployment/{} runs image {} as before",
                    self.name,
                    state.image_before()
                ),
            ),
            Err(error) => Outcome::new(
                Action::Failed,
                format!("{error}; the saved state is kept: run it again"),
            ),
        }
    }

    /// Puts back the pod template, waits for its pods, and then puts back the rest: until then, the strategy that
    /// keeps old pods until new ones are ready applies, and the state stays saved.
    async fn put_back(
        &self,
        state: &SavedState,
        annotation: Option<&str>,
    ) -> Result<(), BackError> {
        let image = state.image_before();
        let changed = self.patch(&state.template_patch()).await;
        let changed = changed.map_err(BackError::Patch)?;
        (self.progress)(&format!("deployment/{} has image {image} again", self.name));
        // There is nothing else to go back to.
        let waited = self.wait(&changed, state.container(), image, true).await;
        waited.map_err(|failure| BackError::Pods {
            image: image.to_owned(),
            reason: failure.reason,
        })?;
        let mut rest = state.rest_patch();
        if let Some(annotation) = annotation {
            overlay(
                &mut rest,
                &json!({"metadata": {"annotations": {ANNOTATION: annotation}}}),
            );
        }
        self.patch(&rest).await.map(drop).map_err(BackError::Patch)
    }

    /// Waits until all pods of a Deployment's version are available, and no others are left. With `is_patient`, also
    /// for pods that cannot be started.
    async fn wait(
        &self,
        deployment: &Value,
        container: &str,
        image: &str,
        is_patient: bool,
    ) -> Result<(), RolloutFailure> {
        let generation = deployment
            .pointer("/metadata/generation")
            .and_then(Value::as_u64);
        let deadline = Instant::now() + self.timeout;
        let mut shown = String::new();
        loop {
            let present = bounded(self.access.object(&self.path())).await;
            let (state, pending) = match present {
                Ok(Some(present)) => {
                    let state = RolloutState::of(&present, generation);
                    if state.is_over {
                        return Ok(());
                    }
                    let pods = self.failing_pods(&present, container, image).await;
                    (state, pods)
                }
                Ok(None) => {
                    let reason = format!("deployment/{} is deleted", self.name);
                    return Err(RolloutFailure {
                        reason,
                        log: Vec::new(),
                    });
                }
                // It may be away for a moment: also because its names are not resolved.
                Err(error) => (RolloutState::unknown(error.to_string()), None),
            };
            let failure = pending.as_ref().filter(|it| it.is_final && !is_patient);
            let is_late = Instant::now() >= deadline;
            if failure.is_some() || state.is_given_up && !is_patient || is_late {
                let mut reason = match &pending {
                    Some(pending) => format!("pod {}: {}", pending.pod, pending.reason),
                    None => state.text.clone(),
                };
                if is_late && failure.is_none() {
                    reason = format!("not over after {} s: {reason}", self.timeout.as_secs());
                }
                let log = match &pending {
                    Some(pending) => self.log(pending, container).await,
                    None => Vec::new(),
                };
                return Err(RolloutFailure { reason, log });
            }
            let text = match pending.filter(|failure| failure.is_final) {
                Some(failure) => format!("{}; pod {}: {}", state.text, failure.pod, failure.reason),
                None => state.text,
            };
            if shown != text {
                (self.progress)(&text);
                shown = text;
            }
            sleep(INTERVAL.min(deadline.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// The pod with this image that fails most, if pods may be listed.
    async fn failing_pods(
        &self,
        deployment: &Value,
        container: &str,
        image: &str,
    ) -> Option<PodFailure> {
        let selector = deployment
            .pointer("/spec/selector/matchLabels")?
            .as_object()?;
        let pairs: Vec<String> = selector
            .iter()
            .filter_map(|(key, value)| {
                Some(format!("{}%3D{}", key.replace('/', "%2F"), value.as_str()?))
            })
            .collect();
        let path = format!(
            "/api/v1/namespaces/{}/pods?limit=100&labelSelector={}",
            self.namespace,
            pairs.join("%2C")
        );
        let list = bounded(self.access.object(&path)).await.ok()??;
        let failures = array(&list, "/items").filter_map(|pod| pod_failure(pod, container, image));
        failures.max_by_key(|failure| (failure.is_final, failure.restarts))
    }

    /// The end of the log of the container: of its last run, if it was restarted.
    async fn log(&self, failure: &PodFailure, container: &str) -> Vec<String> {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}/log?container={container}&tailLines={LOG_LINES}",
            self.namespace, failure.pod
        );
        let previous = format!("{path}&previous=true");
        let mut paths = vec![path];
        if failure.restarts > 0 {
            paths.insert(0, previous);
        }
        for path in paths {
            if let Ok(text) = bounded(self.access.text(&path)).await
                && !text.trim().is_empty()
            {
                return text.lines().map(str::to_owned).collect();
            }
        }
        Vec::new()
    }
}

/// How far a rollout is.
struct RolloutState {
    is_over: bool,
    /// The controller has given up (`progressDeadlineSeconds`).
    is_given_up: bool,
    text: String,
}

impl RolloutState {
    fn unknown(text: String) -> Self {
        Self {
            is_over: false,
            is_given_up: false,
            text,
        }
    }

    fn of(deployment: &Value, generation: Option<u64>) -> Self {
        let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_u64);
        let status = |key: &str| number(&format!("/status/{key}")).unwrap_or_default();
        let wanted = number("/spec/replicas").unwrap_or(1);
        if status("observedGeneration") < generation.unwrap_or_default() {
            return Self::unknown("waiting for the Deployment's controller".to_owned());
        }
        let (all, updated, available) = (
            status("replicas"),
            status("updatedReplicas"),
            status("availableReplicas"),
        );
        let mut conditions = array(deployment, "/status/conditions");
        let given_up = conditions.find(|it| text(it, "/reason") == "ProgressDeadlineExceeded");
        Self {
            is_over: updated == wanted && all == updated && available == updated,
            is_given_up: given_up.is_some(),
            text: match given_up {
                Some(condition) => text(condition, "/message").to_owned(),
                None => format!(
                    "{updated} of {wanted} pods updated, {} old; {available} available",
                    all.saturating_sub(updated)
                ),
            },
        }
    }
}

/// Why a pod with this image does not run.
fn pod_failure(pod: &Value, container: &str, image: &str) -> Option<PodFailure> {
    let mut containers = array(pod, "/spec/containers");
    let has_image =
        containers.any(|it| text(it, "/name") == container && text(it, "/image") == image);
    if !has_image || pod.pointer("/metadata/deletionTimestamp").is_some() {
        return None;
    }
    let name = text(pod, "/metadata/name").to_owned();
    let mut conditions = array(pod, "/status/conditions");
    let unscheduled =
        conditions.find(|it| text(it, "/type") == "PodScheduled" && text(it, "/status") == "False");
    if let Some(condition) = unscheduled {
        let reason = format!(
            "{}: {}",
            text(condition, "/reason"),
            text(condition, "/message")
        );
        return Some(PodFailure {
            pod: name,
            reason,
            is_final: false,
            restarts: 0,
        });
    }
    let mut statuses = array(pod, "/status/containerStatuses");
    let status = statuses.find(|it| text(it, "/name") == container)?;
    if status.get("ready") == Some(&Value::Bool(true)) {
        return None;
    }
    let restarts = status
        .get("restartCount")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    let ended = ["/state/terminated", "/lastState/terminated"];
    let ended = ended.iter().find_map(|pointer| status.pointer(pointer));
    let ended = ended.map(|it| {
        let code = it
            .get("exitCode")
            .and_then(Value::as_i64)
            .unwrap_or_default();
        let message = text(it, "/message").trim();
        let colon = if message.is_empty() { "" } else { ": " };
        format!(
            "{} with exit code {code}{colon}{message}",
            text(it, "/reason")
        )
    });
    let waiting = status.pointer("/state/waiting");
    let why = waiting.map(|it| (text(it, "/reason"), text(it, "/message")));
    let is_final = why.is_some_and(|(reason, _)| FAILURES.contains(&reason));
    let parts = [
        why.map(|(reason, message)| match message {
            "" => reason.to_owned(),
            _ => format!("{reason}: {message}"),
        }),
        ended.map(|ended| format!("the container ended, {ended}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let reason = if parts.is_empty() {
        "it runs and is not ready".to_owned()
    } else {
        parts.join("; ")
    };
    Some(PodFailure {
        pod: name,
        reason,
        is_final,
        restarts,
    })
}
