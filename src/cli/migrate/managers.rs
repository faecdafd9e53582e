//! Programs that own the Deployment and may change it back: recognized by labels, annotations, images, and the node.

use serde::Serialize;
use serde_json::Value;

use super::objects::{Objects, array, label, text};

/// A manager of the Deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manager {
    /// Its name.
    pub name: &'static str,
    /// What it was recognized by.
    pub evidence: String,
    /// Whether it changes the Deployment back by itself, at any time.
    pub is_reconciling: bool,
    /// When it sets the image again.
    pub reverts: &'static str,
    /// What to do about it.
    pub remedy: String,
}

/// What a manager is recognized by.
enum Mark {
    /// A label of the Deployment or of its pods; an empty value is any.
    Label(&'static str, &'static str),
    /// An annotation of the Deployment whose value contains this.
    Annotation(&'static str, &'static str),
    /// A part of the image.
    Image(&'static str),
    /// A label of a node.
    Node(&'static str),
    /// The beginning of a node's `providerID`.
    Provider(&'static str),
    /// A part of the Corefile.
    Corefile(&'static str),
}

/// Who manages, by what it is recognized, whether it reconciles, when it sets the image again, what to do.
type Known = (
    &'static str,
    &'static [Mark],
    bool,
    &'static str,
    &'static str,
);

const KNOWN: &[Known] = &[
    (
        "EKS",
        &[
            Mark::Label("eks.amazonaws.com/component", "coredns"),
            Mark::Image("/eks/coredns:"),
            Mark::Node("eks.amazonaws.com/nodegroup"),
        ],
        false,
        "an update of the add-on coredns (console, eksctl, Terraform) sets the image again; an upgrade of the cluster \
         alone does not",
        "Remove the add-on and keep its objects: aws eks delete-addon --cluster-name CLUSTER --addon-name coredns \
         --preserve. Otherwise run migrate --apply again after an update of the add-on",
    ),
    (
        "AKS",
        &[
            Mark::Label("kubernetes.azure.com/managedby", "aks"),
            Mark::Image("mcr.microsoft.com/oss/kubernetes/coredns"),
            Mark::Image("mcr.microsoft.com/oss/v2/kubernetes/coredns"),
            Mark::Node("kubernetes.azure.com/cluster"),
        ],
        true,
        "its addon manager sets the image again, within minutes",
        "AKS keeps its Deployment: run Lodestone beside it (deploy/README.md), where both answer",
    ),
    (
        "GKE",
        &[
            Mark::Image("gke.gcr.io/"),
            Mark::Image("k8s-dns-kube-dns"),
            Mark::Node("cloud.google.com/gke-nodepool"),
        ],
        true,
        "its addon manager sets the image and the scale of its own DNS again",
        "Run Lodestone beside it (deploy/README.md), and scale kube-dns-autoscaler and kube-dns to 0 as Google documents \
         for a DNS of your own",
    ),
    (
        "RKE2",
        &[
            Mark::Image("rancher/hardened-coredns"),
            Mark::Label("helm.sh/chart", "rke2-coredns-"),
            Mark::Node("rke2.io/node-config-hash"),
        ],
        false,
        "an upgrade of RKE2, or a restart of a server with a changed chart, sets the image again",
        "Set image.repository and image.tag in a HelmChartConfig rke2-coredns in kube-system instead",
    ),
    (
        "k3s",
        &[
            Mark::Annotation("objectset.rio.cattle.io/owner-gvk", "k3s.cattle.io/v1"),
            Mark::Image("rancher/mirrored-coredns-coredns"),
            Mark::Node("k3s.io/hostname"),
        ],
        false,
        "a restart or an upgrade of a k3s server writes and applies its manifest again",
        "Create /var/lib/rancher/k3s/server/manifests/coredns.yaml.skip on each server, which keeps the objects and \
         stops k3s from applying them",
    ),
    (
        "kops",
        &[
            Mark::Label("k8s-addon", "coredns.addons.k8s.io"),
            Mark::Label("app.kubernetes.io/managed-by", "kops"),
            Mark::Node("kops.k8s.io/instancegroup"),
        ],
        false,
        "kops update cluster with a changed add-on, and an upgrade, set the image again",
        "Set spec.kubeDNS.coreDNSImage in the cluster's specification, or run migrate --apply again after an upgrade",
    ),
    (
        "minikube",
        &[
            Mark::Node("minikube.k8s.io/name"),
            Mark::Corefile("host.minikube.internal"),
        ],
        false,
        "minikube start with another version of Kubernetes runs kubeadm, which sets the image again",
        "Run migrate --apply again after it",
    ),
    (
        "kind",
        &[Mark::Provider("kind://")],
        false,
        "nothing: nodes of kind are not upgraded",
        "Load the image into the nodes: kind load docker-image IMAGE",
    ),
];

/// Managers of any cluster, beside those above.
const GENERAL: &[Known] = &[
    (
        "addon manager (Reconcile)",
        &[Mark::Label("addonmanager.kubernetes.io/mode", "Reconcile")],
        true,
        "the addon manager of the control plane sets the image again, within minutes",
        "Change the add-on's manifest on the control plane, or run Lodestone beside it (deploy/README.md)",
    ),
    (
        "Helm",
        &[
            Mark::Annotation("meta.helm.sh/release-name", ""),
            Mark::Label("app.kubernetes.io/managed-by", "Helm"),
        ],
        false,
        "helm upgrade sets the image again",
        "Use the helm commands below in place of kubectl patch and of --apply",
    ),
    (
        "Argo CD",
        &[
            Mark::Annotation("argocd.argoproj.io/tracking-id", ""),
            Mark::Label("argocd.argoproj.io/instance", ""),
        ],
        true,
        "a sync sets the image again; with selfHeal within minutes",
        "Make the change in the application's source: the patch below fits into a kustomization",
    ),
    (
        "Flux",
        &[
            Mark::Label("kustomize.toolkit.fluxcd.io/name", ""),
            Mark::Label("helm.toolkit.fluxcd.io/name", ""),
        ],
        true,
        "the next reconciliation sets the image again",
        "Make the change in its source: the patch below fits into a kustomization",
    ),
];

const KUBEADM: Known = (
    "kubeadm",
    &[
        Mark::Image("/coredns/coredns:"),
        Mark::Image("k8s.gcr.io/coredns:"),
    ],
    false,
    "kubeadm upgrade sets the image again; it takes the version of CoreDNS from the image's tag, to migrate the Corefile",
    "Go back before kubeadm upgrade, and in again after it",
);

/// The managers of a Deployment.
pub fn managers(deployment: Option<&Value>, objects: &Objects, corefile: &str) -> Vec<Manager> {
    let facts = Facts {
        deployment,
        objects,
        corefile,
    };
    let vendors: Vec<Manager> = KNOWN
        .iter()
        .filter_map(|known| facts.manager(known))
        .collect();
    // The addon manager of AKS and GKE is already named.
    let is_reconciling = vendors.iter().any(|vendor| vendor.is_reconciling);
    let general = GENERAL
        .iter()
        .filter(|known| !(is_reconciling && known.0.starts_with("addon")));
    let general: Vec<Manager> = general.filter_map(|known| facts.manager(known)).collect();
    // Its Deployment has no mark, and its image is the one that others take too.
    let is_plain = vendors.is_empty() && general.is_empty();
    let kubeadm = is_plain.then(|| facts.manager(&KUBEADM)).flatten();
    vendors.into_iter().chain(general).chain(kubeadm).collect()
}

struct Facts<'a> {
    deployment: Option<&'a Value>,
    objects: &'a Objects,
    corefile: &'a str,
}

impl Facts<'_> {
    fn manager(&self, known: &Known) -> Option<Manager> {
        let (name, marks, is_reconciling, reverts, remedy) = *known;
        let evidence = marks.iter().find_map(|mark| self.evidence(mark))?;
        let remedy = remedy.to_owned();
        Some(Manager {
            name,
            evidence,
            is_reconciling,
            reverts,
            remedy,
        })
    }

    fn evidence(&self, mark: &Mark) -> Option<String> {
        match *mark {
            Mark::Label(key, value) => {
                let places = ["/metadata/labels", "/spec/template/metadata/labels"];
                let deployment = self.deployment?;
                let found = places.iter().map(|place| label(deployment, place, key));
                let found = found.into_iter().find(|it| !it.is_empty())?;
                found
                    .starts_with(value)
                    .then(|| format!("label {key}: {found}"))
            }
            Mark::Annotation(key, part) => {
                let found = label(self.deployment?, "/metadata/annotations", key);
                let is_there = !found.is_empty() && found.contains(part);
                is_there.then(|| format!("annotation {key}: {found}"))
            }
            Mark::Image(part) => {
                let containers = array(self.deployment?, "/spec/template/spec/containers");
                let mut images = containers.map(|container| text(container, "/image"));
                images
                    .find(|image| image.contains(part))
                    .map(|image| format!("image {image}"))
            }
            Mark::Node(key) => {
                let mut nodes = self.objects.of_kind("Node");
                let is_marked = nodes.any(|node| !label(node, "/metadata/labels", key).is_empty());
                is_marked.then(|| format!("label {key} of a node"))
            }
            Mark::Provider(beginning) => {
                let mut nodes = self.objects.of_kind("Node");
                let is_marked =
                    nodes.any(|node| text(node, "/spec/providerID").starts_with(beginning));
                is_marked.then(|| format!("providerID {beginning}... of a node"))
            }
            Mark::Corefile(part) => self
                .corefile
                .contains(part)
                .then(|| format!("{part} in the Corefile")),
        }
    }
}
